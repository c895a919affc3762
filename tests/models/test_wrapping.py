"""Networks from layers that exist already."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def linear(seed, inputs, outputs):
    return eqx.nn.Linear(inputs, outputs, key=jax.random.key(seed))


def test_a_multilayer_perceptron_predicts_what_it_did_and_becomes_a_stack():
    model = eqx.nn.MLP(4, 3, width_size=8, depth=6, activation=jnp.tanh, key=jax.random.key(0))
    network = fx.wrap(model, (4,), output=fx.Categorical())
    np.testing.assert_allclose(fx.predict(network, X), jax.vmap(model)(X), rtol=1e-5, atol=1e-6)
    assert network.depth == 7 and len(network.entries) == 4
    assert network.labels[1] == "layer2to6[0]"
    weight = network.entry("layer2to6").block.layers[1].weight
    np.testing.assert_array_equal(weight[2], model.layers[3].weight)
    assert isinstance(network.output.energy, fx.Categorical)


def test_layers_without_weights_belong_to_the_next_one():
    layers = [
        jnp.ravel,
        linear(0, 4, 6),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.LayerNorm(6),
        linear(1, 6, 2),
        jax.nn.softplus,
    ]
    network = fx.wrap(layers, (2, 2), names=["first", "norm", "last"])
    assert network.labels == ("first", "norm", "last")
    x = X.reshape(5, 2, 2)
    expected = jax.vmap(eqx.nn.Sequential([eqx.nn.Lambda(jnp.ravel), *layers[1:5]]))(x)
    np.testing.assert_allclose(fx.predict(network, x), jax.nn.softplus(expected), rtol=1e-5)
    nested = eqx.nn.Sequential([eqx.nn.Sequential([linear(2, 4, 3)]), linear(3, 3, 2)])
    assert fx.wrap(nested, (4,)).labels == ("layer1", "output")


def test_alike_layers_that_change_the_shape_stay_nodes():
    def conv(seed, i, o):
        return eqx.nn.Conv2d(i, o, 3, use_bias=False, key=jax.random.key(seed))

    layers = [conv(0, 1, 4), conv(1, 4, 4), conv(2, 4, 4), jnp.ravel, linear(3, 16, 2)]
    assert fx.wrap(layers, (1, 8, 8)).labels == ("layer1", "layer2", "layer3", "output")
    shared = linear(0, 4, 4)
    with pytest.raises(ValueError, match="the same array"):
        fx.wrap([shared, shared, linear(1, 4, 2)], (4,))


@pytest.mark.parametrize(
    ("layers", "options", "error", "words"),
    [
        (linear(0, 4, 2), {}, TypeError, "fx.wrap takes a list"),
        ([linear(0, 4, 2)], {}, ValueError, "at least two layers"),
        ([linear(0, 4, 3), linear(1, 3, 2)], {"names": ["a"]}, ValueError, "1 names, but 2"),
        ([linear(0, 4, 3), 3.0, linear(1, 3, 2)], {}, TypeError, "float is not"),
        ([linear(0, 4, 3), linear(1, 4, 2)], {}, ValueError, "output"),
    ],
)
def test_mistakes_are_said(layers, options, error, words):
    with pytest.raises(error, match=words):
        fx.wrap(layers, (4,), **options)


def test_frozen_parts_are_no_weights_and_keep_their_statistics():
    network = fx.models.vgg(5, width=1 / 16, normalization="batch", key=jax.random.key(0))
    names = [entry.name for entry in network.entries if entry.depth]
    frozen = fx.freeze(network, names[:2])
    assert len(jax.tree.leaves(fx.weights(frozen))) < len(jax.tree.leaves(fx.weights(network)))
    images = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    taken = frozen.with_batch_statistics(images)
    kept, moved = (taken.entry(name).function.normalization.statistics for name in names[1:3])
    np.testing.assert_array_equal(kept.variance, 1)
    assert np.abs(np.asarray(moved.variance) - 1).max() > 0.01
    whole = fx.freeze(network)
    assert not jax.tree.leaves(fx.weights(whole)) and whole.dtype == jnp.float32
    with pytest.raises(ValueError, match="Did you mean"):
        fx.freeze(network, ["outpu"])


def test_dropout_needs_a_node_of_its_own():
    layers = [linear(0, 4, 4), eqx.nn.Dropout(0.5), linear(1, 4, 2)]
    with pytest.raises(TypeError, match="Dropout needs a key"):
        fx.wrap(layers, (4,))
    network = fx.wrap(eqx.nn.inference_mode(layers), (4,))
    expected = jax.vmap(lambda x: layers[2](layers[0](x)))(X)
    np.testing.assert_allclose(fx.predict(network, X), expected, rtol=1e-5)
