"""The gate itself: what a signature asks for is what a call is checked by."""

from __future__ import annotations

import collections.abc
import enum
import functools
import inspect
import itertools
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import jax
import numpy as np
import optax
from jaxtyping import AbstractArray, PRNGKeyArray

from fathomx.checks.arrays import array, array_or_keys, integers, key, values
from fathomx.checks.calls import fits, lack, misfit
from fathomx.checks.kinds import instance, items, mapping, path, truth
from fathomx.checks.numbers import integer, number
from fathomx.checks.optimizers import optimizer
from fathomx.checks.shown import shown

Target = TypeVar("Target", bound=Callable[..., Any])
# Takes the name of an argument and its value; returns the value to go on with, or raises.
Check = Callable[[str, Any], Any]
_ChecksOf = Callable[[Any, Iterable[str]], dict[str, Check]]

_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD
_INTEGERS = {str(np.dtype(kind)) for kind in "bhilBHIL"} | {"int4", "uint4", "int2", "uint2"}
_PATH = {str, os.PathLike[str]}


def gate(target: Target) -> Target:
    """Checks the arguments of a function, or of a class and all of its public methods.

    What a parameter is annotated with says what it takes:

    * `int`, `float`, `bool`, `str`: that kind of value, NumPy's and JAX's included; floats are
      finite. `Annotated[int, check]` is checked by `check(name, value)` in place of it; `Count`,
      `Positive` and the like are of that form.
    * arrays: numbers that make an array; `PRNGKeyArray`: one random key.
    * `Sequence`, `tuple`, `Mapping`, `dict`: of what they are annotated with in turn.
    * `Callable`: what can be called; a class: an object of it.
    * a union: what one of its members takes. `Any` and type variables: anything.

    A value that is the parameter's default passes. The value that a check returns takes the place
    of the one given. A call with an argument that there is not, or without one that is needed, is
    told what the function takes; so is a name that is missing in a mapping.

    ```python
    @gate
    def sample(network: Network, key: PRNGKeyArray, batch: Count | None = None): ...
    ```
    """
    return _through(target, _checks_of)


def open_gate(target: Target) -> Target:
    """The gate for what answers for its own arguments: it tells only what call does not fit."""
    return _through(target, lambda annotated, names: {})


def _through(target: Target, checks_of: _ChecksOf) -> Target:
    if not inspect.isclass(target):
        return _gated(target, target, checks_of)
    for name, member in list(vars(target).items()):
        named_tuple = name == "__new__" and hasattr(target, "_fields")
        if named_tuple or name in ("__init__", "__call__") or not name.startswith("_"):
            _gate_member(target, name, member, checks_of)
    return target


def example(text: str) -> Callable[[Target], Target]:
    """Tells how an object of a class is made, for the sentence where another thing is given."""

    def mark(kind: Target) -> Target:
        _EXAMPLES[kind] = text
        return kind

    return mark


_EXAMPLES: dict[Any, str] = {}


def _gate_member(owner: Any, name: str, member: Any, checks_of: _ChecksOf) -> None:
    wrapped = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    if not isinstance(wrapped, types.FunctionType):
        return
    # What Python writes for dataclasses and named tuples knows nothing of the module that its
    # annotations stand in.
    written = inspect.unwrap(wrapped).__code__.co_filename.startswith("<string")
    gated = _gated(wrapped, owner if written else wrapped, checks_of)
    setattr(owner, name, gated if wrapped is member else type(member)(gated))


def _gated(given: Any, annotated: Any, checks_of: _ChecksOf) -> Any:
    """The function behind the gate; its annotations are those of `annotated`."""
    if getattr(given, "__isabstractmethod__", False):
        return given
    parameters = list(inspect.signature(given).parameters.values())
    kinds = inspect.Parameter
    positional = [p.name for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, _EITHER)]
    further = next((p.name for p in parameters if p.kind == kinds.VAR_POSITIONAL), None)
    defaults = {p.name: p.default for p in parameters}

    # Annotations may name what is defined further down: they are looked at in the first call.
    @functools.cache
    def checks() -> dict[str, Check]:
        # What begins with an underscore is given by the package itself.
        names = [p.name for p in parameters if p.kind != kinds.VAR_KEYWORD and p.name[0] != "_"]
        return checks_of(annotated, names)

    @functools.wraps(given)
    def gated(*arguments: Any, **options: Any) -> Any:
        wanted = checks()
        names = itertools.chain(positional, itertools.repeat(further))
        passed = [
            wanted[name](name, value) if name in wanted and value is not defaults[name] else value
            for name, value in zip(names, arguments, strict=False)
        ]
        for name, value in options.items():
            if name in wanted and value is not defaults[name]:
                options[name] = wanted[name](name, value)
        try:
            return given(*passed, **options)
        except TypeError:
            if fits(given, passed, options):
                raise
        except KeyError as error:
            lacking = lack(given, passed, options, error)
            if lacking is None:
                raise
            raise lacking from None
        raise misfit(given, passed, options)

    return gated


def _checks_of(annotated: Any, names: Iterable[str]) -> dict[str, Check]:
    """The checks of parameters, by their annotations."""
    hints = typing.get_type_hints(annotated, include_extras=True)
    found = {name: _check_of(hints[name]) for name in names if name in hints}
    return {name: check for name, check in found.items() if check is not None}


def _check_of(hint: Any) -> Check | None:
    """The check for an annotation; `None` where anything may be given."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if hint == PRNGKeyArray:
        return key
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        found = next((extra for extra in inside[1:] if callable(extra)), None)
        return found or _check_of(inside[0])
    if origin in (typing.Union, types.UnionType):
        return _union(inside)
    if origin is collections.abc.Callable:
        return _callable
    if origin in _LISTS:
        return _list(inside, tuple if origin is not list else list)
    if origin in (dict, collections.abc.Mapping):
        return _mapping(*inside)
    kind = origin or hint
    if inspect.isclass(kind) and issubclass(kind, AbstractArray):
        return integers if set(kind.dtypes) <= _INTEGERS else array
    if not inspect.isclass(kind) or kind in (object, Any):
        return None
    return lambda name, value: instance(name, value, kind, _EXAMPLES.get(kind, ""))


def _callable(name: str, value: Any) -> Any:
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {shown(value)}.")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or isinstance(value, enum.Enum):
        raise TypeError(f"{name} must be a text, not {shown(value)}.")
    return value


_LISTS = (
    list,
    tuple,
    collections.abc.Sequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_SIMPLE: dict[Any, Check] = {
    optax.GradientTransformation: optimizer,
    int: integer,
    float: number,
    bool: truth,
    str: _text,
    jax.Array: array_or_keys,
    Path: lambda name, value: Path(path(name, value)),
    np.ndarray: values,
    type(None): lambda name, value: instance(name, value, type(None), "None"),
}


def _list(inside: tuple[Any, ...], make: type) -> Check:
    """A list of things of one kind, or a tuple with a kind for each place."""
    several = [hint for hint in inside if hint is not Ellipsis]
    every = [_check_of(hint) for hint in several]

    def check(name: str, value: Any) -> Any:
        found = items(name, value)
        if len(every) > 1 and len(found) != len(every):
            raise ValueError(f"{name} must hold {len(every)} things, not {len(found)}.")
        inner = every if len(every) > 1 else every * len(found)
        label = f"every member of {name}"
        checked = [one(label, v) if one else v for one, v in zip(inner, found, strict=True)]
        return make(checked)

    return check


def _mapping(key: Any, hint: Any) -> Check:
    """Things of one kind by name, or by something else."""
    inner = _check_of(hint)

    def check(name: str, value: Any) -> Mapping[Any, Any]:
        found = mapping(name, value, named=key is str)
        if inner is None:
            return found
        return {k: inner(f"{k!r} of {name}", v) for k, v in found.items()}

    return check


def _union(members: tuple[Any, ...]) -> Check | None:
    """What one of several kinds takes; the sentence of the one that comes nearest."""
    nothing = type(None) in members
    # Unions of unions are flat: a key or a path that may be missing has many members.
    tried: list[Check | None] = []
    for several, check in ((set(typing.get_args(PRNGKeyArray)), key), (_PATH, _as_it_is(path))):
        if several <= set(members):
            members = tuple(member for member in members if member not in several)
            tried.append(check)
    # A number that only a compiled function knows is one that a check of numbers passes.
    members = tuple(m for m in members if not _is_scalar(m)) or members
    tried += [_check_of(member) for member in members if member is not type(None)]
    return _either(tried, nothing)


def _is_scalar(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, AbstractArray) and not hint.dim_str


def _as_it_is(check: Check) -> Check:
    """A check after which what was given is gone on with."""

    def passed(name: str, value: Any) -> Any:
        check(name, value)
        return value

    return passed


def _either(tried: list[Check | None], nothing: bool) -> Check | None:
    """What one of several checks takes, and `None` where nothing may be given."""
    if None in tried:
        return None

    def check(name: str, value: Any) -> Any:
        if value is None and nothing:
            return None
        refusals: list[TypeError | ValueError] = []
        for one in tried:
            assert one is not None
            try:
                return one(name, value)
            except (TypeError, ValueError) as refusal:
                refusals.append(refusal)
        # The kind was right and something else wrong, where there is such a one.
        usual = f"{name} must be "
        near = [r for r in refusals if isinstance(r, ValueError) or not str(r).startswith(usual)]
        if near or len(refusals) == 1:
            raise (near or refusals)[0]
        wanted = [_wanted(name, refusal) for refusal in refusals]
        advice = next((text for r in refusals if (text := str(r).partition("; ")[2])), "")
        given = f"{shown(value)}; {advice}" if advice else f"{shown(value)}."
        raise TypeError(f"{name} must be {' or '.join(wanted)}, not {given}")

    return check


def _wanted(name: str, refusal: Exception) -> str:
    """What a sentence of the form `NAME must be WANTED, not GIVEN.` asks for."""
    return str(refusal).removeprefix(f"{name} must be ").partition(", not ")[0]
