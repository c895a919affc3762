"""Bernoulli, Poisson and Laplace against hand values, distributions and dense solves."""

import itertools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import fathomx as fx
from fathomx.graph.smoothness import has_curvature, has_kinks

pytestmark = pytest.mark.usefixtures("float64")

infer = eqx.filter_jit(fx.infer)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


# Values.


def test_bernoulli_by_hand():
    # Probabilities 1/4 and 4/5 have the logits log(1/3) and log 4.
    logits = jnp.log(jnp.array([1 / 3, 4.0]))
    energy = fx.Bernoulli(2.0)
    unit = energy.unit(jnp.array([0.0, 1.0]), logits)
    np.testing.assert_allclose(unit, np.log(4 / 3) + np.log(5 / 4), rtol=1e-14)
    soft = energy.unit(jnp.array([0.5, 0.5]), logits)
    expected = (np.log(4 / 3) + np.log(4) + np.log(5) + np.log(5 / 4)) / 2
    np.testing.assert_allclose(soft, expected, rtol=1e-14)
    error = energy.error(jnp.array([0.0, 1.0]), logits)
    np.testing.assert_allclose(error, [-1 / 4, 1 / 5], rtol=1e-14)
    bent = energy.curvature(jnp.array([0.0, 1.0]), logits, jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(bent, [3 / 16, -2 * 4 / 25], rtol=1e-13)
    np.testing.assert_allclose(energy.expected(logits), [1 / 4, 4 / 5], rtol=1e-14)


def test_poisson_by_hand():
    log_rates, counts = jnp.log(jnp.array([2.0, 3.0, 5.0])), jnp.array([2.0, 0.0, 1.0])
    energy = fx.Poisson(2.0)
    # Nothing where the rate is the count, the rate for none, and 5 - 1 - log 5.
    np.testing.assert_allclose(
        energy.terms(counts, log_rates), [0, 3, 4 - np.log(5)], rtol=1e-14, atol=1e-15
    )
    np.testing.assert_allclose(energy.unit(counts, log_rates), 7 - np.log(5), rtol=1e-14)
    np.testing.assert_allclose(energy.error(counts, log_rates), [0, -3, -4], atol=1e-14)
    bent = energy.curvature(counts, log_rates, jnp.array([1.0, 1.0, -1.0]))
    np.testing.assert_allclose(bent, [2, 3, -5], rtol=1e-14)
    np.testing.assert_allclose(energy.expected(log_rates), [2, 3, 5], rtol=1e-14)


def test_laplace_by_hand():
    target, prediction = jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 2.0, 1.0])
    energy = fx.Laplace(2.0)
    assert float(energy.unit(target, prediction)) == 5
    np.testing.assert_array_equal(energy.error(target, prediction), [-1, 0, 1])
    # One over the absolute error; where there is none, over a hundredth of its mean, 5 / 3.
    bent = energy.curvature(target, prediction, jnp.array([3.0, 1.0, 1.0]))
    np.testing.assert_allclose(bent, [1, 60, 1 / 2], rtol=1e-14)
    assert np.isfinite(energy.curvature(target, target, target)).all()


def test_they_are_logarithms_of_their_distributions():
    values, counts = normal(0, 4), np.array([0.0, 1.0, 4.0, 7.0])
    known = (counts > 0).astype(float)
    rate, p = np.exp(values), 1 / (1 + np.exp(-values))
    expected = scipy.stats.poisson.logpmf(counts, counts) - scipy.stats.poisson.logpmf(counts, rate)
    np.testing.assert_allclose(fx.Poisson().terms(counts, values), expected, rtol=1e-12)
    expected = -scipy.stats.bernoulli.logpmf(known, p)
    np.testing.assert_allclose(fx.Bernoulli().terms(known, values), expected, rtol=1e-12)
    expected = -scipy.stats.laplace.logpdf(counts, values) - np.log(2)
    np.testing.assert_allclose(fx.Laplace().terms(counts, values), expected, rtol=1e-12)


@pytest.mark.parametrize("energy", [fx.Bernoulli(3.0), fx.Poisson(3.0), fx.Laplace(3.0)], ids=repr)
def test_error_and_curvature_against_finite_differences(energy):
    target, at, step = jnp.array([0.3, 0.7, 0.0]), normal(6, 3), 1e-5
    error = energy.error(target, jnp.asarray(at))
    for i, direction in enumerate(np.eye(3)):
        up, down = jnp.asarray(at + step * direction), jnp.asarray(at - step * direction)
        slope = (energy.unit(target, up) - energy.unit(target, down)) / (2 * step)
        np.testing.assert_allclose(error[i], -slope, rtol=1e-8, atol=1e-9)
        if not isinstance(energy, fx.Laplace):
            bent = energy.curvature(target, jnp.asarray(at), jnp.asarray(direction))
            falls = (energy.error(target, down) - energy.error(target, up)) / (2 * step)
            np.testing.assert_allclose(bent, falls, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_logits_stay_finite(dtype):
    logits, energy = jnp.array([1e4, -1e4, 20.0], dtype), fx.Bernoulli()
    target = jnp.array([1.0, 0.0, 1.0], dtype)
    np.testing.assert_allclose(energy.terms(target, logits), [0, 0, np.log1p(np.exp(-20))], 1e-5)
    np.testing.assert_array_equal(energy.terms(1 - target, logits)[:2], [1e4, 1e4])
    np.testing.assert_array_equal(energy.error(1 - target, logits)[:2], [-1, 1])
    assert np.isfinite(energy.curvature(target, logits, target)).all()


def test_the_parabola_touches_the_absolute_error_and_lies_above():
    target, at = (jnp.asarray(normal(seed, 5)) for seed in (1, 2))
    energy = fx.Laplace()
    for seed in range(20):
        there = at + normal(seed, 5) * 2
        change = there - at
        bent = energy.curvature(target, at, change)
        model = energy.unit(target, at) - energy.error(target, at) @ change + 0.5 * bent @ change
        assert float(model) >= float(energy.unit(target, there))


# Networks, against energies and dense solves written here.


class Map(eqx.Module):
    """`W f(z) + b`."""

    weight: jax.Array
    bias: jax.Array
    linear: bool = eqx.field(static=True)

    def __call__(self, z):
        return self.weight @ (z if self.linear else jnp.tanh(z)) + self.bias


SIZES = (3, 4, 4, 5)
HIDDEN = (2.0, 0.5)
LAMBDA = 0.2


def parts(linear):
    return [
        Map(jnp.asarray(normal(i, n, m) / np.sqrt(m)), jnp.asarray(normal(9 + i, n) / 3), linear)
        for i, (m, n) in enumerate(itertools.pairwise(SIZES))
    ]


def posed(energy, target, linear):
    first, second, out = parts(linear)
    network = fx.Network(
        [
            fx.Node("first", first, energy=fx.Gaussian(HIDDEN[0])),
            fx.Node("second", second, energy=fx.Gaussian(HIDDEN[1])),
            fx.Node("output", out, energy=energy),
        ],
        (3,),
    )
    return fx.Problem(network, normal(20, 4, 3), target, LAMBDA)


# What is said of an output, in plain numbers: target, energy, slope and bend in its prediction.
OUTPUTS = {
    "Bernoulli": (
        fx.Bernoulli(),
        np.random.default_rng(3).integers(2, size=(4, 5)).astype(float),
        lambda y, a: jnp.sum(jnp.log(1 + jnp.exp(a)) - y * a),
        lambda y, a: 1 / (1 + np.exp(-a)) - y,
        lambda y, a: np.exp(-a) / (1 + np.exp(-a)) ** 2,
    ),
    "Poisson": (
        fx.Poisson(),
        np.random.default_rng(4).poisson(3.0, size=(4, 5)).astype(float),
        lambda y, a: jnp.sum(jnp.exp(a) - y * a),
        lambda y, a: np.exp(a) - y,
        lambda y, a: np.exp(a),
    ),
}


def dense_minimum(unit, x, y, linear):
    """Activities of one example by Newton's method on the whole Hessian, from the start."""
    first, second, out = parts(linear)

    def total(z):
        a, b = z[:4], z[4:]
        return (
            HIDDEN[0] / 2 * jnp.sum((a - first(x)) ** 2)
            + HIDDEN[1] / 2 * jnp.sum((b - second(a)) ** 2)
            + LAMBDA * unit(y, out(b))
        )

    gradient, hessian = jax.jit(jax.grad(total)), jax.jit(jax.hessian(total))
    start = first(x)
    z = jnp.concatenate([start, second(start)])
    for _ in range(100):
        # Downhill, where the Hessian is not positive.
        values, vectors = np.linalg.eigh(hessian(z))
        step = vectors @ (vectors.T @ gradient(z) / np.abs(values))
        length = 1.0
        # Not by what rounding adds.
        while total(z - length * step) > total(z) + 1e-12 and length > 1e-6:
            length /= 2
        z = z - length * step
    assert np.abs(gradient(z)).max() < 1e-13
    assert np.linalg.eigvalsh(hessian(z)).min() > 0
    return np.asarray(z)


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "tanh"])
@pytest.mark.parametrize("name", list(OUTPUTS))
def test_newton_and_gauss_newton_find_the_dense_minimum(name, linear):
    energy, target, unit, _, _ = OUTPUTS[name]
    problem = posed(energy, target, linear)
    expected = np.stack(
        [
            dense_minimum(unit, jnp.asarray(x), jnp.asarray(y), linear)
            for x, y in zip(np.asarray(problem.input), target, strict=True)
        ]
    )
    # Gauss-Newton takes no step whose energy does not fall, and so ends near the square root of
    # rounding, and is slow far from linear networks: it is held to 1e-10 step by step, below.
    solvers = [(fx.Newton(tolerance=1e-13), 1e-10)]
    if linear:
        solvers.append((fx.GaussNewton(40, 9), 1e-7))
    for solver, within in solvers:
        relaxed = infer(problem, solver)
        found = np.concatenate([relaxed.activities[n] for n in ("first", "second")], axis=1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=within)
        assert not relaxed.kinks
        assert float(relaxed.unsettled.max()) < within


@pytest.mark.parametrize("name", list(OUTPUTS))
def test_a_step_of_gauss_newton_solves_its_dense_system(name):
    energy, target, _, slope, bend = OUTPUTS[name]
    problem = posed(energy, target, linear=True)
    # Once in the space of the output, 5 units, the system is solved.
    relaxed = infer(problem, fx.GaussNewton(iterations=1, cg_iterations=9))
    _, w2, w3 = (np.asarray(part.weight) for part in parts(True))
    jacobian = np.concatenate([w3 @ w2, w3], axis=1)
    precisions = np.diag(np.repeat(HIDDEN, 4))
    prediction = np.asarray(fx.predict(problem.network, problem.input))
    for i, (y, a) in enumerate(zip(target, prediction, strict=True)):
        bent = LAMBDA * np.diag(bend(y, a))
        force = -LAMBDA * jacobian.T @ slope(y, a)
        step = np.linalg.solve(precisions + jacobian.T @ bent @ jacobian, force)
        found = np.concatenate([relaxed.errors[n][i] for n in ("first", "second")])
        np.testing.assert_allclose(found, step, rtol=0, atol=1e-10)


def scalar(energy, targets, slopes):
    """One hidden unit `z`, whose prediction is 1, and outputs `slopes * z`."""
    hidden = Map(jnp.ones((1, 1)), jnp.zeros(1), True)
    out = Map(jnp.asarray(slopes)[:, None], jnp.zeros(len(slopes)), True)
    network = fx.Network([fx.Node("z", hidden), fx.Node("output", out, energy=energy)], (1,))
    return fx.Problem(network, np.ones((1, 1)), np.asarray(targets)[None], LAMBDA)


@pytest.mark.parametrize(
    ("solver", "tolerance"),
    [(fx.GaussNewton(60, 4), 1e-3), (fx.Newton(), 1e-3)],
    ids=["GaussNewton", "Newton"],
)
def test_laplace_at_a_kink_and_off_it(solver, tolerance):
    slopes = np.array([1.0, 2.0, -1.0])
    for targets in ([3.0, 2.4, 50.0], [2.0, -4.0, -30.0], [9.0, 9.0, -9.0]):
        problem = scalar(fx.Laplace(), targets, slopes)

        def total(z, targets=targets):
            return (z - 1) ** 2 / 2 + LAMBDA * np.abs(np.asarray(targets) - slopes * z).sum()

        # The minimum is a kink, or where the slope between two kinks vanishes.
        signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
        candidates = [*(np.asarray(targets) / slopes), *(1 + LAMBDA * signs @ slopes)]
        best = min(candidates, key=total)
        relaxed = infer(problem, solver)
        assert relaxed.kinks
        assert "kinks (ReLU, Laplace or alike)" in relaxed.describe()
        np.testing.assert_allclose(relaxed.energy.sum(), total(best), rtol=tolerance)


def test_curvature_and_kinks_are_read_off_the_program():
    class Own(fx.Energy):
        def unit(self, target, prediction):
            return jnp.sum(jnp.abs(target - prediction))

    y = np.ones((4, 5))
    for energy, kinks, curved in (
        (fx.Gaussian(), False, True),
        (fx.Categorical(), False, True),
        (fx.Bernoulli(), False, True),
        (fx.Poisson(), False, True),
        (fx.Laplace(), True, True),
        (Own(), True, False),
    ):
        problem = posed(energy, y / 5, linear=False)
        assert has_kinks(problem.network, problem.observed) == kinks
        assert not has_kinks(problem.network)
        assert has_curvature(problem.network, "output") == curved
    with pytest.warns(UserWarning, match="the energy Own of 'output' has no curvature, so that"):
        fx.infer(problem, fx.GaussNewton())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fx.infer(posed(fx.Laplace(), y, linear=False), fx.GaussNewton())


def test_masks_and_precisions_by_hand():
    target = np.array([[1.0, 0.0, 1.0, 0.0, 1.0]] * 4)
    seen = np.array([True, False, True, True, False])
    for energy, term in (
        (fx.Bernoulli(2.0), lambda y, a: np.log(1 + np.exp(a)) - y * a),
        (fx.Poisson(2.0), lambda y, a: np.exp(a) - y * a - y),
        (fx.Laplace(2.0), lambda y, a: np.abs(y - a)),
    ):
        whole = posed(energy, target, linear=False)
        clamps = {"input": whole.input, "output": fx.Clamp(target, mask=seen)}
        problem = fx.Problem(whole.network, clamps, output_precision=0.5)
        a = np.asarray(fx.predict(problem.network, problem.input))
        relaxed = infer(problem, fx.GaussNewton(iterations=0))
        expected = 0.5 * 2 * term(target, a)[:, seen].sum(axis=1).mean()
        np.testing.assert_allclose(relaxed.energy[-1], expected, rtol=1e-12)
        # What is not seen is what its prediction stands for.
        stands = {"Bernoulli": lambda a: 1 / (1 + np.exp(-a)), "Poisson": np.exp}
        stands = stands.get(type(energy).__name__, lambda a: a)(a)
        found = np.asarray(relaxed.activities["output"])
        np.testing.assert_allclose(found[:, ~seen], stands[:, ~seen], rtol=1e-12)


# Targets that do not fit.


@pytest.mark.parametrize(
    ("energy", "target", "said"),
    [
        (fx.Bernoulli(), [-1.0, 2.0, 0, 0, 0], "from 0 to 1, but holds values from -1 to 2; give"),
        (fx.Bernoulli(), [np.nan, 1.0, 0, 0, 0], "holds 4 values that are NaN"),
        (fx.Bernoulli(), [1.0], r"the target has shape \(4, 1\), but node 'output' predicts"),
        (fx.Poisson(), [-2.0, 1.0, 0, 0, 0], "must be counts of at least 0, but holds -2; correct"),
        (fx.Poisson(), [np.inf, 1.0, 0, 0, 0], "holds 4 values that are NaN or infinite"),
        (fx.Poisson(), 3, r"shape \(4,\), but node 'output' predicts \(4, 5\); give one target of"),
        (fx.Laplace(), 3, r"shape \(4,\), but node 'output' predicts \(4, 5\); give one target of"),
    ],
)
def test_targets_that_do_not_fit(energy, target, said):
    with pytest.raises(ValueError, match=said):
        posed(energy, np.array([target] * 4), linear=True)


def test_what_is_seen_of_a_target_must_fit():
    network, x = posed(fx.Bernoulli(), np.ones((4, 5)), True).network, np.ones((4, 3))
    target, seen = np.array([[0, 1, 0, 1, 7.0]] * 4), np.arange(5) < 4
    fx.Problem(network, {"input": x, "output": fx.Clamp(target, seen)})
    with pytest.raises(ValueError, match="from 0 to 1, but holds values from 1 to 7"):
        fx.Problem(network, {"input": x, "output": fx.Clamp(target, ~seen | (np.arange(5) == 1))})
    # Of distributions, only those that are seen.
    network = posed(fx.Categorical(), np.ones((4, 5)) / 5, True).network
    soft, rows = np.ones((4, 5)) / 5, np.array([[True], [True], [False], [True]])
    soft[2] = 9
    fx.Problem(network, {"input": x, "output": fx.Clamp(soft, np.broadcast_to(rows, (4, 5)))})
    with pytest.raises(ValueError, match="must be probabilities over the last axis"):
        fx.Problem(network, {"input": x, "output": fx.Clamp(soft, np.broadcast_to(~rows, (4, 5)))})
