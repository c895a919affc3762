"""Linear networks: every solver against the closed form, written out in NumPy.

    F* = 1/2 r^T S^-1 r,    S = I / lambda + sum_l P_l P_l^T / pi_l,    e_l* = P_l^T S^-1 r / pi_l

with the residual `r` of the feedforward prediction and the map `P_l` from the error of node `l` to
the output, multiplied out layer by layer.
"""

import math

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx

pytestmark = pytest.mark.usefixtures("float64")

D, WIDTH, OUT, DEPTH, BATCH = 7, 12, 10, 6, 3
MODELS = {"chain": fx.models.mlp, "residual": fx.models.residual_mlp}


def multipliers(parameterization, model):
    """The published table, for the sizes above: first, hidden, last."""
    if parameterization == "Standard":
        return 1, 1, 1
    hidden = 1 / math.sqrt(WIDTH)
    if parameterization == "NTK":
        return 1 / math.sqrt(D), hidden, hidden
    branch = hidden / math.sqrt(DEPTH) if model == "residual" else hidden
    return 1 / math.sqrt(D), branch, 1 / WIDTH


def build(parameterization, model, precision=1.0):
    network = MODELS[model](
        D,
        OUT,
        width=WIDTH,
        depth=DEPTH,
        activation="linear",
        parameterization=getattr(fx, parameterization)(),
        key=jax.random.key(3),
    )
    first, hidden, last = network.entries[1:]
    entries = [
        fx.Node("first", first.function, energy=fx.Gaussian(2 * precision)),
        fx.Stack("hidden", hidden.block, energy=fx.Gaussian(precision)),
        fx.Node("output", last.function),
    ]
    return network if precision == 1 else fx.Network(entries, (D,))


def matrices(network, parameterization, model):
    """The effective matrix of every layer, skip included."""
    a_first, a_hidden, a_last = multipliers(parameterization, model)
    first, hidden, last = network.entries[1:]
    block = hidden.block.branch if model == "residual" else hidden.block
    skip = np.eye(WIDTH) if model == "residual" else 0
    return [
        a_first * np.asarray(first.function.weight),
        *(skip + a_hidden * np.asarray(w) for w in block.linear.weight),
        a_last * np.asarray(last.function.linear.weight),
    ]


def closed_form(layers, precisions, x, y, output_precision):
    """Energies (mean over the batch) per node and activities of all hidden nodes."""
    downstream = []
    for l in range(1, len(layers)):  # noqa: E741
        product = np.eye(y.shape[1])
        for matrix in reversed(layers[l:]):
            product = product @ matrix
        downstream.append(product)
    prediction = x
    for matrix in layers:
        prediction = prediction @ matrix.T
    residual = y - prediction
    rescaling = np.eye(y.shape[1]) / output_precision
    for product, precision in zip(downstream, precisions, strict=True):
        rescaling = rescaling + product @ product.T / precision
    solved = np.linalg.solve(rescaling, residual.T).T
    total = 0.5 * (residual * solved).sum(1).mean()
    activities, z = [], x
    for matrix, product, precision in zip(layers, downstream, precisions, strict=False):
        z = z @ matrix.T + solved @ product / precision
        activities.append(z)
    return total, np.stack(activities)


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(BATCH, D)), rng.normal(size=(BATCH, OUT))


def relative(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


infer = eqx.filter_jit(fx.infer)


@pytest.mark.parametrize(
    ("parameterization", "precision"),
    [("Standard", 1.0), pytest.param("NTK", 1.0, marks=pytest.mark.slow), ("MuPC", 0.5)],
)
@pytest.mark.parametrize("model", MODELS)
def test_exact_and_one_gauss_newton_iteration_are_the_closed_form(
    parameterization, model, precision
):
    network = build(parameterization, model, precision)
    layers = matrices(network, parameterization, model)
    precisions = [2 * precision if precision != 1 else 1.0] + [precision] * (DEPTH - 2)
    x, y = data()
    # J J^T has rank 10: conjugate gradients need 11 iterations in exact arithmetic, and few more
    # to reach 1e-10 in floating point.
    solvers = (fx.Exact(), fx.GaussNewton(iterations=1, cg_iterations=14))

    @eqx.filter_jit
    def relaxed(network, output_precision):
        problem = fx.Problem(network, x, y, output_precision)
        return [fx.infer(problem, solver) for solver in solvers]

    for output_precision in (0.1, 1.0, 10.0):
        total, activities = closed_form(layers, precisions, x, y, output_precision)
        for found in relaxed(network, jnp.asarray(output_precision)):
            z = np.concatenate([found.activities["first"][None], found.activities["hidden"]])
            assert relative(found.energy.sum(), total) < 1e-10
            assert relative(z, activities) < 1e-10
            assert float(found.unsettled.max()) < 1e-9
            np.testing.assert_array_equal(found.activities["output"], y)


def small_chain(precision=1.0):
    """Four layers of a few units, on which slow solvers converge too."""
    network = fx.models.mlp(3, 2, width=4, depth=4, activation="linear", key=jax.random.key(1))
    first, hidden, last = network.entries[1:]
    return fx.Network(
        [
            fx.Node("first", first.function, energy=fx.Gaussian(precision)),
            fx.Stack("hidden", hidden.block, energy=fx.Gaussian(precision)),
            last,
        ],
        (3,),
    )


def small_layers(network):
    first, hidden, last = network.entries[1:]
    weights = [first.function.weight, *hidden.block.linear.weight, last.function.linear.weight]
    return [np.asarray(w) for w in weights]


def stable_rates(layers, precision, output_precision):
    """One over the top eigenvalue of the Hessian, in activities and in errors."""
    sizes = [m.shape[0] for m in layers[:-1]]
    starts = np.cumsum([0, *sizes])
    errors = np.eye(starts[-1])  # e = B z for the hidden nodes, up to a constant
    for l in range(1, len(sizes)):  # noqa: E741
        rows, columns = slice(starts[l], starts[l + 1]), slice(starts[l - 1], starts[l])
        errors[rows, columns] = -layers[l]
    output = np.zeros((layers[-1].shape[0], starts[-1]))
    output[:, starts[-2] :] = layers[-1]
    unrolled = np.linalg.inv(errors)
    in_z = precision * errors.T @ errors + output_precision * output.T @ output
    in_e = unrolled.T @ in_z @ unrolled
    return [1 / np.linalg.eigvalsh(h)[-1] for h in (in_z, in_e)]


TIGHT = diffrax.PIDController(rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("precision", [pytest.param(1.0, marks=pytest.mark.slow), 2.0])
@pytest.mark.parametrize("name", ["StateDescent", "ErrorDescent", "GradientFlow"])
def test_slow_solvers_arrive_at_the_closed_form(name, precision):
    network = small_chain(precision)
    layers = small_layers(network)
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(BATCH, 3)), rng.normal(size=(BATCH, 2))
    in_z, in_e = stable_rates(layers, precision, 0.7)
    solver = {
        "StateDescent": fx.StateDescent(optax.sgd(in_z), steps=3000),
        "ErrorDescent": fx.ErrorDescent(optax.sgd(in_e), steps=1000),
        "GradientFlow": fx.GradientFlow(tolerance=1e-8, controller=TIGHT),
    }[name]
    found = infer(fx.Problem(network, x, y, 0.7), solver)
    total, activities = closed_form(layers, [precision] * 3, x, y, 0.7)
    z = np.concatenate([found.activities["first"][None], found.activities["hidden"]])
    assert relative(found.energy.sum(), total) < 1e-6
    assert relative(z, activities) < 1e-6


@pytest.mark.parametrize(
    ("activation", "output", "words"),
    [
        ("tanh", fx.Gaussian(), ["linear", "Newton"]),
        ("relu", fx.Gaussian(), ["linear", "Newton"]),
        ("linear", fx.Categorical(), ["Gaussian", "Categorical", "Newton"]),
    ],
)
def test_exact_says_what_it_cannot_do(activation, output, words):
    network = fx.models.mlp(
        3, 2, width=4, depth=4, activation=activation, key=jax.random.key(0), output=output
    )
    with pytest.raises(ValueError, match="Exact") as caught:
        fx.infer(fx.Problem(network, np.ones((2, 3)), np.array([0, 1])), fx.Exact())
    for word in words:
        assert word in str(caught.value)
