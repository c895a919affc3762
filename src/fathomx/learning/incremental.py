"""Incremental predictive coding: weights step at every inference step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import Optimizer, gate
from fathomx.graph.arrival import by_entry, entry_weights
from fathomx.graph.feedback import Feedback
from fathomx.graph.network import Network
from fathomx.graph.predictor import Predictor
from fathomx.graph.statistics import split, weights
from fathomx.graph.vector_space import Entries
from fathomx.inference import ErrorDescent, Solver
from fathomx.inference.base import where_wanted
from fathomx.inference.relaxation import Progress, certificate, relaxation
from fathomx.learning.base import StepReport
from fathomx.learning.predictive_coding import PredictiveCoding, per_precision, report
from fathomx.problem.energies import weight_gradient
from fathomx.problem.evaluation import Evaluation, with_gradient
from fathomx.problem.problem import Problem

_Visit = Callable[[Problem, Entries, Array, Any], tuple[Problem, Any]]


@gate
class Incremental(PredictiveCoding):
    """After every inference step the weights step too, with the activities of the moment.

        z <- z - solver step of dF/dz,    then    theta <- theta - optimizer(dF/dtheta / lambda)

    Nodes that the output's error has not reached keep their weights and their optimizer's state, at
    no cost. For this every entry of the network (a node, or a stack, block by block) has an
    optimizer state of its own: a schedule counts the updates of the entry, and a clipped norm is
    that of the node. A batch makes up to `solver.max_steps` updates; choose a learning rate to
    suit.

    **Fields**: `solver`, one of `StateDescent`, `ErrorDescent`, `GaussNewton`; `ErrorDescent()`
    unless given, five steps that reach every node at any depth (after one step, such as that of
    `GaussNewton()`, there is nothing incremental: it equals `Equilibrium`); and
    `output_precision`, as in `PredictiveCoding`. Raises `TypeError` for other solvers.

    `gradient`, which the diagnostics use, is the sum of the gradients over the steps with weights
    held: the direction in which a vanishing learning rate of gradient descent would move.

    ```python
    rule = fx.Incremental(fx.StateDescent(optax.sgd(0.1), steps=8), output_precision=1.0)
    ```

    Source: Salvatori et al. (2022), arXiv 2212.00720.
    """

    solver: Solver = eqx.field(default_factory=ErrorDescent)

    def gradient(self, problem: Problem, key: PRNGKeyArray) -> tuple[Network, StepReport]:
        def add(
            problem: Problem, activities: Entries, reached: Array, total: Any
        ) -> tuple[Problem, Any]:
            mask = entry_weights(problem.network, reached)
            errors = problem.all_errors(activities)
            masked = {name: jnp.where(mask[name], error, 0) for name, error in errors.items()}
            gradient = per_precision(problem, weight_gradient(problem, activities, masked))
            return problem, jax.tree.map(jnp.add, total, gradient)

        nothing = jax.tree.map(jnp.zeros_like, weights(problem.network))
        _, total, seen = self._relax(problem, key, add, nothing)
        return total, seen

    def init_optimizer(self, optimizer: Optimizer, network: Network) -> Any:
        if network.share:
            raise ValueError(
                "incremental learning updates every entry by itself, but this network shares "
                f"weights between {network.share[0][0]!r} and {network.share[0][1]!r}; use "
                "fx.Equilibrium, or entries with weights of their own."
            )
        return {
            part.name: part.over_nodes(optimizer.init)(_own(weights(part)))
            if jax.tree.leaves(weights(part))
            else ()
            for part in network.predictors()
            if part.depth
        }

    def update(
        self,
        problem: Problem,
        optimizer: optax.GradientTransformation,
        optimizer_state: Any,
        key: PRNGKeyArray,
    ) -> tuple[Network, Any, StepReport]:
        def learn(
            problem: Problem, activities: Entries, reached: Array, states: Any
        ) -> tuple[Problem, Any]:
            return _learn(problem, activities, reached, optimizer, states)

        self.check_state(optimizer, optimizer_state, problem.network)
        taken, states, seen = self._relax(problem, key, learn, optimizer_state)
        # The running statistics belong to the network that came in.
        learned = eqx.combine(weights(taken.network), split(problem.network)[1])
        return learned.moved_statistics(taken.network), states, seen

    def _relax(
        self, problem: Problem, key: PRNGKeyArray, visit: _Visit, carried: Any
    ) -> tuple[Problem, Any, StepReport]:
        """Runs the solver and calls `visit` after every step."""
        problem, start, strength = self.prepare(problem, key)
        begun = start.evaluation(problem)
        solver = self.solver
        state = solver.init(problem, start, begun)
        # A step's signal has reached the nodes whose energy it made differ from zero.
        arrivals = jnp.asarray(solver.arrivals(problem))

        def visited(problem: Problem, state: Any, step: Any, carried: Any) -> Any:
            activities = solver.activities(problem, state)
            problem, carried = visit(problem, activities, arrivals <= step + 1, carried)
            return problem, solver.resumed(problem, state, activities), carried

        first = solver.steps_in_init
        if first:
            problem, state, carried = visited(problem, state, 0, carried)
        arrays, rest = eqx.partition(problem, eqx.is_array)

        def one(step: Any, carry: Any) -> Any:
            arrays, state, carried = carry
            problem = eqx.combine(arrays, rest)
            state = solver.step(problem, state)
            problem, state, carried = visited(problem, state, step, carried)
            return eqx.filter(problem, eqx.is_array), state, carried

        if first < solver.max_steps:
            arrays, state, carried = jax.lax.fori_loop(
                first, solver.max_steps, one, (arrays, state, carried)
            )
        problem = eqx.combine(arrays, rest)
        there = solver.point(problem, state)
        unsettled = where_wanted(
            self.certify,
            lambda: certificate(problem, with_gradient(problem, there), begun),
        )
        seen = _seen(problem, there, unsettled, state)
        return problem, carried, report(problem, start, seen, strength, self.certify)


def _seen(problem: Problem, there: Evaluation, unsettled: Array, state: Any) -> Any:
    """The relaxation at the end; its certificate compares with the start under the old weights."""
    progress = Progress(jnp.ones_like(there.energy), state.steps, state.evaluations)
    return relaxation(problem, there, unsettled, progress)


def _own(learned: Any) -> Any:
    """What an optimizer sees of an entry's weights: its function, where nothing else learns."""
    function = learned.learned_function()
    return function if _in_function(learned, function) else learned


def _with_own(learned: Any, own: Any) -> Any:
    """An entry's weights with others in place of what `_own` takes of them."""
    function = learned.learned_function()
    return learned.with_function(own) if _in_function(learned, function) else own


def _in_function(learned: Any, function: Any) -> bool:
    """Whether all weights of an entry are in its function: no precision and no prior mean."""
    inside = jax.tree.leaves(eqx.filter(function, eqx.is_array))
    return len(inside) == len(jax.tree.leaves(learned))


def _learn(
    problem: Problem,
    activities: Entries,
    reached: Array,
    optimizer: optax.GradientTransformation,
    states: dict[str, Any],
) -> tuple[Problem, dict[str, Any]]:
    """One update of the weights of the nodes that are reached, entry by entry."""
    network = problem.network
    known = problem.complete(activities)
    positions = by_entry(network, tuple(range(len(network.labels))))
    moved, updated = {}, {}
    for part in network.predictors():
        moved[part.name] = part
        if not part.depth:
            continue
        here = reached[np.asarray(positions[part.name])]
        local = _Local(problem, part, known)
        state = states[part.name]
        moved[part.name], updated[part.name] = local.learn(optimizer, state, here)
    return problem.with_network(network.with_predictors(moved)), updated


class _Local(eqx.Module):
    """What an entry's weights see: its parents' activities and its own."""

    problem: Problem
    part: Predictor
    activities: Entries

    def energies(self, part: Predictor) -> Array:
        """The energies of an entry or a feedback with these weights."""
        network, known = self.problem.network, self.activities
        if isinstance(part, Feedback):
            target = network.target(part, known)
            sources, own = network.feedback_sources(part, known), None
        else:
            target = own = known[part.name]
            sources = network.sources(part, known, batch=self.problem.batch)
        return self.problem.energy_of(part)(target, part.predict(sources, own))

    def learn(
        self, optimizer: optax.GradientTransformation, state: Any, reached: Array
    ) -> tuple[Predictor, Any]:
        learned, rest = split(self.part)
        if not jax.tree.leaves(learned) or self.part.name not in self.learning:
            return self.part, state

        def energy(learned: Any) -> Array:
            energies = self.energies(eqx.combine(learned, rest))
            scale = self.problem.output_precision.astype(energies.dtype)
            return self.problem.shared(energies, axis=1).sum() / scale

        def step(learned: Any, state: Any) -> tuple[Any, Any]:
            own, gradient = _own(learned), _own(jax.grad(energy)(learned))
            updates, after = self.part.over_nodes(optimizer.update)(gradient, state, own)
            moved = eqx.apply_updates(own, updates)
            if self.part.batch_axis:
                # A stack is computed as a whole, and kept where it is not reached.
                moved, after = jax.tree.map(
                    lambda new, old: jnp.where(
                        reached.reshape(-1, *[1] * (new.ndim - 1)), new, old
                    ),
                    (moved, after),
                    (own, state),
                )
            return _with_own(learned, moved), after

        learned, state = jax.lax.cond(
            reached.any(), step, lambda learned, state: (learned, state), learned, state
        )
        return eqx.combine(learned, rest), state

    @property
    def learning(self) -> set[str]:
        """Names of what has an energy in this problem."""
        return {*self.problem.free, *self.problem.explained}
