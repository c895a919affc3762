"""Samples of the activities, against the exact moments of linear networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx

RATE, CHAINS = 0.1, 8000


class Matrix(eqx.Module):
    weight: jax.Array

    def __call__(self, z):
        return self.weight @ z


def decoder(latents=6, size=8, precision=1.5):
    weight = 0.6 * jax.random.normal(jax.random.key(0), (size, latents))
    node = fx.Node("output", Matrix(weight), energy=fx.Gaussian(precision))
    return fx.Network([fx.Root("latent", (latents,)), node]), np.asarray(weight)


def chains(network, x, count=CHAINS):
    return fx.Problem(network, {"output": jnp.broadcast_to(x, (count, x.shape[-1]))})


def off(found, wanted):
    """The largest distance of an entry of a sample's covariance, in standard errors.

    Of 21 different entries, that of a correct sample is below 3 in 94 and below 4 in 99.9 of 100
    cases.
    """
    variances = np.diag(wanted)
    error = np.sqrt((wanted**2 + np.outer(variances, variances)) / CHAINS)
    return np.abs((np.cov(np.asarray(found).T) - wanted) / error).max()


def test_the_chain_has_the_exact_mean_and_covariance(float64):
    """Independent chains, each started anew: their last samples are independent, too."""
    network, weight = decoder()
    H, x = np.eye(6) + 1.5 * weight.T @ weight, np.ones(8)
    mean = np.linalg.solve(H, 1.5 * weight.T @ x)
    for temperature in (1.0, 0.3):
        solver = fx.Langevin(RATE, 200, temperature=temperature)
        found = fx.infer(chains(network, x), solver, key=jax.random.key(3)).activities["latent"]
        covariance = temperature * np.linalg.inv(H - RATE * H @ H / 2)
        assert off(found, covariance) < 3
        standard = np.sqrt(np.diag(covariance) / CHAINS)
        assert np.abs((np.asarray(found).mean(axis=0) - mean) / standard).max() < 3


def test_preconditioned_chains_have_the_same_posterior(float64):
    """With `M = H^-1` every direction mixes alike: the covariance is `H^-1 / (1 - rate / 2)`."""
    network, weight = decoder()
    H = np.eye(6) + 1.5 * weight.T @ weight
    matrix = np.linalg.inv(H)
    solver = fx.Langevin(RATE, 120, preconditioner={"latent": (matrix + matrix.T) / 2})
    found = fx.infer(chains(network, np.ones(8)), solver, key=jax.random.key(4))
    assert off(found.activities["latent"], matrix / (1 - RATE / 2)) < 4
    # A diagonal one: the fixed point `P = A P A^T + 2 rate M` of the chain, `A = I - rate M H`.
    diagonal = np.linspace(0.2, 1.0, 6)
    A = np.eye(6) - RATE * diagonal[:, None] * H
    covariance = np.zeros((6, 6))
    for _ in range(4000):
        covariance = A @ covariance @ A.T + 2 * RATE * np.diag(diagonal)
    solver = fx.Langevin(RATE, 400, preconditioner={"latent": diagonal})
    found = fx.infer(chains(network, np.ones(8)), solver, key=jax.random.key(5))
    assert off(found.activities["latent"], covariance) < 4


def test_nothing_clamped_samples_the_model(float64):
    network, weight = decoder()
    problem = fx.Problem(network, {}, batch=CHAINS)
    found = fx.infer(problem, fx.Langevin(0.05, 300), key=jax.random.key(6)).activities["output"]
    # Each error is a chain of its own, of the Hessian 1 and 1.5.
    prior, noise = (1 / (h - 0.05 * h**2 / 2) for h in (1.0, 1.5))
    assert off(found, prior * weight @ weight.T + noise * np.eye(8)) < 4


def test_without_temperature_it_is_error_descent():
    network = fx.models.mlp(4, 3, width=5, depth=4, key=jax.random.key(0))
    x, y = jax.random.normal(jax.random.key(1), (2, 4)), jnp.eye(3)[:2]
    problem = fx.Problem(network, x, y)
    cold = fx.infer(problem, fx.Langevin(0.2, 7, temperature=0.0))
    still = fx.infer(problem, fx.ErrorDescent(0.2, 7))
    for name, found in cold.activities.items():
        np.testing.assert_allclose(found, still.activities[name], rtol=1e-6, atol=1e-7)
    assert (cold.steps == 7).all()


def test_chains_are_alike_at_any_batch_size_and_keep_what_is_clamped():
    network = fx.models.decoder(3, 6, width=4, depth=4, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (5, 6))
    mask = jnp.arange(6) < 3
    solver, key = fx.Langevin(0.05, 20), jax.random.key(2)
    every = fx.infer(fx.Problem(network, {"output": fx.Clamp(x, mask)}), solver, key=key)
    few = fx.infer(fx.Problem(network, {"output": fx.Clamp(x[:2], mask)}), solver, key=key)
    found = every.activities["output"]
    np.testing.assert_allclose(found[:2], few.activities["output"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[:, :3], x[:, :3])
    # What is not seen is drawn, and not only predicted.
    assert np.abs(found - network.predictions(every.activities)["output"])[:, 3:].min() > 1e-3


def test_averages_are_means_over_the_samples_after_the_burn_in():
    network, _ = decoder()
    problem = chains(network, np.ones(8), 3)
    solver, key = fx.Langevin(RATE, 12, burn_in=4), jax.random.key(7)

    def observe(problem, here):
        return here.activities["latent"]

    relaxed, every = fx.trace(problem, solver, observe, key=key)
    again, mean = fx.average(problem, solver, observe, key=key)
    np.testing.assert_allclose(mean, every[5:].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(again.activities["latent"], every[-1], rtol=1e-5)
    # Of other solvers the last state is all there is.
    relaxed, point = fx.average(problem, fx.GaussNewton(2, 8), observe)
    np.testing.assert_array_equal(point, relaxed.activities["latent"])


def test_weights_learn_from_the_mean_over_the_posterior(float64):
    """`E[-dF/dW] = pi (x m^T - W (C + m m^T))`, from many short chains at their distribution."""
    network, weight = decoder()
    H, x = np.eye(6) + 1.5 * weight.T @ weight, np.linspace(-1, 1, 8)
    mean = np.linalg.solve(H, 1.5 * weight.T @ x)
    second = np.linalg.inv(H - RATE * H @ H / 2) + np.outer(mean, mean)
    expected = -1.5 * (np.outer(x, mean) - weight @ second)
    rule = fx.Equilibrium(fx.Langevin(RATE, 260, burn_in=60), output_precision=1.0)
    found, report = rule.gradient(chains(network, x, 2000), jax.random.key(8))
    np.testing.assert_allclose(found.entries[1].function.weight, expected, atol=0.02)
    assert np.abs(expected).max() > 0.5 and np.isfinite(report.energy).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"burn_in": 5}, "burn_in is 5, but the chain has 5 steps"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"preconditioner": {"latent": 0.0}}, "preconditioner of 'latent' must be positive"),
        ({"preconditioner": {"latent": -np.eye(6)}}, "preconditioner of 'latent' must be positive"),
    ],
)
def test_what_langevin_refuses(given, said):
    with pytest.raises(ValueError, match=said):
        fx.Langevin(0.1, 5, **given)


def test_what_langevin_refuses_of_a_problem():
    network, _ = decoder()
    problem = chains(network, np.ones(8), 2)
    with pytest.raises(ValueError, match="Langevin draws random numbers; give a key"):
        fx.infer(problem, fx.Langevin(0.1, 5))
    for name, value, said in (
        ("output", 1.0, "names 'output', which is not free"),
        ("latent", np.ones(4), r"has the shape \(4,\), which does not fit"),
    ):
        solver = fx.Langevin(0.1, 5, preconditioner={name: value})
        with pytest.raises(ValueError, match=said):
            fx.infer(problem, solver, key=jax.random.key(0))
