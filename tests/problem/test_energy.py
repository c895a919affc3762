"""Energies and weight gradients against hand values and finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx

pytestmark = pytest.mark.usefixtures("float64")


class Scalar(eqx.Module):
    """`w z`, one number."""

    w: jax.Array

    def __call__(self, z):
        return self.w * z


class Map(eqx.Module):
    """`W tanh(sum of parents)`."""

    weight: jax.Array

    def __call__(self, *parents):
        return self.weight @ jnp.tanh(sum(parents[1:], start=parents[0]))


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def stacked(output):
    """Precisions 2 (first), 0.5 (stack of three), and that of the output."""
    return fx.Network(
        [
            fx.Node("a", Map(jnp.asarray(normal(1, 4, 3))), energy=fx.Gaussian(2.0)),
            fx.Stack("s", Map(jnp.asarray(normal(2, 3, 4, 4) / 2)), energy=fx.Gaussian(0.5)),
            fx.Node("out", Map(jnp.asarray(normal(3, 2, 4))), energy=output),
        ],
        (3,),
    )


def dag(output):
    return fx.Network(
        [
            fx.Node("a", Map(jnp.asarray(normal(1, 4, 3))), energy=fx.Gaussian(2.0)),
            fx.Node("b", Map(jnp.asarray(normal(2, 4, 4))), energy=fx.Gaussian(0.5)),
            fx.Node("out", Map(jnp.asarray(normal(3, 2, 4))), parents=("a", "b"), energy=output),
        ],
        (3,),
    )


def problem(build, output):
    target = np.array([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]])
    return fx.Problem(build(output), normal(4, 3, 3), target)


def random_activities(p, seed=5):
    zeros = p.network.zeros(p.batch)
    return {k: jnp.asarray(normal(seed + i, *v.shape)) for i, (k, v) in enumerate(zeros.items())}


# Energies.


def test_gaussian_by_hand():
    unit = fx.Gaussian(0.5).unit(jnp.array([1.0, 2.0]), jnp.array([4.0, -2.0]))
    assert float(unit) == 12.5  # (3^2 + 4^2) / 2
    error = fx.Gaussian(0.5).error(jnp.array([1.0, 2.0]), jnp.array([4.0, -2.0]))
    np.testing.assert_allclose(error, [-3.0, 4.0], rtol=1e-15)


def test_categorical_by_hand():
    # softmax of (log 1, log 2, log 5) is (1, 2, 5) / 8.
    logits = jnp.log(jnp.array([1.0, 2.0, 5.0])) + 3
    target = jnp.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(fx.Categorical().unit(target, logits), np.log(4), rtol=1e-14)
    error = fx.Categorical().error(target, logits)
    np.testing.assert_allclose(error, [-1 / 8, 3 / 4, -5 / 8], rtol=1e-13)
    soft = jnp.array([0.5, 0.5, 0.0])
    expected = 0.5 * np.log(8) + 0.5 * np.log(4)
    np.testing.assert_allclose(fx.Categorical().unit(soft, logits), expected, rtol=1e-14)


def test_categorical_sums_over_positions():
    logits = jnp.log(jnp.array([[1.0, 3.0], [1.0, 1.0]]))
    target = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(fx.Categorical().unit(target, logits), np.log(4) + np.log(2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_logits_stay_finite(dtype):
    logits = jnp.array([1e4, -1e4, 0.0], dtype)
    for label, expected in enumerate([0.0, 2e4, 1e4]):
        target = jnp.eye(3, dtype=dtype)[label]
        np.testing.assert_allclose(fx.Categorical().unit(target, logits), expected)
        error = fx.Categorical().error(target, logits)
        np.testing.assert_allclose(error, np.eye(3)[label] - [1, 0, 0], atol=1e-12)


@pytest.mark.parametrize("energy", [fx.Gaussian(3.0), fx.Categorical(3.0)], ids=repr)
def test_the_error_is_minus_the_gradient_in_the_prediction(energy):
    target, mu, step = np.array([0.3, 0.7, 0.0]), normal(6, 3), 1e-5
    error = energy.error(jnp.asarray(target), jnp.asarray(mu))
    for i in range(3):
        up, down = (
            float(energy.unit(jnp.asarray(target), jnp.asarray(mu + s * step * np.eye(3)[i])))
            for s in (1, -1)
        )
        np.testing.assert_allclose(error[i], -(up - down) / (2 * step), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("output", [fx.Gaussian(0.3), fx.Categorical(0.3)], ids=repr)
def test_the_energy_of_a_graph_by_hand(output):
    p = problem(dag, output)
    z = random_activities(p)
    w1, w2, w3 = (np.asarray(n.function.weight) for n in p.network.entries[1:])
    a, b, x, y = (np.asarray(v) for v in (z["a"], z["b"], p.input, p.target))
    mu = np.tanh(a + b) @ w3.T
    if isinstance(output, fx.Gaussian):
        out = 0.5 * ((y - mu) ** 2).sum(1)
    else:
        out = np.log(np.exp(mu).sum(1)) - (y * mu).sum(1)
    expected = [
        ((a - np.tanh(x) @ w1.T) ** 2).sum(1).mean(),  # precision 2 times one half
        0.25 * ((b - np.tanh(a) @ w2.T) ** 2).sum(1).mean(),
        0.3 * out.mean(),
    ]
    np.testing.assert_allclose(fx.energy(p, z), expected, rtol=1e-13)
    # The output is clamped by the problem, whatever the activities say.
    np.testing.assert_allclose(fx.energy(p, {**z, "out": y + 1}), expected, rtol=1e-13)


def test_the_precision_of_a_problem_overrides_that_of_the_node():
    p = problem(dag, fx.Gaussian(0.3))
    z = random_activities(p)
    tripled = fx.energy(p.with_output_precision(0.9), z)
    np.testing.assert_allclose(tripled, np.array([1, 1, 3]) * fx.energy(p, z), rtol=1e-13)


# The worked example: x = 1, W1 = 2, W2 = 3, y = 1.


def worked_example():
    nodes = [fx.Node("a", Scalar(jnp.asarray(2.0))), fx.Node("out", Scalar(jnp.asarray(3.0)))]
    return fx.Problem(fx.Network(nodes, (1,)), np.ones((1, 1)), np.ones((1, 1)))


@pytest.mark.parametrize(
    ("solver", "tolerance"),
    [
        (fx.Exact(), 1e-14),
        (fx.GaussNewton(iterations=1, cg_iterations=1), 1e-14),
        (fx.Newton(tolerance=1e-12), 1e-12),
        # The Hessian in z is 1 + 9: at rate 0.08 a step shrinks the distance to a fifth.
        (fx.StateDescent(optax.sgd(0.08), steps=30), 1e-12),
        (fx.ErrorDescent(optax.sgd(0.08), steps=30), 1e-12),
        (fx.GradientFlow(tolerance=1e-5), 2e-4),
    ],
    ids=lambda v: type(v).__name__,
)
def test_the_worked_example(solver, tolerance):
    p = worked_example()
    assert float(fx.predict(p.network, p.input)[0, 0]) == 6
    relaxed = eqx.filter_jit(fx.infer)(p, solver)
    np.testing.assert_allclose(relaxed.activities["a"], [[0.5]], rtol=tolerance)
    np.testing.assert_allclose(relaxed.errors["a"], [[-1.5]], rtol=tolerance)
    np.testing.assert_allclose(relaxed.errors["out"], [[-0.5]], rtol=10 * tolerance)
    np.testing.assert_allclose(relaxed.energy, [1.125, 0.125], rtol=10 * tolerance)
    np.testing.assert_allclose(relaxed.energy.sum(), 1.25, rtol=tolerance)
    np.testing.assert_allclose(relaxed.activities["out"], [[1.0]], rtol=0)
    # dF/dW1 = -e_1 x = 1.5 and dF/dW2 = -e_2 z_1 = 0.25.
    gradient = fx.weight_gradient(p, relaxed.activities)
    np.testing.assert_allclose(gradient.entries[1].function.w, 1.5, rtol=tolerance)
    np.testing.assert_allclose(gradient.entries[2].function.w, 0.25, rtol=20 * tolerance)


# Weight gradients.


def weights(network):
    leaves, structure = jax.tree.flatten(eqx.filter(network, eqx.is_inexact_array))
    return [np.asarray(leaf) for leaf in leaves], structure


def finite_differences(function, network, step=1e-6):
    """Central differences of `function(network)` in every single weight."""
    leaves, structure = weights(network)
    rest = eqx.filter(network, eqx.is_inexact_array, inverse=True)
    sizes = np.cumsum([0, *(leaf.size for leaf in leaves)])
    flat = np.concatenate([leaf.ravel() for leaf in leaves])

    def value(flat):
        parts = [flat[sizes[i] : sizes[i + 1]].reshape(leaf.shape) for i, leaf in enumerate(leaves)]
        return function(eqx.combine(jax.tree.unflatten(structure, parts), rest))

    shifts = step * np.eye(flat.size)
    values = jax.jit(jax.vmap(value))
    return np.asarray((values(flat + shifts) - values(flat - shifts)) / (2 * step))


def flattened(gradient):
    return np.concatenate([leaf.ravel() for leaf in weights(gradient)[0]])


CASES = [(b, o) for b in (stacked, dag) for o in (fx.Gaussian(0.3), fx.Categorical(0.3))]


@pytest.mark.parametrize(("build", "output"), CASES)
def test_the_weight_gradient_against_finite_differences(build, output):
    p = problem(build, output)
    z = random_activities(p)

    def total(network):
        return fx.energy(eqx.tree_at(lambda p: p.network, p, network), z).sum()

    gradient = eqx.filter_jit(fx.weight_gradient)(p, z)
    expected = finite_differences(total, p.network)
    np.testing.assert_allclose(flattened(gradient), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("build", "output"), CASES)
def test_known_errors_give_the_same_gradient(build, output):
    p = problem(build, output)

    @eqx.filter_jit
    def both(p):
        relaxed = fx.infer(p, fx.StateDescent(optax.sgd(0.1), steps=3))
        known = fx.weight_gradient(p, relaxed.activities, errors=relaxed.errors)
        return known, fx.weight_gradient(p, relaxed.activities)

    known, computed = both(p)
    np.testing.assert_allclose(flattened(known), flattened(computed), rtol=1e-12, atol=1e-14)
    assert jax.tree.structure(known) == jax.tree.structure(computed)


def test_the_gradient_is_a_pytree_like_the_arrays_of_the_network():
    p = problem(stacked, fx.Gaussian())
    gradient = fx.weight_gradient(p, random_activities(p))
    arrays = eqx.filter(p.network, eqx.is_inexact_array)
    assert jax.tree.structure(gradient) == jax.tree.structure(arrays)
    optimizer = optax.adam(1e-3)
    updates, _ = optimizer.update(gradient, optimizer.init(arrays))
    assert isinstance(eqx.apply_updates(p.network, updates), fx.Network)


@pytest.mark.parametrize("output", [fx.Gaussian(0.3), fx.Categorical(0.3)], ids=repr)
def test_at_equilibrium_it_is_the_gradient_of_the_equilibrated_energy(output):
    """The envelope theorem: dF*/dtheta is dF/dtheta at the settled activities."""
    p = problem(dag, output)
    solver = fx.Newton(tolerance=1e-11)

    def equilibrated(network):
        return fx.infer(eqx.tree_at(lambda p: p.network, p, network), solver).energy.sum()

    relaxed = eqx.filter_jit(fx.infer)(p, solver)
    assert float(relaxed.unsettled.max()) < 1e-9
    gradient = fx.weight_gradient(p, relaxed.activities)
    expected = finite_differences(equilibrated, p.network, step=1e-5)
    np.testing.assert_allclose(flattened(gradient), expected, rtol=1e-6, atol=1e-8)
    # At the feedforward state it is another gradient: the test can tell.
    before = fx.weight_gradient(p, p.explain(p.zeros())[1])
    assert np.abs(flattened(before) - expected).max() > 1e-2


class OfEveryUnit(fx.Energy):
    """Forgets the sum."""

    def unit(self, target, prediction):
        return jnp.abs(target - prediction)


@pytest.mark.parametrize("rule", [fx.Equilibrium(), fx.Backprop()], ids=["equilibrium", "backprop"])
def test_an_energy_that_is_no_number_is_told(rule):
    network = fx.models.mlp(3, 2, width=4, depth=2, output=OfEveryUnit(), key=jax.random.key(0))
    x, y = np.ones((20, 3), np.float32), np.ones((20, 2), np.float32)
    with pytest.raises(TypeError, match=r"unit of OfEveryUnit returns an array of shape \(2,\)"):
        fx.fit(network, (x, y), rule, batch_size=4, epochs=1)
