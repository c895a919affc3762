"""Samples from parents to children, against the moments of a linear Gaussian network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx


def linear(seed, inputs, outputs):
    return eqx.nn.Linear(inputs, outputs, use_bias=False, key=jax.random.key(seed))


def test_moments_are_those_of_the_model(float64):
    w, v = linear(0, 2, 3), linear(1, 3, 2)
    network = fx.Network(
        [
            fx.Root("z", (2,), mean=np.array([1.0, -2.0]), energy=fx.Gaussian(4.0)),
            fx.Node("h", w, energy=fx.Gaussian(2.0)),
            fx.Node("x", v, energy=fx.Gaussian(np.array([0.5, 8.0]))),
        ]
    )
    count = 40_000
    x = np.asarray(fx.sample(network, jax.random.key(2), batch=count)["x"])
    w, v = np.asarray(w.weight), np.asarray(v.weight)
    covariance = v @ (w @ w.T / 4 + np.eye(3) / 2) @ v.T + np.diag([2, 0.125])
    error = np.sqrt(np.diag(covariance) / count)
    assert (np.abs(x.mean(0) - v @ w @ [1, -2]) < 4 * error).all()
    spread = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / count)
    assert (np.abs(np.cov(x.T) - covariance) < 4 * spread).all()


@pytest.mark.parametrize(
    ("energy", "mean", "variance"),
    [
        (fx.Bernoulli(), lambda a: 1 / (1 + np.exp(-a)), lambda a: 1 / (2 + 2 * np.cosh(a))),
        (fx.Poisson(), np.exp, np.exp),
        # Of scale 1 / precision, with twice its square as variance.
        (fx.Laplace(2.0), lambda a: a, lambda a: np.full_like(a, 0.5)),
    ],
    ids=["Bernoulli", "Poisson", "Laplace"],
)
def test_samples_of_other_energies_have_their_mean_and_variance(energy, mean, variance):
    a, count = np.array([-1.0, 0.3, 1.5]), 20_000
    network = fx.Network(
        [
            fx.Root("u", (3,)),
            fx.Node("h", linear(3, 3, 3)),
            fx.Node("x", lambda z: z, energy=energy),
        ]
    )
    x = np.asarray(fx.sample(network, jax.random.key(0), {"h": np.tile(a, (count, 1))})["x"])
    error = np.sqrt(variance(a) / count)
    assert (np.abs(x.mean(0) - mean(a)) < 4 * error).all()
    np.testing.assert_allclose(x.var(0), variance(a), rtol=0.08)
    drawn = energy.draw(jax.random.key(1), jnp.asarray(a))
    assert drawn.shape == (3,)


def test_what_cannot_be_drawn_is_said():
    class Own(fx.Energy):
        def unit(self, target, prediction):
            return jnp.sum((target - prediction) ** 4)

    network = fx.Network(
        [
            fx.Root("u", (3,)),
            fx.Node("h", linear(3, 3, 3)),
            fx.Node("x", lambda z: z, energy=Own()),
        ]
    )
    with pytest.raises(ValueError, match="'x' has the energy Own, of which it is not known how"):
        fx.sample(network, jax.random.key(0))


def test_clamps_are_interventions_and_classes_are_drawn():
    network = fx.Network(
        [
            fx.Root("u", (2,), energy=None),
            fx.Node("h", linear(3, 2, 4)),
            fx.Node("label", linear(4, 4, 3), energy=fx.Categorical()),
        ]
    )
    u, h = np.ones((6, 2)), np.full((6, 4), 9.0)
    drawn = fx.sample(network, jax.random.key(0), {"u": u, "h": h})
    np.testing.assert_array_equal(drawn["h"], h)
    np.testing.assert_array_equal(drawn["label"].sum(1), 1)
    assert set(np.unique(drawn["label"])) <= {0, 1}
    again = fx.sample(network, jax.random.key(0), {"u": u, "h": h})
    assert eqx.tree_equal(drawn, again)
    # In order: a child sees the class that was drawn; half of a clamp is drawn.
    copied = fx.Network(
        [
            fx.Root("u", (4,), energy=None),
            fx.Node("label", linear(4, 4, 3), energy=fx.Categorical()),
            fx.Node("copy", lambda z: z, energy=fx.Gaussian(1e8)),
        ]
    )
    seen = fx.sample(copied, jax.random.key(1), {"u": h})
    np.testing.assert_allclose(seen["copy"], seen["label"], atol=1e-2)
    half = fx.Clamp(np.eye(3)[[0] * 6], np.arange(6)[:, None] < 3)
    seen = np.asarray(fx.sample(copied, jax.random.key(1), {"u": h, "label": half})["label"])
    np.testing.assert_array_equal(seen[:3], np.eye(3)[[0] * 3])
    np.testing.assert_array_equal(np.sort(seen, axis=1), np.sort(np.eye(3)[[0] * 6], axis=1))
    with pytest.raises(ValueError, match="'u' has no prior"):
        fx.sample(network, jax.random.key(0))
    looped = fx.Network(
        [fx.Root("z", (2,)), fx.Node("x", linear(5, 2, 2))],
        feedbacks=[fx.Feedback("f", "z", linear(6, 2, 2), ("x",))],
    )
    with pytest.raises(ValueError, match="'f' is a feedback"):
        fx.sample(looped, jax.random.key(0))
