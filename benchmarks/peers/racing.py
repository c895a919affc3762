"""Races to equilibrium: how long each solver takes until the slowest example has settled."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from cases import NEWTON, UNTIL_DONE, Race
from competitor import COMPILE_LIMIT, Competitor, Row, competing, written
from environments import cache
from protocol import Worker

_REPEATS = 5
_GROWTH, _DIVERGED = 0.1, 100.0


def race_to_equilibrium(race: Race, libraries: Sequence[str]) -> list[Row]:
    """A row for every solver, with its time to equilibrium or how far it came within the limit.

    The first contestant, Fathomx's Newton, sets the limit and judges everyone's activities, by the
    relative gradient norm in error coordinates.
    """
    files = written(race.task)
    first, *others = race.contestants
    assert first.method.name == NEWTON
    with competing(race, first) as newton:
        judge = _Judge(race, newton.worker)
        newton.attempt(lambda: newton.build(race.task, files))
        outputs = newton.attempt(lambda: newton.check(None))
        newton.attempt(lambda: judge.time_until_done(newton))
        rows = [newton.row]
        for contestant in others:
            if newton.alive and contestant.library in libraries:
                with competing(race, contestant) as competitor:
                    competitor.attempt(lambda it=competitor: it.build(race.task, files))
                    competitor.attempt(lambda it=competitor: it.check(outputs))
                    knows = contestant.method.name in UNTIL_DONE
                    timed = judge.time_until_done if knows else judge.time_descent
                    competitor.attempt(lambda it=competitor, timed=timed: timed(it))
                rows.append(competitor.row)
                _tell(competitor)
    return rows


class _Judge:
    """Measures how settled a competitor's activities are, and how long it takes to settle them."""

    def __init__(self, race: Race, worker: Worker) -> None:
        self._race, self._worker = race, worker
        self._activities: Path = cache() / "activities.npz"
        self._reference = math.inf

    def time_until_done(self, competitor: Competitor) -> None:
        """Median time of a solver that knows when it is done; Newton's limits all that follow."""
        ask = competitor.worker.ask
        ask("begin", timeout=COMPILE_LIMIT)
        taken = statistics.median(ask("relax", count=0)["seconds"] for _ in range(_REPEATS))
        if competitor.contestant.method.name == NEWTON:
            self._reference = taken
        self._record(competitor, taken, None, self._unsettled(competitor))

    def time_descent(self, competitor: Competitor) -> None:
        """Looks whenever a tenth more steps are taken; only steps are timed, once compiled."""
        ask = competitor.worker.ask
        ask("begin", timeout=COMPILE_LIMIT)
        steps, spent, unsettled = 0, 0.0, 1.0
        while self._race.tolerance < unsettled < _DIVERGED and spent < self._limit:
            more = max(1, math.ceil(_GROWTH * steps))
            spent += ask("relax", count=more)["seconds"]
            steps += more
            unsettled = self._unsettled(competitor)
        self._record(competitor, spent, steps, unsettled)

    @property
    def _limit(self) -> float:
        return self._race.limit * self._reference

    def _unsettled(self, competitor: Competitor) -> float:
        path = str(self._activities)
        competitor.worker.ask("activities", path=path)
        unsettled = float(self._worker.ask("judge", path=path)["unsettled"])
        return unsettled if math.isfinite(unsettled) else math.inf

    def _record(
        self, competitor: Competitor, seconds: float, steps: int | None, unsettled: float
    ) -> None:
        competitor.row |= {
            "arrived": unsettled <= self._race.tolerance,
            "seconds": seconds,
            "steps": steps,
            # JSON has no infinity: a solver that diverged is unsettled by None.
            "unsettled": unsettled if math.isfinite(unsettled) else None,
            "relative": seconds / self._reference,
        }


def _tell(competitor: Competitor) -> None:
    row = competitor.row
    if competitor.alive:
        what = "arrived" if row["arrived"] else "not settled"
        after = f"after {row['steps']} steps, " if row["steps"] else "after "
        said = f"{what} {after}{row['seconds']:.3g} s"
    print(f"  {competitor.contestant.label}: {row.get('reason') or said}", flush=True)
