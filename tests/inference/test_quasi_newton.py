"""Limited-memory BFGS in error coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.inference.quasi_newton import Changes
from fathomx.problem.evaluation import Linearization, evaluate

RNG = np.random.default_rng(0)


def problem_of(activation, depth=8, energy=None):
    network = fx.models.residual_mlp(
        5,
        3,
        width=8,
        depth=depth,
        activation=activation,
        parameterization=fx.MuPC(),
        output=energy,
        key=jax.random.key(0),
    )
    x = jnp.asarray(np.random.default_rng(1).normal(size=(6, 5)))
    return fx.Problem(network, x, jnp.eye(3)[jnp.arange(6) % 3], 3.0)


def as_rows(problem, entries):
    """The vector of every example."""
    axes = dict(problem.network.space.batch_axes)
    rows = [np.moveaxis(np.asarray(a), axes[n], 0) for n, a in entries.items()]
    return np.concatenate([row.reshape(len(row), -1) for row in rows], axis=1)


def test_the_direction_is_that_of_dense_bfgs(float64):
    """Four changes in three slots, one of which an example has not taken."""
    problem = problem_of(jnp.tanh)
    like = problem.zeros()

    def drawn():
        return {n: jnp.asarray(RNG.normal(size=a.shape)) for n, a in like.items()}

    space = problem.network.space
    changes = Changes.none(like, 3, jnp.full(problem.batch, 0.7))
    pairs = []
    for number in range(4):
        step, change = drawn(), drawn()
        taken = np.ones(problem.batch) if number != 2 else np.arange(problem.batch) != 1
        # A change along the step enough for curvature.
        change = space.add(change, jnp.full(problem.batch, 3.0), step)
        product = jnp.where(jnp.asarray(taken, bool), space.dot(step, change), 0)
        changes = changes.with_step(problem, jnp.asarray(number % 3), step, change, product)
        pairs.append((as_rows(problem, step), as_rows(problem, change), taken))
    gradient = drawn()
    found = as_rows(problem, changes.downhill(problem, jnp.asarray(0), gradient))

    weights = as_rows(problem, problem.weigh({n: jnp.ones_like(a) for n, a in like.items()}))
    for example, row in enumerate(as_rows(problem, gradient)):
        metric = np.diag(1 / weights[example])
        kept = [(s[example], y[example]) for s, y, taken in pairs[1:] if taken[example]]
        s, y = kept[-1]
        inverse = (s @ y) / (y @ metric @ y) * metric
        for s, y in kept:
            left = np.eye(len(s)) - np.outer(s, y) / (s @ y)
            inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
        np.testing.assert_allclose(found[example], -inverse @ row, rtol=1e-9, atol=1e-9)


def test_the_first_step_minimizes_along_steepest_descent(float64):
    """Where the network is linear, its slope ends at zero."""
    problem = problem_of("linear")
    start = Linearization(problem, problem.zeros())
    here = start.evaluation(problem)
    state = fx.QuasiNewton().init(problem, start, here)
    there = evaluate(problem, state.direction)
    along = problem.network.space.dot(there.gradient, state.direction)
    begun = problem.network.space.dot(here.gradient, state.direction)
    assert (np.asarray(begun) < 0).all()
    np.testing.assert_allclose(along / begun, 0, atol=1e-12)


def evaluations_until(problem, solver, tolerance=1e-3):
    def settled(problem, here):
        return problem.network.space.norm(here.gradient)

    _, norms = fx.trace(problem, solver, settled)
    below = (norms <= tolerance * norms[0]).all(axis=1)
    return int(np.argmax(below)) if below.any() else np.inf


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_no_rate_of_error_descent_needs_fewer_evaluations(float64, activation):
    problem = problem_of(activation, depth=32)
    own = evaluations_until(problem, fx.QuasiNewton())
    rates = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    descents = [fx.ErrorDescent(optax.sgd(rate), 150) for rate in rates]
    others = [evaluations_until(problem, descent) for descent in descents]
    assert np.isfinite(others).any()
    assert own + 1 < min(others)


def test_rejected_steps_leave_where_inference_stands():
    """Far too steep a start on a problem of strong curvature: the energy never rises."""
    problem = problem_of("gelu", energy=fx.Categorical()).with_output_precision(1e4)

    def energies(problem, here):
        return here.energy

    relaxed, rows = fx.trace(problem, fx.QuasiNewton(1e-4, 60), energies)
    rises = np.diff(np.asarray(rows), axis=0)
    assert (rises <= 1e-5 * np.abs(rows[:-1])).all() and (rows[-1] < 0.5 * rows[0]).all()
    assert np.isfinite(np.asarray(relaxed.unsettled)).all()


def test_a_gradient_of_zero_stays(float64):
    problem = problem_of(jnp.tanh)
    explained = problem.feedforward()
    at_rest = fx.Problem(problem.network, {**problem.clamps, "output": explained["output"]})
    relaxed = fx.infer(at_rest, fx.QuasiNewton())
    assert (np.asarray(relaxed.steps) == 0).all() and (np.asarray(relaxed.unsettled) == 0).all()
