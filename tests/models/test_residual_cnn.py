"""The residual convolutional network: graph, function, scaling, equilibria, errors."""

import math
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.graph.smoothness import has_kinks, is_linear

# Compiles faster than the default generator: every shape that is drawn is compiled.
KEY = jax.random.key(0, impl="rbg")


def tiny(blocks=2, **options):
    """8x8 images of two channels, four channels inside."""
    options = {"width": 4, "classes": 3, "image_shape": (8, 8, 2), "key": KEY, **options}
    return fx.models.residual_cnn(blocks, **{"parameterization": fx.MuPC(), **options})


def batch(network, size=4):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(size, *network.input_shape))
    return jnp.asarray(x), jnp.asarray(rng.normal(size=(size, *network.output_shape)))


def layers(network):
    """Every node's map, by label; of a stack, that of its first block for all blocks."""
    found = {}
    for entry in network.entries[1:]:
        if isinstance(entry, fx.Stack):
            convolution = entry.block.branch.convolution
            for index in range(entry.depth):
                own = eqx.tree_at(lambda c: c.weight, convolution, convolution.weight[index])
                found[f"{entry.name}[{index}]"] = own
        elif entry.name == "stem":
            found["stem"] = entry.function.convolution
        elif entry.name == "output":
            found["output"] = entry.function.linear
        else:
            found[entry.name] = entry.function.branch.convolution
    return found


# The graph.


@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_graph_shapes_and_labels(blocks):
    network = tiny(blocks, width=6, classes=5, image_shape=(16, 8, 1))
    expected, labels = {"stem": (16, 8, 6)}, ["stem"]
    for stage, shape in enumerate([(16, 8, 6), (8, 4, 6), (4, 2, 6)], start=1):
        expected[f"stage{stage}.first"] = shape
        labels.append(f"stage{stage}.first")
        if blocks > 1:
            expected[f"stage{stage}.rest"] = (blocks - 1, *shape)
            labels += [f"stage{stage}.rest[{index}]" for index in range(blocks - 1)]
    assert {n: v for n, v in network.shapes.items() if n != "input"} == {**expected, "output": (5,)}
    assert network.labels == (*labels, "output")
    assert network.depth == 3 * blocks + 2
    names = ["input", *expected, "output"]
    assert {n: v for n, v in network.parents.items() if n != "input"} == {
        child: (parent,) for parent, child in pairwise(names)
    }


def test_the_defaults():
    network = fx.models.residual_cnn(key=KEY)
    assert network.shapes["stage2.first"] == (16, 16, 32)
    assert network.input_shape == (32, 32, 3)
    assert network.output_shape == (10,)
    assert network.depth == 11
    assert isinstance(network.output.energy, fx.Gaussian)
    assert isinstance(tiny(1, output=fx.Categorical()).output.energy, fx.Categorical)


def test_more_blocks_do_not_lengthen_the_program():
    def length(blocks):
        network = tiny(blocks)
        x = jnp.zeros((1, *network.input_shape))
        return len(str(jax.make_jaxpr(lambda x: network.unroll(None, x))(x)).splitlines())

    assert length(3) == length(30)


@pytest.mark.parametrize(
    ("activation", "linear", "kinks"),
    [("linear", True, False), ("tanh", False, False), ("relu", False, True)],
)
def test_what_the_program_tells(activation, linear, kinks):
    network = tiny(activation=activation)
    assert is_linear(network) == linear
    assert has_kinks(network) == kinks


# The function.


def plain(network, phi, image, errors=None):
    """Every node's activity by `lax` alone, with the errors of the nodes added on the way."""

    def convolved(z, layer):
        return layer.multiplier * jax.lax.conv_general_dilated(
            z, layer.weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def pooled(z):
        window = (1, 2, 2, 1)
        return jax.lax.reduce_window(z, 0.0, jax.lax.add, window, window, "VALID") / 4

    z, found = image, []
    for index, (name, layer) in enumerate(layers(network).items()):
        if name == "stem":
            z = convolved(z, layer)
        elif name == "output":
            height, width = z.shape[1:3]
            z = layer.multiplier * (phi(z).sum(axis=(1, 2)) / (height * width)) @ layer.weight.T
        else:
            z = pooled(z) if name in ("stage2.first", "stage3.first") else z
            z = z + convolved(phi(z), layer)
        z = z if errors is None else z + errors[index]
        found.append(z)
    return found


def test_the_feedforward_pass_by_hand(float64):
    network = tiny(3, activation="tanh", parameterization=fx.Standard())
    x, _ = batch(network)
    found = eqx.filter_jit(fx.Network.unroll)(network, None, x)
    rows = []
    for entry in network.entries[1:]:
        activity = found[entry.name]
        rows += list(activity) if isinstance(entry, fx.Stack) else [activity]
    expected = eqx.filter_jit(plain)(network, jnp.tanh, x)
    assert len(rows) == len(expected) == network.depth
    for own, other in zip(rows, expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-10, atol=1e-12)
    assert len({np.asarray(layer.weight).tobytes() for layer in layers(network).values()}) == 11


# The scaling.

BLOCKS, WIDTH, CHANNELS = 4, 16, 3
STEM, INSIDE, DEPTH = 9 * CHANNELS, 9 * WIDTH, 3 * BLOCKS + 2
# (multiplier, initial standard deviation, learning-rate scale) of stem, blocks and readout.
TABLE = {
    "default": (
        None,
        (1, STEM**-0.5, 1),
        (1, INSIDE**-0.5, 1),
        (1, WIDTH**-0.5, 1),
    ),
    "NTK": (
        fx.NTK(),
        (STEM**-0.5, 1, 1),
        (INSIDE**-0.5, 1, 1),
        (WIDTH**-0.5, 1, 1),
    ),
    "MuPC": (
        fx.MuPC(gamma_0=2.0),
        (STEM**-0.5, 1, WIDTH**-0.5),
        ((INSIDE * DEPTH) ** -0.5, 1, (WIDTH * DEPTH) ** -0.5),
        (1 / (2 * WIDTH), 1, WIDTH**-0.5),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_parameterizations(name):
    parameterization, stem, block, readout = TABLE[name]
    network = fx.models.residual_cnn(
        BLOCKS,
        width=WIDTH,
        classes=50,
        image_shape=(4, 4, CHANNELS),
        parameterization=parameterization,
        key=KEY,
    )
    maps = layers(network)
    assert len(maps) == DEPTH
    for label, layer in maps.items():
        multiplier, initial, rate = {"stem": stem, "output": readout}.get(label, block)
        assert layer.multiplier == pytest.approx(multiplier), label
        assert layer.learning_rate_scale == pytest.approx(rate), label
        # Five standard errors of the standard deviation of a normal sample.
        slack = 5 / math.sqrt(2 * layer.weight.size)
        assert abs(np.asarray(layer.weight).std() / initial - 1) < slack, label


def mean_squares(blocks, width, activation, x, seeds):
    """Of the activities where stem and stages end and of the output, one row for each seed."""

    @eqx.filter_jit
    def rows(keys):
        def one(key):
            network = fx.models.residual_cnn(
                blocks,
                width=width,
                image_shape=x.shape[1:],
                activation=activation,
                parameterization=fx.MuPC(),
                key=key,
            )
            found = network.unroll(None, x)
            ends = [found["stem"]]
            for stage in ("stage1", "stage2", "stage3"):
                ends.append(found[f"{stage}.rest"][-1] if blocks > 1 else found[f"{stage}.first"])
            return jnp.stack([(z**2).mean() for z in (*ends, found["output"])])

        return jax.lax.map(one, keys)

    return np.asarray(rows(jax.random.split(KEY, seeds)))


def test_the_size_of_linear_activities_is_what_the_covariance_predicts():
    """Averaged over weights, `E[z(p) z(q)]` of any two positions obeys a linear recursion."""
    blocks, width, size = 3, 8, 8
    x = jax.random.normal(jax.random.key(3), (1, size, size, 2))

    def convolved(covariance):
        size = covariance.shape[0]
        padded = np.pad(covariance, 1)
        cut = [slice(i, i + size) for i in range(3)]
        return sum(padded[i, j, i, j] for i in cut for j in cut)

    def pooled(covariance):
        half = covariance.shape[0] // 2
        return covariance.reshape(half, 2, half, 2, half, 2, half, 2).mean(axis=(1, 3, 5, 7))

    def mean_square(covariance):
        return np.einsum("ijij->ij", covariance).mean()

    image = np.asarray(x[0], dtype=float)
    covariance = convolved(np.einsum("ijc,klc->ijkl", image, image)) / (9 * 2)
    expected = [mean_square(covariance)]
    for stage in range(3):
        if stage:
            covariance = pooled(covariance)
        for _ in range(blocks):
            covariance = covariance + convolved(covariance) / (9 * (3 * blocks + 2))
        expected.append(mean_square(covariance))
    expected.append(covariance.mean() / width)
    rows = mean_squares(blocks, width, "linear", x, seeds=400)
    error = rows.std(axis=0) / math.sqrt(len(rows))
    assert (error < 0.1 * np.asarray(expected)).all()
    np.testing.assert_array_less(np.abs(rows.mean(axis=0) - expected), 5 * error)


@pytest.mark.parametrize(
    ("blocks", "width", "activation"),
    [(1, 8, "tanh"), (1, 64, "gelu"), (20, 8, "gelu"), (20, 64, "tanh")],
)
def test_activities_keep_their_size_at_any_depth_and_width(blocks, width, activation):
    """Within a factor of 2 of the stem's; the output's falls as 1 / width."""
    coarse = jax.random.normal(jax.random.key(4), (2, 3, 3, 3))
    # Smooth, as photographs are: pooling leaves them their size.
    x = jax.image.resize(coarse, (2, 16, 16, 3), "linear")
    x = x / jnp.sqrt((x**2).mean())
    stem, *stages, output = mean_squares(blocks, width, activation, x, seeds=8).mean(axis=0)
    assert 0.5 < stem < 1.5
    for stage in stages:
        assert 0.5 < stage / stem < 2
    assert 0.02 < output * width < 0.5


# Equilibria.


SOLVERS = {
    "state descent": fx.StateDescent(optax.sgd(0.1), steps=60),
    "error descent": fx.ErrorDescent(optax.sgd(0.2), steps=20),
    "Gauss-Newton": fx.GaussNewton(),
    "Newton": fx.Newton(tolerance=1e-8),
}


@eqx.filter_jit
def feedforward_energy(problem):
    return (
        problem.output_precision * problem.loss(fx.predict(problem.network, problem.input)).mean()
    )


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_lower_the_energy(float64, name):
    solver = SOLVERS[name]
    network = tiny(1, activation="tanh")
    problem = fx.Problem(network, *batch(network))
    start = feedforward_energy(problem)
    relaxed = fx.infer(problem, solver)
    assert float(relaxed.energy.sum()) < float(start) * (1 - 1e-3)
    if "descent" not in name:
        settled = {"Gauss-Newton": 0.5, "Newton": 1e-8}[name]
        assert float(relaxed.unsettled.max()) < settled


@pytest.mark.slow
def test_the_equilibrium_in_closed_form_of_plain_jacobians(float64):
    network = tiny(activation="linear", parameterization=fx.NTK())
    x, y = batch(network)

    @eqx.filter_jit
    def output_and_jacobians(network):
        def output(errors):
            return plain(network, lambda z: z, x, errors)[-1]

        errors = [jnp.zeros((1, *z.shape[1:])) for z in plain(network, lambda z: z, x)]
        return output(errors), jax.jacrev(lambda errors: output(errors)[0])(errors)

    predicted, jacobians = output_and_jacobians(network)
    matrices = [np.asarray(jacobian).reshape(3, -1) for jacobian in jacobians]
    assert len(matrices) == network.depth
    expected = sum(matrix @ matrix.T for matrix in matrices)
    residual = np.asarray(y - predicted)
    energy = 0.5 * np.einsum("bi,bi->b", residual @ np.linalg.inv(expected), residual).mean()
    found = fx.infer(fx.Problem(network, x, y), fx.Exact())
    np.testing.assert_allclose(found.energy.sum(), energy, rtol=1e-9)
    assert float(found.unsettled.max()) < 1e-8


def test_the_rescaling_matrix_at_full_size():
    """32x32 images, width 32: symmetric, at least the identity, close to it at this width."""
    network = fx.models.residual_cnn(3, activation="linear", parameterization=fx.MuPC(), key=KEY)
    found = np.asarray(fx.theory.rescaling(network))
    assert found.shape == (10, 10)
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    eigenvalues = np.linalg.eigvalsh(found)
    assert eigenvalues[0] > 1 - 1e-6
    assert eigenvalues[-1] < 1 + network.depth / 32


# Errors.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"blocks": 0}, ["blocks", "at least 1", "0"]),
        ({"width": 0}, ["width", "at least 1", "0"]),
        ({"classes": 0}, ["classes", "0"]),
        ({"image_shape": (784,)}, ["image_shape", "(784,)", "(32, 32, 3)"]),
        ({"image_shape": (8, 0, 3)}, ["image_shape", "(8, 0, 3)"]),
        ({"image_shape": (8, 6, 3)}, ["residual_cnn", "(8, 6, 3)", "2 times", "multiples of 4"]),
        ({"image_shape": (30, 32, 3)}, ["(30, 32, 3)", "multiples of 4"]),
        ({"activation": "tanhh"}, ["activation", "'tanhh'", "'tanh'"]),
    ],
)
def test_mistakes_are_named(options, words):
    with pytest.raises(ValueError, match=r"must|unknown|cannot") as caught:
        tiny(**options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
