"""Valid calls of models and data sets."""

from __future__ import annotations

import arguments_kinds as kinds
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
from arguments_kinds import BFLOAT16, NOTHING, OBJECT, OTHER_SIZES, Kind
from arguments_table import Table
from arguments_world import CLASSES, VOCABULARY, World

import fathomx as fx


def models(table: Table, world: World) -> None:
    """`fx.models`."""
    few = {"key": world.key}
    wrong_lists = ("[0]", "[1.5]", "['three']", "[None]", "[True]", "[[3]]", "[3, 3]", "range(0)")
    width = kinds.count().but("[3]").also(*wrong_lists)
    for name in ("mlp", "residual_mlp"):
        several = ("[@]", "(@,)") if name == "mlp" else ()
        named = ("['gelu']", "('gelu',)") if name == "mlp" else ()
        table.call(
            f"fx.models.{name}",
            {"in_size": 4, "out_size": 5, "width": 3, "depth": 2, **few},
            {
                "width": width.also(right=several),
                "depth": kinds.count(2),
                "activation": kinds.activation().also(right=named),
            },
        )
    images = {"classes": 5, **few}
    of_images = {"image_shape": kinds.shape(3).but(OTHER_SIZES)}
    # What this many times the published channels are is one or two.
    of_channels = {
        **of_images,
        "depth": kinds.count().also("6"),
        "width": kinds.number(above=0),
        "normalization": kinds.choice(None, "batch", "group"),
    }
    small = {"image_shape": (8, 8, 1), **images}
    table.call("fx.models.residual_cnn", {"blocks": 1, "width": 2, **small}, of_images)
    table.call(
        "fx.models.resnet",
        {"depth": 10, "width": 0.03125, **small},
        {**of_channels, "stem": kinds.choice(None, "small")},
    )
    table.call(
        "fx.models.vgg",
        {
            "depth": 5,
            "width": 0.03125,
            "image_shape": (16, 16, 1),
            "normalization": "group",
            **images,
        },
        {
            **of_channels,
            "pool": kinds.choice("max", "average"),
            "head": kinds.choice(None, "flat", "average"),
        },
    )
    table.call(
        "fx.models.transformer",
        {"vocabulary": 6, "context": 3, "width": 4, "depth": 1, "heads": 2, **few},
        {
            "heads": kinds.count().also("3"),
            "normalization": kinds.choice(None, "layer"),
        },
    )


def generating(table: Table, world: World) -> None:
    """The models of `fx.models` that generate, remember, or live in time."""
    few = {"key": world.key}
    small = {"width": 3, "depth": 3, "activation": "tanh", **few}
    common = {"width": kinds.count(), "activation": kinds.activation(), "bias": kinds.flag()}
    for name in ("decoder", "residual_decoder"):
        table.call(
            f"fx.models.{name}",
            {"latents": 2, "shape": 4, "precision": 2.0, **small},
            {**common, "depth": kinds.count(2), "shape": None, "precision": kinds.number(above=0)},
        )
    table.call(
        "fx.models.decoder(latents, shape, ...)",
        {"latents": 2, "shape": (4, 4, 1), **small},
        {"shape": kinds.shape(3).but(OTHER_SIZES).also("(3, 4, 1)", "(4, 4)"),
         **dict.fromkeys((*small, "latents"))},
    )  # fmt: skip
    decoder = fx.models.decoder(2, 4, width=3, depth=2, key=world.key)
    table.call(
        "fx.models.with_encoder",
        {"network": decoder, **small},
        {"network": kinds.network(), "activation": kinds.activation()},
    )
    table.call(
        "fx.models.bidirectional",
        {"in_shape": 4, "out_size": 3, "precisions": (1.0, 0.5), **small},
        {
            **common,
            "in_shape": None,
            "depth": kinds.count(2),
            "precisions": Kind(
                "precisions",
                (NOTHING, OBJECT, "5", "'both'", "(1.0,)", "(1.0, -1.0)", "(0, 1.0)", "@ * 2"),
            ),
        },
    )
    both = fx.models.bidirectional(4, 3, width=3, key=world.key)
    table.call(
        "fx.models.with_precisions",
        {"network": both, "precisions": (1.0, 0.5)},
        {"network": kinds.network(), "precisions": None},
    )
    problem = fx.Problem(both, {"output": np.eye(3, dtype=np.float32)})
    table.call("fx.top_down", {"problem": problem}, {"problem": kinds.problem()})
    table.call(
        "fx.models.state_space",
        {"states": 2, "out_size": 3, "controls": 1, "precision": 2.0, **small},
        {**common, "controls": kinds.count(0), "precision": kinds.number(above=0)},
    )
    table.call(
        "fx.models.recurrent",
        {"in_size": 2, "out_size": 3, "states": 2, "precision": 2.0, **few},
        {
            "activation": kinds.activation(),
            "bias": kinds.flag(),
            "precision": kinds.number(above=0),
        },
    )
    single = fx.wrap(
        [eqx.nn.Linear(a, b, key=world.key) for a, b in ((4, 3), (3, 3), (3, 5))],
        (4,),
        ["one", "two", "three"],
    )
    table.call(
        "fx.models.with_feedbacks",
        {"network": single, "names": ["two"], **few},
        {
            "network": kinds.network(),
            "names": kinds.words(known=True),
            "activation": kinds.activation(),
        },
    )
    feedback = fx.Feedback("back", "one", eqx.nn.Linear(5, 3, key=world.key), "three")
    table.method(single, "with_feedbacks", {"feedbacks": [feedback]}, {"feedbacks": None})


def wrapping(table: Table, world: World) -> None:
    """`fx.wrap`."""
    first, last = (eqx.nn.Linear(a, b, key=world.key) for a, b in ((4, 3), (3, 5)))
    layers = Kind(
        "layers",
        (
            *(NOTHING, OBJECT, "[]", "5", "'layers'", "[5, 5]", "{}", "[None, None]"),
            *("[eqx.nn.Linear, eqx.nn.Linear]", "@[:1]", "@[0]", "@[::-1]", "[*@, *@]", "network"),
        ),
        ("tuple(@)", "eqx.nn.Sequential([@[0], eqx.nn.Lambda(jnp.tanh), @[2]])"),
    )
    names = ("['a']", "['a', 'a']", "['a', 5]", "['input', 'b']", "'ab'")
    table.call(
        "fx.wrap",
        {"layers": [first, jnp.tanh, last], "input_shape": (4,), "names": ["a", "b"]},
        {
            "layers": layers,
            "input_shape": kinds.shape(1),
            "names": kinds.words().also(*names),
            "input_dtype": kinds.number_type(),
            "feedbacks": None,
        },
        finish=lambda network: fx.predict(network, world.x),
    )


def data(table: Table, world: World) -> None:
    """`fx.data` but texts."""
    titles = ("train", "validation", "test")
    table.call(
        "fx.data.Dataset",
        {
            "name": "toy",
            **dict.fromkeys(titles, tuple(world.part)),
            "classes": CLASSES,
            "image_shape": (2, 2),
        },
        {
            "train": kinds.part(CLASSES),
            **dict.fromkeys(titles[1:], kinds.part(CLASSES).but("None")),
            "image_shape": kinds.shape(2).but("(*@, 1)", "()"),
            "augmentation": kinds.function(),
            "preparation": None,
        },
    )
    arrays = kinds.mapping("image", kinds.array(free=(0,), finite=False).but(BFLOAT16))
    table.call(
        "fx.data.Dataset(name, ...)",
        {"name": "named", **{title: {"image": world.part.inputs} for title in titles}},
        {
            "train": arrays.also("{}", "tuple(part)", "{5: @['image']}"),
            **dict.fromkeys(titles[1:], arrays.also("{}", "tuple(part)").but("None")),
            **dict.fromkeys(("classes", "image_shape", "augmentation", "preparation")),
        },
    )
    table.call(
        "fx.data.Part",
        world.part._asdict(),
        {
            "inputs": kinds.array(free=(0, 1)).but(BFLOAT16, "@[..., None]"),
            "labels": kinds.labels(CLASSES, target=False),
        },
        finish=lambda made: fx.data.Dataset("toy", made, made, made, CLASSES),
    )
    divided = {"part": tuple(world.part), "classes": CLASSES, "name": "mine", "seed": 3}
    pair = kinds.part(CLASSES).but("{'input': @[0]}", "(@[0][..., None], @[1])")
    table.call("fx.data.split", divided, {"part": pair, "classes": kinds.count()})
    frame = pd.DataFrame({name: np.arange(12.0) ** n for n, name in enumerate("abc")})
    table.call(
        "fx.data.table",
        {"source": frame, "target": "c", "task": "regression", "seed": 3},
        {
            "source": Kind("table", (NOTHING, OBJECT, "5", "[]", "'nowhere.csv'", "'here'")),
            "target": Kind("columns", (NOTHING, OBJECT, "5", "[]", "[5]", "'d'", "['c', 'c']")),
            "task": kinds.choice("regression").refused(),
        },
    )
    table.call("fx.metrics.names", {}, {})
    for kind in {type(fx.metrics.named(name)).__name__ for name in fx.metrics.names()}:
        if kind != "TopAccuracy":
            table.call(f"fx.metrics.{kind}", {}, {}, finish=lambda made: made.name)
    table.call("fx.metrics.named", {"name": "rmse"}, {"name": kinds.choice(*fx.metrics.names())})
    metrics = Kind("metrics", (NOTHING, OBJECT, "5", "'rmse'", "[5]", "['rsme']", "[fx.Metric]"))
    table.call("fx.metrics.chosen", {"given": ["rmse"]}, {"given": metrics})
    table.call(
        "fx.metrics.TopAccuracy",
        {"most": 3},
        {"most": kinds.count()},
        finish=lambda made: made.most,
    )
    table.call("fx.data.class_weights", {"labels": world.part.labels}, {"labels": None})
    table.call("fx.data.standardized", {"data": world.data})
    table.call(
        "fx.data.Standardization",
        {"data": world.data},
        finish=lambda made: made(world.data).train.inputs,
    )
    scale = fx.data.Standardization(world.data)
    table.method(scale, "__call__", {"data": world.data})
    rows = {"name": "input", "values": world.part.inputs}
    for way in ("of", "undone"):
        table.method(scale, way, rows, {"name": kinds.choice("input"), "values": None})
    read = {"part": tuple(world.part), "shuffle": True, "incomplete": False, "workers": 1}
    table.call("fx.data.Rows", read, {"part": None, "workers": kinds.count()})
    stream = {"train": tuple(world.part), "steps": 1, "name": "mine", "buffer": 1}
    parts = {**dict.fromkeys(titles), "steps": kinds.count(), "buffer": kinds.count()}
    table.call("fx.data.Stream", stream, parts)
    rows, some = fx.data.Rows(tuple(world.part)), fx.data.Stream(tuple(world.part))
    table.inner(rows, "take", [0])
    table.inner(rows, "first", 1)
    table.inner(rows, "steps", 1)
    table.inner(rows, "once", 1)
    table.inner(rows, "begin")
    table.inner(rows, "chunks", rows.begin(), None, None)
    table.inner(some, "first", 1)
    table.inner(some, "batch_size", 1)
    table.inner(some, "steps_per_epoch", 1)
    table.inner(some, "scored", "train", 1)
    toy = world.data
    table.method(toy, "arrays", {"title": "train"}, {"title": kinds.choice(*titles)})
    table.method(toy, "flat")
    table.method(toy, "images")
    table.method(toy, "take", {"n": 4}, {"n": kinds.count(most=8)})
    table.call(
        "fx.data.load",
        {"name": "digits"},
        {
            "name": kinds.choice(*fx.data.names()),
            "folder": kinds.any_folder(),
            "context": kinds.count().refused(),
            "tokens": kinds.count(257).refused(),
        },
    )
    table.call(
        "fx.data.images",
        {"path": world.photographs, "size": 2, "seed": 1},
        {
            "path": kinds.existing_folder(),
            "size": kinds.count(most=65535).but(NOTHING).also("(2,)", "(2, 0)", "(2, 3, 4)"),
        },
    )
    table.call(
        "fx.data.imagenet",
        {"path": world.photographs_in_parts, "size": 2, "workers": 0, "smallest": 0.5, "seed": 1},
        {"path": kinds.existing_folder(), "size": kinds.count(most=4096)},
    )
    read_later = fx.data.imagenet(world.photographs_in_parts, 2, workers=0)
    own = {"train": read_later.train, "class_names": ("dark", "light")}
    table.call("fx.data.ImageStream", own, dict.fromkeys([*titles, "class_names"]))
    table.method(read_later, "arrays", {"title": "train"}, {"title": kinds.choice(*titles)})
    table.method(read_later, "take", {"n": 1}, {"n": kinds.count(most=read_later.size)})
    shares = {"process_index": 0, "process_count": 1}
    table.method(read_later, "for_process", shares, dict.fromkeys(shares))
    table.method(read_later, "images")
    table.refusing(read_later, "flat")
    table.method(read_later, "sha256")
    table.inner(read_later, "with_parts", "other", {"test": None})
    table.inner(read_later, "standardized", {"input": np.zeros((1, 2, 2, 3))})
    table.inner(some, "standardized", {})
    table.call(
        "fx.data.adapted",
        {"data": world.data, "reference": world.data},
        {"reference": None},
        finish=lambda made: made.test.inputs,
    )
    table.call(
        "fx.data.read_inputs",
        {"paths": [str(next(world.photographs.rglob("*.png")))], "data": world.data},
        {"paths": None},
        finish=lambda read: read.values,
    )
    inputs = {"values": world.x, "files": ("a", "a"), "rows": (0, 1)}
    table.call("fx.data.Inputs", inputs, dict.fromkeys(inputs))
    table.inner(world.data, "with_parts", "few", {"test": None})
    table.call(
        "fx.data.Preparation",
        {"scales": {}, "columns": ("a",), "class_names": ("b", "c")},
        dict.fromkeys(("scales", "columns", "class_names")),
        finish=lambda made: None,
    )
    table.call("fx.data.names")
    table.call("fx.data.texts")
    table.call("fx.data.descriptions")
    table.call("fx.data.whereabouts")
    table.call(
        "fx.data.read_idx", {"path": world.idx}, {"path": kinds.existing_file().also("file")}
    )
    table.call(
        "fx.data.CropAndFlip",
        {"padding": 1},
        {"padding": kinds.count(0)},
        finish=lambda change: change(world.images, world.key),
    )
    images = kinds.array(4, free=(0, 1, 2, 3), finite=False).but("@[:0]")
    table.method(
        fx.data.CropAndFlip(1),
        "__call__",
        {"images": world.images, "key": world.key},
        {"images": images},
    )


def texts(table: Table, world: World) -> None:
    """Texts as data sets."""
    titles = ("train", "validation", "test")
    of_part = Kind(
        "part",
        (
            *(NOTHING, OBJECT, "@[0]", "(@[0],)", "'abc'", "{}", "(@[0][:, :2], @[1])"),
            *("(@[0].astype(float), @[1])", "(@[0] - 1, @[1])", "(@[0], @[1] + 1)"),
            *("(@[0].astype('int64') + 2**32, @[1])", "(@[0], first_is(@[1], 2**63, 'uint64'))"),
            *("(@[0], @[1].astype(str))", "(@[0].astype(object), @[1])", "(masked(@[0]), @[1])"),
        ),
        (
            *("[*@]", "(@[0].astype('uint8'), @[1])", "(@[0].astype('>i8'), @[1])"),
            "(@[0].tolist(), @[1].tolist())",
        ),
    )
    table.call(
        "fx.data.Text",
        {
            "name": "text",
            **dict.fromkeys(titles, tuple(world.text.train)),
            "classes": VOCABULARY,
            "vocabulary": "abcdef",
        },
        {
            **dict.fromkeys(titles, of_part),
            "vocabulary": kinds.word().also("'abc'", "'aaaaaa'", "list(@)"),
            "image_shape": None,
            "augmentation": kinds.function(),
            "preparation": None,
        },
    )
    table.call(
        "fx.data.text",
        {"path": world.book, "context": 3, "stride": 2},
        {"path": kinds.existing_file(), "tokens": kinds.count(257).refused()},
    )
    pieces = fx.data.Subwords.learned("to be, or not to be, to be", 258)
    table.call("fx.data.Subwords", {"json": pieces.json}, {"json": kinds.word()})
    table.call(
        "fx.data.Subwords.learned",
        {"text": "to be, or not to be, to be", "size": 258},
        {"text": kinds.word().but("''"), "size": kinds.count(257).but("np.int8(@)", "np.uint8(@)")},
    )
    table.method(pieces, "encode", {"text": "to be"}, {"text": kinds.word().but("''")})
    odd = ("@[:0]", "[]", "{}", "rows(@)", "np.array(@, object)", "first_is(@, 255, 'uint8')")
    row = kinds.tokens(258, free=(0,)).but(*odd)
    table.method(pieces, "decode", {"tokens": np.array([1, 0, 2])}, {"tokens": row})
    table.call("fx.data.Subwords.read", {"path": world.subwords}, {"path": kinds.existing_file()})
    book = world.text
    table.method(book, "take", {"n": 4}, {"n": kinds.count(most=len(book.train.inputs))})
    table.method(book, "encode", {"text": "abc"}, {"text": kinds.word().but("''").also("'xyz'")})
    row = kinds.tokens(VOCABULARY, free=(0,)).but(
        "@[:0]", "[]", "{}", "rows(@)", "np.array(@, object)"
    )
    table.method(book, "decode", {"tokens": np.array([1, 0, 2])}, {"tokens": row})
    table.refusing(book, "flat")


SECTIONS = (models, generating, wrapping, data, texts)
