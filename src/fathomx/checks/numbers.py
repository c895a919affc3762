"""Checks of numbers: counts, rates, shapes."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import numpy as np

from fathomx.checks.shown import shown

# Counts are positions in arrays, or are handed to compiled functions as 32 bits.
_MOST = 2**31 - 1
_MOST_OF_ALL = 2**63 - 1

Bound = float | int | None


def count(name: str, value: Any, *, least: int = 1, most: int = _MOST, remedy: str = "") -> int:
    """An integer from `least` to `most`; NumPy's and JAX's integers are integers, truth is not.

    ```python
    count("epochs", np.int64(3))    # 3
    count("epochs", 1.5)            # TypeError: epochs must be an integer of at least 1, not 1.5.
    ```
    """
    limited = most not in (_MOST, _MOST_OF_ALL)
    wanted = f"an integer of at least {least}" + (f" and at most {most}" if limited else "")
    sentence = f"{name} must be {wanted}, not {shown(value)}{remedy and f'; {remedy}'}."
    if isinstance(value, bool | np.bool_ | str | bytes | jax.core.Tracer) or _is_no_number(value):
        raise TypeError(sentence)
    try:
        whole = operator.index(value)
    except TypeError:
        raise TypeError(sentence) from None
    if not least <= whole <= most:
        raise ValueError(sentence)
    return whole


def integer(name: str, value: Any) -> int:
    """An integer of any sign and size."""
    try:
        return count(name, value, least=-_MOST_OF_ALL, most=_MOST_OF_ALL)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {shown(value)}.") from None
    except ValueError:
        raise ValueError(f"{name} must be an integer of 64 bits, not {shown(value)}.") from None


def number(
    name: str,
    value: Any,
    *,
    above: Bound = None,
    least: Bound = None,
    below: Bound = None,
    most: Bound = None,
    remedy: str = "",
) -> Any:
    """A finite real number in a range, as a Python number; a traced one is returned as it is.

    ```python
    number("rate", jnp.float32(0.5), above=0)    # 0.5
    number("rate", "fast", above=0)              # TypeError: rate must be a positive, finite ...
    ```
    """
    wanted = _range(above, least, below, most).rstrip()
    sentence = f"{name} must be {wanted}, not {shown(value)}{remedy and f'; {remedy}'}."
    if isinstance(value, bool | str | bytes) or _is_no_number(value):
        raise TypeError(sentence)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        if value.ndim or (value.dtype.kind not in "iuf" and str(value.dtype) not in _SMALL_FLOATS):
            raise TypeError(sentence)
        if isinstance(value, jax.core.Tracer):
            return value
        value = np.asarray(value).item()
    if not isinstance(value, int | float):
        raise TypeError(sentence)
    try:
        real = float(value)
    except OverflowError:
        raise ValueError(sentence) from None
    fits = (
        math.isfinite(real)
        and (above is None or real > above)
        and (least is None or real >= least)
        and (below is None or real < below)
        and (most is None or real <= most)
    )
    if not fits:
        raise ValueError(sentence)
    return value


def shape(name: str, value: Any, *, axes: int | None = None) -> tuple[int, ...]:
    """Sizes of at least 1, one for each axis; a single integer is one axis.

    ```python
    shape("input_shape", 784)            # (784,)
    shape("input_shape", (28, 28, 1))    # (28, 28, 1)
    ```
    """
    wanted = "sizes of at least 1" if axes is None else f"{axes} sizes of at least 1"
    example = {3: "(32, 32, 3)", 1: "784"}.get(axes or 0, "(28, 28)")
    sentence = f"{name} must be {wanted}, such as {example}, not {shown(value)}."
    if isinstance(value, list | tuple):
        sizes = tuple(value)
    else:
        try:
            sizes = (operator.index(value),)
        except TypeError:
            raise TypeError(sentence) from None
    try:
        found = tuple(count(name, size) for size in sizes)
    except TypeError:
        raise TypeError(sentence) from None
    except ValueError:
        raise ValueError(sentence) from None
    if axes is not None and len(found) != axes:
        raise ValueError(sentence)
    return found


_SMALL_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def _is_no_number(value: Any) -> bool:
    """Whether an array is one of truth values, or masked."""
    if isinstance(value, np.ma.MaskedArray):
        return True
    return isinstance(value, np.ndarray | np.generic | jax.Array) and value.dtype == np.bool_


def _range(above: Bound, least: Bound, below: Bound, most: Bound) -> str:
    if above == 0 and below is None and most is None:
        return "a positive, finite number"
    bounds = [("above", above), ("of at least", least), ("below", below), ("of at most", most)]
    return "a finite number " + " and ".join(f"{w} {b}" for w, b in bounds if b is not None)


Count = Annotated[int, count]
Bytes = Annotated[int, functools.partial(count, most=_MOST_OF_ALL)]
CountOrZero = Annotated[int, functools.partial(count, least=0)]
Positive = Annotated[float, functools.partial(number, above=0)]
PartOfOne = Annotated[float, functools.partial(number, above=0, most=1)]
NotNegative = Annotated[float, functools.partial(number, least=0)]
Seed = Annotated[int, functools.partial(count, least=0, most=2**32 - 1)]
Shape = Annotated[Sequence[int], shape]
Sizes = Annotated[tuple[int, int], functools.partial(shape, axes=2)]
