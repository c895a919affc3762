"""Metrics of classes, of which one holds: over the last axis, at each of any positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx.checks import Count, gate
from fathomx.metrics.base import Metric


class _OfClasses(Metric):
    """A metric of classes; terms are means over positions."""

    suits: ClassVar[tuple[str, ...]] = ("classes",)

    def terms(self, prediction: Array, target: Array) -> Mapping[str, Array]:
        return {
            name: term.mean(axis=1)
            for name, term in self._at_positions(by_position(prediction), by_position(target))
        }

    def _at_positions(self, prediction: Array, target: Array) -> Any:
        """Pairs of a name and a term of shape `(batch, positions)` or with a row at each."""
        raise NotImplementedError


def by_position(array: Array) -> Array:
    """An array `(batch, positions, classes)`."""
    return array.reshape(len(array), -1, array.shape[-1])


@gate
class Accuracy(_OfClasses):
    """How often the likeliest class is the target's: the part of examples, or of positions.

    ```python
    fx.fit(network, digits, metrics=["accuracy"])
    ```
    """

    name: ClassVar[str] = "accuracy"
    percent: ClassVar[bool] = True

    def _at_positions(self, prediction: Array, target: Array) -> Any:
        yield "hits", 1.0 * (prediction.argmax(axis=-1) == target.argmax(axis=-1))


@gate
class TopAccuracy(_OfClasses):
    """How often the target's class is among the `most` likeliest.

    Of classes that are equally likely the first count, as in `argmax`, so that `TopAccuracy(1)` is
    the accuracy. Raises `ValueError` where there are no more classes than `most`.

    ```python
    fx.fit(network, digits, metrics=["accuracy", "top5", fx.metrics.TopAccuracy(2)])
    ```
    """

    most: Count = eqx.field(static=True, default=5)
    percent: ClassVar[bool] = True

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"top{self.most}"

    def _at_positions(self, prediction: Array, target: Array) -> Any:
        classes = prediction.shape[-1]
        if classes <= self.most:
            raise ValueError(
                f"metric {self.name!r} is always 1 for {classes} classes; leave it out, or give "
                f"fx.metrics.TopAccuracy(most) with fewer."
            )
        true = target.argmax(axis=-1, keepdims=True)
        own = jnp.take_along_axis(prediction, true, axis=-1)
        before = (prediction == own) & (jnp.arange(classes) < true)
        rank = ((prediction > own) | before).sum(axis=-1)
        yield "hits", 1.0 * (rank < self.most)


@gate
class BalancedAccuracy(_OfClasses):
    """The mean over classes of how often a target of the class is recognized.

        mean over classes k that occur of (hits of class k) / (targets of class k)

    The same for every class, however rare it is; chance is one over the number of classes.

    ```python
    fx.fit(network, digits, metrics=["balanced-accuracy"])
    ```

    Source: Brodersen et al. (2010), doi 10.1109/ICPR.2010.764.
    """

    name: ClassVar[str] = "balanced-accuracy"
    percent: ClassVar[bool] = True

    def _at_positions(self, prediction: Array, target: Array) -> Any:
        found, true = _one_hot(prediction), _one_hot(target)
        yield "hits", found * true
        yield "targets", true

    def value(self, means: Mapping[str, Any]) -> float:
        occur = means["targets"] > 0
        return float(np.mean(means["hits"][occur] / means["targets"][occur]))


@gate
class MacroF1(_OfClasses):
    """The mean over classes of F1, the harmonic mean of precision and recall.

        mean over k of 2 (hits of class k) / (predictions of class k + targets of class k)

    over the classes that occur or are predicted.

    ```python
    fx.fit(network, digits, metrics=["macro-f1"])
    ```
    """

    name: ClassVar[str] = "macro-f1"
    percent: ClassVar[bool] = True

    def _at_positions(self, prediction: Array, target: Array) -> Any:
        found, true = _one_hot(prediction), _one_hot(target)
        yield "hits", found * true
        yield "both", found + true

    def value(self, means: Mapping[str, Any]) -> float:
        known = means["both"] > 0
        return float(np.mean(2 * means["hits"][known] / means["both"][known]))


@gate
class LogLoss(_OfClasses):
    """Minus the logarithm of the probability predicted for the target's class, in nats.

        -sum_k target_k log p_k

    Unlike the loss, which comes from the logits, it sees probabilities only: these count as at
    least the machine epsilon (1.2e-7 in float32), so that one example costs at most 16.

    ```python
    fx.fit(network, digits, metrics=["log-loss"])     # of a Categorical output
    ```
    """

    name: ClassVar[str] = "log-loss"
    better: ClassVar[str] = "lower"
    suits: ClassVar[tuple[str, ...]] = ("distributions",)

    def _at_positions(self, prediction: Array, target: Array) -> Any:
        least = jnp.finfo(prediction.dtype).eps
        yield "missed", -jnp.sum(target * jnp.log(jnp.clip(prediction, least)), axis=-1)


def _one_hot(array: Array) -> Array:
    return jax.nn.one_hot(array.argmax(axis=-1), array.shape[-1], dtype=array.dtype)
