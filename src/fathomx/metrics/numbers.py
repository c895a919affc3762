"""Metrics of numbers: of each unit of the output by itself, then the mean over units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx.checks import gate
from fathomx.metrics.base import Metric

# Bits of a float32 whose square is exact, and how a variance of rounding is told from one.
_HALF = 11
_ROUNDING = 1e-12


class _OfNumbers(Metric):
    """A metric of numbers."""

    better: ClassVar[str] = "lower"
    suits: ClassVar[tuple[str, ...]] = ("values", "counts", "labels")


def by_unit(array: Array) -> Array:
    """An array `(batch, units)`."""
    return array.reshape(len(array), -1)


def _squares(prediction: Array, target: Array) -> Array:
    return (by_unit(target) - by_unit(prediction)) ** 2


@gate
class MeanSquaredError(_OfNumbers):
    """`mse`, the mean of `(target - prediction)^2`.

    ```python
    fx.fit(network, data, metrics=["mse"])
    ```
    """

    name: ClassVar[str] = "mse"

    def terms(self, prediction: Array, target: Array) -> Mapping[str, Array]:
        return {"square": _squares(prediction, target)}


@gate
class RootMeanSquaredError(_OfNumbers):
    """`rmse`, the root of the mean squared error of every unit, in the mean over units.

    ```python
    fx.fit(network, fx.data.load("diabetes"))       # the metric of a Gaussian output
    ```
    """

    name: ClassVar[str] = "rmse"

    def terms(self, prediction: Array, target: Array) -> Mapping[str, Array]:
        return {"square": _squares(prediction, target)}

    def value(self, means: Mapping[str, Any]) -> float:
        return float(np.mean(np.sqrt(means["square"])))


@gate
class MeanAbsoluteError(_OfNumbers):
    """`mae`, the mean of `|target - prediction|`.

    ```python
    fx.fit(network, data, metrics=["mae"])          # the metric of a Laplace output
    ```
    """

    name: ClassVar[str] = "mae"

    def terms(self, prediction: Array, target: Array) -> Mapping[str, Array]:
        return {"error": abs(by_unit(target) - by_unit(prediction))}


@gate
class R2(_OfNumbers):
    """`r2`, the part of the variance of every unit that is explained, in the mean over units.

        1 - (mean squared error) / (variance of the targets)

    1 is exact, 0 as good as the mean of these targets, below it worse. A unit whose targets are all
    the same counts 1 where they are met and 0 elsewhere. The squares of targets are summed in two
    parts, so that a mean a thousand times as large as the spread costs no digits in float32.

    ```python
    fx.fit(network, data, metrics=["rmse", "r2"])
    ```
    """

    name: ClassVar[str] = "r2"
    better: ClassVar[str] = "higher"

    def terms(self, prediction: Array, target: Array) -> Mapping[str, Array]:
        target = by_unit(target)
        coarse = jax.lax.reduce_precision(target, exponent_bits=8, mantissa_bits=_HALF)
        return {
            "square": _squares(prediction, target),
            "target": target,
            "coarse": coarse**2,
            "fine": (target - coarse) * (target + coarse),
        }

    def value(self, means: Mapping[str, Any]) -> float:
        power = means["coarse"] + means["fine"]
        spread = power - means["target"] ** 2
        constant = spread <= _ROUNDING * power
        explained = 1 - means["square"] / np.where(constant, 1, spread)
        met = (means["square"] <= _ROUNDING * power) * 1.0
        return float(np.mean(np.where(constant, met, explained)))


@gate
class Deviance(_OfNumbers):
    """`deviance` of counts from predicted rates, twice the energy of `fx.Poisson`.

        2 [target log(target / rate) - target + rate]

    the mean over examples and units; 0 where every rate is the count.

    ```python
    fx.fit(network, counts, metrics=["deviance"])   # of a Poisson output
    ```

    Source: McCullagh and Nelder (1989), chapter 2.
    """

    name: ClassVar[str] = "deviance"
    suits: ClassVar[tuple[str, ...]] = ("counts",)

    def terms(self, prediction: Array, target: Array) -> Mapping[str, Array]:
        rate, count = by_unit(prediction), by_unit(target)
        rate = jnp.maximum(rate, jnp.finfo(rate.dtype).tiny)
        logarithm = jnp.log(jnp.where(count > 0, count, 1)) - jnp.log(rate)
        return {"deviance": 2 * (count * logarithm - count + rate)}
