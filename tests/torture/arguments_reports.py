"""Valid calls of reports and of what watches a run; what is only returned."""

from __future__ import annotations

import json
from typing import Any

import arguments_kinds as kinds
import jax
import jax.numpy as jnp
import numpy as np
from arguments_kinds import NOTHING, OBJECT, Kind
from arguments_table import Fresh, Table
from arguments_world import World
from rich.console import Console

import fathomx as fx
import fathomx.report
import fathomx.training
from fathomx.problem import Linearization
from fathomx.records.predictions import Predictions, write_predictions


def reports(table: Table, world: World) -> None:
    """`fathomx.report`."""
    run, diagnosis = world.run, world.diagnosis
    folder, new = {"folder": kinds.existing_folder()}, {"path": kinds.new_path()}
    picture = Fresh(lambda: world.place(".png"))
    ends = Predictions("validation", ("price",), np.eye(3)[:, :1], np.ones((3, 1)))
    write_predictions(run, ends)

    def written(path: Any) -> bool:
        return bool(path.stat().st_size)

    for name, source in (
        ("alignment_per_node", run),
        ("energy_over_training", run),
        ("energy_per_node", run),
        ("predictions", run),
        ("strength_and_settledness", run),
        ("confusion_matrix", world.evaluation),
        ("reliability", world.evaluation),
        ("energy_beside_equilibrium", diagnosis),
        ("energy_over_inference", diagnosis),
    ):
        table.call(
            f"fathomx.report.{name}",
            {"folder": source, "path": picture},
            {**folder, **new},
            finish=written,
        )
    runs = kinds.mapping("one", kinds.existing_folder()).also(NOTHING, "{}", "[]")
    table.call(
        "fathomx.report.learning_curves",
        {"runs": {"one": run}, "path": picture},
        {**new, "runs": runs},
        finish=written,
    )
    table.call(
        "fathomx.report.write_comparison",
        {"folder": Fresh(world.place), "runs": {"one": run}},
        {"folder": kinds.new_path().but("folder"), "runs": runs},
        finish=written,
    )
    table.call("fathomx.report.write_page", {"folder": run}, folder, finish=written)
    table.call("fathomx.report.write_overview", {"folder": run.parent}, folder, finish=written)
    table.call("fathomx.report.wanted_figures", {"folder": run}, folder)
    evaluation = {"folder": world.evaluation}
    table.call("fathomx.report.read_evaluation", evaluation, folder)
    table.call("fathomx.report.write_evaluation", evaluation, folder, finish=written)
    table.call("fathomx.report.read_diagnosis", {"folder": diagnosis}, folder)
    table.call(
        "fathomx.report.RunFiles",
        {"folder": run},
        folder,
        finish=lambda found: found.summary["test_loss"],
    )
    files = fathomx.report.RunFiles(run)
    table.inner(files, "per_epoch", "train_loss")
    table.inner(files, "per_step", "loss")
    mapping = Kind("mapping", (NOTHING, OBJECT, "5", "'config'", "[1]"))
    content = json.loads((diagnosis / "diagnosis.json").read_text(encoding="utf-8"))
    table.call("fathomx.report.findings", {"content": content}, {"content": mapping})
    table.call(
        "fathomx.report.verdict",
        {"config": files.config, "summary": files.summary, "history": files.records},
        {
            "config": mapping,
            "summary": mapping,
            "history": Kind("mappings", (NOTHING, OBJECT, "5", "'history'", "[5]")),
        },
    )


def runs(table: Table, world: World) -> None:
    """Run folders, progress bars and devices."""
    kind, config = fathomx.training.RunFolder, {"data": "toy", "epochs": 1}
    of_config = Kind(
        "configuration",
        (OBJECT, "5", "'config'", "[1]", "{'a': object()}", "{'a': {1, 2}}"),
        (),
        ("{'a': np.float32(1)}",),
    )
    place = kinds.new_path()
    table.call(
        "fathomx.training.RunFolder",
        {"folder": Fresh(world.place)},
        {"folder": place.but("folder", "file / 'within'")},
        finish=lambda made: None,
    )
    table.method(
        kind,
        "create",
        {"folder": Fresh(world.place), "config": config},
        {"folder": place, "config": of_config.also(NOTHING)},
        finish=lambda made: None,
    )
    table.method(
        kind,
        "resume",
        {"folder": Fresh(lambda: kind.create(world.place(), config).folder), "config": config},
        {
            "folder": kinds.existing_folder(),
            "config": of_config.refused().also("{'epochs': 2}"),
        },
        finish=lambda made: None,
    )
    table.call(
        "fathomx.training.ProgressBar",
        {"console": _console(world), "name": "training"},
        {
            "console": kinds.thing("console", "Console", "print"),
            "name": kinds.word().but("''"),
        },
        finish=lambda bar: None,
    )
    table.call(
        "fathomx.training.NotebookBar",
        {"name": "training"},
        {"name": kinds.word().but("''"), "place": kinds.thing("place", "print").but("None")},
        finish=lambda bar: None,
    )
    table.call("fathomx.training.Observer", finish=lambda made: None)
    usual = {"configuration": {"depth": 3}, "artifacts": [str(world.book)]}
    odd = {"configuration": None, "artifacts": None}
    for name, own in (
        ("TensorBoard", {"folder": str(world.place())}),
        ("WeightsAndBiases", {"project": "pcn", "folder": str(world.place())}),
        ("MLflow", {"experiment": "pcn"}),
    ):
        kinds_of = {"folder": kinds.any_folder()}
        table.call(
            f"fathomx.training.{name}",
            {**own, **usual},
            {**odd, **{key: kinds_of.get(key, kinds.word().but("''")) for key in own}},
            finish=lambda made: None,
        )
    devices = kinds.devices()
    table.call(
        "fx.Mesh",
        {"data": 2, "depth": 1, "devices": jax.devices(), "weights": "divided"},
        {"devices": devices, "weights": kinds.choice("whole", "divided")},
        finish=lambda made: len(made.devices),
    )
    table.call(
        "fx.Division",
        {"devices": jax.devices()},
        {"devices": devices.also(NOTHING)},
        finish=lambda made: len(made.devices),
    )
    for kind in (fx.Mesh, fx.Division):
        table.method(
            kind,
            "of",
            {"batch_size": 32, "devices": jax.devices()},
            {"devices": devices},
            finish=lambda made: len(made.devices),
        )
    mesh = fx.Mesh(data=2)
    for name in ("gathered", "parts", "whole", "divided", "joined"):
        table.inner(mesh, name, {"x": world.x})
    table.inner(mesh, "rows", 32)
    table.inner(mesh, "batches", {"x": jnp.zeros((3, 32, 2))}, 32)
    table.inner(mesh, "network", world.network)
    table.inner(mesh, "check", world.network, 32)


def observers(table: Table, world: World) -> None:
    """What a run tells those who watch it."""
    state, plan, run = world.state, world.plan, fathomx.report.RunFiles(world.run)
    steps = next(record for record in run.records if record["kind"] == "steps")
    for watcher in (
        fathomx.training.Observer(),
        fathomx.training.ProgressBar(_console(world)),
        fathomx.training.NotebookBar(),
        fathomx.training.RunFolder.create(world.place(), {}),
        fathomx.training.TensorBoard(world.place()),
    ):
        table.inner(watcher, "restore", state)
        table.inner(watcher, "started", plan, state)
        table.inner(watcher, "stepped", steps, state)
        table.inner(watcher, "epoch_ended", run.epochs[0], state)
        table.inner(watcher, "interrupted", state)
        table.inner(watcher, "finished", run.summary, state)
        table.inner(watcher, "validated", {"epoch": 1, "step": 1, "loss": 1.0}, state)
        table.inner(watcher, "noted", {"kind": "note", "epoch": 1, "step": 1, "text": "so far"})
        table.inner(watcher, "failed")
        if hasattr(watcher, "close"):
            table.inner(watcher, "close")
    tracking = fathomx.training
    for watcher in (
        tracking.TensorBoard(world.place()),
        tracking.WeightsAndBiases("pcn", folder=world.place(), mode="disabled"),
        tracking.MLflow(f"sqlite:///{world.place()}.db"),
    ):
        table.inner(watcher, "begin", 0)
        table.inner(watcher, "scalars", [(1, {"train/loss": 1.0})])
        table.inner(watcher, "picture", "energy_per_node", np.zeros((2, 2, 3), np.uint8), 1)
        table.inner(watcher, "text", "loss", "so far", 1)
        table.inner(watcher, "artifact", world.book)
        table.inner(watcher, "end", True)
        table.inner(watcher, "stop", [])
        table.inner(watcher, "validated", {"epoch": 1, "step": 1, "loss": 1.0}, state)
    table.inner(state, "at_place", None)
    table.inner(run, "validation", "validation_loss")
    table.inner(fathomx.training.RunFolder, "prepare", world.empty_folder(), {})
    begun = fathomx.training.TrainingState
    table.inner(begun, "begun", world.network, world.optimizer_state, world.key)


def results(table: Table, world: World) -> None:
    """What is only returned: it is enough that there is one."""
    network, problem, loss = world.network, world.problem, world.loss
    diagnosis = fx.diagnose(problem, world.descent)
    region = fx.theory.trust_region(problem, world.solver)
    start = Linearization.at_start(problem)
    state = world.solver.init(problem, start, start.evaluation(problem))
    parts = jax.tree.leaves(world.normalized, is_leaf=lambda p: isinstance(p, fx.Statistics))
    size = fx.theory.gradient(loss, network).size
    plane = fx.theory.plane(loss, network, (jnp.zeros(size), jnp.zeros(size)), points=2)
    for name, made in {
        "fx.Relaxation": world.relaxed,
        "fx.Diagnosis": diagnosis,
        "fx.Alignment": diagnosis.alignment,
        "fathomx.diagnostics.BesideBackprop": diagnosis.update,
        "fx.EnergyBalance": diagnosis.balance,
        "fx.TargetAlignment": fx.target_alignment(
            problem, world.rule.gradient(problem, world.key)[0]
        ),
        "fx.Comparison": fx.compare(
            {"PC": fx.Backprop()}, network, world.data, seeds=1, epochs=1, batch_size=4
        ),
        "fx.Evaluation": fx.evaluate(network, world.data),
        "fx.Paired": fx.paired([0.9, 0.8], [0.7, 0.9]),
        "fx.FitResult": fx.fit(network, world.data, fx.Backprop(), epochs=1, batch_size=4),
        "fx.Scaling": fx.NTK().scaling(fx.Role.INPUT, 4, 3, 2),
        "fx.SolverState": state,
        "fx.Statistics": next(part for part in parts if isinstance(part, fx.Statistics)),
        "fx.StepReport": world.rule.gradient(problem, world.key)[1],
        "fx.theory.Displacement": region.relaxed,
        "fx.theory.Equilibrated": fx.theory.equilibrated_energy(world.linear_problem),
        "fx.theory.Extremes": fx.theory.StateHessian(world.single_problem).extremes(),
        "fx.theory.Plane": plane,
        "fx.theory.Spectrum": fx.theory.spectrum(loss, network),
        "fx.theory.TrustRegion": region,
        "fathomx.training.Plan": world.plan,
        "fathomx.training.TrainingState": world.state,
    }.items():
        table.result(name, made)


def _console(world: World) -> Console:
    return Console(file=world.place(".txt").open("w", encoding="utf-8"))


SECTIONS = (reports, runs, observers, results)
