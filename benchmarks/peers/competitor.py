"""One contestant at work: its process, its row of results, and what went wrong, if anything."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import networks
import numpy as np
from cases import TOLERANCES, Case, Contestant, Race, Task, of_float32
from environments import cache, python_of
from protocol import Worker, WorkerError

Row = dict[str, Any]
Result = TypeVar("Result")

COMPILE_LIMIT = 300.0
_HERE = Path(__file__).parent


class Competitor:
    """A contestant in a process of its own, with the `row` that it fills."""

    def __init__(self, case: Case | Race, contestant: Contestant) -> None:
        precision = case.task.precision
        self.contestant, self.tolerance = contestant, TOLERANCES[precision]
        self.row: Row = {
            "case": case.name,
            "library": contestant.library,
            "method": contestant.method.label,
            "algorithm": contestant.method.name,
        }
        words = f"{case.name} {contestant.label}"
        log = cache() / "logs" / ("".join(c if c.isalnum() else "-" for c in words) + ".txt")
        log.parent.mkdir(exist_ok=True)
        script = _HERE / f"worker_{contestant.library}.py"
        variables = {"JAX_DEFAULT_MATMUL_PRECISION": of_float32(precision)}
        self.worker = Worker(python_of(contestant.library), script, log, variables)

    @property
    def alive(self) -> bool:
        """Whether nothing has failed."""
        return "reason" not in self.row

    def attempt(self, action: Callable[[], Result]) -> Result | None:
        """The action's result; None if it fails or something failed before.

        A failure becomes the reason in the row. Whoever fails is out, and its process ends.
        """
        if not self.alive:
            return None
        try:
            return action()
        except WorkerError as error:
            self.row["reason"] = str(error)
            self.worker.stop()
            return None

    def build(self, task: Task, files: Path) -> None:
        """Builds the network from the task's weights."""
        fields = {"task": dataclasses.asdict(task), "files": str(files)}
        fields["method"] = dataclasses.asdict(self.contestant.method)
        self.row |= self.worker.ask("build", timeout=COMPILE_LIMIT, **fields)

    def outputs(self) -> np.ndarray:
        """The feedforward outputs for the first batch."""
        return np.array(self.worker.ask("outputs", timeout=COMPILE_LIMIT)["outputs"])

    def check(self, expected: np.ndarray | None) -> np.ndarray:
        """The outputs; `WorkerError` if they are not the expected ones, where there are any."""
        outputs = self.outputs()
        differ = 0.0 if expected is None else difference(outputs, expected)
        self.row["outputs differ by"] = differ
        if not differ <= self.tolerance:
            raise WorkerError(f"not the same function: the outputs differ by {differ:.1e}")
        return outputs


def difference(values: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(values - expected).max() / np.abs(expected).max())


@contextlib.contextmanager
def competing(case: Case | Race, contestant: Contestant) -> Iterator[Competitor]:
    """A competitor whose process ends with the block."""
    competitor = Competitor(case, contestant)
    try:
        yield competitor
    finally:
        competitor.worker.stop()


def written(task: Task) -> Path:
    """The task's weights and batches, in a file that all workers read."""
    path = cache() / f"{task.model}-{task.depth}-{task.width:g}-{task.batch}.npz"
    networks.write(task, path)
    return path
