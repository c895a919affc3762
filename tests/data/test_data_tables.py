"""Tables of scikit-learn: every row once, standardized by the training part; a regression."""

import jax
import numpy as np
import pytest
import sklearn.datasets

import fathomx as fx

TITLES = ("train", "validation", "test")


def read(name):
    options = {"scaled": False} if name == "diabetes" else {}
    loader = getattr(sklearn.datasets, f"load_{name.replace('-', '_')}")
    x, y = loader(return_X_y=True, **options)
    return x, y


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("wine", [126, 17, 35]),
        ("breast-cancer", [400, 56, 113]),
        ("diabetes", [310, 44, 88]),
    ],
)
def test_every_row_once_standardized_by_the_training_part(name, sizes):
    x, y = read(name)
    loaded = fx.data.load(name)
    ends = list(loaded.arrays("train"))
    inputs, targets = ([loaded.arrays(title)[end] for title in TITLES] for end in ends)
    assert [len(each) for each in inputs] == sizes and sum(sizes) == len(x)
    # Columns in their units again, by least squares on the rows in the order of the first columns.
    whole = np.concatenate(inputs).astype(np.float64)
    order, own = (np.lexsort(table.T[::-1].round(4)) for table in (whole, x))
    for column in range(x.shape[1]):
        slope, offset = np.polyfit(whole[order, column], x[own, column], 1)
        restored = whole[order, column] * slope + offset
        np.testing.assert_allclose(restored, x[own, column], atol=1e-3 * x[:, column].std())
    found = np.concatenate(targets).reshape(len(x)).astype(np.float64)
    if name == "diabetes":
        slope, offset = np.polyfit(found[order], y[own], 1)
        np.testing.assert_allclose(found[order] * slope + offset, y[own], atol=0.05)
        np.testing.assert_allclose([slope, offset], [78.56, 152.46], atol=0.01)
        assert loaded.named and targets[0].shape == (310, 1)
    else:
        assert (found[order] == y[own]).all() and loaded.classes == y.max() + 1
        assert not loaded.image_shape
    assert abs(inputs[0].mean(axis=0)).max() < 1e-5
    np.testing.assert_allclose(inputs[0].std(axis=0), 1, atol=1e-4)


def test_the_folder_is_not_used_and_the_split_is_fixed():
    one, other = fx.data.load("wine"), fx.data.load("wine", folder="unused")
    assert (one.train.inputs == other.train.inputs).all()


def test_a_constant_column_becomes_zeros():
    from fathomx.data._scale import ColumnScale

    rows = np.array([[1.0, 5.0], [3.0, 5.0]])
    np.testing.assert_allclose(ColumnScale(rows)(rows), [[-1, 0], [1, 0]])


def test_real_targets_are_learned():
    """A linear network comes near to least squares, which is the least that it can reach."""
    diabetes = fx.data.load("diabetes")
    network = fx.models.mlp(
        10, 1, width=8, depth=2, activation="linear", bias=True, key=jax.random.key(0)
    )
    result = fx.fit(network, diabetes, optimizer=1e-2, epochs=15, batch_size=31, seed=0)
    assert [key in result.history[-1] for key in ("train_loss", "validation_loss")] == [True] * 2

    def half_square(columns, weights, targets):
        return float(np.mean((columns @ weights - targets) ** 2) / 2)

    train, test = diabetes.arrays("train"), diabetes.arrays("test")
    columns = {k: np.c_[v["input"], np.ones(len(v["input"]))] for k, v in
               (("train", train), ("test", test))}  # fmt: skip
    weights = np.linalg.lstsq(columns["train"], train["output"], rcond=None)[0]
    least = half_square(columns["train"], weights, train["output"])
    found = np.asarray(fx.predict(result.network, train["input"]))
    reached = float(np.mean((found - train["output"]) ** 2) / 2)
    assert least <= reached < 1.05 * least < 0.5 * 1.05
    # The test loss is the mean of half the squared error, as computed here.
    tested = np.mean((np.asarray(fx.predict(result.network, test["input"])) - test["output"]) ** 2)
    np.testing.assert_allclose(result.summary["test_loss"], tested / 2, rtol=1e-4)
