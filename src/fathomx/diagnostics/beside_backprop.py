"""A weight update beside backprop's on the same batch: what a run and a diagnosis say of it."""

from __future__ import annotations

from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from fathomx.checks import gate
from fathomx.diagnostics.alignment import Alignment, compare
from fathomx.diagnostics.target_alignment import TargetAlignment, target_alignment
from fathomx.graph.network import Network
from fathomx.learning.backprop import Backprop, is_feedforward
from fathomx.problem.problem import Problem


@gate
class BesideBackprop(eqx.Module):
    """An update of the weights beside backprop's on the same batch.

    **Fields**

    * `alignment`: its direction and length, node by node.
    * `target`: where it takes the predictions, and `target_of_backprop`, where backprop's takes
      them.
    """

    alignment: Alignment
    target: TargetAlignment
    target_of_backprop: TargetAlignment

    def record(self) -> dict[str, Any]:
        """Its numbers by the names that they have in the files of runs and diagnoses."""
        return {
            "cosine_to_backprop": self.alignment.overall,
            "cosine_to_backprop_per_quarter": self.alignment.quarters,
            "cosine_to_backprop_per_node": self.alignment.cosine,
            "length_to_backprop_per_node": self.alignment.ratio,
            "target_alignment": self.target.mean,
            "target_alignment_of_backprop": self.target_of_backprop.mean,
        }


@gate
def beside_backprop(problem: Problem, gradient: Network, key: PRNGKeyArray) -> BesideBackprop:
    """Compares a gradient with backprop's: its direction in weights, and that of predictions.

    All is NaN where a free root, a feedback, or nothing that is observed leaves no backprop to
    compare with. The predictions are those of batch statistics held at this batch's, as in
    inference.

    ```python
    gradient, _ = fx.Equilibrium().gradient(problem, key)
    beside_backprop(problem, gradient, key).alignment.quarters
    ```
    """
    if not is_feedforward(problem) or not problem.observed:
        nothing = TargetAlignment.unknown(problem)
        return BesideBackprop(Alignment.unknown(problem.network), nothing, nothing)
    told, _ = Backprop().gradient(problem, key)
    frozen = problem.with_batch_statistics()
    return BesideBackprop(
        compare(gradient, told),
        target_alignment(frozen, gradient),
        target_alignment(frozen, told),
    )
