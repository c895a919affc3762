"""Weights of examples: 2 is being there twice, 0 is not being there, in float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4))
LABELS = np.array([0, 1, 2, 0, 2])
SOLVER = fx.GaussNewton(2, 3)
RULES = {
    "equilibrium": fx.Equilibrium(SOLVER, output_precision=0.7),
    "state descent": fx.Equilibrium(fx.StateDescent(optax.sgd(0.2), 6), output_precision=0.7),
    "incremental": fx.Incremental(fx.ErrorDescent(steps=3), output_precision=0.7),
    "equilibrium propagation": fx.EquilibriumPropagation(SOLVER, beta=0.3),
    "equilibrium errors": fx.EquilibriumErrors(SOLVER, output_precision=0.7),
    "forward update": fx.ForwardUpdate(SOLVER, output_precision=0.7),
    "backprop": fx.Backprop(),
}


@pytest.fixture(autouse=True)
def double():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def doubled(made):
    return jax.tree.map(lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, made)


def network():
    """A node, a stack of two blocks and an output."""
    return doubled(fx.models.residual_mlp(4, 3, width=6, depth=4, key=jax.random.key(0)))


def problem(places, weights=None, net=None):
    places = np.asarray(places)
    made = fx.Problem(network() if net is None else net, X[places], LABELS[places])
    return made if weights is None else made.with_weights(weights)


def close(one, other, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize(
    ("places", "weights", "instead"),
    [
        (range(5), [1, 2, 1, 1, 0], [0, 1, 1, 2, 3]),
        (range(5), [0.5, 0.5, 0.5, 0.5, 0.5], range(5)),
    ],
)
def test_a_weight_is_how_often_an_example_is_there(rule, places, weights, instead):
    key, optimizer = jax.random.key(1), optax.sgd(0.1)
    weighted, repeated = problem(places, np.array(weights, float)), problem(list(instead))
    gradient = eqx.filter_jit(rule.gradient)
    (one, seen), (other, told) = gradient(weighted, key), gradient(repeated, key)
    close(fx.weights(one), fx.weights(other))
    for name in ("loss", "accuracy", "energy"):
        close(getattr(seen, name), getattr(told, name))
    if isinstance(rule, fx.Incremental):
        # The only rule whose update is not that of its gradient.
        state = rule.init_optimizer(optimizer, weighted.network)
        update = eqx.filter_jit(lambda problem: rule.update(problem, optimizer, state, key)[0])
        close(fx.weights(update(weighted)), fx.weights(update(repeated)))


def test_inference_does_not_know_of_weights():
    weighted, plain = problem(range(5), np.array([4.0, 0, 1, 2, 1])), problem(range(5))
    one, other = fx.infer(weighted, SOLVER), fx.infer(plain, SOLVER)
    assert eqx.tree_equal(one.activities, other.activities)
    np.testing.assert_array_equal(one.unsettled, other.unsettled)


def test_weights_of_an_amortized_start_and_of_feedbacks():
    made = fx.models.bidirectional(4, 3, width=6, depth=3, key=jax.random.key(0))
    made = doubled(made)
    rule = RULES["equilibrium"]
    weighted = problem(range(5), np.array([1.0, 2, 0, 1, 1]), made)
    repeated = problem([0, 1, 1, 3, 4], net=made)
    close(
        fx.weights(rule.gradient(weighted, jax.random.key(1))[0]),
        fx.weights(rule.gradient(repeated, jax.random.key(1))[0]),
    )


def test_the_strength_that_is_held_is_that_of_what_counts():
    """The mean over examples of their own strengths, each by its weight."""
    weights, key = np.array([1.0, 3, 0, 1, 2]), jax.random.key(0)
    found = fx.strength(problem(range(5), weights), key)
    signs = jax.random.rademacher(key, (5, 3), jnp.float64)
    alone = []
    for place in range(5):
        one = problem([place])

        def output(errors, one=one):
            return one.explain(errors)[0][one.network.output.name]

        pulled = jax.vjp(output, one.zeros())[1](signs[place : place + 1])[0]
        alone.append(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(pulled)) / 3)
    np.testing.assert_allclose(found, weights @ np.array(alone) / weights.sum(), rtol=1e-10)


def test_batches_that_do_not_count_teach_nothing():
    gradient, report = RULES["equilibrium"].gradient(
        problem(range(5), np.zeros(5)), jax.random.key(0)
    )
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(fx.weights(gradient)))
    assert report.loss == 0


def test_weights_go_with_their_examples():
    some = problem(range(5), np.arange(5.0)).examples([3, 1])
    np.testing.assert_array_equal(some.weights, [3, 1])
    np.testing.assert_allclose(some.shares, [0.75, 0.25])


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones(4), r"weights have the shape \(4,\), but the problem has 5 examples; give one"),
        (np.ones((5, 1)), r"weights have the shape \(5, 1\), but the problem"),
        ([1.0, -1, 0, 0, 0], "weights run from -1 to 1, but must be finite and at least 0; give 0"),
        ([1.0, np.inf, 0, 0, 0], "weights run from 0 to inf, but must be finite and at least 0"),
    ],
)
def test_weights_that_do_not_fit(weights, words):
    with pytest.raises(ValueError, match=words):
        problem(range(5), weights)


@pytest.mark.parametrize("form", ["named", "triple"])
def test_batches_bring_their_weights(form):
    w, net = np.array([1.0, 2, 0, 1, 1]), network()
    names = {net.roots[0].name: X, net.output.name: LABELS, "weights": w}
    batch = names if form == "named" else (X, LABELS, w)
    learner = fx.Learner(RULES["backprop"], optax.sgd(0.1))
    after = learner.update(net, learner.begin(net), batch, jax.random.key(0))[0]
    repeated = (X[[0, 1, 1, 3, 4]], LABELS[[0, 1, 1, 3, 4]])
    wanted = learner.update(net, learner.begin(net), repeated, jax.random.key(0))[0]
    close(fx.weights(after), fx.weights(wanted))
