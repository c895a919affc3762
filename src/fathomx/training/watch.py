"""What is said about a run while it goes on, because it may not be what its user wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fathomx.learning import LearningRule, PredictiveCoding
from fathomx.learning.backprop import is_feedforward
from fathomx.problem.problem import Problem
from fathomx.records.values import numbers
from fathomx.training.parts import Parts

# Of the gradient that inference starts from, what is left of the worst example of most batches.
_FAR_AWAY = 2.0
# Times the first strength.
_RUN_AWAY = 5.0


class Watch:
    """Looks at the records of a run and says what is wrong, each kind of thing once.

    * `inference`: the median example is left with more of the energy gradient than inference
      started from, or the worst example of most batches with more than twice as much.
    * `strength`: it is more than five times what it was at first.
    * `signal`, `off`, `still`: parts of the network that do not learn (`Parts`).

    **Arguments**: `problem`, of a batch at the start; `known`, kinds that have been said before.
    """

    def __init__(self, problem: Problem, known: Iterable[str] = ()) -> None:
        self._labels = problem.network.labels
        self._parts = Parts(problem)
        self._said = set(known)
        self._first_strength: float | None = None

    def of_steps(self, record: dict[str, Any]) -> dict[str, str]:
        """What is to be said after some steps, by kind."""
        return self._new({"inference": self._inference(record), "strength": self._strength(record)})

    def of_epoch(self, record: dict[str, Any]) -> dict[str, str]:
        """What is to be said after an epoch, by kind."""
        return self._new(self._parts.of_epoch(record))

    def _new(self, found: Mapping[str, str | None]) -> dict[str, str]:
        new = {kind: text for kind, text in found.items() if text and kind not in self._said}
        self._said |= set(new)
        return new

    def _inference(self, record: dict[str, Any]) -> str | None:
        left, worst = _median(record["unsettled_median"]), _median(record["unsettled_max"])
        if left is None or worst is None or (left <= 1 and worst <= _FAR_AWAY):
            return None
        return (
            f"inference moves away from equilibrium: it leaves the median example with {left:.3g} "
            f"and the worst with {worst:.3g} times the energy gradient that it started from, and "
            f"most energy at node "
            f"{self._largest(record['energy_per_node'])!r}; lower the activity rate, hold a "
            "smaller strength, or use fx.GaussNewton or fx.Newton."
        )

    def _strength(self, record: dict[str, Any]) -> str | None:
        now = _median(record["strength"])
        if now is None:
            return None
        if self._first_strength is None:
            self._first_strength = now
        if not 0 < self._first_strength * _RUN_AWAY < now:
            return None
        return (
            f"the strength runs away: it was {self._first_strength:.3g} and is {now:.3g}, with "
            f"most energy at node {self._largest(record['energy_per_node'])!r}; hold it with "
            "fx.HoldStrength(0.1), or lower the learning rate."
        )

    def _largest(self, energies: Sequence[float | None]) -> str:
        known = numbers(list(energies))
        return self._labels[int(np.nanargmax(known))] if np.isfinite(known).any() else "unknown"


def expected(problem: Problem, rule: LearningRule) -> tuple[str, ...]:
    """Kinds of things that are no surprise, so that nobody needs to be told.

    Samples of the activities are not settled, and where causes are inferred or predicted from
    above, a strength that grows is learning itself.
    """
    samples = isinstance(rule, PredictiveCoding) and rule.solver.kept > 1
    inferring = not is_feedforward(problem)
    return ("inference",) * samples + ("strength",) * inferring


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
