"""The progress bar of a run in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fathomx.checks import gate
from fathomx.training.observer import Observer, Plan, TrainingState


@gate
class ProgressBar(Observer):
    """Loss, accuracy of classes, settledness and the remaining time, and one line per epoch.

    `name` stands before the bar. Where the console is no terminal, only the lines per epoch are
    printed.
    """

    def __init__(self, console: Console, name: str = "training") -> None:
        self._console = console
        self._name = name
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._plan: Plan | None = None

    def started(self, plan: Plan, state: TrainingState) -> None:
        self._plan = plan
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[scores]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            self._name, total=plan.epochs * plan.steps_per_epoch, scores="compiling"
        )
        self._bar.start()
        self._advance(state, None)

    def stepped(self, record: dict[str, Any], state: TrainingState) -> None:
        scores = f"loss {_mean(record['loss']):.4f}"
        if any(value is not None for value in record.get("accuracy", ())):
            scores += f"  accuracy {_mean(record['accuracy']):.3f}"
        settled = [value for value in record["unsettled_median"] if value is not None]
        if settled:
            scores += f"  unsettled {_mean(settled):.2g}"
        self._advance(state, scores)

    def epoch_ended(self, record: dict[str, Any], state: TrainingState) -> None:
        assert self._plan is not None
        text = (
            f"{self._name}  epoch {record['epoch']}/{self._plan.epochs}"
            f"  loss {_shown(record['train_loss'], '.4f')}"
        )
        validation = _validation(record)
        if validation:
            text += f"  {validation}"
        if record["unsettled"]["median"] is not None:
            text += (
                f"  unsettled {record['unsettled']['median']:.2g}"
                f" (max {_shown(record['unsettled']['max'], '.2g')})"
                f"  strength {_shown(record['pc_strength'], '.2g')}"
                f"  cosine to backprop {_shown(record['cosine_to_backprop'], '.3f')}"
            )
        self._console.print(text, highlight=False, soft_wrap=True)

    def validated(self, record: dict[str, Any], state: TrainingState) -> None:
        assert self._plan is not None
        self._console.print(
            f"{self._name}  epoch {record['epoch']}/{self._plan.epochs}"
            f"  step {record['step']}/{self._plan.steps_per_epoch}  {_validation(record)}",
            highlight=False,
            soft_wrap=True,
        )

    def noted(self, record: dict[str, Any]) -> None:
        self._console.print(
            f"{self._name}: {record['text']}", highlight=False, markup=False, soft_wrap=True
        )

    def interrupted(self, state: TrainingState) -> None:
        self.close()

    def failed(self) -> None:
        self.close()

    def finished(self, summary: dict[str, Any], state: TrainingState) -> None:
        self.close()
        if summary.get("ended"):
            self._console.print(
                f"{self._name}: ended after epoch {summary['epochs']}, because {summary['ended']}.",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _advance(self, state: TrainingState, scores: str | None) -> None:
        if self._bar is None or self._task is None or self._plan is None:
            return
        done = int(state.epoch) * self._plan.steps_per_epoch + int(state.step)
        if scores is None:
            self._bar.update(self._task, completed=done)
        else:
            self._bar.update(self._task, completed=done, scores=scores)


def _validation(record: dict[str, Any]) -> str:
    """What validation said: the metrics, and the loss where there is no accuracy."""
    scores = {k: v for k, v in record.items() if k.startswith("validation_") and v is not None}
    if "validation_accuracy" in scores:
        scores.pop("validation_loss", None)
    return "  ".join(f"{k.replace('_', ' ')} {_shown(v, '.4f')}" for k, v in scores.items())


def _mean(values: list[float | None]) -> float:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else float("nan")


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
