"""Evaluations beside closed forms, scikit-learn, SciPy and what was worked out by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import precision_score, recall_score

import fathomx as fx
from fathomx.evaluation.answers import probabilities
from fathomx.evaluation.calibration import calibration
from fathomx.evaluation.classes import class_scores, confusion_matrix, label_scores
from fathomx.evaluation.intervals import bootstrap, wilson

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def trained():
    """A network that knows some digits, and the digits."""
    digits = fx.data.load("digits").take(320)
    network = fx.models.mlp(64, 10, width=16, depth=2, activation="tanh", key=KEY)
    return fx.fit(network, digits, fx.Backprop(), epochs=3), digits


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (7, 7), (3, 10), (991, 1000), (1, 1)])
def test_wilson_is_scipys(hits, count):
    found = wilson(hits, count)
    ends = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose((found.low, found.high), ends, atol=1e-12)
    assert found.value == hits / count


def test_of_nothing_nothing_is_known():
    found = wilson(0, 0)
    assert np.isnan(found.value) and (found.low, found.high) == (0, 1)
    alone = bootstrap({"mean": np.ones(1)}, lambda means: float(means["mean"]), 0)
    assert alone.value == 1 and np.isnan(alone.low) and alone.method == "none"


def test_bootstrap_of_a_mean_is_that_of_the_normal_distribution():
    """For 400 examples the percentile interval is the mean -+ 1.96 standard errors, nearly."""
    values = RNG.normal(3, 2, 400)
    found = bootstrap({"mean": values}, lambda means: float(means["mean"]), 1)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean(), abs=1e-12)
    np.testing.assert_allclose((found.low, found.high), values.mean() + half * np.array([-1, 1]),
                               atol=0.12 * half)  # fmt: skip
    again = bootstrap({"mean": values}, lambda means: float(means["mean"]), 1)
    assert again == found
    other = bootstrap({"mean": values}, lambda means: float(means["mean"]), 2)
    assert (other.low, other.high) != (found.low, found.high)


def test_bootstrap_draws_the_terms_of_an_example_together():
    """A ratio of terms that are proportional in every example has no spread, rows included."""
    rows = RNG.uniform(1, 2, (50, 3))
    terms = {"above": 2 * rows, "below": rows}
    found = bootstrap(terms, lambda m: float((m["above"] / m["below"]).mean()), 0)
    np.testing.assert_allclose((found.value, found.low, found.high), 2, atol=1e-12)


def test_calibration_worked_by_hand():
    """Two predictions at 0.95, one right; two at 0.55, both right: |0.5 - 0.95| / 2 + 0.45 / 2."""
    found = calibration(np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, False, True, True]))
    assert found.error == pytest.approx(0.45, abs=1e-12)
    assert found.counts[14] == 2 and found.counts[8] == 2 and found.counts.sum() == 4
    assert found.accuracy[14] == 0.5 and found.confidence[8] == pytest.approx(0.55)
    assert np.isnan(found.accuracy[0])
    # A bin reaches to its upper end: 1/15 and 0 belong to the first.
    ends = calibration(np.array([1 / 15, 0.0, 1.0]), np.array([True, True, True]))
    assert ends.counts[0] == 2 and ends.counts[14] == 1


def test_classes_beside_scikit_learn():
    target, predicted = RNG.integers(0, 5, 200), RNG.integers(0, 4, 200)
    found = confusion_matrix(target, predicted, 5)
    np.testing.assert_array_equal(found, sklearn_confusion(target, predicted, labels=range(5)))
    scores = class_scores(found, "abcde")
    recall = recall_score(target, predicted, labels=range(5), average=None)
    np.testing.assert_allclose([each.recall.value for each in scores], recall)
    precision = precision_score(target, predicted, labels=range(4), average=None)
    np.testing.assert_allclose([each.precision.value for each in scores[:4]], precision)
    # The last class is never predicted.
    assert scores[4].predicted == 0 and np.isnan(scores[4].precision.value)
    labels = RNG.integers(0, 2, (2, 60, 3)).astype(bool)
    recall = recall_score(*labels, average=None)
    np.testing.assert_allclose([s.recall.value for s in label_scores(*labels, "xyz")], recall)


def test_probabilities_of_squared_error():
    given = np.array([[0.6, -0.1, 0.2], [-1.0, -2.0, -3.0], [0.25, 0.25, 0.5]])
    expected = [[0.75, 0, 0.25], [1 / 3, 1 / 3, 1 / 3], [0.25, 0.25, 0.5]]
    np.testing.assert_allclose(probabilities(given), expected)


@pytest.mark.parametrize("part", ["test", "validation"])
def test_the_accuracy_of_fit_of_evaluate_and_by_hand(trained, part):
    result, digits = trained
    found = fx.evaluate(result.network, digits, part)
    x, y = getattr(digits, part)
    chosen = np.asarray(fx.predict(result.network, x)).argmax(axis=1)
    accuracy = found.metrics["accuracy"]
    recorded = result.summary[f"{part}_accuracy"]
    assert accuracy.value == np.mean(chosen == y) == recorded
    assert found.metrics["loss"].value == result.summary[f"{part}_loss"]
    np.testing.assert_array_equal(found.confusion, sklearn_confusion(y, chosen, labels=range(10)))
    interval = binomtest(int((chosen == y).sum()), len(y)).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose((accuracy.low, accuracy.high), interval)
    assert accuracy.method == "wilson" and found.metrics["loss"].method == "bootstrap"
    missed = np.asarray(fx.predict(result.network, x)) - np.eye(10)[y]
    losses = 0.5 * (missed**2).sum(axis=1)
    np.testing.assert_allclose(found.loss, losses, rtol=1e-5)
    assert found.worst(3) == np.argsort(-found.loss)[:3].tolist()
    assert len(repr(found)) < 200 and "accuracy" in repr(found)


def test_real_values_are_judged_in_their_own_units():
    diabetes = fx.data.load("diabetes")
    network = fx.models.mlp(10, 1, width=8, depth=2, bias=True, key=KEY)
    result = fx.fit(network, diabetes, fx.Backprop(), epochs=2)
    found = fx.evaluate(result.network, diabetes, metrics=["rmse", "r2"])
    scale = diabetes.preparation.scales["output"]
    said = scale.raw(np.asarray(fx.predict(result.network, diabetes.test["input"])))
    true = scale.raw(diabetes.test["output"])
    np.testing.assert_allclose(found.prediction, said, rtol=1e-5)
    np.testing.assert_allclose(found.target, true, rtol=1e-5)
    error = np.sqrt(np.mean((said - true) ** 2))
    assert found.metrics["rmse"].value == pytest.approx(error, rel=1e-5)
    r2 = found.metrics["r2"]
    assert r2.low < r2.value < r2.high < 1 and r2.method == "bootstrap"
    assert found.confusion is None and found.calibration is None and found.classes == ()


def test_several_labels_each_have_recall_and_precision():
    x = RNG.normal(size=(40, 3)).astype(np.float32)
    part = {"input": x, "output": x[:, :2] > 0}
    data = fx.data.Dataset("tags", part, part, part)
    network = fx.models.mlp(3, 2, width=4, depth=2, output=fx.Bernoulli(), key=KEY)
    found = fx.evaluate(network, data)
    likely = jax.nn.sigmoid(fx.predict(network, x))
    np.testing.assert_allclose(found.prediction, likely, rtol=1e-6)
    recall = recall_score(part["output"], likely > 0.5, average=None)
    np.testing.assert_allclose([each.recall.value for each in found.classes], recall)


def test_tokens_have_a_perplexity_and_windows_are_resampled(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be, or not to be; " * 40)
    text = fx.data.text(path, 8)
    network = fx.models.transformer(text.classes, 8, width=8, depth=1, heads=2, key=KEY)
    found = fx.evaluate(network, text, "validation")
    x, y = text.validation
    logits = jax.nn.log_softmax(fx.predict(network, x))
    loss = -np.take_along_axis(np.asarray(logits), y[..., None], -1).mean()
    perplexity = found.metrics["perplexity"]
    assert perplexity.value == pytest.approx(np.exp(loss), rel=1e-5)
    assert found.metrics["accuracy"].method == perplexity.method == "bootstrap"
    assert found.confusion.sum() == x.size and found.calibration.counts.sum() == x.size
    assert [each.name for each in found.classes] == list(text.vocabulary)


def test_where_the_output_is_inferred():
    """A bidirectional network's label is that of the equilibrium with the image clamped."""
    digits = fx.data.load("digits").take(40)
    network = fx.models.bidirectional(64, 10, width=8, depth=2, key=KEY)

    def pose(network, batch):
        return fx.Problem(network, {"input": batch["input"], "output": batch["target"]})

    found = fx.evaluate(network, digits, pose=pose)
    problem = fx.Problem(network, {"input": digits.test.inputs})
    settled = fx.infer(problem, fx.Newton(tolerance=1e-4)).activities["output"]
    np.testing.assert_allclose(found.prediction, settled, atol=2e-2)
    assert found.confusion.sum() == len(digits.test.labels)


def test_where_there_is_nothing_to_predict_from():
    digits = fx.data.load("digits").take(40)
    network = fx.models.decoder(3, 64, width=8, depth=2, key=KEY)

    def pose(network, batch):
        return fx.Problem(network, {"output": batch["input"]})

    found = fx.evaluate(network, digits, pose=pose)
    assert found.prediction is None and set(found.metrics) == {"loss", "energy"}


def test_own_scores_and_own_metrics():
    class Within(fx.Metric):
        name, percent = "within", True

        def terms(self, prediction, target):
            return {"near": 1.0 * (abs(prediction - target).max(axis=1) < 1)}

    x = RNG.normal(size=(30, 2)).astype(np.float32)
    part = {"input": x, "output": x}
    data = fx.data.Dataset("values", part, part, part)
    network = fx.models.mlp(2, 2, width=4, depth=2, key=KEY)
    near = int((abs(np.asarray(fx.predict(network, x)) - x).max(axis=1) < 1).sum())
    found = fx.evaluate(network, data, metrics=[Within()]).metrics["within"]
    assert found == dataclasses.replace(wilson(near, 30), value=found.value)
    assert found.value == pytest.approx(near / 30, abs=1e-7)

    def scores(network, batch):
        return {"size": jnp.abs(batch["input"]).sum(axis=1), "constant": jnp.ones(())}

    found = fx.evaluate(network, data, scores=scores).metrics
    assert found["size"].value == pytest.approx(np.abs(x).sum(axis=1).mean(), rel=1e-6)
    assert found["constant"].method == "none" and np.isnan(found["constant"].low)


def test_what_does_not_fit_is_told(trained):
    result, digits = trained
    with pytest.raises(ValueError, match="unknown part 'tests'"):
        fx.evaluate(result.network, digits, "tests")
    with pytest.raises(ValueError, match="have shape"):
        fx.evaluate(result.network, fx.data.load("wine"))
    x, y = digits.train
    alone = fx.data.Dataset("alone", (x, y), classes=10)
    with pytest.raises(ValueError, match="has no test part; choose from train"):
        fx.evaluate(result.network, alone)


def test_another_data_set_is_standardized_as_the_first_and_its_classes_found_by_name():
    rows = RNG.normal(size=(30, 3))
    kinds = np.arange(30) % 3

    def made(name, shift, classes):
        scale = type(fx.data.load("wine").preparation.scales["input"])(rows + shift)
        part = (scale(rows + shift), kinds % len(classes))
        kept = fx.data.Preparation({"input": scale}, class_names=classes)
        return fx.data.Dataset(name, part, part, part, classes=len(classes), preparation=kept)

    first, other = made("first", 0, ("a", "b", "c")), made("other", 5, ("c", "a"))
    found = fx.data.adapted(other, first)
    scale = first.preparation.scales["input"]
    np.testing.assert_allclose(found.test.inputs, scale(rows + 5), rtol=1e-5)
    np.testing.assert_array_equal(found.test.labels, np.where(kinds % 2, 0, 2))
    assert found.classes == 3 and found.name == "other"
    with pytest.raises(ValueError, match="has the class 'd', which 'first'"):
        fx.data.adapted(made("third", 0, ("a", "d")), first)
    with pytest.raises(ValueError, match="of shape"):
        fx.data.adapted(fx.data.load("wine"), first)
    plain = fx.data.Dataset("plain", *3 * [(rows, kinds % 2)], classes=2)
    with pytest.raises(ValueError, match="has 2 classes"):
        fx.data.adapted(plain, first)
    # Its own form is left as it is, to the last bit.
    assert fx.data.adapted(first, first).test.inputs is first.test.inputs
