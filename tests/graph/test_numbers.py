"""Computed in other numbers, or again: the same network, as far as its numbers can tell."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.graph.smoothness import has_kinks, is_linear
from fathomx.graph.statistics import holds_statistics

KEY = jax.random.key(0)
# Half a unit in the last place of bfloat16, relative.
BFLOAT16 = 2.0**-8


def low(array):
    return np.asarray(array).astype(ml_dtypes.bfloat16).astype(np.float64)


def mlp(depth=4, activation="tanh", **options):
    return fx.models.residual_mlp(
        6,
        3,
        width=8,
        depth=depth,
        activation=activation,
        parameterization=fx.MuPC(),
        key=KEY,
        **options,
    )


def some_problem(network, batch=5):
    rng = np.random.default_rng(0)
    return fx.Problem(
        network,
        rng.normal(size=(batch, *network.input_shape)),
        rng.integers(3, size=batch),
    )


class Affine(eqx.Module):
    weight: jax.Array

    def __call__(self, activity):
        return self.weight @ activity


def test_activities_and_products_have_few_digits_and_errors_many():
    """Node by node against the same computed in float64 from rounded operands."""
    rng = np.random.default_rng(1)
    weights = [
        rng.normal(size=(7, 5)).astype(np.float32),
        rng.normal(size=(3, 7)).astype(np.float32),
    ]
    network = fx.mixed_precision(
        fx.Network(
            [fx.Node(n, Affine(jnp.asarray(w))) for n, w in zip("ab", weights, strict=True)], (5,)
        )
    )
    x, z = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=(4, 7)).astype(np.float32)
    predicted = network.predictions({"a": jnp.asarray(z)}, jnp.asarray(x))
    for name, source, weight in (("a", x, weights[0]), ("b", z, weights[1])):
        assert predicted[name].dtype == jnp.float32
        exact = low(source) @ low(weight).T
        terms = np.abs(low(source)) @ np.abs(low(weight)).T
        assert np.all(np.abs(predicted[name] - exact) <= BFLOAT16 * np.abs(exact) + 1e-6 * terms)
        np.testing.assert_array_equal(low(predicted[name]), predicted[name])
        # The operands were rounded, too: the product of the unrounded ones is another.
        assert np.abs(low(source @ weight.T) - predicted[name]).max() > BFLOAT16
    problem = fx.Problem(network, x, rng.normal(size=(4, 3)))
    relaxed = fx.infer(problem, fx.ErrorDescent(optax.sgd(0.01), 3))
    assert {a.dtype for a in relaxed.errors.values()} == {jnp.dtype("float32")}
    assert relaxed.energy.dtype == relaxed.unsettled.dtype == jnp.float32
    # Errors are not rounded to bfloat16.
    assert np.any(low(relaxed.errors["a"]) != relaxed.errors["a"])


def test_learning_in_bfloat16_points_where_float32_does():
    network = mlp()
    rule = fx.Equilibrium(fx.GaussNewton(4, 4), output_precision=1.0)
    exact, _ = rule.gradient(some_problem(network), KEY)
    rough, report = rule.gradient(some_problem(fx.mixed_precision(network)), KEY)
    one, other = (np.concatenate([np.ravel(a) for a in jax.tree.leaves(g)]) for g in (exact, rough))
    assert {a.dtype for a in jax.tree.leaves(rough)} == {jnp.dtype("float32")}
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert 0.999 < cosine < 1 - 1e-7
    # The certificate sees what bfloat16 cannot resolve.
    assert 1e-4 < float(report.unsettled_max) < 0.2


offloaded = partial(fx.rematerialized, inputs="host")


@pytest.mark.parametrize(
    ("solver", "change"),
    [
        (fx.GaussNewton(2, 3), fx.rematerialized),
        (fx.ErrorDescent(), fx.rematerialized),
        (fx.Newton(1e-4), fx.rematerialized),
        (fx.GaussNewton(2, 3), offloaded),
    ],
)
def test_what_is_computed_again_is_the_same(solver, change):
    network = mlp()
    plain, again = (fx.infer(some_problem(n), solver) for n in (network, change(network)))
    for name in plain.activities:
        np.testing.assert_allclose(plain.activities[name], again.activities[name], atol=2e-6)
    rules = (fx.Backprop(), fx.Equilibrium(fx.GaussNewton(2, 3)))
    for rule in rules:
        gradients = [
            jax.tree.leaves(rule.gradient(some_problem(n), KEY)[0])
            for n in (network, change(network))
        ]
        assert len(gradients[0]) == len(gradients[1]) == 3
        for one, other in zip(*gradients, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def temporary_bytes(network, rule):
    problem = fx.Problem(network, np.zeros((8, 32), np.int32), np.zeros((8, 32), np.int32))
    arrays, rest = eqx.partition(problem, eqx.is_array)
    compiled = jax.jit(lambda a: rule.gradient(eqx.combine(a, rest), KEY)).lower(arrays).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_a_transformer_needs_less_memory_when_computed_again():
    network = fx.models.transformer(20, width=32, depth=3, context=32, heads=4, key=KEY)
    rule = fx.Backprop()
    whole = temporary_bytes(network, rule)
    assert temporary_bytes(fx.rematerialized(network), rule) < 0.6 * whole
    # A processor has no other memory to put it into.
    assert temporary_bytes(offloaded(network), rule) < 0.6 * whole


def test_inputs_go_to_the_host_and_come_back():
    """The transfers are in the program that is handed to the compiler."""

    def told(network):
        def gradient(weights):
            problem = some_problem(eqx.combine(weights, network))
            return fx.Backprop().gradient(problem, KEY)[0]

        return str(jax.make_jaxpr(gradient)(fx.weights(network)))

    there, back = "MemorySpace.Host", "MemorySpace.Device"
    ours = told(offloaded(mlp()))
    # As many come back as go, and one each of the first layer, of the stack and of the last one.
    assert ours.count(there) >= 3 and ours.count(back) == ours.count(there)
    assert there not in told(fx.rematerialized(mlp()))


def test_where_inputs_cannot_wait():
    with pytest.raises(ValueError, match=r"unknown inputs 'hots'.*'host'"):
        fx.rematerialized(mlp(), inputs="hots")


@pytest.mark.parametrize("change", [fx.mixed_precision, fx.rematerialized, offloaded])
def test_what_a_network_is_stays(change):
    for network in (mlp(), mlp(activation="relu"), mlp(activation="linear")):
        changed = change(network)
        assert changed.labels == network.labels
        assert changed.shapes == network.shapes
        assert changed.dtype == network.dtype == jnp.float32
        assert has_kinks(changed) == has_kinks(network)
        assert is_linear(changed) == is_linear(network)
    normalized = fx.models.resnet(10, width=0.0625, normalization="batch", key=KEY)
    changed = change(normalized)
    assert holds_statistics(changed)
    x = np.random.default_rng(0).normal(size=(4, *changed.input_shape))
    taken = changed.with_batch_statistics(jnp.asarray(x, jnp.float32))
    before, after = (
        [
            s
            for s in jax.tree.leaves(n, is_leaf=lambda p: isinstance(p, fx.Statistics))
            if isinstance(s, fx.Statistics)
        ]
        for n in (changed, taken)
    )
    assert len(before) == len(after) > 0
    assert all(np.abs(a.mean - b.mean).max() > 0 for a, b in zip(before, after, strict=True))


def test_learning_rate_scales_are_kept():
    network = mlp()
    for changed in (fx.mixed_precision(network), fx.rematerialized(network), offloaded(network)):
        for each in (network, changed):
            optimizer = fx.scale_learning_rates(optax.sgd(1.0))
            learned = fx.weights(each)
            ones = jax.tree.map(jnp.ones_like, learned)
            updates, _ = optimizer.update(ones, optimizer.init(learned), learned)
            found = [float(np.ravel(u)[0]) for u in jax.tree.leaves(updates)]
            expected = found if each is network else expected
        assert found == expected
        assert len(set(expected)) > 1


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.complex64])
def test_numbers_must_be_floating_point(dtype):
    with pytest.raises((TypeError, ValueError), match="dtype must be a"):
        fx.mixed_precision(mlp(), dtype)
