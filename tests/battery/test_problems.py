"""One battery of problems that every solver must pass: all that can be clamped and predicted.

References are dense: the energy by its definition (`kinds`), its Hessian by differentiation, and a
solver of linear equations.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import kinds
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.problem import Linearization, evaluate, evaluate_at

NAMES = list(kinds.KINDS)
# Kinds that between them hold masks, feedbacks, stacks, latent and given roots: others are slow.
SOME = ["masked output", "feedback on a stack", "everything"]
infer = eqx.filter_jit(fx.infer)


def kind_by(names):
    return [pytest.param(name, marks=[] if name in names else [pytest.mark.slow]) for name in NAMES]


@functools.cache
def problem_of(name, phi=kinds.identity, batch=3):
    with jax.enable_x64(True):
        return kinds.KINDS[name](phi, batch=batch)


def references(problem, dense, vectors):
    """The minimum by one Newton step from zero, and the energies there."""
    found = dense.each(dense.newton_step)(jnp.zeros_like(vectors))
    rows = dense.each(lambda c, v: kinds.node_energies(problem, c, dense.whole(c, v)))(found)
    return found, rows


def held(dense, activities):
    """The free activities where they are inferred; 0 where they are known."""
    vectors = dense.flat(activities)
    return dense.each(lambda c, v: jnp.where(dense.known(c), 0, v))(vectors)


# Linear Gaussian problems, against matrices.


@pytest.mark.parametrize("name", NAMES)
def test_the_equilibrium_of_a_linear_problem(float64, name):
    problem = problem_of(name)

    @eqx.filter_jit
    def everything(problem):
        dense = kinds.Dense(problem)
        exact = fx.infer(problem, fx.Exact())
        vectors, rows = references(problem, dense, dense.flat(exact.activities))
        once = fx.infer(problem, fx.GaussNewton(1, 60))
        expected = dense.each(lambda c, v: jnp.where(dense.known(c), 0, v))(vectors)
        energies = fx.theory.equilibrated_energy(problem).energies
        return (
            exact,
            once,
            held(dense, exact.activities),
            held(dense, once.activities),
            expected,
            (
                rows,
                energies,
            ),
        )

    exact, once, by_exact, by_once, expected, (rows, energies) = everything(problem)
    for found, relaxed in ((by_exact, exact), (by_once, once)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(relaxed.energy, rows.mean(0), rtol=0, atol=1e-10)
        assert float(relaxed.unsettled.max()) < 1e-9
    # The closed form of the energy at equilibrium is the energy of the relaxed activities.
    np.testing.assert_allclose(energies, rows.sum(1), rtol=0, atol=1e-9)
    whole = all(clamp.whole for clamp in problem.clamps.values())
    if whole:
        matrix = np.asarray(fx.theory.rescaling(problem))
        misfit = np.asarray(misfits(problem))
        constant = np.asarray(problem.constant_energy())
        quadratic = 0.5 * np.einsum("bi,ij,bj->b", misfit, np.linalg.inv(matrix), misfit)
        np.testing.assert_allclose(quadratic + constant, rows.sum(1), rtol=0, atol=1e-9)
    else:
        with pytest.raises(ValueError, match="in part"):
            fx.theory.rescaling(problem)


def misfits(problem):
    """Values less predictions, and minus the discrepancies, at the feedforward pass."""
    axes = dict(problem.network.space.batch_axes)
    parts = []
    for name, found in problem.feedforward().items():
        clamp = problem.clamps.get(name) if name in problem.observed else None
        difference = -found if clamp is None else clamp.value - found
        parts.append(jnp.moveaxis(difference, axes[name], 0).reshape(problem.batch, -1))
    order = [*problem.feedforward()]
    by_name = dict(zip(order, parts, strict=True))
    return jnp.concatenate([by_name[name] for name in problem.explained], axis=1)


OTHERS = {
    "Newton": fx.Newton(1e-10),
    "QuasiNewton": fx.QuasiNewton(1e-10, 400),
    "ErrorDescent": fx.ErrorDescent(optax.sgd(0.04), 6000),
    "StateDescent": fx.StateDescent(optax.sgd(0.15), 12000),
    "GradientFlow": fx.GradientFlow(tolerance=1e-8, segments=16),
}


@pytest.mark.parametrize("name", kind_by(["everything"]))
@pytest.mark.parametrize("solver", OTHERS)
def test_other_solvers_reach_the_equilibrium_of_a_linear_problem(float64, name, solver):
    problem = problem_of(name)
    relaxed, exact = (infer(problem, s) for s in (OTHERS[solver], fx.Exact()))
    for entry in problem.free:
        found, expected = relaxed.activities[entry], exact.activities[entry]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


# The coordinates.


@pytest.mark.parametrize("phi", [kinds.identity, jnp.tanh], ids=["linear", "tanh"])
@pytest.mark.parametrize("name", NAMES)
def test_errors_are_coordinates_and_gauss_newton_solves_in_them(float64, name, phi):
    problem = problem_of(name, phi)
    rng = np.random.default_rng(5)
    noise = {n: jnp.asarray(rng.normal(size=z.shape)) for n, z in problem.zeros().items()}

    @eqx.filter_jit
    def everything(problem):
        dense = kinds.Dense(problem)
        errors = problem.errors_of(problem.explain(noise)[1])
        here = evaluate(problem, errors)
        linearized = Linearization(problem, errors)
        step = fx.GaussNewton(1, 80)._solve(problem, here, linearized, linearized.push(errors))

        def one(clamps, e):
            known = dense.known(clamps)
            unroll = lambda e: dense.activities(clamps, e)  # noqa: E731
            total = lambda e: dense.total(clamps, unroll(e))  # noqa: E731
            identity = jnp.diag(known.astype(e.dtype))
            determinant = jnp.linalg.det(jax.jacobian(unroll)(e) + identity)
            slope = jax.grad(total)(e)
            jacobian = jax.jacobian(lambda e: dense.explained(clamps, e))(e)
            own, curvature = kinds.precisions(problem, clamps)
            hessian = jnp.diag(own) + jacobian.T @ (curvature[:, None] * jacobian) + identity
            return determinant, total(e), slope, jnp.linalg.solve(hessian, -slope)

        found = dense.flat(here.gradient), dense.flat(step)
        expected = dense.each(one)(dense.flat(errors))
        return here, evaluate_at(problem, here.activities), found, expected

    here, there, (gradient, step), (determinant, energy, slope, solved) = everything(problem)
    np.testing.assert_allclose(determinant, 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(here.energy, energy, rtol=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-12)
    np.testing.assert_allclose(step, solved, rtol=0, atol=1e-10)
    # From the activities the same point is found, all predictions at once.
    for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


# Nonlinear problems: one minimum.


@pytest.mark.parametrize("name", NAMES)
def test_newton_reaches_a_minimum(float64, name):
    problem = problem_of(name, jnp.tanh)

    @eqx.filter_jit
    def everything(problem):
        dense = kinds.Dense(problem)
        relaxed = fx.infer(problem, fx.Newton(1e-10))

        def one(clamps, z):
            total = lambda z: dense.total(clamps, z)  # noqa: E731
            known = jnp.diag(dense.known(clamps).astype(z.dtype))
            return jax.grad(total)(z), jnp.linalg.eigvalsh(jax.hessian(total)(z) + known)

        vectors = dense.flat(relaxed.activities)
        rows = dense.each(lambda c, v: kinds.node_energies(problem, c, dense.whole(c, v)))(vectors)
        return relaxed, dense.each(one)(vectors), rows

    relaxed, (slope, curvature), rows = everything(problem)
    assert float(relaxed.unsettled.max()) <= 1e-8
    np.testing.assert_allclose(slope, 0, atol=1e-8)
    assert curvature.min() > 0
    np.testing.assert_allclose(relaxed.energy, rows.mean(0), rtol=0, atol=1e-10)


CONVERGING = {
    "GaussNewton": fx.GaussNewton(400, 30),
    "ErrorDescent": fx.ErrorDescent(optax.sgd(0.05), 8000),
    "StateDescent": fx.StateDescent(optax.sgd(0.2), 12000),
    "GradientFlow": fx.GradientFlow(tolerance=1e-7),
}


@pytest.mark.parametrize("solver", CONVERGING)
@pytest.mark.parametrize("name", kind_by(["masked output", "feedback on a stack"]))
def test_all_solvers_reach_one_minimum(float64, name, solver):
    problem = problem_of(name, jnp.tanh)
    newton, other = (infer(problem, s) for s in (fx.Newton(1e-10), CONVERGING[solver]))
    np.testing.assert_allclose(other.energy.sum(), newton.energy.sum(), rtol=0, atol=1e-8)


BRIEF = {
    "GaussNewton": fx.GaussNewton(2, 4),
    "StateDescent": fx.StateDescent(optax.sgd(0.1), 8),
    "ErrorDescent": fx.ErrorDescent(optax.sgd(0.05), 6),
    "Newton": fx.Newton(1e-4),
    "GradientFlow": fx.GradientFlow(segments=2),
    "AugmentedLagrangian": fx.AugmentedLagrangian(0.1, 6),
    "AugmentedGaussNewton": fx.AugmentedGaussNewton(fx.GaussNewton(1, 4), 2),
}


@pytest.mark.parametrize("solver", BRIEF)
@pytest.mark.parametrize("name", kind_by(SOME[:2]))
def test_an_example_alone_and_in_a_batch(float64, name, solver):
    problem = problem_of(name, jnp.tanh, batch=64)
    dense = kinds.Dense(problem)
    whole = dense.flat(infer(problem, BRIEF[solver]).activities)
    for example in (0, 41):
        alone = infer(problem.examples(slice(example, example + 1)), BRIEF[solver])
        np.testing.assert_allclose(
            dense.flat(alone.activities)[0], whole[example], rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("name", NAMES)
def test_what_a_relaxation_reports_and_what_weights_learn(float64, name):
    problem = problem_of(name, jnp.tanh)
    learned, rest = fx.split(problem.network)

    @eqx.filter_jit
    def everything(problem, learned):
        dense = kinds.Dense(problem)
        relaxed = fx.infer(problem, fx.StateDescent(optax.sgd(0.1), 5))
        vectors = dense.flat(relaxed.activities)

        def rows(learned):
            there = problem.with_network(eqx.combine(learned, rest))
            energies = lambda c, v: kinds.node_energies(there, c, dense.whole(c, v))  # noqa: E731
            return dense.each(energies)(vectors).mean(0)

        expected = jax.grad(lambda learned: rows(learned).sum())(learned)
        found = [
            fx.weight_gradient(problem, relaxed.activities, errors)
            for errors in (None, relaxed.errors)
        ]
        energies = fx.energy(problem, relaxed.activities)
        return relaxed, rows(learned), energies, found, expected

    relaxed, rows, energies, found, expected = everything(problem, learned)
    assert relaxed.energy.shape == (len(problem.network.labels),)
    assert {*relaxed.activities} == {entry.name for entry in problem.network.entries}
    for clamped, clamp in problem.clamps.items():
        seen = np.asarray(clamp.known(clamp.value))
        kept = np.asarray(relaxed.activities[clamped])[seen]
        np.testing.assert_array_equal(kept, np.asarray(clamp.value)[seen])
    np.testing.assert_allclose(relaxed.energy, rows, rtol=0, atol=1e-12)
    np.testing.assert_allclose(energies, rows, rtol=0, atol=1e-12)
    for gradient in found:
        for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
