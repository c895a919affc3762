"""Paired differences: by hand, by enumeration, and against SciPy."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

import fathomx as fx


def test_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1; of eight changes of sign two are as far from 0."""
    found = fx.paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert found.differences == (1.0, 2.0, 3.0)
    assert (found.mean, found.deviation, found.p) == (2.0, 1.0, 0.25)
    # t of 2 degrees of freedom at 97.5% is 4.302653.
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


@pytest.mark.parametrize("count", [2, 5, 9])
def test_against_scipy(count):
    rng = np.random.default_rng(count)
    first, second = rng.normal(0.3, 1, count), rng.normal(0, 1, count)
    found = fx.paired(list(first), list(second))
    test = scipy.stats.ttest_rel(first, second)
    interval = test.confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], [interval.low, interval.high], rtol=1e-12)
    exact = scipy.stats.permutation_test(
        (first, second),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=10**6,
    )
    assert found.p == pytest.approx(exact.pvalue, abs=1e-12)
    flips = [
        abs(sum(s * d for s, d in zip(signs, first - second, strict=True)))
        for signs in itertools.product((1, -1), repeat=count)
    ]
    as_far = sum(f >= abs(sum(first - second)) - 1e-12 for f in flips)
    assert found.p == as_far / 2**count


def test_many_pairs_are_drawn():
    """Beyond 16 pairs by chance, near the normal limit; the same numbers give the same p."""
    differences = np.random.default_rng(0).normal(0.2, 1, 40)
    found = fx.paired(list(differences), [0.0] * 40)
    z = differences.sum() / math.sqrt((differences**2).sum())
    assert found.p == pytest.approx(2 * scipy.stats.norm.sf(z), rel=0.15)
    assert found == fx.paired(list(differences), [0.0] * 40)


def test_ends():
    one = fx.paired([0.9], [0.7])
    assert math.isnan(one.deviation)
    assert (one.low, one.high, one.p) == (-math.inf, math.inf, 1.0)
    same = fx.paired([0.5, 0.6], [0.5, 0.6])
    assert (same.mean, same.p) == (0.0, 1.0)
    for pairs in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match="give both methods the same pairs"):
            fx.paired(*pairs)
    with pytest.raises(ValueError, match=r"every member of second must be a finite number"):
        fx.paired([1.0, 2.0], [1.0, math.nan])
