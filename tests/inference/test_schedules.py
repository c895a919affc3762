"""Arrivals by hand and by brute force; schedules of precisions against loops over the equations."""

import collections
import itertools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.graph.arrival import NEVER, arrivals, by_entry, first_moves
from fathomx.problem.energies import evaluated_energies
from fathomx.problem.evaluation import Linearization
from fathomx.problem.local_energy import _Part

infer = eqx.filter_jit(fx.infer)


class Map(eqx.Module):
    """`W tanh(sum of parents)`."""

    weight: jax.Array

    def __call__(self, *parents):
        return self.weight @ jnp.tanh(sum(parents[1:], start=parents[0]))


class Linear(eqx.Module):
    """`W z`."""

    weight: jax.Array

    def __call__(self, activity):
        return self.weight @ activity


class Scale(eqx.Module):
    """`w z`, one number after the other."""

    weight: jax.Array

    def __call__(self, activity):
        return self.weight * activity


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def graph(spec, stacks=None, size=3, inputs=2, seed=0):
    """A generic network of nodes `{name: parents}`; `stacks` says how many blocks an entry has."""
    nodes = []
    for index, (name, parents) in enumerate(spec.items()):
        if stacks and name in stacks:
            block = Map(jnp.asarray(normal((seed, index), stacks[name], size, size)))
            nodes.append(fx.Stack(name, block, parents=parents))
        else:
            wide = inputs if parents == ("input",) else size
            function = Map(jnp.asarray(normal((seed, index), size, wide)))
            nodes.append(fx.Node(name, function, parents=parents))
    return fx.Network(nodes, (inputs,))


def some_problem(network, batch=3, precision=0.7):
    return fx.Problem(
        network,
        normal(90, batch, *network.input_shape),
        normal(91, batch, *network.output_shape),
        precision,
    )


# Arrivals


CHAIN = {"a": ("input",), "b": ("a",), "c": ("b",), "d": ("c",), "out": ("d",)}
# Network, blocks of its stacks, arrivals and first moves, worked out by hand.
GRAPHS = {
    "chain": (CHAIN, {}, (4, 3, 2, 1, 0), (3, 2, 1, 0, 0)),
    # d and a are parents of the output: both move in step 0, and with a moves the prediction of b.
    # In step 1 b moves by its own error, and c as the parent of d.
    "skip": ({**CHAIN, "out": ("d", "a")}, {}, (1, 1, 2, 1, 0), (0, 1, 1, 0, 0)),
    # The skip starts one node later: a is reached from b's error.
    "skip past the first": ({**CHAIN, "out": ("d", "b")}, {}, (2, 1, 1, 1, 0), (1, 0, 1, 0, 0)),
    # From a two branches; the long one leads nowhere, and is reached through a, whose move in step
    # 0 changes the prediction of s, whose error moves it in step 1, which changes that of t, ...
    "dead end": (
        {"a": ("input",), "s": ("a",), "t": ("s",), "u": ("t",), "out": ("a",)},
        {},
        (1, 1, 2, 3, 0),
        (0, 1, 2, 3, 0),
    ),
    # A long branch beside a direct edge is reached from both of its ends.
    "both ends": (
        {
            "a": ("input",),
            "b": ("a",),
            "c": ("b",),
            "d": ("c",),
            "e": ("d",),
            "f": ("e",),
            "out": ("a", "f"),
        },
        {},
        (1, 1, 2, 3, 2, 1, 0),
        (0, 1, 2, 2, 1, 0, 0),
    ),
    # Nothing connects q with the output or with a node that moves.
    "never": (
        {"a": ("input",), "q": ("input",), "b": ("a",), "out": ("b",)},
        {},
        (2, NEVER, 1, 0),
        (1, NEVER, 0, 0),
    ),
    "stack": (
        {"a": ("input",), "s": ("a",), "out": ("s",)},
        {"s": 3},
        (4, 3, 2, 1, 0),
        (3, 2, 1, 0, 0),
    ),
    # As "both ends", with the long branch as a stack.
    "stack beside an edge": (
        {"a": ("input",), "s": ("a",), "out": ("a", "s")},
        {"s": 5},
        (1, 1, 2, 3, 2, 1, 0),
        (0, 1, 2, 2, 1, 0, 0),
    ),
    "two stacks": (
        {"a": ("input",), "s": ("a",), "b": ("s",), "t": ("b",), "out": ("t", "a")},
        {"s": 2, "t": 2},
        # a and t[1] in step 0; with a the error of s[0], with t[1] that of nobody else; in step 1
        # s[0] and t[0], with s[0] the error of s[1]; in step 2 s[1] and b.
        (1, 1, 2, 3, 2, 1, 0),
        (0, 1, 2, 2, 1, 0, 0),
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_arrivals_by_hand(name):
    spec, stacks, expected, moves = GRAPHS[name]
    network = graph(spec, stacks)
    assert fx.arrivals(network) == expected
    assert first_moves(network) == moves


def descend(problem, steps, rate=0.4, weights=None):
    """Gradient descent on `sum_l w_l(t) F_l` by `jax.grad`: energies of all steps, activities."""
    batch = problem.batch

    def total(activities, weights):
        return batch * (weights * fx.energy(problem, activities)).sum()

    def step(activities, weights):
        gradient = jax.grad(total)(activities, weights)
        after = jax.tree.map(lambda z, g: z - rate * g, activities, gradient)
        return after, (fx.energy(problem, after), after)

    start = problem.network.unroll(None, problem.input)
    start.pop(problem.network.output.name)
    if weights is None:
        weights = np.ones((steps, problem.network.depth))
    _, (energies, path) = jax.lax.scan(step, start, jnp.asarray(weights))
    energies = jnp.concatenate([fx.energy(problem, start)[None], energies])
    path = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, path)
    return energies, path


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["skip", "dead end", "never", "stack", "stack beside an edge"])
def test_arrivals_are_the_steps_at_which_energies_leave_zero(name):
    """Of gradient descent that knows nothing of arrivals, and of the solver that uses them."""
    spec, stacks, expected, _ = GRAPHS[name]
    problem = some_problem(graph(spec, stacks, seed=3))
    steps = problem.network.depth + 2
    plain, path = eqx.filter_jit(descend)(problem, steps)
    solver = fx.StateDescent(optax.sgd(0.4), steps=steps)
    _, (energies, activities) = fx.trace(
        problem, solver, lambda p, e: (fx.energy(p, e.activities), e.activities)
    )
    for rows in map(np.asarray, (plain, energies)):
        # The smallest energy that is not zero is about 1e-8 here, rounding is about 1e-32.
        first = [int(np.argmax(row > 1e-20)) if row.max() > 1e-20 else -1 for row in rows.T]
        assert first == [a if a < len(expected) else -1 for a in expected]
    for entry in problem.network.hidden:
        np.testing.assert_allclose(activities[entry], path[entry], rtol=0, atol=1e-12)


# The two-node skip of residual networks


@pytest.mark.parametrize("depth", [10, 18])
def test_auxiliary_nodes_restore_the_timing_of_residual_blocks(depth):
    def arrival(auxiliary):
        build = partial(fx.models.resnet, depth, width=1 / 16, auxiliary=auxiliary)
        # Only the graph, without its arrays.
        network = eqx.filter_eval_shape(build, key=jax.random.key(0))
        return dict(zip(network.labels, fx.arrivals(network), strict=True))

    timed, early = arrival(True), arrival(False)
    blocks = [name.removesuffix(".conv1") for name in timed if name.endswith(".conv1")]
    assert len(blocks) == (depth - 2) // 2
    # A chain of that many weight layers, whatever the skips.
    main = ["stem", *(f"{b}.conv{i}" for b in blocks for i in (1, 2)), "output"]
    assert [timed[name] for name in main] == list(range(depth - 1, -1, -1))
    for block in blocks:
        for i in (1, 2):
            assert timed[f"{block}.conv{i}"] == timed[f"{block}.skip{i}"], block
    for before, block in zip(["stem", *(f"{b}.conv2" for b in blocks)], blocks, strict=False):
        assert early[before] < early[f"{block}.conv1"] + 1, block
    # One step per block along the skips, instead of two.
    assert early["stem"] == len(blocks) + 1


# The schedules


# Weights at steps 0..6 of four nodes (five with the input), which are reached in steps 3, 2, 1, 0:
# c exp(-j) with c = 0.01 / (1 - 1/e) = 0.0158197671, None before the arrival.
D1, D2, D3 = 0.005819767068693264, 0.002140972656978841, 0.0007876198246127141
D4, D5, D6 = 0.0002897491409340747, 0.0001065927520467329, 3.921328205587821e-05
TABLES = {
    "uniform": (
        fx.Uniform(),
        [
            [None, None, None, 1, 1, 1, 1],
            [None, None, 1, 1, 1, 1, 1],
            [None, 1, 1, 1, 1, 1, 1],
            [1, 1, 1, 1, 1, 1, 1],
        ],
    ),
    "spiking": (
        fx.Spiking(1e-3),
        [
            [None, None, None, 1, 0.001, 0.001, 0.001],
            [None, None, 1, 0.001, 0.001, 0.001, 0.001],
            [None, 1, 0.001, 0.001, 0.001, 0.001, 0.001],
            [1, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001],
        ],
    ),
    "decaying": (
        fx.Decaying(1.0),
        [
            [None, None, None, 1, D1, D2, D3],
            [None, None, 1, D1, D2, D3, D4],
            [None, 1, D1, D2, D3, D4, D5],
            [1, D1, D2, D3, D4, D5, D6],
        ],
    ),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", TABLES)
def test_the_table_of_weights(name):
    schedule, table = TABLES[name]
    arrivals = jnp.array([3, 2, 1, 0])
    for step in range(7):
        found = schedule.weights(arrivals, jnp.asarray(step))
        assert found.shape == (4,)
        for node in range(4):
            expected = table[node][step]
            if expected is not None:
                assert float(found[node]) == pytest.approx(expected, rel=1e-14), (node, step)


@pytest.mark.usefixtures("float64")
def test_the_rate_of_decay():
    # exp(-ln 2 j) = 2^-j, whose sum over j >= 0 is 2: c = 0.02.
    found = fx.Decaying(np.log(2)).weights(jnp.array([1]), jnp.asarray(4))
    np.testing.assert_allclose(found, [0.02 / 8], rtol=1e-14)
    assert fx.Decaying().rate == 1.0
    assert fx.Spiking().alpha == 1e-3


class Fading(fx.Schedule):
    """The schedule of `Precision`'s documentation."""

    def weights(self, arrivals, step):
        return 1.0 / (1 + jnp.maximum(step - arrivals, 0))


class PerNode(fx.Schedule):
    """A number for every node, traced, that counts more and more; not a number before."""

    gains: jax.Array

    def weights(self, arrivals, step):
        return jnp.where(step < arrivals, jnp.nan, self.gains * (1 + 0.1 * (step - arrivals)))


GAINS = [0.5, 1.2, 0.9, 0.7]
# The same schedules, written again for one node that has been reached for `age` steps.
SCHEDULES = {
    "uniform": (fx.Uniform, lambda age, node: 1.0),
    "spiking": (lambda: fx.Spiking(0.01), lambda age, node: 1.0 if age == 0 else 0.01),
    "decaying": (
        fx.Decaying,
        lambda age, node: 1.0 if age == 0 else 0.015819767068693264 * np.exp(-age),
    ),
    "fading": (Fading, lambda age, node: 1 / (1 + age)),
    "per node": (lambda: PerNode(jnp.array(GAINS)), lambda age, node: GAINS[node] * (1 + age / 10)),
}
# Rate, momentum and whether it is Nesterov's, for optax.sgd.
SGD = {"sgd": (0.3, 0.0, False), "momentum": (0.2, 0.5, False), "nesterov": (0.5, 0.9, True)}

WEIGHTS, OWN, OUTPUT = [1.3, -0.8, 0.6, 1.1], [2.0, 0.5, 1.0], 0.8
X, Y = np.array([0.7, -1.2, 0.4]), np.array([0.5, 0.9, -1.5])


def scalars():
    """`x -> 1.3 x -> -0.8 z -> 0.6 z -> 1.1 z`, of precisions 2, 0.5, 1 and 0.8."""
    energies = [fx.Gaussian(p) for p in OWN] + [fx.Gaussian(3.0)]
    network = fx.Network(
        [
            fx.Node(f"z{i}", Scale(jnp.array(w)), energy=energy)
            for i, (w, energy) in enumerate(zip(WEIGHTS, energies, strict=True))
        ],
        (1,),
    )
    return fx.Problem(network, X[:, None], Y[:, None], OUTPUT)


def optimizer(rate, momentum, nesterov):
    return optax.sgd(rate, momentum=momentum or None, nesterov=nesterov)


class Sgd:
    """The definition of `optax.sgd`: `v <- g + m v`; the step is `v`, Nesterov's `g + m v`."""

    def __init__(self, size, rate, momentum, nesterov):
        self.rate, self.momentum, self.nesterov = rate, momentum, nesterov
        self.velocity = np.zeros((size, len(X)))

    def step(self, gradient):
        self.velocity = gradient + self.momentum * self.velocity
        along = gradient + self.momentum * self.velocity if self.nesterov else self.velocity
        return self.rate * along


def forward():
    activities = [X]
    for w in WEIGHTS[:-1]:
        activities.append(w * activities[-1])
    return np.array(activities[1:])


def errors_at(z):
    """`z_l - w_l z_{l-1}` of all four nodes; the last activity is the target."""
    below, own = [X, *z], [*z, Y]
    return np.array([own[i] - WEIGHTS[i] * below[i] for i in range(4)])


def state_loop(weight, sgd, steps):
    """State descent by the equations: activities and unweighted energies before and after."""
    z, sgd = forward(), Sgd(3, *sgd)
    own = np.array([*OWN, OUTPUT])[:, None]
    path, energies = [z], [0.5 * own * errors_at(z) ** 2]
    for t in range(steps):
        ages = [t - arrival for arrival in (3, 2, 1, 0)]
        w = np.array([weight(age, i) if age >= 0 else 0.0 for i, age in enumerate(ages)])
        pushed = w[:, None] * own * errors_at(z)
        gradient = np.array([pushed[i] - WEIGHTS[i + 1] * pushed[i + 1] for i in range(3)])
        z = z - sgd.step(gradient)
        path.append(z)
        energies.append(0.5 * own * errors_at(z) ** 2)
    return np.array(path), np.array(energies)


def error_loop(weight, sgd, steps):
    """Error descent by the equations; the signal is everywhere in step 0."""
    e, sgd = np.zeros((3, len(X))), Sgd(3, *sgd)
    # d mu / d e_l: the product of the weights after node l.
    jacobian = np.array([-0.8 * 0.6 * 1.1, 0.6 * 1.1, 1.1])[:, None]
    path, energies = [], []
    for t in range(steps + 1):
        z, before = [], X
        for w, error in zip(WEIGHTS, e, strict=False):
            before = w * before + error
            z.append(before)
        residual = Y - WEIGHTS[-1] * before
        path.append(np.array(z))
        squares = [0.5 * p * error**2 for p, error in zip(OWN, e, strict=True)]
        energies.append(np.array([*squares, 0.5 * OUTPUT * residual**2]))
        w = np.array([weight(t, i) for i in range(4)])[:, None]
        gradient = w[:3] * np.array(OWN)[:, None] * e - w[3] * OUTPUT * residual * jacobian
        e = e - sgd.step(gradient)
    return np.array(path), np.array(energies)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "sgd", "loop"),
    [(name, "sgd", state_loop) for name in SCHEDULES]
    + [(name, "nesterov", state_loop) for name in ("uniform", "spiking", "decaying")]
    + [("fading", "momentum", state_loop)]
    + [("spiking", "sgd", error_loop), ("per node", "sgd", error_loop)]
    + [("spiking", "nesterov", error_loop)],
)
def test_descent_follows_the_schedule(name, sgd, loop):
    make, weight = SCHEDULES[name]
    solver = (fx.StateDescent if loop is state_loop else fx.ErrorDescent)(
        optimizer(*SGD[sgd]), steps=9, schedule=make()
    )
    problem = scalars()
    _, (activities, energies) = fx.trace(
        problem, solver, lambda p, e: (e.activities, evaluated_energies(p, e))
    )
    path, expected = loop(weight, SGD[sgd], 9)
    found = np.stack([activities[f"z{i}"][..., 0] for i in range(3)], axis=1)
    np.testing.assert_allclose(found, path, rtol=0, atol=1e-12)
    # The schedule weighs inference, not what is reported.
    np.testing.assert_allclose(energies, expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("precision", [fx.Uniform(), fx.Spiking(), fx.Decaying()], ids=repr)
def test_the_first_error_to_arrive(precision):
    """Every schedule that is 1 at the arrival hands on `rate^d` times the precisions and weights.

    z_3 moves by rate 0.8 1.1 e_4 in step 0, z_2 by rate 1 0.6 of that in step 1, z_1 by
    rate 0.5 -0.8 of that in step 2.
    """
    solver = fx.StateDescent(optax.sgd(0.3), steps=4, schedule=precision)
    problem = scalars()
    _, errors = fx.trace(problem, solver, lambda p, e: e.errors)
    residual = Y - 1.3 * -0.8 * 0.6 * 1.1 * X
    third = 0.3 * 0.8 * 1.1 * residual
    second = 0.3 * 0.6 * third
    first = 0.3 * 0.5 * -0.8 * second
    for name, step, expected in (("z2", 1, third), ("z1", 2, second), ("z0", 3, first)):
        np.testing.assert_allclose(errors[name][step, :, 0], expected, rtol=1e-13, atol=1e-15)


# Nodes that are not reached


FORCEFUL = {
    "decay": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)),
    "noise": optax.chain(optax.add_noise(0.01, 0.5, 3), optax.sgd(0.1)),
    "decay, then sign": optax.chain(optax.add_decayed_weights(0.1), optax.scale_by_sign()),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "force"),
    [("both ends", force) for force in FORCEFUL]
    + [("stack", "decay"), ("stack beside an edge", "decay")],
)
def test_nodes_that_are_not_reached_stay_bit_for_bit(name, force):
    """Under an optimizer that moves without a gradient."""
    spec, stacks, _, moves = GRAPHS[name]
    problem = some_problem(graph(spec, stacks, seed=5))
    network = problem.network
    solver = fx.StateDescent(FORCEFUL[force], steps=20)
    state, step = started(problem, solver), eqx.filter_jit(solver.step)
    begun = solver.activities(problem, state)
    for entry, activity in network.unroll(None, problem.input).items():
        if entry != network.output.name:
            np.testing.assert_allclose(begun[entry], activity, rtol=0, atol=1e-14)
    for taken in range(1, max(moves) + 3):
        state = step(problem, state)
        now = solver.activities(problem, state)
        rows, old = (
            [
                row
                for e in network.entries[1:-1]
                for row in (a[e.name] if e.depth > 1 else [a[e.name]])
            ]
            for a in (now, begun)
        )
        for row, before, first in zip(rows, old, moves, strict=False):
            moved = np.asarray(row) != np.asarray(before)
            assert moved.all() if taken > first else not moved.any(), (taken, first)


@eqx.filter_jit
def started(problem, solver):
    start = Linearization(problem, problem.network.zeros(problem.batch))
    return solver.init(problem, start, start.evaluation(problem))


@pytest.mark.usefixtures("float64")
def test_a_node_that_is_never_reached_never_moves():
    spec, stacks, *_ = GRAPHS["never"]
    problem = some_problem(graph(spec, stacks, seed=5))
    relaxed = infer(problem, fx.StateDescent(FORCEFUL["decay"], steps=12))
    forward = problem.network.unroll(None, problem.input)
    np.testing.assert_allclose(relaxed.activities["q"], forward["q"], rtol=0, atol=1e-14)


def test_spiking_does_not_wait_for_a_node_that_is_never_reached():
    """Arrivals 2, never, 1, 0: the signal has passed this network after three steps."""
    spec, stacks, *_ = GRAPHS["never"]
    solver = fx.StateDescent(optax.sgd(0.1), steps=3, schedule=fx.Spiking())
    assert int(infer(some_problem(graph(spec, stacks)), solver).steps.max()) == 3


# Stacks, of which only the end is computed


def singly(network):
    """The same network with every block as a node of its own."""
    nodes = []
    for entry in network.entries[1:]:
        parents = tuple(nodes[-1].name for _ in range(bool(nodes)))
        if isinstance(entry, fx.Stack):
            for row in range(entry.depth):
                block = jax.tree.map(
                    lambda a, row=row: a[row] if eqx.is_array(a) else a, entry.block
                )
                nodes.append(fx.Node(f"{entry.name}[{row}]", block, parents, entry.energy))
                parents = (nodes[-1].name,)
        else:
            nodes.append(fx.Node(entry.name, entry.function, parents, entry.energy))
    return fx.Network(nodes, network.input_shape)


def residual(depth, seed=0):
    return fx.models.residual_mlp(
        4,
        3,
        width=5,
        depth=depth,
        activation="tanh",
        parameterization=fx.MuPC(),
        key=jax.random.key(seed),
    )


@pytest.mark.usefixtures("float64")
def test_a_stack_relaxes_as_by_plain_gradient_descent():
    """After every step: before, when and after the signal has passed all nodes."""
    problem = some_problem(residual(20))
    steps = 43
    solver = fx.StateDescent(optax.sgd(0.4), steps=steps)
    _, activities = fx.trace(problem, solver, lambda p, e: e.activities)
    _, path = eqx.filter_jit(descend)(problem, steps)
    for name in problem.network.hidden:
        np.testing.assert_allclose(activities[name], path[name], rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_stack_relaxes_as_its_blocks_do_as_nodes():
    """With weights of its own for every block, which are no numbers before the arrival."""
    network, precision = residual(12), PerNode(jnp.linspace(0.5, 1.0, 12))
    solver = fx.StateDescent(
        optax.sgd(0.1, momentum=0.5, nesterov=True), steps=20, schedule=precision
    )
    ours = infer(some_problem(network), solver).activities
    theirs = infer(some_problem(singly(network)), solver).activities
    assert np.abs(ours["first"]).max() < 10
    np.testing.assert_allclose(ours["first"], theirs["first"], rtol=0, atol=1e-12)
    for row in range(10):
        np.testing.assert_allclose(
            ours["hidden"][row], theirs[f"hidden[{row}]"], rtol=0, atol=1e-12
        )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["both ends", "two stacks"])
def test_a_schedule_on_a_graph_is_descent_of_the_weighted_energy(name):
    """`sum_l w_l(t) F_l` by `jax.grad`, with the arrivals by hand."""
    spec, stacks, arrivals, _ = GRAPHS[name]
    problem = some_problem(graph(spec, stacks, seed=7))
    steps = 12
    table = np.zeros((steps, len(arrivals)))
    for t in range(steps):
        for node, arrival in enumerate(arrivals):
            table[t, node] = 1.0 if t == arrival else 0.25 if t > arrival else 0.0
    _, path = eqx.filter_jit(descend)(problem, steps, weights=table)
    solver = fx.StateDescent(optax.sgd(0.4), steps=steps, schedule=fx.Spiking(0.25))
    _, activities = fx.trace(problem, solver, lambda p, e: e.activities)
    for entry in problem.network.hidden:
        np.testing.assert_allclose(activities[entry], path[entry], rtol=0, atol=1e-12)


# They cost nothing


CALLS = collections.Counter()


class Counting(eqx.Module):
    """`W tanh(z)`, and one more call of its name whenever it is computed for an example."""

    weight: jax.Array
    name: str = eqx.field(static=True)

    def __call__(self, activity):
        jax.debug.callback(lambda _: CALLS.update([self.name]), activity)
        return self.weight @ jnp.tanh(activity)


def calls_per_step(network, steps):
    """How often every function is computed in each step of state descent, for one example."""
    problem = some_problem(network, batch=1)
    solver = fx.StateDescent(optax.sgd(0.1), steps=steps)
    state, step = started(problem, solver), eqx.filter_jit(solver.step)
    counts = []
    for _ in range(steps):
        jax.effects_barrier()
        CALLS.clear()
        state = jax.block_until_ready(step(problem, state))
        jax.effects_barrier()
        counts.append(dict(CALLS))
    return counts


def test_nodes_that_are_not_reached_are_not_computed():
    names = ["a", "b", "c", "d", "out"]
    network = fx.Network(
        [fx.Node(n, Counting(jnp.asarray(normal(i, 2, 2)), n)) for i, n in enumerate(names)], (2,)
    )
    counts = calls_per_step(network, 6)
    # The first node sees the input alone: its prediction is known from the start.
    expected = [names[max(-1 - t, -4) :] for t in range(6)]
    assert counts == [dict.fromkeys(reached, 1) for reached in expected]


@pytest.mark.parametrize("depth", [20, 4])
def test_of_a_stack_the_part_that_is_reached_is_computed(depth):
    """The last block is reached in step 1, and one more in every step."""
    network = fx.Network(
        [
            fx.Node("first", Counting(jnp.asarray(normal(0, 2, 2)), "first")),
            fx.Stack("stack", Counting(jnp.asarray(normal(1, depth, 2, 2)), "stack")),
            fx.Node("out", Counting(jnp.asarray(normal(2, 2, 2)), "out")),
        ],
        (2,),
    )
    for step, counts in enumerate(calls_per_step(network, depth + 3)):
        assert counts.get("stack", 0) == min(step, depth)
        assert counts["out"] == 1
        assert "first" not in counts


@pytest.mark.parametrize("step", [0, 1, 3, 7, 8, 9, 12])
@pytest.mark.parametrize("first", [True, False], ids=["behind a node", "behind the input"])
def test_a_stack_block_by_block_is_a_stack_at_once(step, first):
    """The form for processors against the one for accelerators, which no other test reaches."""
    depth = 8
    entries = [fx.Node("first", Map(jnp.asarray(normal(0, 3, 3))))] if first else []
    network = fx.Network(
        [
            *entries,
            fx.Stack("stack", Map(jnp.asarray(normal(1, depth, 3, 3))), energy=fx.Gaussian(0.7)),
            fx.Node("out", Map(jnp.asarray(normal(2, 2, 3)))),
        ],
        (3,),
    )
    problem = some_problem(network, batch=4)
    stack, when = network.entries[-2], by_entry(network, arrivals(network))["stack"]
    part = _Part(
        problem.energy_of(stack),
        stack,
        (first,),
        when,
        jnp.asarray(np.linspace(0.5, 2, depth)),
        jnp.asarray(step),
        None,
    )
    sources, own = [jnp.asarray(normal(3, 4, 3))], jnp.asarray(normal(4, depth, 4, 3))
    by_block = part._by_block(stack.chain, sources, own)
    at_once = part._at_once(sources, own)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), by_block, at_once)
    # Something is computed from the step in which the last block is reached.
    assert (np.abs(np.asarray(by_block[1])).max() > 0) == (step > 0)


# Mistakes


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.5, np.nan, np.inf])
def test_alpha_lies_between_zero_and_one(alpha):
    with pytest.raises(ValueError, match="alpha must be a finite number above 0 and") as caught:
        fx.Spiking(alpha)
    assert "\n" not in str(caught.value)
    assert repr(float(alpha)) in str(caught.value)


def test_alpha_may_be_one():
    assert fx.Spiking(1).alpha == 1.0


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
def test_the_rate_of_decay_is_positive_and_finite(rate):
    with pytest.raises(ValueError, match="rate must be a positive, finite number") as caught:
        fx.Decaying(rate)
    assert repr(float(rate)) in str(caught.value)


def test_spiking_needs_steps_for_all_nodes():
    problem = scalars()
    short = fx.StateDescent(optax.sgd(0.1), steps=3, schedule=fx.Spiking())
    with pytest.raises(ValueError, match=r"at least 4 inference steps.* takes 3") as caught:
        fx.infer(problem, short)
    assert "\n" not in str(caught.value)
    enough = fx.StateDescent(optax.sgd(0.1), steps=4, schedule=fx.Spiking())
    assert int(fx.infer(problem, enough).steps.max()) == 4
    # The others take any number, and in error descent one step reaches everybody.
    fx.infer(problem, fx.StateDescent(optax.sgd(0.1), steps=1, schedule=fx.Decaying()))
    fx.infer(problem, fx.ErrorDescent(optax.sgd(0.1), steps=1, schedule=fx.Spiking()))


@pytest.mark.parametrize("solver", [fx.StateDescent, fx.ErrorDescent])
@pytest.mark.parametrize("precision", [2.0, "spiking", fx.Gaussian(2.0), fx.Spiking], ids=repr)
def test_a_precision_is_a_schedule(solver, precision):
    with pytest.raises(TypeError, match="schedule must be a Schedule"):
        solver(optax.sgd(0.1), 5, precision)


class Chain:
    """Five linear nodes that nobody has trained, and three examples."""

    sizes = (4, 5, 3, 6, 4, 2)

    def __init__(self):
        rng = np.random.default_rng(5)
        pairs = itertools.pairwise(self.sizes)
        self.weights = [rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairs]
        nodes = [fx.Node(f"n{i}", Linear(jnp.asarray(w))) for i, w in enumerate(self.weights)]
        self.x, self.y = rng.normal(size=(3, 4)), rng.normal(size=(3, 2))
        self.problem = fx.Problem(fx.Network(nodes, (4,)), self.x, self.y, 1.0)

    def spiked(self, rate, steps, alpha):
        return infer(self.problem, fx.StateDescent(rate, steps=steps, schedule=fx.Spiking(alpha)))

    def moved(self, relaxed):
        """How far activities have moved, examples in columns."""
        fresh = infer(self.problem, fx.StateDescent(steps=0)).activities
        return {name: (relaxed.activities[name] - start).T for name, start in fresh.items()}

    def backward(self):
        """Nodes from the last on, their errors in backprop (columns: examples) and Jacobians."""
        d = self.y.T - np.linalg.multi_dot([*self.weights[::-1], self.x.T])
        for place in range(len(self.weights) - 1, -1, -1):
            # The first node's prediction cannot move.
            yield place, d, self.weights[place] if place else np.zeros((self.sizes[1], 1))
            d = self.weights[place].T @ d


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.95, 1.5])
def test_what_spiking_leaves_on_a_linear_chain(float64, rate):
    """`e_l = (1 - r) r^(L-l) (I - r J_l J_l^T) d_l`, worked out by following a chain step by step.

    Node `l` moves by `r^(L-l) d_l` when the error of its child spikes, and back by `r` times its
    own error in the next step; its parent, `J_l` its Jacobian, does the same a step later, and
    takes the prediction along. The first node's prediction cannot move.
    """
    chain = Chain()
    relaxed = chain.spiked(rate, len(chain.weights), 1e-9)
    found, moved = relaxed.errors, chain.moved(relaxed)

    (_, d, j), *others = chain.backward()
    np.testing.assert_allclose(found["n4"].T, d - rate * (1 - rate) * j @ j.T @ d, atol=1e-7)
    for place, d, j in others:
        length = (1 - rate) * rate ** (len(chain.weights) - 1 - place)
        expected = length * (d - rate * j @ j.T @ d)
        np.testing.assert_allclose(found[f"n{place}"].T, expected, atol=1e-7)
        # The forward update's target has no such factor.
        np.testing.assert_allclose(moved[f"n{place}"], length * d, atol=1e-7)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.95])
def test_every_further_step_moves_activities_by_alpha(float64, rate):
    """Difference quotients in `alpha` and in the number of steps against the formula.

    Own errors are `(1 - r) r^k (I - r J_l J_l^T) d_l` and the child's those of one node later, both
    of weight `alpha` now: a step is `r alpha (J^T e_child - e_l)`.
    """
    chain, alpha, further = Chain(), 1e-6, 3
    fewer, more = (
        chain.moved(chain.spiked(rate, len(chain.weights) + steps, alpha)) for steps in (1, 4)
    )
    *_, (_, _, child) = itertools.islice(chain.backward(), 2)
    for place, d, j in itertools.islice(chain.backward(), 2, None):
        length = (1 - rate) * rate ** (len(chain.weights) - 1 - place)
        step = length * ((d - rate * child.T @ child @ d) - rate * (d - rate * j @ j.T @ d))
        found = (more[f"n{place}"] - fewer[f"n{place}"]) / alpha / further
        np.testing.assert_allclose(found, step, rtol=1e-3, atol=1e-3 * np.abs(step).max())
        child = j
