"""Metrics of labels, of which several may hold: predicted are those likelier than not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Array

from fathomx.checks import gate
from fathomx.metrics.base import Metric


class _OfLabels(Metric):
    """A metric of labels."""

    suits: ClassVar[tuple[str, ...]] = ("labels",)
    percent: ClassVar[bool] = True


def _held(prediction: Array, target: Array) -> tuple[Array, Array]:
    """Which labels are predicted and which hold, `(batch, labels)`."""
    return tuple(array.reshape(len(array), -1) > 0.5 for array in (prediction, target))  # type: ignore[return-value]


@gate
class LabelAccuracy(_OfLabels):
    """The part of all labels that is predicted rightly: one minus the Hamming loss.

    ```python
    fx.fit(network, tags, metrics=["label-accuracy"])       # of a Bernoulli output
    ```
    """

    name: ClassVar[str] = "label-accuracy"

    def terms(self, prediction: Array, target: Array) -> Mapping[str, Array]:
        found, true = _held(prediction, target)
        return {"hits": (found == true).mean(axis=1)}


@gate
class ExactMatch(_OfLabels):
    """The part of examples all of whose labels are predicted rightly.

    ```python
    fx.fit(network, tags, metrics=["exact-match"])
    ```
    """

    name: ClassVar[str] = "exact-match"

    def terms(self, prediction: Array, target: Array) -> Mapping[str, Array]:
        found, true = _held(prediction, target)
        return {"hits": 1.0 * (found == true).all(axis=1)}


@gate
class F1(_OfLabels):
    """Micro-averaged F1, the harmonic mean of precision and recall over all labels together.

        2 hits / (predicted + holding)

    1 where no label holds and none is predicted.

    ```python
    fx.fit(network, tags, metrics=["f1", "exact-match"])
    ```
    """

    name: ClassVar[str] = "f1"

    def terms(self, prediction: Array, target: Array) -> Mapping[str, Array]:
        found, true = _held(prediction, target)
        return {
            "hits": (found & true).sum(axis=1) * 1.0,
            "both": (found.sum(axis=1) + true.sum(axis=1)) * 1.0,
        }

    def value(self, means: Mapping[str, Any]) -> float:
        return float(2 * means["hits"] / means["both"]) if means["both"] > 0 else 1.0
