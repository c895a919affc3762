"""Theory and diagnostics on every kind of problem, against dense references."""

import equinox as eqx
import jax
import jax.numpy as jnp
import kinds
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.problem.strength import largest_sensitivity, mean_sensitivity

SOME = ["masked output", "feedback on a stack", "everything"]
NAMES = [
    pytest.param(name, marks=[] if name in SOME else [pytest.mark.slow]) for name in kinds.KINDS
]


@pytest.mark.parametrize("name", NAMES)
def test_hessians_of_the_activities(float64, name):
    problem = kinds.KINDS[name](jnp.tanh, batch=1)
    relaxed = fx.infer(problem, fx.GaussNewton(2, 4))
    dense = kinds.Dense(problem)

    @eqx.filter_jit
    def expected(problem):
        def one(clamps, z, e):
            total = lambda z: dense.total(clamps, z)  # noqa: E731
            in_errors = lambda e: total(dense.activities(clamps, e))  # noqa: E731
            return jax.hessian(total)(z), jax.hessian(in_errors)(e), dense.known(clamps)

        vectorized = jax.vmap(one, in_axes=(problem.clamp_axes, 0, 0))
        errors = problem.errors_of(relaxed.activities)
        return vectorized(problem.clamps, dense.flat(relaxed.activities), dense.flat(errors))

    state, errors, known = (np.asarray(a[0]) for a in expected(problem))
    free = np.flatnonzero(~known)
    for hessian, matrix in (
        (fx.theory.StateHessian(problem, relaxed.activities), state),
        (fx.theory.ErrorHessian(problem, relaxed.activities), errors),
    ):
        assert hessian.size == len(free)
        found = hessian.dense()
        np.testing.assert_allclose(found, matrix[np.ix_(free, free)], rtol=0, atol=1e-9)
        values = np.linalg.eigvalsh(found)
        extremes = hessian.extremes()
        np.testing.assert_allclose([extremes.smallest, extremes.largest], values[[0, -1]])
        first = hessian.labels[0]
        assert hessian.block(first, first).shape[0] <= len(free)


@pytest.mark.parametrize("name", NAMES)
def test_a_trust_region_step_is_the_equilibrium_of_a_linear_problem(float64, name):
    problem = kinds.KINDS[name](batch=3)
    found = fx.theory.trust_region(problem)
    assert found.bounded.all() and float(found.difference.max()) < 1e-7
    assert float(found.cosine_to_trust_region) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_landscape_of_the_equilibrated_energy(float64, name):
    problem = kinds.KINDS[name](jnp.tanh, batch=3)
    clamps = problem.clamps
    objective = fx.theory.EquilibratedEnergy(clamps, output_precision=problem.output_precision)
    slope = fx.theory.gradient(objective, problem.network)
    relaxed = fx.infer(problem, fx.Newton(1e-11))
    gradient = fx.weight_gradient(problem, relaxed.activities, relaxed.errors)
    expected = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])
    np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_strength_is_the_trace_over_what_is_observed(float64, name):
    problem = kinds.KINDS[name](jnp.tanh, batch=2)
    dense, unweighted = kinds.Dense(problem), problem.with_output_precision(1.0)

    def one(clamps, e):
        jacobian = jax.jacobian(lambda e: dense.explained(clamps, e))(e)
        own, curvature = kinds.precisions(unweighted, clamps, of_feedbacks=0.0)
        scaled = jnp.sqrt(curvature)[:, None] * jacobian / jnp.sqrt(own)
        matrix = scaled @ scaled.T
        return jnp.trace(matrix), jnp.linalg.eigvalsh(matrix)[-1], jnp.sum(curvature > 0)

    trace, largest, count = (
        np.asarray(a) for a in jax.jit(dense.each(one))(jnp.zeros_like(dense.flat(problem.zeros())))
    )
    keys = jax.random.split(jax.random.key(0), 2000)
    found = np.asarray(jax.jit(jax.vmap(lambda key: mean_sensitivity(problem, key)))(keys))
    expected = trace.sum() / count.sum()
    error = found.std() / np.sqrt(len(keys))
    assert abs(found.mean() - expected) < 4 * error + 1e-12
    bound = largest_sensitivity(problem, jax.random.key(1), iterations=400)
    assert float(bound) == pytest.approx(largest.max(), rel=1e-4)
    rule = fx.Equilibrium(output_precision=fx.HoldStrength(0.2))
    chosen, strength = rule.choose(problem, jax.random.key(2))
    again = fx.strength(chosen, jax.random.key(2))
    assert float(strength) == pytest.approx(0.2) and float(again) == pytest.approx(0.2)


@pytest.mark.parametrize("name", NAMES)
def test_a_diagnosis_of_every_problem(float64, name):
    problem = kinds.KINDS[name](jnp.tanh, batch=3)
    found = fx.diagnose(problem, fx.StateDescent(optax.sgd(0.1), 6))
    count = len(problem.network.labels)
    assert found.energy.shape == (7, count) and found.error.shape == (count,)
    assert np.isfinite(found.error).all() and np.isfinite(found.activity)
    assert float(found.equilibrium.unsettled.max()) < float(found.relaxed.unsettled.max())
    assert int(found.balance.reached) <= count
    energies = [
        jax.vmap(
            lambda c, v: kinds.node_energies(problem, c, kinds.Dense(problem).whole(c, v)),
            in_axes=(problem.clamp_axes, 0),
        )(problem.clamps, kinds.Dense(problem).flat(found.relaxed.activities)).mean(0)
    ]
    np.testing.assert_allclose(found.energy[-1], energies[0], rtol=0, atol=1e-12)
