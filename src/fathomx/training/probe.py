"""What is measured after every epoch, on one fixed batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.diagnostics.alignment import Alignment, compare_to_backprop
from fathomx.graph.network import Network
from fathomx.learning import LearningRule, Pose
from fathomx.learning.backprop import is_feedforward
from fathomx.problem.strength import strength

_STRENGTH_PROBES = 8


def probe(
    network: Network, rule: LearningRule, pose: Pose, batch: dict[str, Array], key: PRNGKeyArray
) -> Any:
    """The update beside backprop's, the strength, and what the rule reports of its own."""
    problem = pose(network, batch).with_output_precision(1.0)
    gradient, report = rule.gradient(problem, key)
    aligned = Alignment.unknown(network)
    if is_feedforward(problem):
        aligned = compare_to_backprop(problem, gradient, key)
    own = rule.probe(problem, jax.random.fold_in(key, 2))
    problem = problem.with_batch_statistics()
    # Signs of its own: the precision that a rule chose by its own estimate would confirm itself.
    keys = jax.random.split(jax.random.fold_in(key, 1), _STRENGTH_PROBES)
    sensitivity = jnp.full((), jnp.nan)
    if problem.observed:
        sensitivity = jnp.mean(jax.lax.map(lambda probe: strength(problem, probe), keys))
    precision = jnp.where(jnp.isfinite(report.output_precision), report.output_precision, 1)
    return aligned, sensitivity * precision, own
