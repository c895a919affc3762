"""`fathomx compare`: one network trained by predictive coding and by backprop, side by side."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fathomx.command_line.job import Job
from fathomx.command_line.messages import say, say_verdict
from fathomx.command_line.options import (
    check_new,
    job_options,
    new_folder,
    only_given,
    out_option,
    refuse_out,
    resume_option,
)
from fathomx.command_line.session import Session, run_config, stored_data, stored_job
from fathomx.data._imagenet import Examples
from fathomx.graph.network import Network
from fathomx.records.lock import FolderLock
from fathomx.records.run_files import RunFiles
from fathomx.records.writing import appearing, write_json
from fathomx.report import write_comparison
from fathomx.report.scores import metrics_of
from fathomx.training import RunFolder

_FIRST = "predictive-coding"


@click.command()
@job_options(training=True)
@out_option("run")
@resume_option()
def compare(out: Path | None, resume: Path | None, **options: Any) -> None:
    """Trains the same network by predictive coding and by backprop, side by side."""
    given = only_given(options)
    if resume is None:
        job = Job(**given)
        check_new(out, "compare")
    else:
        refuse_out(out)
        if given:
            raise ValueError("--resume continues a comparison as it was begun; leave out the rest.")
        job = stored_job(resume / _FIRST)
    if job.learning == "backprop":
        raise ValueError("compare runs backprop beside another rule; leave out --learning.")
    if job.generative is not None:
        raise ValueError(
            f"compare trains the same network by backprop, too, which model {job.model!r} cannot "
            "be, since it infers what it generates from; use `fathomx train`."
        )
    if job.source is not None:
        raise ValueError(
            "compare begins with new weights; leave out --from, or use `fathomx train --from`."
        )
    jobs = {_FIRST: job, "backprop": job.by_backprop()}
    data = job.load() if resume is None else stored_data(job, resume / _FIRST)
    network = job.network(data)
    job.check(data, network)
    if resume is None:
        folder = new_folder(out, "compare")
        with appearing(folder) as unfinished:
            for name, each in jobs.items():
                RunFolder.prepare(unfinished / name, run_config(each, data))
    else:
        folder = resume
    with FolderLock(folder):
        _compare(Console(), folder, jobs, data, network)


def _compare(
    console: Console, folder: Path, jobs: dict[str, Job], data: Examples, network: Network
) -> None:
    """Continues both runs and puts what came out side by side."""
    runs = {name: folder / name for name in jobs}
    for name, job in jobs.items():
        if not (runs[name] / "config.json").exists():
            # Versions before this one began the second run after the first.
            RunFolder.prepare(runs[name], run_config(job, data))
        session = Session(console, name, f"compare --resume {folder}")
        session.go_on(job, data, network, runs[name])
    summaries = {name: RunFiles(each).summary for name, each in runs.items()}
    write_json(folder / "comparison.json", summaries)
    page = write_comparison(folder, runs)
    console.print(_comparison_table(summaries))
    say_verdict(console, runs[_FIRST])
    say(console, f"side by side: {page}")


def _comparison_table(summaries: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="predictive coding beside backprop")
    table.add_column("")
    for name in summaries:
        table.add_column(name, justify="right")
    keys = metrics_of({name: 0 for summary in summaries.values() for name in summary})
    scores = [f"{part}_{key}" for key in keys for part in ("test", "validation")]
    rows: list[tuple[str, Callable[[dict[str, Any]], float | None], str]] = [
        *((name.replace("_", " "), operator.itemgetter(name), ".4f") for name in scores),
        ("validation loss", lambda s: s.get("validation_loss"), ".4f"),
        ("unsettled, median", lambda s: (s.get("unsettled") or {}).get("median"), ".2g"),
        ("unsettled, max", lambda s: (s.get("unsettled") or {}).get("max"), ".2g"),
        ("strength", lambda s: s.get("pc_strength") if s.get("output_precision") else None, ".3g"),
        ("cosine to backprop", lambda s: s.get("cosine_to_backprop"), ".3f"),
        ("first step, seconds", lambda s: s.get("first_step_seconds"), ".2f"),
        ("step, seconds", lambda s: s.get("step_seconds_median"), ".4f"),
        ("training, seconds", lambda s: s.get("train_seconds"), ".1f"),
    ]
    for label, pick, form in rows:
        values = [pick(summary) for summary in summaries.values()]
        table.add_row(label, *["-" if v is None else format(v, form) for v in values])
    return table
