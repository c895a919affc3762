"""A training run as its user follows it: begun or continued, printed, recorded and drawn."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import fathomx
from fathomx import data as data_sets
from fathomx.command_line.job import Job
from fathomx.command_line.messages import say
from fathomx.command_line.options import written_options
from fathomx.command_line.outcome import Outcome
from fathomx.command_line.sources import is_table, is_text, is_there, task_of
from fathomx.command_line.trained import trained_network
from fathomx.data import TASKS, ImageStream, Text
from fathomx.data._imagenet import Examples
from fathomx.graph.mesh import Mesh
from fathomx.graph.network import Network
from fathomx.graph.processes import Processes
from fathomx.learning import PredictiveCoding
from fathomx.records.errors import DamagedFileError, RunFolderError
from fathomx.records.lock import FolderLock
from fathomx.records.run_files import RunFiles, check_places, read_config
from fathomx.training import CheckpointError, Observer, ProgressBar, RunFolder, fit

_KINDS = {
    "text_sha256": "text",
    "images_sha256": "folder of images",
    "table_sha256": "table",
}
# All named sets but the one of which no sums are published.
_VERIFIED = set(data_sets.names()) - {"tiny-imagenet"}


def run_config(job: Job, data: Examples) -> dict[str, Any]:
    """What a run folder says of its job: the settings, the version, the command to repeat it.

    And of data of one's own what tells it from others: named data sets are verified anyway.
    """
    return {
        **job.config(),
        **({} if _by_classes(data) else {"task": task_of(data)}),
        **({} if _is_verified(job) else {_field(job): _digest(data)}),
        "fathomx": fathomx.__version__,
        "command": command(job),
    }


def command(job: Job) -> str:
    """What is typed to train a job; with another run to begin with, what it does differently."""
    source = job.source if job.source is not None and Path(job.source).is_dir() else None
    made = None if source is None else stored_job(Path(source)).continued
    return " ".join(["fathomx train", *written_options(job, made)])


def stored_job(folder: Path) -> Job:
    """The job of a run folder.

    `RunFolderError` if its configuration is missing or damaged, or its data is gone.
    """
    config = read_config(folder)
    data = config.get("data")
    if isinstance(data, str) and os.path.splitext(data)[1] and not is_there(data):
        raise RunFolderError(
            f"{data}, which the run in {folder} was trained on, is not there any more; put it "
            "back, or go on in the folder that the run was begun in."
        )
    try:
        return Job.from_config(config)
    except ValueError as error:
        raise DamagedFileError(
            f"{folder / 'config.json'} cannot be used: {str(error).rstrip('.')}; put a copy back, "
            "or start a new run."
        ) from None


def stored_data(job: Job, folder: Path) -> Examples:
    """The data of the job of a run; `RunFolderError` if it is other data by now."""
    data = job.load()
    begun_with = read_config(folder).get(_field(job))
    if begun_with is not None and begun_with != _digest(data):
        kind = _KINDS[_field(job)]
        raise RunFolderError(
            f"{job.data} is not the {kind} any more that the run in {folder} was trained on; put "
            "that one back, or start a new run."
        )
    return data


def _by_classes(data: Examples) -> bool:
    """Whether targets are classes, which goes without saying."""
    return task_of(data) == TASKS[0]


def _is_verified(job: Job) -> bool:
    """Whether the data can be no other: named, and its tokens are characters."""
    return job.data in _VERIFIED and job.tokens is None


def _field(job: Job) -> str:
    """The name of the digest of the data in a configuration, by its kind."""
    assert job.data is not None
    if is_table(job.data):
        return "table_sha256"
    return "text_sha256" if is_text(job.data) else "images_sha256"


def _digest(data: Examples) -> str:
    if isinstance(data, ImageStream):
        return data.sha256()
    found = hashlib.sha256(data.vocabulary_text.encode() if isinstance(data, Text) else b"")
    for title in data.titles:
        for array in data.arrays(title).values():
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _tidy(folder: Path) -> None:
    """The lock removes what was left by a process that was killed at its last file."""
    with contextlib.suppress(RunFolderError), FolderLock(folder):
        pass


@dataclasses.dataclass(frozen=True)
class Session:
    """Where a run prints, under which name, the command that continues it, who else hears, on
    which devices it computes, and in which processes, of which the first writes."""

    console: Console
    name: str
    command: str
    observers: tuple[Observer, ...] = ()
    mesh: Mesh | None = None
    processes: Processes = dataclasses.field(default_factory=Processes)

    def go_on(self, job: Job, data: Examples, network: Network, folder: Path) -> bool:
        """Trains on from where the run in a folder is, or makes what it lacks at its end.

        Returns false if it has ended and lacks nothing.
        """
        check_places(folder)
        outcome = Outcome(folder, job, data)
        if not self.processes.first(lambda: self._has_ended(folder)):
            self.train(network, outcome, RunFolder.resume(folder))
            return True
        lacking = self.processes.first(outcome.lacking)
        if not lacking:
            self.processes.first(lambda: _tidy(folder))
            return False
        try:
            trained = trained_network(job, data, folder)
        except CheckpointError as error:
            say(self.console, f"{self.name}: {str(error).partition('; ')[0]}; trained again.")
            self.processes.first((folder / "summary.json").unlink)
            self.train(network, outcome, RunFolder.resume(folder))
            return True
        say(self.console, f"{self.name}: the run has ended; made again: {', '.join(lacking)}")

        def complete() -> None:
            with FolderLock(folder):
                outcome.complete(network, trained)

        with self.saying_how_to_continue():
            self.processes.first(complete)
        self.show_sample(outcome)
        return True

    def train(self, network: Network, outcome: Outcome, run: RunFolder) -> None:
        """Trains the network and leaves all of a run folder."""
        job, data = outcome.job, outcome.data
        bar = ProgressBar(self.console, self.name)
        self.say_begun(job, data, network)
        with self.saying_how_to_continue():
            try:
                result = fit(
                    network,
                    data,
                    job.rule(),
                    seed=job.seed,
                    observers=(bar, run, *self.observers),
                    mesh=self.mesh,
                    **job.fitted(data),
                )
                self.processes.first(lambda: outcome.complete(network, result.network))
            finally:
                bar.close()
                run.close()
        self.show_sample(outcome)

    def say_begun(self, job: Job, data: Examples, network: Network) -> None:
        """What is trained."""
        rule = job.rule()
        say(
            self.console,
            f"{self.name}: {job.model}, {network.depth} nodes, {job.data} "
            f"({data.size} training examples{'' if _by_classes(data) else f', {task_of(data)}'}), "
            f"{job.learning}"
            + (f" with {job.solver()!r}" if isinstance(rule, PredictiveCoding) else ""),
        )

    def _has_ended(self, folder: Path) -> bool:
        """Whether there is a summary; a damaged one is made again from the last checkpoint."""
        try:
            return bool(RunFiles(folder).summary)
        except DamagedFileError as error:
            say(self.console, f"{self.name}: {error} This is done now.")
            (folder / "summary.json").unlink()
            return False

    @contextlib.contextmanager
    def saying_how_to_continue(self) -> Iterator[None]:
        """Says so where what is done within is stopped."""
        try:
            yield
        except KeyboardInterrupt:
            say(self.console, f"stopped; continue with: fathomx {self.command}")
            raise

    def show_sample(self, outcome: Outcome) -> None:
        """Prints the text that a network has written, if it writes any."""
        sample = RunFiles(outcome.folder).sample
        if sample is not None:
            kind = "characters" if outcome.job.tokens is None else "tokens"
            begun = f"a sample, begun by {outcome.job.context} {kind} of the validation text:"
            say(self.console, f"{begun}\n{sample}")
