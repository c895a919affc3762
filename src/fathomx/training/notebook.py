"""The progress bar of a run in a Jupyter notebook."""

from __future__ import annotations

import html
import sys
import time
from typing import Any

from fathomx.checks import gate
from fathomx.training.observer import Observer, Plan, TrainingState
from fathomx.training.wording import step_scores, text_of, validation


def in_notebook() -> bool:
    """Whether this process is a kernel, whose outputs a notebook shows."""
    # Who runs in a kernel has imported IPython; nobody else needs it.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class Place:
    """A place in the output of a cell, whose content is replaced by what is shown next."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, text: str, page: str | None = None) -> None:
        """Shows a text, or the HTML of `page` where it can be shown; nothing but in notebooks."""
        if not in_notebook():
            return
        shown = {"text/plain": text} if page is None else {"text/plain": text, "text/html": page}
        if self._handle is not None:
            self._handle.update(shown, raw=True)
            return
        from IPython.display import display

        self._handle = display(shown, raw=True, display_id=True)


@gate
class NotebookBar(Observer):
    """A live bar in the output of a notebook's cell, which leaves one line when training ends.

    It shows steps, loss, accuracy of classes, settledness, the last validation and the remaining
    time; what is noted during the run stays below the line. `name` stands before it. Several runs
    may share a `place`, one after another. Elsewhere it shows nothing.

    `fx.fit` shows it in notebooks unless it is given observers.

    ```python
    fx.fit(network, data, observers=[fx.training.NotebookBar("backprop"), own])
    ```
    """

    keeps = False

    def __init__(self, name: str = "training", place: Place | None = None) -> None:
        self._name = name
        self._given = place
        self._place: Place | None = None

    def started(self, plan: Plan, state: TrainingState) -> None:
        self._plan = plan
        self._begun = time.perf_counter()
        self._first = self._done = self._at(state)
        self._scores, self._validation = "compiling", ""
        self._notes: list[str] = []
        self._place = self._given or Place()
        self._show()

    def stepped(self, record: dict[str, Any], state: TrainingState) -> None:
        self._scores = step_scores(record)
        self._advance(state)

    def validated(self, record: dict[str, Any], state: TrainingState) -> None:
        self._validation = validation(record)

    def epoch_ended(self, record: dict[str, Any], state: TrainingState) -> None:
        self._scores = f"loss {text_of(record['train_loss'], '.4f')}"
        self._validation = validation(record)
        self._advance(state)

    def noted(self, record: dict[str, Any]) -> None:
        self._notes.append(record["text"])

    def interrupted(self, state: TrainingState) -> None:
        self._end(f"stopped in epoch {int(state.epoch) + 1} after step {int(state.step)}")

    def failed(self) -> None:
        self._end("ended by an error")

    def finished(self, summary: dict[str, Any], state: TrainingState) -> None:
        epochs = summary["epochs"]
        why = f", ended because {summary['ended']}" if summary.get("ended") else ""
        self._end(f"{epochs} epoch{'s' if epochs != 1 else ''}{why}")

    def _at(self, state: TrainingState) -> int:
        return int(state.epoch) * self._plan.steps_per_epoch + int(state.step)

    def _advance(self, state: TrainingState) -> None:
        self._done = self._at(state)
        self._show()

    def _show(self) -> None:
        assert self._place is not None
        total = self._plan.epochs * self._plan.steps_per_epoch
        passed = time.perf_counter() - self._begun
        fresh = self._done - self._first
        left = f", {_duration(passed / fresh * (total - self._done))} left" if fresh else ""
        epoch = min(self._done // self._plan.steps_per_epoch + 1, self._plan.epochs)
        parts = (f"epoch {epoch}/{self._plan.epochs}", self._scores, self._validation)
        shown = "  ".join([*filter(None, parts), f"{_duration(passed)}{left}"])
        bar = f'<progress value="{self._done}" max="{total}"></progress>'
        text = self._lines(f"{self._name} {self._done}/{total}  {shown}")
        lines = "<br>".join(map(html.escape, text.split("\n")))
        self._place.show(text, f"{bar} {lines}")

    def _end(self, what: str) -> None:
        if self._place is None:
            return
        parts = (f"{what}, {_duration(time.perf_counter() - self._begun)}", self._scores)
        line = "  ".join(filter(None, (*parts, self._validation)))
        self._place.show(self._lines(f"{self._name}: {line}"))
        self._place = None

    def _lines(self, first: str) -> str:
        return "\n".join([first, *self._notes])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
