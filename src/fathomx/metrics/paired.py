"""Two methods on the same seeds: their difference, how sure it is, and an exact test."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from fathomx.checks import gate

# Up to so many pairs all changes of sign are counted, 2^n of them; beyond, these many at random.
_MOST_PAIRS = 16
_RESAMPLES = 99_999


@dataclasses.dataclass(frozen=True)
class Paired:
    """The differences of two methods over pairs of runs that share all else, such as the seed.

    * `differences`: one for every pair.
    * `mean`, and `deviation`, the standard deviation with `n - 1` below; NaN for one pair.
    * `low`, `high`: the 95% interval of the mean by Student's t, infinite for one pair.
    * `p`: of the sign-flip test, two-sided: if the methods did not differ, every difference could
      as well have had the other sign; `p` is the part of all changes of sign whose mean is at least
      as far from 0. It is exact up to 16 pairs, and can be no smaller than `2 / 2^n`: with five
      pairs no less than 0.0625.

    Source: Fisher (1935), The Design of Experiments, chapter 3.

    ```python
    paired = fx.paired([0.91, 0.93, 0.90], [0.90, 0.91, 0.90])
    paired.mean, paired.low, paired.high, paired.p
    ```
    """

    differences: tuple[float, ...]
    mean: float
    deviation: float
    low: float
    high: float
    p: float


@gate
def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """The `Paired` differences of two methods, the first less the second, pair by pair.

    Raises `ValueError` if there are no pairs, not as many of both, or one is not finite.
    """
    pairs = (list(first), list(second))
    if not pairs[0] or len(pairs[0]) != len(pairs[1]):
        raise ValueError(
            f"first has {len(pairs[0])} numbers and second {len(pairs[1])}; give both methods the "
            "same pairs, at least one."
        )
    # Takes a tenth of the time that the package takes to be imported.
    import scipy.special

    found = np.subtract(*(np.asarray(each, np.float64) for each in pairs))
    mean = float(found.mean())
    if len(found) == 1:
        return Paired((mean,), mean, math.nan, -math.inf, math.inf, 1.0)
    deviation = float(found.std(ddof=1))
    reach = float(scipy.special.stdtrit(len(found) - 1, 0.975)) * deviation / math.sqrt(len(found))
    return Paired(
        tuple(map(float, found)), mean, deviation, mean - reach, mean + reach, _sign_flips(found)
    )


def _sign_flips(differences: np.ndarray) -> float:
    """The part of all changes of sign whose mean is at least as far from 0."""
    count = len(differences)
    if count <= _MOST_PAIRS:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], (_RESAMPLES, count))
    means = np.abs(signs @ differences)
    # Rounding must not part what is equal.
    as_far = means >= np.abs(differences.sum()) * (1 - 1e-12)
    if count <= _MOST_PAIRS:
        return float(as_far.mean())
    return float((as_far.sum() + 1) / (_RESAMPLES + 1))
