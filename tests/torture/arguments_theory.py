"""Valid calls of `fx.theory` and of the diagnostics."""

from __future__ import annotations

import arguments_kinds as kinds
import jax.numpy as jnp
import numpy as np
from arguments_kinds import NOTHING, OBJECT, Kind
from arguments_table import Table
from arguments_world import CLASSES, World, on_grid

import fathomx as fx
import fathomx.diagnostics

_DATA = {"x": kinds.array(), "y": kinds.labels(CLASSES)}


def landscapes(table: Table, world: World) -> None:
    """Objectives, and what is computed of them."""
    network, loss = world.network, world.loss
    posed = {"x": world.x, "y": world.labels, "output_precision": 2.0}
    for name, more in (("Loss", {}), ("EquilibratedEnergy", {"solver": world.solver})):
        table.call(
            f"fx.theory.{name}",
            {**posed, **more},
            _DATA,
            finish=lambda objective: objective(network),
        )
    for objective in (loss, fx.theory.EquilibratedEnergy(world.x, world.labels)):
        table.method(objective, "__call__", {"network": network})
        table.inner(objective, "around", network)
    table.method(loss, "problem", {"network": network})
    both = {"objective": loss, "network": network}
    table.call("fx.theory.gradient", both)
    table.call("fx.theory.hessian", both, {"most_bytes": kinds.byte_count().also("10")})
    table.call("fx.theory.hessian_product", both, finish=lambda made: made[0](jnp.ones(made[1])))
    matrix = np.diag(np.arange(1.0, 4.0)).astype(np.float32)
    table.call(
        "fx.theory.lanczos",
        {"product": lambda v: matrix @ v, "start": np.ones(3, np.float32), "steps": 2},
        {
            "product": kinds.function().also("lambda: 3"),
            "start": kinds.array(1).refused(),
        },
    )
    units = np.eye(fx.theory.gradient(loss, network).size, dtype=np.float32)
    directions = Kind(
        "arrays",
        (
            *(NOTHING, OBJECT, "5", "'xy'", "[]", "(@[0],)", "(*@, @[1])", "@[0]"),
            *("(@[0], @[1][1:])", "(@[0], None)", "(@[0], @[1] * nan)", "(@[0], @[1] + 1j)"),
            *("(@[0], @[1].astype(str))", "(@[0], @[1].astype(object))", "(@[0], 1.0)"),
        ),
        (*("list(@)", "np.stack(@)", "(@[0], @[1].astype('>f8'))", "(@[0].tolist(), @[1])"),),
    )
    table.call(
        "fx.theory.plane",
        {**both, "directions": (units[0], units[1]), "radius": 0.5, "points": 3},
        {"points": kinds.count(2), "directions": directions},
    )
    table.call(
        "fx.theory.spectrum",
        {**both, "tolerance": 0.125, "dense_up_to": 100},
        {"tolerance": kinds.number(above=0, below=1), "dense_up_to": kinds.count(0)},
        finish=lambda found: (found.smallest, found.largest, found.verdict),
    )


def equilibria(table: Table, world: World) -> None:
    """The equilibrated energy, saddles, trust regions."""
    linear, network = world.linear, world.network
    posed = {"network": linear, "x": world.x, "y": world.labels}
    either = kinds.network_or_problem()
    table.call(
        "fx.theory.equilibrated_energy",
        {**posed, "output_precision": 2.0, "chunk": 3},
        {**_DATA, "network": either},
        finish=lambda found: (found.energy, found.energies),
    )
    table.method(fx.theory.equilibrated_energy(*posed.values()), "describe")
    table.call(
        "fx.theory.rescaling",
        {"network": linear, "output_precision": 2.0, "chunk": 3},
        {"network": either.also("network", "problem")},
    )
    table.call("fx.theory.relaxing_solver", {"network": network})
    table.call(
        "fx.theory.nearby",
        {"network": network, "distance": 0.5, "key": world.key},
        {"distance": kinds.number(least=0)},
    )
    table.call("fx.theory.origin", {"network": network})
    table.call(
        "fx.theory.rank_r",
        {**posed, "rank": 1},
        {**_DATA, "rank": kinds.count(0, most=3), "network": kinds.network().also("network")},
    )
    table.call(
        "fx.theory.rank_zero",
        {"network": world.deep, "label": "hidden[0]"},
        {"label": kinds.choice(*world.deep.labels)},
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


def hessians(table: Table, world: World) -> None:
    """Hessians of the activities."""
    single = world.single_problem
    activities = on_grid(world.single_relaxed.activities)
    first = {"first": jnp.asarray(activities["first"])}
    for name in ("StateHessian", "ErrorHessian"):
        table.call(
            f"fx.theory.{name}",
            {"problem": single, "at": activities},
            {"problem": kinds.problem().also("problem"), "at": kinds.entries("first")},
            finish=lambda hessian: hessian.dense(),
        )
        for method in ("coordinates", "energy", "in_errors"):
            table.inner(getattr(fx.theory, name)(single), method, first)
    hessian = fx.theory.StateHessian(single)
    label, most = kinds.choice("first"), {"most_bytes": kinds.byte_count().also("2")}
    table.method(
        hessian,
        "block",
        {"row": "first", "column": "first"},
        {**most, "row": label, "column": label},
    )
    table.method(hessian, "dense", {}, most)
    few = {"dense_up_to": kinds.count(0)}
    table.method(hessian, "extremes", {"dense_up_to": 5}, few)
    table.method(
        hessian, "extremes", {"dense_up_to": 0, "products": 2}, {"products": kinds.count(2)}
    )
    table.method(fx.theory.Extremes(0.5, 2.0), "nesterov")
    table.method(
        hessian,
        "predicted_steps",
        {"rate": 0.125, "tolerance": 0.25, "dense_up_to": 5, "most_products": 8},
        {**few, "tolerance": kinds.number(above=0, below=1)},
    )
    entries = {"first": activities["first"]}
    table.method(hessian, "product", {"entries": entries}, {"entries": kinds.entries("first")})


def diagnostics(table: Table, world: World) -> None:
    """What updates and energies are compared with."""
    problem, network, key = world.problem, world.network, world.key
    table.call("fx.alignment", {"problem": problem, "rule": world.rule, "key": key})
    gradient = kinds.network().also("fx.weights(latent)")
    table.call(
        "fx.target_alignment",
        {"problem": problem, "gradient": world.gradient},
        {"gradient": gradient},
    )
    table.call(
        "fathomx.diagnostics.compare_to_backprop",
        {"problem": problem, "gradient": world.gradient, "key": key},
        {"gradient": gradient, "key": None},
    )
    table.call(
        "fathomx.diagnostics.beside_backprop",
        {"problem": problem, "gradient": world.gradient, "key": key},
        {"gradient": gradient, "key": None},
        finish=lambda found: found.record(),
    )
    table.inner(fathomx.diagnostics.beside_backprop(problem, world.gradient, key), "record")
    table.call(
        "fathomx.diagnostics.node_dot",
        {"a": world.gradient, "b": world.gradient},
        {"a": gradient, "b": gradient},
    )
    changed = kinds.network().also("latent")
    table.call(
        "fx.weight_change",
        {"before": network, "after": world.other},
        {"before": changed, "after": changed},
    )
    table.call(
        "fx.diagnose",
        {"problem": problem, "solver": world.descent, "reference": world.solver},
        {"reference": kinds.solver()},
        finish=lambda found: (found.energy, found.activity),
    )
    table.call(
        "fx.energy_balance",
        {"network": network, "energy": np.array([0.5, 2.0], np.float32), "activity": 2.0},
        {
            "network": kinds.network_or_problem(),
            "energy": kinds.array(1, finite=False),
            "activity": kinds.number(least=0),
        },
    )
    table.method(fx.Alignment, "unknown", {"network": network})
    table.method(fx.TargetAlignment, "unknown", {"problem": problem})


SECTIONS = (landscapes, equilibria, hessians, diagnostics)
