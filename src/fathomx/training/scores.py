"""What a network is scored by, and how a part of a data set is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
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
from fathomx.metrics import Metric, named
from fathomx.metrics.choice import check_suited
from fathomx.problem.energies import evaluated_energies
from fathomx.problem.evaluation import Evaluation
from fathomx.problem.problem import Problem
from fathomx.training.programs import Asking, Call, answered

Scores = OfTwo

AT_ONCE = 500
# Near equilibrium, as far as scores that people compare need it.
_SOLVER = GaussNewton(iterations=8, cg_iterations=10)


class UsualScores(eqx.Module):
    """What a network is scored by unless told otherwise: its loss, and what metrics average.

    * `loss`: the energy of what is observed at output precision 1, of the feedforward pass; where
      there is a free root or a feedback, after inference.
    * the terms of the metrics, of the mean that the output's energy has for the feedforward
      prediction.
    * `energy`: after inference, where the feedforward pass does not tell the loss.

    **Fields**: `pose`, how a batch becomes a problem; `metrics`; `scale`, the mean and the standard
    deviation by which targets were standardized, if they are to be judged in their own units.
    """

    pose: Pose = eqx.field(static=True)
    metrics: tuple[Metric, ...] = ()
    scale: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, network: Network, batch: Any) -> Mapping[str, Array]:
        problem = self.pose(network, batch)
        if not is_feedforward(problem):
            return _relaxed(problem)
        explained = problem.feedforward()
        scores = {"loss": problem.loss(explained) / problem.positions}
        if self.metrics:
            output = network.output
            prediction = jax.vmap(output.energy.expected)(explained[output.name])
            ends = self._in_units(prediction), self._in_units(problem.target)
            for metric in self.metrics:
                scores |= _terms(metric, *ends)
        return scores

    def values(self, means: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The scores themselves, of the means of what the call returned; metrics by their keys."""
        found = {name: float(mean) for name, mean in means.items() if OF not in name}
        for metric in self.metrics:
            begin = f"{metric.key}{OF}"
            own = {n.removeprefix(begin): m for n, m in means.items() if n.startswith(begin)}
            if own:
                found[metric.key] = float(metric.value(own))
        return found

    def _in_units(self, array: Array) -> Array:
        if self.scale is None:
            return array
        mean, deviation = (jnp.asarray(each, array.dtype) for each in self.scale)
        return mean + deviation * array


# Between the key of a metric and the name of its term.
OF = ": "


def _terms(metric: Metric, prediction: Array, target: Array) -> dict[str, Array]:
    """What a metric averages, by its key and the name of the term."""
    terms = metric.terms(prediction, target)
    if not isinstance(terms, Mapping) or not terms:
        raise TypeError(
            f"terms of metric {metric.name!r} must return arrays by name such as "
            f"{{'square': (target - prediction) ** 2}}, not {checks.shown(terms)}."
        )
    found = {}
    for name, term in terms.items():
        array = checks.array(f"the term {name!r} of metric {metric.name!r}", term)
        if array.shape[:1] != (len(target),):
            raise ValueError(
                f"the term {name!r} of metric {metric.name!r} has shape {array.shape} for "
                f"{len(target)} examples; give one number, or one row, for each of them."
            )
        found[f"{metric.key}{OF}{name}"] = array
    return found


def target_kinds(problem: Problem, batch: Any) -> tuple[str, ...]:
    """What the targets of the output are, as metrics have it; nothing if it is not clamped whole.

    What its energy says, and `classes` instead of numbers where the batch holds integer labels.
    """
    output = problem.network.output
    if output.name not in problem.observed or not problem.clamps[output.name].whole:
        return ()
    given = batch.get(output.name, batch.get("target")) if isinstance(batch, Mapping) else None
    labels = (
        output.energy.takes_labels
        and given is not None
        and jnp.issubdtype(given.dtype, jnp.integer)
        and given.shape == problem.target.shape[:-1]
    )
    # Numbers are what a one-hot vector is made of, but no number is what was asked.
    kinds = output.energy.targets
    return ("classes", *(kind for kind in kinds if kind == "distributions")) if labels else kinds


def metrics_in_force(
    problem: Problem, batch: Any, given: Sequence[Metric] | None
) -> tuple[Metric, ...]:
    """The metrics that were asked for, or that suit the output.

    Raises `ValueError` for one that does not suit it, or where there is no prediction to judge.
    """
    kinds = target_kinds(problem, batch)
    judged = bool(kinds) and is_feedforward(problem)
    energy = problem.network.output.energy
    if given is None:
        usual = "accuracy" if "classes" in kinds else energy.judged_by
        return (named(usual),) if judged else ()
    if given and not judged:
        raise ValueError(
            f"metrics judge the feedforward prediction of the output, "
            f"{problem.network.output.name!r}, beside its target, and here "
            f"{'it is inferred' if kinds else 'no whole target is clamped'}; leave them out, or "
            "give scores."
        )
    labels = " with labels of classes" if "classes" in kinds else ""
    check_suited(given, kinds, f"fx.{type(energy).__name__}(){labels}")
    return tuple(given)


def _relaxed(problem: Problem) -> dict[str, Array]:
    relaxed = infer(problem, _SOLVER)
    here = problem.explained_at(relaxed.activities)
    errors = problem.errors_of(relaxed.activities)
    rows = evaluated_energies(problem, Evaluation.of_energies(problem, errors, here))
    return {"loss": problem.loss(here), "energy": rows.sum(axis=0)}


# The weights of examples among their arrays; `None` where all count the same.
Weights = Callable[[Mapping[str, Any]], Any]


def unweighted(arrays: Mapping[str, Any]) -> None:
    """All examples count the same."""
    return None


def batches_of(arrays: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A part of a data set, as many examples at a time as are scored at once."""
    for begin in range(0, len(next(iter(arrays.values()))), AT_ONCE):
        yield {name: array[begin : begin + AT_ONCE] for name, array in arrays.items()}


def scoring_batches(
    network: Network, batches: Iterable[Mapping[str, Any]], scores: Scores, weights: Weights
) -> Asking[dict[str, float]]:
    """The scores from means over the examples of all batches by their weights, by calls.

    Nothing if none counts. A score is one number per example, or one for the batch that it is
    given. Raises `TypeError` for scores that are no dictionary, and `ValueError` for one of another
    shape.
    """
    totals: dict[str, np.ndarray] = {}
    size = 0.0
    for arrays in batches:
        batch = {name: jnp.asarray(array) for name, array in arrays.items()}
        count = len(next(iter(arrays.values())))
        given = weights(arrays)
        shares = None if given is None else np.asarray(given, np.float64)
        weight = count if shares is None else float(shares.sum())
        size += weight
        found = (yield Call("scores", _scored, (network,), (batch, scores))).value()
        if not isinstance(scores, UsualScores):
            _check_scores(found, count)
        for name, value in found.items():
            rows = np.asarray(value, np.float64)
            if shares is not None and rows.ndim:
                total = np.tensordot(shares, rows, 1)
            else:
                total = (rows.mean(axis=0) if rows.ndim else rows) * weight
            totals[name] = totals.get(name, np.zeros(())) + total
    if not size:
        return {}
    means = {name: np.asarray(total / size) for name, total in totals.items()}
    if isinstance(scores, UsualScores):
        return scores.values(means) if means else {}
    return {name: float(mean) for name, mean in means.items()}


def _check_scores(found: Any, count: int) -> None:
    """What own scores return."""
    if not isinstance(found, Mapping):
        raise TypeError(
            f"scores must return a dictionary such as {{'loss': loss}}, not {type(found).__name__}."
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
    return answered(scoring(network, part))


def scoring(network: Network, part: Part) -> Asking[tuple[float, float]]:
    """`score`, by calls."""
    loss, hits, size = 0.0, 0.0, len(part.labels)
    for begin in range(0, size, AT_ONCE):
        # The last batch is padded, so that parts of any size share one compiled program.
        taken = np.minimum(np.arange(begin, begin + AT_ONCE), size - 1)
        count = jnp.asarray(min(AT_ONCE, size - begin))
        examples = jnp.asarray(part.inputs[taken]), jnp.asarray(part.labels[taken])
        answer = yield Call("losses", _counted, (network,), (*examples, count))
        some_loss, some_hits = answer.value()
        loss, hits = loss + float(some_loss), hits + float(some_hits)
    return loss / size, hits / size
