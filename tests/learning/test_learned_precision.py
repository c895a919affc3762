"""Precisions and prior means that learn, at their optimum."""

import equinox as eqx
import jax
import numpy as np
import optax
import pytest

import fathomx as fx


def test_a_precision_is_the_inverse_of_the_error_at_its_optimum(float64):
    """One linear node behind an input, of known noise: 1 / pi is the mean squared error."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3))
    w = rng.normal(size=(2, 3))
    y = x @ w.T + rng.normal(size=(64, 2)) * [0.5, 2.0]
    linear = eqx.nn.Linear(3, 2, use_bias=False, key=jax.random.key(0))
    network = fx.Network(
        [
            fx.Root("x", (3,), energy=None),
            fx.Root("offset", (2,), energy=fx.Gaussian(1e8)),
            fx.Node("y", Plus(linear), ("x", "offset"), fx.Gaussian(np.ones(2))),
        ]
    )
    problem = fx.Problem(network, {"x": x, "y": y})
    learned, rest = fx.split(network)
    solver = fx.GaussNewton(1, 6)

    @jax.jit
    def slope(learned):
        there = problem.with_network(eqx.combine(learned, rest))
        relaxed = fx.infer(there, solver)
        return fx.weight_gradient(there, relaxed.activities, relaxed.errors), relaxed.errors["y"]

    optimizer = optax.sgd(0.3)
    state = optimizer.init(learned)
    for _ in range(600):
        gradient, errors = slope(learned)
        updates, state = optimizer.update(gradient, state)
        learned = eqx.apply_updates(learned, updates)
    gradient, errors = slope(learned)
    precision = np.exp(eqx.combine(learned, rest).output.energy.log_precision)
    np.testing.assert_allclose(1 / precision, (np.asarray(errors) ** 2).mean(0), rtol=0, atol=1e-6)
    # It is the noise that the data were made with, up to their number.
    np.testing.assert_allclose(1 / precision, [0.25, 4.0], rtol=0.4)


class Plus(eqx.Module):
    linear: eqx.nn.Linear

    def __call__(self, x, offset):
        return self.linear(x) + offset


@pytest.mark.parametrize(
    ("rule", "prior"),
    [
        (fx.Equilibrium(output_precision=1.0), fx.Gaussian(np.ones(2))),
        (fx.Incremental(output_precision=1.0), fx.Gaussian(np.ones(2))),
        (fx.Incremental(output_precision=1.0), fx.Gaussian(2.0)),
    ],
    ids=["equilibrium", "incremental", "incremental, only the mean learns"],
)
def test_rules_move_precisions_and_means(rule, prior):
    network = fx.Network(
        [
            fx.Root("z", (2,), mean=np.zeros(2), energy=prior),
            fx.Stack(
                "s",
                eqx.filter_vmap(lambda k: eqx.nn.Linear(2, 2, key=k))(
                    jax.random.split(jax.random.key(1), 3)
                ),
                energy=fx.Gaussian(np.ones(3)),
            ),
            fx.Node(
                "x", eqx.nn.Linear(2, 4, key=jax.random.key(0)), energy=fx.Gaussian(np.ones(4))
            ),
        ]
    )
    problem = fx.Problem(network, {"x": np.random.default_rng(0).normal(size=(8, 4)) + 2})
    optimizer = optax.sgd(0.05)
    state = rule.init_optimizer(optimizer, network)
    learned, _, report = eqx.filter_jit(rule.update)(problem, optimizer, state, jax.random.key(0))
    assert report.energy.shape == (5,) and np.isfinite(report.energy).all()
    for before, after in zip(
        jax.tree.leaves(fx.weights(network)), jax.tree.leaves(fx.weights(learned)), strict=True
    ):
        assert np.abs(np.asarray(before) - np.asarray(after)).max() > 0


@pytest.mark.parametrize("precision", [[1.0, -1.0], [np.nan], [0.0]])
def test_an_array_of_precisions_is_positive_and_finite(precision):
    with pytest.raises(ValueError, match="positive, finite"):
        fx.Gaussian(np.array(precision))


def test_many_updates_in_one_program_are_the_updates_one_by_one(float64):
    network = fx.models.mlp(3, 2, width=4, depth=3, key=jax.random.key(0))
    x, y = np.random.default_rng(0).normal(size=(2, 4, 6, 3))
    learner = fx.Learner(fx.Equilibrium(), optax.adam(1e-2))
    keys = jax.random.split(jax.random.key(1), 4)
    together, _, losses = eqx.filter_jit(learner.updates)(
        network, learner.begin(network), (x, y[..., :2]), keys, lambda network, report: report.loss
    )
    state, apart = learner.begin(network), network
    for i in range(4):
        apart, state, report = learner.update(apart, state, (x[i], y[i, :, :2]), keys[i])
        np.testing.assert_allclose(losses[i], report.loss, rtol=1e-10)
    for a, b in zip(
        jax.tree.leaves(fx.weights(together)), jax.tree.leaves(fx.weights(apart)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_the_default_of_incremental_is_not_equilibrium():
    network = fx.models.mlp(3, 2, width=4, depth=3, key=jax.random.key(0))
    x, y = np.random.default_rng(0).normal(size=(2, 6, 3))
    problem, optimizer, key = fx.Problem(network, x, y[:, :2]), optax.sgd(0.1), jax.random.key(0)
    moved = []
    for rule in (fx.Equilibrium(), fx.Incremental()):
        state = rule.init_optimizer(optimizer, network)
        moved.append(rule.update(problem, optimizer, state, key)[0])
    change = fx.weight_change(*moved)
    assert float(change.min()) > 1e-3
