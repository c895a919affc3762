"""All that is public: every function and class, and every public method of these classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import fathomx as fx
import fathomx.diagnostics
import fathomx.layers
import fathomx.report
import fathomx.training

MODULES = {
    "fx": fx,
    "fx.models": fx.models,
    "fx.data": fx.data,
    "fx.metrics": fx.metrics,
    "fx.theory": fx.theory,
    "fathomx.diagnostics": fathomx.diagnostics,
    "fathomx.report": fathomx.report,
    "fathomx.layers": fathomx.layers,
    "fathomx.training": fathomx.training,
}
_CALL = "__call__"


def surface() -> dict[str, str]:
    """Where each public function, class and method is defined, and under which name it is found.

    A method that several classes inherit counts once. Left out is what cannot be called by itself:
    abstract classes and methods, exceptions, enumerations.
    """
    found: dict[str, str] = {}
    for shown, thing in _public():
        if not inspect.isclass(thing):
            found.setdefault(defined(thing), shown)
            continue
        if issubclass(thing, BaseException):
            continue
        if not inspect.isabstract(thing) and not issubclass(thing, fx.Role):
            found.setdefault(defined(thing), shown)
        for name in dir(thing):
            if _is_method(thing, name):
                found.setdefault(defined(thing, name), f"{shown}.{name}")
    return found


def defined(thing: Any, name: str | None = None) -> str:
    """The place where a function, a class, or the method of a class is defined."""
    if name is None:
        return f"{thing.__module__}.{thing.__qualname__}"
    kind = thing if inspect.isclass(thing) else type(thing)
    owner = next(c for c in kind.__mro__ if name in vars(c))
    return f"{owner.__module__}.{owner.__qualname__}.{name}"


def _public() -> Iterator[tuple[str, Any]]:
    for module, content in MODULES.items():
        for name in sorted(dir(content)):
            thing = getattr(content, name)
            ours = getattr(thing, "__module__", "").startswith("fathomx")
            if not name.startswith("_") and ours and callable(thing):
                yield f"{module}.{name}", thing


def _is_method(kind: type, name: str) -> bool:
    if name.startswith("_") and name != _CALL:
        return False
    owner = next((c for c in kind.__mro__ if name in vars(c)), None)
    if owner is None or not owner.__module__.startswith("fathomx"):
        return False
    if isinstance(inspect.getattr_static(kind, name), property):
        return False
    found = getattr(kind, name)
    return callable(found) and not getattr(found, "__isabstractmethod__", False)
