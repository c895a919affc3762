"""VGG and ResNet from 64 to 224 pixels: shapes, heads and stems, signals, gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx

# Compiles faster than the default generator: every shape that is drawn is compiled.
KEY = jax.random.key(0, impl="rbg")


def shapes_only(build, *args, **options):
    return eqx.filter_eval_shape(lambda: build(*args, **options, key=KEY))


def heights(network, names):
    return [network.shapes[name][0] for name in names]


LAST = ("stage1.block1.conv2", "stage2.block1.conv2", "stage3.block1.conv2", "stage4.block1.conv2")


# Shapes.


@pytest.mark.parametrize("classes", [200, 1000])
@pytest.mark.parametrize(
    ("size", "stem", "stages"),
    [
        (64, 64, (64, 32, 16, 8)),
        (65, 17, (17, 9, 5, 3)),
        (100, 25, (25, 13, 7, 4)),
        (128, 32, (32, 16, 8, 4)),
        (224, 56, (56, 28, 14, 7)),
    ],
)
def test_the_stages_of_a_resnet(size, stem, stages, classes):
    network = shapes_only(fx.models.resnet, 18, image_shape=(size, size, 3), classes=classes)
    assert network.shapes["stem"] == (stem, stem, 64)
    assert tuple(heights(network, LAST)) == stages
    assert network.output_shape == (classes,)
    # The weights do not depend on the size, but for those of the stem.
    kernel = 3 if size <= 64 else 7
    weights = network.entry("stem").function.convolution.weight
    assert weights.shape == (kernel, kernel, 3, 64)


def test_a_stem_can_be_chosen():
    large = shapes_only(fx.models.resnet, 10, image_shape=(32, 32, 3), stem="large")
    assert heights(large, ("stem", *LAST)) == [8, 8, 4, 2, 1]
    small = shapes_only(fx.models.resnet, 10, image_shape=(128, 128, 3), stem="small")
    assert heights(small, ("stem", *LAST)) == [128, 128, 64, 32, 16]


@pytest.mark.parametrize("classes", [200, 1000])
@pytest.mark.parametrize("depth", [5, 10, 11, 19])
@pytest.mark.parametrize("size", [64, 100, 224])
def test_the_head_of_a_vgg(size, depth, classes):
    network = shapes_only(fx.models.vgg, depth, image_shape=(size, size, 3), classes=classes)
    stages = 4 if depth < 11 else 5
    last = [name for name in network.shapes if name.startswith(f"stage{stages}")][-1]
    assert network.shapes[last] == (-(-size // 2**stages),) * 2 + (512,)
    seen = (size // 2**stages) ** 2 * 512 if size == 64 else 512
    first = network.entry("output" if stages == 4 else "linear1").function.linear.weight
    assert first.shape == (classes if stages == 4 else 512, seen)


def test_a_head_can_be_chosen():
    mean = shapes_only(fx.models.vgg, 5, image_shape=(28, 18, 3), head="average")
    assert mean.shapes["stage4.conv1"] == (2, 2, 512)
    assert mean.output.function.linear.weight.shape == (10, 512)
    flat = shapes_only(fx.models.vgg, 5, image_shape=(128, 128, 3), head="flat")
    assert flat.output.function.linear.weight.shape == (10, 8 * 8 * 512)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (fx.models.vgg, {"image_shape": (28, 28, 3)}, "or leave the rest to head='average'"),
        (fx.models.vgg, {"image_shape": (100, 100, 3), "head": "flat"}, "are multiples of 16, or"),
        (fx.models.vgg, {"image_shape": (15, 99, 3), "head": "average"}, "are multiples of 16."),
        (fx.models.vgg, {"head": "pooled"}, "unknown head 'pooled'"),
        (fx.models.resnet, {"stem": "huge"}, "unknown stem 'huge'"),
        (fx.models.resnet, {"image_shape": (28, 28, 3), "stem": "large"}, "at least 32 x 32"),
    ],
)
def test_what_cannot_be_built(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(10, key=KEY, **options)


def test_the_large_stem_by_hand(float64):
    """7x7 windows around every second pixel, then the means of four, of fewer at odd ends."""
    network = fx.models.resnet(
        10, width=1 / 32, image_shape=(34, 38, 3), stem="large", auxiliary=False, key=KEY
    )
    x = np.random.default_rng(0).normal(size=(34, 38, 3))
    kernel = np.asarray(network.entry("stem").function.convolution.weight)
    padded = np.pad(x, ((3, 3), (3, 3), (0, 0)))
    convolved = np.array(
        [
            [np.tensordot(padded[i : i + 7, j : j + 7], kernel, 3) for j in range(0, 38, 2)]
            for i in range(0, 34, 2)
        ]
    )
    assert convolved.shape == (17, 19, 2)
    rows = [convolved[i : i + 2].mean(axis=0) for i in range(0, 17, 2)]
    wanted = np.array([[r[j : j + 2].mean(axis=0) for j in range(0, 19, 2)] for r in rows])
    found = network.entry("stem").function(jnp.asarray(x))
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


# Signals.


@eqx.filter_jit
def sizes_of(network, images):
    """The root mean square of every node, fed forward."""
    problem = fx.Problem(network, images, jnp.zeros((len(images), *network.output_shape)))
    explained, activities = problem.explain(problem.select(network.zeros(len(images))))
    nodes = {**activities, **explained}
    return {name: jnp.sqrt(jnp.mean(jnp.square(z))) for name, z in nodes.items()}


@pytest.mark.parametrize("size", [64, 128, 224])
@pytest.mark.parametrize(
    ("build", "options"),
    [
        (fx.models.vgg, {}),
        (fx.models.resnet, {"auxiliary": True}),
        (fx.models.resnet, {"auxiliary": False, "parameterization": fx.MuPC()}),
    ],
    ids=["vgg", "resnet", "resnet by muPC"],
)
def test_signals_are_of_order_one(build, options, size):
    """Images of smooth shapes and of noise, of size 1 both."""
    network = build(10, width=1 / 8, classes=200, image_shape=(size, size, 3), key=KEY, **options)
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.normal(size=(1, 8, 8, 3)), np.ones((1, size // 8, size // 8, 1)))
    images = jnp.asarray(np.concatenate([coarse, rng.normal(size=coarse.shape)]), jnp.float32)
    found = sizes_of(network, images)
    assert all(0.2 < value < 10 for name, value in found.items() if name != "output")
    # By muPC the readout begins with the inverse of the width, here an eighth of 64 channels.
    least = 0.01 if "parameterization" in options else 0.2
    assert least < found["output"] < 10


# Gradients.


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (
            fx.models.vgg,
            {"depth": 5, "image_shape": (18, 20, 3), "head": "average", "pool": "average"},
        ),
        (fx.models.resnet, {"depth": 10, "image_shape": (33, 38, 3), "stem": "large"}),
    ],
    ids=["vgg", "resnet"],
)
def test_gradients_of_the_energy_by_differences(float64, build, options):
    """Along a random direction of the weights, and along one of the activities."""
    network = build(width=1 / 64, classes=3, activation="tanh", key=KEY, **options)
    rng = np.random.default_rng(0)

    def like(tree):
        return jax.tree.map(lambda array: jnp.asarray(rng.normal(size=array.shape)), tree)

    weights, rest = eqx.partition(network, eqx.is_inexact_array)
    problem = fx.Problem(network, rng.normal(size=(2, *network.input_shape)), np.eye(3)[:2])
    activities = like(problem.select(network.zeros(2)))
    along = like((weights, activities))

    def energy(weights, activities):
        there = problem.with_network(eqx.combine(weights, rest))
        return fx.energy(there, activities).sum()

    @jax.jit
    def slopes(step):
        """Of the energy along weights and along activities, by differences and by gradients."""
        ends = [
            jax.tree.map(lambda a, b, by=by: a + by * b, (weights, activities), along)
            for by in (step, -step)
        ]
        by_differences = [
            (energy(ends[0][0], activities) - energy(ends[1][0], activities)) / (2 * step),
            (energy(weights, ends[0][1]) - energy(weights, ends[1][1])) / (2 * step),
        ]
        gradients = (
            fx.weight_gradient(problem, activities),
            jax.grad(energy, 1)(weights, activities),
        )
        products = [
            jax.tree.map(lambda a, b: jnp.sum(a * b), *pair)
            for pair in zip(gradients, along, strict=True)
        ]
        return by_differences, [sum(jax.tree.leaves(each)) for each in products]

    np.testing.assert_allclose(*slopes(1e-5), rtol=1e-6)
