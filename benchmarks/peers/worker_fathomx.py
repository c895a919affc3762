"""Fathomx in the benchmark against peers.

Timed: `rule.update`, any number of times in one dispatch, with network and optimizer state donated,
the batch divided among the cores and the report of the step computed, all as `fx.fit` does in the
command line, with a certificate in every so many-th of them as there. To equilibrium: `step` of a
solver from the state that its `init` made, compiled, on one device; of solvers that know when they
are done the whole of `fx.infer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import (
    BACKPROP,
    BFLOAT16,
    ERROR,
    FORWARD_UPDATE,
    GAUSS_NEWTON,
    NEWTON,
    PROPAGATION,
    QUASI_NEWTON,
    STATE,
    UNTIL_DONE,
)
from protocol import Files, Session, serve

import fathomx as fx
from fathomx.command_line.runtime import prepare
from fathomx.problem.energies import predict
from fathomx.problem.evaluation import Linearization, evaluate
from fathomx.training.choosing import USUAL_CERTIFY
from fathomx.training.devices import mesh_for
from fathomx.training.run_folder import versions

_MANY = 10**6


class FathomxSession(Session):
    def __init__(self) -> None:
        prepare()
        self.versions = versions()

    def build(self, task: Mapping[str, Any], method: Mapping[str, Any], files: Files) -> None:
        self.compared = f"fx.models, {task['model']}"
        self.network = _network(task, files)
        self.batches = [
            (jnp.asarray(x), jnp.asarray(y))
            for x, y in zip(files.inputs, files.targets, strict=True)
        ]
        self.generates = task["model"] == "decoder"
        self.problem = self._pose(self.network, *self.batches[0])
        self.method, self.until_done = method, method["name"] in UNTIL_DONE
        self._prepare_training(_rule(method), optax.adam(task["learning_rate"]))

    def _pose(self, network: fx.Network, inputs: jax.Array, targets: jax.Array) -> fx.Problem:
        if self.generates:
            return fx.Problem(network, {"output": targets})
        return fx.Problem(network, inputs, targets)

    def _prepare_training(
        self, rule: fx.LearningRule, optimizer: optax.GradientTransformation
    ) -> None:
        batches = [jnp.stack(arrays) for arrays in zip(*self.batches, strict=True)]
        mesh = mesh_for(self.network, rule, batches[0].shape[1])
        self.timed = (
            "rule.update, a turn's steps in one dispatch as in fx.fit, donated, the batch divided "
            f"among {len(mesh.devices)} devices"
        )
        # A copy, since training donates its network, but relaxing keeps the one that was built.
        learner = jax.tree.map(lambda a: a.copy() if eqx.is_array(a) else a, self.network)
        state = rule.init_optimizer(optimizer, learner)
        self.learner, self.optimizer_state = mesh.whole((learner, state))
        self.batches_taken, key = 0, jax.random.key(0)

        # What comes first is not donated.
        @eqx.filter_jit(donate="all-except-first", compiler_options=mesh.compiler_options)
        def advance(numbers: Any, learner: Any, state: Any) -> Any:
            arrays, rest = eqx.partition((learner, state), eqx.is_array)

            @jax.jit
            def one(number: Any, arrays: Any) -> Any:
                learner, state = eqx.combine(arrays, rest)
                batch = mesh.parts([array[number % len(array)] for array in batches])
                certified = rule.certifying(number % USUAL_CERTIFY == 0)
                problem = self._pose(learner, *batch)
                *updated, report = certified.update(problem, optimizer, state, key)
                return mesh.whole((eqx.filter(tuple(updated), eqx.is_array), report))

            shapes = jax.eval_shape(one, numbers[0], arrays)[1]
            report = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
            arrays, report = jax.lax.fori_loop(
                *numbers, lambda number, carry: one(number, carry[0]), (arrays, report)
            )
            return *eqx.combine(arrays, rest), report

        self.advance = advance

    def outputs(self) -> np.ndarray:
        return np.asarray(predict(self.learner, self.batches[0][0]))

    def steps(self, count: int) -> None:
        first = self.batches_taken
        self.batches_taken += count
        numbers = (jnp.asarray(first), jnp.asarray(self.batches_taken))
        updated = self.advance(numbers, self.learner, self.optimizer_state)
        self.learner, self.optimizer_state, _ = jax.block_until_ready(updated)

    def begin(self) -> None:
        # Steps are taken one by one when relaxing; a solver's own number is for training.
        self.solver = _solver({**self.method, "steps": _MANY})
        if self.until_done:
            self.relax(0)
            return
        self.state = _further(
            self.problem, self.solver, _first(self.problem, self.solver), jnp.asarray(0)
        )
        jax.block_until_ready(self.state)

    def relax(self, count: int) -> None:
        if self.until_done:
            self.relaxed = jax.block_until_ready(fx.infer(self.problem, self.solver))
            return
        # A traced count: one compilation for any number of steps.
        self.state = _further(self.problem, self.solver, self.state, jnp.asarray(count))
        jax.block_until_ready(self.state)

    def activities(self) -> Sequence[np.ndarray]:
        if self.until_done:
            hidden = self.problem.select(self.relaxed.activities)
        else:
            hidden = self.solver.activities(self.problem, self.state)
        return [np.asarray(hidden["first"]), *np.asarray(hidden["hidden"])]

    def judge(self, activities: Sequence[np.ndarray]) -> float:
        hidden = {"first": jnp.asarray(activities[0]), "hidden": jnp.stack(activities[1:])}
        return float(_unsettled(self.problem, hidden))


def _network(task: Mapping[str, Any], files: Files) -> fx.Network:
    weights, model = list(files.weights), task["model"]
    if model == "residual-mlp":
        network = fx.models.residual_mlp(
            784,
            10,
            width=int(task["width"]),
            depth=task["depth"],
            activation=task["activation"],
            parameterization=fx.MuPC(),
            key=jax.random.key(0),
        )
    elif model == "decoder":
        network = fx.models.decoder(
            weights[0].shape[1],
            weights[-1].shape[0],
            width=int(task["width"]),
            depth=task["depth"],
            activation=task["activation"],
            bias=False,
            key=jax.random.key(0),
        )
    else:
        make = _IMAGES[model.partition("-")[0]]
        network = make(
            task["depth"],
            width=task["width"],
            activation=task["activation"],
            key=jax.random.key(0),
        )

    if model in _STACKED:
        weights = [weights[0], np.stack(weights[1:-1]), weights[-1]]
    learned, rest = fx.split(network)
    given = [jnp.asarray(weight) for weight in weights]
    network = eqx.combine(jax.tree.unflatten(jax.tree.structure(learned), given), rest)
    return fx.mixed_precision(network) if task["precision"] == BFLOAT16 else network


_STACKED = ("residual-mlp", "decoder")
_IMAGES = {"vgg": fx.models.vgg, "resnet": partial(fx.models.resnet, auxiliary=False)}


def _rule(method: Mapping[str, Any]) -> fx.LearningRule:
    """The learning rule of a method; schedules as in `fathomx reproduce deeper-pcns`."""
    name, steps = method["name"], method["steps"]
    if name == BACKPROP:
        return fx.Backprop()
    if name == FORWARD_UPDATE:
        momentum = optax.sgd(method["rate"], momentum=0.9, nesterov=True)
        return fx.ForwardUpdate(fx.StateDescent(momentum, steps, fx.Spiking(1e-3)), 1.0)
    if name == PROPAGATION:
        return fx.EquilibriumPropagation(fx.GaussNewton())
    return fx.Equilibrium(_solver(method), output_precision=1.0)


def _solver(method: Mapping[str, Any]) -> fx.Solver:
    optimizer = {"sgd": optax.sgd, "adam": optax.adam}[method["optimizer"]](method["rate"])
    solvers = {
        STATE: lambda: fx.StateDescent(optimizer, method["steps"]),
        ERROR: lambda: fx.ErrorDescent(optimizer, method["steps"]),
        GAUSS_NEWTON: lambda: fx.GaussNewton(method["steps"], 2),
        NEWTON: lambda: fx.Newton(tolerance=method["tolerance"]),
        QUASI_NEWTON: lambda: fx.QuasiNewton(tolerance=method["tolerance"]),
    }
    return solvers[method["name"]]()


@eqx.filter_jit
def _first(problem: fx.Problem, solver: fx.Solver) -> Any:
    start = Linearization(problem, problem.network.zeros(problem.batch))
    return solver.init(problem, start, start.evaluation(problem))


@eqx.filter_jit
def _further(problem: fx.Problem, solver: fx.Solver, state: Any, count: jax.Array) -> Any:
    return jax.lax.fori_loop(0, count, lambda _, state: solver.step(problem, state), state)


@eqx.filter_jit
def _unsettled(problem: fx.Problem, hidden: Mapping[str, jax.Array]) -> jax.Array:
    norm = problem.network.space.norm
    there = evaluate(problem, problem.errors_of(hidden))
    begun = evaluate(problem, problem.network.zeros(problem.batch))
    return jnp.max(norm(there.gradient) / norm(begun.gradient))


serve(FathomxSession())
