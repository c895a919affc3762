"""Networks: shapes, graphs, stacks, errors, purity, compilation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core as jax_core

import fathomx as fx
from fathomx.graph.smoothness import has_kinks, is_linear


class Map(eqx.Module):
    """`W phi(z)`, or `W phi(sum of parents)`."""

    weight: jax.Array
    phi: object = eqx.field(static=True, default=jnp.tanh)

    def __call__(self, *parents):
        return self.weight @ self.phi(sum(parents[1:], start=parents[0]))


def weight(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[-1]))


def dag():
    """input (3) -> a (4) -> b (4), and the output (2) sees both: the skip is an edge."""
    return fx.Network(
        [
            fx.Node("a", Map(weight(1, 4, 3))),
            fx.Node("b", Map(weight(2, 4, 4))),
            fx.Node("out", Map(weight(3, 2, 4)), parents=("a", "b")),
        ],
        input_shape=(3,),
    )


def stacked_and_chained():
    """The same five maps once with a stack in the middle and once as single nodes."""
    first, blocks, last = weight(1, 4, 3), weight(2, 3, 4, 4), weight(3, 2, 4)
    stacked = fx.Network(
        [fx.Node("a", Map(first)), fx.Stack("s", Map(blocks)), fx.Node("out", Map(last))], (3,)
    )
    chained = fx.Network(
        [
            fx.Node("a", Map(first)),
            *(fx.Node(f"s{i}", Map(blocks[i])) for i in range(3)),
            fx.Node("out", Map(last)),
        ],
        (3,),
    )
    return stacked, chained


def random_like(entries, seed=0):
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=v.shape), v.dtype) for k, v in entries.items()}


def chain_entries(entries):
    """Entries of the stacked network as those of the chained one."""
    split = {f"s{i}": entries["s"][i] for i in range(3)}
    return {"a": entries["a"], **split, **{k: v for k, v in entries.items() if k == "out"}}


def close(a, b, tolerance=1e-12):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=tolerance, atol=tolerance)


INPUT = np.random.default_rng(7).normal(size=(5, 3))
TARGET = np.random.default_rng(8).normal(size=(5, 2))


# Shapes and graphs.


def test_a_network_knows_its_shapes_and_names():
    stacked, _ = stacked_and_chained()
    assert stacked.depth == 5
    assert stacked.labels == ("a", "s[0]", "s[1]", "s[2]", "out")
    assert stacked.shapes == {"input": (3,), "a": (4,), "s": (3, 4), "out": (2,)}
    assert stacked.hidden == ("a", "s")
    assert stacked.output.name == "out"
    assert stacked.output_shape == (2,)
    assert stacked.parents == {"input": (), "a": ("input",), "s": ("a",), "out": ("s",)}
    zeros = stacked.zeros(5)
    assert {k: v.shape for k, v in zeros.items()} == {"a": (5, 4), "s": (3, 5, 4)}


def test_activities_keep_any_shape():
    def image(x):
        return jnp.stack([x, 2 * x])

    def flat(z):
        return z.reshape(-1)[:3]

    network = fx.Network([fx.Node("image", image), fx.Node("flat", flat)], input_shape=(4, 4))
    assert network.shapes == {"input": (4, 4), "image": (2, 4, 4), "flat": (3,)}
    assert fx.predict(network, np.ones((6, 4, 4))).shape == (6, 3)


def test_two_parents_by_hand(float64):
    network = dag()
    w1, w2, w3 = (np.asarray(node.function.weight) for node in network.entries[1:])
    errors = random_like(network.zeros(5))
    e = {k: np.asarray(v) for k, v in errors.items()}
    a = np.tanh(INPUT) @ w1.T + e["a"]
    b = np.tanh(a) @ w2.T + e["b"]
    out = np.tanh(a + b) @ w3.T
    close(network.unroll(errors, jnp.asarray(INPUT)), {"a": a, "b": b, "out": out})

    z = random_like(network.zeros(5), seed=1)
    predicted = network.predictions(z, jnp.asarray(INPUT))
    za, zb = np.asarray(z["a"]), np.asarray(z["b"])
    expected = {
        "a": np.tanh(INPUT) @ w1.T,
        "b": np.tanh(za) @ w2.T,
        "out": np.tanh(za + zb) @ w3.T,
    }
    close(predicted, expected)


def test_a_parent_two_steps_up_that_is_a_stack_gives_its_last_block(float64):
    blocks = weight(2, 3, 4, 4)
    network = fx.Network(
        [
            fx.Node("a", Map(weight(1, 4, 3))),
            fx.Stack("s", Map(blocks)),
            fx.Node("b", Map(weight(4, 4, 4))),
            fx.Node("out", Map(weight(3, 2, 4)), parents=("s", "b", "a")),
        ],
        (3,),
    )
    z = random_like(network.zeros(5))
    out = np.tanh(np.asarray(z["s"])[-1] + np.asarray(z["b"]) + np.asarray(z["a"]))
    expected = out @ np.asarray(network.output.function.weight).T
    got = network.predictions(z, jnp.asarray(INPUT))["out"]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_a_stack_is_the_chain_of_its_blocks(float64):
    stacked, chained = stacked_and_chained()
    x = jnp.asarray(INPUT)
    errors = random_like(stacked.zeros(5))
    assert np.abs(errors["s"]).min() > 0
    close(chain_entries(stacked.unroll(errors, x)), chained.unroll(chain_entries(errors), x))
    close(chain_entries(stacked.unroll(None, x)), chained.unroll(None, x))
    z = random_like(stacked.zeros(5), seed=1)
    close(chain_entries(stacked.predictions(z, x)), chained.predictions(chain_entries(z), x))

    one, other = (fx.Problem(n, INPUT, TARGET, 0.3) for n in (stacked, chained))
    energy = fx.energy(one, z)
    assert energy.shape == (5,)
    np.testing.assert_allclose(energy, fx.energy(other, chain_entries(z)), rtol=1e-12)
    gradient = fx.weight_gradient(one, z)
    apart = fx.weight_gradient(other, chain_entries(z))
    blocks = jnp.stack([apart.entries[1:][i].function.weight for i in (1, 2, 3)])
    np.testing.assert_allclose(gradient.entries[2].block.weight, blocks, rtol=1e-12)
    for i, j in ((0, 0), (2, 4)):
        np.testing.assert_allclose(
            gradient.entries[1:][i].function.weight,
            apart.entries[1:][j].function.weight,
            rtol=1e-12,
        )


@pytest.mark.parametrize("build", [dag, lambda: stacked_and_chained()[0]], ids=["dag", "stack"])
def test_errors_and_activities_are_in_bijection(float64, build):
    network = build()
    problem = fx.Problem(network, INPUT, TARGET)
    errors = random_like(network.zeros(5))
    _, activities = problem.explain(errors)
    close(problem.errors_of(activities), errors)
    activities = random_like(network.zeros(5), seed=1)
    close(problem.explain(problem.errors_of(activities))[1], activities)


# Errors, with the name of the node.


def identity(x):
    return x


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: fx.Network(
                [fx.Node("a", Map(weight(1, 4, 3))), fx.Node("bad", Map(weight(1, 2, 5)))], (3,)
            ),
            ["'bad'", "(4,)"],
        ),
        (
            lambda: fx.Network(
                [fx.Node("hidden", identity), fx.Node("out", identity, parents=("hiden",))], (3,)
            ),
            ["'out'", "'hiden'", "Did you mean 'hidden'"],
        ),
        (
            lambda: fx.Network(
                [fx.Node("a", identity, parents=("b",)), fx.Node("b", identity)], (3,)
            ),
            ["'a'", "'b'", "precede"],
        ),
        (
            lambda: fx.Network([fx.Node("twin", identity), fx.Node("twin", identity)], (3,)),
            ["'twin'", "twice"],
        ),
        (
            lambda: fx.Network([fx.Node("input", identity), fx.Node("out", identity)], (3,)),
            ["'input'", "reserved"],
        ),
        (
            lambda: fx.Network(
                [fx.Stack("growing", Map(weight(1, 2, 4, 3))), fx.Node("out", identity)], (3,)
            ),
            ["'growing'", "(3,)", "(4,)"],
        ),
        (
            lambda: fx.Stack(
                "uneven",
                eqx.nn.Sequential([Map(jnp.ones((2, 3, 3)))] * 1 + [Map(jnp.ones((4, 3, 3)))]),
            ),
            ["'uneven'", "2", "4"],
        ),
        (lambda: fx.Stack("nothing", identity), ["'nothing'", "leading"]),
        (
            lambda: fx.Network(
                [fx.Node("a", identity), fx.Stack("last", Map(weight(1, 2, 3, 3)))], (3,)
            ),
            ["Stack", "output"],
        ),
        (
            lambda: fx.Problem(
                fx.Network(
                    [fx.Node("middle", identity, energy=fx.Categorical()), fx.Node("o", identity)],
                    (3,),
                ),
                np.ones((1, 3)),
                np.ones((1, 3)),
            ),
            ["'middle'", "Gaussian"],
        ),
        (
            lambda: fx.Network(
                [
                    fx.Node("a", identity),
                    fx.Stack("s", Map(weight(1, 2, 3, 3)), parents=("input", "a")),
                    fx.Node("out", identity),
                ],
                (3,),
            ),
            ["'s'", "one parent"],
        ),
        (lambda: fx.Network([fx.Node("only", identity)], (3,)), ["two nodes"]),
    ],
    ids=[
        "shape",
        "unknown parent",
        "order",
        "repeated name",
        "reserved name",
        "stack changes shape",
        "uneven stack",
        "stack without arrays",
        "output is a stack",
        "categorical hidden node",
        "stack with two parents",
        "one node",
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(ValueError, match=words[0]) as caught:
        build()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


# Purity and compilation.


def test_nothing_changes_what_it_is_given():
    network, _ = stacked_and_chained()
    problem = fx.Problem(network, INPUT, TARGET)
    errors = random_like(network.zeros(5))
    z = random_like(network.zeros(5), seed=1)
    whole = {**z, "out": problem.target}
    given = (network, problem, errors, z, whole)
    before = jax.tree.map(np.array, given)
    keys = [list(d) for d in (errors, z, whole)]
    network.unroll(errors, problem.input)
    network.predictions(whole, problem.input)
    problem.explain(errors)
    problem.errors_of(z)
    fx.energy(problem, whole)
    fx.weight_gradient(problem, whole)
    relaxed = eqx.filter_jit(fx.infer)(problem, fx.StateDescent(steps=2))
    fx.weight_gradient(problem, z, errors=relaxed.errors)
    assert keys == [list(d) for d in (errors, z, whole)]
    assert eqx.tree_equal(before, jax.tree.map(np.array, given))


class Counted(eqx.Module):
    """A map that counts how often Python runs it, which is how often it is traced."""

    weight: jax.Array
    calls: list = eqx.field(static=True)

    def __call__(self, z):
        self.calls.append(1)
        return jnp.tanh(self.weight @ z)


class Calls(list):
    """A list that is equal only to itself, as a static field must be to be hashed."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


@pytest.mark.parametrize(
    "solver", [fx.GaussNewton(), fx.StateDescent(steps=3)], ids=lambda s: type(s).__name__
)
def test_new_values_do_not_compile_again(solver):
    calls = Calls()

    def network(seed):
        return fx.Network(
            [
                fx.Node("a", Counted(weight(seed, 4, 3), calls)),
                fx.Stack("s", Counted(weight(seed + 1, 3, 4, 4), calls)),
                fx.Node("out", Counted(weight(seed + 2, 2, 4), calls)),
            ],
            (3,),
        )

    @eqx.filter_jit
    def step(network, x, y, precision):
        problem = fx.Problem(network, x, y, precision)
        relaxed = fx.infer(problem, solver)
        return fx.weight_gradient(problem, relaxed.activities)

    one, other = network(0), network(10)
    x, y, precision = jnp.asarray(INPUT), jnp.asarray(TARGET), jnp.asarray(0.5)
    step(one, x, y, precision)
    traced = len(calls)
    assert traced > 0
    step(other, x + 1, y - 1, precision * 3)
    assert len(calls) == traced


def equations(jaxpr):
    inner = sum(
        equations(getattr(sub, "jaxpr", sub))
        for equation in jaxpr.eqns
        for value in equation.params.values()
        for sub in (value if isinstance(value, tuple) else (value,))
        if isinstance(sub, (jax_core.Jaxpr, jax_core.ClosedJaxpr))
    )
    return len(jaxpr.eqns) + inner


@pytest.mark.parametrize(
    "solver",
    [fx.GaussNewton(), fx.StateDescent(steps=3), fx.Newton()],
    ids=lambda s: type(s).__name__,
)
def test_the_program_does_not_grow_with_depth(solver):
    def size(depth):
        network = fx.models.residual_mlp(3, 2, width=4, depth=depth, key=jax.random.key(0))

        def step(x, y):
            problem = fx.Problem(network, x, y)
            relaxed = fx.infer(problem, solver)
            return eqx.filter(fx.weight_gradient(problem, relaxed.activities), eqx.is_array)

        return equations(jax.make_jaxpr(step)(INPUT, TARGET).jaxpr)

    assert size(8) == size(128)


# What can be read off the program.


def causal_mean(z):
    """Attention over positions that sees the past only; the mask does not depend on z."""
    scores = z.reshape(4, 1) @ z.reshape(1, 4)
    rows = jax.lax.broadcasted_iota(jnp.int32, (4, 4), 0)
    columns = jax.lax.broadcasted_iota(jnp.int32, (4, 4), 1)
    mixed = jax.nn.softmax(jnp.where(columns <= rows, scores, -1e9), axis=-1)
    return mixed @ z


def masked_linear(z):
    """Linear although it compares: the mask comes from positions."""
    rows = jax.lax.broadcasted_iota(jnp.int32, (4, 4), 0)
    columns = jax.lax.broadcasted_iota(jnp.int32, (4, 4), 1)
    return jnp.where(columns <= rows, 0.5, 0.0) @ z


def pooled(z):
    return jax.lax.reduce_window(z, -jnp.inf, jax.lax.max, (2,), (1,), "SAME")


FUNCTIONS = {
    # name: (function of four numbers, linear, kinks)
    "linear": (identity, True, False),
    "affine": (lambda z: 2 * z + 1, True, False),
    "masked linear": (masked_linear, True, False),
    "residual linear": (lambda z: z + jnp.ones((4, 4)) @ z, True, False),
    "mean": (lambda z: z - z.mean(), True, False),
    "square": (lambda z: z**2, False, False),
    "tanh": (jnp.tanh, False, False),
    "sigmoid": (jax.nn.sigmoid, False, False),
    "gelu": (jax.nn.gelu, False, False),
    "exact gelu": (lambda z: jax.nn.gelu(z, approximate=False), False, False),
    "silu": (jax.nn.silu, False, False),
    "softplus": (jax.nn.softplus, False, False),
    "softmax": (jax.nn.softmax, False, False),
    "log softmax": (jax.nn.log_softmax, False, False),
    "causal attention": (causal_mean, False, False),
    "layer norm": (lambda z: (z - z.mean()) / jnp.sqrt(z.var() + 1e-5), False, False),
    "relu": (jax.nn.relu, False, True),
    "maximum": (lambda z: jnp.maximum(z, 0), False, True),
    "leaky relu": (jax.nn.leaky_relu, False, True),
    "relu6": (jax.nn.relu6, False, True),
    "hard tanh": (jax.nn.hard_tanh, False, True),
    "clip": (lambda z: jnp.clip(z, -1, 1), False, True),
    "abs": (jnp.abs, False, True),
    "max": (lambda z: z - z.max(), False, True),
    "min": (lambda z: z - z.min(), False, True),
    "sort": (jnp.sort, False, True),
    "max pooling": (pooled, False, True),
    "where": (lambda z: jnp.where(z > 0, z, 0.5 * z), False, True),
}


def test_a_gate_by_a_token_is_not_linear():
    """The derivative in the activity depends on the integer input, so it differs by example."""

    def network(gate):
        embed = fx.Node("a", lambda token: jnp.eye(4)[token], parents=("input",))
        gated = fx.Node("b", gate, parents=("input", "a"))
        return fx.Network([embed, gated, fx.Node("out", identity)], (), input_dtype=jnp.int32)

    assert not is_linear(network(lambda token, z: z * token))
    assert not is_linear(network(lambda token, z: jnp.tanh(z) + token))
    assert is_linear(network(lambda token, z: 2 * z + token))
    assert has_kinks(network(lambda token, z: jax.nn.relu(z) + token))
    assert not has_kinks(network(lambda token, z: jnp.where(token > 1, jnp.tanh(z), z)))


def around(function):
    return fx.Network([fx.Node("a", Map(jnp.eye(4), function)), fx.Node("out", identity)], (4,))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_linearity_and_kinks_are_read_off_the_program(name):
    function, linear, kinks = FUNCTIONS[name]
    network = around(function)
    assert is_linear(network) == linear
    assert has_kinks(network) == kinks
    inside_a_jit = around(jax.jit(function))
    assert is_linear(inside_a_jit) == linear
    assert has_kinks(inside_a_jit) == kinks


@pytest.mark.parametrize("name", ["linear", "tanh", "relu"])
def test_linearity_and_kinks_of_stacks(name):
    network = fx.models.mlp(3, 2, width=4, depth=5, activation=name, key=jax.random.key(0))
    assert is_linear(network) == (name == "linear")
    assert has_kinks(network) == (name == "relu")


def test_linearity_of_graphs():
    def graph(join):
        return fx.Network(
            [
                fx.Node("a", identity),
                fx.Node("b", identity),
                fx.Node("out", join, parents=("a", "b")),
            ],
            (4,),
        )

    assert is_linear(graph(lambda a, b: a - 2 * b))
    assert not is_linear(graph(lambda a, b: a * b))
    assert not has_kinks(graph(lambda a, b: a * b))
    assert has_kinks(graph(jnp.maximum))


def test_an_embedding_of_tokens_is_linear_in_the_activities():
    table = weight(1, 10, 4)
    embedded = fx.Node("embedded", lambda tokens: table[tokens].sum(0))
    out = fx.Node("out", Map(weight(2, 3, 4), identity))
    network = fx.Network([embedded, out], (6,), input_dtype=jnp.int32)
    assert is_linear(network)
    assert not has_kinks(network)


def test_another_energy_may_learn_or_not():
    node = fx.Node("output", eqx.nn.Linear(3, 2, key=jax.random.key(0)))
    learns = node.with_energy(fx.Gaussian(jnp.ones(2)))
    for given, count in ((node, 2), (learns, 3), (learns.with_energy(fx.Gaussian(2.0)), 2)):
        assert len(jax.tree.leaves(eqx.filter(given, eqx.is_array))) == count
