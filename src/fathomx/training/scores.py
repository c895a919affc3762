"""What a network is scored by, and how a part of a data set is scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx import checks
from fathomx.checks import OfTwo
from fathomx.data import Part
from fathomx.graph.network import Network
from fathomx.inference import GaussNewton, infer
from fathomx.learning import Pose
from fathomx.learning.backprop import is_feedforward
from fathomx.problem.energies import evaluated_energies
from fathomx.problem.evaluation import Evaluation
from fathomx.problem.problem import Problem
from fathomx.training.programs import run

Scores = OfTwo

AT_ONCE = 500
# Near equilibrium, as far as scores that people compare need it.
_SOLVER = GaussNewton(iterations=8, cg_iterations=10)


class UsualScores(eqx.Module):
    """What a network is scored by unless told otherwise, one number per example.

    * `loss`: the energy of what is observed at output precision 1, of the feedforward pass; where
      there is a free root or a feedback, after inference.
    * `accuracy`, where the output is clamped to integer labels: how often its largest prediction is
      the label's; where there are several positions, the part of them.
    * `energy`: after inference, where the feedforward pass does not tell the loss.

    **Fields**: `pose`, how a batch becomes a problem.
    """

    pose: Pose = eqx.field(static=True)

    def __call__(self, network: Network, batch: Any) -> Mapping[str, Array]:
        problem = self.pose(network, batch)
        if not is_feedforward(problem):
            return _relaxed(problem)
        explained, output = problem.feedforward(), network.output.name
        scores = {"loss": problem.loss(explained) / problem.positions}
        labels = batch.get(output, batch.get("target")) if isinstance(batch, Mapping) else None
        if output in problem.observed and labels is not None:
            found = jnp.argmax(explained[output], axis=-1)
            if jnp.issubdtype(labels.dtype, jnp.integer) and labels.shape == found.shape:
                hits = (found == labels).reshape(len(labels), -1)
                scores["accuracy"] = hits.mean(axis=1)
        return scores


def _relaxed(problem: Problem) -> dict[str, Array]:
    relaxed = infer(problem, _SOLVER)
    here = problem.explained_at(relaxed.activities)
    errors = problem.errors_of(relaxed.activities)
    rows = evaluated_energies(problem, Evaluation.of_energies(problem, errors, here))
    return {"loss": problem.loss(here), "energy": rows.sum(axis=0)}


def evaluate_part(
    network: Network, arrays: Mapping[str, np.ndarray], scores: Scores
) -> dict[str, float]:
    """The scores of a part of a data set, means over its examples.

    A score is one number per example, or one for the batch that it is given. Raises `TypeError` for
    scores that are no dictionary, and `ValueError` for one of another shape.
    """
    size = len(next(iter(arrays.values())))
    totals: dict[str, float] = {}
    for begin in range(0, size, AT_ONCE):
        batch = {name: jnp.asarray(a[begin : begin + AT_ONCE]) for name, a in arrays.items()}
        count = min(AT_ONCE, size - begin)
        found = run(_scored, network, batch, scores)
        if not isinstance(found, Mapping):
            raise TypeError(
                f"scores must return a dictionary such as {{'loss': loss}}, not "
                f"{type(found).__name__}."
            )
        for name, value in found.items():
            if not isinstance(name, str):
                raise TypeError(f"the names of scores must be texts, not {checks.shown(name)}.")
            value = checks.array(f"the score {name!r}", value)
            if jnp.shape(value) not in ((), (count,)):
                raise ValueError(
                    f"the score {name!r} has shape {jnp.shape(value)} for {count} examples; give "
                    "one number for each of them, or one for all."
                )
            totals[name] = totals.get(name, 0.0) + float(jnp.mean(value)) * count
    return {name: total / size for name, total in totals.items()}


def _scored(network: Network, batch: Any, scores: Scores) -> Any:
    return scores(network, batch)


def _counted(network: Network, input: Array, labels: Array, count: Array) -> tuple[Array, Array]:
    problem = Problem(network, input, labels)
    explained = problem.feedforward()
    counted = jnp.arange(len(labels)) < count
    hits = jnp.argmax(explained[network.output.name], axis=-1) == labels
    # Of labels at many positions, the part of them that is met.
    hits = hits.reshape(len(labels), -1).mean(axis=1)
    loss = problem.loss(explained) / problem.positions
    return jnp.sum(loss * counted), jnp.sum(hits * counted)


def score(network: Network, part: Part) -> tuple[float, float]:
    """Loss (output energy at precision 1) and accuracy of the feedforward prediction.

    Means over examples and, where there is a label at each of several positions, over these.
    """
    loss, hits, size = 0.0, 0.0, len(part.labels)
    for begin in range(0, size, AT_ONCE):
        # The last batch is padded, so that parts of any size share one compiled program.
        taken = np.minimum(np.arange(begin, begin + AT_ONCE), size - 1)
        count = jnp.asarray(min(AT_ONCE, size - begin))
        some_loss, some_hits = run(
            _counted,
            network,
            jnp.asarray(part.inputs[taken]),
            jnp.asarray(part.labels[taken]),
            count,
        )
        loss, hits = loss + float(some_loss), hits + float(some_hits)
    return loss / size, hits / size
