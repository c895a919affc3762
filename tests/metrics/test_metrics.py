"""Metrics against scikit-learn, over uneven batches and with weights; mistakes in one sentence."""

import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as oracle

import fathomx as fx

N, CLASSES = 203, 7
CUTS = (0, 1, 90, 97, N)
RNG = np.random.default_rng(0)


def over_batches(metric, prediction, target, weights=None):
    """The metric from terms of uneven batches, averaged by hand in float64."""
    weights = np.ones(len(target)) if weights is None else weights
    totals = {}
    for begin, end in itertools.pairwise(CUTS):
        ends = jnp.asarray(prediction[begin:end]), jnp.asarray(target[begin:end])
        for name, term in jax.jit(metric.terms)(*ends).items():
            rows = np.asarray(term, np.float64)
            own = weights[begin:end].reshape(-1, *[1] * (rows.ndim - 1))
            totals[name] = totals.get(name, 0) + (own * rows).sum(axis=0)
    return metric.value({name: total / weights.sum() for name, total in totals.items()})


def named(name):
    return fx.metrics.named(name)


LOGITS = RNG.normal(size=(N, CLASSES)).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
# Unlike numbers of each class.
LABELS = np.minimum(RNG.geometric(0.35, N) - 1, CLASSES - 1)
LABELS = np.where(RNG.random(N) < 0.4, LOGITS.argmax(axis=1), LABELS)
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[LABELS]
FOUND = LOGITS.argmax(axis=1)
WEIGHTS = RNG.integers(0, 4, N).astype(float)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", lambda w: oracle.accuracy_score(LABELS, FOUND, sample_weight=w)),
        (
            "top5",
            lambda w: oracle.top_k_accuracy_score(LABELS, LOGITS, k=5, sample_weight=w),
        ),
        (
            "balanced-accuracy",
            lambda w: oracle.balanced_accuracy_score(LABELS, FOUND, sample_weight=w),
        ),
        ("macro-f1", lambda w: oracle.f1_score(LABELS, FOUND, average="macro", sample_weight=w)),
        ("log-loss", lambda w: oracle.log_loss(LABELS, PROBABILITIES, sample_weight=w)),
    ],
)
def test_classes(name, expected, weights):
    found = over_batches(named(name), PROBABILITIES, ONE_HOT, weights)
    np.testing.assert_allclose(found, expected(weights), rtol=1e-6)


def test_a_class_that_does_not_occur_counts_in_no_mean():
    kept = LABELS != 2
    with pytest.warns(UserWarning, match="not in y_true"):
        expected = oracle.balanced_accuracy_score(LABELS[kept], FOUND[kept])
    weights = kept.astype(float)
    found = over_batches(named("balanced-accuracy"), PROBABILITIES, ONE_HOT, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_first_of_equals_counts_as_in_argmax():
    prediction = jnp.array([[0.3, 0.3, 0.3, 0.1]] * 3)
    target = jnp.eye(4)[jnp.array([0, 1, 2])]
    for most, hits in ((1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1])):
        terms = fx.metrics.TopAccuracy(most).terms(prediction, target)
        np.testing.assert_array_equal(terms["hits"], hits)


def test_positions_are_averaged():
    """Four tokens in a window, by hand: two, one and no hits."""
    labels = np.array([[0, 1, 2, 0], [1, 1, 1, 2], [2, 2, 2, 2]])
    found = np.array([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1]])
    terms = named("accuracy").terms(jnp.eye(3)[found], jnp.eye(3)[labels])
    np.testing.assert_allclose(terms["hits"], [0.5, 0.25, 0])


TAGS = (RNG.random((N, 4)) < [0.5, 0.2, 0.7, 0.4]).astype(np.float32)
HELD = RNG.random((N, 4)).astype(np.float32) * 0.6 + 0.4 * TAGS


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("label-accuracy", lambda *a, **w: 1 - oracle.hamming_loss(*a, **w)),
        ("exact-match", oracle.accuracy_score),
        ("f1", lambda *a, **w: oracle.f1_score(*a, average="micro", **w)),
    ],
)
def test_labels(name, expected, weights):
    found = over_batches(named(name), HELD, TAGS, weights)
    expected = expected(TAGS > 0.5, HELD > 0.5, sample_weight=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_f1_without_any_label():
    empty = np.zeros((N, 4), np.float32)
    assert over_batches(named("f1"), empty, empty) == 1
    assert over_batches(named("f1"), empty, TAGS) == 0


VALUES = (RNG.normal(size=(N, 3)) * [1, 10, 0.1] + [5, 0, -2]).astype(np.float32)
GUESSES = (VALUES + RNG.normal(size=(N, 3)) * [0.5, 20, 0.01]).astype(np.float32)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mse", oracle.mean_squared_error),
        ("rmse", oracle.root_mean_squared_error),
        ("mae", oracle.mean_absolute_error),
        ("r2", oracle.r2_score),
    ],
)
def test_values(name, expected, weights):
    found = over_batches(named(name), GUESSES, VALUES, weights)
    truth = expected(VALUES.astype(float), GUESSES.astype(float), sample_weight=weights)
    np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_r2_where_the_mean_is_far_from_zero():
    """In float32 the squares of these targets have no digits left for their variance."""
    target = (2e3 + RNG.normal(size=(N, 1))).astype(np.float32)
    guess = (target + 0.3 * RNG.normal(size=(N, 1))).astype(np.float32)
    expected = oracle.r2_score(target.astype(float), guess.astype(float))
    np.testing.assert_allclose(over_batches(named("r2"), guess, target), expected, rtol=1e-5)
    assert abs(np.mean(target**2) - np.mean(target) ** 2 - target.astype(float).var()) > 0.1


def test_r2_of_a_constant_target():
    target = np.stack([np.full(N, 3.1), np.full(N, 3.1), VALUES[:, 0]], axis=1).astype(np.float32)
    guess = target + np.array([0, 0.1, 0], np.float32)
    expected = oracle.r2_score(target.astype(float), guess.astype(float))
    np.testing.assert_allclose(over_batches(named("r2"), guess, target), expected, rtol=1e-5)


def test_deviance_of_counts():
    rates = np.exp(RNG.normal(size=(N, 1))).astype(np.float32)
    counts = RNG.poisson(rates).astype(np.float32)
    assert (counts == 0).any()
    found = over_batches(named("deviance"), rates, counts, WEIGHTS)
    expected = oracle.mean_poisson_deviance(counts[:, 0], rates[:, 0], sample_weight=WEIGHTS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # Twice the energy at the logarithm of the rate.
    terms = named("deviance").terms(jnp.asarray(rates), jnp.asarray(counts))["deviance"]
    energies = fx.Poisson().terms(jnp.asarray(counts), jnp.log(rates))
    np.testing.assert_allclose(terms, 2 * energies, rtol=1e-4, atol=1e-6)
    assert np.isfinite(named("deviance").terms(jnp.zeros((1, 1)), jnp.ones((1, 1)))["deviance"])


# In `fit`.

X = RNG.normal(size=(260, 5)).astype(np.float32)


def fitted(y, energy=None, size=None, **options):
    size = y.shape[1] if y.ndim > 1 else size
    network = fx.models.mlp(5, size, width=6, depth=2, output=energy, key=jax.random.key(0))
    data = fx.data.split({"input": X, "output": y})
    return fx.fit(network, data, fx.Backprop(), epochs=1, batch_size=52, **options), data


COUNTS = RNG.poisson(np.exp(X[:, :2])).astype(np.float32)
SIGNS = (X[:, :3] > 0).astype(np.float32)
KINDS = (X[:, 0] > 0) * 1 + (X[:, 1] > 0)


@pytest.mark.parametrize(
    ("energy", "y", "metric"),
    [
        (fx.Gaussian(), X[:, :2] ** 2, "rmse"),
        (fx.Laplace(), X[:, :2] ** 2, "mae"),
        (fx.Poisson(), COUNTS, "deviance"),
        (fx.Bernoulli(), SIGNS, "label_accuracy"),
        (fx.Bernoulli(), KINDS, "accuracy"),
        (fx.Categorical(), KINDS, "accuracy"),
        (fx.Gaussian(), KINDS, "accuracy"),
        (fx.Categorical(), np.eye(3, dtype=np.float32)[KINDS], "accuracy"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, fx.Energy) else "",
)
def test_the_usual_metric(energy, y, metric):
    result, data = fitted(y, energy, size=3)
    scores = [k for k in result.history[-1] if k.startswith("validation_")]
    assert scores == ["validation_loss", f"validation_{metric}"]
    assert [k for k in result.summary if k.startswith("test_")] == ["test_loss", f"test_{metric}"]
    assert ("train_accuracy" in result.history[-1]) == (metric == "accuracy")
    prediction = energy.expected(fx.predict(result.network, data.test["input"]))
    target = data.test["output"]
    if target.ndim == 1:
        target = np.eye(3)[target]
    terms = fx.metrics.named(metric.replace("_", "-")).terms(prediction, jnp.asarray(target))
    means = {name: np.mean(term, axis=0) for name, term in terms.items()}
    expected = fx.metrics.named(metric.replace("_", "-")).value(means)
    np.testing.assert_allclose(result.summary[f"test_{metric}"], expected, rtol=1e-5)


def test_errors_are_in_the_units_that_targets_had():
    """The same data, standardized with its scale told and not told."""
    told = fx.data.load("diabetes")
    silent = fx.data.Dataset("silent", told.train, told.validation, told.test)
    network = fx.models.mlp(10, 1, width=6, depth=2, key=jax.random.key(0))
    options = {"epochs": 1, "metrics": ["rmse", "mae", "r2", "mse"]}
    one, other = (fx.fit(network, d, fx.Backprop(), **options).summary for d in (told, silent))
    deviation = told.preparation.scales["output"].std
    assert deviation.shape == (1,) and deviation[0] == pytest.approx(78.56, abs=0.01)
    for name, power in (("rmse", 1), ("mae", 1), ("mse", 2), ("r2", 0), ("loss", 0)):
        scaled = other[f"test_{name}"] * deviation[0] ** power
        assert one[f"test_{name}"] == pytest.approx(scaled, rel=1e-4)


class Within(fx.Metric):
    """How often the prediction is near: needs the units that the target had."""

    name: ClassVar[str] = "within"
    percent: ClassVar[bool] = True
    limit: float

    def terms(self, prediction, target):
        return {"near": (abs(prediction - target) < self.limit).mean(axis=1)}


def test_an_own_metric():
    data = fx.data.load("diabetes")
    network = fx.models.mlp(10, 1, width=6, depth=2, key=jax.random.key(0))
    result = fx.fit(network, data, fx.Backprop(), epochs=1, metrics=["rmse", Within(40.0)])
    found = np.asarray(fx.predict(result.network, data.test["input"])) - data.test["output"]
    assert (
        result.summary["test_within"]
        == (abs(found * data.preparation.scales["output"].std) < 40).mean()
    )
    assert 0 < result.summary["test_within"] < 1
    assert set(result.history[0]) >= {"validation_rmse", "validation_within"}


class Misnamed(Within):
    name: ClassVar[str] = "Within 10"


class Taken(Within):
    name: ClassVar[str] = "loss"


class Sideways(Within):
    better: ClassVar[str] = "larger"


class Whole(Within):
    def terms(self, prediction, target):
        return {"near": (abs(prediction - target) < self.limit).mean()}


class Bare(Within):
    def terms(self, prediction, target):
        return abs(prediction - target)


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (["rsme"], ValueError, "unknown metric 'rsme'. Did you mean 'rmse'"),
        (["accuracy"], ValueError, r"'accuracy' is for classes, .* choose from mse, rmse, mae, r2"),
        (["deviance"], ValueError, r"'deviance' is for counts, .* fx.Gaussian\(\), are not"),
        (["rmse", "rmse"], ValueError, "'rmse' is given twice"),
        ("rmse", TypeError, "metrics must be a list"),
        ([3], TypeError, "a metric must be a Metric such as 'rmse'"),
        ([Within], TypeError, "call it"),
        ([Misnamed(1.0)], ValueError, "must be a lower-case word"),
        ([Taken(1.0)], ValueError, "is that of another score"),
        ([Sideways(1.0)], ValueError, "'higher' or 'lower', not 'larger'"),
        ([Whole(1.0)], ValueError, r"'near' of metric 'within' has shape \(\) for 2 examples"),
        ([Bare(1.0)], TypeError, "terms of metric 'within' must return arrays by name"),
    ],
)
def test_metrics_that_cannot_be_used_are_said_before_training(metrics, error, message):
    with pytest.raises(error, match=message):
        fitted(X[:, :2], metrics=metrics)


def test_what_has_no_prediction_to_judge_is_said():
    with pytest.raises(ValueError, match="top5' is always 1 for 3 classes"):
        fitted(KINDS, fx.Categorical(), size=3, metrics=["top5"])
    with pytest.raises(
        ValueError, match=r"fx.Gaussian\(\) with labels of classes, are not; choose"
    ):
        fitted(KINDS, fx.Gaussian(), size=3, metrics=["rmse"])
    with pytest.raises(ValueError, match="scores and metrics are given"):
        fitted(X[:, :2], metrics=["rmse"], scores=lambda network, batch: {})
    decoder = fx.models.decoder(2, 5, width=6, depth=2, key=jax.random.key(0))
    with pytest.raises(ValueError, match="'output', beside its target, and here it is inferred"):
        fx.fit(decoder, fx.data.split({"output": X}), metrics=["rmse"])
