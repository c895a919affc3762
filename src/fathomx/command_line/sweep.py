"""`fathomx sweep`: a search of options by validation, by any number of workers."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.console import Console

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
from fathomx.command_line.search import Search, judged
from fathomx.command_line.session import command
from fathomx.command_line.storage import kept_in
from fathomx.command_line.varied import check_all, job_with, varied, vary_option
from fathomx.records.writing import appearing
from fathomx.report import write_overview
from fathomx.report.sweep import write_sweep

_TRIALS = 20
# A study in a database for several sweeps.
_UNNAMED = "%Y-%m-%d-%H%M%S-sweep"


@click.command()
@vary_option(
    "An option that is searched: values, such as depth=8,16, or a range, such as "
    "learning-rate=0.01..1:log (:log by the logarithm); repeated for several.",
    multiple=True,
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=None,
    help="How many; with --resume, how many in all, from now on. [default: 20]",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    default=1,
    show_default=True,
    help="Processes that train at once on this machine; others join by --resume. 0 begins the "
    "sweep and trains nothing.",
)
@click.option(
    "--metric",
    default=None,
    help="The validation score that counts. [default: accuracy, or the first there is]",
)
@click.option(
    "--prune",
    is_flag=True,
    help="End a trial whose validation is worse than the median of earlier ones at its epoch.",
)
@click.option(
    "--storage",
    default=None,
    help="Where Optuna keeps trials, such as postgresql://user@host/database. [default: sweep.db "
    "in the folder]",
)
@click.option(
    "--study",
    default=None,
    help="The sweep's name in --storage. [default: that of --out, or the time]",
)
@job_options(training=True)
@out_option("sweep")
@resume_option("Go on with the sweep in this folder, or join it.")
def sweep(
    vary: tuple[str, ...],
    trials: int | None,
    workers: int,
    metric: str | None,
    prune: bool,
    storage: str | None,
    study: str | None,
    out: Path | None,
    resume: Path | None,
    **options: Any,
) -> None:
    """Searches options by validation: Optuna proposes trials, and every trial is a run.

    The test part is not touched. At the end stands the command that trains with the best options
    and scores it once. Killed workers' trials are gone on with by others, or by --resume.
    """
    if find_spec("optuna") is None:
        raise ImportError('sweep needs optuna; pip install "fathomx[sweeps]".')
    console, given = Console(), only_given(options)
    if resume is not None:
        refuse_out(out)
        if given or vary or storage or study:
            raise ValueError("--resume goes on with a sweep as it was begun; leave out the rest.")
        search = Search.stored(resume)
        if trials is not None:
            search = dataclasses.replace(search, trials=trials)
            search.write(resume)
    else:
        if not vary:
            raise ValueError(
                "sweep searches what --vary names; give such as --vary learning-rate=0.01..1:log."
            )
        spaces = [varied(text, ranges=True) for text in vary]
        check_new(out, "sweep")
        check_all(given, spaces)
        job = job_with(given, {space.name: space.ends()[0] for space in spaces})
        data = job.load()
        job.check(data, job.network(data))
        score = judged(job, data, metric)
        if study is not None and storage is None:
            raise ValueError("--study is a name in a --storage; give one, or leave both out.")
        name = None if storage is None else study or str(out or time.strftime(_UNNAMED))
        begun = Search(Path(), given, vary, trials or _TRIALS, score, prune, storage, name)
        begun.begin()
        search = dataclasses.replace(begun, folder=new_folder(out, "sweep"))
        with appearing(search.folder) as unfinished:
            search.write(unfinished)
    if not workers:
        say(console, f"begun; workers join by: fathomx sweep --resume {search.folder}")
        return
    with kept_in(search.storage, search.folder):
        _searched(console, search, workers)


def _searched(console: Console, search: Search, workers: int) -> None:
    """Takes trials with some further processes until there are no more, and says what came out."""
    program = [sys.executable, "-m", "fathomx", "sweep", "--resume", str(search.folder)]
    study = search.study()
    others = []
    try:
        for number in range(2, workers + 1):
            with (search.folder / f"worker-{number}.log").open("w") as log:
                others.append(subprocess.Popen(program, stdout=log, stderr=subprocess.STDOUT))
        search.work(study, console)
        for number, other in enumerate(others, start=2):
            if other.wait():
                say(console, f"worker {number} ended by {_cause(other.returncode)}; see its log.")
        # What a worker that was killed has left.
        search.work(study, console)
    except KeyboardInterrupt:
        say(console, f"stopped; go on with: fathomx sweep --resume {search.folder}")
        raise
    finally:
        for other in others:
            if other.poll() is None:
                other.terminate()
                other.wait()
    _told(console, search, study)


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"an error (code {code})"


def _told(console: Console, search: Search, study: Any) -> None:
    rows = search.rows(study)
    if any((search.folder / name).exists() for _, name, *_ in rows):
        write_overview(search.folder)
    page = write_sweep(search.folder, search.score, search.higher, rows)
    states = [row.state for row in rows]
    said = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    say(console, f"{len(rows)} trials: {said}")
    best = search.best(rows)
    if best is None:
        say(console, "no trial has ended with a score.")
    else:
        say(console, f"best: {best.name}, validation {search.score} {best.value:.4g}")
        job = search.job(best.name, best.values)
        say(console, f"train with it, and score it: {command(job)}")
    say(console, f"page: {page}")
