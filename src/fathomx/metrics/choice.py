"""Metrics by name, and which are in force for an output."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from fathomx import checks
from fathomx.checks import Name, gate
from fathomx.metrics.base import KINDS, Metric
from fathomx.metrics.classes import Accuracy, BalancedAccuracy, LogLoss, MacroF1, TopAccuracy
from fathomx.metrics.labels import F1, ExactMatch, LabelAccuracy
from fathomx.metrics.numbers import (
    R2,
    Deviance,
    MeanAbsoluteError,
    MeanSquaredError,
    RootMeanSquaredError,
)

_ALL: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Accuracy(),
        TopAccuracy(),
        BalancedAccuracy(),
        MacroF1(),
        LogLoss(),
        LabelAccuracy(),
        ExactMatch(),
        F1(),
        MeanSquaredError(),
        RootMeanSquaredError(),
        MeanAbsoluteError(),
        R2(),
        Deviance(),
    )
}
# What records hold under other names.
_TAKEN = ("loss", "energy")


@gate
def names() -> tuple[str, ...]:
    """The names of all metrics.

    ```python
    fx.metrics.names()      # ('accuracy', 'top5', 'balanced-accuracy', ...)
    ```
    """
    return tuple(_ALL)


@gate
def named(name: Name) -> Metric:
    """The metric of a name; `ValueError` with the nearest one if there is none.

    ```python
    fx.metrics.named("rmse").better       # 'lower'
    ```
    """
    return _ALL[checks.choice("metric", name, _ALL)]


def by_key(key: str) -> Metric | None:
    """The metric that records call so; `None` for one of a user's own."""
    return next((metric for metric in _ALL.values() if metric.key == key), None)


@gate
def chosen(given: Sequence[Any]) -> tuple[Metric, ...]:
    """Metrics, each given as itself or by its name.

    Raises `TypeError` for what is neither, and `ValueError` for unknown names, names that are no
    lower-case words or are taken, and two metrics of one name.

    ```python
    fx.metrics.chosen(["rmse", fx.metrics.TopAccuracy(3)])
    ```
    """
    found = tuple(one if _is_own(one) else named(one) for one in given)
    for metric in found:
        if [other.key for other in found].count(metric.key) > 1:
            raise ValueError(f"metric {metric.name!r} is given twice; give it once.")
    return found


def _is_own(one: Any) -> bool:
    """Whether it is a metric and not a name; raises where it cannot be used."""
    if isinstance(one, str):
        return False
    kind: Any = Metric
    metric = checks.instance("a metric", one, kind, "'rmse' or fx.metrics.R2()")
    own, name = type(metric).__name__, getattr(metric, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ValueError(
            f"the name of metric {own} must be a lower-case word such as 'mean-error', not "
            f"{checks.shown(name)}; give it as a field of the class."
        )
    if name in _TAKEN:
        raise ValueError(
            f"the name of metric {own}, {name!r}, is that of another score; choose another name."
        )
    if metric.better not in ("higher", "lower"):
        raise ValueError(
            f"better of metric {own} must be 'higher' or 'lower', not "
            f"{checks.shown(metric.better)}."
        )
    for suited in metric.suits:
        checks.choice(f"target in suits of metric {own}", suited, KINDS)
    return True


def check_suited(metrics: Sequence[Metric], kinds: Collection[str], energy: str) -> None:
    """Raises `ValueError` for a metric that is not meant for targets of these kinds.

    `energy` names the output's energy in the sentence.
    """
    for metric in metrics:
        if not set(metric.suits) & set(kinds):
            suited = [name for name, one in _ALL.items() if set(one.suits) & set(kinds)]
            raise ValueError(
                f"metric {metric.name!r} is for {' or '.join(metric.suits)}, which the targets of "
                f"the output's energy, {energy}, are not; choose from {', '.join(suited)}."
            )
