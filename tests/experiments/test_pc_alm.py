"""`fathomx reproduce pc-alm`: its settings, rates and diagnostics, and a whole small run."""

import csv
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import pc_alm
from fathomx.experiments.grid import Selection
from fathomx.experiments.pc_alm import CELL, METHODS, NETWORKS, Scale
from fathomx.experiments.residual import Residual, whole

SMALL = Residual("relu", 8, 8)
# Gauss-Newton as in others, but at another strength: these are not trained in small.
HELD = {"Gauss-Newton, strength 0.3": 0.3, "Gauss-Newton, strength 1": 1.0}
TRAINED = tuple(name for name in METHODS if name not in HELD)
TINY = Scale("tiny", "digits", (Selection((SMALL.name,), TRAINED, (0,)),), 320, 32)


def test_the_network_is_the_published_one():
    data = whole("digits", 0)
    network = NETWORKS[CELL].network(data, 0)
    x = np.asarray(data.train.inputs[0], np.float64)
    shapes = {e.name: jax.tree.leaves(fx.weights(e))[0].shape for e in network.entries[1:]}
    assert len(network.labels) == 32 and shapes[network.entries[1].name] == (32, 64)
    first, hidden, last = (
        np.asarray(jax.tree.leaves(fx.weights(e))[0]) for e in network.entries[1:]
    )
    z = first @ x / math.sqrt(64)
    for block in hidden:
        z = z + block @ np.maximum(z, 0) / math.sqrt(32 * 32)
    mu = last @ np.maximum(z, 0) / 32
    np.testing.assert_allclose(fx.predict(network, x[None])[0], mu, rtol=1e-4, atol=1e-5)
    for block in (first, hidden, last):
        assert abs(block.std() - 1) < 0.1


def test_nothing_of_the_training_images_is_left_out():
    data, parts = whole("digits", 0), fx.data.load("digits")
    assert len(data.train.labels) == len(parts.train.labels) + len(parts.validation.labels)
    assert np.array_equal(data.test.labels, parts.test.labels)
    assert len(whole("digits", 320).train.labels) == 320


def test_rates_are_one_over_the_largest_curvature():
    found = pc_alm.rates(SMALL, TINY)
    data = whole("digits", 320)
    curvatures = []
    for seed in range(3):
        network = SMALL.network(data, seed)
        for i in range(3):
            target = jax.nn.one_hot(data.train.labels[i : i + 1], 10)
            problem = fx.Problem(network, data.train.inputs[i : i + 1], target)
            hessian = np.asarray(fx.theory.StateHessian(problem).dense())
            curvatures.append(np.linalg.eigvalsh(hessian)[-1])
    assert found.state == pytest.approx(1 / np.median(curvatures), rel=1e-4)
    assert 0 < found.error < 2


def never():
    raise AssertionError("a rate was measured that nobody needs")


@pytest.mark.parametrize("method", HELD)
def test_the_strength_of_a_method_is_the_one_of_its_name(method):
    rates = pc_alm.Rates(never)
    rule = METHODS[method](rates, SMALL.depth)
    found = rule.output_precision
    assert found == fx.HoldStrength(HELD[method]) and found != fx.HoldStrength(0.1)
    assert rates.known is None


def test_a_small_run(tmp_path, monkeypatch):
    monkeypatch.setitem(pc_alm.SCALES, "tiny", TINY)
    pc_alm.reproduce("tiny", tmp_path / "found", Selection(), lambda text: None)
    with (tmp_path / "found" / "results.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(TRAINED)
    assert float(rows["backprop"]["cosine"]) == pytest.approx(1, abs=1e-4)
    # Multipliers lead towards backprop, in activities and in errors.
    for method in ("PC-ALM", "augmented Gauss-Newton"):
        assert float(rows[method]["cosine"]) > float(rows["PC"]["cosine"]) + 0.1
    assert float(rows["PC-ALM"]["evaluations"]) == 16
    assert (tmp_path / "found" / "accuracy.png").stat().st_size > 5000
    assert jnp.isfinite(float(rows["Newton"]["step_seconds"]))
