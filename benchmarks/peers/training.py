"""Training steps of a case's contestants, timed in turn so that the machine's drift cancels."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Sequence

import numpy as np
from cases import BACKPROP, Case
from competitor import COMPILE_LIMIT, Competitor, Row, competing, difference, written

# After the first step two more are taken before any is timed: PCX compiles a second time.
_WARM_UP = 2
# A turn is repeated steps that take about this long, so that nobody pays for the caches which the
# one before has filled.
_TURN_SECONDS, _MOST_STEPS = 0.1, 25


def training_steps(case: Case, libraries: Sequence[str], rounds: int) -> list[Row]:
    """A row for every contestant of the case, in one interleaved run.

    All processes stay alive, but only one computes at a time. Who does not compute the same
    function as the first contestant from the same weights is not timed. A turn counts with its
    mean step, a row with the median of its turns.
    """
    files = written(case.task)
    with contextlib.ExitStack() as stack:
        competitors = [
            stack.enter_context(competing(case, contestant))
            for contestant in case.contestants
            if contestant.library in libraries
        ]
        outputs: np.ndarray | None = None
        learned: dict[str, np.ndarray] = {}
        for competitor in competitors:
            competitor.attempt(lambda it=competitor: it.build(case.task, files))
            found = competitor.attempt(lambda it=competitor, to=outputs: it.check(to))
            outputs = found if outputs is None else outputs
            competitor.attempt(lambda it=competitor: _first_steps(it, learned))
            _tell(competitor)
        turns: list[list[float]] = [[] for _ in competitors]
        for _ in range(rounds):
            for competitor, own in zip(competitors, turns, strict=True):
                competitor.attempt(lambda it=competitor, own=own: own.append(_turn(it)))
        for competitor, own in zip(competitors, turns, strict=True):
            competitor.attempt(lambda it=competitor, own=own: _summarize(it, own))
    return [competitor.row for competitor in competitors]


def _first_steps(competitor: Competitor, learned: dict[str, np.ndarray]) -> None:
    """The first step, what it learned beside who came before with the algorithm, and warming up."""
    ask, row = competitor.worker.ask, competitor.row
    row["first step, s"] = ask("step", timeout=COMPILE_LIMIT, count=1)["seconds"]
    algorithm = BACKPROP if row["algorithm"].startswith(BACKPROP) else row["algorithm"]
    outputs = competitor.outputs()
    differ = difference(outputs, learned.setdefault(algorithm, outputs))
    row["after an update"] = differ if math.isfinite(differ) else None
    later = [ask("step", timeout=COMPILE_LIMIT, count=1)["seconds"] for _ in range(_WARM_UP)]
    row["warm-up steps, s"] = later
    row["steps per turn"] = max(1, min(_MOST_STEPS, math.ceil(_TURN_SECONDS / min(later))))


def _turn(competitor: Competitor) -> float:
    seconds: float = competitor.worker.ask("step", count=competitor.row["steps per turn"])[
        "seconds"
    ]
    return seconds


def _summarize(competitor: Competitor, seconds: Sequence[float]) -> None:
    memory = competitor.worker.ask("memory")
    competitor.row |= {
        "step, ms": 1000 * statistics.median(seconds),
        "turns, ms": [1000 * each for each in seconds],
        "peak, MiB": memory["peak_mib"],
        "device, MiB": memory["device_mib"],
    }


def _tell(competitor: Competitor) -> None:
    row = competitor.row
    said = row.get("reason") or f"first step {row['first step, s']:.2f} s"
    print(f"  {competitor.contestant.label}: {said}", flush=True)
