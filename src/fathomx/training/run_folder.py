"""The folder that a run leaves behind."""

from __future__ import annotations

import collections
import importlib.metadata
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

from fathomx.checks import gate
from fathomx.graph.processes import Processes
from fathomx.records.errors import RunFolderError
from fathomx.records.lock import FolderLock
from fathomx.records.run_files import FORMAT, RunFiles, check_places, read_config
from fathomx.records.values import plain
from fathomx.records.writing import (
    appearing,
    append_line,
    write_json,
    write_text,
)
from fathomx.training.checkpoints import Checkpoints, Found
from fathomx.training.observer import Observer, Plan, Restored, TrainingState

_CHECKPOINT_SECONDS = 60.0


@gate
class RunFolder(Observer):
    """Writes a run to a folder, and continues one from it.

    * `config.json`: how the run was configured.
    * `metrics.jsonl`: a line for every few steps (`"kind": "steps"`), for every epoch, for every
      validation within one (`"validation"`), and for what was said while the run went on
      (`"note"`).
    * `summary.json`: the numbers at the end, with the versions of what was installed.
    * `checkpoints/`: the newest two, after every epoch, every minute, and when the run is stopped.

    Files appear complete or not at all. `create` refuses a folder that exists; `resume` refuses
    one whose configuration differs. Until `close`, nobody else can write to the folder.

    Of several processes (`jax.distributed`), which all have this observer of one folder that all of
    them see, the first writes; of the checkpoints each writes the arrays that it holds a part of.
    """

    keeps = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes = Processes.here()
        self._lock = FolderLock(folder) if self._processes.writes else None
        self._checkpoints: Checkpoints | None = None
        self._plan: Plan | None = None
        self._saved = time.monotonic()

    @classmethod
    def create(cls, folder: Path, config: dict[str, Any]) -> RunFolder:
        """A new run folder. Raises `RunFolderError` if something is there already."""

        def write() -> None:
            if folder.exists():
                raise RunFolderError(
                    f"{folder} exists already; choose another --out, or continue that run with "
                    f"`fathomx train --resume {folder}`."
                )
            with appearing(folder) as unfinished:
                cls.prepare(unfinished, config)

        Processes.here().first(write)
        return cls(folder)

    @classmethod
    def prepare(cls, folder: Path, config: dict[str, Any]) -> None:
        """Writes the configuration of a run that `resume` is to begin."""
        write_json(folder / "config.json", {**config, "format": FORMAT})

    @classmethod
    def resume(cls, folder: Path, config: dict[str, Any] | None = None) -> RunFolder:
        """The folder of a run that has not ended.

        Raises `RunFolderError` if there is no run, if it has ended, if another process writes to
        it, or if `config` is given and differs from the run's.
        """
        stored = read_config(folder)
        check_places(folder)
        if (folder / "summary.json").exists():
            raise RunFolderError(f"the run in {folder} has ended already; there is nothing to do.")
        if config is not None:
            differing = sorted(k for k in config if stored.get(k) != config[k])
            if differing:
                changes = ", ".join(f"{k} {stored.get(k)!r} -> {config[k]!r}" for k in differing)
                raise RunFolderError(
                    f"the run in {folder} was started with another configuration ({changes}); "
                    "resume without these options, or start a new run."
                )
        return cls(folder)

    def restore(self, fresh: TrainingState) -> Restored | None:
        """The newest checkpoint that is whole; records after it are dropped from the metrics."""
        found = self._store().restore(fresh)
        if found is not None:
            self._store().discard_after(found.position)

        def cut() -> tuple[list[dict[str, Any]], tuple[str, ...]]:
            files = RunFiles(self.folder)
            kept = [] if found is None else _before(files.records, found.state)
            notes = _lost(files, kept, found)
            if (self.folder / "metrics.jsonl").exists():
                lines = [json.dumps(record) + "\n" for record in kept]
                write_text(self.folder / "metrics.jsonl", "".join(lines))
            return kept, notes

        kept, told = self._processes.first(cut)
        notes = tuple(told)
        if found is None:
            return None if not notes else Restored(fresh, [], [], 0.0, notes)
        history = [r for r in kept if r["kind"] == "epoch"]
        current = int(found.state.epoch) + 1
        return Restored(
            found.state,
            history=[{k: v for k, v in r.items() if k != "kind"} for r in history],
            records=[r for r in kept if r["kind"] == "steps" and r["epoch"] == current],
            seconds=math.fsum(r.get("seconds") or 0.0 for r in kept if r["kind"] == "steps"),
            notes=notes,
            known=tuple(r.get("about", "") for r in kept if r["kind"] == "note"),
            validated=max(
                (r["step"] for r in kept if r["kind"] == "validation" and r["epoch"] == current),
                default=0,
            ),
        )

    def started(self, plan: Plan, state: TrainingState) -> None:
        self._plan = plan
        self._saved = time.monotonic()

    def stepped(self, record: dict[str, Any], state: TrainingState) -> None:
        self._append({"kind": "steps", **record})
        if self._processes.agreed(time.monotonic() - self._saved > _CHECKPOINT_SECONDS):
            self._save(state)

    def validated(self, record: dict[str, Any], state: TrainingState) -> None:
        self._append({"kind": "validation", **record})

    def noted(self, record: dict[str, Any]) -> None:
        self._append({"kind": "note", **record})

    def epoch_ended(self, record: dict[str, Any], state: TrainingState) -> None:
        self._append({"kind": "epoch", **record})
        # A run that was stopped before its epoch was closed has left a checkpoint of this number.
        self._store().discard_after(self._position(state) - 1)
        self._save(state)

    def interrupted(self, state: TrainingState) -> None:
        if self._plan is not None:
            self._save(state)
        self.close()

    def failed(self) -> None:
        self.close()

    def finished(self, summary: dict[str, Any], state: TrainingState) -> None:
        if self._processes.writes:
            write_json(self.folder / "summary.json", {**summary, "versions": versions()})
        self._close_checkpoints()

    def close(self) -> None:
        """Ends the checkpoint threads; the folder can be used again."""
        self._close_checkpoints()
        if self._lock is not None:
            self._lock.release()

    def _close_checkpoints(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.close()
            self._checkpoints = None

    def _store(self) -> Checkpoints:
        if self._checkpoints is None:
            self._checkpoints = Checkpoints(self.folder / "checkpoints")
        return self._checkpoints

    def _save(self, state: TrainingState) -> None:
        self._store().save(state, self._position(state))
        self._saved = time.monotonic()

    def _position(self, state: TrainingState) -> int:
        """How many training steps have been taken."""
        assert self._plan is not None
        return int(state.epoch) * self._plan.steps_per_epoch + int(state.step)

    def _append(self, record: dict[str, Any]) -> None:
        if self._processes.writes:
            line = json.dumps(plain(record), allow_nan=False)
            append_line(self.folder / "metrics.jsonl", line)


def _before(records: list[dict[str, Any]], state: TrainingState) -> list[dict[str, Any]]:
    """Records of steps and epochs, and notes, that lie before a state."""
    epoch, step = int(state.epoch) + 1, int(state.step)

    def lies_before(record: dict[str, Any]) -> bool:
        if record["epoch"] == epoch:
            return bool(record["kind"] != "epoch" and record["step"] <= step)
        return bool(record["epoch"] < epoch)

    return [record for record in records if lies_before(record)]


def _lost(files: RunFiles, kept: list[dict[str, Any]], found: Found | None) -> tuple[str, ...]:
    """Sentences on checkpoints and records of the run so far that are damaged or missing."""
    path = files.folder / "metrics.jsonl"
    if found is None:
        # A run that is killed after its first epoch may have recorded it and saved nothing yet.
        if sum(record["kind"] == "epoch" for record in files.records) < 2:
            return ()
        return (
            f"the checkpoints of {files.folder} are gone: the run starts again from its beginning.",
        )
    notes = list(found.notes)
    epoch, step = int(found.state.epoch), int(found.state.step)
    steps: collections.Counter[int] = collections.Counter()
    for record in kept:
        if record["kind"] == "steps":
            steps[record["epoch"]] += len(record.get("loss") or [])
    recorded = {record["epoch"] for record in kept if record["kind"] == "epoch"}
    whole = (found.position - step) // epoch if epoch else 0
    incomplete = [n for n in range(1, epoch + 1) if n not in recorded or steps[n] != whole]
    if steps[epoch + 1] != step:
        incomplete.append(epoch + 1)
    if incomplete:
        which = ", ".join(map(str, incomplete[:8])) + (" and more" if len(incomplete) > 8 else "")
        notes.append(
            f"{path} has lost records of epoch {which}: the weights are whole, but the curves and "
            "means of these epochs are not."
        )
    return tuple(notes)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    packages = ("fathomx", "jax", "jaxlib", "equinox", "optax", "diffrax", "numpy")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found}
