"""The forms that files must have, as functions that find what does not fit.

A form takes a value as JSON gives it and returns nothing, or raises `Misfit`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fathomx.checks.shown import shown

Form = Callable[[Any], None]


class Misfit(ValueError):
    """What does not fit: `where` in the file, what is `wanted`, what was `found`."""

    def __init__(self, wanted: str, found: Any, where: str = "") -> None:
        place = where or "it"
        super().__init__(f"{place} must be {wanted}, not {shown(found)}")
        self.wanted, self.found, self.where = wanted, found, where

    def inside(self, where: str) -> Misfit:
        """The same misfit, seen from what holds it."""
        return Misfit(self.wanted, self.found, f"{where} {self.where}".strip())


def anything(value: Any) -> None:
    """Whatever JSON can hold."""


def number(value: Any) -> None:
    """A number, or null for one that is not known."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise Misfit("a number or null", value)


def position(value: Any) -> None:
    """An integer of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Misfit("an integer of at least 0", value)


def text(value: Any) -> None:
    """A text."""
    if not isinstance(value, str):
        raise Misfit("a text", value)


def plain_value(value: Any) -> None:
    """A text, a number, true, false or null."""
    if not (value is None or isinstance(value, str | int | float)):
        raise Misfit("a text, a number, true, false or null", value)


def listed(form: Form) -> Form:
    """A list, each of whose members has a form."""

    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise Misfit("a list", value)
        for index, member in enumerate(value):
            try:
                form(member)
            except Misfit as misfit:
                raise misfit.inside(f"number {index + 1} of") from None

    return check


def table(value: Any) -> None:
    """Lists of numbers, all of one length."""
    listed(listed(number))(value)
    if len({len(row) for row in value}) > 1:
        raise Misfit("rows of one length", value)


def optional(form: Form) -> Form:
    """A form, or null."""

    def check(value: Any) -> None:
        if value is not None:
            form(value)

    return check


def named(required: Mapping[str, Form], known: Mapping[str, Form] | None = None) -> Form:
    """An object with named values: those that must be there, and known ones that may be.

    What has another name may hold anything: later versions add to files.
    """
    forms = {**(known or {}), **required}

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise Misfit("an object with named values", value)
        for name in required:
            if name not in value:
                raise Misfit(f"an object that holds {name!r}", value)
        for name, form in forms.items():
            if name in value:
                try:
                    form(value[name])
                except Misfit as misfit:
                    raise misfit.inside(name) from None

    return check
