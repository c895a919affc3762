"""What is computed in a shorter way gives what the definition gives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.problem.evaluation import evaluate, evaluate_at


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def some_problem(output=None):
    network = fx.models.residual_mlp(
        5, 3, width=4, depth=5, activation="tanh", key=jax.random.key(0), output=output
    )
    input = jax.random.normal(jax.random.key(1), (6, 5))
    return fx.Problem(network, input, jnp.arange(6) % 3, output_precision=2.0)


def some_errors(problem, size=0.3):
    zeros = problem.network.zeros(problem.batch)
    keys = jax.random.split(jax.random.key(2), len(zeros))
    return {
        name: size * jax.random.normal(key, zero.shape)
        for key, (name, zero) in zip(keys, zeros.items(), strict=True)
    }


def agree(one, other, tolerance=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), one, other)


def test_evaluation_at_activities_is_that_of_their_errors():
    problem = some_problem(fx.Categorical())
    there = evaluate(problem, some_errors(problem))
    agree(evaluate_at(problem, there.activities), there)


def test_evaluation_at_activities_of_a_graph_with_skips_and_a_dead_end():
    def weigh(seed, *shape):
        weight = jax.random.normal(jax.random.key(seed), shape)
        return lambda *z: jnp.tanh(sum(z)) @ weight

    network = fx.Network(
        [
            fx.Node("a", weigh(0, 3, 3)),
            fx.Node("b", weigh(1, 3, 3), energy=fx.Gaussian(0.5)),
            fx.Node("unseen", weigh(2, 3, 2), parents=("a",)),
            fx.Node("c", weigh(3, 3, 3), parents=("a", "b", "input")),
            fx.Node("out", weigh(4, 3, 2), parents=("c", "a")),
        ],
        input_shape=(3,),
    )
    input = jax.random.normal(jax.random.key(5), (4, 3))
    problem = fx.Problem(network, input, jnp.ones((4, 2)))
    there = evaluate(problem, some_errors(problem))
    agree(evaluate_at(problem, there.activities), there)


def textbook_step(problem, errors, iterations):
    """A Gauss-Newton step of one example by dense matrices, preconditioned with the identity."""
    names = list(errors)
    sizes = [errors[name].size for name in names]

    def unflatten(flat):
        parts = jnp.split(flat, np.cumsum(sizes)[:-1])
        return {n: p.reshape(errors[n].shape) for n, p in zip(names, parts, strict=True)}

    flat = jnp.concatenate([errors[name].ravel() for name in names])
    predict = lambda flat: problem.explain(unflatten(flat))[0][problem.network.output.name][0]  # noqa: E731
    jacobian = np.asarray(jax.jacobian(predict)(flat))
    loss = lambda prediction: problem.output_precision * problem.loss(prediction[None])[0]  # noqa: E731
    prediction = predict(flat)
    bend = np.asarray(jax.hessian(loss)(prediction))
    system = np.eye(len(flat)) + jacobian.T @ bend @ jacobian
    residual = -(np.asarray(flat) + jacobian.T @ np.asarray(jax.grad(loss)(prediction)))
    step, search = np.zeros_like(residual), residual.copy()
    for _ in range(iterations):
        length = residual @ residual / (search @ system @ search)
        step = step + length * search
        renewed = residual - length * system @ search
        search = renewed + (renewed @ renewed) / (residual @ residual) * search
        residual = renewed
    return unflatten(flat + step)


@pytest.mark.parametrize("cg_iterations", [1, 2, 3])
@pytest.mark.parametrize("output", [fx.Gaussian(), fx.Categorical()])
def test_two_iterations_are_two_textbook_steps(cg_iterations, output):
    """The second one starts at errors that are not zero."""
    # A small precision, at which no step is halved.
    problem = some_problem(output).with_output_precision(0.2)
    relaxed = fx.infer(problem, fx.GaussNewton(2, cg_iterations))
    assert np.all(relaxed.evaluations == 1 + 2 * (cg_iterations + 1))
    for example in (0, 4):
        one = fx.Problem(
            problem.network,
            problem.input[example : example + 1],
            problem.target[example : example + 1],
            output_precision=0.2,
        )
        errors = one.network.zeros(1)
        for _ in range(2):
            errors = textbook_step(one, errors, cg_iterations)
        for name, found in errors.items():
            batch_axis = found.ndim - 2
            mine = jnp.take(relaxed.errors[name], jnp.asarray([example]), axis=batch_axis)
            np.testing.assert_allclose(mine, found, rtol=0, atol=1e-10)


def test_state_descent_ends_at_the_energy_of_its_activities():
    problem = some_problem()
    relaxed = fx.infer(problem, fx.StateDescent(optax.sgd(0.1), steps=7))
    hidden = problem.select(relaxed.activities)
    there = evaluate(problem, problem.errors_of(hidden))
    agree(relaxed.energy.sum(), there.energy.mean())
    agree(problem.select(relaxed.errors), there.errors)
