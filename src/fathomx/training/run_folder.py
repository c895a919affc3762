"""The folder that a run leaves behind."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

from fathomx.training.checkpoints import Checkpoints
from fathomx.training.observer import Observer, Plan, Restored, TrainingState, plain

_CHECKPOINT_SECONDS = 60.0


class RunFolderError(RuntimeError):
    """A run folder exists already, is missing, is damaged, or belongs to another configuration."""


class RunFolder(Observer):
    """Writes a run to a folder, and continues one from it.

    * `config.json`: how the run was configured.
    * `metrics.jsonl`: a line for every few steps (`"kind": "steps"`) and for every epoch.
    * `summary.json`: the numbers at the end, with the versions of what was installed.
    * `checkpoints/`: the newest two, after every epoch, every minute, and on Ctrl-C.

    Files appear complete or not at all. `create` refuses a folder that exists; `resume` refuses
    one whose configuration differs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._checkpoints: Checkpoints | None = None
        self._plan: Plan | None = None
        self._saved = time.monotonic()

    @classmethod
    def create(cls, folder: Path, config: dict[str, Any]) -> RunFolder:
        """A new run folder. Raises `RunFolderError` if something is there already."""
        if folder.exists():
            raise RunFolderError(
                f"{folder} exists already; choose another --out, or continue that run with "
                f"`fathomx train --resume {folder}`."
            )
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise RunFolderError(
                f"the run folder {folder} cannot be made: {error.strerror}; choose another --out."
            ) from error
        try:
            write_json(folder / "config.json", config)
        except RunFolderError:
            folder.rmdir()
            raise
        return cls(folder)

    @classmethod
    def resume(cls, folder: Path, config: dict[str, Any] | None = None) -> RunFolder:
        """The folder of a run that has not ended.

        Raises `RunFolderError` if there is no run, if it has ended, or if `config` is given and
        differs from the run's.
        """
        stored = read_config(folder)
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
        """The newest checkpoint; records after it are dropped from the metrics."""
        state = self._store().restore(fresh)
        kept = [] if state is None else _before(read_metrics(self.folder), state)
        if (self.folder / "metrics.jsonl").exists():
            lines = [json.dumps(record) + "\n" for record in kept]
            write_text(self.folder / "metrics.jsonl", "".join(lines))
        if state is None:
            return None
        history = [r for r in kept if r["kind"] == "epoch"]
        current = int(state.epoch) + 1
        return Restored(
            state,
            history=[{k: v for k, v in r.items() if k != "kind"} for r in history],
            records=[r for r in kept if r["kind"] == "steps" and r["epoch"] == current],
            seconds=math.fsum(r["seconds"] for r in kept if r["kind"] == "steps"),
        )

    def started(self, plan: Plan, state: TrainingState) -> None:
        self._plan = plan
        self._saved = time.monotonic()

    def stepped(self, record: dict[str, Any], state: TrainingState) -> None:
        self._append({"kind": "steps", **record})
        if time.monotonic() - self._saved > _CHECKPOINT_SECONDS:
            self._save(state)

    def epoch_ended(self, record: dict[str, Any], state: TrainingState) -> None:
        self._append({"kind": "epoch", **record})
        self._save(state)

    def interrupted(self, state: TrainingState) -> None:
        if self._plan is not None:
            self._save(state)
        self.close()

    def finished(self, summary: dict[str, Any], state: TrainingState) -> None:
        write_json(self.folder / "summary.json", {**summary, "versions": versions()})
        self.close()

    def close(self) -> None:
        """Ends the checkpoint threads; the folder can be used again."""
        if self._checkpoints is not None:
            self._checkpoints.close()
            self._checkpoints = None

    def _store(self) -> Checkpoints:
        if self._checkpoints is None:
            self._checkpoints = Checkpoints(self.folder / "checkpoints")
        return self._checkpoints

    def _save(self, state: TrainingState) -> None:
        assert self._plan is not None
        position = int(state.epoch) * self._plan.steps_per_epoch + int(state.step)
        self._store().save(state, position)
        self._saved = time.monotonic()

    def _append(self, record: dict[str, Any]) -> None:
        try:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(plain(record), allow_nan=False) + "\n")
        except OSError as error:
            raise _unwritable(self.folder / "metrics.jsonl", error) from error


def _before(records: list[dict[str, Any]], state: TrainingState) -> list[dict[str, Any]]:
    """Records of steps and epochs that lie before a state."""
    epoch, step = int(state.epoch) + 1, int(state.step)

    def lies_before(record: dict[str, Any]) -> bool:
        if record["epoch"] == epoch:
            return bool(record["kind"] == "steps" and record["step"] <= step)
        return bool(record["epoch"] < epoch)

    return [record for record in records if lies_before(record)]


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run; `RunFolderError` if the folder holds no run."""
    if not (folder / "config.json").exists():
        raise RunFolderError(f"{folder} holds no run: config.json is missing.")
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run; `RunFolderError` if it cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise RunFolderError(f"{path} is damaged: it must hold an object with named values.")
    return value


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All records of a run; a last line that was cut off when the run was killed is left out."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    records = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise RunFolderError(f"{path} is damaged at line {number}.") from None
    return records


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically; what is not finite becomes null."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically: it appears whole or not at all. Raises `RunFolderError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{path} cannot be written: {error.strerror}; free some space, then continue the run with "
        "--resume, or start it with another --out."
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    packages = ("fathomx", "jax", "jaxlib", "equinox", "optax", "diffrax", "numpy")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found}
