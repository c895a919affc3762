"""What a metric is."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array

from fathomx.checks import example, gate

# What the targets of an output may be, as an energy says it (`Energy.targets`).
KINDS = ("values", "counts", "labels", "classes", "distributions")


@example('fx.metrics.named("rmse")')
@gate
class Metric(eqx.Module):
    """A number that says how good predictions are, computed from means over examples.

        metric = value(mean of terms over the examples)

    so that it is exact over batches of any sizes, and over examples that are weighted.

    **Fields**, of the class

    * `name`: a lower-case word such as `"balanced-accuracy"`; records call it
      `validation_balanced_accuracy`.
    * `better`: `"higher"` or `"lower"`.
    * `suits`: for which targets it is meant, some of `"values"`, `"counts"`, `"labels"` (several
      may hold at once), `"classes"` (of which one holds), `"distributions"` (classes with
      predicted probabilities); all unless given.
    * `percent`: whether it is a part of one, which reports show in percent.

    A metric of your own is a subclass with a name and `terms`, and with `value` where the metric is
    not the mean of its terms.

    ```python
    class WithinTen(fx.Metric):
        name, better, percent = "within-ten", "higher", True

        def terms(self, prediction, target):
            return {"near": (abs(prediction - target) < 10).mean(axis=1)}

    fx.fit(network, data, metrics=["rmse", WithinTen()])
    ```
    """

    name: ClassVar[str]
    better: ClassVar[str] = "higher"
    suits: ClassVar[tuple[str, ...]] = KINDS
    percent: ClassVar[bool] = False

    @property
    def key(self) -> str:
        """The name as records have it, with underscores."""
        return self.name.replace("-", "_")

    @abc.abstractmethod
    def terms(self, prediction: Array, target: Array) -> Mapping[str, Array]:
        """What is averaged over examples, by name: one number, or one row, for each of them.

        **Arguments**: `prediction`, `(batch, ...)`, the mean of the output's energy
        (`Energy.expected`): probabilities of classes or labels, rates of counts, values; `target`,
        of the same shape: one-hot for integer labels. Both in the units of the data set before it
        was standardized, where it knows them (`fx.data.Preparation`). Traced, so that it is written
        with `jax.numpy` or operators.
        """

    def value(self, means: Mapping[str, Any]) -> float:
        """The metric, from the means of the terms; unless defined, the mean of all of them.

        **Arguments**: `means`, NumPy arrays by the names of the terms, without the first axis.
        """
        return float(np.mean([np.mean(mean) for mean in means.values()]))
