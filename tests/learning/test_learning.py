"""Learning rules against definitions, finite differences and backprop; strength; alignment."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.diagnostics.alignment import node_dot
from fathomx.layers.scaled import Linear
from fathomx.models.mlp import Dense

KEY = jax.random.key(11)


@eqx.filter_jit
def learn(rule, problem, key=KEY):
    return rule.gradient(problem, key)


infer, strength, align = map(eqx.filter_jit, (fx.infer, fx.strength, fx.alignment))


def build(output=None, seed=0):
    return fx.models.residual_mlp(
        5,
        3,
        width=6,
        depth=4,
        activation="tanh",
        parameterization=fx.MuPC(),
        key=jax.random.key(seed),
        output=output,
    )


def batch(size=7, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, 5)), rng.integers(3, size=size)


def flat(gradient):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])


# The gradients


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("output", [fx.Gaussian(), fx.Categorical()], ids=["gaussian", "softmax"])
def test_equilibrium_is_the_energys_gradient_over_the_precision(output):
    solver, precision = fx.GaussNewton(), 0.7
    problem = fx.Problem(build(output=output), *batch(), output_precision=precision)
    relaxed = infer(problem, solver)
    weights, rest = eqx.partition(problem.network, eqx.is_inexact_array)

    def energy(weights):
        network = eqx.combine(weights, rest)
        there = fx.Problem(network, problem.input, problem.target, output_precision=precision)
        return fx.energy(there, relaxed.activities).sum()

    by_definition = flat(jax.grad(energy)(weights)) / precision
    local = flat(fx.weight_gradient(problem, relaxed.activities)) / precision
    # The problem's own precision is not the rule's.
    other = fx.Problem(problem.network, problem.input, problem.target, output_precision=5.0)
    gradient, _ = learn(fx.Equilibrium(solver, output_precision=precision), other)
    scale = jnp.abs(by_definition).max()
    np.testing.assert_allclose(flat(gradient), by_definition, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(flat(gradient), local, rtol=0, atol=1e-12 * scale)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("solver", "output"),
    [(fx.Newton(tolerance=1e-10), fx.Gaussian()), (fx.GaussNewton(), fx.Categorical())],
    ids=["newton, gaussian", "gauss-newton, softmax"],
)
def test_equilibrium_tends_to_backprop_in_proportion_to_the_precision(solver, output):
    problem = fx.Problem(build(output=output), *batch())
    backprop = flat(learn(fx.Backprop(), problem)[0])

    def distance(precision):
        gradient, _ = learn(fx.Equilibrium(solver, output_precision=precision), problem)
        return float(jnp.linalg.norm(flat(gradient) - backprop) / jnp.linalg.norm(backprop))

    near, nearest = distance(1e-3), distance(1e-4)
    assert 0 < nearest < 1e-3
    # The order of convergence is 1, up to a term of the next order in 1e-3.
    assert math.log10(near / nearest) == pytest.approx(1, abs=2e-3)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("output", [fx.Gaussian(), fx.Categorical()], ids=["gaussian", "softmax"])
def test_backprop_agrees_with_finite_differences(output):
    network = build(output=output)
    x, labels = batch()
    gradient, _ = learn(fx.Backprop(), fx.Problem(network, x, labels, 9.0))
    target = np.eye(3)[labels]

    def loss(network):
        predicted = fx.predict(network, x)
        if isinstance(output, fx.Categorical):
            return -(target * jax.nn.log_softmax(predicted)).sum(-1).mean()
        return 0.5 * ((target - predicted) ** 2).sum(-1).mean()

    rng = np.random.default_rng(5)
    step = 1e-5
    for _ in range(4):
        direction = jax.tree.map(
            lambda a: jnp.asarray(rng.normal(size=a.shape)),
            eqx.filter(network, eqx.is_inexact_array),
        )

        def moved(by, direction=direction):
            return loss(eqx.apply_updates(network, jax.tree.map(lambda d: by * d, direction)))

        numeric = (moved(step) - moved(-step)) / (2 * step)
        along = flat(gradient) @ flat(direction)
        np.testing.assert_allclose(along, numeric, rtol=1e-7, atol=1e-9)


def with_stack(name):
    """A network with a stack: of one matrix a block, with vectors or without, or of two."""
    shape = {"width": 6, "depth": 5, "key": jax.random.key(2)}
    if name == "one matrix":
        return fx.models.residual_mlp(5, 3, parameterization=fx.MuPC(), **shape)
    if name == "bias":
        return fx.models.mlp(5, 3, activation="gelu", bias=True, **shape)
    if name == "two matrices":
        weights = jax.random.normal(jax.random.key(3), (2, 3, 5, 5))
        blocks = fx.Stack("hidden", TwoMatrices(*weights))
        return fx.Network([blocks, fx.Node("output", Linear(jnp.eye(5)[:3]))], (5,))
    network = fx.models.residual_mlp(5, 3, activation="tanh", bias=True, **shape)
    return fx.rematerialized(network) if name == "recomputed" else network


class TwoMatrices(eqx.Module):
    first: jax.Array
    second: jax.Array

    def __call__(self, activity):
        return activity + self.second @ jnp.tanh(self.first @ activity)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["one matrix", "bias", "recomputed", "clamped", "two matrices"])
def test_backprop_through_a_stack_is_the_derivative_of_the_loss(name):
    """Backprop takes the derivative in a stack's weights apart from the loop; `jax.grad` of what
    the network predicts does not."""
    network = with_stack(name)
    x, labels = batch()
    target = jnp.eye(3)[labels]
    clamps = {network.roots[0].name: x, "output": target}
    if name == "clamped":
        clamps["hidden"] = fx.Clamp(jnp.ones((3, 7, 6)), jnp.arange(6) < 2)
    problem = fx.Problem(network, clamps)

    def loss(network):
        there = problem.with_network(network)
        return there.mean(there.loss(there.explain({})[0]))

    expected = eqx.filter_grad(loss)(network)
    gradient, _ = learn(fx.Backprop(), problem)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        assert jnp.abs(other).max() > 1e-3
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "rule",
    [
        fx.Equilibrium(),
        fx.Backprop(),
        fx.ForwardUpdate(),
        fx.Incremental(),
        fx.EquilibriumPropagation(),
        fx.EquilibriumPropagation(centered=False),
    ],
    ids=["equilibrium", "backprop", "forward", "incremental", "centered", "one-sided"],
)
def test_gradients_are_shaped_like_the_weights(rule):
    network = build()
    gradient, _ = learn(rule, fx.Problem(network, *batch()))
    weights = eqx.filter(network, eqx.is_inexact_array)
    assert jax.tree.structure(gradient) == jax.tree.structure(weights)
    for mine, weight in zip(jax.tree.leaves(gradient), jax.tree.leaves(weights), strict=True):
        assert mine.shape == weight.shape
        assert mine.dtype == weight.dtype


# The reports


@pytest.mark.usefixtures("float64")
def test_the_report_of_equilibrium():
    network = build()
    x, labels = batch()
    problem = fx.Problem(network, x, labels)
    _, report = learn(fx.Equilibrium(fx.GaussNewton(), output_precision=0.25), problem)
    predicted = fx.predict(network, x)
    loss = 0.5 * ((np.eye(3)[labels] - predicted) ** 2).sum(-1).mean()
    np.testing.assert_allclose(report.loss, loss, rtol=1e-12)
    hits = np.asarray(predicted).argmax(-1) == labels
    np.testing.assert_allclose(report.accuracy, hits.mean(), rtol=1e-12)
    assert report.output_precision == 0.25
    held = fx.Problem(network, x, labels, output_precision=0.25)
    relaxed = infer(held, fx.GaussNewton())
    np.testing.assert_allclose(report.energy, relaxed.energy, rtol=1e-12)
    np.testing.assert_allclose(report.unsettled_median, np.median(relaxed.unsettled), rtol=1e-12)
    np.testing.assert_allclose(report.unsettled_max, np.max(relaxed.unsettled), rtol=1e-12)
    np.testing.assert_allclose(report.strength, strength(held, KEY), rtol=1e-12)


def test_the_report_of_backprop_has_no_inference():
    network = build()
    x, labels = batch()
    _, report = learn(fx.Backprop(), fx.Problem(network, x, labels, 3.0))
    predicted = fx.predict(network, x)
    loss = 0.5 * ((np.eye(3)[labels] - predicted) ** 2).sum(-1).mean()
    np.testing.assert_allclose(report.loss, loss, rtol=1e-6)
    assert report.accuracy == pytest.approx((np.asarray(predicted).argmax(-1) == labels).mean())
    for name in ("unsettled_median", "unsettled_max", "strength", "output_precision"):
        assert np.isnan(getattr(report, name)), name
    np.testing.assert_allclose(report.energy, [0] * (network.depth - 1) + [loss], rtol=1e-6)


# Strength


def layered(precisions):
    """A plain network of single nodes whose hidden nodes have these precisions."""
    sizes = [4, 6, 5, 6, 3]
    rng = np.random.default_rng(8)
    nodes = []
    for index, (into, out) in enumerate(itertools.pairwise(sizes)):
        linear = Linear(jnp.asarray(rng.normal(size=(out, into)) / math.sqrt(into)))
        function = linear if index == 0 else Dense(linear, jnp.tanh)
        energy = fx.Gaussian(precisions[index]) if index < len(precisions) else None
        nodes.append(fx.Node(f"node{index}", function, energy=energy))
    return fx.Network(nodes, input_shape=(4,))


def dense_matrices(network, x, precisions):
    """`J Pi^-1 J^T` of every example, by differentiating the layers written out by hand."""
    first, *others = [
        node.function if i == 0 else node.function.linear
        for i, node in enumerate(network.entries[1:])
    ]

    def output(errors, example):
        activity = first.weight @ example + errors[0]
        for linear, error in zip(others, [*errors[1:], 0.0], strict=True):
            activity = linear.weight @ jnp.tanh(activity) + error
        return activity

    matrices = []
    for example in x:
        zeros = [jnp.zeros(size) for size in (6, 5, 6)]
        jacobians = jax.jacfwd(output)(zeros, example)
        matrices.append(sum(j @ j.T / pi for j, pi in zip(jacobians, precisions, strict=True)))
    return np.stack(matrices)


def hutchinson(matrices):
    """Mean over the batch of `z^T A z / d_y` with random signs: its mean and its spread."""
    count, size, _ = matrices.shape
    exact = np.trace(matrices, axis1=1, axis2=2).mean() / size
    off = matrices * (1 - np.eye(size))
    return exact, math.sqrt(2 * (off**2).sum()) / count / size


PRECISIONS = (2.0, 0.5, 3.0)


@pytest.mark.usefixtures("float64")
def test_strength_estimates_the_trace_of_the_dense_matrix():
    network, output_precision = layered(PRECISIONS), 0.3
    x = np.random.default_rng(2).normal(size=(8, 4))
    problem = fx.Problem(network, x, np.zeros((8, 3)), output_precision=output_precision)
    exact, spread = hutchinson(dense_matrices(network, x, PRECISIONS))
    keys = jax.random.split(jax.random.key(0), 4000)
    found = np.asarray(jax.jit(jax.vmap(lambda key: strength(problem, key)))(keys))
    error = output_precision * spread / math.sqrt(len(keys))
    assert abs(found.mean() - output_precision * exact) < 5 * error
    # Independent signs for every example, or the spread would not shrink with the batch.
    assert found.std() == pytest.approx(output_precision * spread, rel=0.1)


@pytest.mark.usefixtures("float64")
def test_strength_is_proportional_to_the_output_precision():
    problem = fx.Problem(build(), *batch(), output_precision=1.0)
    one = strength(problem, KEY)
    for precision in (1e-3, 0.5, 40.0):
        scaled = strength(problem.with_output_precision(precision), KEY)
        np.testing.assert_allclose(scaled, precision * one, rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_strength_does_not_depend_on_the_target():
    network, (x, labels) = build(), batch()
    there = strength(fx.Problem(network, x, labels), KEY)
    assert there == strength(fx.Problem(network, x, (labels + 1) % 3), KEY)


@pytest.mark.usefixtures("float64")
def test_the_strength_held_is_the_true_one_within_monte_carlo_error():
    wanted, network = 2.0, layered(PRECISIONS)
    x = np.random.default_rng(3).normal(size=(64, 4))
    problem = fx.Problem(network, x, np.random.default_rng(4).integers(3, size=64))
    exact, spread = hutchinson(dense_matrices(network, x, PRECISIONS))
    rule = fx.Equilibrium(fx.GaussNewton(), output_precision=fx.HoldStrength(wanted))
    _, report = learn(rule, problem)
    np.testing.assert_allclose(report.strength, wanted, rtol=1e-12)
    true = float(report.output_precision) * exact
    assert abs(wanted / true - 1) < 5 * spread / exact
    # An estimate with other signs agrees as well.
    again = strength(problem.with_output_precision(report.output_precision), jax.random.key(77))
    assert abs(float(again) / true - 1) < 5 * spread / exact


def test_the_precision_stays_finite_where_the_output_does_not_depend_on_hidden_nodes():
    network = build()
    weight = network.entries[-1].function.linear.weight
    silent = eqx.tree_at(lambda n: n.entries[-1].function.linear.weight, network, 0 * weight)
    gradient, report = learn(fx.Equilibrium(), fx.Problem(silent, *batch()))
    assert np.isfinite(report.output_precision)
    assert np.isfinite(flat(gradient)).all()


# Alignment


@pytest.mark.usefixtures("float64")
def test_backprop_is_aligned_with_itself():
    problem = fx.Problem(build(), *batch())
    found = align(problem, fx.Backprop(), KEY)
    np.testing.assert_allclose(found.cosine, np.ones(4), rtol=1e-12)
    np.testing.assert_allclose(found.ratio, np.ones(4), rtol=1e-12)
    np.testing.assert_allclose(found.overall, 1, rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_alignment_by_hand():
    problem = fx.Problem(build(), *batch())
    rule = fx.Equilibrium(output_precision=2.0)
    found = align(problem, rule, KEY)
    ours, theirs = learn(rule, problem)[0], learn(fx.Backprop(), problem)[0]

    def rows(gradient):
        first, hidden, last = gradient.entries[1:]
        blocks = list(hidden.block.branch.linear.weight)
        return [first.function.weight, *blocks, last.function.linear.weight]

    pairs = list(zip(rows(ours), rows(theirs), strict=True))
    assert len(pairs) == 4
    dots = [float((a * b).sum()) for a, b in pairs]
    np.testing.assert_allclose(node_dot(ours, theirs), dots, rtol=1e-12)
    lengths = [(float(jnp.linalg.norm(a)), float(jnp.linalg.norm(b))) for a, b in pairs]
    cosines = [dot / a / b for dot, (a, b) in zip(dots, lengths, strict=True)]
    np.testing.assert_allclose(found.cosine, cosines, rtol=1e-10)
    np.testing.assert_allclose(found.ratio, [a / b for a, b in lengths], rtol=1e-10)
    whole = sum(dots) / math.prod(np.sqrt(np.square(lengths).sum(axis=0)))
    np.testing.assert_allclose(found.overall, whole, rtol=1e-10)
    assert found.overall < 0.9999


# Mistakes


@pytest.mark.parametrize("rule", [fx.Equilibrium, fx.ForwardUpdate, fx.Incremental])
@pytest.mark.parametrize("precision", [0.0, -1.0, math.nan, math.inf])
def test_the_output_precision_must_be_positive_and_finite(precision, rule):
    with pytest.raises(ValueError, match="output_precision must be") as caught:
        rule(output_precision=precision)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan, math.inf])
def test_the_nudge_must_be_positive_and_finite(size):
    with pytest.raises(ValueError, match="beta must be") as caught:
        fx.EquilibriumPropagation(beta=size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strength", [0.0, -0.1, math.nan, math.inf])
def test_the_strength_must_be_positive_and_finite(strength):
    with pytest.raises(ValueError, match="strength must be a positive, finite number"):
        fx.HoldStrength(strength)


@pytest.mark.parametrize(
    "rule", [fx.Equilibrium, fx.ForwardUpdate, fx.Incremental, fx.EquilibriumPropagation]
)
@pytest.mark.parametrize("solver", ["newton", 3, fx.Newton], ids=["name", "number", "class"])
def test_the_solver_must_be_a_solver(solver, rule):
    with pytest.raises(TypeError, match="solver"):
        rule(solver)
