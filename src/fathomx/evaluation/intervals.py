"""Intervals around what was measured on some examples: Wilson's, and those of a bootstrap."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx.checks import open_gate

_LEVEL = 0.95
_RESAMPLES = 1000
# Examples that are drawn at once, so that no array of all draws is needed.
_DRAWN_AT_ONCE = 1_000_000


@open_gate
@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number that was measured on some examples, and the interval that holds it with 95%.

    **Fields**: `value`; `low` and `high`, not a number where there is no interval; `method`,
    `"wilson"`, `"bootstrap"` or `"none"`.
    """

    value: float
    low: float
    high: float
    method: str

    def __str__(self) -> str:
        if self.method == "none":
            return f"{self.value:.4g}"
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def wilson(hits: int, count: int) -> Estimate:
    """A proportion `p = hits / count` with the interval of a score test at 95%.

        (p + z^2 / (2 n) -+ z sqrt(p (1 - p) / n + z^2 / (4 n^2))) / (1 + z^2 / n)

    with `z = 1.96`. Unlike `p -+ z sqrt(p (1 - p) / n)` it stays within 0 to 1, and has a width
    where `p` is 0 or 1. Of no examples nothing is known: not a number, from 0 to 1.

    Source: Wilson (1927), doi 10.1080/01621459.1927.10502953.
    """
    if count == 0:
        return Estimate(math.nan, 0.0, 1.0, "wilson")
    z = NormalDist().inv_cdf(0.5 + _LEVEL / 2)
    part, whole = hits / count, 1 + z**2 / count
    center = (part + z**2 / (2 * count)) / whole
    half = z * math.sqrt(part * (1 - part) / count + z**2 / (4 * count**2)) / whole
    # At the ends the formula is exact, its rounding is not.
    low = 0.0 if hits == 0 else max(0.0, center - half)
    high = 1.0 if hits == count else min(1.0, center + half)
    return Estimate(part, low, high, "wilson")


def bootstrap(
    terms: Mapping[str, NDArray[Any]], value: Callable[[Mapping[str, Any]], float], seed: int
) -> Estimate:
    """A function of means over examples, with the percentile interval of 1,000 resamples at 95%.

    **Arguments**: `terms`, one number or one row per example by name, `(n, ...)`; `value`, from
    their means, without the first axis, to the number; `seed`. Examples are drawn with
    replacement, all terms of one together; the interval reaches from the 2.5th to the 97.5th
    percentile. One example has none.

    Source: Efron (1979), doi 10.1214/aos/1176344552, the percentile method.
    """
    arrays = {name: np.asarray(each, np.float64) for name, each in terms.items()}
    size = len(next(iter(arrays.values())))
    found = value({name: array.mean(axis=0) for name, array in arrays.items()})
    if size < 2:
        return Estimate(found, math.nan, math.nan, "none")
    rng = np.random.default_rng(seed)
    values: list[float] = []
    while len(values) < _RESAMPLES:
        some = min(_RESAMPLES - len(values), max(1, _DRAWN_AT_ONCE // size))
        drawn = rng.integers(0, size, (some, size))
        # How often each example was drawn: means are then products, whatever a term's shape.
        weights = np.stack([np.bincount(row, minlength=size) for row in drawn]) / size
        means = {name: np.tensordot(weights, array, 1) for name, array in arrays.items()}
        values += [value({name: mean[row] for name, mean in means.items()}) for row in range(some)]
    low, high = np.nanquantile(values, [0.5 - _LEVEL / 2, 0.5 + _LEVEL / 2]).tolist()
    return Estimate(found, low, high, "bootstrap")
