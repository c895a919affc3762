"""The optimizer and the early stopping that settings ask for."""

from __future__ import annotations

import dataclasses

from fathomx.checks.names import unknown
from fathomx.command_line.settings import Settings
from fathomx.learning.optimizer_choice import OptimizerChoice
from fathomx.metrics import names
from fathomx.training import EarlyStopping
from fathomx.training.choosing import better_of

_OPTIONS = [field.name for field in dataclasses.fields(OptimizerChoice)]


def optimizer_choice(settings: Settings, learning_rate: float) -> OptimizerChoice:
    """The optimizer of settings; raises `ValueError` for one that cannot be."""
    given = {name: getattr(settings, name) for name in _OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    return OptimizerChoice(**{**given, "learning_rate": learning_rate})


def early_stopping(settings: Settings) -> EarlyStopping | None:
    """The early stopping of settings, if any."""
    if settings.early_stopping is None:
        return None
    metric = settings.early_stopping_metric or "loss"
    check_direction("early_stopping_metric", metric)
    return EarlyStopping(settings.early_stopping, metric)


def check_direction(option: str, metric: str) -> None:
    """Raises `ValueError` for a metric of which nobody knows whether higher or lower is better."""
    if better_of(metric) is None:
        raise ValueError(unknown(option, metric, ["loss", *names()]))
