"""Valid calls of rules, of `fx.fit`, and of parameterizations and layers."""

from __future__ import annotations

from typing import Any

import arguments_kinds as kinds
import jax
import jax.numpy as jnp
import numpy as np
from arguments_kinds import NOTHING, OBJECT, Kind
from arguments_surface import defined
from arguments_table import Table
from arguments_world import CLASSES, World

import fathomx as fx
import fathomx.layers
import fathomx.training

_POSES = (
    *("lambda: None", "lambda network, batch: None", "lambda network, batch: network"),
    "fx.Problem",
)


def rules(table: Table, world: World) -> None:
    """Learning rules."""
    problem, key = world.problem, world.key

    def learned(rule: Any) -> Any:
        return rule.gradient(problem, key)

    held = {"solver": world.solver, "output_precision": 2.0}
    strength = {"output_precision": kinds.strength()}
    for name in ("Equilibrium", "EquilibriumErrors", "ForwardUpdate"):
        table.call(f"fx.{name}", held, strength, finish=learned)
    table.call(
        "fx.EquilibriumPropagation",
        {"solver": world.solver, "beta": 0.5, "centered": False},
        {"beta": kinds.strength()},
        finish=learned,
    )
    table.call(
        "fx.Incremental",
        {"solver": fx.GaussNewton(2), "output_precision": 2.0},
        {**strength, "solver": kinds.solver().also("fx.Newton()")},
        finish=learned,
    )
    table.call("fx.Backprop", finish=learned)
    several = (world.rule, fx.ForwardUpdate(), fx.EquilibriumPropagation(), fx.Incremental())
    for rule in (*several, fx.Backprop()):
        # Backprop draws nothing.
        used = {"key": None} if isinstance(rule, fx.Backprop) else {}
        state = rule.init_optimizer(world.optimizer, world.network)
        table.method(rule, "gradient", {"problem": problem, "key": key}, used)
        table.inner(rule, "probe", problem, key)
        table.method(
            rule, "certifying", {"when": True}, {"when": kinds.flag()}, lambda rule: type(rule)
        )
        table.inner(rule, "check_state", world.optimizer, state, world.network)
        table.method(
            rule,
            "init_optimizer",
            {"optimizer": world.optimizer, "network": world.network},
            {"optimizer": kinds.optimizer().but("optax.lbfgs()")},
        )
        table.method(
            rule,
            "update",
            {
                "problem": problem,
                "optimizer": world.optimizer,
                "optimizer_state": state,
                "key": key,
            },
            {**used, "optimizer_state": kinds.optimizer_state()},
        )
    table.method(fx.EquilibriumPropagation(), "stability", {"problem": problem, "key": key})
    table.inner(world.rule, "choose", problem, key)
    table.inner(world.rule, "prepare", problem, key)


def learners(table: Table, world: World) -> None:
    """`fx.Learner`, and learning rates."""
    network, key = world.network, world.key
    pair = tuple(world.part)
    batches = jax.tree.map(lambda a: a.reshape(2, 4, *a.shape[1:]), pair)

    def updated(learner: Any) -> Any:
        return learner.update(network, learner.begin(network), pair, key)

    table.call(
        "fx.Learner",
        {"rule": world.rule, "optimizer": world.optimizer},
        {"optimizer": kinds.optimizer_or_rate(), "pose": kinds.function().also(*_POSES)},
        finish=updated,
    )
    learner = world.learner
    table.method(learner, "begin", {"network": network})
    batch = kinds.part(CLASSES).but("{'input': @[0]}")
    of_network = kinds.network().also("latent")
    table.method(
        learner,
        "pose",
        {"network": network, "batch": pair},
        {"network": of_network, "batch": batch},
    )
    table.method(
        learner,
        "update",
        {"network": network, "state": world.optimizer_state, "batch": pair, "key": key},
        {"network": of_network, "state": kinds.optimizer_state(), "batch": batch},
    )
    several = Kind(
        "batches",
        (
            *(NOTHING, OBJECT, "5", "tuple(part)", "(@[0],)", "(@[0], @[1][:1])", "(*@, @[1])"),
            *("{'nonsense': @[0]}", "(@[0].astype(str), @[1])", "(@[0], @[1] + 0.5)"),
            *("(@[0] + 1j, @[1])", "(@[0][:0], @[1][:0])", "(masked(@[0]), @[1])"),
        ),
        (
            *("[*@]", "(@[0].astype('>f4'), @[1])", "(@[0], @[1].astype('uint8'))"),
            *("(@[0], @[1].astype('>i8'))", "(jnp.asarray(@[0]), @[1])"),
        ),
    )
    table.method(
        learner,
        "updates",
        {
            "network": network,
            "state": world.optimizer_state,
            "batches": batches,
            "keys": world.keys,
        },
        {
            "network": of_network,
            "state": kinds.optimizer_state(),
            "batches": several,
            "keys": kinds.keys().also("@[:1]"),
            "observe": kinds.function().also("lambda: 3"),
        },
    )
    latent = world.latent
    online = fx.Learner(fx.Equilibrium(output_precision=1.0), 1e-3)
    table.method(
        online,
        "follow",
        {
            "network": latent,
            "state": online.begin(latent),
            "clamps": {"image": np.stack([world.x] * 3)},
            "carry": {"cause": "cause"},
            "key": key,
        },
        dict.fromkeys(("network", "state", "clamps", "carry", "initial", "solver")),
    )
    table.call(
        "fx.scale_learning_rates",
        {"optimizer": world.optimizer},
        finish=lambda made: made.init(fx.weights(network)),
    )
    table.call("fx.matrix_axes", {"weights": fx.weights(network)}, {"weights": None})


def fitting(table: Table, world: World) -> None:
    """`fx.fit`."""
    observers = Kind(
        "observers",
        (
            *(OBJECT, "5", "'bar'", "[5]", "[None]", "[print]"),
            *("[fathomx.training.Observer]", "fathomx.training.Observer()"),
        ),
        (NOTHING, "[]", "[fathomx.training.Observer()]"),
    )
    scores = (
        *("lambda: None", "lambda network, batch: None", "lambda network, batch: 3.0"),
        *("lambda n, b: {'loss': 'low'}", "lambda n, b: {'loss': jnp.ones(3)}"),
        "lambda n, b: {5: 1.0}",
    )
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
            "average": 0.9,
            "validate_every": 1,
            "certify": 2,
            "early_stopping": fx.EarlyStopping(1),
            "mesh": fx.Mesh(devices=jax.devices()[:1]),
        },
        {
            "early_stopping": kinds.thing("early stopping", "fx.EarlyStopping", "True"),
            "mesh": kinds.thing("mesh", "fx.Mesh", "2"),
            "network": kinds.network().also("latent", "transformer"),
            "optimizer": kinds.optimizer_or_rate(),
            "batch_size": kinds.count(most=8),
            "observers": observers,
            "pose": kinds.function().also(*_POSES),
            "scores": kinds.function().also(*scores),
            "metrics": Kind("metrics", (OBJECT, "5", "'mse'", "[5]", "['rsme']", "[fx.Metric]")),
        },
        finish=lambda result: (result.network, result.summary["test_loss"]),
    )
    table.call(
        "fx.fit_together",
        {
            "networks": [world.network, world.network],
            "data": world.data,
            "rule": fx.Backprop(),
            "optimizer": [0.1, 0.2],
            "seeds": [3, 4],
            "observers": [[], []],
            "epochs": 1,
            "batch_size": 4,
        },
        {
            "networks": Kind("networks", (NOTHING, OBJECT, "5", "[]", "[5]", "[network, latent]")),
            "optimizer": Kind(
                "rates", (OBJECT, "'adam'", "[0.1]", "[0.1, None]"), other=("0.1", "optax.sgd(0.1)")
            ),
            "seeds": Kind("seeds", (OBJECT, "5", "[1]", "[-1, 2]", "[1.5, 2]"), other=("[0, 0]",)),
            "observers": Kind("observers", (OBJECT, "5", "[5, 5]", "[[print], []]", "[[]]")),
            "batch_size": kinds.count(most=8),
            "pose": kinds.function().also(*_POSES),
            "scores": kinds.function().also(*scores),
            "metrics": Kind("metrics", (OBJECT, "5", "'mse'", "[5]", "['rsme']", "[fx.Metric]")),
            "early_stopping": kinds.thing("early stopping", "fx.EarlyStopping", "True"),
        },
        finish=lambda found: [result.summary["test_loss"] for result in found],
    )
    table.call(
        "fx.EarlyStopping",
        {"patience": 2, "metric": "loss", "better": "lower", "least": 0.1},
        {"better": kinds.choice("higher", "lower", None)},
        finish=lambda made: made.is_better(1.0, 2.0),
    )
    stopping = fx.EarlyStopping(2)
    table.inner(stopping, "check", {"loss": 1.0})
    table.inner(stopping, "is_better", 1.0, 2.0)
    table.inner(stopping, "ending", 3, 1)
    table.call(
        "fx.evaluate",
        {"network": world.network, "data": world.data, "part": "validation", "seed": 3},
        {
            "network": kinds.network().also("latent", "transformer"),
            "part": kinds.choice("train", "validation", "test"),
            "pose": kinds.function().also(*_POSES),
            "scores": kinds.function().also(*scores),
            "metrics": None,
        },
        finish=lambda found: (found.confusion, found.metrics["loss"].low),
    )
    numbers = Kind("numbers", (NOTHING, OBJECT, "5", "'ab'", "['a', 'b']", "[nan, 1]", "[]"))
    table.call(
        "fx.paired",
        {"first": [0.9, 0.8], "second": [0.7, 0.9]},
        {"first": numbers, "second": numbers},
        finish=lambda made: made.p,
    )
    methods = ("{'PC': fx.Backprop}", "{'PC': (fx.Backprop(),)}", "[fx.Backprop()]", "{}")
    table.call(
        "fx.compare",
        {
            "methods": {"PC": fx.Backprop(), "slow": (fx.Backprop(), 0.1)},
            "network": world.network,
            "data": world.data,
            "seeds": 1,
            "options": {"epochs": 1, "batch_size": 4},
        },
        {
            "methods": Kind("methods", (NOTHING, OBJECT, "5", "'PC'", *methods)),
            "network": kinds.network()
            .but("lambda: None", "eqx.nn.Linear(4, 5, key=key)")
            .also("latent", "lambda key: 3"),
            "seeds": Kind("seeds", (NOTHING, OBJECT, "0", "1.5", "'1'", "[]", "[1, 1]"), ("[0]",)),
            "options": None,
        },
        finish=lambda made: made.methods[1].differences["test_loss"].mean,
    )
    table.inner(fx.evaluate(world.network, world.data), "worst", 2)
    table.inner(fx.evaluate(world.network, world.data), "record")
    table.call(
        "fx.save",
        {"network": world.network, "path": world.folder / "network.safetensors"},
        {"network": kinds.network().also("latent", "transformer"), "path": kinds.new_path()},
        finish=lambda path: path.stat().st_size,
    )


def parameterizations(table: Table, world: World) -> None:
    """Parameterizations and their methods."""

    def scaled(made: Any) -> Any:
        return made.scaling(fx.Role.INPUT, 4, 3, 2), made.scaling(fx.Role.OUTPUT, 4, 3, 2)

    table.call("fx.Standard", {"gain": 2.0}, {"gain": kinds.number(above=0)}, finish=scaled)
    table.call("fx.NTK", finish=scaled)
    table.call("fx.MuPC", {"gamma_0": 2.0, "end_rate": 0.5}, finish=scaled)
    power = fx.Power(2.0, -0.5)
    roles = {"input": (power, 1, 1), "output": (power, 1, 1)}
    strange_rows = (
        *("(1, 1)", "(1, 1, 1, 1)", "1", "None", "'111'", "(1, 'one', 1)", "(1, None, 1)"),
        *("(1, nan, 1)", "(1, inf, 1)", "(1, -1, 1)", "(1, 1j, 1)", "(1, True, 1)"),
        *("(1, 10**400, 1)", "(1, [1], 1)", "(1, fx.Power, 1)", "{1, 2, 3}"),
    )
    rows = Kind(
        "table",
        (
            *(NOTHING, OBJECT, "5", "'input'", "[]", "[('input', (1, 1, 1))]"),
            *("{'inptu': (1, 1, 1)}", "{5: (1, 1, 1)}", "{None: (1, 1, 1)}"),
            *(f"{{**@, 'input': {row}}}" for row in strange_rows),
        ),
        (
            *("{fx.Role(name): row for name, row in @.items()}", "{**@, 'input': [*@['input']]}"),
            *("{**@, 'input': (@['input'][0], 1.0, 1)}",),
            "{**@, 'input': (@['input'][0], np.float32(1), 1)}",
        ),
    )
    table.call("fx.ABC", {"table": roles}, {"table": rows}, finish=scaled)
    exponents = ("fan_in", "width", "depth")
    table.call(
        "fx.Power",
        {"coefficient": 2.0, **dict.fromkeys(exponents, 1.0)},
        {"coefficient": kinds.number(least=0), **dict.fromkeys(exponents, kinds.number())},
        finish=lambda made: scaled(fx.ABC({"input": (made, 1, 1), "output": (1, 1, 1)})),
    )
    table.inner(power, "__call__", 4, 3, 2)
    table.inner(fx.Scaling(1.0, 1.0, 1.0), "draw", (2, 3), world.key)
    for made in (fx.Standard(), fx.NTK(), fx.MuPC(), fx.ABC(roles)):
        table.inner(made, "scaling", fx.Role.INPUT, 4, 3, 2)
        table.inner(made, "knows", fx.Role.INPUT)
    standard, sizes = fx.Standard(), {"width": 3, "depth": 2}
    layer = {"role": fx.Role.INPUT, **sizes, "key": world.key}
    pair = {"sizes": kinds.shape(2).but("(*@, 1)", kinds.OTHER_SIZES).also("(*@, 3)")}
    linear = standard.linear(fx.Role.INPUT, (4, 3), 3, 2, world.key)
    table.method(standard, "multiplier", {"role": fx.Role.ATTENTION, "fan_in": 4, **sizes})
    table.method(standard, "linear", {**layer, "sizes": (4, 3)}, pair)
    table.method(
        standard,
        "convolution",
        {**layer, "sizes": (1, 2), "kernel": 3, "stride": 1},
        {**pair, "stride": kinds.count(most=2)},
    )
    table.method(
        standard,
        "transposed_convolution",
        {**layer, "sizes": (1, 2), "kernel": 4, "stride": 2},
        {**pair, "stride": kinds.count(most=2)},
    )
    table.method(standard, "embedding", {"count": 6, "added": 2, **sizes, "key": world.key})
    table.method(
        standard,
        "affine",
        {"layer": linear, "size": 3, **sizes},
        {"layer": kinds.function()},
        finish=lambda layer: layer(jnp.ones(4)),
    )
    table.method(
        standard,
        "normalization",
        {"make": fathomx.layers.LayerNorm, "channels": 3, **sizes},
        {"make": kinds.function()},
    )


def layers(table: Table, world: World) -> None:
    """`fathomx.layers` that hold weights."""
    scales = {"multiplier": kinds.number(), "learning_rate_scale": kinds.number(least=0)}
    given = {"multiplier": 2.0, "learning_rate_scale": 0.5}
    channels = Kind("array", ("@[..., 1:]", "longer(@, -1)", "@.sum()"))
    square = np.ones((3, 3, 1, 2), np.float32)
    for name, weight, free, seen in (
        ("Linear", np.ones((3, 4), np.float32), (0,), jnp.ones(4)),
        ("Bias", np.ones(3, np.float32), (), jnp.ones(3)),
        ("Embedding", np.ones((6, 4), np.float32), (0, 1), jnp.array([1, 2])),
        ("Convolution", square, (0, 1, 3), jnp.ones((4, 4, 1))),
        ("TransposedConvolution", square, (0, 1, 3), jnp.ones((4, 4, 1))),
    ):
        of_weight = kinds.array(weight.ndim, free=free).refused().but("0.5")
        if name == "Bias":
            of_weight = of_weight.but("@[..., None]", "@[0]")
        more = {"stride": kinds.count(most=2)} if "Convolution" in name else {}
        table.call(
            f"fathomx.layers.{name}",
            {"weight": jnp.asarray(weight), **given},
            {**scales, **more, "weight": of_weight},
            finish=lambda layer, seen=seen: layer(seen),
        )
        parameter = "tokens" if name == "Embedding" else "activity"
        wrong = Kind("array", ("@ + 0.5",)) if name == "Embedding" else channels
        layer = getattr(fathomx.layers, name)(jnp.asarray(weight))
        table.method(layer, "__call__", {parameter: seen}, {parameter: wrong})
    table.covered.add(defined(fathomx.layers.ScaledWeight))
    linear, bias = fathomx.layers.Linear(jnp.ones((3, 4))), fathomx.layers.Bias(jnp.ones(3))
    table.call(
        "fathomx.layers.Affine",
        {"map": linear, "bias": bias},
        {
            "map": kinds.function().also("eqx.nn.Linear"),
            "bias": kinds.thing("bias", "fathomx.layers.Bias"),
        },
        finish=lambda layer: layer(jnp.ones(4)),
    )
    affine = fathomx.layers.Affine(linear, bias)
    table.method(affine, "__call__", {"activity": jnp.ones(4)}, {"activity": channels})
    rate = {"learning_rate_scale": kinds.number(least=0)}
    for name, groups in (("LayerNorm", {}), ("GroupNorm", {"groups": 2}), ("BatchNorm", {})):
        more = {"groups": kinds.count().also("3")} if groups else {}
        table.call(
            f"fathomx.layers.{name}",
            {"channels": 4, **groups, "learning_rate_scale": 0.5},
            {**rate, **more},
            finish=lambda layer: (layer(jnp.arange(4.0)), layer.learning_rate_scale),
        )
        layer = getattr(fathomx.layers, name)(4, **groups)
        table.method(layer, "__call__", {"activity": jnp.ones(4)}, {"activity": channels})
    table.method(
        fathomx.layers.BatchNorm(4),
        "with_batch_statistics",
        {"activities": jnp.ones((2, 4))},
        {"activities": channels},
    )


def functions(table: Table, world: World) -> None:
    """`fathomx.layers` without weights."""
    del world
    table.call(
        "fathomx.layers.activation_function",
        {"activation": "gelu"},
        {"activation": kinds.activation().but("eqx.nn.PReLU")},
        finish=lambda function: function(jnp.arange(3.0)),
    )
    several = Kind(
        "arrays",
        (
            *("(np.ones(3), np.ones(4))", "(np.ones(3), np.ones((1, 3)))", "(np.ones(3), 1.0)"),
            *("()", "('a', 'b')"),
        ),
    )
    table.call(
        "fathomx.layers.add",
        {"activities": (jnp.ones(3), jnp.ones(3))},
        {"activities": several},
    )
    table.call("fathomx.layers.linear", {"x": jnp.ones(3)}, {"x": None})
    uneven = Kind("array", ("@[:3]", "@[:, :3]", "@[..., 0]", "@[None]"))
    for name in ("max_pool", "average_pool"):
        table.call(
            f"fathomx.layers.{name}",
            {"activity": jnp.arange(16.0).reshape(4, 4, 1)},
            {"activity": uneven},
        )


SECTIONS = (rules, learners, fitting, parameterizations, layers, functions)
