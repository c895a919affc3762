"""One battery that every learning rule must pass, on every kind of problem."""

import equinox as eqx
import jax
import jax.numpy as jnp
import kinds
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.learning.backprop import is_feedforward

KEY = jax.random.key(0)
# Rules: a new one is a line here.
RULES = {
    "Equilibrium": fx.Equilibrium(fx.GaussNewton(2, 4), output_precision=0.7),
    "EquilibriumErrors": fx.EquilibriumErrors(fx.GaussNewton(2, 4), output_precision=0.7),
    "ForwardUpdate": fx.ForwardUpdate(fx.GaussNewton(2, 4), output_precision=0.7),
    "Incremental": fx.Incremental(fx.StateDescent(optax.sgd(0.05), 5), output_precision=0.7),
    "EquilibriumPropagation": fx.EquilibriumPropagation(fx.GaussNewton(2, 4), beta=0.05),
    "Backprop": fx.Backprop(),
}
SOME = ["two outputs", "masked output", "feedback on a stack", "learned precision"]
# Two relaxations in one program take long to compile: of centered nudges only some are fast.
CASES = [
    pytest.param(
        name,
        rule,
        marks=[]
        if name in SOME and (rule != "EquilibriumPropagation" or name == "masked output")
        else [pytest.mark.slow],
    )
    for name in kinds.KINDS
    for rule in RULES
]


def problem_of(name):
    return kinds.KINDS[name](jnp.tanh, batch=3)


def leaves(gradient):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_an_update_is_the_mean_over_examples_and_moves_what_learns(float64, name, rule):
    problem, rule = problem_of(name), RULES[rule]
    if isinstance(rule, fx.Backprop) and not is_feedforward(problem):
        with pytest.raises(ValueError, match="Backprop differentiates a feedforward pass") as said:
            rule.gradient(problem, KEY)
        assert "\n" not in str(said.value)
        return
    learned = fx.weights(problem.network)
    one = eqx.filter_jit(rule.gradient)
    each = [one(problem.examples([i]), KEY)[0] for i in range(problem.batch)]
    assert jax.tree.structure(each[0]) == jax.tree.structure(learned)

    # At rate 1 plain gradient descent moves weights by their gradient.
    optimizer = optax.sgd(1.0)
    state = rule.init_optimizer(optimizer, problem.network)
    moved, _, seen = eqx.filter_jit(rule.update)(problem, optimizer, state, KEY)
    assert np.isfinite(seen.energy).all()
    assert seen.energy.shape == (len(problem.network.labels),)
    pairs = zip(leaves(learned), leaves(fx.weights(moved)), strict=True)
    gradient = [before - after for before, after in pairs]
    assert any(np.abs(leaf).max() > 1e-6 for leaf in gradient)
    if isinstance(rule, fx.Incremental):
        # It learns while activities move, so only its gradient is a mean.
        assert all(np.isfinite(leaf).all() for leaf in gradient)
        gradient = leaves(one(problem, KEY)[0])
    for whole, *parts in zip(gradient, *map(leaves, each), strict=True):
        np.testing.assert_allclose(whole, np.mean(parts, axis=0), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", kinds.KINDS)
def test_equilibrium_descends_the_equilibrated_energy(float64, name):
    """The envelope theorem on every kind of linear problem, against the algebra of `S`."""
    problem = kinds.KINDS[name](batch=3)
    learned, rest = fx.split(problem.network)
    precision = float(problem.output_precision)

    @eqx.filter_jit
    def both(problem, learned):
        def energy(learned):
            there = problem.with_network(eqx.combine(learned, rest))
            return fx.theory.equilibrated_energy(there).energy

        rule = fx.Equilibrium(fx.Exact(), output_precision=precision)
        return jax.grad(energy)(learned), rule.gradient(problem, KEY)[0]

    expected, found = both(problem, learned)
    for a, b in zip(leaves(found), leaves(expected), strict=True):
        np.testing.assert_allclose(precision * a, b, rtol=0, atol=1e-9)


def test_a_nudge_on_one_side_is_the_equilibrium_at_its_precision(float64):
    for name in SOME[1:2]:
        problem = problem_of(name)
        solver = fx.GaussNewton(2, 4)
        nudged = fx.EquilibriumPropagation(solver, beta=0.3, centered=False)
        settled = fx.Equilibrium(solver, output_precision=0.3)
        found, expected = (leaves(rule.gradient(problem, KEY)[0]) for rule in (nudged, settled))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
