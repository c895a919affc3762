"""`fathomx train`: one network trained, or a run continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from fathomx.command_line.job import Job
from fathomx.command_line.messages import say_verdict
from fathomx.command_line.options import (
    job_options,
    new_folder,
    only_given,
    out_option,
    refuse_out,
    resume_option,
)
from fathomx.command_line.session import Session, begin_run
from fathomx.report import write_page
from fathomx.training import RunFolder
from fathomx.training.run_folder import read_config


@click.command()
@job_options(training=True)
@out_option("run")
@resume_option
def train(out: Path | None, resume: Path | None, **options: Any) -> None:
    """Trains a network and leaves a run folder with numbers, figures and a page."""
    given = only_given(options)
    console = Console()
    if resume is not None:
        refuse_out(out)
        job = Job.from_config(read_config(resume))
        if (resume / "summary.json").exists() and not (resume / "index.html").exists():
            # The run was stopped after its last number and before its page.
            write_page(resume)
            say_verdict(console, resume)
            return
        stored = job.config()
        run = RunFolder.resume(resume, {k: v for k, v in given.items() if v != stored[k]})
    else:
        job, run = Job(**given), None
    data = job.load()
    network = job.network(data)
    if run is None:
        job.check(data, network)
        run = begin_run(out or new_folder("train"), job)
    session = Session(console, "training", f"train --resume {run.folder}")
    session.train(job, data, network, run)
    say_verdict(console, run.folder)
