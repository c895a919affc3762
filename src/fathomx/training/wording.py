"""How progress is written: what the scores of steps and validations look like in a line."""

from __future__ import annotations

from typing import Any


def step_scores(record: dict[str, Any]) -> str:
    """Loss, accuracy of classes and settledness, means over the steps of a record."""
    scores = f"loss {_mean(record['loss']):.4f}"
    if any(value is not None for value in record.get("accuracy", ())):
        scores += f"  accuracy {_mean(record['accuracy']):.3f}"
    settled = [value for value in record["unsettled_median"] if value is not None]
    return f"{scores}  unsettled {_mean(settled):.2g}" if settled else scores


def validation(record: dict[str, Any]) -> str:
    """What validation said: the metrics, and the loss where there is no accuracy."""
    scores = {k: v for k, v in record.items() if k.startswith("validation_") and v is not None}
    if "validation_accuracy" in scores:
        scores.pop("validation_loss", None)
    return "  ".join(f"{k.replace('_', ' ')} {text_of(v, '.4f')}" for k, v in scores.items())


def text_of(value: float | None, form: str) -> str:
    """A number in a form; a dash where there is none."""
    return "-" if value is None else format(value, form)


def _mean(values: list[float | None]) -> float:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else float("nan")
