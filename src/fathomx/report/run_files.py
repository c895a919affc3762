"""The files of a run folder as the reports read them."""

from __future__ import annotations

import contextlib
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from fathomx.drawing.files import PathLike, finite, numbers


class RunFiles:
    """What a run folder holds, read when first asked for.

    **Attributes**: `folder`, `config`, `summary` (empty for an unfinished run), `records` (all of
    `metrics.jsonl`, in order), `epochs` (the records of epochs, one per epoch) and `inference`
    (`None` for a run without inference).

    Raises `FileNotFoundError` for a folder with neither `config.json` nor `metrics.jsonl`, and
    `ValueError` for a file that is not JSON. A line of `metrics.jsonl` cut short by an interruption
    is skipped; of steps and epochs recorded twice, as after resuming, the later record counts.

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
        return self._read("config.json") or {}

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """The numbers at the end of the run."""
        return self._read("summary.json") or {}

    @functools.cached_property
    def inference(self) -> dict[str, Any] | None:
        """Energies per node and inference step, before and after training."""
        return self._read("inference.json")

    @functools.cached_property
    def sample(self) -> str | None:
        """What the network wrote at the end, if it was trained on text."""
        path = self.folder / "sample.txt"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    @functools.cached_property
    def records(self) -> list[dict[str, Any]]:
        """All records of `metrics.jsonl`."""
        path = self.folder / "metrics.jsonl"
        found: list[dict[str, Any]] = []
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    record = json.loads(line)
                    if isinstance(record, dict):
                        found.append(record)
        return found

    @functools.cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """The records of epochs, sorted."""
        found = {int(r["epoch"]): r for r in self.records if r.get("kind") == "epoch"}
        return [found[epoch] for epoch in sorted(found)]

    def per_step(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Training steps, counted from 1 over the whole run, and a metric at each; NaN if null."""
        values: dict[tuple[int, int], float] = {}
        longest = 0
        for record in self.records:
            if record.get("kind") != "steps":
                continue
            epoch, last = int(record["epoch"]), int(record["step"])
            longest = max(longest, last)
            series = record.get(name) or []
            for index, value in enumerate(series):
                number = finite(value)
                values[epoch, last - len(series) + 1 + index] = np.nan if number is None else number
        ordered = sorted(values)
        steps = np.array([(epoch - 1) * longest + step for epoch, step in ordered], float)
        return steps, np.array([values[at] for at in ordered], float)

    def per_epoch(self, name: str) -> np.ndarray:
        """A metric after each epoch; NaN where it is null."""
        return numbers([record.get(name) for record in self.epochs])

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON: {error}.") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} must hold a JSON object, not {type(content).__name__}.")
        return content
