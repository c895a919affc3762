"""The methods that are compared: backprop, strengths to hold, and a fixed output precision."""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.learning import Equilibrium
from fathomx.problem.evaluation import Linearization
from fathomx.problem.problem import Problem
from fathomx.problem.strength import mean_sensitivity

_LARGEST_PRECISION = 1e6


class Target(NamedTuple):
    """The strength to hold, and the largest output precision allowed for that."""

    strength: float
    ceiling: float


# What counts as substantial.
SUBSTANTIAL = ("strength 0.3", "strength 1", "strength 3")
METHODS: dict[str, Target | None] = {
    "backprop": None,
    **{f"strength {s:g}": Target(s, _LARGEST_PRECISION) for s in (0.03, 0.1, 0.3, 1.0, 3.0)},
    # An infinite strength is never reached, and the precision stays at its ceiling.
    "precision 1": Target(math.inf, 1.0),
}
PREDICTIVE_CODING = tuple(method for method in METHODS if method != "backprop")


class Aimed(Equilibrium):
    """`Equilibrium` at the output precision `min(strength / sensitivity, ceiling)`.

    `HoldStrength` with a ceiling of 1e6, a fixed precision with an infinite strength: both numbers
    are traced, so that all methods of a network share one compiled program.
    """

    strength: Array = eqx.field(kw_only=True)
    ceiling: Array = eqx.field(kw_only=True)

    def choose(
        self, problem: Problem, key: PRNGKeyArray, start: Linearization | None = None
    ) -> tuple[Problem, Array]:
        sensitivity = mean_sensitivity(problem, key, start)
        least = jnp.finfo(sensitivity.dtype).tiny
        precision = jnp.minimum(self.strength / jnp.maximum(sensitivity, least), self.ceiling)
        return problem.with_output_precision(precision), sensitivity * precision
