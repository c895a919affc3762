"""Inference over time, against the closed form of the linear state-space model."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx

FRAMES, BATCH = 50, 3


class Sum(eqx.Module):
    weights: list[jax.Array]

    def __call__(self, *parents):
        return sum(w @ z for w, z in zip(self.weights, parents, strict=True))


def matrices(seed=0):
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(2, 2)) / 2, rng.normal(size=(2, 1)), rng.normal(size=(3, 2))
    return (a, b, c), rng.normal(size=(FRAMES, BATCH, 3)), rng.normal(size=(FRAMES, BATCH, 1))


def model(a, b, c, state=1.5, image=0.7):
    return fx.Network(
        [
            fx.Root("before", (2,)),
            fx.Root("control", (1,), energy=None),
            fx.Node(
                "state",
                Sum([jnp.asarray(a), jnp.asarray(b)]),
                ("before", "control"),
                fx.Gaussian(state),
            ),
            fx.Node("image", Sum([jnp.asarray(c)]), energy=fx.Gaussian(image)),
        ]
    )


def test_following_is_the_filter_of_fixed_covariance(float64):
    """`z = zhat + K (x - C zhat)` with `K = (pi I + lambda C^T C)^-1 lambda C^T`."""
    (a, b, c), images, controls = matrices()
    network = model(a, b, c)
    start = np.random.default_rng(1).normal(size=(BATCH, 2))
    gain = np.linalg.solve(1.5 * np.eye(2) + 0.7 * c.T @ c, 0.7 * c.T)
    z, expected = start, []
    for x, u in zip(images, controls, strict=True):
        ahead = z @ a.T + u @ b.T
        z = ahead + (x - ahead @ c.T) @ gain.T
        expected.append(z)
    clamps = {"image": images, "control": controls}
    for solver in (fx.Exact(), fx.GaussNewton(1, 8), fx.Newton(1e-12)):
        found = fx.follow(network, clamps, {"before": "state"}, solver, initial={"before": start})
        np.testing.assert_allclose(found.activities["state"], expected, rtol=0, atol=1e-10)
    # From the prior mean unless told, and missing frames are predicted.
    missing = np.full_like(images, np.nan)
    missing[0] = images[0]
    found = fx.follow(
        network,
        {"image": fx.Clamp.observed(missing), "control": controls},
        {"before": "state"},
        fx.Exact(),
    )
    z = np.zeros((BATCH, 2))
    z = controls[0] @ b.T
    z = z + (images[0] - z @ c.T) @ gain.T
    for frame in range(1, 5):
        z = z @ a.T + controls[frame] @ b.T
        np.testing.assert_allclose(found.activities["state"][frame], z, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found.activities["image"][frame], z @ c.T, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("clamps", "carry", "words"),
    [
        ({"image": np.ones((4, 2, 3))}, {"befor": "state"}, "'befor'"),
        (
            {"image": np.ones((4, 2, 3)), "before": np.ones((4, 2, 2))},
            {"before": "state"},
            "by hand",
        ),
        (
            {"image": np.ones((4, 2, 3)), "control": np.ones((5, 2, 1))},
            {"before": "state"},
            "frames",
        ),
    ],
)
def test_mistakes_are_said(clamps, carry, words):
    (a, b, c), _, _ = matrices()
    with pytest.raises(ValueError, match=words) as caught:
        fx.follow(model(a, b, c), clamps, carry, fx.GaussNewton())
    assert "\n" not in str(caught.value)
