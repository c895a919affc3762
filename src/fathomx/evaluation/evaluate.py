"""`evaluate`: a trained network on a part of a data set, as plain numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import Count, Seed, gate
from fathomx.data import Dataset
from fathomx.evaluation.answers import AT_ONCE, Answer, answer, asked, probabilities
from fathomx.evaluation.calibration import Calibration, calibration
from fathomx.evaluation.classes import ClassScores, class_scores, confusion_matrix
from fathomx.evaluation.intervals import Estimate, bootstrap, wilson
from fathomx.graph.network import Network
from fathomx.learning import Pose
from fathomx.training.programs import run
from fathomx.training.scores import Scores, UsualScores
from fathomx.training.task import Task

PARTS = ("test", "validation", "train")


@gate
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What `evaluate` found on a part of a data set.

    **Fields**

    * `data` and `part`: what it was; `size`, the number of examples.
    * `metrics`: an `Estimate` by name, its `value` with the interval from `low` to `high`.
    * `loss`: of every example, `(size,)`, what the worst ones are told by.
    * `target`: what was there: labels, or values. `prediction`: what the network expected of its
      output, `(size, *output_shape)`: probabilities of a `Categorical` output, of others the value;
      `None` where the output is all that the network sees.
    * `confusion`: how often each class (rows) was predicted to be each (columns); `calibration`,
      how far the probabilities of classes can be taken at their word; both `None` without classes.
    * `class_names`: of the classes, in order.
    """

    data: str
    part: str
    size: int
    metrics: dict[str, Estimate]
    loss: NDArray[np.float64]
    target: NDArray | None = None
    prediction: NDArray | None = None
    confusion: NDArray[np.int64] | None = None
    calibration: Calibration | None = None
    class_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {estimate}" for name, estimate in self.metrics.items())
        return f"Evaluation({self.data!r}, {self.part}, {self.size} examples: {found})"

    def record(self) -> dict[str, Any]:
        """The numbers as files hold them, without those of single examples."""
        found: dict[str, Any] = {
            "data": self.data,
            "part": self.part,
            "size": self.size,
            "metrics": {name: dataclasses.asdict(each) for name, each in self.metrics.items()},
        }
        if self.confusion is not None:
            found["confusion"] = self.confusion
            found["classes"] = [
                {
                    **each._asdict(),
                    "recall": dataclasses.asdict(each.recall),
                    "precision": dataclasses.asdict(each.precision),
                }
                for each in self.per_class()
            ]
        if self.calibration is not None:
            found["calibration"] = self.calibration.record()
        return found

    def worst(self, count: Count = 10) -> list[int]:
        """The places of the examples with the largest loss, the largest first."""
        return np.argsort(-self.loss, kind="stable")[:count].tolist()

    def per_class(self) -> list[ClassScores]:
        """Recall and precision of every class with their intervals and counts, in order.

        Raises `ValueError` where there are no classes.
        """
        if self.confusion is None:
            raise ValueError(f"the targets of {self.data!r} are no classes; look at metrics.")
        return class_scores(self.confusion, self.class_names)


@gate
def evaluate(
    network: Network,
    data: Dataset,
    part: str = "test",
    *,
    pose: Pose | None = None,
    scores: Scores | None = None,
    seed: Seed = 0,
) -> Evaluation:
    """Scores a network on a part of a data set, and says how sure that is.

    Every score is a mean over examples, the one that `fx.fit` records, and comes with an interval
    at 95%: of a proportion, where every example counts as 0 or 1, Wilson's; of others, and of
    labels at several positions, which one example ties together, that of 1,000 bootstrap resamples
    of the examples. Of tokens the perplexity `exp(loss)` is told, too. A score that is one number
    for a whole batch has no interval.

    Where targets are integer labels, there are a confusion matrix and a calibration as well. They
    look at the output's largest prediction, fed forward, or inferred where the network has a
    feedback or a root that is not clamped.

    **Arguments**

    * `network`, `data`: their shapes must fit. `part`: `"test"`, `"validation"` or `"train"`.
    * `pose`, `scores`: as those of `fx.fit`.
    * `seed`, of the resamples.

    Raises `ValueError` for data that does not fit, as `fx.fit` does, and for an unknown part.

    ```python
    found = fx.evaluate(result.network, data)
    print(found)    # Evaluation('digits', test, 360 examples: loss 0.0192 (0.0139 to 0.0266), ...
    found.metrics["accuracy"].low, found.calibration.error, found.worst(3)
    ```
    """
    checks.choice("part", part, PARTS)
    task = Task(data, pose, scores)
    task.check(network)
    arrays = data.arrays(part)
    values = {k: v for k, v in task.score(network, part).items() if v is not None}
    each = _per_example(network, arrays, UsualScores(task.pose) if scores is None else scores)
    found = {name: _estimated(value, each.get(name), seed) for name, value in values.items()}
    size = len(next(iter(arrays.values())))
    loss = each.get("loss", next(iter(each.values()), np.zeros(size)))
    about = _Told.of(network, task, arrays)
    if about.positions > 1 and "loss" in found:
        found["perplexity"] = _perplexity(values["loss"], each["loss"], seed)
    said = about.answer
    judged = Evaluation(
        data.name, part, size, found, loss, about.target, None if said is None else said.expected
    )
    if about.labels is None or said is None:
        return judged
    classes = said.expected.shape[-1]
    likely = probabilities(said.expected)
    confidence = np.take_along_axis(likely, said.chosen[..., None], axis=-1)[..., 0]
    return dataclasses.replace(
        judged,
        confusion=confusion_matrix(about.labels, said.chosen, classes),
        calibration=calibration(confidence.ravel(), (about.labels == said.chosen).ravel()),
        class_names=data.class_names or tuple(map(str, range(classes))),
    )


@dataclasses.dataclass(frozen=True)
class _Told:
    """What was there and what the network said of it; `labels` where these are classes."""

    target: NDArray | None
    answer: Answer | None
    labels: NDArray | None = None

    @property
    def positions(self) -> int:
        """At how many there is a label of each example."""
        return 0 if self.labels is None else math.prod(self.labels.shape[1:])

    @classmethod
    def of(cls, network: Network, task: Task, arrays: Mapping[str, NDArray]) -> _Told:
        output = network.output.name
        target = arrays.get(output, arrays.get("target"))
        given: dict[str, list[NDArray]] = {}
        size = len(next(iter(arrays.values())))
        for begin in range(0, size, AT_ONCE):
            batch = {name: jnp.asarray(a[begin : begin + AT_ONCE]) for name, a in arrays.items()}
            for name, clamp in asked(task.pose(network, batch)).items():
                if not clamp.whole:
                    return cls(target, None)
                given.setdefault(name, []).append(np.asarray(clamp.value))
        if not given:
            return cls(target, None)
        said = answer(network, {name: np.concatenate(parts) for name, parts in given.items()})
        if target is None or target.dtype.kind not in "iu" or said.expected.shape[-1] < 2:
            return cls(target, said)
        return cls(target, said, target if target.shape == said.chosen.shape else None)


def _per_example(
    network: Network, arrays: Mapping[str, NDArray], scores: Scores
) -> dict[str, NDArray[np.float64]]:
    """The scores of every example by name; those of whole batches are left out."""
    size = len(next(iter(arrays.values())))
    found: dict[str, list[NDArray]] = {}
    for begin in range(0, size, AT_ONCE):
        batch = {name: jnp.asarray(a[begin : begin + AT_ONCE]) for name, a in arrays.items()}
        for name, value in run(_scored, network, batch, scores).items():
            if jnp.ndim(value) == 1:
                found.setdefault(name, []).append(np.asarray(value, np.float64))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _scored(network: Network, batch: Mapping[str, NDArray], scores: Scores) -> Mapping[str, float]:
    named: Mapping[str, float] = scores(network, batch)
    return named


def _estimated(value: float, each: NDArray[np.float64] | None, seed: int) -> Estimate:
    """A mean with its interval, from what it is the mean of."""
    if each is None:
        return Estimate(value, math.nan, math.nan, "none")
    if np.isin(each, (0, 1)).all():
        found = wilson(int(each.sum()), len(each))
    else:
        found = bootstrap({"mean": each}, lambda means: means["mean"], seed)
    return dataclasses.replace(found, value=value)


def _perplexity(loss: float, each: NDArray[np.float64], seed: int) -> Estimate:
    found = bootstrap({"loss": each}, lambda means: math.exp(means["loss"]), seed)
    return dataclasses.replace(found, value=math.exp(loss))
