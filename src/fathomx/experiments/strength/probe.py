"""A network on one batch: how sensitive its output is, and how near to backprop it learns."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.diagnostics.alignment import alignment
from fathomx.graph.network import Network
from fathomx.learning import LearningRule
from fathomx.problem.problem import Problem
from fathomx.problem.strength import mean_sensitivity

_SIGNS = 8


@eqx.filter_jit
def probe(
    network: Network, rule: LearningRule, inputs: Array, labels: Array, key: PRNGKeyArray
) -> tuple[Array, Array]:
    """Sensitivity of the output and cosine of the rule's update to backprop's, on one batch."""
    problem = Problem(network, inputs, labels, 1.0)
    keys = jax.random.split(key, _SIGNS)
    sensitivity = jnp.mean(jax.lax.map(lambda signs: mean_sensitivity(problem, signs), keys))
    return sensitivity, alignment(problem, rule, key).overall
