"""The files of a run folder: what each must hold, and what reports read from them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from fathomx.checks import gate
from fathomx.checks.names import unknown
from fathomx.records.errors import DamagedFileError, RunFolderError
from fathomx.records.forms import (
    Misfit,
    listed,
    named,
    number,
    optional,
    plain_value,
    position,
    table,
    text,
)
from fathomx.records.pictures import FILE as PICTURES
from fathomx.records.pictures import Panel, read_pictures
from fathomx.records.predictions import FILE as PREDICTIONS
from fathomx.records.predictions import Predictions, read_predictions
from fathomx.records.reading import read_json, read_lines
from fathomx.records.values import PathLike, finite, numbers

_FILES = (
    "metrics.jsonl",
    "summary.json",
    "inference.json",
    "sample.txt",
    PICTURES,
    PREDICTIONS,
    "index.html",
)
_FOLDERS = ("checkpoints", "figures")
# Counts up when a later version could not be read by an earlier one.
FORMAT = 1

_UNSETTLED = named({}, {"median": number, "max": number})
_NUMBERS = optional(listed(number))
_OF_EPOCH = {
    "unsettled": optional(_UNSETTLED),
    "certified": optional(named({}, {"steps": number, "of": number})),
    "energy_per_node": _NUMBERS,
    "cosine_to_backprop_per_node": _NUMBERS,
    "cosine_to_backprop_per_quarter": _NUMBERS,
    "length_to_backprop_per_node": _NUMBERS,
    "gradient_length_per_node": _NUMBERS,
    "weight_change_per_node": _NUMBERS,
    **dict.fromkeys(
        (
            "train_loss",
            "train_accuracy",
            "validation_loss",
            "validation_accuracy",
            "pc_strength",
            "output_precision",
            "cosine_to_backprop",
            "target_alignment",
            "target_alignment_of_backprop",
            "imbalance",
            "nudge_stability",
        ),
        number,
    ),
}
_SUMMARY = named(
    {},
    {
        **_OF_EPOCH,
        **dict.fromkeys(
            (
                "test_accuracy",
                "test_loss",
                "train_seconds",
                "first_step_seconds",
                "step_seconds_median",
                "step_memory_bytes",
                "depth",
                "parameters",
                "epochs",
                "best_epoch",
                "average",
                "seed",
            ),
            number,
        ),
        "best_by": optional(text),
        "ended": optional(text),
    },
)
_BY_STEP = (
    "loss",
    "accuracy",
    "unsettled_median",
    "unsettled_max",
    "strength",
    "output_precision",
)
_STEPS = named(
    {"epoch": position, "step": position},
    {
        "seconds": number,
        "energy_per_node": _NUMBERS,
        **dict.fromkeys(_BY_STEP, optional(listed(number))),
    },
)
_RECORDS = {
    "steps": _STEPS,
    "epoch": named({"epoch": position}, _OF_EPOCH),
    "validation": named(
        {"epoch": position, "step": position},
        dict.fromkeys(("validation_loss", "validation_accuracy"), number),
    ),
    "note": named({"epoch": position, "step": position, "text": text}),
}
_ENERGIES = optional(named({}, {"energy": optional(table)}))
_INFERENCE = named({}, {"labels": listed(text), "before": _ENERGIES, "after": _ENERGIES})


def record(value: Any) -> None:
    """A line of `metrics.jsonl`: of steps, of an epoch, of a validation within one, or a note."""
    named({"kind": text})(value)
    form = _RECORDS.get(value["kind"])
    if form is not None:
        form(value)


def configuration(value: Any) -> None:
    """What `config.json` holds: plain values by name."""
    named({})(value)
    for name, content in value.items():
        try:
            plain_value(content)
        except Misfit as misfit:
            raise misfit.inside(name) from None


def check_places(folder: Path) -> None:
    """Raises `DamagedFileError` where a run has a folder in the place of a file, or the reverse."""
    for name in (*_FILES, *_FOLDERS):
        check_place(folder / name, "folder" if name in _FOLDERS else "file")


def check_place(path: Path, wanted: str) -> None:
    """Raises `DamagedFileError` where there is a folder and no `"file"`, or the reverse."""
    found = "folder" if path.is_dir() else "file"
    if path.exists() and found != wanted:
        raise DamagedFileError(
            f"{path} is a {found}, where a {wanted} belongs; move it away, and what it held is "
            "made again as far as it can be."
        )


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run; `RunFolderError` if the folder holds none that can be read."""
    path = folder / "config.json"
    if not path.is_file():
        raise RunFolderError(
            f"{folder} holds no run: config.json is missing; give the folder of a run."
        )
    found = read_json(
        path, configuration, "put a copy back, or start a new run with the command on its page"
    )
    written = found.get("format", FORMAT)
    if not isinstance(written, int) or written > FORMAT:
        raise RunFolderError(
            f"{path} is of format {written!r}, written by fathomx {found.get('fathomx')}, and this "
            f"version reads those up to {FORMAT}; install that version."
        )
    return found


@gate
class RunFiles:
    """What a run folder holds, read when first asked for.

    **Attributes**: `folder`, `config`, `summary` (empty for an unfinished run), `records` (all of
    `metrics.jsonl`, in order), `damaged_lines` of it (their numbers), `epochs` (the records of
    epochs, one per epoch), `notes` (what was said while the run went on), `inference` (`None`
    for a run without inference), `pictures` (empty for a network that generates none) and
    `predictions` (`None` but of real values).

    Raises `FileNotFoundError` for a folder with neither `config.json` nor `metrics.jsonl`, and
    `DamagedFileError`, a `ValueError`, for a file that does not hold what it must. A line of
    `metrics.jsonl` that does not is left out, and counted in `damaged_lines` unless it is the last
    and was cut short by an interruption; of steps and epochs recorded twice, as after resuming, the
    later record counts.

    ```python
    RunFiles("runs/digits").summary["test_accuracy"]
    ```
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        if not any((self.folder / name).is_file() for name in ("config.json", "metrics.jsonl")):
            raise FileNotFoundError(
                f"{self.folder} is not a run folder: it holds neither config.json nor "
                "metrics.jsonl; give the folder that a training run wrote."
            )

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The choices the run was started with."""
        return read_config(self.folder) if (self.folder / "config.json").is_file() else {}

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """The numbers at the end of the run."""
        path = self.folder / "summary.json"
        remedy = "delete it and continue the run with --resume, which makes it again"
        return read_json(path, _SUMMARY, remedy) if path.is_file() else {}

    @functools.cached_property
    def inference(self) -> dict[str, Any] | None:
        """Energies per node and inference step, before and after training."""
        path = self.folder / "inference.json"
        remedy = "delete it and continue the run with --resume, which makes it again"
        return read_json(path, _INFERENCE, remedy) if path.is_file() else None

    @functools.cached_property
    def pictures(self) -> list[Panel]:
        """What the network generates at the end, panel by panel; nothing if it generates none."""
        path = self.folder / PICTURES
        remedy = "delete it and continue the run with --resume, which makes it again"
        return read_pictures(path, remedy) if path.is_file() else []

    @functools.cached_property
    def predictions(self) -> Predictions | None:
        """What the trained network said of validation examples, if it was trained on values."""
        path = self.folder / PREDICTIONS
        remedy = "delete it and continue the run with --resume, which makes it again"
        return read_predictions(path, remedy) if path.is_file() else None

    @functools.cached_property
    def sample(self) -> str | None:
        """What the network wrote at the end, if it was trained on text."""
        path = self.folder / "sample.txt"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    @functools.cached_property
    def _lines(self) -> tuple[list[dict[str, Any]], list[int]]:
        path = self.folder / "metrics.jsonl"
        return read_lines(path, record) if path.exists() else ([], [])

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records of `metrics.jsonl`."""
        return self._lines[0]

    @property
    def damaged_lines(self) -> list[int]:
        """Numbers of the lines of `metrics.jsonl` that hold no record."""
        return self._lines[1]

    @functools.cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """The records of epochs, sorted."""
        found = {int(r["epoch"]): r for r in self.records if r["kind"] == "epoch"}
        return [found[epoch] for epoch in sorted(found)]

    @functools.cached_property
    def notes(self) -> list[dict[str, Any]]:
        """What was said while the run went on: `epoch`, `step` and `text`, each text once."""
        found = {r["text"]: r for r in reversed(self.records) if r["kind"] == "note"}
        return list(reversed(found.values()))

    def _check_known(self, kinds: tuple[str, ...], name: str, known: tuple[str, ...]) -> None:
        """Raises `ValueError` for a name that no record of these kinds has, nor could have."""
        held = {key for each in self.records if each["kind"] in kinds for key in each}
        names = sorted({*known, *held} - {"kind", "epoch", "step", "steps", "seconds"})
        if name not in names and not name.startswith("validation_"):
            raise ValueError(unknown("number of the records", name, names))

    def per_step(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Training steps, counted from 1 over the whole run, and a metric at each; NaN if null.

        Raises `ValueError` for a name that is never recorded of steps.
        """
        self._check_known(("steps",), name, _BY_STEP)
        values: dict[tuple[int, int], float] = {}
        longest = 0
        for entry in self.records:
            if entry["kind"] != "steps":
                continue
            epoch, last = int(entry["epoch"]), int(entry["step"])
            longest = max(longest, last)
            series = entry.get(name) or []
            for index, value in enumerate(series):
                known = finite(value)
                values[epoch, last - len(series) + 1 + index] = np.nan if known is None else known
        ordered = sorted(values)
        steps = np.array([(epoch - 1) * longest + step for epoch, step in ordered], float)
        return steps, np.array([values[at] for at in ordered], float)

    def validation(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Training steps, counted over the whole run, and a validation score at each; NaN if null.

        After every epoch and, where that was recorded, within.
        """
        points: dict[Any, Any] = {r.get("steps"): r.get(name) for r in self.epochs}
        # Of the first epoch while it is the only one, no length is needed.
        length = max((r.get("steps", 0) / r["epoch"] for r in self.epochs if r["epoch"]), default=0)
        for record in self.records:
            if record["kind"] == "validation":
                points[(record["epoch"] - 1) * length + record["step"]] = record.get(name)
        steps = sorted(step for step in points if finite(step) is not None)
        return np.array(steps, float), numbers([points[step] for step in steps])

    def per_epoch(self, name: str) -> np.ndarray:
        """A metric after each epoch; NaN where it is null.

        Raises `ValueError` for a name that is never recorded of epochs.
        """
        self._check_known(("epoch",), name, tuple(_OF_EPOCH))
        return numbers([entry.get(name) for entry in self.epochs])
