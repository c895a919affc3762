"""A table of valid calls: for each, the arguments that work and what kind of thing they are."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import arguments_kinds as kinds
from arguments_kinds import NOTHING, Kind
from arguments_surface import defined

import fathomx
import fathomx.diagnostics
import fathomx.layers
import fathomx.report
import fathomx.training

Kinds = Mapping[str, Kind | None]
Finish = Callable[[Any], Any]
_ROOTS = {"fx": fathomx, "fathomx": fathomx}


@dataclasses.dataclass(frozen=True)
class Fresh:
    """An argument that is made anew for every call, such as a path at which nothing is."""

    make: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Call:
    """A call that works.

    **Fields**: `name`, as it is written; `function`; `arguments`, by parameter; `kinds`, of the
    parameters that are varied; `finish`, what is compared of a result.
    """

    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    kinds: Mapping[str, Kind]
    finish: Finish

    def run(self, changed: Mapping[str, Any]) -> Any:
        """Calls it with some other arguments."""
        bound = inspect.signature(self.function).bind_partial()
        for name in self.parameters:
            if name in changed:
                bound.arguments[name] = changed[name]
            elif name in self.arguments:
                bound.arguments[name] = self.base(name)
        return self.finish(self.function(*bound.args, **bound.kwargs))

    def base(self, name: str) -> Any:
        """The valid value of a parameter: as given, else its default."""
        if name not in self.arguments:
            return self.parameters[name].default
        value = self.arguments[name]
        return value.make() if isinstance(value, Fresh) else value

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters by name."""
        return inspect.signature(self.function).parameters


class Table:
    """Calls, and what of the public surface they cover.

    `unknown` are parameters whose kind is not known, `broken` says what calls could not be made.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.covered: set[str] = set()
        self.unknown: list[str] = []
        self.broken: list[str] = []

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        kinds: Kinds | None = None,
        finish: Finish = lambda result: result,
    ) -> None:
        """Adds a function or a class by its public name; what follows a `(` is only shown.

        A kind of `None` is not varied.
        """
        function: Any = _found(name.split("(")[0])
        self.covered.add(defined(function))
        self._add(Call(name, function, arguments or {}, {}, finish), kinds or {})

    def method(
        self,
        owner: Any,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        kinds: Kinds | None = None,
        finish: Finish = lambda result: result,
    ) -> None:
        """Adds a method of an object, or of a class."""
        self.covered.add(defined(owner, name))
        function, kind = _method(owner, name)
        shown = f"{kind}(...)" if name == "__call__" else f"{kind}.{name}"
        self._add(Call(shown, function, arguments or {}, {}, finish), kinds or {})

    def inner(self, owner: Any, name: str, *arguments: Any) -> None:
        """Adds a method that the library calls itself, with what it has checked: never varied."""
        self.covered.add(defined(owner, name))
        function, kind = _method(owner, name)
        call = Call(f"{kind}.{name}", lambda: function(*arguments), {}, {}, lambda result: None)
        self.calls.append(call)

    def refusing(self, owner: Any, name: str, *arguments: Any) -> None:
        """Adds a method whose only answer is to refuse."""

        def refused() -> None:
            try:
                getattr(owner, name)(*arguments)
            except (TypeError, ValueError):
                return
            raise AssertionError(f"{name} was not refused.")

        self.covered.add(defined(owner, name))
        self.calls.append(Call(f"{type(owner).__name__}.{name}", refused, {}, {}, lambda _: None))

    def result(self, name: str, made: Any) -> None:
        """Adds a class that only the library makes, with one that it has made."""
        kind = _found(name)
        assert isinstance(made, kind), name
        self.covered.add(defined(kind))

    def _add(self, call: Call, given: Kinds) -> None:
        known: dict[str, Kind] = {}
        for name, parameter in call.parameters.items():
            kind = given[name] if name in given else _usual(parameter)
            if name not in given and kind is None:
                self.unknown.append(f"{call.name}({name})")
            if kind is not None:
                known[name] = kind.but(NOTHING) if parameter.default is None else kind
        self.calls.append(dataclasses.replace(call, kinds=known))


def _found(name: str) -> Any:
    root, *path = name.split(".")
    found: Any = _ROOTS[root]
    for part in path:
        found = getattr(found, part)
    return found


def _method(owner: Any, name: str) -> tuple[Callable[..., Any], str]:
    kind = owner if inspect.isclass(owner) else type(owner)
    return owner if name == "__call__" else getattr(owner, name), kind.__name__


def _usual(parameter: inspect.Parameter) -> Kind | None:
    """The kind of a parameter by its name, else by its type."""
    annotation = getattr(parameter.annotation, "__forward_arg__", parameter.annotation)
    kind = str(annotation).removesuffix(" | None")
    return _BY_NAME.get(parameter.name) or _BY_TYPE.get(kind)


_BY_NAME = {
    "activation": kinds.activation(),
    "data": kinds.data(),
    "energy": kinds.energy(),
    "key": kinds.key(),
    "network": kinds.network(),
    "objective": kinds.objective(),
    "optimizer": kinds.optimizer(),
    "output": kinds.energy(),
    "output_precision": kinds.number(above=0),
    "parameterization": kinds.parameterization(),
    "precision": kinds.schedule(),
    "problem": kinds.problem(),
    "role": kinds.role(),
    "rule": kinds.rule(),
    "schedule": kinds.schedule(),
    "solver": kinds.solver(),
    "start": kinds.linearization(),
}
_BY_TYPE = {
    "Bytes": kinds.byte_count(),
    "Count": kinds.count(),
    "CountOrZero": kinds.count(0),
    "Decay": kinds.number(above=0, below=1),
    "Function": kinds.function(),
    "Name": kinds.word(),
    "NotNegative": kinds.number(least=0),
    "OfOne": kinds.function().also("lambda: 3"),
    "OfTwo": kinds.function().also("lambda: 3"),
    "Optimizer": kinds.optimizer(),
    "PartOfOne": kinds.number(above=0).also("1.5"),
    "Positive": kinds.number(above=0),
    "Seed": kinds.count(0),
    "bool": kinds.flag(),
    "float": kinds.number(above=0),
    "int": kinds.count(),
    "str": kinds.word(),
}
