"""Target alignment, against finite differences and a case worked by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx


def stepped(network, gradient, size):
    learned, rest = fx.split(network)
    moved = jax.tree.map(lambda w, g: w - size * g, learned, fx.weights(gradient))
    return eqx.combine(moved, rest)


@pytest.mark.parametrize("output", [fx.Gaussian(0.5), fx.Categorical()])
def test_it_is_what_a_small_step_does(float64, output):
    network = fx.models.mlp(5, 3, width=4, depth=4, key=jax.random.key(0), output=output)
    x = jax.random.normal(jax.random.key(1), (6, 5))
    y = jnp.array([0, 1, 2, 0, 1, 2])
    target = y if isinstance(output, fx.Categorical) else jax.nn.one_hot(y, 3)
    problem = fx.Problem(network, x, target)
    gradient, _ = fx.Equilibrium(fx.GaussNewton(3, 6), 2.0).gradient(problem, jax.random.key(2))
    found = fx.target_alignment(problem, gradient)
    size = 1e-5
    there, back = (stepped(network, gradient, s) for s in (size, -size))
    moved = (fx.predict(there, x) - fx.predict(back, x)) / (2 * size)
    mu = fx.predict(network, x)
    error = jax.nn.one_hot(y, 3) - (jax.nn.softmax(mu) if target.ndim == 1 else mu)
    lengths = jnp.linalg.norm(moved, axis=1) * jnp.linalg.norm(error, axis=1)
    np.testing.assert_allclose(found.cosine, (moved * error).sum(1) / lengths, atol=1e-8)

    def loss(mu):
        if target.ndim == 1:
            return -(jax.nn.one_hot(y, 3) * jax.nn.log_softmax(mu)).sum(1).mean()
        return 0.5 * ((jax.nn.one_hot(y, 3) - mu) ** 2).sum(1).mean()

    fall = (loss(fx.predict(back, x)) - loss(fx.predict(there, x))) / (2 * size)
    length = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(fx.weights(gradient))))
    np.testing.assert_allclose(found.decrease, fall / length, rtol=1e-7)
    # No update of this length lowers the loss faster than backprop's.
    told, _ = fx.Backprop().gradient(problem, jax.random.key(2))
    assert fx.target_alignment(problem, told).decrease >= found.decrease


def test_the_readout_alone_goes_straight_to_the_target(float64):
    network = fx.models.mlp(3, 2, width=4, depth=2, key=jax.random.key(0))
    network = fx.freeze(network, [network.entries[1].name])
    problem = fx.Problem(network, jnp.ones((1, 3)), jnp.array([[3.0, -2.0]]))
    gradient, _ = fx.Backprop().gradient(problem, jax.random.key(0))
    np.testing.assert_allclose(fx.target_alignment(problem, gradient).cosine, 1, atol=1e-12)


def test_what_it_refuses():
    network = fx.models.mlp(5, 3, width=4, depth=2, key=jax.random.key(0))
    other = fx.models.mlp(5, 3, width=6, depth=2, key=jax.random.key(0))
    x, y = jnp.ones((2, 5)), jnp.ones((2, 3))
    with pytest.raises(ValueError, match="not alike"):
        fx.target_alignment(fx.Problem(network, x, y), other)
