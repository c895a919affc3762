"""The Hessian in activities and errors, against matrices derived by hand and real descents.

In a linear chain with hidden precisions `pi_l` and `pi_L = lambda`

    H_l,l = pi_l I + pi_{l+1} W_{l+1}^T W_{l+1},    H_{l+1},l = -pi_{l+1} W_{l+1}     (activities)
    H = Pi + lambda J^T J,    J = [W_L ... W_2, ..., W_L]                             (errors)
"""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.theory.activity_hessian import ErrorHessian, Extremes, StateHessian

pytestmark = pytest.mark.usefixtures("float64")

SOLVERS = {StateHessian: fx.StateDescent, ErrorHessian: fx.ErrorDescent}
BOTH = pytest.mark.parametrize("kind", [StateHessian, ErrorHessian])

SIZES = (3, 4, 3, 3, 3, 2)
PRECISIONS = (2.0, 0.5, 3.0, 3.0)
OUTPUT_PRECISION = 0.7
LABELS = ("first", "second", "hidden[0]", "hidden[1]")


class Map(eqx.Module):
    """A dense layer: the weights times a function of the activity."""

    weight: jax.Array
    nonlinearity: object = eqx.field(static=True, default=None)

    def __call__(self, activity):
        return self.weight @ (self.nonlinearity(activity) if self.nonlinearity else activity)


def chain_weights():
    pairs = zip(SIZES[1:], SIZES[:-1], strict=True)
    return [0.7 * numbers(20 + i, rows, columns) for i, (rows, columns) in enumerate(pairs)]


def chain(nonlinearity=None, energy=None):
    """Two nodes, a stack of two and the output, each with a precision of its own."""
    w = chain_weights()
    first, second, hidden, _ = map(fx.Gaussian, PRECISIONS)
    nodes = [
        fx.Node("first", Map(w[0]), energy=first),
        fx.Node("second", Map(w[1], nonlinearity), energy=second),
        fx.Stack("hidden", Map(jnp.stack(w[2:4]), nonlinearity), energy=hidden),
        fx.Node("output", Map(w[4], nonlinearity), energy=energy),
    ]
    network = fx.Network(nodes, SIZES[:1])
    return fx.Problem(network, numbers(1, 1, SIZES[0]), jnp.asarray([[0.3, 0.7]]), OUTPUT_PRECISION)


def numbers(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def residual(depth, width=8):
    network = fx.models.residual_mlp(
        6,
        4,
        width=width,
        depth=depth,
        activation="linear",
        parameterization=fx.MuPC(),
        key=jax.random.key(1),
    )
    return fx.Problem(network, numbers(2, 1, 6), numbers(3, 1, 4))


def convolutional(name):
    """Networks of so few channels that their layers have few shapes, which compile once."""
    options = {"image_shape": (16, 16, 1), "activation": "linear", "key": jax.random.key(4)}
    if name == "vgg":
        network = fx.models.vgg(5, width=0.005, pool="average", **options)
    else:
        network = fx.models.resnet(
            10, width=0.001, auxiliary=name == "auxiliary", activity_rate=0.25, **options
        )
    return fx.Problem(network, numbers(5, 1, 16, 16, 1), jnp.asarray([2]), 1.5)


def drawn(problem, seed=6):
    """Random hidden entries."""
    like = problem.network.zeros(1)
    return {name: numbers(seed + i, *like[name].shape) for i, name in enumerate(like)}


def flat(problem, entries):
    return jnp.concatenate([entries[name].ravel() for name in problem.network.hidden])


@eqx.filter_jit
def congruent(problem, activities, direction):
    """`(dz/de)^T H_z (dz/de) v` at these activities, by differentiating the unrolled network."""

    def unrolled(errors):
        return problem.select(problem.network.unroll(errors, problem.input))

    errors = problem.errors_of(activities)
    tangent = jax.jvp(unrolled, (errors,), (direction,))[1]
    bent = StateHessian(problem, at=activities).product(tangent)
    return flat(problem, jax.vjp(unrolled, errors)[1](bent)[0])


def test_state_hessian_of_a_linear_chain():
    w, pi = chain_weights(), (*PRECISIONS, OUTPUT_PRECISION)
    begins = np.cumsum((0, *SIZES[1:-1]))
    expected = np.zeros((begins[-1], begins[-1]))
    for i, size in enumerate(SIZES[1:-1]):
        own = slice(begins[i], begins[i + 1])
        expected[own, own] = pi[i] * np.eye(size) + pi[i + 1] * w[i + 1].T @ w[i + 1]
        if i + 1 < len(PRECISIONS):
            above = slice(begins[i + 1], begins[i + 2])
            expected[above, own] = -pi[i + 1] * w[i + 1]
            expected[own, above] = -pi[i + 1] * w[i + 1].T
    hessian = StateHessian(chain())
    assert hessian.labels == LABELS
    assert hessian.size == len(expected)
    np.testing.assert_allclose(hessian.dense(), expected, atol=1e-12)
    np.testing.assert_allclose(hessian.block("hidden[0]", "second"), -pi[2] * w[2], atol=1e-12)
    np.testing.assert_allclose(hessian.block("first", "second"), -pi[1] * w[1].T, atol=1e-12)
    np.testing.assert_array_equal(hessian.block("hidden[1]", "first"), np.zeros((3, 4)))


def test_error_hessian_of_a_linear_chain():
    w = chain_weights()
    maps = [w[4] @ w[3] @ w[2] @ w[1], w[4] @ w[3] @ w[2], w[4] @ w[3], w[4]]
    jacobian = np.concatenate(maps, axis=1)
    precisions = np.repeat(PRECISIONS, SIZES[1:-1])
    expected = np.diag(precisions) + OUTPUT_PRECISION * jacobian.T @ jacobian
    hessian = ErrorHessian(chain())
    np.testing.assert_allclose(hessian.dense(), expected, rtol=1e-12, atol=1e-12)
    between = OUTPUT_PRECISION * maps[3].T @ maps[0]
    np.testing.assert_allclose(hessian.block("hidden[1]", "first"), between, atol=1e-12)


@BOTH
@pytest.mark.parametrize("output", [fx.Gaussian(), fx.Categorical()])
@pytest.mark.parametrize("feedforward", [True, False])
def test_hessian_of_a_nonlinear_network_is_that_of_a_plain_energy(kind, output, feedforward):
    problem = chain(jnp.tanh, output)
    w, x, y = chain_weights(), problem.input[0], problem.target[0]
    cuts = np.cumsum(SIZES[1:-2])

    def energy(vector):
        total, before = 0.0, x
        for i, part in enumerate(jnp.split(vector, cuts)):
            predicted = w[i] @ (jnp.tanh(before) if i else before)
            error = part - predicted if kind is StateHessian else part
            before = predicted + error
            total += PRECISIONS[i] / 2 * jnp.sum(error**2)
        last = w[4] @ jnp.tanh(before)
        if isinstance(output, fx.Gaussian):
            return total + OUTPUT_PRECISION / 2 * jnp.sum((y - last) ** 2)
        return total - OUTPUT_PRECISION * jnp.sum(y * (last - jax.nn.logsumexp(last)))

    zeros = problem.network.zeros(1)
    errors = zeros if feedforward else drawn(problem)
    activities = problem.network.unroll(errors, problem.input)
    point = flat(problem, activities if kind is StateHessian else errors)
    hessian = kind(problem) if feedforward else kind(problem, at=activities)
    expected = jax.jit(jax.hessian(energy))(point)
    np.testing.assert_allclose(hessian.dense(), expected, rtol=1e-10, atol=1e-10)
    direction = drawn(problem, seed=40)
    product = flat(problem, hessian.product(direction))
    np.testing.assert_allclose(product, expected @ flat(problem, direction), atol=1e-9)


@pytest.mark.parametrize("name", ["residual", "resnet"])
def test_both_hessians_of_a_linear_network_are_one_in_other_coordinates(name):
    problem = residual(8) if name == "residual" else convolutional(name)
    activities, direction = drawn(problem), drawn(problem, seed=40)
    found = ErrorHessian(problem, at=activities).product(direction)
    expected = congruent(problem, activities, direction)
    np.testing.assert_allclose(flat(problem, found), expected, rtol=1e-8, atol=1e-8)


def test_both_hessians_of_a_nonlinear_network_are_one_at_equilibrium():
    problem = chain(jnp.tanh)
    relaxed = fx.infer(problem, fx.ErrorDescent(optax.sgd(0.2), 2000))
    assert relaxed.unsettled[0] < 1e-12
    direction = drawn(problem)
    expected = congruent(problem, problem.select(relaxed.activities), direction)
    found = ErrorHessian(problem, at=relaxed.activities).product(direction)
    np.testing.assert_allclose(flat(problem, found), expected, rtol=1e-9, atol=1e-9)
    apart = flat(problem, ErrorHessian(problem).product(direction))
    assert np.abs(apart - expected).max() > 1e-3


@pytest.mark.parametrize(("name", "last"), [("vgg", "stage4.conv1"), ("auxiliary", "conv2")])
def test_blocks_of_convolutional_networks(name, last):
    problem = convolutional(name)
    hessian = StateHessian(problem)
    last = last if name == "vgg" else f"stage4.block1.{last}"
    own = hessian.block(last, last)
    size = math.prod(problem.network.shapes[last])
    # The output sees flattened channels (one pixel), or their means over the pixels.
    weight = problem.network.output.function.linear.weight
    pixels = size // weight.shape[1]
    seen = np.tile(weight / pixels, (1, pixels))
    np.testing.assert_allclose(own, np.eye(size) + 1.5 * seen.T @ seen, atol=1e-12)
    first = problem.network.hidden[0]
    below = math.prod(problem.network.shapes[first])
    np.testing.assert_array_equal(hessian.block(first, last), np.zeros((below, size)))
    if name == "auxiliary":
        # The output takes the sum of the last branch and its skip.
        between = hessian.block("stage4.block1.skip2", last)
        np.testing.assert_allclose(between, own - np.eye(size), atol=1e-12)


@pytest.mark.slow
def test_extremes_of_a_large_hessian():
    hessian = StateHessian(residual(32, width=64))
    values = np.linalg.eigvalsh(np.asarray(hessian.dense()))
    found = hessian.extremes(dense_up_to=1000)
    assert hessian.size == 31 * 64
    assert found.smallest == pytest.approx(values[0], rel=1e-8)
    assert found.largest == pytest.approx(values[-1], rel=1e-10)


@BOTH
def test_extremes_by_either_way(kind):
    hessian = kind(residual(8))
    dense, found = hessian.extremes(), hessian.extremes(dense_up_to=0, key=jax.random.key(9))
    assert found.smallest == pytest.approx(dense.smallest, rel=1e-8)
    assert found.largest == pytest.approx(dense.largest, rel=1e-8)


@BOTH
def test_extremes_by_few_products_lie_within_the_spectrum(kind):
    hessian = kind(residual(8))
    values = np.linalg.eigvalsh(np.asarray(hessian.dense()))
    found = [hessian.extremes(dense_up_to=0, products=count) for count in (2, 8, 40)]
    for less, more in itertools.pairwise(found):
        assert values[0] - 1e-9 <= more.smallest <= less.smallest
        assert less.largest <= more.largest <= values[-1] + 1e-9
    assert found[-1].largest == pytest.approx(values[-1], rel=1e-6)
    with pytest.raises(ValueError, match="at least 2, for two ends, not 1"):
        hessian.extremes(products=1)


def test_error_coordinates_stay_conditioned_where_activities_do_not():
    state = [StateHessian(residual(depth)).extremes().condition_number for depth in (8, 32)]
    errors = [ErrorHessian(residual(depth)).extremes().condition_number for depth in (8, 32)]
    assert state[1] > 10 * state[0]
    assert errors[1] < 10 * errors[0]


def test_rates_of_extremes():
    found = Extremes(0.5, 4.0)
    assert (found.condition_number, found.stable_step) == (8.0, 0.5)
    assert found.best_step == pytest.approx(2 / 4.5)
    saddle = Extremes(-1.0, 4.0)
    assert saddle.condition_number == math.inf and math.isnan(saddle.best_step)
    assert Extremes(-2.0, -1.0).stable_step == math.inf


def gradient_norms(problem, here):
    return problem.network.space.norm(here.gradient)[0]


def unsettled(problem, solver):
    """The relative gradient norm before the first and after every step."""
    norms = fx.trace(problem, solver, gradient_norms)[1]
    return norms / norms[0]


def first_below(course, tolerance):
    return int(np.flatnonzero(np.asarray(course) <= tolerance)[0])


@BOTH
@pytest.mark.parametrize(("depth", "part"), [(8, 0.9), (32, None)])
def test_predicted_steps_are_those_taken(kind, depth, part):
    problem = residual(depth)
    hessian = kind(problem)
    extremes = hessian.extremes()
    rate = extremes.best_step if part is None else part * extremes.stable_step
    tolerances = (0.5, 1e-2, 1e-4)
    predicted = [hessian.predicted_steps(rate, tolerance) for tolerance in tolerances]
    steps = int(1.1 * predicted[-1]) + 10
    course = unsettled(problem, SOLVERS[kind](optax.sgd(rate), steps))
    taken = [first_below(course, tolerance) for tolerance in tolerances]
    np.testing.assert_allclose(predicted, taken, rtol=0.05)


@BOTH
@pytest.mark.parametrize(("nonlinearity", "within"), [(None, 0.05), (jnp.tanh, 0.2)])
def test_predicted_steps_with_precisions(kind, nonlinearity, within):
    problem = chain(nonlinearity)
    rate = 0.05
    relaxed, norms = fx.trace(problem, SOLVERS[kind](optax.sgd(rate), 8000), gradient_norms)
    # The energy of a nonlinear network is quadratic at the end of the way alone.
    predicted = kind(problem, at=relaxed.activities).predicted_steps(rate, 1e-5)
    assert predicted == pytest.approx(first_below(norms / norms[0], 1e-5), rel=within)


def test_predicted_steps_by_lanczos_iterations_alone():
    hessian = StateHessian(residual(32))
    rate = hessian.extremes().best_step
    decomposed = hessian.predicted_steps(rate, 1e-3)
    assert decomposed > hessian.size > 64
    assert hessian.predicted_steps(rate, 1e-3, dense_up_to=0) == pytest.approx(decomposed, rel=0.01)


@BOTH
def test_descent_diverges_above_the_stable_step_alone(kind):
    problem = residual(8)
    stable = kind(problem).extremes().stable_step
    above = unsettled(problem, SOLVERS[kind](optax.sgd(1.05 * stable), 600))
    below = unsettled(problem, SOLVERS[kind](optax.sgd(0.95 * stable), 600))
    assert above[-1] > 1e3
    assert below[-1] < 0.1
    assert kind(problem).predicted_steps(1.05 * stable) == math.inf
    assert kind(problem).predicted_steps(0.95 * stable) < math.inf


def test_momentum_falls_as_the_square_root_of_the_condition_number_says():
    problem = residual(16)
    extremes = StateHessian(problem).extremes()
    course = unsettled(problem, fx.StateDescent(extremes.nesterov(), 900))
    # The slowest mode is a double root of 1 - 1 / sqrt(kappa); a factor t goes with it.
    early, late = 500, 900
    fall = (float(course[late] / course[early]) * early / late) ** (1 / (late - early))
    assert extremes.condition_number > 300
    assert fall == pytest.approx(1 - extremes.condition_number**-0.5, abs=3e-3)
    plain = unsettled(problem, fx.StateDescent(extremes.best_step, 900))
    assert plain[late] > 1e3 * course[late]
    with pytest.raises(ValueError, match="smallest eigenvalue is -1"):
        Extremes(-1.0, 4.0).nesterov()


def test_no_steps_where_the_prediction_is_right_already():
    # A linear network predicts zero for zero, without rounding.
    right = fx.Problem(residual(8).network, jnp.zeros((1, 6)), jnp.zeros((1, 4)))
    assert StateHessian(right).predicted_steps(0.1) == 0


def test_single_precision():
    problem = residual(8)
    rate = StateHessian(problem).extremes().best_step
    weights = fx.weights(problem.network)
    single = jax.tree.map(lambda a: a.astype(jnp.float32), weights)
    network = eqx.combine(single, problem.network)
    found = StateHessian(fx.Problem(network, problem.input, problem.target))
    assert found.dense().dtype == jnp.float32
    expected = StateHessian(problem).predicted_steps(rate, 1e-2)
    assert found.predicted_steps(rate, 1e-2) == pytest.approx(expected, rel=0.01)


def test_one_example_at_a_time():
    problem = residual(8)
    twice = jnp.concatenate([problem.input] * 2), jnp.concatenate([problem.target] * 2)
    with pytest.raises(ValueError, match=r"has 2 examples; take one of them"):
        StateHessian(fx.Problem(problem.network, *twice))


@BOTH
def test_activities_and_entries_that_do_not_fit(kind):
    problem = residual(8)
    wide = {**drawn(problem), "first": jnp.zeros((2, 8))}
    with pytest.raises(ValueError, match=r"activities hold \(2, 8\) for 'first', but one"):
        kind(problem, at=wide)
    with pytest.raises(ValueError, match="entries hold nothing for 'hidden'"):
        kind(problem).product({"first": jnp.zeros((1, 8))})


def test_unknown_blocks_and_matrices_too_large():
    hessian = StateHessian(chain())
    with pytest.raises(ValueError, match=r"unknown hidden node 'hidden\[2\]'.*Choose from: first"):
        hessian.block("first", "hidden[2]")
    with pytest.raises(ValueError, match="unknown hidden node 'output'"):
        hessian.block("output", "first")
    with pytest.raises(ValueError, match=r"13 columns of the Hessian of 13 activities"):
        hessian.dense(most_bytes=13 * 13 * 8 - 1)
    assert hessian.dense(most_bytes=13 * 13 * 8).shape == (13, 13)


def test_arguments_of_predicted_steps():
    hessian = StateHessian(residual(32))
    with pytest.raises(ValueError, match="rate must be a positive"):
        hessian.predicted_steps(0.0)
    with pytest.raises(ValueError, match="tolerance must lie between 0 and 1"):
        hessian.predicted_steps(0.1, 1.0)
    with pytest.raises(ValueError, match="most_products must be an integer of at least 1"):
        hessian.predicted_steps(0.1, most_products=0)
    with pytest.raises(ValueError, match="8 Lanczos iterations do not settle"):
        hessian.predicted_steps(0.1, dense_up_to=0, most_products=8)


@BOTH
def test_weights_too_large(kind):
    problem = residual(8)
    huge = jax.tree.map(lambda a: a * 1e200, fx.weights(problem.network))
    network = eqx.combine(huge, problem.network)
    hessian = kind(fx.Problem(network, problem.input, problem.target))
    with pytest.raises(ValueError, match="not finite"):
        hessian.extremes()
    with pytest.raises(ValueError, match="not finite"):
        hessian.predicted_steps(0.1)
