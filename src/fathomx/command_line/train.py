"""`fathomx train`: one network trained, or a run continued."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from fathomx.command_line.beginning import (
    begun,
    filled,
    job_of,
    keep,
    source_has_changed,
)
from fathomx.command_line.job import Job
from fathomx.command_line.meshes import MeshChoice, mesh_options
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
from fathomx.command_line.outcome import Outcome
from fathomx.command_line.session import Session, run_config, stored_data, stored_job
from fathomx.command_line.together import Together, distributed_options
from fathomx.command_line.tracking import track_option, tracked
from fathomx.graph.network import Network
from fathomx.graph.processes import Processes
from fathomx.records.errors import RunFolderError
from fathomx.records.writing import appearing
from fathomx.training import RunFolder
from fathomx.training.devices import mesh_for


@click.command()
@job_options(training=True)
@out_option("run")
@resume_option()
@mesh_options
@distributed_options
@track_option
def train(
    out: Path | None,
    resume: Path | None,
    data_parallel: int | None,
    depth_parallel: int | None,
    shard_weights: bool,
    distributed: bool,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    trackers: tuple[str, ...],
    **options: Any,
) -> None:
    """Trains a network and leaves a run folder with numbers, figures and a page."""
    given = only_given(options)
    together = Together(distributed, coordinator, processes, process)
    mesh = MeshChoice(data_parallel, depth_parallel, shard_weights)
    beside = Beside(trackers, mesh, together.written, together.join())
    beside.check_alike({**given, "resume": resume, "out": out, "mesh": mesh.written})
    console = Console(quiet=not beside.processes.writes)
    if resume is None:
        folder = _begin(console, job_of(given), out, beside)
    else:
        refuse_out(out)
        folder = _go_on(console, given, resume, beside)
    if beside.processes.writes:
        say_verdict(console, folder)


@dataclasses.dataclass(frozen=True)
class Beside:
    """What is chosen for a run without being part of it: who hears of it, and where it computes.

    **Fields**: `trackers`; `mesh`; `together`, the options of several processes as they are typed;
    `processes`.
    """

    trackers: tuple[str, ...]
    mesh: MeshChoice
    together: str
    processes: Processes

    def check(self, job: Job, network: Network) -> None:
        """Raises `ValueError` for devices that cannot share the network or its batches."""
        mesh = self.mesh.mesh(network, job.batch_size)
        if mesh is None and self.processes.count > 1:
            mesh_for(network, job.rule(), job.batch_size)

    def check_alike(self, chosen: dict[str, Any]) -> None:
        """Raises `ProcessError` where processes were asked for different runs."""
        found = {k: v if v is None else str(v) for k, v in chosen.items() if k != "data_workers"}
        self.processes.check_alike(found, "start all of them by the same command")

    def session(self, console: Console, folder: Path, job: Job, network: Network) -> Session:
        """The session of the run in a folder."""
        writes = self.processes.writes
        watching = tracked(self.trackers, folder, job.config()) if writes else ()
        command = f"train --resume {folder}{self.mesh.written}{self.together}"
        mesh = self.mesh.mesh(network, job.batch_size)
        return Session(console, "training", command, watching, mesh, self.processes)


def _begin(console: Console, job: Job, out: Path | None, beside: Beside) -> Path:
    check_new(out, "train")
    data = job.load()
    network = job.network(data)
    job.check(data, network)
    beside.check(job, network)
    beside.check_alike(job.config())
    with tempfile.TemporaryDirectory() as place:
        kept = {} if job.source is None else keep(job.source, Path(place))
        network, anew = filled(job, data, Path(place))
        folder = Path(beside.processes.first(lambda: str(new_folder(out, "train"))))
        session = beside.session(console, folder, job, network)

        def write() -> None:
            with appearing(folder) as unfinished:
                shutil.copytree(place, unfinished, dirs_exist_ok=True)
                config = run_config(job, data)
                RunFolder.prepare(unfinished, {**config, **kept})

        beside.processes.first(write)
    if job.source is not None:
        new = f"; drawn anew: {', '.join(anew)}" if anew else ""
        say(console, f"training: begins with the weights of {job.source}{new}")
    session.train(network, Outcome(folder, job, data), RunFolder.resume(folder))
    return folder


def _go_on(console: Console, given: dict[str, Any], folder: Path, beside: Beside) -> Path:
    job = stored_job(folder)
    if "data_workers" in given:
        # The one option that another machine may want otherwise, for it changes no number.
        job = dataclasses.replace(job, data_workers=given["data_workers"])
    stored = job.config()
    beside.check_alike(stored)
    changed = {name: value for name, value in given.items() if value != stored[name]}
    if changed:
        # Says what differs.
        RunFolder.resume(folder, changed).close()
    data = stored_data(job, folder)
    network, _ = begun(job, data, folder)
    beside.check(job, network)
    if source_has_changed(job, folder):
        say(
            console,
            f"training: {job.source} holds other weights than those that this run began with; it "
            "goes on from its own copy of these.",
        )
    if not beside.session(console, folder, job, network).go_on(job, data, network, folder):
        raise RunFolderError(f"the run in {folder} has ended already; there is nothing to do.")
    return folder
