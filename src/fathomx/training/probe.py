"""What is measured after every epoch, on one fixed batch."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.diagnostics.alignment import lengths, weight_change
from fathomx.diagnostics.beside_backprop import BesideBackprop, beside_backprop
from fathomx.diagnostics.energy_balance import energy_balance
from fathomx.graph.network import Network
from fathomx.learning import LearningRule, Pose
from fathomx.problem.strength import strength

_STRENGTH_PROBES = 8


class Probe(eqx.Module):
    """What was found on the fixed batch.

    **Fields**

    * `update`: the rule's beside backprop's.
    * `lengths`: `(nodes,)`, of the rule's gradient.
    * `moved`: `(nodes,)`, how far weights are from those that the run began with, relative to
      these.
    * `strength`, and `own`, what the rule reports of its own.
    * `imbalance` of the energies after the epoch's last step.
    """

    update: BesideBackprop
    lengths: Array
    moved: Array
    strength: Array
    own: dict[str, Array]
    imbalance: Array

    def record(self) -> dict[str, Any]:
        """Its numbers by the names that they have in the record of an epoch."""
        return {
            **self.update.record(),
            "gradient_length_per_node": self.lengths,
            "weight_change_per_node": self.moved,
            "pc_strength": self.strength,
            "imbalance": self.imbalance,
            **self.own,
        }


def probe(
    begun: Network,
    network: Network,
    key: PRNGKeyArray,
    energy: Array,
    rule: LearningRule,
    pose: Pose,
    batch: dict[str, Array],
) -> dict[str, Any]:
    """The record of a `Probe`: all of it comes from one program.

    `energy` per node is that after the epoch's last step.
    """
    problem = pose(network, batch).with_output_precision(1.0)
    imbalance = energy_balance(problem, energy).imbalance
    gradient, report = rule.gradient(problem, key)
    update = beside_backprop(problem, gradient, key)
    own = rule.probe(problem, jax.random.fold_in(key, 2))
    problem = problem.with_batch_statistics()
    # Signs of its own: the precision that a rule chose by its own estimate would confirm itself.
    keys = jax.random.split(jax.random.fold_in(key, 1), _STRENGTH_PROBES)
    sensitivity = jnp.full((), jnp.nan)
    if problem.observed:
        sensitivity = jnp.mean(jax.lax.map(lambda probe: strength(problem, probe), keys))
    precision = jnp.where(jnp.isfinite(report.output_precision), report.output_precision, 1)
    moved = weight_change(begun, network)
    found = sensitivity * precision
    return Probe(update, lengths(gradient), moved, found, own, imbalance).record()
