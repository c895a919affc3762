"""Power laws, whose exponents are slopes where both axes are logarithmic."""

from __future__ import annotations

import numpy as np
import scipy.stats


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of the least-squares line through the logarithms of `y` over those of `x`."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def interval(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The ends of the 95% confidence interval of the slope, by Student's distribution.

    Of fewer than three points it is everything.
    """
    if len(x) < 3:
        return -np.inf, np.inf
    fitted = scipy.stats.linregress(np.log(x), np.log(y))
    # Of values that are all alike the quotient inside is 0 / 0.
    error = 0.0 if np.ptp(y) == 0 else float(fitted.stderr)
    half = float(scipy.stats.t.ppf(0.975, len(x) - 2)) * error
    return float(fitted.slope) - half, float(fitted.slope) + half
