"""Valid calls of what networks are made of, and of networks."""

from __future__ import annotations

from typing import Any

import arguments_kinds as kinds
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from arguments_kinds import AS_LISTS, NOTHING, OBJECT, Kind
from arguments_table import Table
from arguments_world import CONTEXT, VOCABULARY, World

import fathomx as fx
from fathomx.graph.chain import Chain


def entries(table: Table, world: World) -> None:
    """Nodes, stacks, roots and feedbacks, each as a part of a network."""
    key = world.key
    last = eqx.nn.Linear(3, 5, key=key)

    def chain(node: Any) -> Any:
        network = fx.Network([node, fx.Node("output", last)], input_shape=(4,))
        return fx.predict(network, world.x)

    parents = {"parents": kinds.words(known=True).also("('input', 'input')")}
    name = {"name": kinds.word().also("'input'", "'output'")}
    table.call(
        "fx.Node",
        {"name": "hidden", "function": eqx.nn.Linear(4, 3, key=key), "parents": ("input",)},
        {**name, **parents, "function": kinds.node_function()},
        finish=chain,
    )
    blocks = eqx.filter_vmap(lambda k: eqx.nn.Linear(4, 4, key=k))(world.keys)
    block = kinds.function().also(
        *("eqx.nn.Linear", "jnp.tanh", "eqx.nn.Linear(4, 4, key=key)"),
        "eqx.tree_at(lambda b: b.bias, @, jnp.ones((3, 4)))",
    )

    def stacked(stack: Any) -> Any:
        output = fx.Node("output", eqx.nn.Linear(4, 5, key=key))
        return fx.predict(fx.Network([stack, output], input_shape=(4,)), world.x)

    table.call(
        "fx.Stack",
        {"name": "blocks", "block": blocks, "parents": ("input",)},
        {**name, **parents, "block": block},
        finish=stacked,
    )

    def rooted(root: Any) -> Any:
        image = fx.Node("image", eqx.nn.Linear(2, 4, key=key))
        return fx.sample(fx.Network([root, image]), key, batch=2)

    cause = {"name": "cause", "shape": (2,), "dtype": np.float32}
    # An array would be another kind of mean.
    mean = kinds.number().but(
        *("np.array([3, 3])", "jnp.array([3, 3])", "np.array(@)", "np.array(@, '>f4')"),
        *("jnp.asarray(@)", "[3]"),
    )
    table.call(
        "fx.Root",
        {**cause, "mean": 0.5},
        {
            "shape": kinds.shape(1).but("(*@, 1)"),
            "dtype": kinds.number_type(),
            "mean": mean,
            "energy": kinds.energy().also("fx.Categorical()").but(NOTHING),
        },
        finish=rooted,
    )
    means = kinds.array(1).but("0.5", "@[0]", "shorter(@, 0)", *AS_LISTS)
    table.call(
        "fx.Root(name, shape, ...)",
        {**cause, "mean": np.array([0.5, 1.0], np.float32)},
        {**dict.fromkeys(("name", "shape", "dtype", "energy", "vocabulary")), "mean": means},
        finish=rooted,
    )
    table.call("fx.Noise", {"name": "noise"}, finish=lambda noise: noise.name)
    table.call(
        "fx.Feedback",
        {
            "name": "back",
            "of": "first",
            "function": eqx.nn.Linear(5, 3, key=key),
            "parents": ("output",),
        },
        {
            "name": kinds.word().also("'first'", "'input'"),
            "of": kinds.choice("first", "output").also("'input'"),
            "function": kinds.node_function(),
            "parents": kinds.words(known=True),
            "energy": kinds.energy().also("fx.Categorical()"),
        },
        finish=lambda feedback: fx.Network(world.network.entries, feedbacks=[feedback]),
    )
    table.call(
        "fx.Amortized",
        {
            "name": "guess",
            "of": "first",
            "function": eqx.nn.Linear(4, 3, key=key),
            "parents": ("input",),
        },
        {
            "name": kinds.word().also("'first'", "'input'"),
            "of": kinds.choice("first").also("'input'"),
            "function": kinds.node_function(),
            "parents": kinds.words(known=True),
        },
        finish=lambda feedback: fx.Network(world.network.entries, feedbacks=[feedback]),
    )
    guess = fx.Amortized("guess", "first", eqx.nn.Linear(4, 3, key=key), "input")
    table.inner(guess, "bound", {entry.name: entry for entry in world.network.entries})
    table.inner(guess, "rows", jnp.ones((2, 3)))


def energies(table: Table, world: World) -> None:
    """Energies and clamps."""
    for name in ("Categorical", "Bernoulli", "Poisson", "Laplace"):
        table.call(f"fx.{name}", {"precision": 2.0}, {"precision": kinds.number(above=0)})
    fixed = kinds.number(above=0).but(
        *("np.array([3, 3])", "jnp.array([3, 3])", "np.array(@)", "np.array(@, '>f4')"),
        *("jnp.asarray(@)", "[3]"),
    )
    table.call(
        "fx.Gaussian",
        {"precision": 2.0},
        {"precision": fixed},
        finish=lambda energy: energy.precision,
    )
    learned = kinds.array(1, free=(0,)).but("0.5", "@[..., None]", "@[0]", *AS_LISTS)
    table.call(
        "fx.Gaussian(...)",
        {"precision": np.array([1.0, 2.0, 0.5], np.float32)},
        {"precision": learned.also("-@", "0 * @")},
        finish=lambda energy: energy.log_precision,
    )

    def posed(clamp: Any) -> Any:
        return fx.Problem(world.latent, {"image": clamp}).clamps

    table.call(
        "fx.Clamp",
        {"value": world.x, "mask": np.arange(4) < 2},
        {"value": kinds.array(free=(0,)), "mask": kinds.mask()},
        finish=posed,
    )
    table.method(
        fx.Clamp,
        "observed",
        {"value": world.x},
        {"value": kinds.array(free=(0,), finite=False).also("(@ + 1) * inf")},
        finish=posed,
    )


def inner_entries(table: Table, world: World) -> None:
    """What the library asks of entries, energies and clamps while it computes."""
    network, feedback = world.network, world.feedback
    node, stack, root = network.output, world.deep.entry("hidden"), world.latent.entry("cause")
    three, five = jnp.ones((2, 3)), jnp.ones((2, 5))
    nothing = jnp.zeros((2, 0))
    for entry, sources, activity in (
        (node, [three], five),
        (stack, [three], jnp.ones((2, 2, 3))),
        (root, [nothing], jnp.ones((2, 2))),
    ):
        own = activity if entry is stack else None
        shape = (2, 3) if entry is stack else activity.shape[1:]
        one = [jax.ShapeDtypeStruct(s.shape[1:], s.dtype) for s in sources]
        for name, arguments in {
            "predict": (sources, own),
            "pull": (sources, own),
            "unroll": (sources, activity, None),
            "end": (activity,),
            "shown": ({entry.name: activity},),
            "read_clamp": (fx.Clamp(activity),),
            "add_to_end": (activity, entry.end(activity)),
            "with_child": (
                lambda end, more: (end + more, end.sum(axis=1)),
                1.0,
                activity,
                activity,
            ),
            "rows": (activity,),
            "spread": (jnp.ones(entry.depth), activity.ndim),
            "over_nodes": (jnp.tanh,),
            "units": (shape,),
            "precision": (shape,),
            "aligned": (jnp.ones(entry.depth), shape),
            "check_precision": (shape,),
            "whole_shape": (shape, 2),
            "learned_function": (),
            "infer_shape": (one,),
            "freeze": (),
            "with_energy": (fx.Gaussian(),),
        }.items():
            table.inner(entry, name, *arguments)
    table.inner(node, "with_function", eqx.nn.Linear(3, 5, key=world.key))
    table.inner(stack, "with_function", stack.learned_function())
    table.inner(stack, "read", three, jnp.ones((2, 2, 3)))
    table.inner(stack, "computed", Chain())
    table.inner(stack, "per_node", stack)
    table.refusing(root, "with_function", jnp.tanh)
    noise = world.noisy.entry("noise")
    table.inner(noise, "drawn", world.key, 2)
    table.inner(noise, "read_clamp", fx.Clamp(world.keys))
    table.inner(noise, "unroll", [nothing], None, None)
    table.inner(noise, "shown", {})
    table.inner(feedback, "predict", [five])
    table.inner(feedback, "sources", [five], three)
    table.inner(feedback, "target", world.first, [], three)
    table.inner(feedback, "bound", {entry.name: entry for entry in network.entries})
    table.inner(feedback, "infer_shape", [jax.ShapeDtypeStruct((5,), jnp.float32)])
    table.inner(feedback, "learned_function")
    table.inner(feedback, "with_function", eqx.nn.Linear(5, 3, key=world.key))
    others = (fx.Categorical(), fx.Bernoulli(), fx.Poisson(), fx.Laplace(), _Own())
    for energy in (fx.Gaussian(), *others):
        for name in ("unit", "terms", "error", "number"):
            table.inner(energy, name, jnp.ones(5), jnp.ones(5))
        table.inner(energy, "curvature", jnp.ones(5), jnp.ones(5), jnp.ones(5))
        table.inner(energy, "smoothed", jnp.ones(()))
        table.inner(energy, "draw", world.key, jnp.ones(5))
        table.inner(energy, "expected", jnp.ones(5))
        table.inner(energy, "unfit", np.ones(5))
    for name in fx.metrics.names():
        ends, metric = jnp.eye(6), fx.metrics.named(name)
        table.inner(metric, "terms", ends, ends)
        means = {key: np.mean(term, axis=0) for key, term in metric.terms(ends, ends).items()}
        table.inner(metric, "value", means)
    for clamp in (fx.Clamp(three), fx.Clamp(three, jnp.ones((2, 3), bool))):
        table.inner(clamp, "known", three)
        table.inner(clamp, "meet", three)


class _Own(fx.Energy):
    """An energy of one's own, with nothing but `unit`."""

    def unit(self, target: Any, prediction: Any) -> Any:
        return jnp.sum(jnp.abs(target - prediction))


def networks(table: Table, world: World) -> None:
    """`fx.Network` and its methods."""
    found = Kind(
        "entries of a network",
        (
            *(NOTHING, OBJECT, "[]", "5", "'nodes'", "{}", "[5]", "[None]", "[fx.Node]", "first"),
            *("[eqx.nn.Linear(4, 5, key=key)]", "[first, first]", "[output, first]", "[network]"),
            "[feedback]",
        ),
        ("tuple(@)",),
    )
    feedbacks = Kind(
        "feedbacks",
        (
            *(NOTHING, OBJECT, "5", "'back'", "[5]", "[None]", "[fx.Feedback]", "feedback"),
            *("[feedback, feedback]", "[first]", "{1: 2}"),
        ),
        ("[]",),
    )
    share = Kind(
        "names by name",
        (
            *(OBJECT, "5", "'first'", "['first']", "{1: 2}", "{'first': 'nonsense'}"),
            *("{'nonsense': 'first'}", "{'first': 'first'}", "{'output': None}"),
            "{'input': 'first'}",
        ),
    )
    table.call(
        "fx.Network",
        {"entries": [world.first, world.output], "input_shape": (4,)},
        {
            "entries": found,
            "input_shape": kinds.shape(1),
            "input_dtype": kinds.number_type(),
            "feedbacks": feedbacks,
            "share": share,
        },
        finish=lambda made: fx.predict(made, world.x),
    )
    integers = ("'int32'", "np.dtype('int32')", "np.dtype('>i4')")
    table.call(
        "fx.Network(entries, input_shape, ...)",
        {
            "entries": list(world.transformer.entries[1:]),
            "input_shape": (CONTEXT,),
            "input_dtype": np.int32,
            "vocabulary": VOCABULARY,
        },
        {
            **dict.fromkeys(("entries", "input_shape", "feedbacks", "share")),
            "input_dtype": kinds.number_type().refused().also(right=integers),
        },
        finish=lambda made: fx.predict(made, world.tokens),
    )
    network = world.network
    errors = {"first": np.ones((2, 3), np.float32), "output": np.ones((2, 5), np.float32)}
    given = {"given": kinds.array(finite=False)}
    table.method(
        network,
        "unroll",
        {"errors": errors, "given": world.x},
        {"given": given["given"].but("{}"), "errors": kinds.entries("first").but("{}", NOTHING)},
    )
    table.method(
        network,
        "predictions",
        {"activities": errors, "given": world.x},
        {**given, "activities": kinds.entries("first")},
    )
    names = {"name": kinds.choice("input", "first", "output")}
    table.method(network, "entry", {"name": "first"}, names, lambda part: part.name)
    table.method(network, "predictor", {"name": "first"}, names, lambda part: part.name)
    none = {"batch": kinds.count(0)}
    table.method(network, "zeros", {"batch": 2}, none)
    table.method(network, "zeros_of", {"name": "first", "batch": 2}, {**names, **none})
    table.method(
        world.normalized,
        "with_batch_statistics",
        {"given": world.pictures},
        {"given": kinds.array(4, free=(0,), finite=False), "batch": None},
    )
    table.method(
        world.normalized,
        "moved_statistics",
        {"batch": world.normalized, "momentum": 0.25},
        {"batch": kinds.network(), "momentum": kinds.unit()},
    )
    activities = {"input": world.x, **errors}
    table.inner(network, "batch_of", activities)
    table.inner(network, "check_fit", activities, len(world.x))
    table.inner(network, "bound")
    table.inner(network, "clamped", world.x)
    table.inner(network, "predictors")
    table.inner(network, "passed", None, network.clamped(world.x))
    table.inner(network, "sources", network.output, activities)
    table.inner(network, "root_dtype", network.roots[0])
    table.inner(network, "with_entries", network.entries)
    table.inner(network, "with_predictors", {"output": network.output})
    table.inner(world.noisy, "drawn_noise", world.key, 2, {})
    both, known = world.bidirectional, {k: jnp.asarray(v) for k, v in activities.items()}
    table.inner(both, "discrepancies", known)
    table.inner(both, "feedback_predictions", known)
    table.inner(both, "feedback_sources", both.feedbacks[0], known)
    table.inner(both, "target", both.feedbacks[0], known)


def changes(table: Table, world: World) -> None:
    """Functions from networks to networks."""
    network = world.network
    table.call("fx.split", {"tree": network}, {"tree": None})
    table.call("fx.weights", {"tree": network}, {"tree": None})
    table.call(
        "fx.freeze",
        {"network": network, "names": ["first"]},
        {"names": kinds.words(known=True)},
    )
    numbers = kinds.number_type().but("np.dtype(@).newbyteorder()").also(NOTHING, "'int32'")
    table.call(
        "fx.mixed_precision",
        {"network": network, "dtype": jnp.bfloat16},
        {"dtype": numbers},
        finish=lambda made: fx.predict(made, world.x),
    )
    table.call(
        "fx.rematerialized",
        {"network": network, "inputs": "host"},
        {"inputs": kinds.choice("device", "host")},
        finish=lambda made: fx.predict(made, world.x),
    )
    names = kinds.words(known=True)
    table.call(
        "fx.arrivals",
        {"network": network, "clamped": ["input", "output"], "observed": ["output"]},
        {"clamped": names, "observed": names},
    )


def predictions(table: Table, world: World) -> None:
    """What networks predict, and what is drawn from them."""
    table.call(
        "fx.predict",
        {"network": world.network, "input": world.x},
        {"input": kinds.array(free=(0,)).also("{'nonsense': x}")},
    )
    table.call(
        "fx.predict(network, ...)",
        {"network": world.network, "input": {"input": world.x}},
        {"network": None, "input": kinds.mapping("input", kinds.array(free=(0,)))},
    )
    table.call(
        "fx.predict(transformer, ...)",
        {"network": world.transformer, "input": world.tokens},
        {"network": None, "input": kinds.tokens(VOCABULARY, free=(0,))},
    )
    table.call(
        "fx.sample",
        {
            "network": world.latent,
            "key": world.key,
            "clamped": {"cause": np.ones((2, 2), np.float32)},
            "batch": 2,
        },
        {"clamped": kinds.mapping("cause", kinds.array())},
    )
    table.call(
        "fx.generate",
        {
            "network": world.transformer,
            "tokens": world.tokens,
            "length": 2,
            "key": world.key,
            "temperature": 0.5,
            "top_k": 3,
            "top_p": 0.5,
        },
        {
            "network": kinds.network().also("linear"),
            "tokens": kinds.tokens(VOCABULARY, free=(0,)).also("@[..., None]"),
            "temperature": kinds.number(least=0),
            "top_k": kinds.count().but(NOTHING),
            "top_p": kinds.number(above=0).but(NOTHING).also("1.25"),
        },
    )


SECTIONS = (entries, energies, inner_entries, networks, changes, predictions)
