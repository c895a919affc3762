"""What Equinox makes of a class's fields, its signature, for the API reference.

Griffe reads the source and knows of dataclasses only where a class is decorated as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import griffe


class Fields(griffe.Extension):
    """Adds the constructor to every class that derives from `equinox.Module` and has none."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        for defined in _classes(pkg):
            if "__init__" not in defined.all_members and _is_module(defined):
                _add_constructor(defined)


def _classes(part: griffe.Module | griffe.Class) -> Iterator[griffe.Class]:
    for member in part.members.values():
        if member.is_alias:
            continue
        if member.is_class:
            yield member
        if member.is_module or member.is_class:
            yield from _classes(member)


def _ancestry(defined: griffe.Class) -> list[griffe.Class]:
    try:
        return [defined, *defined.mro()]
    except ValueError:
        return [defined]


def _is_module(defined: griffe.Class) -> bool:
    bases = (str(base) for ancestor in _ancestry(defined) for base in ancestor.bases)
    return any(base.partition("[")[0] in ("eqx.Module", "equinox.Module") for base in bases)


def _add_constructor(defined: griffe.Class) -> None:
    parameters = {"self": griffe.Parameter("self", kind=griffe.ParameterKind.positional_only)}
    for ancestor in reversed(_ancestry(defined)):
        for member in ancestor.members.values():
            if member.is_alias or not member.is_attribute or member.annotation is None:
                continue
            if "property" in member.labels or str(member.annotation).startswith("ClassVar"):
                continue
            parameters[member.name] = _parameter(member)
    if any(name.startswith("_") for name in parameters):
        return  # Such a class is made by the library alone.
    constructor = griffe.Function(
        "__init__", parameters=griffe.Parameters(*parameters.values()), returns="None"
    )
    defined.set_member("__init__", constructor)


def _parameter(member: griffe.Attribute) -> griffe.Parameter:
    default = member.value
    if isinstance(default, griffe.ExprCall):
        given = {a.name: a.value for a in default.arguments if isinstance(a, griffe.ExprKeyword)}
        default = given.get("default")
        if "default_factory" in given:
            default = griffe.ExprCall(given["default_factory"], [])
    kind = griffe.ParameterKind.positional_or_keyword
    return griffe.Parameter(member.name, annotation=member.annotation, kind=kind, default=default)
