"""Convolution, normalization and pooling against numpy; what is a weight and what is a statistic.

Batch statistics: live under differentiation, frozen under inference, running averages by hand.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx import layers
from fathomx.graph.statistics import Statistics, holds_statistics, split, weights


@pytest.fixture(autouse=True)
def same_numbers():
    """Every test draws the same numbers, whichever ran before it."""
    normal.rng = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(normal.rng.normal(size=shape))


def convolved(weight, image, stride):
    """Every output pixel by itself, centered on `stride` times its position."""
    kernel, _, _, out = weight.shape
    before, after = (kernel - 1) // 2, kernel // 2
    padded = np.pad(image, ((before, after), (before, after), (0, 0)))
    rows, columns = (-(-size // stride) for size in image.shape[:2])
    result = np.zeros((rows, columns, out))
    for i in range(rows):
        for j in range(columns):
            seen = padded[i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            result[i, j] = np.einsum("abc,abcd->d", seen, weight)
    return result


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
def test_convolution_is_a_sum_over_windows(float64, kernel, stride, size):
    weight, image = normal(kernel, kernel, 3, 2), normal(*size, 3)
    layer = layers.Convolution(weight, multiplier=0.5, stride=stride)
    expected = 0.5 * convolved(np.asarray(weight), np.asarray(image), stride)
    np.testing.assert_allclose(layer(image), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(6,), (4, 3, 6)])
def test_group_norm_by_groups(float64, groups, shape):
    layer = layers.GroupNorm(6, groups)
    scale, offset, z = normal(6), normal(6), normal(*shape)
    layer = eqx.tree_at(lambda n: (n.scale, n.offset), layer, (scale, offset))
    expected = np.zeros(shape)
    for part in np.split(np.arange(6), groups):
        values = np.asarray(z)[..., part]
        spread = np.sqrt(values.var() + 1e-5)
        expected[..., part] = (values - values.mean()) / spread * scale[part] + offset[part]
    np.testing.assert_allclose(layer(z), expected, rtol=1e-11, atol=1e-12)


def test_batch_norm_by_channels(float64):
    scale, offset, batch = normal(3), normal(3), 2 + 3 * normal(5, 4, 2, 3)
    layer = eqx.tree_at(lambda n: (n.scale, n.offset), layers.BatchNorm(3), (scale, offset))
    z = np.asarray(batch)
    fresh = z / np.sqrt(1 + 1e-5) * scale + offset
    np.testing.assert_allclose(jax.vmap(layer)(batch), fresh, rtol=1e-12)
    taken = layer.with_batch_statistics(batch)
    flat = z.reshape(-1, 3)
    expected = (z - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5) * scale + offset
    np.testing.assert_allclose(jax.vmap(taken)(batch), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(taken(batch[0]), expected[0], rtol=1e-11, atol=1e-12)


def test_pooling_over_blocks_of_four(float64):
    z = np.asarray(normal(4, 6, 2))
    blocks = np.array(
        [[z[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for j in range(3)] for i in range(2)]
    )
    np.testing.assert_allclose(layers.max_pool(jnp.asarray(z)), blocks.max(axis=(2, 3)))
    np.testing.assert_allclose(layers.average_pool(jnp.asarray(z)), blocks.mean(axis=(2, 3)))


def test_adding_adds():
    a, b, c = normal(2, 3), normal(2, 3), normal(2, 3)
    np.testing.assert_allclose(layers.add(a, b, c), a + b + c, rtol=1e-6)
    np.testing.assert_array_equal(layers.add(a), a)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: layers.Convolution(jnp.ones((3, 3, 2, 1)), stride=3), ["stride", "1 or 2", "3"]),
        (
            lambda: layers.Convolution(jnp.ones((3, 3, 2, 1)))(jnp.ones((4, 4, 3))),
            ["(3, 3, 2, 1)", "(height, width, 2)", "(4, 4, 3)"],
        ),
        (lambda: layers.Convolution(jnp.ones((3, 3, 2, 1)))(jnp.ones((4, 2))), ["(4, 2)"]),
        (lambda: layers.GroupNorm(6, 4), ["6 channels", "4 groups"]),
        (lambda: layers.GroupNorm(6, 0), ["6 channels", "0 groups"]),
        (lambda: layers.GroupNorm(6, 2)(jnp.ones((4, 1))), ["GroupNorm", "6", "(4, 1)"]),
        (lambda: layers.BatchNorm(6)(jnp.ones((4, 1))), ["BatchNorm", "6", "(4, 1)"]),
        (
            lambda: layers.BatchNorm(6).with_batch_statistics(jnp.ones((9, 4, 1))),
            ["BatchNorm", "6", "(9, 4, 1)"],
        ),
        (lambda: layers.max_pool(jnp.ones((4, 3, 1))), ["even", "(4, 3, 1)"]),
        (lambda: layers.average_pool(jnp.ones((5, 4, 1))), ["even", "(5, 4, 1)"]),
        (
            lambda: layers.add(jnp.ones((4, 4, 8)), jnp.ones((1, 8))),
            ["(4, 4, 8)", "(1, 8)", "cannot be added"],
        ),
        (lambda: fx.Standard(gain=0.0), ["gain", "positive", "0.0"]),
        (lambda: fx.Standard(gain=float("nan")), ["gain", "finite", "nan"]),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(ValueError, match=r"must|cannot|takes") as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


# Networks with batch normalization.


class Normalized(eqx.Module):
    """`norm(W tanh(sum of the parents))`, written as a user would."""

    weight: jax.Array
    norm: layers.BatchNorm

    def __call__(self, *parents):
        return self.norm(self.mapped(*parents))

    def mapped(self, *parents):
        return jnp.tanh(sum(parents[1:], start=parents[0])) @ self.weight

    def with_batch_statistics(self, *sources):
        taken = self.norm.with_batch_statistics(jax.vmap(self.mapped)(*sources))
        return eqx.tree_at(lambda f: f.norm, self, taken)


def normalized(inputs, outputs):
    return Normalized(normal(inputs, outputs), layers.BatchNorm(outputs))


def network():
    """A diamond: input (3) -> a (4), then b (4) on top, and the output (2) sees both."""
    return fx.Network(
        [
            fx.Node("a", normalized(3, 4)),
            fx.Node("b", normalized(4, 4)),
            fx.Node("out", normalized(4, 2), parents=("a", "b")),
        ],
        (3,),
    )


def batch(size=6):
    return normal(size, 3), normal(size, 2)


def statistics(network):
    leaves = jax.tree.leaves(network, is_leaf=lambda x: isinstance(x, Statistics))
    return [leaf for leaf in leaves if isinstance(leaf, Statistics)]


def test_statistics_are_no_weights(float64):
    whole = network()
    assert holds_statistics(whole)
    learned, rest = split(whole)
    assert eqx.tree_equal(eqx.combine(learned, rest), whole)
    assert eqx.tree_equal(learned, weights(whole))
    # Weight, scale and offset of three nodes.
    sizes = [3 * 4 + 4 + 4, 4 * 4 + 4 + 4, 4 * 2 + 2 + 2]
    assert sum(leaf.size for leaf in jax.tree.leaves(learned)) == sum(sizes)
    assert [s.mean for s in statistics(learned)] == [None] * 3
    assert sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(rest, eqx.is_array))) == 2 * 10
    x, y = batch()
    z = {"a": normal(6, 4), "b": normal(6, 4)}
    gradient = eqx.filter_jit(fx.weight_gradient)(fx.Problem(whole, x, y), z)
    assert jax.tree.structure(gradient) == jax.tree.structure(learned)
    scaled = fx.scale_learning_rates(optax.sgd(1.0))
    updates, _ = scaled.update(gradient, scaled.init(learned))
    assert eqx.tree_equal(updates, jax.tree.map(lambda g: -g, gradient))


def test_batch_statistics_are_taken_in_order(float64):
    whole = network()
    x, _ = batch()
    z, found = {}, {}
    for name, parents, node in zip(
        "abo", (("x",), ("a",), ("a", "b")), whole.entries[1:], strict=True
    ):
        given = sum(np.asarray(x) if p == "x" else z[p] for p in parents)
        mapped = np.tanh(given) @ np.asarray(node.function.weight)
        found[name] = mapped.mean(0), mapped.var(0)
        z[name] = (mapped - mapped.mean(0)) / np.sqrt(mapped.var(0) + 1e-5)
    taken = whole.with_batch_statistics(x)
    for (mean, variance), got in zip(found.values(), statistics(taken), strict=True):
        np.testing.assert_allclose(got.mean, mean, rtol=1e-11)
        np.testing.assert_allclose(got.variance, variance, rtol=1e-11)
    np.testing.assert_allclose(fx.predict(taken, x), z["o"], rtol=1e-10)
    assert eqx.tree_equal(weights(taken), weights(whole))


def test_the_gradient_through_batch_statistics_is_live(float64):
    learned, rest = split(network())
    x, y = batch()

    @jax.jit
    def loss(learned):
        live = eqx.combine(learned, rest).with_batch_statistics(x)
        return ((live.unroll(None, x)["out"] - y) ** 2).sum()

    gradient = jax.grad(loss)(learned)
    along = jax.tree.map(lambda leaf: normal(*leaf.shape), learned)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, along)))

    def shifted(step):
        return float(loss(jax.tree.map(lambda w, d: w + step * d, learned, along)))

    step = 1e-5
    np.testing.assert_allclose(slope, (shifted(step) - shifted(-step)) / (2 * step), rtol=1e-7)
    # Live normalization undoes the size of a weight, so the gradient has no part along it: up to
    # the 1e-5 beside the variances, which are about 1.
    for node, own in zip(gradient.entries[1:], learned.entries[1:], strict=True):
        g, w = node.function.weight, own.function.weight
        parallel = np.abs((g * w).sum(0)) / np.linalg.norm(g * w, axis=0)
        assert (parallel < 1e-3).all()


@pytest.mark.parametrize(
    "solver",
    [fx.GaussNewton(), fx.StateDescent(steps=5)],
    ids=lambda solver: type(solver).__name__,
)
def test_inference_leaves_frozen_statistics_alone(float64, solver):
    x, y = batch()
    problem = fx.Problem(network(), x, y).with_batch_statistics()
    before = jax.tree.map(np.array, problem)
    relaxed = fx.infer(problem, solver)
    assert eqx.tree_equal(before, jax.tree.map(np.array, problem))
    # The energy at the end is that of the statistics of the start.
    expected = 0.0
    z = {"x": np.asarray(x), **relaxed.activities, "out": np.asarray(y)}
    parents = {"a": ("x",), "b": ("a",), "out": ("a", "b")}
    for node in before.network.entries[1:]:
        given = sum(np.asarray(z[p]) for p in parents[node.name])
        mapped = np.tanh(given) @ node.function.weight
        own = node.function.norm.statistics
        predicted = (mapped - own.mean) / np.sqrt(own.variance + 1e-5)
        expected += 0.5 * ((z[node.name] - predicted) ** 2).sum(axis=1).mean()
        if node.name != "a":
            assert np.abs(mapped.mean(0) - own.mean).max() > 1e-3, "activities did not move"
    np.testing.assert_allclose(relaxed.energy.sum(), expected, rtol=1e-10)


def test_examples_do_not_interact_under_frozen_statistics(float64):
    x, y = batch()
    together = fx.Problem(network(), x, y).with_batch_statistics()
    two, alone = (fx.Problem(together.network, x[:n], y[:n]) for n in (2, 1))
    solver = fx.ErrorDescent(optax.sgd(0.05), steps=3)
    whole, part = (fx.infer(p, solver).activities for p in (together, alone))
    for name in ("a", "b"):
        np.testing.assert_allclose(part[name], whole[name][:1], rtol=1e-9)
    other = two.with_batch_statistics()
    assert np.abs(fx.predict(other.network, x[:2]) - fx.predict(two.network, x[:2])).max() > 0.1


def test_running_averages_by_hand(float64):
    whole = network()
    (x, _), (other, _) = batch(), batch()
    one, two = whole.with_batch_statistics(x), whole.with_batch_statistics(other)
    moved = whole.moved_statistics(one, 0.25).moved_statistics(two)
    assert eqx.tree_equal(weights(moved), weights(whole))
    for got, a, b in zip(statistics(moved), statistics(one), statistics(two), strict=True):
        np.testing.assert_allclose(got.mean, 0.9 * 0.25 * a.mean + 0.1 * b.mean, rtol=1e-12)
        np.testing.assert_allclose(
            got.variance, 0.9 * (0.75 + 0.25 * a.variance) + 0.1 * b.variance, rtol=1e-12
        )
    assert eqx.tree_equal(whole.moved_statistics(one, 0.0), whole)
    assert eqx.tree_equal(whole.moved_statistics(one, 1.0), one)


def test_networks_without_statistics_stay_as_they_are():
    plain = fx.models.mlp(3, 2, width=4, depth=4, key=jax.random.key(0))
    x, y = batch()
    problem = fx.Problem(plain, x, y)
    assert not holds_statistics(plain)
    assert plain.with_batch_statistics(x[:1]) is plain
    assert plain.moved_statistics(plain) is plain
    assert problem.with_batch_statistics() is problem


def test_one_example_has_no_batch_statistics():
    whole = network()
    x, y = batch(1)
    with pytest.raises(ValueError, match=r"node 'a' .* one example; use a larger batch, .*group"):
        eqx.filter_jit(lambda n, x: n.with_batch_statistics(x))(whole, x)
    with pytest.raises(ValueError, match="'a'"):
        fx.Problem(whole, x, y).with_batch_statistics()


@pytest.mark.parametrize("momentum", [-0.1, 1.5, float("nan")])
def test_momentum_lies_between_zero_and_one(momentum):
    whole = network()
    with pytest.raises(ValueError, match="momentum"):
        whole.moved_statistics(whole, momentum)


def test_a_stack_cannot_hold_batch_statistics():
    blocks = eqx.filter_vmap(lambda w: Normalized(w, layers.BatchNorm(4)))(normal(3, 4, 4))
    with pytest.raises(ValueError, match=r"stack 'deep'.*batch normalization.*GroupNorm"):
        fx.Stack("deep", blocks)


def test_a_stack_can_normalize_by_groups(float64):
    class Block(eqx.Module):
        weight: jax.Array
        norm: layers.GroupNorm

        def __call__(self, z):
            return self.norm(z @ self.weight)

    own, x = normal(3, 4, 4), normal(2, 4)
    blocks = eqx.filter_vmap(lambda w: Block(w, layers.GroupNorm(4, 2)))(own)
    stacked = fx.Network([fx.Stack("s", blocks), fx.Node("out", lambda z: z)], (4,))
    z = np.asarray(x)
    for w in np.asarray(own):
        halves = (z @ w).reshape(2, 2, 2)
        centered = halves - halves.mean(-1, keepdims=True)
        spread = np.sqrt(halves.var(-1, keepdims=True) + 1e-5)
        z = (centered / spread).reshape(2, 4)
    np.testing.assert_allclose(fx.predict(stacked, x), z, rtol=1e-9)


def test_a_function_must_say_how_it_takes_statistics():
    whole = eqx.nn.Sequential([eqx.nn.Lambda(jnp.tanh), eqx.nn.Lambda(layers.BatchNorm(3))])
    with pytest.raises(TypeError, match=r"node 'bad'.*Sequential.*with_batch_statistics"):
        fx.Node("bad", whole)
