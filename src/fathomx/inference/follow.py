"""Inference over time: what is inferred in one step is clamped in the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from fathomx import checks
from fathomx.checks import gate
from fathomx.graph.clamp import Clamp, clamps_of
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.inference.base import Solver, infer
from fathomx.inference.relaxation import Relaxation
from fathomx.problem.checks import check_clamp, check_names
from fathomx.problem.problem import Problem


@gate
def follow(
    network: Network,
    clamps: Mapping[str, Any],
    carry: Mapping[str, str],
    solver: Solver,
    *,
    initial: Mapping[str, Any] | None = None,
    output_precision: Any = None,
    key: PRNGKeyArray | None = None,
) -> Relaxation:
    """Relaxes a network frame by frame: temporal predictive coding.

        z_t = argmin_z F(z; observed_t, before = z_{t-1})

    One program for all frames, a `jax.lax.scan`; its result is constant under differentiation, as
    that of `fx.infer`.

    **Arguments**

    * `network`: a network of one frame.
    * `clamps`: values by name as for `fx.Problem`, with an axis of frames in front:
      `(frames, batch, ...)`. An `fx.Clamp` has it in its value, and in its mask where that differs
      between frames (a mask of fewer axes holds for all).
    * `carry`: which entry is clamped to which relaxed activity of the frame before, as in
      `{"before": "state"}`.
    * `solver`: for every frame.
    * `initial`: what the carried entries are clamped to in the first frame; the prior means of
      those that are not named.
    * `output_precision`: as for `fx.Problem`.
    * `key`: for solvers that draw random numbers.

    Returns the `Relaxation`s of all frames, each field with an axis of frames in front.

    Raises `ValueError` for names that are unknown or clamped as well as carried, for values without
    one number of frames, and as `fx.Problem` does.

    ```python
    found = fx.follow(network, {"image": frames, "control": u}, {"before": "state"}, fx.Newton())
    found.activities["state"]                                  # (frames, batch, ...)
    ```

    Source: Millidge et al. (2024), doi 10.1371/journal.pcbi.1011183.
    """
    frames = Frames(network, clamps, carry, initial, output_precision)
    keys = None if key is None else jax.random.split(key, frames.count)

    def step(before: Any, now: Any) -> tuple[Any, Relaxation]:
        frame, key = now
        relaxed = infer(frames.problem(network, frame, before), solver, key=key)
        return frames.carried(relaxed), relaxed

    return _scanned(step, frames.start, (frames.clamps, keys))


class Frames:
    """A sequence of problems, in each of which something relaxed in the one before is clamped.

    **Attributes**: `count`, how many; `clamps`, with an axis of frames in front; `start`, what is
    carried over to the first frame.

    Raises `TypeError` and `ValueError` as `follow` does.
    """

    def __init__(
        self,
        network: Network,
        clamps: Mapping[str, Any],
        carry: Mapping[str, str],
        initial: Mapping[str, Any] | None,
        output_precision: Any,
    ) -> None:
        if not isinstance(clamps, Mapping):
            raise TypeError(f"clamps must hold values by name, not {type(clamps).__name__}.")
        self.carry, self.output_precision = dict(carry), output_precision
        initial = {} if initial is None else dict(initial)
        check_names(network, clamps)
        self._check_carry(network, clamps, initial)
        self.clamps = {n: _as_arrays(c, network, n) for n, c in clamps_of(clamps).items()}
        self.count = _length(self.clamps)
        first = next(iter(self.clamps))
        batch = self.clamps[first].value.shape[1 + network.entry(first).batch_axis]
        self.start = self._begun(network, initial, batch)
        # What does not fit is said here, where values can be looked at.
        for name, clamp in self.clamps.items():
            entry, mask = network.entry(name), clamp.mask
            same = mask is not None and mask.shape[:2] == clamp.value.shape[:2]
            if not entry.batch_axis and (mask is None or same):
                joined = _joined(clamp.value), _joined(mask) if same else None
                check_clamp(network, entry, Clamp(*joined), None)
        self.problem(network, {n: _frame(c, 0) for n, c in self.clamps.items()}, self.start)

    def problem(self, network: Network, frame: Mapping[str, Any], before: Entries) -> Problem:
        """The problem of a frame, from what is clamped in it and what is carried over to it."""
        return Problem(network, {**frame, **before}, None, self.output_precision)

    def carried(self, relaxed: Relaxation) -> Entries:
        """What is carried over from a frame to the next."""
        return {before: relaxed.activities[after] for before, after in self.carry.items()}

    def _check_carry(
        self, network: Network, clamps: Mapping[str, Any], initial: Mapping[str, Any]
    ) -> None:
        known = {entry.name for entry in network.entries}
        for name in initial:
            if name not in self.carry:
                raise ValueError(
                    f"initial names {name!r}, which is not carried over; carried are "
                    f"{', '.join(map(repr, self.carry))}."
                )
        for before, after in self.carry.items():
            if {before, after} <= known and network.shapes[before] != network.shapes[after]:
                raise ValueError(
                    f"{before!r} has the shape {network.shapes[before]}, but {after!r}, which is "
                    f"carried over to it, {network.shapes[after]}."
                )
        for name in (*self.carry, *self.carry.values()):
            if name not in known:
                raise ValueError(
                    f"carry={self.carry!r} names {name!r}, which is no entry of the network; its "
                    f"entries are {', '.join(repr(e.name) for e in network.entries)}."
                )
        for name in self.carry:
            if name in clamps:
                raise ValueError(
                    f"{name!r} is clamped by hand and carried over; choose one of them."
                )

    def _begun(self, network: Network, initial: Mapping[str, Any], batch: int) -> Entries:
        """What the carried entries are clamped to in the first frame."""
        begun = network.unroll(None, {}, batch) if network.roots else {}
        start: Entries = {}
        for before in self.carry:
            if before not in initial and before not in begun:
                raise ValueError(
                    f"{before!r} has no prior to begin with; give initial={{{before!r}: values}}."
                )
            given = initial.get(before, begun.get(before))
            start[before] = checks.array(f"{before!r} of initial", given).astype(network.dtype)
        return start


def _length(clamps: Mapping[str, Clamp]) -> int:
    """The number of frames; `ValueError` unless all have one."""
    for name, clamp in clamps.items():
        if clamp.value.ndim < 2:
            raise ValueError(
                f"the value of {name!r} has shape {clamp.value.shape}, but needs axes of frames "
                "and of the batch in front."
            )
    lengths = {name: int(clamp.value.shape[0]) for name, clamp in clamps.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(
            f"the clamps have unlike numbers of frames, {lengths}; give every value an axis of "
            "frames in front, all of one length."
        )
    return next(iter(lengths.values()))


@eqx.filter_jit
def _scanned(step: Any, start: Any, frames: Any) -> Relaxation:
    found: Relaxation = jax.lax.scan(step, start, frames)[1]
    return found


def _as_arrays(clamp: Clamp, network: Network, name: str) -> Clamp:
    value = checks.array_or_keys(f"the value of {name!r}", clamp.value)
    if clamp.mask is None:
        return Clamp(value)
    mask = checks.array(f"the mask of {name!r}", clamp.mask)
    if mask.ndim < value.ndim:
        mask = jnp.broadcast_to(mask, (value.shape[0], *mask.shape))
    return Clamp(value, mask)


def _joined(array: Any) -> Any:
    """Frames and batch as one axis."""
    return array.reshape(-1, *array.shape[2:])


def _frame(clamp: Clamp, index: int) -> Clamp:
    return Clamp(clamp.value[index], None if clamp.mask is None else clamp.mask[index])
