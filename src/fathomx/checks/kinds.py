"""Checks of what an argument is: an object of a class, a function, several of something."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

import jax
import numpy as np

from fathomx.checks.calls import fits
from fathomx.checks.shown import shown

Kind = TypeVar("Kind")

# Of file systems everywhere.
_LONGEST_NAME = 255


def instance(name: str, value: Any, kind: type[Kind], example: str = "") -> Kind:
    """An object of a class; `example` says how one is made.

    ```python
    instance("rule", fx.Backprop, fx.LearningRule, "fx.Backprop()")
    # TypeError: rule must be a LearningRule such as fx.Backprop(), not the class Backprop; call it.
    ```
    """
    if isinstance(value, kind):
        return value
    a = "an" if kind.__name__[0] in "AEIOU" else "a"
    such = f" such as {example}" if example else ""
    call = "; call it" if isinstance(value, type) and issubclass(value, kind) else ""
    raise TypeError(f"{name} must be {a} {kind.__name__}{such}, not {shown(value)}{call}.")


def function(name: str, value: Any, example: str = "", *, takes: int | None = None) -> Any:
    """Something that can be called, and is no class that still has to be built.

    `takes` is the number of arguments that it must take.
    """
    if not callable(value) or isinstance(value, type):
        such = f" such as {example}" if example else ""
        call = "; call it" if isinstance(value, type) else ""
        raise TypeError(f"{name} must be a function{such}, not {shown(value)}{call}.")
    if takes is not None and not fits(value, range(takes), {}):
        raise TypeError(f"{name} must be a function of {takes} arguments, not {shown(value)}.")
    return value


Function = Annotated[Callable[..., Any], function]
OfOne = Annotated[Callable[..., Any], functools.partial(function, takes=1)]
OfTwo = Annotated[Callable[..., Any], functools.partial(function, takes=2)]


def truth(name: str, value: Any) -> bool:
    """True or false; text, which would count as true, is refused."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, not {shown(value)}.")


def _truth_or_array(name: str, value: Any) -> Any:
    if isinstance(value, jax.Array) and value.dtype == np.bool_ and not value.shape:
        return value
    return truth(name, value)


# True or false, or an array that says so, which may be traced.
Truth = Annotated[bool | jax.Array, _truth_or_array]


def word(name: str, value: Any, example: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text such as {example!r}, not {shown(value)}.")
    if not value:
        raise ValueError(f"{name} is empty; give a text such as {example!r}.")
    return value


def path(name: str, value: Any, example: str = "runs/mine") -> str:
    """The text of a path, which is a text or has one, as `pathlib.Path` does."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path such as {example!r}, not {shown(value)}.")
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path of text, not {shown(text)}.")
    if "\0" in text:
        raise ValueError(f"{name} must be a path without null characters, not {shown(text)}.")
    if max(len(os.fsencode(part)) for part in text.split(os.sep)) > _LONGEST_NAME:
        raise ValueError(f"{name} must have names of at most 255 bytes, not {shown(text)}.")
    return word(name, text, example)


def _name(name: str, value: Any) -> str:
    return word(name, value, "hidden")


Name = Annotated[str, _name]


def items(name: str, value: Any, example: str = "") -> tuple[Any, ...]:
    """Several things in an order, as a tuple; a text is one thing."""
    one = isinstance(value, str | bytes | Mapping | set | frozenset)
    if one or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        such = f" such as {example}" if example else ""
        raise TypeError(f"{name} must be a list{such}, not {shown(value)}.")
    return tuple(value)


def mapping(name: str, value: Any, example: str = "", *, named: bool = True) -> Mapping[Any, Any]:
    """Things by name; `named=False` for things by something that is no text."""
    if not isinstance(value, Mapping):
        such = f" such as {example}" if example else ""
        raise TypeError(f"{name} must be a dictionary{such}, not {shown(value)}.")
    for key in value:
        if named and not isinstance(key, str):
            raise TypeError(f"the names in {name} must be texts, not {shown(key)}.")
    return value
