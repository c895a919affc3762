"""`evaluate`: a trained network on a part of a data set, as plain numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import Count, Seed, gate
from fathomx.data import Dataset, ImageStream
from fathomx.evaluation.answers import AT_ONCE, Answer, answer, asked, probabilities
from fathomx.evaluation.calibration import Calibration, calibration
from fathomx.evaluation.classes import (
    ClassScores,
    class_scores,
    confusion_matrix,
    label_scores,
)
from fathomx.evaluation.intervals import Estimate, bootstrap, wilson
from fathomx.graph.network import Network
from fathomx.learning import Pose
from fathomx.metrics import Metric, chosen
from fathomx.training.programs import run
from fathomx.training.scores import OF, Scores
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
      Both in the units that the data set had before it was standardized, where it knows them.
    * `classes`: recall and precision of every class with their intervals and counts, in order; of
      labels of which several may hold, those whose probability is above a half are predicted.
    * `confusion`: how often each class (rows) was predicted to be each (columns); `calibration`,
      how far the probabilities of classes can be taken at their word; both `None` where no target
      is one class.
    """

    data: str
    part: str
    size: int
    metrics: dict[str, Estimate]
    loss: NDArray[np.float64]
    target: NDArray | None = None
    prediction: NDArray | None = None
    classes: tuple[ClassScores, ...] = ()
    confusion: NDArray[np.int64] | None = None
    calibration: Calibration | None = None

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
        if self.classes:
            found["classes"] = [
                {
                    **each._asdict(),
                    "recall": dataclasses.asdict(each.recall),
                    "precision": dataclasses.asdict(each.precision),
                }
                for each in self.classes
            ]
        if self.calibration is not None:
            found["calibration"] = self.calibration.record()
        return found

    def worst(self, count: Count = 10) -> list[int]:
        """The places of the examples with the largest loss, the largest first."""
        return np.argsort(-self.loss, kind="stable")[:count].tolist()


@gate
def evaluate(
    network: Network,
    data: Dataset | ImageStream,
    part: str = "test",
    *,
    pose: Pose | None = None,
    scores: Scores | None = None,
    metrics: Sequence[Any] | None = None,
    seed: Seed = 0,
) -> Evaluation:
    """Scores a network on a part of a data set, and says how sure that is.

    The scores are those that `fx.fit` records, to the last bit, each with an interval at 95%: of a
    proportion, where every example counts as 0 or 1, Wilson's; of others, and of labels at several
    positions, which one example ties together, that of 1,000 bootstrap resamples of the examples.
    Of tokens the perplexity `exp(loss)` is told, too. A score that is one number for a whole batch
    has no interval.

    Where targets are integer labels, there are a confusion matrix and a calibration as well. They
    look at the output's largest prediction, fed forward, or inferred where the network has a
    feedback or a root that is not clamped.

    **Arguments**

    * `network`, `data`: their shapes must fit. `part`: `"test"`, `"validation"` or `"train"`.
    * `pose`, `scores`, `metrics`: as those of `fx.fit`.
    * `seed`, of the resamples.

    Raises `ValueError` for data that does not fit, as `fx.fit` does, and for an unknown part or one
    that the data set does not have.

    ```python
    found = fx.evaluate(result.network, data)
    print(found)    # Evaluation('digits', test, 360 examples: loss 0.0192 (0.0139 to 0.0266), ...
    found.metrics["accuracy"].low, found.calibration.error, found.worst(3)
    ```
    """
    checks.choice("part", part, PARTS)
    if part not in data.titles:
        raise ValueError(f"{data.name!r} has no {part} part; choose from {', '.join(data.titles)}.")
    task = Task(data, pose, scores, None if metrics is None else chosen(metrics))
    task.check(network)
    arrays, judge = data.arrays(part), task.judge(network)
    values = {name: v for name, v in task.score(network, part).items() if v is not None}
    each = _per_example(network, arrays, judge)
    own = {metric.key: metric for metric in getattr(judge, "metrics", ())}
    found = {
        name: _of_metric(value, own[name], each, seed)
        if name in own
        else _of_mean(value, each.get(name), seed)
        for name, value in values.items()
    }
    told = _Told.of(network, task, arrays)
    if told.positions > 1 and "loss" in found:
        found["perplexity"] = _perplexity(values["loss"], each["loss"], seed)
    size = len(next(iter(arrays.values())))
    known = [one for one in (each.get("loss"), *each.values()) if one is not None and one.ndim == 1]
    judged = Evaluation(
        data.name, part, size, found, known[0] if known else np.zeros(size), told.target
    )
    return judged if told.answer is None else _with_answer(judged, told, told.answer, data, judge)


def _with_answer(
    judged: Evaluation, told: _Told, said: Answer, data: Dataset | ImageStream, judge: Scores
) -> Evaluation:
    """With what the network said: values in their units, or classes and how they fared."""
    if told.labels is None:
        scale = getattr(judge, "scale", None)
        expected, target = (_in_units(each, scale) for each in (said.expected, told.target))
        judged = dataclasses.replace(judged, prediction=expected, target=target)
        if target is None or target.dtype != bool or target.shape != expected.shape:
            return judged
        names = () if data.preparation is None else data.preparation.class_names
        return dataclasses.replace(judged, classes=label_scores(target, expected > 0.5, names))
    classes = said.expected.shape[-1]
    likely = probabilities(said.expected)
    confidence = np.take_along_axis(likely, said.chosen[..., None], axis=-1)[..., 0]
    confusion = confusion_matrix(told.labels, said.chosen, classes)
    return dataclasses.replace(
        judged,
        prediction=said.expected,
        confusion=confusion,
        classes=class_scores(confusion, data.class_names or tuple(map(str, range(classes)))),
        calibration=calibration(confidence.ravel(), (told.labels == said.chosen).ravel()),
    )


def _in_units(values: Any, scale: tuple[NDArray, NDArray] | None) -> Any:
    """Values that were standardized as they were before."""
    if scale is None or values is None:
        return values
    mean, deviation = scale
    return mean + deviation * np.asarray(values, np.float64)


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
    def of(cls, network: Network, task: Task, arrays: Mapping[str, Any]) -> _Told:
        output = network.output.name
        target = arrays.get(output, arrays.get("target"))
        answers: list[Answer] = []
        # Batch by batch, since inputs may be images on disk.
        for begin in range(0, len(next(iter(arrays.values()))), AT_ONCE):
            batch = {name: jnp.asarray(a[begin : begin + AT_ONCE]) for name, a in arrays.items()}
            clamps = asked(task.pose(network, batch))
            if not clamps or not all(clamp.whole for clamp in clamps.values()):
                return cls(target, None)
            answers.append(answer(network, {name: clamp.value for name, clamp in clamps.items()}))
        said = Answer(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))
        if target is None or target.dtype.kind not in "iu" or said.expected.shape[-1] < 2:
            return cls(target, said)
        return cls(target, said, target if target.shape == said.chosen.shape else None)


def _per_example(
    network: Network, arrays: Mapping[str, Any], scores: Scores
) -> dict[str, NDArray[np.float64]]:
    """What scores average, of every example by name; numbers of whole batches are left out."""
    size = len(next(iter(arrays.values())))
    found: dict[str, list[NDArray]] = {}
    for begin in range(0, size, AT_ONCE):
        batch = {name: jnp.asarray(a[begin : begin + AT_ONCE]) for name, a in arrays.items()}
        for name, value in run(_scored, network, batch, scores).items():
            if jnp.ndim(value):
                found.setdefault(name, []).append(np.asarray(value, np.float64))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _scored(network: Network, batch: Any, scores: Scores) -> Any:
    return scores(network, batch)


def _of_metric(
    value: float, metric: Metric, each: Mapping[str, NDArray[np.float64]], seed: int
) -> Estimate:
    """A metric with its interval, from the terms of every example."""
    begin = f"{metric.key}{OF}"
    own = {n.removeprefix(begin): e for n, e in each.items() if n.startswith(begin)}
    if len(own) == 1 and type(metric).value is Metric.value:
        return _of_mean(value, next(iter(own.values())), seed)
    return dataclasses.replace(bootstrap(own, metric.value, seed), value=value)


def _of_mean(value: float, each: NDArray[np.float64] | None, seed: int) -> Estimate:
    """A mean with its interval, from what it is the mean of."""
    if each is None:
        return Estimate(value, math.nan, math.nan, "none")
    if each.ndim == 1 and np.isin(each, (0, 1)).all():
        found = wilson(int(each.sum()), len(each))
    else:
        found = bootstrap({"mean": each}, lambda means: float(np.mean(means["mean"])), seed)
    return dataclasses.replace(found, value=value)


def _perplexity(loss: float, each: NDArray[np.float64], seed: int) -> Estimate:
    found = bootstrap({"loss": each}, lambda means: math.exp(means["loss"]), seed)
    return dataclasses.replace(found, value=math.exp(loss))
