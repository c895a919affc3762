"""`--vary`: options that take several values, or any of a range."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import click

from fathomx.checks.names import unknown
from fathomx.command_line.beginning import job_of
from fathomx.command_line.job import Job
from fathomx.command_line.options import Decorator, converted
from fathomx.command_line.settings import option_fields, option_name


@dataclasses.dataclass(frozen=True)
class Values:
    """An option takes one of these values."""

    name: str
    values: tuple[Any, ...]

    def ends(self) -> tuple[Any, ...]:
        """What must be a value of the option."""
        return self.values

    def suggested(self, trial: Any) -> Any:
        """The value that a trial of Optuna tries."""
        return trial.suggest_categorical(self.name, list(self.values))


@dataclasses.dataclass(frozen=True)
class Range:
    """An option takes any number from `low` to `high`, by the logarithm if `log`."""

    name: str
    low: Any
    high: Any
    log: bool

    def ends(self) -> tuple[Any, ...]:
        """What must be a value of the option."""
        return (self.low, self.high)

    def suggested(self, trial: Any) -> Any:
        """The value that a trial of Optuna tries."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.name, self.low, self.high, log=self.log)
        return trial.suggest_float(self.name, float(self.low), float(self.high), log=self.log)


Varied = Values | Range


def vary_option(help: str, *, multiple: bool) -> Decorator:
    """`--vary`, given once or several times."""
    return click.option("--vary", multiple=multiple, metavar="NAME=VALUES", help=help)


def varied(text: str, *, ranges: bool) -> Varied:
    """What `--vary` says: `depth=8,16` or, where ranges are allowed, `learning-rate=0.01..1:log`.

    Raises `ValueError` for an option that does not exist, values that it does not take, and ranges
    that are none.
    """
    name, equals, given = text.partition("=")
    fields = {option_name(field): field for field in option_fields(training=True)}
    name = name.strip().lstrip("-").replace("_", "-")
    if not equals or not given.strip():
        raise ValueError(
            f"vary was {text!r}; give the name of an option and its values, such as "
            "--vary depth=8,16."
        )
    if name not in fields:
        raise ValueError(unknown("option in vary", name, sorted(fields)))
    field = fields[name]
    low, dots, high = given.partition("..")
    if not dots:
        values = tuple(converted(field, value.strip()) for value in given.split(","))
        if len(set(values)) < len(values):
            raise ValueError(f"vary {text!r} names a value twice; leave one out.")
        return Values(field.name, values)
    if not ranges:
        raise ValueError(f"vary {text!r} is a range; list the values, such as --vary depth=8,16.")
    high, colon, way = high.partition(":")
    if colon and way.strip() != "log":
        raise ValueError(f"vary {text!r} ends in {way!r}; only ':log' can follow a range.")
    ends = [converted(field, end.strip()) for end in (low, high)]
    if not all(isinstance(end, int | float) and math.isfinite(end) for end in ends):
        raise ValueError(f"vary {text!r} is a range, but {name} takes names; list them.")
    if not ends[0] < ends[1] or (colon and ends[0] <= 0):
        above = " above 0" if colon else ""
        raise ValueError(f"vary {text!r} is no range{above}; give two ends, the lower one first.")
    return Range(field.name, ends[0], ends[1], bool(colon))


def job_with(given: Mapping[str, Any], values: Mapping[str, Any]) -> Job:
    """The job of what was given and of what is varied."""
    return job_of({**given, **values})


def check_all(given: Mapping[str, Any], spaces: Sequence[Varied]) -> None:
    """Raises `ValueError` for an option that is varied twice, or given as well, or a wrong value.

    Each is looked at by itself, beside the first values of the others.
    """
    names = [space.name for space in spaces]
    for name in names:
        if names.count(name) > 1 or name in given:
            raise ValueError(f"{name} is varied and given as well, or varied twice; say it once.")
    first = {space.name: space.ends()[0] for space in spaces}
    for space in spaces:
        for value in space.ends():
            job_with(given, {**first, space.name: value})
