"""Exponents of power laws."""

import numpy as np
import pytest

from fathomx.experiments.power_laws import slope


def test_slope_of_a_power_law():
    x = np.asarray([1.0, 2.0, 8.0])
    assert slope(x, 3 * x**-1.5) == pytest.approx(-1.5)
