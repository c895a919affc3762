"""Activities that inference starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathomx import checks
from fathomx.checks.names import near
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
