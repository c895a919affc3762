"""A valid call of everything that is public, and the kinds of its parameters."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import arguments_kinds as kinds
import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from arguments_kinds import NOTHING, OBJECT, Kind, Kinds, Variant, value
from arguments_table import Fresh, Table
from arguments_world import CLASSES, CONTEXT, VOCABULARY, World
from rich.console import Console

import fathomx as fx
import fathomx.layers
import fathomx.report
import fathomx.training
from fathomx.problem import Linearization

_ONLY_JAX = (Variant("jnp.asarray(@)", jnp.asarray),)
# Several axes, of which the model takes what it is told.
_OTHER_SIZES = ("(*@, 1)", "()", "(@ + 1)")


def all_calls(world: World) -> Table:
    """The table of all calls, sorted by nothing but the sections of the library."""
    table, ours = Table(world), Kinds(world)
    for section in (
        _models,
        _data,
        _graph,
        _networks,
        _problems,
        _inference,
        _learning,
        _fit,
        _parameterizations,
        _layers,
        _theory,
        _diagnostics,
        _report,
        _training,
        _results,
    ):
        try:
            section(table, world, ours)
        except Exception as error:
            table.broken.append(f"the calls of {section.__name__} cannot be made: {error!r}")
    return table


def _models(table: Table, world: World, ours: Kinds) -> None:
    key, few = world.key, {"key": world.key}
    several = (
        kinds.count()
        .but("[3]")
        .also(
            [value(text, made) for text, made in _LISTS.items()],
            [Variant("[@]", lambda base: [base]), Variant("(@,)", lambda base: (base,))],
        )
    )
    activations = ours.activation().also(
        right=[Variant("['gelu']", lambda b: ["gelu"]), Variant("('gelu',)", lambda b: ("gelu",))]
    )
    for name in ("mlp", "residual_mlp"):
        table.call(
            f"fx.models.{name}",
            {"in_size": 4, "out_size": 5, "width": 3, "depth": 2, **few},
            {
                "width": several if name == "mlp" else several.but("[@]", "(@,)"),
                "depth": kinds.count(2),
                "activation": activations if name == "mlp" else ours.activation(),
            },
        )
    images = {"image_shape": (8, 8, 1), "classes": 5, **few}
    table.call(
        "fx.models.residual_cnn",
        {"blocks": 1, "width": 2, **images},
        {"image_shape": kinds.shape(axes=3).but("(@ + 1)")},
    )
    depth = kinds.count().also([value("6", 6)])
    multiple = kinds.number(above=0)
    table.call(
        "fx.models.resnet",
        {"depth": 10, "width": 0.03125, **images},
        {
            "depth": depth,
            "width": multiple,
            "image_shape": kinds.shape(axes=3).but("(@ + 1)"),
            "normalization": kinds.choice(None, "batch", "group"),
        },
    )
    table.call(
        "fx.models.vgg",
        {
            "depth": 5,
            "width": 0.03125,
            **images,
            "image_shape": (16, 16, 1),
            "normalization": "group",
        },
        {
            "depth": depth,
            "width": multiple,
            "image_shape": kinds.shape(axes=3).but("(@ + 1)"),
            "normalization": kinds.choice(None, "batch", "group"),
            "pool": kinds.choice("max", "average"),
        },
    )
    table.call(
        "fx.models.transformer",
        {"vocabulary": 6, "context": 3, "width": 4, "depth": 1, "heads": 2, **few},
        {
            "heads": kinds.count().also([value("3", 3)]),
            "normalization": kinds.choice(None, "layer"),
        },
    )
    layers = [eqx.nn.Linear(4, 3, key=key), jnp.tanh, eqx.nn.Linear(3, 5, key=key)]
    table.call(
        "fx.wrap",
        {"layers": layers, "input_shape": (4,), "names": ["a", "b"]},
        {
            "layers": Kind(
                "layers",
                (
                    NOTHING,
                    OBJECT,
                    value("[]", []),
                    value("5", 5),
                    value("'layers'", "layers"),
                    value("[5, 5]", [5, 5]),
                    value("{}", {}),
                    value("[None, None]", [None, None]),
                    value("[eqx.nn.Linear, eqx.nn.Linear]", [eqx.nn.Linear, eqx.nn.Linear]),
                    value("@[:1]", layers[:1]),
                    value("@[0]", layers[0]),
                    value("@[::-1]", layers[::-1]),
                    value("[*@, *@]", [*layers, *layers]),
                    Variant("network", lambda base: world.network),
                ),
                (
                    value("tuple(@)", tuple(layers)),
                    value(
                        "eqx.nn.Sequential([...])",
                        eqx.nn.Sequential([layers[0], eqx.nn.Lambda(jnp.tanh), layers[2]]),
                    ),
                ),
            ),
            "input_shape": kinds.shape(axes=1),
            "names": kinds.words().also(
                [
                    value("['a']", ["a"]),
                    value("['a', 'a']", ["a", "a"]),
                    value("['a', 5]", ["a", 5]),
                    value("['input', 'b']", ["input", "b"]),
                    value("'ab'", "ab"),
                ]
            ),
            "input_dtype": kinds.number_type(),
        },
        finish=lambda network: fx.predict(network, world.x),
    )


_LISTS = {
    "[0]": [0],
    "[1.5]": [1.5],
    "['three']": ["three"],
    "[None]": [None],
    "[True]": [True],
    "[[3]]": [[3]],
    "[3, 3]": [3, 3],
    "range(0)": range(0),
}


def _data(table: Table, world: World, ours: Kinds) -> None:
    part = world.part
    parts = {"train": part, "validation": part, "test": part}
    of_part = {"train": ours.part(), "validation": ours.part(), "test": ours.part()}
    table.call(
        "fx.data.Dataset",
        {"name": "toy", **parts, "classes": CLASSES, "image_shape": (2, 2)},
        {
            **of_part,
            "classes": kinds.count(),
            "image_shape": kinds.shape(axes=2).but("(*@, 1)", "()"),
            "augmentation": kinds.function(),
        },
    )
    arrays = {"image": part.inputs}
    of_arrays = _mapping(kinds.array(free=(0,)), "image").also(
        [value("{}", {}), value("(x, y)", tuple(part)), value("{5: x}", {5: part.inputs})]
    )
    table.call(
        "fx.data.Dataset(name, ...)",
        {"name": "named", "train": arrays, "validation": arrays, "test": arrays},
        {
            "train": of_arrays,
            "validation": of_arrays,
            "test": of_arrays,
            "classes": None,
            "image_shape": None,
            "augmentation": None,
        },
    )
    tokens = world.text.train
    pair = (tokens.inputs, tokens.labels)
    of_tokens = Kind(
        "part",
        (
            NOTHING,
            OBJECT,
            value("x", pair[0]),
            value("(x,)", pair[:1]),
            value("'abc'", "abc"),
            value("{}", {}),
            value("(x[:, :2], y)", (pair[0][:, :2], pair[1])),
            value("(x.astype(float), y)", (pair[0].astype(float), pair[1])),
            value("(x - 1, y)", (pair[0] - 1, pair[1])),
            value("(x, y + 1)", (pair[0], pair[1] + 1)),
            value("(x + 2**32, y)", (pair[0].astype("int64") + 2**32, pair[1])),
            value("(x, y + 2**63)", (pair[0], pair[1].astype("uint64") + np.uint64(2**63))),
            value("(x, y.astype(str))", (pair[0], pair[1].astype(str))),
            value("(x.astype(object), y)", (pair[0].astype(object), pair[1])),
        ),
        (
            value("[x, y]", list(pair)),
            value("(x.astype('uint8'), y)", (pair[0].astype("uint8"), pair[1])),
            value("(x.astype('>i8'), y)", (pair[0].astype(">i8"), pair[1])),
            value("(x.tolist(), y.tolist())", (pair[0].tolist(), pair[1].tolist())),
        ),
    )
    text = {"train": tokens, "validation": tokens, "test": tokens}
    table.call(
        "fx.data.Text",
        {"name": "text", **text, "classes": VOCABULARY, "vocabulary": "abcdef"},
        {
            **dict.fromkeys(text, of_tokens),
            "vocabulary": kinds.word().also(
                [
                    value("'abc'", "abc"),
                    value("'aaaaaa'", "aaaaaa"),
                    value("list(@)", list("abcdef")),
                ]
            ),
            "image_shape": None,
            "augmentation": kinds.function(),
        },
    )
    data, book = world.data, world.text
    titles = kinds.choice("train", "validation", "test")
    table.method(data, "arrays", {"title": "train"}, {"title": titles})
    table.method(data, "flat")
    table.method(data, "images")
    table.method(data, "take", {"n": 4}, {"n": kinds.count(most=8)})
    table.method(book, "take", {"n": 4}, {"n": kinds.count(most=len(tokens.inputs))})
    table.method(
        book,
        "encode",
        {"text": "abc"},
        {"text": kinds.word().but("''").also([value("'xyz'", "xyz")])},
    )
    row = Kind("labels", _tokens(VOCABULARY, free=(0,)).but("@[:0]", "[]").wrong)
    table.method(
        book,
        "decode",
        {"tokens": np.array([1, 0, 2])},
        {
            "tokens": dataclasses.replace(
                row.but("(row for row in @)"), right=kinds.labels(6).right[:-3]
            )
        },
    )
    _refused(table, book, "flat")
    table.call(
        "fx.data.Part",
        {"inputs": part.inputs, "labels": part.labels},
        {
            "inputs": kinds.array(free=(0,)),
            "labels": kinds.labels(CLASSES, target=False),
        },
        finish=lambda made: fx.data.Dataset("toy", made, made, made, CLASSES),
    )
    table.call(
        "fx.data.load",
        {"name": "digits"},
        {
            "name": kinds.choice(*fx.data.names()),
            "folder": kinds.any_folder(),
            "context": Kind("count", kinds.count().wrong),
        },
    )
    table.call("fx.data.names")
    table.call("fx.data.texts")
    table.call(
        "fx.data.text",
        {"path": world.book, "context": 3, "stride": 2},
        {"path": kinds.existing_file(world)},
    )
    table.call(
        "fx.data.CropAndFlip",
        {"padding": 1},
        {"padding": kinds.count(0)},
        finish=lambda change: change(world.images, world.key),
    )
    images = kinds.array(4, free=(0, 1, 2, 3), finite=False).but("@[:0]", "@[..., None]")
    table.method(
        fx.data.CropAndFlip(1),
        "__call__",
        {"images": world.images, "key": world.key},
        {"images": images.also([Variant("@[..., None]", lambda a: a[..., None])])},
    )


def _mapping(each: Kind, name: str) -> Kind:
    """Values by name, of which one is varied as its own kind is."""

    def within(variant: Variant) -> Variant:
        return dataclasses.replace(
            variant,
            text=f"{{{name!r}: {variant.text.replace('@', 'x')}}}",
            make=lambda base: {**base, name: variant.make(base[name])},
        )

    return Kind(
        f"mapping of {each.name}s",
        (
            OBJECT,
            value("5", 5),
            value("'name'", "name"),
            value("{'nonsense'}", {"nonsense"}),
            *map(within, each.wrong),
        ),
        tuple(map(within, each.right)),
    )


def _tokens(vocabulary: int, free: tuple[int, ...] = ()) -> Kind:
    """Tokens, which have no one-hot form."""
    return kinds.labels(vocabulary, free=free, target=False)


def _graph(table: Table, world: World, ours: Kinds) -> None:
    key = world.key
    linear = eqx.nn.Linear(4, 3, key=key)

    def chain(node: Any) -> Any:
        output = fx.Node("output", eqx.nn.Linear(3, 5, key=key), parents=(node.name,))
        return fx.predict(fx.Network([node, output], input_shape=(4,)), world.x)

    table.call(
        "fx.Node",
        {"name": "hidden", "function": linear, "parents": ("input",)},
        {
            "name": kinds.word().also([value("'input'", "input")]),
            "function": kinds.node_function(),
            "parents": kinds.words(("input",)),
            "energy": ours.energy(),
        },
        finish=chain,
    )
    blocks = eqx.filter_vmap(lambda k: eqx.nn.Linear(4, 4, key=k))(world.keys)
    uneven = eqx.tree_at(lambda b: b.bias, blocks, jnp.ones((3, 4)))
    stack_function = kinds.function().also(
        [
            value("eqx.nn.Linear", eqx.nn.Linear),
            value("jnp.tanh", jnp.tanh),
            value("eqx.nn.Linear(4, 4, key=key)", eqx.nn.Linear(4, 4, key=key)),
            value("<blocks of unlike depth>", uneven),
        ]
    )

    def stacked(stack: Any) -> Any:
        output = fx.Node("output", eqx.nn.Linear(4, 5, key=key))
        return fx.predict(fx.Network([stack, output], input_shape=(4,)), world.x)

    table.call(
        "fx.Stack",
        {"name": "blocks", "block": blocks, "parents": ("input",)},
        {
            "name": kinds.word().also([value("'input'", "input")]),
            "block": stack_function,
            "parents": kinds.words(("input",)).also([value("('input', 'input')", ("input",) * 2)]),
        },
        finish=stacked,
    )

    def rooted(root: Any) -> Any:
        image = fx.Node("image", eqx.nn.Linear(2, 4, key=key))
        network = fx.Network([root, image])
        return fx.sample(network, key, batch=2)

    table.call(
        "fx.Root",
        {"name": "cause", "shape": (2,), "mean": 0.5, "dtype": np.float32},
        {
            "name": kinds.word(),
            "shape": kinds.shape(axes=1),
            "dtype": kinds.number_type(),
            "mean": _mean(),
            "energy": ours.energy().also([value("fx.Categorical()", fx.Categorical())]).but("None"),
        },
        finish=rooted,
    )
    table.call(
        "fx.Root(name, shape, ...)",
        {"name": "cause", "shape": (2,), "mean": np.array([0.5, 1.0], np.float32)},
        {
            **dict.fromkeys(("name", "shape", "dtype", "energy", "vocabulary")),
            "mean": kinds.array(1).but(
                "0.5", "@[0]", "<@ with one less along axis 0>", *_LIST_TEXTS
            ),
        },
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
            "name": kinds.word().also([value("'first'", "first"), value("'input'", "input")]),
            "of": kinds.choice("first", "output").also([value("'input'", "input")]),
            "function": kinds.node_function(),
            "parents": kinds.words(("output",)),
            "energy": ours.energy().also([value("fx.Categorical()", fx.Categorical())]),
        },
        finish=lambda feedback: fx.Network(world.network.entries, feedbacks=[feedback]),
    )
    table.call("fx.Categorical", {"precision": 2.0}, {"precision": kinds.number(above=0)})
    table.call(
        "fx.Gaussian",
        {"precision": 2.0},
        {
            "precision": kinds.number(above=0).but(
                "np.array([3, 3])",
                "jnp.array([3, 3])",
                "np.array(@)",
                "np.array(@, '>f4')",
                "jnp.asarray(@)",
            )
        },
        finish=lambda energy: energy.precision,
    )
    table.call(
        "fx.Gaussian(...)",
        {"precision": np.array([1.0, 2.0, 0.5], np.float32)},
        {
            "precision": kinds.array(1, free=(0,))
            .but("0.5", "@[..., None]", "@[0]", *_LIST_TEXTS)
            .also([Variant("-@", lambda a: -a), Variant("0 * @", lambda a: 0 * a)])
        },
        finish=lambda energy: energy.log_precision,
    )
    posed = {"value": world.x, "mask": np.arange(4) < 2}
    table.call(
        "fx.Clamp",
        posed,
        {
            "value": kinds.array(),
            "mask": kinds.mask()
            .but("<@ with one less along axis 1>")
            .but("<@ with one more along axis 1>")
            .also([value("np.ones(3, bool)", np.ones(3, bool))]),
        },
        finish=lambda clamp: fx.Problem(world.latent, {"image": clamp}).clamps,
    )
    table.method(
        fx.Clamp,
        "observed",
        {"value": world.x},
        {
            "value": kinds.array(finite=False).also(
                [Variant("@ * np.inf", lambda a: (a + 1) * np.inf)]
            )
        },
        finish=lambda clamp: fx.Problem(world.latent, {"image": clamp}).clamps,
    )
    _inner_entries(table, world)


_LIST_TEXTS = ("@.tolist()", "<@ as nested tuples>", "list(@)")


def _mean() -> Kind:
    """A number, of which an array would be another kind of mean."""
    return kinds.number().but(
        "np.array([3, 3])",
        "jnp.array([3, 3])",
        "np.array(@)",
        "np.array(@, '>f4')",
        "jnp.asarray(@)",
    )


def _inner_entries(table: Table, world: World) -> None:
    """What the library asks of entries, energies and clamps while it computes."""
    network, deep = world.network, world.deep
    node, stack, feedback = network.output, deep.entry("hidden"), world.feedback
    z = {"first": jnp.ones((2, 3)), "hidden": jnp.ones((2, 2, 3)), "output": jnp.ones((2, 5))}
    root = world.latent.entry("cause")
    nothing = jnp.zeros((2, 0))
    noise = world.noisy.entry("noise")
    for entry, sources, activity in (
        (node, [z["first"]], z["output"]),
        (stack, [z["first"]], z["hidden"]),
        (root, [nothing], jnp.ones((2, 2))),
    ):
        own = activity if entry is stack else None
        shape = (2, 3) if entry is stack else activity.shape[1:]
        table.inner(entry, "predict", sources, own)
        table.inner(entry, "pull", sources, own)
        table.inner(entry, "unroll", sources, activity, None)
        table.inner(entry, "end", activity)
        table.inner(entry, "shown", {entry.name: activity})
        table.inner(entry, "read_clamp", fx.Clamp(activity))
        table.inner(entry, "add_to_end", activity, entry.end(activity))
        table.inner(entry, "rows", activity)
        table.inner(entry, "spread", jnp.ones(entry.depth), activity.ndim)
        table.inner(entry, "over_nodes", jnp.tanh)
        table.inner(entry, "units", shape)
        table.inner(entry, "precision", shape)
        table.inner(entry, "aligned", jnp.ones(entry.depth), shape)
        table.inner(entry, "check_precision", shape)
        table.inner(entry, "whole_shape", shape, 2)
        table.inner(entry, "learned_function")
        one = [jax.ShapeDtypeStruct(s.shape[1:], s.dtype) for s in sources]
        table.inner(entry, "infer_shape", one)
        table.inner(entry, "freeze")
        table.inner(entry, "with_energy", fx.Gaussian())
    table.inner(node, "with_function", eqx.nn.Linear(3, 5, key=world.key))
    table.inner(stack, "with_function", stack.learned_function())
    table.inner(stack, "read", z["first"], z["hidden"])
    _refused(table, root, "with_function", jnp.tanh)
    table.inner(noise, "drawn", world.key, 2)
    table.inner(noise, "read_clamp", fx.Clamp(world.keys))
    table.inner(noise, "unroll", [nothing], None, None)
    table.inner(noise, "shown", {})
    table.inner(feedback, "predict", [z["output"]])
    table.inner(feedback, "sources", [z["output"]], z["first"])
    table.inner(feedback, "target", network.entry("first"), [], z["first"])
    table.inner(feedback, "bound", {entry.name: entry for entry in network.entries})
    table.inner(feedback, "infer_shape", [jax.ShapeDtypeStruct((5,), jnp.float32)])
    table.inner(feedback, "learned_function")
    table.inner(feedback, "with_function", eqx.nn.Linear(5, 3, key=world.key))
    for energy in (fx.Gaussian(), fx.Categorical(), _Own()):
        for name in ("unit", "terms", "error"):
            table.inner(energy, name, jnp.ones(5), jnp.ones(5))
        table.inner(energy, "expected", jnp.ones(5))
    for clamp in (fx.Clamp(z["first"]), fx.Clamp(z["first"], jnp.ones((2, 3), bool))):
        table.inner(clamp, "known", z["first"])
        table.inner(clamp, "meet", z["first"])


class _Own(fx.Energy):
    """An energy of one's own, with nothing but `unit`."""

    def unit(self, target: Any, prediction: Any) -> Any:
        return jnp.sum(jnp.abs(target - prediction))


def _refused(table: Table, owner: Any, name: str, *arguments: Any) -> None:
    """Adds a method whose only answer is a refusal."""

    def refused() -> None:
        try:
            getattr(owner, name)(*arguments)
        except (TypeError, ValueError):
            return
        raise AssertionError(f"{name} was not refused.")

    table.inner(_Refusal(refused), "ask")
    table.cover(owner, name)


@dataclasses.dataclass(frozen=True)
class _Refusal:
    ask_for: Any

    def ask(self) -> None:
        """Asks, and is refused."""
        self.ask_for()


def _networks(table: Table, world: World, ours: Kinds) -> None:
    network = world.network
    first, output = network.entries[1:]
    entries = Kind(
        "entries of a network",
        (
            NOTHING,
            OBJECT,
            value("[]", []),
            value("5", 5),
            value("'nodes'", "nodes"),
            value("{}", {}),
            value("[5]", [5]),
            value("[None]", [None]),
            value("[fx.Node]", [fx.Node]),
            value("[eqx.nn.Linear(4, 5, key=key)]", [eqx.nn.Linear(4, 5, key=world.key)]),
            value("first", first),
            value("[first, first]", [first, first]),
            value("[output, first]", [output, first]),
            value("[network]", [network]),
            value("[feedback]", [world.feedback]),
            value("{first, output}", "set"),
        ),
        (Variant("tuple(@)", tuple),),
    )
    table.call(
        "fx.Network",
        {"entries": [first, output], "input_shape": (4,)},
        {
            "entries": entries,
            "input_shape": kinds.shape(axes=1),
            "input_dtype": kinds.number_type(),
            "feedbacks": Kind(
                "feedbacks",
                (
                    NOTHING,
                    OBJECT,
                    value("5", 5),
                    value("'back'", "back"),
                    value("[5]", [5]),
                    value("[None]", [None]),
                    value("[fx.Feedback]", [fx.Feedback]),
                    value("feedback", world.feedback),
                    value("[feedback, feedback]", [world.feedback, world.feedback]),
                    value("[first]", [first]),
                    value("{}", {1: 2}),
                ),
                (value("[]", []),),
            ),
            "share": Kind(
                "names by name",
                (
                    OBJECT,
                    value("5", 5),
                    value("'first'", "first"),
                    value("['first']", ["first"]),
                    value("{1: 2}", {1: 2}),
                    value("{'first': 'nonsense'}", {"first": "nonsense"}),
                    value("{'nonsense': 'first'}", {"nonsense": "first"}),
                    value("{'first': 'first'}", {"first": "first"}),
                    value("{'output': None}", {"output": None}),
                    value("{'input': 'first'}", {"input": "first"}),
                ),
                (value("{}", {}),),
            ),
        },
        finish=lambda made: fx.predict(made, world.x),
    )
    nodes = world.transformer.entries[1:]
    table.call(
        "fx.Network(entries, input_shape, ...)",
        {
            "entries": list(nodes),
            "input_shape": (CONTEXT,),
            "input_dtype": np.int32,
            "vocabulary": VOCABULARY,
        },
        {
            **dict.fromkeys(("entries", "input_shape", "feedbacks", "share")),
            "input_dtype": Kind(
                "type",
                kinds.number_type().wrong,
                (
                    value("'int32'", "int32"),
                    value("np.dtype('int32')", np.dtype("int32")),
                    value("np.dtype('>i4')", np.dtype(">i4")),
                ),
            ),
        },
        finish=lambda made: fx.predict(made, world.tokens),
    )
    errors = {"first": np.ones((2, 3), np.float32), "output": np.ones((2, 5), np.float32)}
    activities = {"input": world.x, **errors}
    table.method(
        network,
        "unroll",
        {"errors": errors, "given": world.x},
        {
            "errors": ours.entries("first", partly=True),
            "given": kinds.array(),
            "batch": kinds.count(),
        },
    )
    table.method(
        network,
        "predictions",
        {"activities": errors, "given": world.x},
        {"activities": ours.entries("first"), "given": kinds.array()},
    )
    names = kinds.choice("input", "first", "output").but("''")
    for name in ("entry", "predictor"):
        table.method(network, name, {"name": "first"}, {"name": names}, lambda part: part.name)
    table.method(network, "zeros", {"batch": 2})
    table.method(network, "zeros_of", {"name": "first", "batch": 2}, {"name": names})
    table.method(
        world.normalized,
        "with_batch_statistics",
        {"given": world.pictures},
        {"given": kinds.array(4, free=(0,)), "batch": None},
    )
    table.method(
        world.normalized,
        "moved_statistics",
        {"batch": world.normalized, "momentum": 0.25},
        {"batch": ours.network(), "momentum": _unit()},
    )
    table.inner(network, "batch_of", activities)
    table.inner(network, "bound")
    table.inner(network, "clamped", world.x)
    table.inner(network, "predictors")
    table.inner(network, "passed", None, network.clamped(world.x))
    table.inner(network, "sources", network.output, activities)
    table.inner(network, "root_dtype", network.roots[0])
    table.inner(network, "with_entries", network.entries)
    table.inner(network, "with_predictors", {"output": network.output})
    table.inner(world.noisy, "drawn_noise", world.key, 2, {})
    both, whole = world.bidirectional, {k: jnp.asarray(v) for k, v in activities.items()}
    table.inner(both, "discrepancies", whole)
    table.inner(both, "feedback_predictions", whole)
    table.inner(both, "feedback_sources", both.feedbacks[0], whole)
    table.inner(both, "target", both.feedbacks[0], whole)
    table.call("fx.split", {"tree": network}, {"tree": None})
    table.call("fx.weights", {"tree": network}, {"tree": None})
    table.call(
        "fx.freeze", {"network": network, "names": ["first"]}, {"names": kinds.words(("first",))}
    )
    table.call(
        "fx.mixed_precision",
        {"network": network, "dtype": jnp.bfloat16},
        {
            "dtype": kinds.number_type()
            .but("np.dtype(@).newbyteorder()")
            .also([NOTHING, value("'int32'", "int32")])
        },
        finish=lambda made: fx.predict(made, world.x),
    )
    table.call(
        "fx.rematerialized",
        {"network": network},
        finish=lambda made: fx.predict(made, world.x),
    )
    table.call(
        "fx.arrivals",
        {"network": network, "clamped": ["input", "output"], "observed": ["output"]},
        {"clamped": kinds.words(("output",)).but("['']"), "observed": kinds.words(("output",))},
    )
    table.call(
        "fx.predict",
        {"network": network, "input": world.x},
        {"input": kinds.array(free=(0,)).also([value("{'nonsense': x}", {"nonsense": world.x})])},
    )
    table.call(
        "fx.predict(network, ...)",
        {"network": network, "input": {"input": world.x}},
        {"network": None, "input": _mapping(kinds.array(free=(0,)), "input")},
    )
    table.call(
        "fx.predict(transformer, ...)",
        {"network": world.transformer, "input": world.tokens},
        {"network": None, "input": _tokens(VOCABULARY, free=(0,))},
    )
    table.call(
        "fx.sample",
        {
            "network": world.latent,
            "key": world.key,
            "clamped": {"cause": np.ones((2, 2), "f4")},
            "batch": 2,
        },
        {"clamped": _mapping(kinds.array(free=(0,)), "cause")},
    )
    table.call(
        "fx.generate",
        {
            "network": world.transformer,
            "tokens": world.tokens,
            "length": 2,
            "key": world.key,
            "temperature": 0.5,
        },
        {
            "tokens": _tokens(VOCABULARY, free=(0,)).also(
                [Variant("@[..., None]", lambda a: a[..., None])]
            ),
            "temperature": kinds.number(least=0),
            "network": ours.network().also([Variant("mlp", lambda base: network)]),
        },
    )


def _unit() -> Kind:
    """A number from 0 to 1."""
    return kinds.number(least=0).also([value("1.5", 1.5)])


def _problems(table: Table, world: World, ours: Kinds) -> None:
    network, latent = world.network, world.latent

    def relaxed(problem: Any) -> Any:
        found = fx.infer(problem, world.solver)
        return found.energy, found.unsettled

    table.call(
        "fx.Problem",
        {"network": network, "clamps": world.x, "target": world.labels, "output_precision": 2.0},
        {
            "clamps": kinds.array(),
            "target": kinds.labels(CLASSES),
            "input": Kind("array", (value("x", world.x),)),
            "batch": kinds.count(),
        },
        finish=relaxed,
    )
    table.call(
        "fx.Problem(network, ...)",
        {"network": network, "input": world.x, "target": world.classes},
        {
            **dict.fromkeys(("network", "clamps", "output_precision", "batch")),
            "input": kinds.array(),
            "target": kinds.array().also(
                right=[
                    Variant("@.astype(bool)", lambda a: a.astype(bool)),
                    Variant("@.astype(int)", lambda a: a.astype(int)),
                    Variant("@.astype('uint8')", lambda a: a.astype("uint8")),
                ]
            ),
        },
        finish=relaxed,
    )
    x = world.x
    clamps = _mapping(kinds.array(free=(0,)).but("None"), "image").also(
        [
            value("{'imag': x}", {"imag": x}),
            value("{5: x}", {5: x}),
            value("{'cause': x[:, :2]}", {"cause": x[:, :2]}),
            value("{'image': x, 'cause': x}", {"image": x, "cause": x}),
            value("{'image': x, 'cause': x[:1, :2]}", {"image": x, "cause": x[:1, :2]}),
            value("{'image': fx.Clamp}", {"image": fx.Clamp}),
            value("{'image': fx.Clamp(fx.Clamp(x))}", {"image": fx.Clamp(fx.Clamp(x))}),
            value("{'image': fx.Clamp(x, x)}", {"image": fx.Clamp(x, x)}),
            value("{'image': fx.Clamp(x, 'seen')}", {"image": fx.Clamp(x, "seen")}),
            value(
                "{'image': fx.Clamp(x, np.ones((2, 3), bool))}",
                {"image": fx.Clamp(x, np.ones((2, 3), bool))},
            ),
        ],
        [Variant("{'image': fx.Clamp(x)}", lambda base: {"image": fx.Clamp(x)})],
    )
    table.call(
        "fx.Problem(latent, ...)",
        {"network": latent, "clamps": {"image": x}},
        {
            **dict.fromkeys(("network", "input", "output_precision", "batch")),
            "clamps": clamps,
            "target": Kind("array", (value("x", x),)),
        },
        finish=relaxed,
    )
    table.call(
        "fx.Problem(latent, {}, ...)",
        {"network": latent, "clamps": {}, "batch": 2},
        {**dict.fromkeys(("network", "input", "clamps", "target", "output_precision"))},
        finish=lambda problem: problem.zeros(),
    )
    table.call(
        "fx.Problem(transformer, ...)",
        {"network": world.transformer, "clamps": world.tokens, "target": world.tokens},
        {
            **dict.fromkeys(("network", "input", "output_precision", "batch")),
            "clamps": _tokens(VOCABULARY),
            "target": kinds.labels(VOCABULARY),
        },
        finish=relaxed,
    )
    table.call(
        "fx.Problem(deep, ...)",
        {
            "network": world.deep,
            "clamps": {"input": x, "hidden": np.ones((2, 2, 3), np.float32)},
        },
        {
            **dict.fromkeys(("network", "input", "target", "output_precision", "batch")),
            "clamps": _mapping(kinds.array(3).but("None"), "hidden"),
        },
        finish=relaxed,
    )
    problem = world.problem
    table.method(
        problem,
        "with_output_precision",
        {"output_precision": 2.0},
        {"output_precision": kinds.number(above=0).also([NOTHING])},
    )
    table.method(
        problem,
        "with_network",
        {"network": world.other},
        {"network": ours.network().also([Variant("latent", lambda base: latent)])},
        finish=relaxed,
    )
    noisy = fx.Problem(world.noisy, world.x, world.labels)
    table.method(noisy, "with_noise", {"key": world.key})
    index = [1]
    table.method(
        problem,
        "examples",
        {"index": index},
        {
            "index": Kind(
                "index",
                (
                    NOTHING,
                    OBJECT,
                    value("'first'", "first"),
                    value("1.5", 1.5),
                    value("[2]", [2]),
                    value("[-3]", [-3]),
                    value("[0.5]", [0.5]),
                    value("['a']", ["a"]),
                    value("{}", {}),
                    value("[True, False, True]", [True, False, True]),
                    value("[]", []),
                    value("np.array([[0, 1]])", np.array([[0, 1]])),
                    value("slice(5, 6)", slice(5, 6)),
                ),
                (
                    value("np.array([1])", np.array([1])),
                    value("np.array([1], 'uint8')", np.array([1], "uint8")),
                    value("slice(1, 2)", slice(1, 2)),
                    value("[-1]", [-1]),
                    value("np.array([False, True])", np.array([False, True])),
                ),
            )
        },
        finish=relaxed,
    )
    _inner_problem(table, world)
    activities = {k: np.asarray(v) for k, v in world.relaxed.activities.items()}
    errors = {k: np.asarray(v) for k, v in world.relaxed.errors.items()}
    table.call(
        "fx.energy",
        {"problem": problem, "activities": activities},
        {"activities": ours.entries("first")},
    )
    table.call(
        "fx.weight_gradient",
        {"problem": problem, "activities": activities, "errors": errors},
        {"activities": ours.entries("first"), "errors": ours.entries("first")},
    )
    start = Kind(
        "linearization",
        ours.thing("linearization", Variant("relaxed", lambda b: world.relaxed)).wrong,
    )
    table.call("fx.strength", {"problem": problem, "key": world.key}, {"start": start})
    table.call(
        "fx.HoldStrength",
        {"strength": 0.5},
        {"strength": kinds.number(above=0)},
        finish=lambda held: held.output_precision(jnp.ones(())),
    )
    table.inner(fx.HoldStrength(0.5), "output_precision", jnp.ones(()))


def _inner_problem(table: Table, world: World) -> None:
    """What solvers and rules are written with."""
    problem, whole = world.problem, fx.Problem(world.bidirectional, world.x, world.labels)
    activities, errors = world.relaxed.activities, problem.select(world.relaxed.errors)
    explained = problem.feedforward()
    part = problem.network.output
    for name in ("energy_of", "free_energy_of", "observed_energy_of"):
        table.inner(problem, name, part)
    for name in ("all_errors", "complete", "errors_of", "explained_at", "inferred", "select"):
        table.inner(problem, name, activities)
    for name in ("explain", "free_energy", "free_errors", "total", "unweigh", "weigh"):
        table.inner(problem, name, errors)
    for name in ("explained_energy", "explained_errors", "explained_gradient", "loss"):
        table.inner(problem, name, explained)
    for name in ("constant_energy", "feedforward", "zeros", "with_batch_statistics"):
        table.inner(problem, name)
    table.inner(problem, "hidden", activities)
    table.inner(problem, "predict", errors)
    table.inner(problem, "compared", part, explained)
    table.inner(problem, "joined_errors", errors, explained)
    table.inner(problem, "errors_from", activities, activities)
    table.inner(problem, "errors_from_start", errors)
    table.inner(problem, "is_read", "first")
    one = fx.Problem(world.network, world.x, world.classes)
    alone = jax.tree.map(lambda a: a[0], one.clamps)
    table.inner(one, "alone", alone)
    table.inner(whole, "feedforward")


def _inference(table: Table, world: World, ours: Kinds) -> None:
    problem = world.problem

    def relaxed(solver: Any, problem: Any = problem) -> Any:
        found = fx.infer(problem, solver)
        return found.energy, found.steps

    table.call(
        "fx.GaussNewton",
        {"iterations": 2, "cg_iterations": 2},
        {"iterations": kinds.count(), "cg_iterations": kinds.count()},
        finish=relaxed,
    )
    table.call(
        "fx.Newton",
        {"tolerance": 0.25, "max_iterations": 3, "cg_iterations": 3},
        finish=relaxed,
    )
    for name in ("ErrorDescent", "StateDescent"):
        table.call(
            f"fx.{name}",
            {"optimizer": world.optimizer, "steps": 3, "schedule": fx.Uniform()},
            {"steps": kinds.count(0)},
            finish=relaxed,
        )
    table.call(
        "fx.GradientFlow",
        {"solver": diffrax.Tsit5(), "tolerance": 0.25, "segments": 2},
        {
            "solver": ours.thing(
                "solver", value("diffrax.Tsit5", diffrax.Tsit5), value("fx.Newton()", fx.Newton())
            ),
            "controller": ours.thing(
                "controller",
                value("diffrax.PIDController", diffrax.PIDController),
                value("0.1", 0.1),
            ),
        },
        finish=relaxed,
    )
    table.call("fx.Exact", finish=lambda solver: relaxed(solver, world.linear_problem))
    table.call("fx.Uniform", finish=_weights)
    table.call(
        "fx.Spiking",
        {"alpha": 0.5},
        {"alpha": kinds.number(above=0).also([value("1.5", 1.5)])},
        finish=_weights,
    )
    table.call("fx.Decaying", {"rate": 0.5}, {"rate": kinds.number(above=0)}, finish=_weights)
    for schedule in (fx.Uniform(), fx.Spiking(), fx.Decaying()):
        table.inner(schedule, "weights", jnp.arange(2), jnp.asarray(0))
        table.inner(schedule, "check", (0, 1), 3)
    activities = {"first": np.asarray(world.relaxed.activities["first"])}
    start = ours.thing("linearization", Variant("relaxed", lambda base: world.relaxed))
    at = ours.entries("first", partly=True).also(
        [
            value("{'output': z}", {"output": np.ones((2, 5))}),
            value("{'nonsense': z}", {"nonsense": np.ones((2, 3))}),
            value("{5: z}", {5: np.ones((2, 3))}),
        ]
    )
    table.call(
        "fx.infer",
        {"problem": problem, "solver": world.solver, "at": activities},
        {"start": start, "at": at},
    )
    observe = kinds.function().also(
        [value("lambda: 3", lambda: 3), value("lambda p, e: 'text'", lambda p, e: "text")]
    )
    table.call(
        "fx.trace",
        {"problem": problem, "solver": world.descent, "steps": 2},
        {"observe": observe, "at": at},
    )
    frames = {"image": np.stack([world.x] * 3)}
    of_frames = kinds.array(3, free=(0, 1)).but("@[..., None]")
    table.call(
        "fx.follow",
        {
            "network": world.latent,
            "clamps": frames,
            "carry": {"cause": "cause"},
            "solver": world.solver,
            "initial": {"cause": np.ones((2, 2), np.float32)},
            "output_precision": 2.0,
        },
        {
            "clamps": _mapping(of_frames, "image").also(
                [NOTHING, value("{}", {}), value("{'imag': x}", {"imag": world.x})]
            ),
            "carry": Kind(
                "names by name",
                (
                    NOTHING,
                    OBJECT,
                    value("5", 5),
                    value("'cause'", "cause"),
                    value("['cause']", ["cause"]),
                    value("{'cause': 'nonsense'}", {"cause": "nonsense"}),
                    value("{'nonsense': 'cause'}", {"nonsense": "cause"}),
                    value("{'cause': 'hidden'}", {"cause": "hidden"}),
                    value("{'image': 'image'}", {"image": "image"}),
                    value("{5: 5}", {5: 5}),
                    value("{'cause': None}", {"cause": None}),
                    value("{'cause': ['cause']}", {"cause": ["cause"]}),
                ),
            ),
            "initial": _mapping(kinds.array(free=()), "cause").also(
                [value("{'image': x}", {"image": world.x})]
            ),
        },
    )
    table.method(world.relaxed, "settled", {"tolerance": 0.5}, {"tolerance": kinds.number(least=0)})
    table.method(world.relaxed, "describe")
    _inner_solvers(table, world)


def _weights(schedule: Any) -> Any:
    return schedule.weights(jnp.arange(2), jnp.asarray(1))


def _inner_solvers(table: Table, world: World) -> None:
    """What `infer` asks of a solver."""
    for solver, problem in (
        (fx.GaussNewton(2), world.problem),
        (fx.Newton(), world.problem),
        (fx.ErrorDescent(world.optimizer), world.problem),
        (fx.StateDescent(world.optimizer), world.problem),
        (fx.GradientFlow(segments=2), world.problem),
        (fx.Exact(), world.linear_problem),
    ):
        start = Linearization.at_start(problem)
        here = start.evaluation(problem)
        state = solver.init(problem, start, here)
        table.inner(solver, "init", problem, start, here)
        for name in ("step", "finished", "evaluation", "activities"):
            table.inner(solver, name, problem, state)
        table.inner(solver, "arrivals", problem)
        table.inner(solver, "with_key", world.key)
        if isinstance(solver, fx.GaussNewton | fx.ErrorDescent | fx.StateDescent):
            table.inner(solver, "with_weights_changed", problem, state)
        else:
            _refused(table, solver, "with_weights_changed", problem, state)
        if isinstance(solver, fx.ErrorDescent | fx.StateDescent):
            table.inner(solver, "begin", problem, state.coordinates, start)
            table.inner(solver, "descend", problem, state, state.coordinates)
            table.inner(solver, "weights", problem, state)
            table.inner(solver, "check", problem)
            table.inner(solver, "check_arrivals", (1, 0))
            table.inner(solver, "usual_arrivals", problem.network)


def _learning(table: Table, world: World, ours: Kinds) -> None:
    problem, key = world.problem, world.key
    networks = [Variant("latent", lambda base: world.latent)]

    def learned(rule: Any) -> Any:
        return rule.gradient(problem, key)

    held = {"solver": world.solver, "output_precision": 2.0}
    of_rule = {"output_precision": ours.strength()}
    for name in ("Equilibrium", "ForwardUpdate"):
        table.call(f"fx.{name}", held, of_rule, finish=learned)
    table.call(
        "fx.EquilibriumPropagation",
        {"solver": world.solver, "beta": 0.5, "centered": False},
        {"beta": ours.strength()},
        finish=learned,
    )
    table.call(
        "fx.Incremental",
        {"solver": fx.GaussNewton(2), "output_precision": 2.0},
        {**of_rule, "solver": ours.solver().also([value("fx.Newton()", fx.Newton())])},
        finish=learned,
    )
    table.call("fx.Backprop", finish=learned)
    state = Kind(
        "optimizer's state",
        (
            OBJECT,
            value("5", 5),
            value("'state'", "state"),
            Variant(
                "optax.adam(0.1).init(weights)",
                lambda b: optax.adam(0.1).init(fx.weights(world.network)),
            ),
            Variant("network", lambda base: world.network),
        ),
    )
    for rule in (
        world.rule,
        fx.ForwardUpdate(),
        fx.EquilibriumPropagation(),
        fx.Incremental(),
        fx.Backprop(),
    ):
        table.method(rule, "gradient", {"problem": problem, "key": key})
        table.method(rule, "probe", {"problem": problem, "key": key})
        table.method(
            rule, "init_optimizer", {"optimizer": world.optimizer, "network": world.network}
        )
        table.method(
            rule,
            "update",
            {
                "problem": problem,
                "optimizer": world.optimizer,
                "optimizer_state": rule.init_optimizer(world.optimizer, world.network),
                "key": key,
            },
            {"optimizer_state": state, "optimizer": ours.optimizer().but(*_RATES)},
        )
    table.method(fx.EquilibriumPropagation(), "stability", {"problem": problem, "key": key})
    table.inner(world.rule, "choose", problem, key)
    table.inner(world.rule, "prepare", problem, key)

    pair = tuple(world.part)
    batches = jax.tree.map(lambda a: a.reshape(2, 4, *a.shape[1:]), pair)
    pose = kinds.function().also(
        [
            value("lambda: None", lambda: None),
            value("lambda network, batch: None", lambda network, batch: None),
            value("lambda network, batch: network", lambda network, batch: network),
            value("fx.Problem", fx.Problem),
        ]
    )

    def updated(learner: Any) -> Any:
        return learner.update(world.network, learner.begin(world.network), pair, key)

    table.call(
        "fx.Learner",
        {"rule": world.rule, "optimizer": world.optimizer},
        {"pose": pose},
        finish=updated,
    )
    learner = world.learner
    table.method(learner, "begin", {"network": world.network})
    table.method(
        learner,
        "update",
        {"network": world.network, "state": world.optimizer_state, "batch": pair, "key": key},
        {
            "network": ours.network().also(networks),
            "state": state,
            "batch": ours.part().but("{'input': x}"),
        },
    )
    table.method(
        learner,
        "updates",
        {
            "network": world.network,
            "state": world.optimizer_state,
            "batches": batches,
            "keys": world.keys,
        },
        {
            "state": state,
            "keys": ours.keys(),
            "observe": kinds.function().also([value("lambda: 3", lambda: 3)]),
            "batches": Kind(
                "batches",
                (
                    NOTHING,
                    OBJECT,
                    value("5", 5),
                    value("(x, y)", pair),
                    value("(xs,)", batches[:1]),
                    value("(xs, ys[:1])", (batches[0], batches[1][:1])),
                    value("(xs, ys, ys)", (*batches, batches[1])),
                    value("{'nonsense': xs}", {"nonsense": batches[0]}),
                    value("(xs.astype(str), ys)", (batches[0].astype(str), batches[1])),
                    value("(xs, ys + 0.5)", (batches[0], batches[1] + 0.5)),
                    value("(xs + 1j, ys)", (batches[0] + 1j, batches[1])),
                    value("(xs[:0], ys[:0])", (batches[0][:0], batches[1][:0])),
                ),
                (
                    value("[xs, ys]", list(batches)),
                    value("(xs.astype('>f4'), ys)", (batches[0].astype(">f4"), batches[1])),
                    value("(xs, ys.astype('uint8'))", (batches[0], batches[1].astype("uint8"))),
                    value("(xs, ys.astype('>i8'))", (batches[0], batches[1].astype(">i8"))),
                ),
            ),
        },
    )
    table.method(
        learner,
        "pose",
        {"network": world.network, "batch": pair},
        {"network": ours.network().also(networks), "batch": ours.part().but("{'input': x}")},
    )
    table.call(
        "fx.scale_learning_rates",
        {"optimizer": world.optimizer},
        finish=lambda made: made.init(fx.weights(world.network)),
    )


_RATES = ("0.1", "np.float32(0.1)", "np.array(0.1)", "jnp.asarray(0.1)")


def _fit(table: Table, world: World, ours: Kinds) -> None:
    def scores(network: Any, batch: Any) -> Any:
        return {"loss": jnp.zeros(len(batch["target"]))}

    table.call(
        "fx.fit",
        {
            "network": world.network,
            "data": world.data,
            "rule": fx.Backprop(),
            "optimizer": world.optimizer,
            "epochs": 1,
            "batch_size": 4,
            "seed": 3,
        },
        {
            "network": ours.network().also(
                [
                    Variant("latent", lambda base: world.latent),
                    Variant("transformer", lambda base: world.transformer),
                ]
            ),
            "batch_size": kinds.count(most=8),
            "seed": kinds.integer(),
            "observers": Kind(
                "observers",
                (
                    NOTHING,
                    OBJECT,
                    value("5", 5),
                    value("'bar'", "bar"),
                    value("[5]", [5]),
                    value("[None]", [None]),
                    value("[fathomx.training.Observer]", [fathomx.training.Observer]),
                    value("fathomx.training.Observer()", fathomx.training.Observer()),
                    value("[print]", [print]),
                ),
                (
                    value("[]", []),
                    value("[fathomx.training.Observer()]", [fathomx.training.Observer()]),
                ),
            ),
            "pose": kinds.function().also(
                [
                    value("lambda: None", lambda: None),
                    value("lambda network, batch: None", lambda network, batch: None),
                    value("lambda network, batch: network", lambda network, batch: network),
                    value("fx.Problem", fx.Problem),
                ],
            ),
            "scores": kinds.function().also(
                [
                    value("lambda: None", lambda: None),
                    value("lambda network, batch: None", lambda network, batch: None),
                    value("lambda network, batch: 3.0", lambda network, batch: 3.0),
                    value("lambda n, b: {'loss': 'low'}", lambda n, b: {"loss": "low"}),
                    value("lambda n, b: {'loss': jnp.ones(3)}", lambda n, b: {"loss": jnp.ones(3)}),
                    value("lambda n, b: {5: 1.0}", lambda n, b: {5: 1.0}),
                ],
                [kinds.uncompared("scores", lambda base: scores)],
            ),
        },
        finish=lambda result: (result.network, result.summary["test_loss"]),
    )


def _parameterizations(table: Table, world: World, ours: Kinds) -> None:
    def scaled(made: Any) -> Any:
        return made.scaling(fx.Role.INPUT, 4, 3, 2), made.scaling(fx.Role.OUTPUT, 4, 3, 2)

    table.call("fx.Standard", {"gain": 2.0}, {"gain": kinds.number(above=0)}, finish=scaled)
    table.call("fx.NTK", finish=scaled)
    table.call("fx.MuPC", {"gamma_0": 2.0, "end_rate": 0.5}, finish=scaled)
    power = fx.Power(2.0, -0.5)
    roles = {"input": (power, 1, 1), "output": (power, 1, 1)}

    def other(row: Any) -> dict[Any, Any]:
        return {**roles, "input": row}

    table.call(
        "fx.ABC",
        {"table": roles},
        {
            "table": Kind(
                "table",
                (
                    NOTHING,
                    OBJECT,
                    value("5", 5),
                    value("'input'", "input"),
                    value("[]", []),
                    value("[('input', (1, 1, 1))]", [("input", (1, 1, 1))]),
                    value("{'inptu': (1, 1, 1)}", {"inptu": (1, 1, 1)}),
                    value("{5: (1, 1, 1)}", {5: (1, 1, 1)}),
                    value("{None: (1, 1, 1)}", {None: (1, 1, 1)}),
                    value("{'input': (1, 1)}", other((1, 1))),
                    value("{'input': (1, 1, 1, 1)}", other((1, 1, 1, 1))),
                    value("{'input': 1}", other(1)),
                    value("{'input': None}", other(None)),
                    value("{'input': '111'}", other("111")),
                    value("{'input': (1, 'one', 1)}", other((1, "one", 1))),
                    value("{'input': (1, None, 1)}", other((1, None, 1))),
                    value("{'input': (1, nan, 1)}", other((1, float("nan"), 1))),
                    value("{'input': (1, inf, 1)}", other((1, float("inf"), 1))),
                    value("{'input': (1, -1, 1)}", other((1, -1, 1))),
                    value("{'input': (1, 1j, 1)}", other((1, 1j, 1))),
                    value("{'input': (1, True, 1)}", other((1, True, 1))),
                    value("{'input': (1, 10**400, 1)}", other((1, kinds.HUGE, 1))),
                    value("{'input': (1, [1], 1)}", other((1, [1], 1))),
                    value("{'input': (1, fx.Power, 1)}", other((1, fx.Power, 1))),
                    value("{'input': {1, 2, 3}}", other({1, 2, 3})),
                ),
                (
                    value("{fx.Role.INPUT: ...}", {fx.Role(k): v for k, v in roles.items()}),
                    value("{'input': [power, 1, 1]}", other([power, 1, 1])),
                    value("{'input': (power, 1.0, 1)}", other((power, 1.0, 1))),
                    value("{'input': (power, np.float32(1), 1)}", other((power, np.float32(1), 1))),
                ),
            )
        },
        finish=scaled,
    )
    exponents = ("fan_in", "width", "depth")
    table.call(
        "fx.Power",
        {"coefficient": 2.0, **dict.fromkeys(exponents, 1.0)},
        {"coefficient": kinds.number(least=0), **dict.fromkeys(exponents, kinds.number())},
        finish=lambda made: scaled(fx.ABC({"input": (made, 1, 1), "output": (1, 1, 1)})),
    )
    table.method(
        power,
        "__call__",
        {"fan_in": 4, "width": 3, "depth": 2},
    )
    standard = fx.Standard()
    sizes = {"width": 3, "depth": 2}
    of_sizes = {"sizes": kinds.sizes(2)}
    for made in (standard, fx.NTK(), fx.MuPC(), fx.ABC(roles)):
        table.method(made, "scaling", {"role": fx.Role.INPUT, "fan_in": 4, **sizes})
        table.method(made, "knows", {"role": fx.Role.INPUT})
    table.method(standard, "multiplier", {"role": fx.Role.ATTENTION, "fan_in": 4, **sizes})
    table.method(
        standard,
        "linear",
        {"role": fx.Role.INPUT, "sizes": (4, 3), **sizes, "key": world.key},
        of_sizes,
    )
    table.method(
        standard,
        "affine",
        {"layer": standard.linear(fx.Role.INPUT, (4, 3), 3, 2, world.key), "size": 3, **sizes},
        {"layer": kinds.function()},
        finish=lambda layer: layer(jnp.ones(4)),
    )
    table.method(
        standard,
        "convolution",
        {
            "role": fx.Role.INPUT,
            "sizes": (1, 2),
            "kernel": 3,
            **sizes,
            "key": world.key,
            "stride": 1,
        },
        {**of_sizes, "stride": kinds.count(most=2)},
    )
    table.method(standard, "embedding", {"count": 6, "added": 2, **sizes, "key": world.key})
    table.method(
        standard,
        "normalization",
        {"make": fathomx.layers.LayerNorm, "channels": 3, **sizes},
        {"make": kinds.function()},
    )
    table.inner(fx.Scaling(1.0, 1.0, 1.0), "draw", (2, 3), world.key)


def _layers(table: Table, world: World, ours: Kinds) -> None:
    numbers = {
        "multiplier": kinds.number(),
        "learning_rate_scale": kinds.number(least=0),
    }
    scales = {"multiplier": 2.0, "learning_rate_scale": 0.5}

    def weight(axes: int, free: tuple[int, ...]) -> Kind:
        return Kind("array", kinds.array(axes, free=free).wrong)

    cases = {
        "Linear": (np.ones((3, 4), np.float32), (0,), jnp.ones(4)),
        "Bias": (np.ones(3, np.float32), (), jnp.ones(3)),
        "Embedding": (np.ones((6, 4), np.float32), (0, 1), jnp.array([1, 2])),
        "Convolution": (np.ones((3, 3, 1, 2), np.float32), (0, 1, 3), jnp.ones((4, 4, 1))),
        "ScaledWeight": (np.ones((3, 4), np.float32), (0, 1), None),
    }
    for name, (array, free, seen) in cases.items():
        kind = getattr(fathomx.layers, name)
        given = {**numbers, "weight": weight(array.ndim, free).but("0.5")}
        if name == "Convolution":
            given["stride"] = kinds.count(most=2)
        if name in ("Bias", "ScaledWeight"):
            given["weight"] = given["weight"].but("@[..., None]", "@[0]")
        table.call(
            f"fathomx.layers.{name}",
            {"weight": jnp.asarray(array), **scales},
            given,
            finish=lambda layer, seen=seen: layer(seen) if seen is not None else layer.weight,
        )
        if seen is not None:
            bad = (
                [Variant("@ + 0.5", lambda a: a + 0.5)] if name == "Embedding" else _last_axis(seen)
            )
            parameter = "tokens" if name == "Embedding" else "activity"
            table.method(
                kind(jnp.asarray(array)),
                "__call__",
                {parameter: seen},
                {parameter: Kind("array", tuple(bad))},
            )
    bias = fathomx.layers.Bias(jnp.ones(3))
    linear = fathomx.layers.Linear(jnp.ones((3, 4)))
    table.call(
        "fathomx.layers.Affine",
        {"map": linear, "bias": bias},
        {
            "map": kinds.function().also([value("eqx.nn.Linear", eqx.nn.Linear)]),
            "bias": ours.thing("bias", value("fathomx.layers.Bias", fathomx.layers.Bias)),
        },
        finish=lambda layer: layer(jnp.ones(4)),
    )
    activity = {"activity": Kind("array", tuple(_last_axis(jnp.ones(4))))}
    table.method(
        fathomx.layers.Affine(linear, bias), "__call__", {"activity": jnp.ones(4)}, activity
    )
    for name, more in (("LayerNorm", {}), ("GroupNorm", {"groups": 2}), ("BatchNorm", {})):
        table.call(
            f"fathomx.layers.{name}",
            {"channels": 4, **more, "learning_rate_scale": 0.5},
            {
                "learning_rate_scale": numbers["learning_rate_scale"],
                **({"groups": kinds.count().also([value("3", 3)])} if more else {}),
            },
            finish=lambda layer: (layer(jnp.arange(4.0)), layer.learning_rate_scale),
        )
        layer = getattr(fathomx.layers, name)(4, **more)
        table.method(layer, "__call__", {"activity": jnp.ones(4)}, activity)
    table.method(
        fathomx.layers.BatchNorm(4),
        "with_batch_statistics",
        {"activities": jnp.ones((2, 4))},
        {"activities": Kind("array", tuple(_last_axis(jnp.ones((2, 4)))))},
    )
    table.call(
        "fathomx.layers.activation_function",
        {"activation": "gelu"},
        {"activation": ours.activation().but("eqx.nn.PReLU")},
        finish=lambda function: function(jnp.arange(3.0)),
    )
    several = (jnp.ones(3), jnp.ones(3))
    table.call(
        "fathomx.layers.add",
        {"activities": several},
        {
            "activities": Kind(
                "arrays",
                (
                    value("np.ones(3), np.ones(4)", (np.ones(3), np.ones(4))),
                    value("np.ones(3), np.ones((1, 3))", (np.ones(3), np.ones((1, 3)))),
                    value("np.ones(3), 1.0", (np.ones(3), 1.0)),
                    value("", ()),
                    value("'a', 'b'", ("a", "b")),
                ),
            )
        },
    )
    table.call("fathomx.layers.linear", {"x": jnp.ones(3)}, {"x": None})
    image = jnp.arange(16.0).reshape(4, 4, 1)
    for name in ("max_pool", "average_pool"):
        table.call(
            f"fathomx.layers.{name}",
            {"activity": image},
            {
                "activity": Kind(
                    "array",
                    (
                        Variant("@[:3]", lambda a: a[:3]),
                        Variant("@[:, :3]", lambda a: a[:, :3]),
                        Variant("@[..., 0]", lambda a: a[..., 0]),
                        Variant("@[None]", lambda a: a[None]),
                    ),
                )
            },
        )


def _last_axis(like: Any) -> list[Variant]:
    """Arrays with one channel too many or too few."""
    return [
        Variant("@[..., 1:]", lambda a: a[..., 1:]),
        Variant("<@ with one more channel>", lambda a: jnp.concatenate([a, a[..., :1]], -1)),
        Variant("@.sum()", lambda a: a.sum()),
    ]


def _theory(table: Table, world: World, ours: Kinds) -> None:
    linear, network, x, y = world.linear, world.network, world.x, world.labels
    loss = world.loss
    data = {"x": kinds.array(), "y": kinds.labels(CLASSES)}
    for name, more in (("Loss", {}), ("EquilibratedEnergy", {"solver": world.solver})):
        table.call(
            f"fx.theory.{name}",
            {"x": x, "y": y, "output_precision": 2.0, **more},
            data,
            finish=lambda objective: objective(network),
        )
    energy = fx.theory.EquilibratedEnergy(x, y)
    for objective in (loss, energy):
        table.method(objective, "__call__", {"network": network})
        table.inner(objective, "around", network)
    table.method(loss, "problem", {"network": network})
    table.call(
        "fx.theory.equilibrated_energy",
        {"network": linear, "x": x, "y": y, "output_precision": 2.0, "solver": None, "chunk": 3},
        {"network": ours.network_or_problem(), **data},
        finish=lambda found: (found.energy, found.energies),
    )
    found = fx.theory.equilibrated_energy(linear, x, y)
    table.method(found, "describe")
    table.call(
        "fx.theory.rescaling",
        {"network": linear, "output_precision": 2.0, "chunk": 3},
        {"network": ours.network_or_problem().also([Variant("gelu network", lambda b: network)])},
    )
    table.call("fx.theory.relaxing_solver", {"network": network})
    table.call("fx.theory.gradient", {"objective": loss, "network": network})
    table.call(
        "fx.theory.hessian",
        {"objective": loss, "network": network},
        {"most_bytes": kinds.bytes_count().also([value("10", 10)])},
    )
    table.call(
        "fx.theory.hessian_product",
        {"objective": loss, "network": network},
        finish=lambda made: made[0](jnp.ones(made[1])),
    )
    matrix = np.diag(np.arange(1.0, 4.0)).astype(np.float32)
    table.call(
        "fx.theory.lanczos",
        {"product": lambda v: matrix @ v, "start": np.ones(3, np.float32), "steps": 2},
        {
            "product": kinds.function().also([value("lambda: 3", lambda: 3)]),
            "start": Kind("array", kinds.array(1).but("@[:0]").wrong, _ONLY_JAX),
        },
    )
    distance = kinds.number(least=0)
    table.call(
        "fx.theory.nearby",
        {"network": network, "distance": 0.5, "key": world.key},
        {"distance": distance},
    )
    table.call("fx.theory.origin", {"network": network})
    size = fx.theory.gradient(loss, network).size
    vectors = (np.eye(size, dtype=np.float32)[0], np.eye(size, dtype=np.float32)[1])
    table.call(
        "fx.theory.plane",
        {
            "objective": loss,
            "network": network,
            "directions": vectors,
            "radius": 0.5,
            "points": 3,
        },
        {
            "points": kinds.count(2),
            "directions": Kind(
                "arrays",
                (
                    NOTHING,
                    OBJECT,
                    value("5", 5),
                    value("'xy'", "xy"),
                    value("[]", []),
                    value("(a,)", vectors[:1]),
                    value("(a, b, b)", (*vectors, vectors[1])),
                    value("a", vectors[0]),
                    value("(a, b[1:])", (vectors[0], vectors[1][1:])),
                    value("(a, None)", (vectors[0], None)),
                    value("(a, b * nan)", (vectors[0], vectors[1] * np.nan)),
                    value("(a, b + 1j)", (vectors[0], vectors[1] + 1j)),
                    value("(a, b.astype(str))", (vectors[0], vectors[1].astype(str))),
                    value("(a, b.astype(object))", (vectors[0], vectors[1].astype(object))),
                    value("(a, 1.0)", (vectors[0], 1.0)),
                ),
                (
                    value("[a, b]", list(vectors)),
                    value("np.stack((a, b))", np.stack(vectors)),
                    value("(a, b.astype('>f8'))", (vectors[0], vectors[1].astype(">f8"))),
                    value("(a.tolist(), b)", (vectors[0].tolist(), vectors[1])),
                ),
            ),
        },
    )
    table.call(
        "fx.theory.rank_r",
        {"network": linear, "x": x, "y": y, "rank": 1},
        {
            **data,
            "rank": kinds.count(0, most=3),
            "network": ours.network().also([Variant("gelu network", lambda base: network)]),
        },
    )
    table.call(
        "fx.theory.rank_zero",
        {"network": world.deep, "label": "hidden[0]"},
        {"label": kinds.choice(*world.deep.labels)},
    )
    table.call(
        "fx.theory.spectrum",
        {"objective": loss, "network": network, "tolerance": 0.125, "dense_up_to": 100},
        {"tolerance": kinds.number(above=0, below=1), "dense_up_to": kinds.count(0)},
        finish=lambda found: (found.smallest, found.largest, found.verdict),
    )
    table.call(
        "fx.theory.trust_region",
        {"problem": world.problem, "solver": world.solver},
        finish=lambda found: found.overall_cosine,
    )
    table.method(fx.theory.trust_region(world.problem, world.solver), "describe")
    table.call(
        "fx.theory.with_hidden_precision",
        {"network": network, "precision": 2.0},
        {"precision": kinds.number(above=0)},
        finish=lambda made: made.entry("first").energy.precision,
    )
    _hessians(table, world, ours)


def _hessians(table: Table, world: World, ours: Kinds) -> None:
    single = world.single_problem
    activities = {k: np.asarray(v) for k, v in world.single_relaxed.activities.items()}
    entries = {"first": activities["first"]}
    for name in ("StateHessian", "ErrorHessian"):
        table.call(
            f"fx.theory.{name}",
            {"problem": single, "at": activities},
            {
                "problem": ours.problem().also([Variant("problem of 2", lambda b: world.problem)]),
                "at": ours.entries("first"),
            },
            finish=lambda hessian: hessian.dense(),
        )
        hessian = getattr(fx.theory, name)(single)
        whole = {k: jnp.asarray(v) for k, v in entries.items()}
        table.inner(hessian, "coordinates", whole)
        table.inner(hessian, "energy", whole)
        table.inner(hessian, "in_errors", whole)
    hessian = fx.theory.StateHessian(single)
    label = kinds.choice("first")
    most = kinds.bytes_count().also([value("2", 2)])
    table.method(
        hessian,
        "block",
        {"row": "first", "column": "first"},
        {"row": label, "column": label, "most_bytes": most},
    )
    table.method(hessian, "dense", {}, {"most_bytes": most})
    table.method(hessian, "extremes", {"dense_up_to": 5}, {"dense_up_to": kinds.count(0)})
    table.method(
        hessian,
        "predicted_steps",
        {"rate": 0.125, "tolerance": 0.25, "dense_up_to": 5, "most_products": 8},
        {"tolerance": kinds.number(above=0, below=1), "dense_up_to": kinds.count(0)},
    )
    table.method(hessian, "product", {"entries": entries}, {"entries": ours.entries("first")})


def _diagnostics(table: Table, world: World, ours: Kinds) -> None:
    problem, network = world.problem, world.network
    table.call(
        "fx.alignment",
        {"problem": problem, "rule": world.rule, "key": world.key},
    )
    gradient = (
        ours.network()
        .but("fx.weights(network)")
        .also([Variant("fx.weights(latent)", lambda base: fx.weights(world.latent))])
    )
    table.call(
        "fathomx.diagnostics.compare_to_backprop",
        {"problem": problem, "gradient": world.gradient, "key": world.key},
        {"gradient": gradient},
    )
    table.call(
        "fathomx.diagnostics.node_dot",
        {"a": world.gradient, "b": world.gradient},
        {"a": gradient, "b": gradient},
    )
    other = [Variant("latent", lambda base: world.latent)]
    changed = ours.network().but("fx.weights(network)").also(other)
    table.call(
        "fx.weight_change",
        {"before": network, "after": world.other},
        {"before": changed, "after": changed},
    )
    table.call(
        "fx.diagnose",
        {"problem": problem, "solver": world.descent, "reference": world.solver},
        {"reference": ours.solver()},
        finish=lambda found: (found.energy, found.activity),
    )
    table.call(
        "fx.energy_balance",
        {"network": network, "energy": np.array([0.5, 2.0], np.float32), "activity": 2.0},
        {
            "network": ours.network_or_problem(),
            "energy": kinds.array(1, finite=False).but("@[0]"),
            "activity": kinds.number(above=0),
        },
    )
    table.method(fx.Alignment, "unknown", {"network": network})


def _report(table: Table, world: World, ours: Kinds) -> None:
    run, diagnosis = world.run, world.diagnosis
    folder = kinds.existing_folder(world)
    picture = kinds.new_path(world).also(
        [Variant("'figure.nonsense'", lambda base: world.place(".nonsense"))]
    )
    new = Fresh(lambda: world.place(".png"))
    for name, source in (
        ("alignment_per_node", run),
        ("energy_over_training", run),
        ("energy_per_node", run),
        ("strength_and_settledness", run),
        ("energy_beside_equilibrium", diagnosis),
        ("energy_over_inference", diagnosis),
    ):
        table.call(
            f"fathomx.report.{name}",
            {"folder": source, "path": new},
            {"folder": folder, "path": picture},
            finish=lambda path: path.stat().st_size > 0,
        )
    runs = _mapping(folder.but("'a\\0b'"), "one").also([NOTHING, value("{}", {}), value("[]", [])])
    table.call(
        "fathomx.report.learning_curves",
        {"runs": {"one": run}, "path": new},
        {"runs": runs, "path": picture},
        finish=lambda path: path.stat().st_size > 0,
    )
    table.call(
        "fathomx.report.write_comparison",
        {"folder": Fresh(world.place), "runs": {"one": run}},
        {"folder": kinds.new_path(world).but("<a folder>"), "runs": runs},
        finish=lambda path: path.stat().st_size > 0,
    )
    table.call(
        "fathomx.report.write_page",
        {"folder": run},
        {"folder": folder},
        finish=lambda path: path.stat().st_size > 0,
    )
    table.call("fathomx.report.read_diagnosis", {"folder": diagnosis}, {"folder": folder})
    files = fathomx.report.RunFiles(run)
    table.call(
        "fathomx.report.RunFiles",
        {"folder": run},
        {"folder": folder},
        finish=lambda found: found.summary["test_loss"],
    )
    table.inner(files, "per_epoch", "train_loss")
    table.inner(files, "per_step", "loss")
    mapping = Kind(
        "mapping",
        (NOTHING, OBJECT, value("5", 5), value("'config'", "config"), value("[1]", [1])),
    )
    content = json.loads((diagnosis / "diagnosis.json").read_text(encoding="utf-8"))
    table.call("fathomx.report.findings", {"content": content}, {"content": mapping})
    table.call(
        "fathomx.report.verdict",
        {"config": files.config, "summary": files.summary, "history": files.records},
        {
            "config": mapping,
            "summary": mapping,
            "history": Kind(
                "list of mappings",
                (NOTHING, OBJECT, value("5", 5), value("'history'", "history"), value("[5]", [5])),
            ),
        },
    )


def _training(table: Table, world: World, ours: Kinds) -> None:
    new = Fresh(world.place)
    config = {"data": "toy", "epochs": 1}
    of_config = Kind(
        "configuration",
        (
            OBJECT,
            value("5", 5),
            value("'config'", "config"),
            value("[1]", [1]),
            value("{'a': object()}", {"a": object()}),
            value("{'a': {1, 2}}", {"a": {1, 2}}),
        ),
        (kinds.uncompared("{'a': np.float32(1)}", lambda base: {"a": np.float32(1)}),),
    )
    kind = fathomx.training.RunFolder
    table.call(
        "fathomx.training.RunFolder",
        {"folder": new},
        {"folder": kinds.new_path(world).but("<a folder>", "Path('file.txt') / 'within'")},
        finish=lambda made: None,
    )
    table.method(
        kind,
        "create",
        {"folder": new, "config": config},
        {"folder": kinds.new_path(world), "config": of_config.also([NOTHING])},
        finish=lambda made: None,
    )

    def begun() -> Any:
        return kind.create(world.place(), config)

    table.method(
        kind,
        "resume",
        {"folder": Fresh(lambda: begun().folder), "config": config},
        {
            "folder": kinds.existing_folder(world),
            "config": of_config.but("{'a': np.float32(1)}").also(
                [value("{'epochs': 2}", {"epochs": 2})]
            ),
        },
        finish=lambda made: None,
    )
    _observers(table, world)
    console = Console(file=open(world.place(".txt"), "w", encoding="utf-8"))  # noqa: SIM115
    table.call(
        "fathomx.training.ProgressBar",
        {"console": console, "name": "training"},
        {
            "console": ours.thing("console", value("Console", Console), value("print", print)),
            "name": kinds.word().but("''"),
        },
        finish=lambda bar: None,
    )
    table.call("fathomx.training.Observer", finish=lambda made: None)
    devices = jax.devices()
    table.call(
        "fx.Division",
        {"devices": devices},
        {"devices": ours.devices().also([NOTHING])},
        finish=lambda made: len(made.devices),
    )
    division = fx.Division(devices)
    table.method(
        fx.Division,
        "of",
        {"batch_size": 32, "devices": devices},
        {"devices": ours.devices()},
        finish=lambda made: len(made.devices),
    )
    for name in ("gathered", "parts", "whole"):
        table.inner(division, name, {"x": world.x})
    table.inner(
        fathomx.training.TrainingState, "begun", world.network, world.optimizer_state, world.key
    )


def _observers(table: Table, world: World) -> None:
    """What a run tells those who watch it."""
    state, plan, run = world.state, world.plan, world.run
    records = fathomx.report.RunFiles(run).records
    steps = next(record for record in records if record["kind"] == "steps")
    epoch = next(record for record in records if record["kind"] == "epoch")
    summary = fathomx.report.RunFiles(run).summary
    console = Console(file=open(world.place(".txt"), "w", encoding="utf-8"))  # noqa: SIM115
    for watcher in (
        fathomx.training.Observer(),
        fathomx.training.ProgressBar(console),
        fathomx.training.RunFolder.create(world.place(), {}),
    ):
        table.inner(watcher, "restore", state)
        table.inner(watcher, "started", plan, state)
        table.inner(watcher, "stepped", steps, state)
        table.inner(watcher, "epoch_ended", epoch, state)
        table.inner(watcher, "interrupted", state)
        table.inner(watcher, "finished", summary, state)
        if hasattr(watcher, "close"):
            table.inner(watcher, "close")


def _results(table: Table, world: World, ours: Kinds) -> None:
    """What is only returned: it is enough that there is one."""
    del ours
    relaxed, problem = world.relaxed, world.problem
    diagnosis = fx.diagnose(problem, world.descent)
    region = fx.theory.trust_region(problem, world.solver)
    solved = Linearization.at_start(problem)
    table.result("fx.SolverState", world.solver.init(problem, solved, solved.evaluation(problem)))
    table.result("fx.Relaxation", relaxed)
    table.result("fx.Diagnosis", diagnosis)
    table.result("fx.Alignment", diagnosis.alignment)
    table.result("fx.EnergyBalance", diagnosis.balance)
    table.result("fx.StepReport", world.rule.gradient(problem, world.key)[1])
    table.result("fx.Scaling", fx.NTK().scaling(fx.Role.INPUT, 4, 3, 2))
    table.result("fx.theory.TrustRegion", region)
    table.result("fx.theory.Displacement", region.relaxed)
    table.result("fx.theory.Equilibrated", fx.theory.equilibrated_energy(world.linear_problem))
    table.result("fx.theory.Spectrum", fx.theory.spectrum(world.loss, world.network))
    table.result("fx.theory.Extremes", fx.theory.StateHessian(world.single_problem).extremes())
    directions = (jnp.zeros(27), jnp.zeros(27))
    table.result(
        "fx.theory.Plane", fx.theory.plane(world.loss, world.network, directions, points=2)
    )
    normalization = world.normalized
    statistics = [
        leaf
        for leaf in jax.tree.leaves(normalization, is_leaf=lambda p: isinstance(p, fx.Statistics))
        if isinstance(leaf, fx.Statistics)
    ]
    table.result("fx.Statistics", statistics[0])
    table.result("fx.training.Plan", world.plan)
    table.result("fx.training.TrainingState", world.state)
    fitted = fx.fit(world.network, world.data, fx.Backprop(), epochs=1, batch_size=4)
    table.result("fx.FitResult", fitted)
