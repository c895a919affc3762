"""What the text of a value means: `np.int8(@)`, with the value of a valid call in place of `@`.

Values are written as text, so that what a fault says is what was given.
"""

from __future__ import annotations

import math
import pathlib
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from arguments_world import World
from rich.console import Console

import fathomx
import fathomx.diagnostics
import fathomx.layers
import fathomx.report
import fathomx.training


def read(text: str, base: Any, world: World) -> Any:
    """The value that a text stands for, where `base` is valid.

    Besides modules and the functions below it may name all that `world` holds.
    """
    return eval(text.replace("@", "base"), _NAMES, _Locals(base, world))


class _Locals:
    """`base`, and what a world holds: made only where it is named."""

    def __init__(self, base: Any, world: World) -> None:
        self._base, self._world = base, world

    def __getitem__(self, name: str) -> Any:
        if name == "base":
            return self._base
        if name not in dir(self._world):
            raise KeyError(name)
        return getattr(self._world, name)


def first_is(base: Any, strange: Any, kind: Any = "float64") -> np.ndarray:
    """The array with something else in its first place, as another type of array."""
    changed = np.array(base, kind)
    changed.flat[0] = strange
    return changed


def listed(base: Any, strange: Any) -> Any:
    """The array as a list with something else in its first place."""
    return first_is(base, strange, object).tolist()


def ragged(base: Any) -> Any:
    """The array as a list whose last row has another length."""
    return [*np.atleast_1d(base).tolist()[:-1], [1, 2, [3]]]


def masked(base: Any) -> Any:
    """A masked array, whose first value is missing."""
    return np.ma.masked_array(base, first_is(np.zeros(np.shape(base), bool), True, bool))


def longer(base: Any, axis: int) -> Any:
    """The array with its first part along an axis once more."""
    return np.concatenate([base, np.take(np.asarray(base), [0], axis)], axis)


def shorter(base: Any, axis: int) -> Any:
    """The array without its last part along an axis."""
    return np.take(np.asarray(base), range(np.shape(base)[axis] - 1), axis)


def every_other(base: Any) -> Any:
    """The same array as a view that is not contiguous."""
    return np.repeat(base, 2, axis=-1)[..., ::2]


def backward(base: Any) -> Any:
    """The same array, stored from its end to its beginning."""
    return np.ascontiguousarray(base[::-1])[::-1]


def read_only(base: Any) -> Any:
    """The same array, which cannot be written."""
    made = np.array(base)
    made.flags.writeable = False
    return made


def tuples(base: Any) -> Any:
    """The array as tuples of tuples."""
    return tuple(map(tuples, base)) if isinstance(base, list | np.ndarray) else base


def rows(base: Any) -> Any:
    """The rows of an array, one after another."""
    return (row for row in np.atleast_1d(base))


def whole(base: float) -> Any:
    """A number as an integer, where it is one."""
    return int(base) if int(base) == base else base


_FUNCTIONS = (
    *(first_is, listed, ragged, masked, longer, shorter),
    *(every_other, backward, read_only, tuples, rows, whole),
)
_NAMES: dict[str, Any] = {
    **{function.__name__: function for function in _FUNCTIONS},
    "Console": Console,
    "Path": Path,
    "diffrax": diffrax,
    "eqx": eqx,
    "fathomx": fathomx,
    "fx": fathomx,
    "inf": math.inf,
    "jax": jax,
    "jnp": jnp,
    "nan": math.nan,
    "np": np,
    "optax": optax,
    "pathlib": pathlib,
}
