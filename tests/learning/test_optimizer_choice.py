"""Optimizers by name: every update by hand, or by the singular values of the gradient."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.layers import BatchNorm
from fathomx.learning.learner import cosine_adam
from fathomx.learning.optimizer_choice import OPTIMIZERS, OptimizerChoice, matrices

UPDATES = 10


def one_weight(choice, gradients, start=0.0):
    """The updates of a single matrix of one weight, `(updates,)`, and where it was before each."""
    optimizer = choice.make(len(gradients))
    weight = jnp.full((1, 1), start)
    state, updates, places = optimizer.init(weight), [], []
    for gradient in gradients:
        update, state = optimizer.update(jnp.full((1, 1), gradient), state, weight)
        updates.append(float(update[0, 0]))
        places.append(float(weight[0, 0]))
        weight = weight + update
    return np.array(updates), np.array(places)


def deep(**options):
    """A stack of three blocks with biases between two layers, in float64."""
    return fx.models.mlp(5, 3, width=6, depth=5, bias=True, key=jax.random.key(0), **options)


def random_like(tree, seed=1):
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    found = [
        jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, found)


def first_update(optimizer, weights, gradient):
    return optimizer.update(gradient, optimizer.init(weights), weights)[0]


def norm_of(tree):
    return math.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(tree)))


# Rates


@pytest.mark.parametrize("warm_up", [0, 1, 3, 0.3])
@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("cosine", lambda part: 0.5 * (1 + math.cos(math.pi * part))),
        ("linear", lambda part: 1 - part),
        ("constant", lambda part: 1.0),
    ],
)
def test_the_rate_rises_in_equal_steps_and_falls_by_its_schedule(float64, name, share, warm_up):
    choice = OptimizerChoice(0.2, "sgd", learning_rate_schedule=name, warm_up=warm_up)
    found, _ = one_weight(choice, [1.0] * UPDATES)
    rising = 3 if warm_up == 0.3 else warm_up
    rates = [0.2 * (t + 1) / rising for t in range(rising)]
    rates += [0.2 * share(t / (UPDATES - rising)) for t in range(UPDATES - rising)]
    # Optax computes some schedules in float32.
    np.testing.assert_allclose(found, -np.array(rates), rtol=1e-6, atol=1e-8)


# Directions


def test_momentum_and_decay_of_gradient_descent_by_hand(float64):
    choice = OptimizerChoice(
        0.1, "sgd", learning_rate_schedule="constant", momentum=0.5, weight_decay=0.25
    )
    found, _ = one_weight(choice, [1.0, 2.0], start=4.0)
    # Sums 1 and 2 + 0.5 * 1; the decay is that of the weight, outside of the momentum.
    after = 4 - 0.1 * (1 + 0.25 * 4)
    np.testing.assert_allclose(found, [-0.1 * (1 + 1), -0.1 * (2.5 + 0.25 * after)], rtol=1e-14)


def test_the_first_step_of_adamw_by_hand(float64):
    """Adam's first direction is the sign of the gradient; biases do not decay."""
    network = deep()
    weights = fx.weights(network)
    gradient = random_like(weights)
    choice = OptimizerChoice(0.1, "adamw", learning_rate_schedule="constant", weight_decay=0.5)
    update = first_update(choice.make(UPDATES), weights, gradient)
    for name, decays in {"map": True, "bias": False}.items():
        for entry in ("first", "hidden", "output"):
            of = [layer_of(tree, entry, name) for tree in (update, weights, gradient)]
            decay = 0.5 * of[1] if decays else 0.0
            np.testing.assert_allclose(of[0], -0.1 * (np.sign(of[2]) + decay), rtol=1e-9)


def layer_of(tree, entry, name):
    function = tree.entry(entry).learned_function()
    layer = getattr(function, "linear", function)
    return getattr(layer, name).weight


def through_singular_values(gradient):
    """Five quintic steps on the singular values: what Muon makes of a matrix `(in, out)`."""
    left, sizes, right = np.linalg.svd(gradient, full_matrices=False)
    sizes = sizes / np.linalg.norm(sizes)
    for _ in range(5):
        sizes = 3.4445 * sizes - 4.7750 * sizes**3 + 2.0315 * sizes**5
    return left * sizes @ right, sizes


@pytest.mark.parametrize("entry", ["first", "hidden", "output"])
def test_muon_makes_every_block_of_a_stack_orthogonal_by_itself(float64, entry):
    weights = fx.weights(deep())
    gradient = random_like(weights)
    choice = OptimizerChoice(0.1, "muon", learning_rate_schedule="constant")
    update = first_update(choice.make(UPDATES), weights, gradient)
    found, given = (layer_of(tree, entry, "map") for tree in (update, gradient))
    blocks = found.reshape(-1, *found.shape[-2:]), given.reshape(-1, *given.shape[-2:])
    assert len(blocks[0]) == (3 if entry == "hidden" else 1)
    for one, of in zip(*blocks, strict=True):
        wanted, sizes = through_singular_values(np.asarray(of))
        # The size of an update of Adam: entries of a root mean square of about 0.2.
        scale = 0.1 * 0.2 * math.sqrt(max(of.shape))
        np.testing.assert_allclose(one, -scale * wanted, rtol=1e-8, atol=1e-10)
        assert sizes.min() > 0.6 and sizes.max() < 1.3


def test_muon_takes_a_convolution_for_the_matrix_under_its_kernel(float64):
    network = fx.models.residual_cnn(2, image_shape=(8, 8, 1), width=4, key=jax.random.key(0))
    weights = fx.weights(network)
    gradient = random_like(weights)
    choice = OptimizerChoice(0.1, "muon", learning_rate_schedule="constant")
    update = first_update(choice.make(UPDATES), weights, gradient)
    axes = fx.matrix_axes(weights)
    seen = 0
    for part in network.predictors():
        leaves = jax.tree.leaves(fx.weights(part))
        if not leaves or leaves[0].ndim < 4:
            continue
        one, of = (jax.tree.leaves(tree.entry(part.name))[0] for tree in (update, gradient))
        shape = (-1, math.prod(of.shape[-4:-1]), of.shape[-1])
        for block, given in zip(one.reshape(shape), of.reshape(shape), strict=True):
            wanted, _ = through_singular_values(np.asarray(given))
            scale = 0.1 * 0.2 * math.sqrt(max(given.shape))
            lr = part_scale(part)
            np.testing.assert_allclose(block, -lr * scale * wanted, rtol=1e-8, atol=1e-10)
            seen += 1
    assert seen >= 4
    assert jax.tree.structure(axes) != jax.tree.structure(weights)


def part_scale(part):
    layers = jax.tree.leaves(part, is_leaf=lambda p: hasattr(p, "learning_rate_scale"))
    return layers[0].learning_rate_scale


def test_what_is_no_matrix_is_left_to_adam(float64):
    """Its first step has entries of one size, unlike an orthogonal one."""
    network = fx.models.transformer(
        11, context=4, width=8, depth=2, heads=2, normalization="layer", key=jax.random.key(0)
    )
    weights = fx.weights(network)
    axes = fx.matrix_axes(weights)
    embedding = axes.entry("embedding")
    assert jax.tree.leaves(embedding, is_leaf=is_axes) == []
    assert jax.tree.leaves(matrices(weights).entry("embedding"))[0]
    blocks = axes.entry("blocks")
    found = jax.tree.leaves(blocks, is_leaf=is_axes)
    wanted = [leaf for leaf in jax.tree.leaves(weights.entry("blocks")) if leaf.ndim == 3]
    assert len(found) == len(wanted) > 0
    choice = OptimizerChoice(0.1, "muon", learning_rate_schedule="constant")
    update = first_update(choice.make(UPDATES), weights, random_like(weights))
    sizes = np.abs(jax.tree.leaves(update.entry("embedding"))[0])
    np.testing.assert_allclose(sizes, sizes.flat[0], rtol=1e-6)


def is_axes(part):
    return isinstance(part, optax.contrib.MuonDimensionNumbers)


def test_priors_and_precisions_are_no_matrices_and_own_layers_are():
    network = fx.Network(
        [
            fx.Root("cause", shape=(3, 4), mean=jnp.zeros((3, 4))),
            fx.Node(
                "output",
                eqx.nn.Sequential(
                    [eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(12, 5, key=jax.random.key(0))]
                ),
                ["cause"],
                energy=fx.Gaussian(precision=jnp.ones((5,))),
            ),
        ]
    )
    axes = fx.matrix_axes(fx.weights(network))
    assert jax.tree.leaves(axes.entry("cause"), is_leaf=is_axes) == []
    assert len(jax.tree.leaves(axes.entry("output"), is_leaf=is_axes)) == 1


# What goes around


def test_a_long_gradient_is_scaled_down_and_a_short_one_is_not(float64):
    weights = fx.weights(deep())
    gradient = random_like(weights)
    length = float(norm_of(gradient))
    for clip, wanted in ((length / 3, length / 3), (length * 3, length)):
        choice = OptimizerChoice(1.0, "sgd", learning_rate_schedule="constant", clip=clip)
        update = first_update(choice.make(UPDATES), weights, gradient)
        np.testing.assert_allclose(norm_of(update), wanted, rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scales_for_adam_multiply_what_they_are_for(name):
    """muPC asks for `1 / sqrt(width)` at the ends and `1 / sqrt(width * depth)` between."""
    plain, scaled = (
        fx.models.residual_mlp(4, 3, width=16, depth=9, key=jax.random.key(0), parameterization=p)
        for p in (fx.Standard(), fx.MuPC())
    )
    gradient = random_like(fx.weights(plain))
    optimizer = OptimizerChoice(0.1, name, learning_rate_schedule="constant").make(UPDATES)
    found = []
    for network in (plain, scaled):
        weights = fx.weights(network)
        own = jax.tree.unflatten(jax.tree.structure(weights), jax.tree.leaves(gradient))
        found.append(jax.tree.leaves(first_update(optimizer, weights, own)))
    expected = [1.0] * 3 if name == "sgd" else [1 / 4, 1 / 12, 1 / 4]
    for one, other, factor in zip(*found, expected, strict=True):
        np.testing.assert_allclose(other, factor * one, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("rule", [fx.Backprop(), fx.Equilibrium(output_precision=1.0)], ids=repr)
def test_accumulated_batches_are_one_large_batch(float64, rule):
    """Plain gradient descent at a fixed output precision: four batches of 8, one of 32."""
    network = jax.tree.map(
        lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, deep(activation="tanh")
    )
    x = jax.random.normal(jax.random.key(2), (64, 5))
    y = jax.random.normal(jax.random.key(3), (64, 3))
    found = []
    for accumulate in (1, 4):
        updates = 2 * accumulate
        choice = OptimizerChoice(
            0.3, "sgd", learning_rate_schedule="constant", momentum=0.5, accumulate=accumulate
        )
        learner = fx.Learner(rule, choice.make(updates))
        batches = (x.reshape(updates, -1, 5), y.reshape(updates, -1, 3))
        keys = jax.random.split(jax.random.key(4), updates)
        taken, _, _ = eqx.filter_jit(learner.updates)(
            network, learner.begin(network), batches, keys
        )
        found.append(jax.tree.leaves(fx.weights(taken)))
    begun = jax.tree.leaves(fx.weights(network))
    for one, other, before in zip(*found, begun, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-12)
        assert np.abs(np.asarray(one - before)).max() > 1e-4


def test_statistics_move_with_every_batch_while_weights_wait():
    network = fx.models.vgg(
        5, image_shape=(16, 16, 1), width=0.0625, normalization="batch", key=jax.random.key(0)
    )
    learner = fx.Learner(fx.Backprop(), OptimizerChoice(0.1, accumulate=2).make(4))
    x = jax.random.normal(jax.random.key(1), (8, 16, 16, 1))
    y = jnp.arange(8) % 3
    taken, _, _ = eqx.filter_jit(learner.update)(
        network, learner.begin(network), (x, y), jax.random.key(2)
    )
    pairs = zip(
        jax.tree.leaves(fx.weights(taken)), jax.tree.leaves(fx.weights(network)), strict=True
    )
    assert all(np.array_equal(*pair) for pair in pairs)
    means = [norm.statistics.mean for n in (taken, network) for norm in norms(n)[:1]]
    assert not np.array_equal(*means)


def norms(network):
    parts = jax.tree.leaves(network, is_leaf=lambda part: isinstance(part, BatchNorm))
    return [part for part in parts if isinstance(part, BatchNorm)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_incremental_learning_has_one_of_every_entry(name):
    network = deep()
    choice = OptimizerChoice(0.05, name, clip=1.0, warm_up=2)
    learner = fx.Learner(fx.Incremental(output_precision=1.0), choice.make(UPDATES))
    x = jax.random.normal(jax.random.key(2), (16, 5))
    taken, _, report = eqx.filter_jit(learner.update)(
        network, learner.begin(network), (x, jnp.zeros((16, 3))), jax.random.key(3)
    )
    assert np.isfinite(report.loss)
    for entry in ("first", "hidden", "output"):
        one, other = (layer_of(each, entry, "map") for each in (taken, network))
        moved = np.abs(np.asarray(one - other)).reshape(-1, one.shape[-2] * one.shape[-1])
        assert (moved.max(axis=1) > 0).all()


def test_incremental_muon_is_orthogonal_block_by_block(float64):
    """Under vectorization over blocks as over the whole stack."""
    network = jax.tree.map(
        lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, deep()
    )
    optimizer = OptimizerChoice(0.1, "muon", learning_rate_schedule="constant").make(UPDATES)
    part = fx.weights(network).entry("hidden")
    gradient = random_like(part)
    init, update = part.over_nodes(optimizer.init), part.over_nodes(optimizer.update)
    own = part.learned_function()
    found, _ = update(gradient.learned_function(), init(own), own)
    whole = first_update(optimizer, part, gradient)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


# What is given where nothing is


def test_the_default_is_adam_by_a_cosine_bit_for_bit():
    weights = fx.weights(deep())
    ours = OptimizerChoice(0.5).make(UPDATES)
    theirs = fx.scale_learning_rates(cosine_adam(0.5, UPDATES))
    states = ours.init(weights), theirs.init(weights)
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    for seed in range(3):
        gradient = random_like(weights, seed)
        one, first = ours.update(gradient, states[0], weights)
        other, second = theirs.update(gradient, states[1], weights)
        states = first, second
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"optimizer": "adm"}, "unknown optimizer 'adm'. Did you mean 'adam'"),
        ({"learning_rate_schedule": "cos"}, "unknown learning_rate_schedule"),
        ({"momentum": 0.9}, "'adam' has no momentum; leave it out, or use optimizer 'sgd'"),
        ({"weight_decay": 0.1}, "'adam' has no weight_decay"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum must be .* below 1"),
        ({"clip": 0.0}, "clip must be a positive"),
        ({"accumulate": 0}, "accumulate must be an integer of at least 1"),
        ({"warm_up": 1.5}, "warm_up must be .* below 1"),
        ({"warm_up": -1}, "warm_up must be an integer of at least 0"),
        ({"warm_up": UPDATES}, "warm_up takes 10 of 10 updates"),
        ({"accumulate": 11}, "accumulate is 11, but there are 10 batches"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(given, words):
    with pytest.raises(ValueError, match=words) as caught:
        OptimizerChoice(0.1, **given).make(UPDATES)
    assert "\n" not in str(caught.value)
