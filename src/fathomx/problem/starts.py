"""Activities that inference starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array

from fathomx import checks
from fathomx.checks import gate
from fathomx.checks.names import near
from fathomx.graph.feedback import ChainFeedback
from fathomx.graph.vector_space import Entries
from fathomx.problem.problem import Problem


def check_start(problem: Problem, at: Mapping[str, Any]) -> Entries:
    """Activities to start from, by name, in the network's type.

    Raises `TypeError` for what is no mapping, and `ValueError` for entries that are unknown, not
    free or of another shape.
    """
    if not isinstance(at, Mapping):
        raise TypeError(
            f"at must hold activities by name, such as {{'hidden': z}}, not {type(at).__name__}."
        )
    network, found = problem.network, {}
    for name, value in at.items():
        if name not in problem.free:
            hint = near(name, problem.free)
            why = "clamped" if name in problem.clamps else "not inferred in this problem"
            raise ValueError(
                f"at names {name!r}, which is {why}; a start is for free entries: "
                f"{', '.join(map(repr, problem.free))} (problem.select(activities) picks "
                f"them).{hint}"
            )
        array = checks.array(f"{name!r} of at", value)
        wanted = network.entry(name).whole_shape(network.shapes[name], problem.batch)
        if array.shape != wanted:
            raise ValueError(
                f"at holds {array.shape} for {name!r}, whose activity is {wanted}; give entries as "
                "in the activities of a relaxation."
            )
        found[name] = array.astype(network.dtype)
    return found


def amortized_start(problem: Problem) -> Entries | None:
    """What the network's amortized predictions say of free entries; `None` if they say nothing."""
    network = problem.network
    known = {name: clamp.value for name, clamp in problem.clamps.items() if clamp.whole}
    waiting = [part for part in network.amortized if part.of in problem.free]
    found: Entries = {}
    while ready := [p for p in waiting if set(network.parents[p.name]) <= {*known}]:
        for part in ready:
            # The first that can tell is believed.
            if part.of not in found:
                found[part.of] = part.predict(network.sources(part, known))
            waiting.remove(part)
        known |= found
    return found or None


@gate
def top_down(problem: Problem) -> Entries:
    """Activities that the feedbacks predict from what is clamped, from the top to the bottom.

        z_of = g(z_parents), where all parents are clamped or predicted so

    A start for inference where what is clamped lies above what is free, as for images that are
    generated from a label: the errors of feedbacks vanish there, as those of entries do at the
    usual start. Of a stack, its end is predicted by a feedback of it, the rest by the feedback of
    its blocks. Entries that no feedback reaches are left out, and start at their own prediction.

    Raises `ValueError` where no feedback predicts anything from what is clamped.

    ```python
    problem = fx.Problem(network, {"output": labels})
    imagined = fx.infer(problem, fx.Newton(), at=fx.top_down(problem))
    ```

    Source: Oliviers et al. (2025), arXiv 2505.23415, for networks whose every node has a feedback.
    """
    backward = _Backward(problem)
    if not backward.activities:
        raise ValueError(
            "no feedback predicts what is free from what is clamped; clamp the entries that the "
            "feedbacks read whole, or start at the bottom-up predictions, without at=."
        )
    return backward.activities


class _Backward:
    """A pass along the feedbacks: what they say of free entries, and what is known by then."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.network = problem, problem.network
        self.activities: Entries = {}
        self.ends: Entries = {}
        self.chains = {f.of: f for f in self.network.feedbacks if isinstance(f, ChainFeedback)}
        for name in problem.given:
            entry = self.network.entry(name)
            value = problem.clamps[name].value
            self.ends[name] = entry.end(value)
            if name in self.chains:
                read = self.chains[name].predict([value])[0]
                self._reach(self.network.parents[name][0], read)
        waiting = [f for f in self.network.feedbacks if f not in self.chains.values()]
        while ready := [f for f in waiting if set(f.parents) <= {*self.ends}]:
            for feedback in ready:
                waiting.remove(feedback)
                if feedback.of not in self.ends:
                    sources = [self.ends[parent] for parent in feedback.parents]
                    self._reach(feedback.of, feedback.predict(sources))

    def _reach(self, name: str, end: Array) -> None:
        """Takes a prediction of what an entry shows for its activity, and goes on from there."""
        if name in self.ends or name not in self.problem.free:
            return
        entry = self.network.entry(name)
        if not entry.batch_axis:
            self.ends[name] = self.activities[name] = end
        elif name in self.chains:
            read, whole = self.chains[name].backwards(end)
            self.ends[name], self.activities[name] = end, whole
            self._reach(self.network.parents[name][0], read)
