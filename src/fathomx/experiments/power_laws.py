"""Power laws, whose exponents are slopes where both axes are logarithmic."""

from __future__ import annotations

import numpy as np


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of the least-squares line through the logarithms of `y` over those of `x`."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
