"""Augmented Lagrangians, against the published loop written out and against closed forms."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx

SIZES = (5, 4, 4, 3, 2)
FUNCTIONS = {
    "linear": (lambda z: z, lambda z: np.ones_like(z)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
}
JAX = {"linear": lambda z: z, "tanh": jnp.tanh, "relu": jax.nn.relu}


class Layer(eqx.Module):
    weight: jax.Array
    activation: object = eqx.field(static=True)

    def __call__(self, z):
        return self.weight @ self.activation(z)


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(b, a)) / np.sqrt(a) for a, b in itertools.pairwise(SIZES)]


def network(given, name, precision=1.0):
    names = [f"layer{i + 1}" for i in range(len(given) - 1)] + ["output"]
    nodes = [
        fx.Node(n, Layer(jnp.asarray(w), JAX[name]), energy=fx.Gaussian(precision))
        for n, w in zip(names, given, strict=True)
    ]
    return fx.Network(nodes, (SIZES[0],))


def data():
    rng = np.random.default_rng(1)
    return rng.normal(size=(3, SIZES[0])), rng.normal(size=(3, SIZES[-1]))


def published(given, name, x, y, rho, rate, budget, inner, alpha, credit, out=1.0):
    """PC-ALM of one example in numpy: activities, multipliers, gradients in the weights."""
    f, slope = FUNCTIONS[name]
    last = len(given) - 1
    z = [x]
    for w in given:
        z.append(w @ f(z[-1]))
    z = z[:-1]
    m = [np.zeros_like(a) for a in z]

    def errors():
        made = [rho * (z[i] - given[i - 1] @ f(z[i - 1])) + m[i] for i in range(1, last + 1)]
        return [None, *made, out * (y - given[last] @ f(z[last]))]

    for _ in range(budget):
        for _ in range(inner):
            e = errors()
            moves = [e[i] - slope(z[i]) * (given[i].T @ e[i + 1]) for i in range(1, last + 1)]
            z = [x, *[z[i] - rate * moves[i - 1] for i in range(1, last + 1)]]
        before = [a.copy() for a in m]
        m = [x, *[m[i] + alpha * (z[i] - given[i - 1] @ f(z[i - 1])) for i in range(1, last + 1)]]
        m[0] = np.zeros_like(x)
    after = m
    m = before if credit == "before" else after
    e = errors()
    gradients = [-np.outer(e[i + 1], f(z[i])) for i in range(last + 1)]
    return z[1:], m[1:], gradients


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("inner", "alpha", "credit", "rho"),
    [
        (1, 1.0, "before", 1.0),
        (3, 0.5, "after", 1.0),
        (1, 1.0, "before", 0.7),
        (2, 0.0, "after", 2),
    ],
)
def test_it_is_the_published_loop(float64, name, inner, alpha, credit, rho):
    given, (x, y) = weights(), data()
    made = network(given, name, rho)
    problem = fx.Problem(made, x, y, output_precision=1.0)
    solver = fx.AugmentedLagrangian(
        0.1, budget=7, inner_steps=inner, dual_rate=alpha, credit=credit
    )
    found = fx.infer(problem, solver)
    shifted = problem.select(found.errors)
    met = problem.errors_of(problem.select(found.activities))
    gradient = fx.Equilibrium(solver, output_precision=1.0).gradient(problem, jax.random.key(0))[0]
    learned = [np.asarray(entry.function.weight) for entry in gradient.entries if not entry.is_root]
    expected = [published(given, name, a, b, rho, 0.1, 7, inner, alpha, credit) for a, b in
                zip(x, y, strict=True)]  # fmt: skip
    for place, entry in enumerate(("layer1", "layer2", "layer3")):
        z = np.stack([row[0][place] for row in expected])
        m = np.stack([row[1][place] for row in expected])
        np.testing.assert_allclose(found.activities[entry], z, atol=1e-10)
        np.testing.assert_allclose(rho * (shifted[entry] - met[entry]), m, atol=1e-10)
    for place, one in enumerate(learned):
        # The mean over the batch, over the output precision of 1.
        mean = np.mean([row[2][place] for row in expected], axis=0)
        np.testing.assert_allclose(one, mean, atol=1e-10)


def test_without_multipliers_it_is_state_descent(float64):
    x, y = data()
    problem = fx.Problem(network(weights(), "tanh"), x, y)
    for mine, plain in (
        (fx.AugmentedLagrangian(0.1, 9, dual_rate=0.0), fx.StateDescent(0.1, 9)),
        (fx.AugmentedGaussNewton(fx.GaussNewton(2, 3), 2, dual_rate=0.0), fx.GaussNewton(4, 3)),
        (fx.AugmentedGaussNewton(fx.GaussNewton(1, 3), 1), fx.GaussNewton(1, 3)),
    ):
        one, other = (fx.infer(problem, solver) for solver in (mine, plain))
        for name in problem.free:
            np.testing.assert_allclose(one.activities[name], other.activities[name], atol=1e-12)
            np.testing.assert_allclose(one.errors[name], other.errors[name], atol=1e-12)
        np.testing.assert_allclose(one.unsettled, other.unsettled, rtol=1e-9)


def backprop_errors(problem):
    """`-J^T dE/do / pi` at the feedforward pass."""
    slope = jax.grad(lambda e: problem.explained_energy(problem.explain(e)[0]).sum())
    return jax.tree.map(lambda g: -g, problem.unweigh(slope(problem.zeros())))


@pytest.mark.parametrize("budget", [1, 2, 3, 6])
def test_what_is_missing_of_backprop_shrinks_with_every_step(float64, budget):
    x, y = data()
    problem = fx.Problem(network(weights(), "linear"), x, y, output_precision=0.6)
    space = problem.zeros()
    names = list(space)
    sizes = [space[n].shape[1] for n in names]
    push = jax.jacobian(
        lambda e: problem.explain({n: part for n, part in zip(names, jnp.split(
            jnp.broadcast_to(e, (3, sum(sizes))), np.cumsum(sizes)[:-1], axis=1), strict=True)})[0]
        ["output"][0]
    )(jnp.zeros(sum(sizes)))  # fmt: skip
    curvature = 0.6 * np.asarray(push).T @ np.asarray(push)
    part = np.linalg.solve(np.eye(len(curvature)) + curvature, curvature)
    left = np.linalg.matrix_power(part, budget)
    told = backprop_errors(problem)
    found = fx.infer(problem, fx.AugmentedGaussNewton(fx.GaussNewton(1, 4), budget))
    flat = np.concatenate([np.asarray(told[n]) for n in names], axis=1)
    expected = flat - flat @ left.T
    errors = np.concatenate([np.asarray(found.errors[n]) for n in names], axis=1)
    np.testing.assert_allclose(errors, expected, atol=1e-9)


@pytest.mark.parametrize(
    "solver",
    [
        fx.AugmentedLagrangian(0.2, 4000),
        fx.AugmentedGaussNewton(fx.GaussNewton(2, 4), 200),
    ],
)
def test_in_the_end_they_are_backprops_errors(float64, solver):
    x, y = data()
    problem = fx.Problem(network(weights(), "tanh"), x, y)
    found = fx.infer(problem, solver)
    told = backprop_errors(problem)
    feedforward = fx.infer(problem, fx.GaussNewton(0)).activities
    for name in problem.free:
        np.testing.assert_allclose(found.errors[name], told[name], atol=1e-8)
        np.testing.assert_allclose(found.activities[name], feedforward[name], atol=1e-8)
    assert found.unsettled.max() < 1e-7


def test_stacks_and_half_clamped_nodes(float64):
    made = fx.models.mlp(5, 2, width=4, depth=6, key=jax.random.key(0))
    x, y = data()
    half = fx.Clamp(jnp.ones((3, 2)), jnp.array([True, False]))
    for problem in (fx.Problem(made, x, y), fx.Problem(made, {"input": x, "output": half})):
        found = fx.infer(problem, fx.AugmentedGaussNewton(fx.GaussNewton(3, 8), 80))
        told = backprop_errors(problem)
        for name in problem.free:
            np.testing.assert_allclose(
                problem.free_errors(found.errors)[name], told[name], atol=1e-6
            )


def test_what_they_refuse():
    with pytest.raises(ValueError, match=r"'befor'.*'before'"):
        fx.AugmentedLagrangian(0.1, 3, credit="befor")
    with pytest.raises(ValueError, match="no iterations"):
        fx.AugmentedGaussNewton(fx.GaussNewton(0))
    with pytest.raises(ValueError, match="rate"):
        fx.AugmentedLagrangian(0.0, 3)
