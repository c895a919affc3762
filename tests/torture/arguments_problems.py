"""Valid calls of problems, and of what relaxes them."""

from __future__ import annotations

import inspect
from typing import Any

import arguments_kinds as kinds
import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from arguments_kinds import NOTHING, OBJECT, Kind
from arguments_table import Table
from arguments_world import CLASSES, VOCABULARY, World, on_grid

import fathomx as fx
from fathomx.problem import Linearization
from fathomx.problem.evaluation import evaluate

_REST = ("network", "clamps", "input", "target", "output_precision", "batch")


def problems(table: Table, world: World) -> None:
    """`fx.Problem`, with everything that may be clamped."""
    x = world.x

    def relaxed(problem: Any) -> Any:
        found = fx.infer(problem, world.solver)
        return found.energy, found.unsettled

    table.call(
        "fx.Problem",
        {"network": world.network, "clamps": x, "target": world.labels, "output_precision": 2.0},
        {
            "clamps": kinds.array(),
            "target": kinds.labels(CLASSES),
            "input": Kind("array", ("x",)),
        },
        finish=relaxed,
    )
    truths = ("@.astype(bool)", "@.astype(int)", "@.astype('uint8')")
    table.call(
        "fx.Problem(network, ...)",
        {"network": world.network, "input": x, "target": world.classes},
        {
            **dict.fromkeys(_REST),
            "input": kinds.array(),
            "target": kinds.array().also(right=truths),
        },
        finish=relaxed,
    )
    images = kinds.mapping("image", kinds.array(free=(0,)).but(NOTHING)).also(
        *("{'imag': x}", "{5: x}", "{'cause': x[:, :2]}", "{'image': x, 'cause': x}"),
        *("{'image': x, 'cause': x[:1, :2]}", "{'image': fx.Clamp}", "{'image': fx.Clamp(x, x)}"),
        *("{'image': fx.Clamp(fx.Clamp(x))}", "{'image': fx.Clamp(x, 'seen')}"),
        "{'image': fx.Clamp(x, np.ones((2, 3), bool))}",
        right=("{'image': fx.Clamp(x)}",),
    )
    table.call(
        "fx.Problem(latent, ...)",
        {"network": world.latent, "clamps": {"image": x}},
        {**dict.fromkeys(_REST), "clamps": images, "target": Kind("array", ("x",))},
        finish=relaxed,
    )
    table.call(
        "fx.Problem(latent, {}, ...)",
        {"network": world.latent, "clamps": {}, "batch": 2},
        {**dict.fromkeys(_REST), "batch": kinds.count()},
        finish=lambda problem: problem.zeros(),
    )
    table.call(
        "fx.Problem(transformer, ...)",
        {"network": world.transformer, "clamps": world.tokens, "target": world.tokens},
        {
            **dict.fromkeys(_REST),
            "clamps": kinds.tokens(VOCABULARY),
            "target": kinds.labels(VOCABULARY),
        },
        finish=relaxed,
    )
    hidden = kinds.mapping("hidden", kinds.array(3).but(NOTHING))
    table.call(
        "fx.Problem(deep, ...)",
        {
            "network": world.deep,
            "clamps": {"input": x, "hidden": np.ones((2, 2, 3), np.float32)},
        },
        {**dict.fromkeys(_REST), "clamps": hidden},
        finish=relaxed,
    )
    precision = kinds.number(above=0).also(NOTHING)
    table.method(
        world.problem,
        "with_output_precision",
        {"output_precision": 2.0},
        {"output_precision": precision},
    )
    table.method(
        world.problem,
        "with_network",
        {"network": world.other},
        {"network": kinds.network().also("latent")},
        finish=relaxed,
    )
    noisy = fx.Problem(world.noisy, x, world.labels)
    table.method(noisy, "with_noise", {"key": world.key})
    table.method(
        world.problem, "with_weights", {"weights": jnp.ones(world.problem.batch)}, {"weights": None}
    )
    table.inner(world.problem, "mean", jnp.ones(world.problem.batch))
    table.inner(world.problem, "shared", jnp.ones(world.problem.batch))
    index = Kind(
        "index",
        (
            *(NOTHING, OBJECT, "'first'", "1.5", "[2]", "[-3]", "[0.5]", "['a']", "{}", "[]"),
            *("[True, False, True]", "np.array([[0, 1]])", "slice(5, 6)"),
        ),
        (
            *("np.array([1])", "np.array([1], 'uint8')", "slice(1, 2)", "[-1]"),
            "np.array([False, True])",
        ),
    )
    table.method(world.problem, "examples", {"index": [1]}, {"index": index}, finish=relaxed)


def inner_problems(table: Table, world: World) -> None:
    """What solvers and rules are written with."""
    problem, both = world.problem, fx.Problem(world.bidirectional, world.x, world.labels)
    activities, errors = world.relaxed.activities, problem.select(world.relaxed.errors)
    explained, part = problem.feedforward(), problem.network.output
    for names, argument in (
        (("energy_of", "free_energy_of", "observed_energy_of"), part),
        (("all_errors", "complete", "errors_of", "explained_at", "inferred"), activities),
        (("select", "hidden"), activities),
        (("explain", "free_energy", "free_errors", "total", "unweigh", "weigh"), errors),
        (("predict", "errors_from_start"), errors),
        (("explained_energy", "explained_errors", "explained_gradient", "loss"), explained),
        (("is_read",), "first"),
    ):
        for name in names:
            method = getattr(problem, name)
            parameter = next(iter(inspect.signature(method).parameters))
            given = on_grid(argument) if isinstance(argument, dict) else argument
            kind = kinds.entries(next(iter(argument))) if isinstance(argument, dict) else None
            # What has no error is predicted; the output's prediction may be given alone.
            if kind and name in ("explain", "predict", "errors_from_start"):
                kind = kind.but("{}")
            if kind and name == "loss":
                kind = kind.but(f"@[{next(iter(argument))!r}]")
            varied = {"precision": None} if name == "observed_energy_of" else {}
            table.method(problem, name, {parameter: given}, {parameter: kind, **varied})
    for name in ("constant_energy", "feedforward", "zeros", "with_batch_statistics"):
        table.inner(problem, name)
    table.inner(both, "feedforward")
    table.inner(problem, "compared", part, explained)
    table.inner(problem, "explained_curvature", explained, explained)
    table.inner(problem, "joined_errors", errors, explained)
    table.inner(problem, "errors_from", activities, activities)
    table.inner(problem, "alone", jax.tree.map(lambda a: a[0], problem.clamps))


def energies(table: Table, world: World) -> None:
    """Energies, gradients and the strength of a problem."""
    problem = world.problem
    activities, errors = on_grid(world.relaxed.activities), on_grid(world.relaxed.errors)
    of_first = kinds.entries("first")
    table.call(
        "fx.energy", {"problem": problem, "activities": activities}, {"activities": of_first}
    )
    table.call(
        "fx.weight_gradient",
        {"problem": problem, "activities": activities, "errors": errors},
        {"activities": of_first, "errors": of_first},
    )
    table.call("fx.strength", {"problem": problem, "key": world.key})
    table.call(
        "fx.HoldStrength",
        {"strength": 0.5, "every": 2},
        {"strength": kinds.number(above=0), "every": kinds.count()},
        finish=lambda held: held.output_precision(jnp.ones(())),
    )
    table.inner(fx.HoldStrength(0.5), "output_precision", jnp.ones(()))


def solvers(table: Table, world: World) -> None:
    """Solvers and schedules."""

    def relaxed(solver: Any) -> Any:
        found = fx.infer(world.problem, solver)
        return found.energy, found.steps

    table.call("fx.GaussNewton", {"iterations": 2, "cg_iterations": 2}, finish=relaxed)
    table.call(
        "fx.Newton",
        {"tolerance": 0.25, "max_iterations": 3, "cg_iterations": 3},
        finish=relaxed,
    )
    table.call(
        "fx.QuasiNewton", {"tolerance": 0.25, "max_iterations": 3, "memory": 2}, finish=relaxed
    )
    for name in ("ErrorDescent", "StateDescent"):
        table.call(
            f"fx.{name}",
            {"optimizer": world.optimizer, "steps": 3, "schedule": fx.Uniform()},
            {"optimizer": kinds.optimizer_or_rate(), "steps": kinds.count(0)},
            finish=relaxed,
        )
    table.call(
        "fx.GradientFlow",
        {"solver": diffrax.Tsit5(), "tolerance": 0.25, "segments": 2},
        {
            "solver": kinds.thing("solver", "diffrax.Tsit5", "fx.Newton()"),
            "controller": kinds.thing("controller", "diffrax.PIDController", "0.1"),
        },
        finish=relaxed,
    )

    def drawn(solver: Any) -> Any:
        return fx.infer(world.linear_problem, solver, key=world.key).energy

    multipliers = {"dual_rate": kinds.number(least=0), "credit": kinds.choice("before", "after")}
    table.call(
        "fx.AugmentedLagrangian",
        {"rate": 0.1, "budget": 3, "inner_steps": 2, "dual_rate": 1.0, "credit": "after"},
        {
            "rate": kinds.number(above=0),
            "budget": kinds.count(1),
            "inner_steps": kinds.count(1),
            **multipliers,
        },
        finish=relaxed,
    )
    table.call(
        "fx.AugmentedGaussNewton",
        {"solver": fx.GaussNewton(1, 2), "budget": 2, "dual_rate": 1.0, "credit": "before"},
        {
            "solver": kinds.thing("solver", "fx.GaussNewton", "fx.Newton()"),
            "budget": kinds.count(1),
            **multipliers,
        },
        finish=relaxed,
    )
    table.call(
        "fx.Langevin",
        {"rate": 0.25, "steps": 3, "burn_in": 1, "temperature": 0.5},
        {
            "rate": kinds.number(above=0),
            "burn_in": kinds.count(0).also("3"),
            "temperature": kinds.number(least=0),
            "preconditioner": kinds.mapping("first", kinds.number(above=0)).but("{}"),
        },
        finish=drawn,
    )
    rates = kinds.number(least=0).also("1.5", "{'one': -1.0}", "{5: 0.1}")
    table.call(
        "fx.Predify",
        {"forward": 0.5, "feedback": 0.25, "correction": 0.125, "steps": 2},
        {"forward": rates, "feedback": rates, "correction": None, "steps": kinds.count(0)},
        finish=lambda solver: solver.max_steps,
    )
    table.call("fx.Exact", finish=lambda solver: fx.infer(world.linear_problem, solver).energy)

    def weights(schedule: Any) -> Any:
        return schedule.weights(jnp.arange(2), jnp.asarray(1))

    table.call("fx.Uniform", finish=weights)
    rate = kinds.number(above=0)
    table.call("fx.Spiking", {"alpha": 0.5}, {"alpha": rate.also("1.5")}, finish=weights)
    table.call("fx.Decaying", {"rate": 0.5}, {"rate": rate}, finish=weights)


def inference(table: Table, world: World) -> None:
    """`fx.infer` and its kin."""
    problem = world.problem
    activities = {"first": on_grid(world.relaxed.activities)["first"]}
    at = (
        kinds.entries("first")
        .but("{}")
        .also(
            "{'output': np.ones((2, 5))}", "{'nonsense': np.ones((2, 3))}", "{5: np.ones((2, 3))}"
        )
    )
    table.call(
        "fx.infer",
        {"problem": problem, "solver": world.solver, "at": activities, "certify": True},
        {"at": at, "certify": kinds.flag()},
    )
    observe = kinds.function().also("lambda: 3", "lambda p, e: 'text'")
    table.call(
        "fx.trace",
        {"problem": problem, "solver": world.descent, "steps": 2, "at": activities},
        {"observe": observe, "at": at},
    )
    table.call(
        "fx.average",
        {
            "problem": problem,
            "solver": world.solver,
            "observe": lambda p, e: e.energy,
            "certify": True,
        },
        {"observe": observe, "at": at, "certify": kinds.flag()},
    )
    frames = kinds.mapping("image", kinds.array(3, free=(0, 1)).but("@[..., None]"))
    carry = Kind(
        "names by name",
        (
            *(NOTHING, OBJECT, "5", "'cause'", "['cause']", "{'cause': 'nonsense'}"),
            *("{'nonsense': 'cause'}", "{'cause': 'hidden'}", "{'image': 'image'}", "{5: 5}"),
            *("{'cause': None}", "{'cause': ['cause']}"),
        ),
    )
    table.call(
        "fx.follow",
        {
            "network": world.latent,
            "clamps": {"image": np.stack([world.x] * 3)},
            "carry": {"cause": "cause"},
            "solver": world.solver,
            "initial": {"cause": np.ones((2, 2), np.float32)},
            "output_precision": 2.0,
        },
        {
            "clamps": frames.also(NOTHING, "{}", "{'imag': x}"),
            "carry": carry,
            "initial": kinds.mapping("cause", kinds.array()).also("{'image': x}"),
        },
    )
    settled = {"tolerance": kinds.number(least=0)}
    table.method(world.relaxed, "settled", {"tolerance": 0.5}, settled)
    table.method(world.relaxed, "describe")


def inner_solvers(table: Table, world: World) -> None:
    """What `infer` asks of solvers and schedules."""
    for schedule in (fx.Uniform(), fx.Spiking(), fx.Decaying()):
        table.inner(schedule, "weights", jnp.arange(2), jnp.asarray(0))
        table.inner(schedule, "check", (0, 1), 3)
    descents = (fx.ErrorDescent(world.optimizer), fx.StateDescent(world.optimizer))
    local = (fx.GaussNewton(2), *descents)
    others = (fx.Newton(), fx.GradientFlow(segments=2), fx.Exact(), fx.Langevin(0.1, 2))
    augmented = (fx.AugmentedLagrangian(0.1, 2), fx.AugmentedGaussNewton(fx.GaussNewton(1, 2)))
    for solver in (*local, *others, *augmented):
        problem = world.linear_problem
        start = Linearization.at_start(problem)
        here = start.evaluation(problem)
        state = solver.init(problem, start, here)
        table.inner(solver, "init", problem, start, here)
        for name in ("step", "finished", "evaluation", "point", "activities"):
            table.inner(solver, name, problem, state)
        table.inner(solver, "arrivals", problem)
        table.inner(solver, "with_key", world.key)
        if solver not in descents:
            continue
        table.inner(solver, "begin", problem, state.coordinates, start)
        table.inner(solver, "descend", problem, state, state.coordinates)
        table.inner(solver, "weights", problem, state)
        table.inner(solver, "check", problem)
        table.inner(solver, "check_arrivals", (1, 0))
        table.inner(solver, "usual_arrivals", problem.network)
    newton = fx.GaussNewton(2)
    image = start.push(here.errors)
    table.inner(newton, "iterate", problem, here, start, image, evaluate)
    key = world.key
    chain = [fx.Node(n, eqx.nn.Linear(4, 4, key=key)) for n in ("one", "two", "three")]
    back = fx.Feedback("back", "one", eqx.nn.Linear(4, 4, key=key), "two")
    problem = fx.Problem(fx.Network(chain, (4,), feedbacks=[back]), {"input": world.x})
    start = Linearization.at_start(problem)
    here, dynamics = start.evaluation(problem), fx.Predify(0.5, 0.25, 0.125, 2)
    state = dynamics.init(problem, start, here)
    table.inner(dynamics, "init", problem, start, here)
    for name in ("step", "evaluation", "point", "activities"):
        table.inner(dynamics, name, problem, state)
    for solver in local:
        begun = _begun(solver, world.problem)
        activities = solver.activities(world.problem, begun)
        table.inner(solver, "resumed", world.problem, begun, activities)
    table.refusing(fx.Newton(), "resumed", world.problem, None, {})
    table.refusing(fx.Newton(), "with_weights_changed", world.problem, None)


def _begun(solver: Any, problem: Any) -> Any:
    start = Linearization.at_start(problem)
    return solver.init(problem, start, start.evaluation(problem))


SECTIONS = (problems, inner_problems, energies, solvers, inference, inner_solvers)
