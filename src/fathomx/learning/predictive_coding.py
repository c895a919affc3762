"""What the rules that relax activities before they learn have in common."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import Optimizer, Truth, gate
from fathomx.graph.network import Network
from fathomx.graph.statistics import with_fields
from fathomx.inference import GaussNewton, Solver
from fathomx.inference.base import where_wanted
from fathomx.inference.relaxation import Relaxation
from fathomx.learning.base import LearningRule, StepReport, feedforward_scores
from fathomx.learning.carried import Carrying, Sensitivity
from fathomx.problem.evaluation import Linearization
from fathomx.problem.problem import Problem
from fathomx.problem.strength import HoldStrength, mean_sensitivity

DEFAULT_STRENGTH = 0.1


@gate
class PredictiveCoding(LearningRule):
    """A rule that infers with a solver, at an output precision of its own choice.

    **Fields**

    * `solver`: any `Solver`; `GaussNewton()` unless given.
    * `output_precision`: a `HoldStrength`, which chooses the precision of every batch, or a fixed
      positive number; `HoldStrength(0.1)` unless given. The output node's own precision is the one
      that `Problem` uses outside of training.

    Raises `TypeError` and `ValueError` for anything else.
    """

    solver: Solver = eqx.field(default_factory=GaussNewton)
    output_precision: HoldStrength | float = eqx.field(
        static=True, default=HoldStrength(DEFAULT_STRENGTH)
    )
    # Whether reports have a certificate, and what an update takes over instead of measuring it.
    certify: bool | Array = eqx.field(default=True, init=False, repr=False)
    carried: Sensitivity | None = eqx.field(default=None, init=False, repr=False)

    def __check_init__(self) -> None:
        if not isinstance(self.solver, Solver):
            raise TypeError(
                f"solver must be a Solver such as fx.GaussNewton(), not {self.solver!r}."
            )
        precision = self.output_precision
        if not isinstance(precision, HoldStrength) and not (
            isinstance(precision, float | int) and math.isfinite(precision) and precision > 0
        ):
            raise ValueError(
                f"output_precision must be a positive, finite number or fx.HoldStrength, not "
                f"{precision!r}."
            )

    def certifying(self, when: Truth) -> PredictiveCoding:
        return with_fields(self, certify=when)

    def choose(
        self, problem: Problem, key: PRNGKeyArray, start: Linearization | None = None
    ) -> tuple[Problem, Array]:
        """The problem at this rule's output precision for the batch, and its strength."""
        if not problem.observed and not isinstance(self.output_precision, HoldStrength):
            # Feedbacks alone explain: there is nothing for the strength to compare.
            return problem.with_output_precision(self.output_precision), jnp.full((), jnp.nan)

        def measured() -> Array:
            return mean_sensitivity(problem, key, start)

        held, carried = self.output_precision, self.carried
        if not isinstance(held, HoldStrength):
            # The strength is only reported, beside the certificate.
            sensitivity = where_wanted(self.certify, measured)
            precision = jnp.asarray(held, sensitivity.dtype)
        else:
            if carried is None:
                sensitivity = measured()
            else:
                sensitivity = jax.lax.cond(
                    carried.due(held.every),
                    lambda: carried.averaged(measured()),
                    lambda: carried.value,
                )
            precision = held.output_precision(sensitivity)
        return problem.with_output_precision(precision), sensitivity * precision

    def init_optimizer(self, optimizer: Optimizer, network: Network) -> Any:
        """The optimizer's state before the first update, and what updates carry beside it."""
        state, held = super().init_optimizer(optimizer, network), self.output_precision
        if not isinstance(held, HoldStrength) or held.every == 1:
            return state
        return Carrying(state, Sensitivity.unknown(network.dtype))

    def _accepted(self, state: Any) -> tuple[Any, ...]:
        return (state, state.optimizer_state) if isinstance(state, Carrying) else (state,)

    def update(
        self,
        problem: Problem,
        optimizer: optax.GradientTransformation,
        optimizer_state: Any,
        key: PRNGKeyArray,
    ) -> tuple[Network, Any, StepReport]:
        held = self.output_precision
        if not isinstance(optimizer_state, Carrying) or not isinstance(held, HoldStrength):
            return super().update(problem, optimizer, optimizer_state, key)
        self.check_state(optimizer, optimizer_state, problem.network)
        sensitivity = optimizer_state.sensitivity
        rule = with_fields(self, carried=sensitivity)
        network, state, seen = super(PredictiveCoding, rule).update(
            problem, optimizer, optimizer_state.optimizer_state, key
        )
        used = seen.strength / seen.output_precision
        return network, Carrying(state, sensitivity.after(used, held.every)), seen

    def prepare(self, problem: Problem, key: PRNGKeyArray) -> tuple[Problem, Linearization, Array]:
        """What is relaxed: batch statistics frozen, precision chosen; its start and strength."""
        arrays, rest = eqx.partition(problem.with_batch_statistics(), eqx.is_array)
        problem = eqx.combine(jax.lax.stop_gradient(arrays), rest)
        start = Linearization.at_start(problem)
        problem, strength = self.choose(problem, key, start)
        return problem, start, strength


def per_precision(problem: Problem, gradient: Network) -> Network:
    """The gradient over the output precision, so that learning rates keep their meaning."""
    precision = problem.output_precision
    scaled: Network = jax.tree.map(lambda g: g / precision.astype(g.dtype), gradient)
    return scaled


def report(
    problem: Problem,
    start: Linearization,
    relaxed: Relaxation,
    strength: Array,
    certified: bool | Array = True,
) -> StepReport:
    """What a step saw, from the feedforward pass and from the relaxation.

    `certified` says whether there is a certificate to report; a rule has it in `self.certify`.
    """
    loss, accuracy = feedforward_scores(problem, start.explained)

    def spread() -> Array:
        return jnp.stack([jnp.median(relaxed.unsettled), jnp.max(relaxed.unsettled)])

    # Only where there is something to see: devices that divide the batch wait for each other.
    median, largest = where_wanted(certified, spread)
    return StepReport(
        loss=loss,
        accuracy=accuracy,
        unsettled_median=median,
        unsettled_max=largest,
        strength=strength,
        output_precision=problem.output_precision,
        energy=relaxed.energy,
    )
