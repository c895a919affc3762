"""What two computations must share so that one compiled program serves both."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import types
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np

# Functions of these packages mean the same whenever they are looked at; those of others may use
# what was changed in between, as in a notebook.
_FIXED = ("fathomx", "optax", "jax", "jaxlib", "equinox", "diffrax", "numpy", "builtins", "math")
# What only looks at the arguments of the function that it wraps.
_GUARDS = ("fathomx.checks.gate", "jaxtyping._decorator")
# How a learning rate is called inside the optimizers and schedules of Optax.
_RATES = ("learning_rate", "step_size", "init_value")
_MOST_PARTS = 20_000
_LARGEST_CONSTANT = 1_000_000


class Unlike(Exception):
    """A thing that cannot be compared: what it computes may change without a trace."""


def likeness(thing: Any) -> Hashable:
    """A value that is equal for two things if they compile to the same program.

    Arrays in the fields of modules are inputs of a program: of them, shape, type and place count.
    What functions hold on to (closures, defaults, and of functions that are not a library's the
    globals that they name) becomes part of the program, so that its values count.

    Raises `Unlike` for what cannot be compared.
    """
    return _Likeness().of(thing, constant=False)


class _Likeness:
    def __init__(self) -> None:
        self._open: dict[int, int] = {}
        self._parts = 0

    def of(self, thing: Any, constant: bool) -> Hashable:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise Unlike
        if id(thing) in self._open:
            # A function that names itself: which of those that are being looked at.
            return ("again", self._open[id(thing)])
        self._open[id(thing)] = len(self._open)
        try:
            return self._of(thing, constant)
        finally:
            del self._open[id(thing)]

    def _of(self, thing: Any, constant: bool) -> Hashable:
        if isinstance(thing, jax.Array | np.ndarray):
            return _array(thing, constant or isinstance(thing, np.ndarray))
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        if isinstance(thing, types.MethodType):
            return ("method", self.of(thing.__func__, True), self.of(thing.__self__, constant))
        if isinstance(thing, functools.partial):
            parts = (thing.func, thing.args, thing.keywords)
            return ("partial", *(self.of(part, True) for part in parts))
        if isinstance(thing, type):
            return self._class(thing)
        if isinstance(thing, eqx.Module) or dataclasses.is_dataclass(thing):
            # Static fields are part of the program, whatever they hold.
            fields = (
                (
                    f.name,
                    self.of(getattr(thing, f.name), constant or bool(f.metadata.get("static"))),
                )
                for f in dataclasses.fields(thing)
                if hasattr(thing, f.name)
            )
            return ("module", self.of(type(thing), True), *fields)
        if isinstance(thing, dict):
            return ("dict", *((k, self.of(v, constant)) for k, v in thing.items()))
        if isinstance(thing, tuple | list):
            return (type(thing), *(self.of(part, constant) for part in thing))
        if isinstance(thing, set | frozenset):
            return ("set", frozenset(self.of(part, constant) for part in thing))
        return _plain(thing)

    def _function(self, thing: types.FunctionType) -> Hashable:
        if thing.__globals__.get("__name__") in _GUARDS and hasattr(thing, "__wrapped__"):
            return self.of(thing.__wrapped__, True)
        cells = tuple(self.of(value, True) for _, value in _cells(thing))
        held = (thing.__defaults__, thing.__kwdefaults__)
        own = () if _is_fixed(thing.__module__) else tuple(self._globals(thing))
        return ("function", thing.__code__, cells, self.of(held, True), own)

    def _globals(self, thing: types.FunctionType) -> Iterator[Hashable]:
        for name in sorted(_named(thing.__code__)):
            if name in thing.__globals__:
                yield name, self.of(thing.__globals__[name], True)

    def _class(self, thing: type) -> Hashable:
        if _is_fixed(thing.__module__):
            return thing
        held = (value for value in vars(thing).values() if isinstance(value, types.FunctionType))
        return (thing, *(self.of(value, True) for value in held))


def rates_of(thing: Any) -> list[Any]:
    """The learning rates inside an optimizer, in a fixed order."""
    found: list[Any] = []

    def note(value: Any) -> Any:
        found.append(value)
        return value

    _rebuilt(thing, note)
    return found


def with_rates(thing: Any, rates: list[Any]) -> Any:
    """The same optimizer with other learning rates, such as traced ones."""
    given = iter(rates)
    return _rebuilt(thing, lambda value: next(given))


def without_rates(thing: Any) -> Any:
    """The same optimizer with learning rates of zero, the like of those with any others."""
    return _rebuilt(thing, lambda value: 0.0)


def _rebuilt(thing: Any, replace: Callable[[Any], Any]) -> Any:
    """A copy of functions, tuples and what they hold, each learning rate replaced."""
    if isinstance(thing, tuple):
        parts = [_rebuilt(part, replace) for part in thing]
        return type(thing)(*parts) if hasattr(thing, "_fields") else tuple(parts)
    if isinstance(thing, list):
        return [_rebuilt(part, replace) for part in thing]
    if not isinstance(thing, types.FunctionType) or not thing.__closure__:
        return thing
    cells = [
        replace(value) if name in _RATES and _is_rate(value) else _rebuilt(value, replace)
        for name, value in _cells(thing)
    ]
    made = types.FunctionType(
        thing.__code__,
        thing.__globals__,
        thing.__name__,
        thing.__defaults__,
        tuple(types.CellType(value) for value in cells),
    )
    made.__kwdefaults__ = thing.__kwdefaults__
    if hasattr(thing, "__wrapped__"):
        made.__wrapped__ = _rebuilt(thing.__wrapped__, replace)  # type: ignore[attr-defined]
    return made


def _cells(thing: types.FunctionType) -> list[tuple[str, Any]]:
    """What a function holds on to, by name; a cell that is still empty cannot be compared."""
    try:
        held = [cell.cell_contents for cell in thing.__closure__ or ()]
    except ValueError:
        raise Unlike from None
    return list(zip(thing.__code__.co_freevars, held, strict=True))


def _named(code: types.CodeType) -> set[str]:
    """The names of globals and attributes in a function and in those inside of it."""
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*(_named(c) for c in inner))


def _is_rate(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number or (isinstance(value, jax.Array) and value.ndim == 0)


def _is_fixed(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _FIXED


def _array(array: Any, constant: bool) -> Hashable:
    kind = (array.shape, array.dtype, getattr(array, "weak_type", False))
    if not constant:
        place = array.sharding if array.committed else None
        return ("array", *kind, place)
    if array.size > _LARGEST_CONSTANT:
        raise Unlike
    if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return ("constant", *kind, hashlib.sha256(np.asarray(array).tobytes()).digest())


def _plain(thing: Any) -> Hashable:
    """What is compared by its value, together with its type: 1 is not True."""
    if isinstance(thing, types.ModuleType | types.BuiltinFunctionType | enum.Enum):
        return thing
    compared = "__eq__" in {name for kind in type(thing).__mro__[:-1] for name in vars(kind)}
    compared = compared or thing is None
    wrapped = type(thing).__name__ in ("PjitFunction", "custom_jvp", "custom_vjp", "ufunc")
    if not (compared or wrapped):
        raise Unlike
    try:
        hash(thing)
    except TypeError:
        raise Unlike from None
    return (type(thing), thing)
