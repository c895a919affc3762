"""What a run was scored by: the metrics in its records, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathomx.metrics.choice import by_key
from fathomx.report.wording import percent, short

_PARTS = ("train_", "validation_", "test_")
_ACCURACY = "accuracy"
_ACRONYMS = ("mse", "rmse", "mae", "r2", "f1")


def metrics_of(numbers: Mapping[str, Any]) -> list[str]:
    """The keys of the metrics in a summary or in the record of an epoch, the accuracy first."""
    found = [
        name.removeprefix(part)
        for part in _PARTS[1:]
        for name in numbers
        if name.startswith(part) and name != f"{part}loss"
    ]
    return sorted(dict.fromkeys(found), key=lambda key: key != _ACCURACY)


def label(key: str) -> str:
    """The key of a metric in words."""
    return key.upper() if key in _ACRONYMS else key.replace("_", " ")


def better(key: str) -> str | None:
    """Whether a `"higher"` or a `"lower"` metric is better; `None` for one of a user's own."""
    metric = by_key(key)
    return None if metric is None else metric.better


def is_part_of_one(key: str) -> bool:
    """Whether a metric is shown in percent."""
    metric = by_key(key)
    return key.endswith(_ACCURACY) or (metric is not None and metric.percent)


def shown(key: str, value: Any) -> str:
    """The value of a metric as reports print it."""
    return percent(value) if is_part_of_one(key) else short(value)


def metric_key(name: str) -> str:
    """The key of a metric from its name in a record, such as `test_rmse`."""
    part = next((part for part in _PARTS if name.startswith(part)), "")
    return name.removeprefix(part)
