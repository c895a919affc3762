"""The quadratic model of inference: against closed forms, dense solves and its own limits."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.theory.trust_region import trust_region, with_hidden_precision

BATCH, IN, WIDTH, OUT, DEPTH = 4, 3, 5, 2, 4


class Convolved(eqx.Module):
    """`norm(W * tanh(z))`."""

    convolution: fx.layers.Convolution
    norm: fx.layers.BatchNorm = eqx.field(default_factory=lambda: fx.layers.BatchNorm(4))

    def __call__(self, image):
        return self.norm(self.convolution(jnp.tanh(image)))

    def with_batch_statistics(self, images):
        taken = self.norm.with_batch_statistics(jax.vmap(self.convolution)(jnp.tanh(images)))
        return eqx.tree_at(lambda c: c.norm, self, taken)


class Readout(eqx.Module):
    """A linear map of the channels' means."""

    weight: jax.Array

    def __call__(self, image):
        return jnp.tanh(image).mean(axis=(0, 1)) @ self.weight


def data():
    keys = jax.random.split(jax.random.key(0), 2)
    return jax.random.normal(keys[0], (BATCH, IN)), jax.random.normal(keys[1], (BATCH, OUT))


def network(activation, kind=fx.models.mlp, **options):
    key = jax.random.key(7)
    return kind(IN, OUT, width=WIDTH, depth=DEPTH, activation=activation, key=key, **options)


def layers(network):
    """Weight and multiplier of every layer of an `mlp`."""
    first, stack, output = network.entries[1:]
    hidden, last = stack.block.linear, output.function.linear
    found = [(first.function.weight, first.function.multiplier)]
    found += [(weight, hidden.multiplier) for weight in hidden.weight]
    return [*found, (last.weight, last.multiplier)]


def plain_energy(weights, activation, x, y, output_precision, hidden_precision=1.0):
    """F of one example as a function of all hidden errors in a row, in plain JAX."""

    def energy(flat):
        errors, activity = flat.reshape(-1, WIDTH), weights[0] @ x
        for weight, error in zip(weights[1:], errors, strict=True):
            activity = weight @ activation(activity + error)
        hidden = 0.5 * hidden_precision * flat @ flat
        return hidden + 0.5 * output_precision * jnp.sum((y - activity) ** 2)

    return energy


def flat(entries, example):
    """Errors of one example in a row: of the first node, then of the stack."""
    first = entries["first"][example]
    return np.concatenate([first, np.asarray(entries["hidden"][:, example]).ravel()])


@functools.partial(jax.jit, static_argnums=1)
def model(weights, *rest):
    """Gradient and Hessian of `plain_energy` at the feedforward pass."""
    energy, origin = plain_energy(weights, *rest), jnp.zeros(WIDTH * (DEPTH - 1))
    return jax.grad(energy)(origin), jax.hessian(energy)(origin)


def dense(net, x, y, output_precision):
    """`-(Pi + H)^-1 g` and the eigenvalues of `Pi + H` of a tanh network, for every example."""
    weights = [weight * multiplier for weight, multiplier in layers(net)]
    found = []
    for one_x, one_y in zip(x, y, strict=True):
        gradient, hessian = map(
            np.asarray, model(weights, jnp.tanh, one_x, one_y, output_precision)
        )
        found.append((-np.linalg.solve(hessian, gradient), np.linalg.eigvalsh(hessian)))
    return found


def assert_same(a, b, tolerance):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


def assert_finite(found):
    for leaf in jax.tree.leaves(found):
        assert np.isfinite(leaf).all()


def test_by_hand(float64):
    """x = 1, W1 = 2, W2 = 3, y = 1: prediction 6, S = 10, F* = 1.25, z1* = 0.5.

    There e1 = -1.5 and y - mu = -0.5, so dF/dW1 = 1.5 and dF/dW2 = 0.5 z1* = 0.25; backprop has
    5 W2 x = 15 and 5 z1 = 10.
    """
    nodes = [
        fx.Node(name, fx.layers.Linear(jnp.array([[weight]])))
        for name, weight in (("first", 2.0), ("output", 3.0))
    ]
    one = jnp.ones((1, 1))
    found = trust_region(fx.Problem(fx.Network(nodes, (1,)), one, one))
    for displacement in (found.predicted, found.relaxed):
        assert_same(displacement.errors, {"first": -1.5 * one}, 1e-9)
        assert_same(displacement.activities, {"first": -1.5 * one}, 1e-9)
    assert float(found.relaxation.energy.sum()) == pytest.approx(1.25, abs=1e-9)
    angle = (1.5 * 15 + 0.25 * 10) / np.hypot(1.5, 0.25) / np.hypot(15, 10)
    assert float(found.cosine_to_backprop) == pytest.approx(angle, abs=1e-9)
    assert float(found.cosine_to_trust_region) == pytest.approx(1, abs=1e-9)
    assert bool(found.bounded.all()) and float(found.overall_difference) < 1e-9


def linear_problem(kind):
    net = with_hidden_precision(network("linear", kind, parameterization=fx.NTK()), 0.5)
    return fx.Problem(net, *data(), output_precision=3.0)


@pytest.mark.parametrize("kind", [fx.models.mlp, fx.models.residual_mlp])
def test_linear_networks_are_predicted_exactly(float64, kind):
    problem = linear_problem(kind)
    net = problem.network
    found = trust_region(problem)
    exact = fx.infer(problem, fx.Exact())
    expected = problem.select(exact.errors)
    assert_same(found.predicted.errors, expected, 1e-9)
    assert_same(found.relaxed.errors, expected, 1e-9)
    feedforward = eqx.filter_jit(net.unroll)(None, problem.input)
    moved = {name: exact.activities[name] - feedforward[name] for name in net.hidden}
    assert_same(found.predicted.activities, moved, 1e-9)
    assert_same(found.relaxed.activities, moved, 1e-9)
    assert float(found.difference.max()) < 1e-8 and float(found.overall_difference) < 1e-8
    assert float(found.cosine.min()) == pytest.approx(1, abs=1e-12)
    predicted = {name: feedforward[name] + found.predicted.activities[name] for name in net.hidden}
    gradient = eqx.filter_jit(fx.weight_gradient)
    gradients = [gradient(problem, z) for z in (predicted, exact.activities)]
    assert_same(*gradients, 1e-9)
    assert float(found.cosine_to_trust_region) == pytest.approx(1, abs=1e-12)


def test_from_the_gradient_to_the_second_order_step(float64):
    """On a linear network: `-Pi^-1 g` for weak outputs, `-H^+ g` for strong ones."""
    problem = linear_problem(fx.models.mlp)
    x, y, net = problem.input, problem.target, problem.network
    weights = [layer * multiplier for layer, multiplier in layers(net)]
    weak, strong = (
        trust_region(problem.with_output_precision(p)).predicted.errors for p in (1e-8, 1e8)
    )
    for example in range(BATCH):
        gradient, hessian = model(weights, fx.layers.linear, x[example], y[example], 1.0, 0.0)
        np.testing.assert_allclose(flat(weak, example) / 1e-8, -gradient / 0.5, atol=1e-6)
        newton = -np.linalg.pinv(np.asarray(hessian), rcond=1e-9) @ gradient
        np.testing.assert_allclose(flat(strong, example), newton, atol=1e-6)


def test_prediction_is_the_dense_solution(float64):
    net, (x, y) = network("tanh"), data()
    found = trust_region(fx.Problem(net, x, y, output_precision=0.3))
    assert bool(found.bounded.all()) and float(found.unsolved.max()) < 1e-12
    for example, (step, eigenvalues) in enumerate(dense(net, x, y, 0.3)):
        assert eigenvalues[0] > 0
        np.testing.assert_allclose(flat(found.predicted.errors, example), step, rtol=0, atol=1e-9)


def test_unbounded_models_are_flagged(float64):
    """Exactly the examples whose dense `Pi + H` is indefinite; nothing is NaN."""
    net, (x, y) = network("tanh"), data()
    y, counts = 3 * y, []
    for precision in (0.05, 0.2, 0.5, 1.0, 2.0):
        found = trust_region(fx.Problem(net, x, y, output_precision=precision))
        smallest = np.array([eigenvalues[0] for _, eigenvalues in dense(net, x, y, precision)])
        np.testing.assert_array_equal(found.bounded, smallest > 0)
        assert float(found.unsolved[found.bounded].max(initial=0)) < 1e-9
        counts.append(int(found.bounded.sum()))
        if counts[-1]:
            assert_finite(found)
    assert BATCH in counts and set(counts) - {0, BATCH}, counts


def test_no_bounded_model(float64):
    net, (x, y) = network("tanh"), data()
    found = trust_region(fx.Problem(net, x, 10 * y, output_precision=30.0))
    assert all(eigenvalues[0] < 0 for _, eigenvalues in dense(net, x, 10 * y, 30.0))
    assert not found.bounded.any()
    assert np.isinf(found.overall_difference) and float(found.overall_cosine) == 0
    assert float(found.cosine_to_trust_region) == 0
    assert_finite(eqx.tree_at(lambda f: f.overall_difference, found, jnp.zeros(())))
    assert f"0 of {BATCH}" in found.describe()


def test_weak_output_makes_the_model_exact_and_the_update_backprop(float64):
    """The model neglects `lambda E'''[e, e] / 2`, with `e = O(lambda)`: relatively O(lambda^2).

    The weight update turns away from backprop's by an angle O(lambda), from that of the trust
    region by O(lambda^2); one minus the cosine is its square.
    """
    problem = fx.Problem(network("tanh"), *data())
    path = [trust_region(problem.with_output_precision(0.04 / 2**i)) for i in range(6)]
    names = ("overall_difference", "cosine_to_backprop", "cosine_to_trust_region")
    difference, *cosines = (np.array([float(getattr(f, name)) for f in path]) for name in names)
    angle, model_angle = (np.sqrt(1 - cosine) for cosine in cosines)
    for values, order in ((difference, 2), (angle, 1), (model_angle, 2)):
        np.testing.assert_allclose(np.log2(values[:-1] / values[1:])[-2:], order, atol=0.1)
    assert difference[-1] < 1e-4 and angle[-1] < 1e-2 and model_angle[-1] < angle[-1] / 10


def test_strong_hidden_precision_is_a_weak_output(float64):
    """Displacements depend on the ratio of the precisions alone."""
    net, (x, y) = network("tanh"), data()
    a = trust_region(fx.Problem(net, x, y, output_precision=0.05))
    b = trust_region(fx.Problem(with_hidden_precision(net, 7.0), x, y, output_precision=0.35))
    assert_same(a.predicted, b.predicted, 1e-10)
    assert_same(a.relaxed, b.relaxed, 1e-8)
    for name in ("cosine_to_backprop", "cosine_to_trust_region", "overall_difference"):
        assert float(getattr(b, name)) == pytest.approx(float(getattr(a, name)), abs=1e-7)


def test_nothing_to_do(float64):
    """Where the target is the prediction nothing moves, which is neither NaN nor a difference."""
    net, (x, y) = network("tanh"), data()
    prediction = fx.predict(net, x)
    found = trust_region(fx.Problem(net, x, y.at[0].set(prediction[0]), output_precision=0.1))
    assert_finite(found)
    assert bool(found.bounded[0]) and float(found.difference[0]) == 0
    still = trust_region(fx.Problem(net, x, prediction))
    assert_finite(still)
    assert float(still.overall_difference) == 0


def test_examples_do_not_interact(float64):
    net, (x, y) = network("tanh"), data()
    one = trust_region(fx.Problem(net, x, y, output_precision=0.5))
    other = trust_region(
        fx.Problem(net, x.at[1:].multiply(3), y.at[1:].multiply(-5), output_precision=0.5)
    )
    np.testing.assert_allclose(flat(one.predicted.errors, 0), flat(other.predicted.errors, 0))
    assert float(one.difference[0]) == pytest.approx(float(other.difference[0]), abs=1e-8)


def test_convolutions_batch_statistics_and_labels():
    """In float32: where the precision is weak, down to gradients whose squares vanish."""
    keys = jax.random.split(jax.random.key(1), 4)
    shapes = ((3, 3, 2, 4), (3, 3, 4, 4), (4, 3))
    arrays = [jax.random.normal(k, s) / 4 for k, s in zip(keys, shapes, strict=False)]
    net = fx.Network(
        [
            fx.Node("first", Convolved(fx.layers.Convolution(arrays[0]))),
            fx.Node("second", Convolved(fx.layers.Convolution(arrays[1]))),
            fx.Node("sum", fx.layers.add, parents=("first", "second")),
            fx.Node("output", Readout(arrays[2]), energy=fx.Categorical()),
        ],
        (4, 4, 2),
    )
    x = jax.random.normal(keys[3], (BATCH, *net.input_shape))
    problem = eqx.filter_jit(fx.Problem.with_batch_statistics)(
        fx.Problem(net, x, jnp.arange(BATCH) % 3)
    )
    for precision in (1e-3, 1e-12):
        found = trust_region(problem.with_output_precision(precision), fx.GaussNewton(4, 6))
        assert_finite(found)
        assert bool(found.bounded.all()) and float(found.unsolved.max()) < 1e-5
        assert float(found.overall_difference) < 1e-2
        assert float(found.overall_cosine) == pytest.approx(1, abs=1e-4)
        assert float(found.cosine_to_backprop) > 0.999
        assert float(found.cosine_to_trust_region) > 0.9999


MODELS = {
    "resnet": lambda key: fx.models.resnet(
        10, width=1 / 32, image_shape=(8, 8, 3), normalization="batch", key=key
    ),
    "vgg": lambda key: fx.models.vgg(
        5, width=1 / 32, image_shape=(16, 16, 3), pool="average", key=key, output=fx.Categorical()
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_published_architectures(name):
    """In float32, at a strength at which the model is close."""
    net = MODELS[name](jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (3, *net.input_shape))
    problem = fx.Problem(net, x, jnp.arange(3)).with_batch_statistics()
    strength = fx.strength(problem, jax.random.key(3))
    weak = problem.with_output_precision(1e-3 / strength)
    found = trust_region(weak, fx.GaussNewton(iterations=4, cg_iterations=6))
    assert_finite(found)
    assert bool(found.bounded.all()) and float(found.unsolved.max()) < 1e-4
    assert float(found.overall_difference) < 0.02
    assert float(found.cosine_to_backprop) > 0.999
    assert float(found.cosine_to_trust_region) > 0.9999


def test_hidden_precision_leaves_the_rest():
    net = network("tanh", output=fx.Gaussian(3.0))
    changed = with_hidden_precision(net, 0.25)
    assert [entry.energy.precision for entry in changed.entries[1:]] == [0.25, 0.25, 3.0]
    assert changed.labels == net.labels and changed.parents == net.parents
    assert_same(fx.weights(net).entries[1].function, fx.weights(changed).entries[1].function, 0)
    with pytest.raises(ValueError, match="positive"):
        with_hidden_precision(net, 0.0)


def test_a_gradient_that_is_not_finite_is_an_error(float64):
    net, (x, y) = network("tanh"), data()
    huge = eqx.tree_at(lambda n: n.entries[-1].function.linear.weight, net, replace_fn=huge_weight)
    with pytest.raises(ValueError, match="not finite"):
        trust_region(fx.Problem(huge, x, y))


def huge_weight(weight):
    return 1e200 * weight
