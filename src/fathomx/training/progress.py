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
from fathomx.training.wording import step_scores, text_of, validation


@gate
class EpochLines(Observer):
    """One line per epoch, and what is noted, behind a name."""

    keeps = False

    def __init__(self, console: Console, name: str = "training") -> None:
        self._console = console
        self._name = name
        self._plan: Plan | None = None

    def started(self, plan: Plan, state: TrainingState) -> None:
        self._plan = plan

    def epoch_ended(self, record: dict[str, Any], state: TrainingState) -> None:
        assert self._plan is not None
        text = (
            f"{self._name}  epoch {record['epoch']}/{self._plan.epochs}"
            f"  loss {text_of(record['train_loss'], '.4f')}"
        )
        scores = validation(record)
        if scores:
            text += f"  {scores}"
        if record["unsettled"]["median"] is not None:
            text += (
                f"  unsettled {record['unsettled']['median']:.2g}"
                f" (max {text_of(record['unsettled']['max'], '.2g')})"
                f"  strength {text_of(record['pc_strength'], '.2g')}"
                f"  cosine to backprop {text_of(record['cosine_to_backprop'], '.3f')}"
            )
        self._console.print(text, highlight=False, soft_wrap=True)

    def validated(self, record: dict[str, Any], state: TrainingState) -> None:
        assert self._plan is not None
        self._console.print(
            f"{self._name}  epoch {record['epoch']}/{self._plan.epochs}"
            f"  step {record['step']}/{self._plan.steps_per_epoch}  {validation(record)}",
            highlight=False,
            soft_wrap=True,
        )

    def noted(self, record: dict[str, Any]) -> None:
        self._console.print(
            f"{self._name}: {record['text']}", highlight=False, markup=False, soft_wrap=True
        )

    def finished(self, summary: dict[str, Any], state: TrainingState) -> None:
        if summary.get("ended"):
            self._console.print(
                f"{self._name}: ended after epoch {summary['epochs']}, because {summary['ended']}.",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


@gate
class ProgressBar(EpochLines):
    """Loss, accuracy of classes, settledness and the remaining time, and one line per epoch.

    `name` stands before the bar. Where the console is no terminal, only the lines per epoch are
    printed; in notebooks `NotebookBar` is live.
    """

    def __init__(self, console: Console, name: str = "training") -> None:
        super().__init__(console, name)
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def started(self, plan: Plan, state: TrainingState) -> None:
        super().started(plan, state)
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
        self._advance(state, step_scores(record))

    def interrupted(self, state: TrainingState) -> None:
        self.close()

    def failed(self) -> None:
        self.close()

    def finished(self, summary: dict[str, Any], state: TrainingState) -> None:
        self.close()
        super().finished(summary, state)

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
