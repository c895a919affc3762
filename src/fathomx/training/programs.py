"""Compiled programs that several runs in one process share."""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable
from typing import Any

import equinox as eqx
import jax

from fathomx.training.likeness import Unlike, likeness

# Of each run some five: the steps, the scores, the probe, twice where the last batch is smaller.
_MOST_KEPT = 24

_kept: collections.OrderedDict[Hashable, Program] = collections.OrderedDict()


class Program:
    """A function compiled for arguments of certain shapes; what is no array is part of it.

    The arrays of the arguments at `given_up` are gone after a call: what is returned takes their
    place in memory.

    **Attributes**: `compiled`, JAX's own, which knows what it costs.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Any,
        options: dict[str, Any] | None,
        given_up: tuple[int, ...] = (),
    ) -> None:
        arrays, rest = eqx.partition(arguments, eqx.is_array)
        leaves, structure = jax.tree.flatten(arrays)

        def on_arrays(*leaves: Any) -> Any:
            given = eqx.combine(jax.tree.unflatten(structure, leaves), rest)
            made, self._rest = eqx.partition(function(*given), eqx.is_array)
            return made

        jitted = jax.jit(on_arrays, compiler_options=options, donate_argnums=given_up)
        self.compiled = jitted.lower(*leaves).compile()

    def __call__(self, *arguments: Any) -> Any:
        return eqx.combine(
            self.compiled(*jax.tree.leaves(eqx.filter(arguments, eqx.is_array))), self._rest
        )


def program(
    function: Callable[..., Any],
    *arguments: Any,
    options: dict[str, Any] | None = None,
    given_up: Any = (),
) -> Program:
    """The program of a function for such arguments: compiled now, or before for the like of them.

    `given_up`: what of the arguments is not used any more after a call, a tree of their arrays.

    Arguments are alike if `likeness` says so: arrays of the same shapes, and for the rest the same
    values, also where these were made anew, as an optimizer of the same rates is. The programs
    used last are kept, so that many sizes in one process do not fill its memory.
    """
    gone = {id(array) for array in jax.tree.leaves(eqx.filter(given_up, eqx.is_array))}
    leaves = jax.tree.leaves(eqx.filter(arguments, eqx.is_array))
    places = tuple(place for place, array in enumerate(leaves) if id(array) in gone)
    try:
        key = (likeness(function), likeness(arguments), likeness(options), places)
    except Unlike:
        return Program(function, arguments, options, places)
    found = _kept.pop(key, None) or Program(function, arguments, options, places)
    _kept[key] = found
    if len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)
    return found


def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function, by its program."""
    return program(function, *arguments)(*arguments)
