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

    **Attributes**: `compiled`, JAX's own, which knows what it costs.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: Any, options: dict[str, Any] | None
    ) -> None:
        arrays, rest = eqx.partition(arguments, eqx.is_array)
        leaves, structure = jax.tree.flatten(arrays)

        def on_arrays(*leaves: Any) -> Any:
            given = eqx.combine(jax.tree.unflatten(structure, leaves), rest)
            made, self._rest = eqx.partition(function(*given), eqx.is_array)
            return made

        self.compiled = jax.jit(on_arrays, compiler_options=options).lower(*leaves).compile()

    def __call__(self, *arguments: Any) -> Any:
        return eqx.combine(
            self.compiled(*jax.tree.leaves(eqx.filter(arguments, eqx.is_array))), self._rest
        )


def program(
    function: Callable[..., Any], *arguments: Any, options: dict[str, Any] | None = None
) -> Program:
    """The program of a function for such arguments: compiled now, or before for the like of them.

    Arguments are alike if `likeness` says so: arrays of the same shapes, and for the rest the same
    values, also where these were made anew, as an optimizer of the same rates is. The programs
    used last are kept, so that many sizes in one process do not fill its memory.
    """
    try:
        key = (likeness(function), likeness(arguments), likeness(options))
    except Unlike:
        return Program(function, arguments, options)
    found = _kept.pop(key, None) or Program(function, arguments, options)
    _kept[key] = found
    if len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)
    return found


def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function, by its program."""
    return program(function, *arguments)(*arguments)
