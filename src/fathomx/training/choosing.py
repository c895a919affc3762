"""Which weights of a run are scored and returned, and when it ends."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

from fathomx.checks import Count, NotNegative, choice, gate, number
from fathomx.metrics import named, names

# A certificate in every so many-th step costs a sixteenth of a pass.
USUAL_CERTIFY = 16
# By how the name of a score ends.
_BETTER = {"accuracy": "higher", "loss": "lower", "error": "lower", "energy": "lower"}


def _decay(name: str, value: Any) -> float:
    """A number above 0 and below 1."""
    found: float = number(name, value, above=0, below=1)
    return found


Decay = Annotated[float, _decay]


@gate
@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Ends training when validation gets no better, and returns the weights of its best epoch.

    Epoch `t` is the best so far if its score is better than the best before it by more than
    `least`; training ends after epoch `t` if the best one lies `patience` epochs back. The network
    that is returned, and scored on the test part, is that of the best epoch, also where training
    ends by its number of epochs.

    **Fields**

    * `patience`: epochs without a better one after which training ends, at least 1.
    * `metric`: the validation score that is looked at, such as `loss` or `accuracy`, or one of the
      `scores` of `fx.fit`. A score that is not finite is never the best.
    * `better`: `"higher"` or `"lower"`; unless given, the higher accuracy, and the lower loss,
      energy or error.
    * `least`: the least difference that counts, 0 unless given.

    Raises `ValueError` for a patience of 0, and where nobody can tell which direction is better.

    ```python
    result = fx.fit(network, data, epochs=100, early_stopping=fx.EarlyStopping(patience=5))
    result.summary["best_epoch"], result.summary["ended"]
    ```

    Source: Goodfellow, Bengio and Courville (2016), Deep Learning, algorithm 7.1.
    """

    patience: Count
    metric: str = "loss"
    better: str | None = None
    least: NotNegative = 0.0

    def __post_init__(self) -> None:
        if self.better is not None:
            choice("better", self.better, ("higher", "lower"))
        elif better_of(self.metric) is None:
            raise ValueError(
                f"whether a higher or a lower {self.metric!r} is better is not known; say so: "
                f"fx.EarlyStopping({self.patience}, {self.metric!r}, better='higher')."
            )

    def check(self, scores: Mapping[str, Any]) -> None:
        """Raises `ValueError` if the metric is not among the scores of validation."""
        known = [name for name, value in scores.items() if value is not None]
        if not known:
            raise ValueError(
                "early stopping looks at scores of a validation part, and there are none; give "
                "the data set such a part, or leave out early stopping."
            )
        if self.metric not in known:
            raise ValueError(
                f"early stopping looks at {self.metric!r}, but validation is scored by "
                f"{', '.join(map(repr, known))}; choose one of these as its metric."
            )

    def is_better(self, score: Any, best: Any) -> bool:
        """Whether a score is better than the best so far, which is NaN where there is none."""
        if not math.isfinite(score):
            return False
        if not math.isfinite(best):
            return True
        higher = (self.better or better_of(self.metric)) == "higher"
        return (score - best if higher else best - score) > self.least

    def ending(self, epoch: int, best_epoch: int) -> str | None:
        """Why training ends after an epoch; `None` if it goes on."""
        if epoch - best_epoch < self.patience:
            return None
        epochs = f"{self.patience} epochs" if self.patience > 1 else "an epoch"
        return f"the validation {self.metric.replace('_', ' ')} had not become better for {epochs}"


def certified(step: Any, steps_per_epoch: int, certify: int) -> Any:
    """Whether steps of an epoch, counted from 0, are certified; `step` may be traced."""
    return (step % certify == 0) | (step == steps_per_epoch - 1)


def better_of(metric: str) -> str | None:
    """Whether the higher or the lower score is better; `None` where the name does not say so."""
    known = metric.replace("_", "-")
    if known in names():
        return named(known).better
    return next((better for end, better in _BETTER.items() if metric.endswith(end)), None)


@gate
@dataclasses.dataclass(frozen=True)
class Choices:
    """What is chosen of a run beside its size.

    **Fields**: `average`, the decay of the average of the weights, if one is taken;
    `validate_every`, after how many steps of an epoch validation is scored within it;
    `early_stopping`; `certify`, every how many-th step of an epoch is certified, besides its last.
    """

    average: Decay | None = None
    validate_every: Count | None = None
    early_stopping: EarlyStopping | None = None
    certify: Count = USUAL_CERTIFY

    def check(self, steps_per_epoch: int) -> None:
        """Raises `ValueError` if validation never comes within so many steps of an epoch."""
        every = self.validate_every
        if every is not None and every >= steps_per_epoch:
            raise ValueError(
                f"validate_every is {every}, but an epoch has {steps_per_epoch} steps, and "
                "validation is scored at its end anyway; give fewer, or leave it out."
            )
