"""The essence in plain JAX, held against the library."""

import importlib.util
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import optax

import fathomx as fx

PATH = Path(__file__).parents[2] / "examples" / "essence.py"
SPEC = importlib.util.spec_from_file_location("essence", PATH)
essence = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(essence)


def test_it_is_short():
    assert len(PATH.read_text().splitlines()) <= 80


def test_energies_activities_and_gradients_are_the_library_s(float64):
    x, y = np.random.default_rng(0).normal(size=(2, 5, 4))
    weights = essence.init(jax.random.key(0), [4, 6, 6, 2])
    network = fx.models.mlp(4, 2, width=6, depth=3, activation="tanh", key=jax.random.key(1))
    network = eqx.tree_at(
        lambda n: (
            n.entry("first").function.weight,
            n.entry("hidden").block.linear.weight,
            n.output.function.linear.weight,
        ),
        network,
        (weights[0], weights[1][None], weights[2]),
    )
    problem = fx.Problem(network, x, y[:, :2])
    relaxed = fx.infer(problem, fx.StateDescent(optax.sgd(0.1), 100))
    activities = essence.infer(weights, x, y[:, :2])
    np.testing.assert_allclose(relaxed.activities["first"], activities[1], rtol=1e-12)
    np.testing.assert_allclose(relaxed.activities["hidden"][0], activities[2], rtol=1e-12)
    total = essence.energy(weights, activities) / 5
    np.testing.assert_allclose(relaxed.energy.sum(), total, rtol=1e-12)
    mine = essence.weight_gradient(weights, activities)
    theirs = jax.tree.leaves(fx.weight_gradient(problem, relaxed.activities, relaxed.errors))
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(np.squeeze(b), a, rtol=1e-10)
    learned = essence.learn(weights, x, y[:, :2])
    for a, before, gradient in zip(learned, weights, mine, strict=True):
        np.testing.assert_allclose(a, before - 0.3 * gradient, rtol=1e-12)
