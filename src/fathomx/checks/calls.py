"""What is wrong about a call whose arguments are not those that a function takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from fathomx.checks.names import listed, near

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_OWN = ("self", "cls", "_cls")
_MAKERS = ("__init__", "__new__", "__call__")


def fits(function: Callable[..., Any], given: Collection[Any], options: Mapping[str, Any]) -> bool:
    """Whether a function takes `given` by position and `options` by name."""
    try:
        inspect.signature(function).bind(*given, **options)
    except TypeError:
        return False
    except ValueError:
        # Functions of other languages do not tell.
        return True
    return True


def lack(
    function: Callable[..., Any],
    given: Collection[Any],
    options: Mapping[str, Any],
    error: KeyError,
) -> ValueError | None:
    """The error for a name that a mapping among the arguments lacks; `None` if it is no such."""
    name = error.args[0] if error.args else None
    arguments = inspect.signature(function).bind(*given, **options).arguments
    for argument, value in arguments.items():
        if isinstance(name, str) and isinstance(value, Mapping) and name not in value:
            names = list(map(str, value))
            held = f"it holds {listed(names)}" if names else "it is empty"
            return ValueError(f"{argument} needs {name!r}, but {held}; give it by its name.")
    return None


def misfit(
    function: Callable[..., Any], given: Collection[Any], options: Mapping[str, Any]
) -> TypeError:
    """The error for arguments that do not fit a function."""
    name = ".".join(p for p in function.__qualname__.split(".") if p not in _MAKERS)
    parameters = list(inspect.signature(function).parameters.values())
    count = len(given)
    if parameters and parameters[0].name in _OWN:
        parameters, count = parameters[1:], count - 1
    by_name = [p.name for p in parameters if p.kind in _BY_NAME]
    by_position = [p.name for p in parameters if p.kind in _BY_POSITION]
    takes = f"takes {listed(by_name)}" if by_name else "takes none"
    for option in options:
        if option not in by_name:
            return TypeError(
                f"{name} has no argument {option!r}.{near(option, by_name)} It {takes}."
            )
    if count > len(by_position):
        first = f" ({listed(by_position)})" if by_position else ""
        return TypeError(
            f"{name} takes at most {len(by_position)} arguments by position{first}, not {count}; "
            "give the others by their names."
        )
    for twice in by_position[:count]:
        if twice in options:
            return TypeError(f"{name} is given {twice!r} twice, by position and by name.")
    required = {p.name for p in parameters if p.default is p.empty and p.kind in _BY_NAME}
    missing = [
        p for p in by_name if p in required and p not in by_position[:count] and p not in options
    ]
    return TypeError(f"{name} needs {' and '.join(map(repr, missing))}; it {takes}.")
