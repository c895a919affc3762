"""VGG and ResNet: their graphs, shapes and sizes, the two forms of a residual block, errors."""

import math
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx import layers
from fathomx.graph.smoothness import has_kinks, is_linear, smoothed
from fathomx.graph.statistics import holds_statistics, weights
from fathomx.layers.convolve import convolve

# Compiles faster than the default generator: every shape that is drawn is compiled.
KEY = jax.random.key(0, impl="rbg")
SMALL = {"width": 1 / 16, "key": KEY}
predict = eqx.filter_jit(fx.predict)
frozen = eqx.filter_jit(fx.Problem.with_batch_statistics)


def shapes_only(build, *args, **kwargs):
    """The network without its arrays: nothing is drawn, so that full sizes are cheap."""
    return eqx.filter_eval_shape(lambda: build(*args, **kwargs, key=KEY))


def tiny_vgg(**kwargs):
    """16x16 images, four channels throughout but for the last stages: cheap."""
    return fx.models.vgg(5, **{**SMALL, "image_shape": (16, 16, 3), **kwargs})


def tiny_resnet(**kwargs):
    return fx.models.resnet(10, **{**SMALL, "image_shape": (8, 8, 3), **kwargs})


def batch(network, size=4):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(size, *network.input_shape))
    return jnp.asarray(x), jnp.asarray(rng.normal(size=(size, *network.output_shape)))


# VGG.

STAGES = {
    5: (1, 1, 1, 1),
    7: (1, 1, 2, 2),
    9: (2, 2, 2, 2),
    10: (2, 2, 2, 3),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    15: (2, 2, 2, 3, 3),
    19: (2, 2, 4, 4, 4),
}


@pytest.mark.parametrize("depth", STAGES)
@pytest.mark.parametrize("width", [1.0, 1 / 16])
def test_vgg_graph_and_shapes(depth, width):
    network = shapes_only(fx.models.vgg, depth, width=width)
    channels = [int(c * width) for c in (64, 128, 256, 512, 512)]
    expected = {}
    for s, count in enumerate(STAGES[depth]):
        for c in range(count):
            size = 32 >> (s + (c == count - 1))
            expected[f"stage{s + 1}.conv{c + 1}"] = (size, size, channels[s])
    if len(STAGES[depth]) == 5:
        expected |= {"linear1": (int(512 * width),), "linear2": (int(512 * width),)}
    expected["output"] = (10,)
    assert {n: v for n, v in network.shapes.items() if n != "input"} == expected
    assert network.depth == depth == len(expected)
    names = ["input", *expected]
    assert {n: v for n, v in network.parents.items() if n != "input"} == {
        child: (parent,) for parent, child in pairwise(names)
    }


def test_vgg_at_full_width_has_the_weights_of_its_layout():
    network = shapes_only(fx.models.vgg, 11, classes=100)
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(network) if hasattr(leaf, "shape")]
    maps = [(3, 64), (64, 128), (128, 256), (256, 256), (256, 512), *[(512, 512)] * 3]
    assert sizes == [9 * a * b for a, b in maps] + [512 * 512, 512 * 512, 512 * 100]


def test_vgg_by_hand(float64):
    """Stage by stage: activation, convolution, pooling; no activation on the image."""
    network = tiny_vgg(activation="tanh")
    x, _ = batch(network)
    z = np.asarray(x)
    for index, node in enumerate(network.entries[1:-1]):
        phi = z if index == 0 else np.tanh(z)
        kernel = np.asarray(node.function.convolution.weight)
        padded = np.pad(phi, ((0, 0), (1, 1), (1, 1), (0, 0)))
        size = z.shape[1]
        z = sum(
            padded[:, i : i + size, j : j + size] @ kernel[i, j] for i in range(3) for j in range(3)
        )
        half = size // 2
        z = z.reshape(len(x), half, 2, half, 2, -1).max(axis=(2, 4))
    expected = np.tanh(z).reshape(len(x), -1) @ np.asarray(network.output.function.linear.weight).T
    np.testing.assert_allclose(predict(network, x), expected, rtol=1e-10)


SMOOTH = {"pool": "average"}
STRAIGHT = {"pool": "average", "activation": "linear"}


@pytest.mark.parametrize(
    ("build", "options", "linear", "kinks"),
    [
        (tiny_vgg, {}, False, True),
        (tiny_vgg, {**STRAIGHT, "pool": "max"}, False, True),
        (tiny_vgg, {**SMOOTH, "activation": "relu"}, False, True),
        (tiny_vgg, {**SMOOTH, "normalization": "batch"}, False, False),
        (tiny_vgg, {**SMOOTH, "normalization": "group"}, False, False),
        (tiny_vgg, STRAIGHT, True, False),
        (tiny_vgg, {**STRAIGHT, "normalization": "batch"}, True, False),
        (tiny_vgg, {**STRAIGHT, "normalization": "group"}, False, False),
        (tiny_resnet, {"normalization": "batch"}, False, False),
        (tiny_resnet, {"activation": "linear"}, True, False),
        (tiny_resnet, {"activation": "linear", "auxiliary": False}, True, False),
    ],
)
def test_what_the_program_tells(build, options, linear, kinks):
    network = build(**options)
    assert is_linear(network) == linear
    assert has_kinks(network) == kinks


def test_a_relu_vgg_can_be_smoothed():
    network = tiny_vgg(**SMOOTH, activation="relu")
    assert not has_kinks(smoothed(network, jnp.asarray(0.1)))


# ResNet.


@pytest.mark.parametrize(("depth", "blocks"), [(10, 1), (18, 2)])
@pytest.mark.parametrize("auxiliary", [True, False])
def test_resnet_graph_and_shapes(depth, blocks, auxiliary):
    network = shapes_only(fx.models.resnet, depth, auxiliary=auxiliary)
    shapes, parents, ends = {"stem": (32, 32, 64)}, {"stem": ("input",)}, ("stem",)
    for s in range(4):
        shape = (32 >> s, 32 >> s, 64 << s)
        for b in range(blocks):
            name = f"stage{s + 1}.block{b + 1}"
            if auxiliary:
                parents |= {
                    f"{name}.conv1": ends,
                    f"{name}.skip1": ends,
                    f"{name}.conv2": (f"{name}.conv1",),
                    f"{name}.skip2": (f"{name}.skip1",),
                }
                ends = (f"{name}.conv2", f"{name}.skip2")
            else:
                parents |= {f"{name}.conv1": ends, f"{name}.conv2": (f"{name}.conv1", *ends)}
                ends = (f"{name}.conv2",)
            shapes |= {entry: shape for entry in parents if entry.startswith(name)}
    assert {n: v for n, v in network.shapes.items() if n != "input"} == {**shapes, "output": (10,)}
    assert {n: v for n, v in network.parents.items() if n != "input"} == {**parents, "output": ends}
    assert network.depth == depth + (8 * blocks if auxiliary else 0)


def distances(network):
    """Steps from the output down to each node along the shortest path."""
    found = {network.output.name: 0}
    for name in reversed(network.labels):
        for parent in network.parents[name]:
            found[parent] = min(found.get(parent, 10**6), found[name] + 1)
    return found


@pytest.mark.parametrize("depth", [10, 18])
def test_auxiliary_nodes_delay_the_skip(depth):
    """The signal reaches the inside of a block in time only with them."""
    build = fx.models.resnet
    slow = distances(shapes_only(build, depth))
    fast = distances(shapes_only(build, depth, auxiliary=False))
    inner = [name for name in fast if name.endswith("conv1")]
    for name in inner:
        block = name.removesuffix(".conv1")
        assert slow[f"{block}.conv2"] == slow[f"{block}.skip2"] == slow[name] - 1
        assert slow[f"{block}.skip1"] == slow[name]
    assert slow["stem"] == depth - 1
    # One step per block instead of two: along the skips.
    assert fast["stem"] == 1 + len(inner)


def test_auxiliary_nodes_pass_the_whole_error_on():
    network = shapes_only(fx.models.resnet, 10, activity_rate=0.25)
    precision = {node.name: node.energy.precision for node in network.entries[1:]}
    convolutions = {f"stage{s}.block1.skip1" for s in (2, 3, 4)}
    for name, value in precision.items():
        assert value == (4.0 if "skip" in name and name not in convolutions else 1.0), name


@pytest.mark.parametrize("normalization", [None, "batch", "group"])
def test_both_forms_of_a_resnet_are_one_function(float64, normalization):
    with_nodes, with_edges = (
        tiny_resnet(auxiliary=auxiliary, normalization=normalization) for auxiliary in (True, False)
    )
    drawn = [
        {leaf.tobytes() for leaf in map(np.asarray, jax.tree.leaves(weights(network)))}
        for network in (with_nodes, with_edges)
    ]
    assert drawn[0] == drawn[1]
    x, _ = batch(with_nodes)
    outputs = []
    for network in (with_nodes, with_edges):
        live = eqx.filter_jit(fx.Network.with_batch_statistics)(network, x)
        assert holds_statistics(live) == (normalization == "batch")
        outputs.append(predict(live, x))
    np.testing.assert_allclose(*outputs, rtol=1e-9, atol=1e-12)
    assert np.asarray(outputs[0]).std() > 0.01


def test_a_residual_block_by_hand(float64):
    """The first block of stage 2: stride 2, and a 1x1 convolution on the skip."""
    network = tiny_resnet(auxiliary=False, activation="tanh")
    x, _ = batch(network)
    z = {
        name: np.asarray(value)
        for name, value in eqx.filter_jit(fx.Network.unroll)(network, None, x).items()
    }
    node = {entry.name: entry.function for entry in network.entries[1:]}
    p, a = z["stage1.block1.conv2"], z["stage2.block1.conv1"]
    first = np.asarray(node["stage2.block1.conv1"].convolution.weight)
    join = node["stage2.block1.conv2"]
    second, skip = (np.asarray(f.convolution.weight) for f in (join.branch, join.shortcut))

    def convolved(z, kernel, stride):
        padded = np.pad(z, ((0, 0), (1, 1), (1, 1), (0, 0)))
        size = z.shape[1]
        return sum(
            padded[:, i : i + size : stride, j : j + size : stride] @ kernel[i, j]
            for i in range(3)
            for j in range(3)
        )

    np.testing.assert_allclose(a, convolved(np.tanh(p), first, 2), rtol=1e-10, atol=1e-12)
    b = convolved(np.tanh(a), second, 1) + p[:, ::2, ::2] @ skip[0, 0]
    np.testing.assert_allclose(z["stage2.block1.conv2"], b, rtol=1e-10, atol=1e-12)
    last = np.tanh(z["stage4.block1.conv2"]).mean(axis=(1, 2))
    readout = np.asarray(network.output.function.linear.weight)
    np.testing.assert_allclose(z["output"], last @ readout.T, rtol=1e-10)


def test_odd_images_are_halved_upwards():
    network = shapes_only(fx.models.resnet, 10, image_shape=(28, 9, 1))
    sizes = [network.shapes[f"stage{s}.block1.conv2"][:2] for s in (1, 2, 3, 4)]
    assert sizes == [(28, 9), (14, 5), (7, 3), (4, 2)]


# Weights.


def convolutions(network):
    """Convolution by the node it belongs to; that of a skip as `skip1`."""
    found = {}
    for node in network.entries[1:]:
        if hasattr(node.function, "convolution"):
            found[node.name] = node.function.convolution
    return found


def test_the_initial_size_makes_up_for_the_activation():
    for network in (tiny_vgg(width=0.25), tiny_resnet(width=0.25)):
        for name, layer in convolutions(network).items():
            kernel, _, channels, _ = layer.weight.shape
            expected = math.sqrt(2 / (kernel**2 * channels))
            # Five standard errors of the standard deviation of a normal sample.
            slack = 5 / math.sqrt(2 * layer.weight.size)
            assert abs(np.asarray(layer.weight).std() / expected - 1) < slack, name
            assert layer.multiplier == layer.learning_rate_scale == 1
    head = tiny_vgg(parameterization=fx.Standard(gain=3), classes=500).output.function.linear
    expected = 3 / math.sqrt(head.weight.shape[1])
    assert abs(np.asarray(head.weight).std() / expected - 1) < 5 / math.sqrt(2 * head.weight.size)


def test_standard_reads_well():
    assert repr(fx.Standard(gain=2)) == "Standard(gain=2.0)"


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [8, 7])
def test_derivatives_on_an_accelerator_are_those_on_a_processor(stride, size, monkeypatch, float64):
    """There JAX's own are taken: the same numbers, in both arguments and of second order."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, size, size, 3)))
    kernels = jnp.asarray(rng.normal(size=(3, 3, 3, 4)))

    def found():
        def total(images, kernels):
            return jnp.sum(jnp.sin(convolve(images, kernels, stride)))

        first = jax.grad(total, (0, 1))
        second = jax.jvp(first, (images, kernels), (images, kernels))[1]
        return (first(images, kernels), second), str(jax.make_jaxpr(first)(images, kernels))

    on_processor, program = found()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    on_accelerator, other = found()
    assert "channels_last_convolution" in program
    assert "channels_last_convolution" not in other
    for ours, theirs in zip(*map(jax.tree.leaves, (on_processor, on_accelerator)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_mupc_of_convolutions():
    network = tiny_resnet(parameterization=fx.MuPC(gamma_0=2.0))
    multipliers, rates = {"output": 1 / (2 * 32)}, {"output": 1 / 2}
    for name, layer in convolutions(network).items():
        kernel, _, channels, _ = layer.weight.shape
        residual = 10 if name.endswith("conv2") else 1
        multipliers[name] = 1 / math.sqrt(kernel**2 * channels * residual)
        rates[name] = 1 / math.sqrt(4 * residual)
    assert len(multipliers) == 1 + 1 + 4 * 2 + 3
    found = {**convolutions(network), "output": network.output.function.linear}
    assert {k: v.multiplier for k, v in found.items()} == pytest.approx(multipliers)
    assert {k: v.learning_rate_scale for k, v in found.items()} == pytest.approx(rates)


def test_scaled_learning_rates_reach_convolutions():
    network = tiny_resnet(parameterization=fx.MuPC(), normalization="batch")
    learned = weights(network)
    ones = jax.tree.map(jnp.ones_like, learned)
    optimizer = fx.scale_learning_rates(optax.sgd(1.0))
    updates, _ = optimizer.update(ones, optimizer.init(learned))
    for node, update in zip(network.entries[1:-1], updates.entries[1:-1], strict=True):
        if hasattr(node.function, "convolution"):
            scale = node.function.convolution.learning_rate_scale
            np.testing.assert_allclose(update.function.convolution.weight, -scale, rtol=1e-6)
            # One over the square root of four channels in the first stage.
            np.testing.assert_allclose(update.function.normalization.scale, -0.5, rtol=1e-6)


# Inference.


DESCENT = fx.ErrorDescent(optax.sgd(0.02), steps=3)
SOLVED = {
    "vgg, Gauss-Newton": (tiny_vgg, {"normalization": "batch"}, fx.GaussNewton()),
    "vgg, error descent": (tiny_vgg, {"normalization": "group", "pool": "average"}, DESCENT),
    "resnet with nodes, Gauss-Newton": (tiny_resnet, {}, fx.GaussNewton()),
    "resnet with nodes, error descent": (tiny_resnet, {}, DESCENT),
    "resnet with edges, error descent": (
        tiny_resnet,
        {"auxiliary": False, "normalization": "batch"},
        DESCENT,
    ),
}


@pytest.mark.parametrize("case", SOLVED)
def test_solvers_lower_the_energy(case):
    build, options, solver = SOLVED[case]
    network = build(**options)
    problem = frozen(fx.Problem(network, *batch(network), 0.1))
    start = problem.output_precision * problem.loss(predict(problem.network, problem.input)).mean()
    relaxed = fx.infer(problem, solver)
    assert float(relaxed.energy.sum()) < float(start) * (1 - 1e-3)


def test_every_weight_of_a_node_learns():
    """Kernel, scale and offset, from the errors that a random state has everywhere."""
    network = tiny_vgg(normalization="batch", pool="average")
    problem = frozen(fx.Problem(network, *batch(network)))
    rng = np.random.default_rng(2)
    z = {k: jnp.asarray(rng.normal(size=v.shape), v.dtype) for k, v in network.zeros(4).items()}
    gradient = eqx.filter_jit(fx.weight_gradient)(problem, z)
    assert len(jax.tree.leaves(gradient)) == 4 * 3 + 1
    for leaf in jax.tree.leaves(gradient):
        assert float(jnp.abs(leaf).min()) > 0 and bool(jnp.isfinite(leaf).all())


# Errors.


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: fx.models.vgg(6, **SMALL), ["depth", "5, 7, 9, 10, 11, 13, 15, 19", "6"]),
        (lambda: fx.models.resnet(50, **SMALL), ["depth", "10, 18", "50"]),
        (lambda: tiny_vgg(normalization="bach"), ["normalization", "'bach'", "'batch'", "group"]),
        (lambda: tiny_resnet(normalization="layer"), ["normalization", "'layer'", "None"]),
        (lambda: tiny_vgg(pool="maximum"), ["pool", "'maximum'", "'max'", "average"]),
        (lambda: tiny_vgg(activation="gelo"), ["activation", "'gelu'"]),
        (lambda: tiny_vgg(width=0.0), ["width", "positive", "0.0"]),
        (lambda: tiny_resnet(width=math.inf), ["width", "finite", "inf"]),
        (lambda: tiny_vgg(classes=0), ["classes", "0"]),
        (lambda: tiny_vgg(image_shape=(784,)), ["image_shape", "(784,)", "(32, 32, 3)"]),
        (lambda: tiny_resnet(image_shape=(32, 0, 3)), ["image_shape", "(32, 0, 3)"]),
        (lambda: tiny_vgg(image_shape=(28, 28, 1)), ["VGG-5", "(28, 28, 1)", "4 times", "16"]),
        (lambda: fx.models.vgg(11, image_shape=(16, 16, 3), key=KEY), ["VGG-11", "5 times", "32"]),
        (
            lambda: tiny_resnet(image_shape=(8, 7, 3)),
            ["ResNet-10", "(8, 7, 3)", "3 times", "8 x 8"],
        ),
        (lambda: tiny_resnet(activity_rate=0.0), ["activity_rate", "positive", "0.0"]),
        (
            lambda: fx.Network(
                [
                    fx.Node("branch", lambda z: z[..., :8]),
                    fx.Node("skip", lambda z: z[0, :1, :8], parents=("input",)),
                    fx.Node("join", layers.add, parents=("branch", "skip")),
                ],
                (4, 4, 9),
            ),
            ["'join'", "branch: (4, 4, 8)", "skip: (1, 8)", "cannot be added"],
        ),
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(ValueError, match=r"must|unknown|cannot") as caught:
        build()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
