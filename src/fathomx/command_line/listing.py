"""`fathomx list`: what can be chosen by name, a line each."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import click

from fathomx import data as data_sets
from fathomx.checks.names import unknown
from fathomx.command_line.choices import (
    NUMBERS,
    PARAMETERIZATIONS,
    RULES,
    SCHEDULES,
    SOLVERS,
)
from fathomx.command_line.models import MODELS
from fathomx.experiments import EXPERIMENTS
from fathomx.layers.activations import ACTIVATIONS
from fathomx.learning import Backprop
from fathomx.learning.optimizer_choice import OPTIMIZERS


def _first_line(text: str | None) -> str:
    """The first paragraph of a text, in one line."""
    return " ".join((text or "").strip().partition("\n\n")[0].split())


def _described(makers: Mapping[str, Any]) -> dict[str, str]:
    """The first sentence of what documents classes and functions."""
    made = {k: m.func if isinstance(m, functools.partial) else m for k, m in makers.items()}
    return {name: _first_line(inspect.getdoc(maker)) for name, maker in made.items()}


# What is listed, and the option or argument that takes it.
_KINDS: dict[str, tuple[str, Callable[[], Mapping[str, str]]]] = {
    "models": ("--model", lambda: _described({k: m.make for k, m in MODELS.items()})),
    "data": ("--data", data_sets.descriptions),
    "solvers": ("--inference", lambda: _described(SOLVERS)),
    "schedules": ("--schedule", lambda: _described(SCHEDULES)),
    "rules": ("--learning", lambda: _described({**RULES, "backprop": Backprop})),
    "parameterizations": (
        "--parameterization",
        lambda: _described({name: preset.make for name, preset in PARAMETERIZATIONS.items()}),
    ),
    "activations": ("--activation", lambda: dict.fromkeys(ACTIVATIONS, "")),
    "numbers": ("--precision", lambda: _described(NUMBERS)),
    "optimizers": (
        "--optimizer",
        lambda: _described({name: kind.make for name, kind in OPTIMIZERS.items()}),
    ),
    "experiments": (
        "fathomx reproduce NAME",
        lambda: {name: _first_line(each.question) for name, each in EXPERIMENTS.items()},
    ),
}


@click.command("list")
@click.argument("kind", required=False)
def listing(kind: str | None) -> None:
    """Lists what can be chosen by name, a line each.

    KIND is one of models, data, solvers, schedules, rules, parameterizations, activations, numbers,
    optimizers and experiments; all of them unless given.
    """
    if kind is not None and kind not in _KINDS:
        raise ValueError(unknown("kind", kind, tuple(_KINDS)))
    shown = _KINDS if kind is None else {kind: _KINDS[kind]}
    formatter = click.HelpFormatter()
    for title, (option, lines) in shown.items():
        with formatter.section(f"{title} ({option})"):
            formatter.write_dl(list(lines().items()))
    click.echo(formatter.getvalue().strip())
