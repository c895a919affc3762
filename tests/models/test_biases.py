"""Biases in models, and lists of widths and activations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.graph.statistics import parameter_count
from fathomx.layers import Bias

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
IMAGE = {"image_shape": (16, 16, 3), "classes": 3}
MODELS = {
    # model, what it takes, numbers of units with a bias
    "vgg": (
        lambda **k: fx.models.vgg(11, width=1 / 64, image_shape=(32, 32, 3), classes=3, **k),
        [1, 2, 4, 4, 8, 8, 8, 8, 8, 8, 3],
    ),
    "resnet": (
        lambda **k: fx.models.resnet(10, width=1 / 64, **IMAGE, **k),
        [1, 1, 1, *[2] * 3, *[4] * 3, *[8] * 3, 3],
    ),
    "residual CNN": (lambda **k: fx.models.residual_cnn(2, width=4, **IMAGE, **k), [*[4] * 7, 3]),
    "transformer": (
        lambda **k: fx.models.transformer(7, 5, width=8, depth=2, heads=2, **k),
        [*[8] * 8, *[32] * 2, *[8] * 2, 7],
    ),
}


def biases(network):
    leaves = jax.tree.leaves(network, is_leaf=lambda part: isinstance(part, Bias))
    return [leaf for leaf in leaves if isinstance(leaf, Bias)]


@pytest.mark.parametrize("model", MODELS)
def test_biases_begin_at_zero_and_belong_to_every_map(model):
    build, units = MODELS[model]
    key = jax.random.key(0)
    plain, biased = build(key=key), build(bias=True, key=key)
    assert sum(bias.weight.size for bias in biases(biased)) == sum(units)
    count = parameter_count
    assert count(biased) - count(plain) == sum(units)
    x = jnp.ones((2, *plain.input_shape), plain.input_dtype)
    np.testing.assert_array_equal(fx.predict(plain, x), fx.predict(biased, x))
    shifted = eqx.tree_at(
        lambda n: [bias.weight for bias in biases(n)[-1:]], biased, [jnp.arange(float(units[-1]))]
    )
    moved = fx.predict(shifted, x) - fx.predict(plain, x)
    np.testing.assert_allclose(moved, np.broadcast_to(np.arange(units[-1]), moved.shape), atol=1e-5)


def test_a_convolution_adds_its_bias_to_every_pixel():
    build, _ = MODELS["residual CNN"]
    biased = build(bias=True, key=jax.random.key(0))
    offset = jnp.arange(4.0)
    moved = eqx.tree_at(lambda n: n.entry("stem").function.convolution.bias.weight, biased, offset)
    x = np.random.default_rng(1).normal(size=(2, 16, 16, 3)).astype(np.float32)
    stems = [network.unroll(None, x)["stem"] for network in (biased, moved)]
    np.testing.assert_allclose(
        stems[1] - stems[0], np.broadcast_to(offset, stems[0].shape), atol=1e-5
    )


def test_biases_and_lists():
    build = fx.models.mlp
    network = build(
        4, 2, width=[6, 5], activation=["tanh", "relu"], bias=True, key=jax.random.key(0)
    )
    assert network.labels == ("first", "hidden1", "output")
    assert network.shapes["hidden1"] == (5,)

    def layers(network):
        first, *dense = (network.entry(name).function for name in network.labels)
        return [first, *(function.linear for function in dense)]

    first, second, last = layers(network)
    moved = eqx.tree_at(
        lambda n: [layer.bias.weight for layer in layers(n)],
        network,
        [jnp.ones(6), 2 * jnp.ones(5), 3 * jnp.ones(2)],
    )
    z = X @ np.asarray(first.map.weight).T + 1
    z = np.tanh(z) @ np.asarray(second.map.weight).T + 2
    z = np.maximum(z, 0) @ np.asarray(last.map.weight).T + 3
    np.testing.assert_allclose(fx.predict(moved, X), z, rtol=1e-4)
    stacked = fx.models.residual_mlp(4, 2, width=6, depth=5, bias=True, key=jax.random.key(0))
    assert stacked.entry("hidden").block.branch.linear.bias.weight.shape == (3, 6)
    for options in ({"width": [6], "depth": 5}, {"width": [6, 6], "activation": ["tanh"]}):
        with pytest.raises(ValueError, match="hidden"):
            build(4, 2, key=jax.random.key(0), **options)
    with pytest.raises(ValueError, match="one width"):
        fx.models.residual_mlp(4, 2, width=[6, 6], key=jax.random.key(0))
