"""Standardization by the training part alone."""

import numpy as np
import pandas
import pytest

import fathomx as fx

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3)) * [1, 100, 0] + [5, -3, 7]
LABELS = np.arange(30) % 3
PARTS = [slice(0, 20), slice(20, 25), slice(25, 30)]


def pairs():
    return fx.data.Dataset("mine", *[(X[rows], LABELS[rows]) for rows in PARTS], classes=3)


def named(**more):
    arrays = {"input": X, "output": X[:, :2] ** 2, "kind": LABELS, "weights": X[:, 1] ** 2}
    return fx.data.Dataset("mine", *[{k: a[rows] for k, a in arrays.items()} for rows in PARTS])


@pytest.mark.filterwarnings("ignore:the root mean square")
@pytest.mark.parametrize("make", [pairs, named])
def test_all_parts_by_the_moments_of_the_training_part(make):
    given = make()
    data = fx.data.standardized(given)
    mean, std = X[:20].mean(0), X[:20].std(0)
    for title, rows in zip(data.titles, PARTS, strict=True):
        wanted = np.where(std > 0, (X[rows] - mean) / np.where(std > 0, std, 1), 0)
        np.testing.assert_allclose(data.arrays(title)["input"], wanted, atol=1e-5)
        kept = {"target"} if make is pairs else {"kind", "weights"}
        for name in kept:
            np.testing.assert_array_equal(data.arrays(title)[name], given.arrays(title)[name])
    if make is named:
        np.testing.assert_allclose(data.arrays("train")["output"].std(0), 1, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:the root mean square")
def test_new_data_and_the_way_back():
    scale = fx.data.Standardization(named())
    data = scale(named())
    frame = pandas.DataFrame(X[25:], columns=list("abc"))
    np.testing.assert_allclose(scale.of("input", frame), data.arrays("test")["input"], atol=1e-6)
    back = scale.undone("output", data.arrays("test")["output"])
    np.testing.assert_allclose(back, X[25:, :2] ** 2, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:the root mean square")
def test_what_does_not_fit():
    scale = fx.data.Standardization(pairs())
    with pytest.raises(ValueError, match=r"input has the shape \(5, 2\), but an example of the d"):
        scale.of("input", X[:5, :2])
    with pytest.raises(ValueError, match=r"unknown name 'target'. Choose from: input"):
        scale.of("target", LABELS)
