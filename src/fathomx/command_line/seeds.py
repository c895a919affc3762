"""`fathomx seeds`: several seeds of some methods, and how sure their differences are."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fathomx.command_line.messages import say
from fathomx.command_line.options import (
    check_new,
    job_options,
    new_folder,
    only_given,
    out_option,
    refuse_out,
    resume_option,
)
from fathomx.command_line.outcome import Outcome
from fathomx.command_line.session import Session, run_config, stored_data, stored_job
from fathomx.command_line.varied import Values, check_all, job_with, varied, vary_option
from fathomx.records.errors import RunFolderError
from fathomx.records.lock import FolderLock
from fathomx.records.run_files import RunFiles, check_places
from fathomx.records.writing import appearing, write_json
from fathomx.report import write_overview
from fathomx.report.seeds import (
    Method,
    difference_sentences,
    methods_of,
    score_rows,
    write_seeds,
)
from fathomx.training import DivergenceError, ProgressBar, RunFolder
from fathomx.training.progress import EpochLines
from fathomx.training.together import apart, fit_together

_FILE = "seeds.json"


@click.command()
@click.option(
    "--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many seeds."
)
@vary_option(
    "The methods: an option and its values, such as learning=equilibrium,backprop, which is the "
    "default, or depth=8,32. The first value is what others are compared with.",
    multiple=False,
)
@job_options(training=True)
@out_option("runs")
@resume_option("Continue the runs in this folder.")
@click.option(
    "--together",
    is_flag=True,
    help="Train the seeds of a method in one program (data in memory only): meant for "
    "accelerators; two cores gain little.",
)
def seeds(
    count: int,
    vary: str | None,
    out: Path | None,
    resume: Path | None,
    together: bool,
    **options: Any,
) -> None:
    """Trains several seeds of some methods: means, deviations, paired differences with a test.

    Every run has a folder and a page of its own. --seed is the first seed.
    """
    console = Console()
    given = only_given(options)
    if resume is None:
        folder = _begin(given, _methods(given, vary), count, out)
    else:
        refuse_out(out)
        if given or vary is not None:
            raise ValueError("--resume continues the seeds as they were begun; leave out the rest.")
        folder = resume
    places = sorted(folder.glob("*/seed-*/config.json"), key=_order)
    if not places:
        raise RunFolderError(f"{folder} holds no seeds; give the folder of `fathomx seeds`.")
    with FolderLock(folder):
        diverged = _train(console, folder, [config.parent for config in places], together)
        _told(console, folder, [config.parent for config in places], diverged)


def _methods(given: dict[str, Any], vary: str | None) -> dict[str, dict[str, Any]]:
    """The options of every method, by its name."""
    if vary is None:
        own = given.pop("learning", "equilibrium")
        if own == "backprop":
            raise ValueError(
                "seeds compares a rule with backprop unless --vary says otherwise; leave out "
                "--learning, or say what to vary."
            )
        # Backprop has no inference, so that it takes none of its options.
        job = job_with({**given, "learning": own}, {})
        return {own: {"learning": own}, "backprop": job.by_backprop().config()}
    found = varied(vary, ranges=False)
    if found.name == "seed":
        raise ValueError("seeds runs several seeds anyway; vary another option, and say --count.")
    check_all(given, [found])
    assert isinstance(found, Values)
    return {f"{found.name}={value}": {found.name: value} for value in found.values}


def _begin(
    given: dict[str, Any], methods: dict[str, dict[str, Any]], count: int, out: Path | None
) -> Path:
    """The folder, with the configurations of all runs."""
    check_new(out, "seeds")
    jobs = {name: job_with(given, values) for name, values in methods.items()}
    configs = {}
    for name, job in jobs.items():
        if job.seed + count > 2**32:
            raise ValueError(f"seed must be at most {2**32 - count} for {count} seeds.")
        data = job.load()
        job.check(data, job.network(data))
        own = (dataclasses.replace(job, seed=job.seed + at) for at in range(count))
        configs[name] = {each.seed: run_config(each, data) for each in own}
    folder = new_folder(out, "seeds")
    with appearing(folder) as unfinished:
        for at, (name, by_seed) in enumerate(configs.items(), start=1):
            for seed, config in by_seed.items():
                place = unfinished / f"{at}-{name.replace('/', '-')}" / f"seed-{seed}"
                RunFolder.prepare(place, config)
    return folder


def _order(config: Path) -> tuple[int, int]:
    """All methods of a seed, before the next seed."""
    seed = config.parent.name.removeprefix("seed-")
    method = config.parent.parent.name.partition("-")[0]
    return int(seed), int(method)


def _train(console: Console, folder: Path, places: list[Path], together: bool) -> dict[Path, str]:
    """Trains what has not ended, and completes what lacks files; why runs diverged, by place.

    One after the other, all methods of a seed before the next, but for those trained together.
    """
    diverged: dict[Path, str] = {}
    begun = [place for place in places if together and not RunFiles(place).summary]
    for method in dict.fromkeys(place.parent for place in begun):
        own = [place for place in begun if place.parent == method]
        if len(own) > 1:
            diverged |= _train_together(console, folder, own)
    for place in places:
        ended = RunFiles(place).summary and (place / "index.html").is_file()
        if ended or place in diverged:
            continue
        job = stored_job(place)
        data = stored_data(job, place)
        try:
            session = Session(console, _name(place), _command(folder, together))
            session.go_on(job, data, job.network(data), place)
        except DivergenceError as error:
            diverged[place] = str(error)
    return diverged


def _command(folder: Path, together: bool) -> str:
    return f"seeds --resume {folder}{' --together' if together else ''}"


def _name(place: Path) -> str:
    method = place.parent.name.partition("-")[2]
    return f"{method}, {place.name.replace('-', ' ')}"


def _train_together(console: Console, folder: Path, places: list[Path]) -> dict[Path, str]:
    """Trains the seeds of a method in one program, if that can be; why runs diverged, by place."""
    jobs = [stored_job(place) for place in places]
    data = stored_data(jobs[0], places[0])
    networks = [job.network(data) for job in jobs]
    first = jobs[0]
    session = Session(console, _name(places[0]), _command(folder, True))
    why = apart(networks, data)
    if why is not None:
        say(console, f"{session.name.partition(', ')[0]}: one seed after the other, since {why}.")
        return {}
    session.say_begun(first, data, networks[0])
    say(console, f"{session.name} and {len(places) - 1} more are trained together")
    bar = ProgressBar(console, session.name)
    lines = [EpochLines(console, _name(place)) for place in places[1:]]
    diverged = {}
    with contextlib.ExitStack() as closed, session.saying_how_to_continue():
        closed.callback(bar.close)
        runs = []
        for place in places:
            check_places(place)
            runs.append(RunFolder.resume(place))
            closed.callback(runs[-1].close)
        results = fit_together(
            networks,
            data,
            first.rule(),
            seeds=[job.seed for job in jobs],
            observers=list(zip([bar, *lines], runs, strict=True)),
            **first.fitted(data),
        )
        for place, job, network, result in zip(places, jobs, networks, results, strict=True):
            if "diverged" in result.summary:
                diverged[place] = result.summary["diverged"]
                continue
            outcome = Outcome(place, job, data)
            outcome.complete(network, result.network)
            session.show_sample(outcome)
    return diverged


def _told(console: Console, folder: Path, places: list[Path], diverged: Mapping[Path, str]) -> None:
    """Writes and prints what came out."""
    said = [f"{_name(place)}: {why}" for place, why in diverged.items()]
    if len(said) == len(places):
        raise DivergenceError(f"all runs have diverged; {said[0]}")
    summaries: dict[str, dict[int, dict[str, Any]]] = {}
    for place in sorted(places, key=lambda p: (int(p.parent.name.partition("-")[0]), p.name)):
        name = place.parent.name.partition("-")[2]
        summaries.setdefault(name, {})[int(place.name.removeprefix("seed-"))] = RunFiles(
            place
        ).summary
    methods = methods_of(summaries)
    write_json(folder / _FILE, {method.name: _record(method) for method in methods})
    write_overview(folder)
    page = write_seeds(folder, methods)
    head, *rows = score_rows(methods)
    shown = Table(title="mean ± standard deviation over the seeds")
    for at, cell in enumerate(head):
        shown.add_column(cell, justify="right" if at else "left")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    for sentence in difference_sentences(methods):
        say(console, sentence)
    for sentence in said:
        say(console, sentence)
    say(console, f"page: {page}")


def _record(method: Method) -> dict[str, Any]:
    return {
        "scores": method.scores,
        "differences": {name: dataclasses.asdict(d) for name, d in method.differences.items()},
    }
