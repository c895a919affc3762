"""A table of valid calls: for each, the arguments that work and what kind of thing they are."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import arguments_kinds as kinds
from arguments_kinds import NOTHING, Kind, Kinds
from arguments_surface import defined
from arguments_world import World

import fathomx
import fathomx.diagnostics
import fathomx.layers
import fathomx.report
import fathomx.training

ROOTS = {"fx": fathomx, "fathomx": fathomx}


@dataclasses.dataclass(frozen=True)
class Fresh:
    """An argument that is made anew for every call, such as a path at which nothing is."""

    make: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Call:
    """A call that works, and the kinds of its parameters.

    **Fields**: `name`, as it is written; `function`; `arguments`, by parameter; `kinds`, of the
    parameters that are varied; `finish`, what is compared of a result.
    """

    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    kinds: Mapping[str, Kind]
    finish: Callable[[Any], Any]

    def run(self, changed: Mapping[str, Any]) -> Any:
        """Calls it with some other arguments."""
        values = {
            name: value.make() if isinstance(value, Fresh) else value
            for name, value in self.arguments.items()
        }
        function = self.function.make() if isinstance(self.function, Fresh) else self.function
        bound = inspect.signature(function).bind_partial()
        for name, value in {**values, **changed}.items():
            bound.arguments[name] = value
        return self.finish(function(*bound.args, **bound.kwargs))

    def base(self, name: str) -> Any:
        """The valid value of a parameter: as given, else its default."""
        if name in self.arguments:
            value = self.arguments[name]
            return value.make() if isinstance(value, Fresh) else value
        return self.parameters[name].default

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters by name."""
        function = self.function.make() if isinstance(self.function, Fresh) else self.function
        return inspect.signature(function).parameters


class Table:
    """Calls, and what of the public surface they cover.

    `unknown` are parameters whose kind is not known, `broken` says what calls could not be made.
    """

    def __init__(self, world: World) -> None:
        self.calls: list[Call] = []
        self.covered: set[str] = set()
        self.unknown: list[str] = []
        self.broken: list[str] = []
        ours = Kinds(world)
        self._by_name = {
            "key": ours.key(),
            "network": ours.network(),
            "problem": ours.problem(),
            "solver": ours.solver(),
            "rule": ours.rule(),
            "optimizer": ours.optimizer(),
            "schedule": ours.schedule(),
            "precision": ours.schedule(),
            "output": ours.energy(),
            "energy": ours.energy(),
            "parameterization": ours.parameterization(),
            "activation": ours.activation(),
            "objective": ours.objective(),
            "data": ours.data(),
            "role": ours.role(),
            "output_precision": kinds.number(above=0),
        }
        self._by_type = {
            "int": kinds.count(),
            "bool": kinds.flag(),
            "float": kinds.number(above=0),
            "str": kinds.word(),
        }

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        kinds: Mapping[str, Kind | None] | None = None,
        finish: Callable[[Any], Any] = lambda result: result,
    ) -> None:
        """Adds a function or a class by its public name. A kind of `None` is not varied."""
        root, *path = name.split("(")[0].split(".")
        function = ROOTS[root]
        for part in path:
            function = getattr(function, part)
        self.covered.add(defined(function))
        self._add(Call(name, function, arguments or {}, {}, finish), kinds or {})

    def method(
        self,
        owner: Any,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        kinds: Mapping[str, Kind | None] | None = None,
        finish: Callable[[Any], Any] = lambda result: result,
    ) -> None:
        """Adds a method of an object, or of a class."""
        function: Any = getattr(owner, name) if name != "__call__" else owner
        if isinstance(owner, Fresh):
            function, owner = Fresh(lambda: getattr(owner.make(), name)), owner.make()
        self.covered.add(defined(owner, name))
        kind = owner if inspect.isclass(owner) else type(owner)
        shown = f"{kind.__name__}.{name}" if name != "__call__" else f"{kind.__name__}(...)"
        self._add(Call(shown, function, arguments or {}, {}, finish), kinds or {})

    def inner(self, owner: Any, name: str, *arguments: Any) -> None:
        """Adds a method that the library calls itself, with what it has checked: never varied."""
        self.covered.add(defined(owner, name))
        kind = owner if inspect.isclass(owner) else type(owner)
        function = getattr(owner, name) if name != "__call__" else owner
        self.calls.append(
            Call(f"{kind.__name__}.{name}", lambda: function(*arguments), {}, {}, lambda r: None)
        )

    def cover(self, owner: Any, name: str) -> None:
        """Says that a method is covered by another call."""
        self.covered.add(defined(owner, name))

    def result(self, name: str, made: Any) -> None:
        """Adds a class that only the library makes, with one that it has made."""
        kind = ROOTS["fx"]
        for part in name.split(".")[1:]:
            kind = getattr(kind, part)
        assert isinstance(made, kind), name
        self.covered.add(defined(kind))

    def _add(self, call: Call, given: Mapping[str, Kind | None]) -> None:
        known: dict[str, Kind] = {}
        for name, parameter in call.parameters.items():
            kind = given[name] if name in given else self._usual(parameter)
            if name not in given and kind is None:
                self.unknown.append(f"{call.name}({name})")
            if kind is not None:
                known[name] = kind.but(NOTHING.text) if parameter.default is None else kind
        self.calls.append(dataclasses.replace(call, kinds=known))

    def _usual(self, parameter: inspect.Parameter) -> Kind | None:
        named = self._by_name.get(parameter.name)
        annotation = getattr(parameter.annotation, "__forward_arg__", parameter.annotation)
        kind = str(annotation).removesuffix(" | None")
        return named or self._by_type.get(kind)
