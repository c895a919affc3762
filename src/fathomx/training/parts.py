"""Parts of a network that stand still, or that no signal reaches."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array

from fathomx.checks.names import spans
from fathomx.diagnostics.alignment import node_dot
from fathomx.graph.arrival import NEVER
from fathomx.graph.network import Network
from fathomx.problem.problem import Problem
from fathomx.records.values import numbers
from fathomx.training.programs import run

# Beside other nodes: how far weights have moved, and how long their gradient is.
_STILL = 1e-3
# Of backprop's gradient: below, a signal is weak; from the second on, it is whole.
_WEAK, _WHOLE = 1e-2, 0.1
# Roundings that some weights must have moved by before others can be said to stand still.
_MOVED = 1e2


class Parts:
    """Looks for nodes that do not learn though they could, and says why, by kind.

    * `signal`: nodes whose gradient is zero, or no longer beside backprop's than the rounding of
      the network's numbers. State descent leaves that much where a signal is too weak to move
      activities; Adam makes a full step of it.
    * `off`: nodes whose gradient is zero, and backprop's as well.
    * `still`: nodes whose weights have moved, relative to where they began, a thousandth of what
      those with a whole signal have, or no more than rounding; and whose gradient is small: below a
      hundredth of backprop's, or a thousandth of that of another node. A small gradient alone does
      no harm under an optimizer that gives all weights one pace, such as Adam; and weights that an
      optimizer holds by choice have a gradient like any other.

    What is frozen, or without weights, or predicted without being observed or read, has nothing to
    learn. Where no node has a gradient, all has been learned.

    **Arguments**: `problem`, of a batch at the start.
    """

    def __init__(self, problem: Problem) -> None:
        network = problem.network
        self._labels = network.labels
        asked = [
            part.name in problem.explained or problem.is_read(part.name)
            for part in network.predictors()
            for _ in part.labels
        ]
        self._arrivals = np.asarray(problem.arrivals)
        self._sizes = np.sqrt(squared_lengths(network))
        self._rounding = float(np.finfo(network.dtype).eps)
        self._learns = (self._arrivals != NEVER) & asked & (self._sizes > 0)

    def of_epoch(self, record: dict[str, Any]) -> dict[str, str | None]:
        """What is to be said of the record of an epoch, by kind."""
        told = numbers(record["length_to_backprop_per_node"])
        lengths = numbers(record["gradient_length_per_node"])
        moved = numbers(record["weight_change_per_node"])
        silent = self._learns & (lengths == 0) & (lengths > 0).any()
        # Where causes are inferred, there is no backprop that could be silent, too.
        off = silent & np.isnan(told) & np.isfinite(told).any()
        unreached = (silent & ~off) | (self._learns & (told <= self._rounding))
        still = self._still(told, lengths, moved) & ~unreached & ~off
        return {
            "signal": self._unreached_text(unreached),
            "off": self._off_text(off),
            "still": self._still_text(still, told, moved),
        }

    def _still(self, told: np.ndarray, lengths: np.ndarray, moved: np.ndarray) -> np.ndarray:
        known = self._learns & np.isfinite(moved) & np.isfinite(lengths)
        if not known.any() or moved[known].max() < _MOVED * self._rounding:
            return np.zeros_like(known)
        whole = known & ~(told < _WHOLE)
        others = np.median(moved[whole if whole.any() else known])
        steep = np.where(known, lengths, 0) / np.where(known, self._sizes, 1)
        weak = (told < _WEAK) | (steep < _STILL * steep.max())
        return known & weak & (moved <= max(_STILL * others, self._rounding))

    def _unreached_text(self, nodes: np.ndarray) -> str | None:
        if not nodes.any():
            return None
        return (
            f"no signal reaches {self._named(nodes)}: inference brings their weights nothing to "
            "learn from, or no more than rounding leaves; take more inference steps (by state "
            f"descent the signal arrives in step {self._arrivals[nodes].max()} at the earliest), "
            "or use fx.GaussNewton."
        )

    def _off_text(self, nodes: np.ndarray) -> str | None:
        if not nodes.any():
            return None
        return (
            f"no signal reaches {self._named(nodes)}, by backprop neither: look for units that are "
            "always off, lower the learning rate, or use another activation."
        )

    def _still_text(self, nodes: np.ndarray, told: np.ndarray, moved: np.ndarray) -> str | None:
        if not nodes.any():
            return None
        weak = nodes & (told < _WEAK)
        why = (
            f"inference brings them at most {told[weak].max():.2g} of backprop's gradient; take "
            "more inference steps, use fx.GaussNewton,"
            if weak.any()
            else "their gradient is as small, and not for want of inference; use the muPC "
            "parameterization, residual blocks,"
        )
        most = np.nanmax(np.where(self._learns, moved, np.nan))
        return (
            f"part of the network stands still, {self._named(nodes)}: since the start, their "
            f"weights have moved by at most {moved[nodes].max():.1g} of their size, those of "
            f"another node by {most:.1g}, because {why} or an optimizer such as Adam with an "
            "epsilon of 1e-12."
        )

    def _named(self, nodes: np.ndarray) -> str:
        places = np.flatnonzero(nodes)
        named = spans(self._labels, places.tolist())
        return f"{len(places)} of the {int(self._learns.sum())} nodes that learn ({named})"


def squared_lengths(network: Network) -> Array:
    """Of the weights of every node; one program of those that runs share."""
    found: Array = run(_with_itself, network)
    return found


def _with_itself(network: Network) -> Array:
    return node_dot(network, network)
