"""Weights of examples in data sets and streams."""

import jax
import numpy as np
import optax
import pytest
from sklearn.utils.class_weight import compute_sample_weight

import fathomx as fx

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
LABELS = RNG.integers(0, 3, 40)
WEIGHTS = RNG.integers(0, 3, 40).astype(np.float32)
TWICE = np.repeat(np.arange(40), WEIGHTS.astype(int))


def network():
    return fx.models.mlp(3, 3, width=4, depth=3, key=jax.random.key(0))


def train(data, batch_size=40):
    rate = optax.sgd(0.1)
    return fx.fit(network(), data, fx.Backprop(), optimizer=rate, epochs=2, batch_size=batch_size)


def close(one, other):
    for a, b in zip(*(jax.tree.leaves(fx.weights(r.network)) for r in (one, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "data",
    [
        lambda part: fx.data.Dataset("mine", part, part, part, classes=3),
        lambda part: fx.data.Stream(part, part, part),
        lambda part: fx.data.Stream([part], [part], [part]),
        lambda part: fx.data.Dataset("mine", *3 * [dict(zip(NAMES, part, strict=True))]),
        lambda part: fx.data.Stream(*3 * [dict(zip(NAMES, part, strict=True))]),
    ],
    ids=["pairs", "rows", "batches", "named", "named rows"],
)
def test_weights_are_how_often_an_example_is_there(data):
    """In learning, and in the scores of parts that have weights."""
    found = train(data((X, LABELS, WEIGHTS)))
    repeated = fx.data.Dataset("mine", *3 * [(X[TWICE], LABELS[TWICE])], classes=3)
    wanted = train(repeated, len(TWICE))
    close(found, wanted)
    for name in ("test_loss", "test_accuracy", "validation_loss", "validation_accuracy"):
        np.testing.assert_allclose(found.summary[name], wanted.summary[name], rtol=1e-5)
    np.testing.assert_allclose(
        [r["train_loss"] for r in found.history], [r["train_loss"] for r in wanted.history], 1e-5
    )


NAMES = ("input", "output", "weights")


def test_scores_of_parts_without_weights_are_plain_means():
    data = fx.data.Dataset("mine", (X, LABELS, WEIGHTS), (X, LABELS), classes=3)
    found = train(data)
    prediction = np.asarray(fx.predict(found.network, X)).argmax(1)
    assert found.summary["validation_accuracy"] == pytest.approx((prediction == LABELS).mean())


def test_split_moves_weights_with_their_examples():
    marked = np.arange(1, 41, dtype=np.float32)
    data = fx.data.split((np.repeat(marked[:, None], 3, 1), LABELS, marked), classes=3)
    for title in data.titles:
        arrays = data.arrays(title)
        np.testing.assert_array_equal(arrays["input"][:, 0], arrays["weights"])
    few = data.take(8)
    np.testing.assert_array_equal(few.arrays("test")["weights"], few.test.inputs[:, 0])
    assert set(few.flat().weights) == {"train", "validation", "test"}


@pytest.mark.parametrize("labels", [LABELS, [5, 5, 5, 0], [1]])
def test_class_weights_are_scikit_learns(labels):
    wanted = compute_sample_weight("balanced", labels)
    np.testing.assert_allclose(fx.data.class_weights(labels), wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (np.zeros((3, 2), int), ValueError, r"labels have the shape \(3, 2\), but must be \(n,\)"),
        ([], ValueError, r"labels have the shape \(0,\), but must be"),
        ([0.0, 1.0], TypeError, "labels must be integers, not float64; give labels.astype"),
    ],
)
def test_class_weights_are_of_class_numbers(labels, error, words):
    with pytest.raises(error, match=words):
        fx.data.class_weights(labels)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones(39), r"weights have the shape \(39,\), but there are 40 examples; give one"),
        (-np.ones(40), "weights run from -1 to -1, but must be finite, at least 0, and not all 0"),
        (np.zeros(40), "weights run from 0 to 0, but must be finite, at least 0, and not all 0"),
        (np.full(40, np.nan), "weights run from nan to nan, but must be finite"),
    ],
)
def test_weights_that_do_not_fit(weights, words):
    with pytest.raises(ValueError, match=f"in the train part of data set 'mine', {words}"):
        fx.data.Dataset("mine", (X, LABELS, weights), classes=3)


def test_negative_weights_by_name():
    named = {"input": X, "output": LABELS, "weights": -WEIGHTS}
    with pytest.raises(ValueError, match="in the train part of 'mine', weights run from -2 to -0"):
        train(fx.data.Dataset("mine", named))
    with pytest.raises(ValueError, match="weights run from -2 to -0, but must be finite"):
        train(fx.data.Stream(named))
