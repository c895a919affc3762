"""`Task`: a data set, how its batches become problems, and what they are scored by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx.data import Dataset, Stream
from fathomx.graph.network import Network
from fathomx.learning import Pose
from fathomx.learning.learner import WEIGHTS, has_weights
from fathomx.learning.learner import pose as by_name
from fathomx.metrics import Metric
from fathomx.problem.checks import check_integers, check_targets, check_weights
from fathomx.problem.problem import Problem
from fathomx.training.programs import Asking, answered
from fathomx.training.scores import (
    AT_ONCE,
    Scores,
    UsualScores,
    Weights,
    batches_of,
    metrics_in_force,
    scoring,
    scoring_batches,
    target_kinds,
)


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned and how it is judged.

    **Fields**: `data`; `pose`, unless given by the names of the arrays, a pair as input and target;
    `scores`, unless given `UsualScores` by `metrics`, and these by what suits the output.
    """

    data: Dataset | Stream
    own_pose: Pose | None = None
    scores: Scores | None = None
    metrics: tuple[Metric, ...] | None = None

    @property
    def pose(self) -> Pose:
        """How a batch becomes a problem."""
        if self.own_pose is not None:
            return self.own_pose
        return by_name if self.data.named else _pair

    def check(self, network: Network) -> None:
        """Raises where data and network do not fit, `ValueError`, or a pose makes no problem.

        Likewise for metrics that do not suit the output.
        """
        self._check_data(network)
        if self.metrics is not None:
            if self.scores is not None:
                raise ValueError(
                    "scores and metrics are given, and both say what is judged; give one of them."
                )
            eqx.filter_eval_shape(self.judge(network), network, self._first())

    def _check_data(self, network: Network) -> None:
        if self.pose is not _pair:
            if self.own_pose is None and isinstance(self.data, Dataset):
                _check_parts(self.data, network)
            posed = self.pose(network, self._first())
            if not isinstance(posed, Problem):
                raise TypeError(f"pose must return an fx.Problem, not {type(posed).__name__}.")
            return
        data = self.data
        if isinstance(data, Stream):
            self.pose(network, self._first())
            return
        if data.train.inputs.shape[1:] != network.input_shape:
            raise ValueError(
                f"the examples of {data.name!r} have shape {data.train.inputs.shape[1:]}, but the "
                f"network's input takes {network.input_shape}; build the network for this data set."
            )
        predicted = (*data.train.labels.shape[1:], data.classes)
        if network.output_shape != predicted:
            raise ValueError(
                f"{data.name!r} has {data.classes} classes, but node {network.output.name!r} "
                f"predicts {network.output_shape}; build the network so that it predicts "
                f"{predicted}."
            )

    def training_arrays(self, network: Network) -> dict[str, Array]:
        """What is trained on, by name; a pair's inputs in the type that the network takes."""
        assert isinstance(self.data, Dataset)
        return self.on_device(network, self.data.arrays("train"))

    def on_device(self, network: Network, arrays: Mapping[str, np.ndarray]) -> dict[str, Array]:
        """Examples by name; a pair's inputs in the type that the network takes."""
        found = {name: jnp.asarray(a) for name, a in arrays.items()}
        if isinstance(self.data, Stream):
            found = self.data.standardized(found)
        if self.pose is _pair:
            found["input"] = found["input"].astype(network.input_dtype)
        return found

    def check_values(self, network: Network, arrays: Mapping[str, np.ndarray], where: str) -> None:
        """Raises `ValueError` for values of a stream that the usual poses cannot clamp."""
        if self.own_pose is not None:
            return
        ends = {"input": network.roots[0].name, "target": network.output.name}
        named = {ends.get(k, k) if self.pose is _pair else k: a for k, a in arrays.items()}
        for name, array in named.items():
            # A NaN or an infinity reaches the minimum or the maximum, with no array of flags.
            if not (np.isfinite(array.min()) and np.isfinite(array.max())):
                raise ValueError(
                    f"{name!r} holds values that are NaN or infinite in {where}; leave these "
                    "examples out, or mark them as missing by a pose that clamps "
                    "fx.Clamp.observed(batch[name])."
                )
        try:
            if has_weights(network, named):
                check_weights(named[WEIGHTS])
            check_integers(network, named)
            check_targets(network, named)
        except ValueError as error:
            raise ValueError(f"in {where}, {error}") from None

    def by_classes(self, network: Network) -> bool:
        """Whether the output's targets are classes, of which one holds."""
        first = self._first()
        return "classes" in target_kinds(self.pose(network, first), first)

    def judge(self, network: Network) -> Scores:
        """What parts are scored by: own scores, or the loss and the metrics in force."""
        if self.scores is not None:
            return self.scores
        first = self._first()
        problem = self.pose(network, first)
        metrics = metrics_in_force(problem, first, self.metrics)
        prepared = self.data.preparation if isinstance(self.data, Dataset) else None
        if prepared is None or "values" not in target_kinds(problem, first):
            return UsualScores(self.pose, metrics)
        scale = prepared.scales.get(network.output.name)
        return UsualScores(self.pose, metrics, None if scale is None else (scale.mean, scale.std))

    def score(self, network: Network, title: str) -> dict[str, float | None]:
        """The scores of a part; `loss` is among them, `None` if there is none.

        Of a part that is missing, no score is known.
        """
        return answered(self.scoring(network, title))

    def scoring(self, network: Network, title: str) -> Asking[dict[str, float | None]]:
        """`score`, by calls."""
        if title not in self.data.titles:
            judge = self.judge(network)
            keys = [m.key for m in judge.metrics] if isinstance(judge, UsualScores) else []
            return dict.fromkeys(("loss", *keys))
        if isinstance(self.data, Stream):
            return (yield from self._scoring_stream(network, self.data, title))
        arrays = self.data.arrays(title)
        usual = self.scores is None and self.metrics is None
        if usual and self.pose is _pair and WEIGHTS not in arrays:
            loss, accuracy = yield from scoring(network, getattr(self.data, title))
            return {"loss": loss, "accuracy": accuracy}
        judged = self.judge(network), self._weights(network)
        found = yield from scoring_batches(network, batches_of(arrays), *judged)
        return {"loss": None, **found}

    def _first(self) -> dict[str, Array]:
        """Two training examples."""
        data = self.data
        arrays = data.first(2) if isinstance(data, Stream) else data.arrays("train")
        first = {name: jnp.asarray(array[:2]) for name, array in arrays.items()}
        return data.standardized(first) if isinstance(data, Stream) else first

    def _weights(self, network: Network) -> Weights:
        """The weights of examples, unless an own pose says what the arrays mean."""

        def weights(arrays: Mapping[str, Any]) -> Any:
            counts = self.own_pose is None and has_weights(network, arrays)
            return arrays[WEIGHTS] if counts else None

        return weights

    def _scoring_stream(
        self, network: Network, data: Stream, title: str
    ) -> Asking[dict[str, float | None]]:
        """From means over the examples of all batches of a part."""

        def checked() -> Iterator[Mapping[str, Any]]:
            for arrays in data.scored(title, AT_ONCE):
                self.check_values(network, arrays, f"the {title} part of {data.name!r}")
                yield data.standardized({name: jnp.asarray(a) for name, a in arrays.items()})

        judged = self.judge(network), self._weights(network)
        found = yield from scoring_batches(network, checked(), *judged)
        if not found:
            raise ValueError(f"the {title} part of {data.name!r} gave no batches; give some.")
        return {"loss": None, **found}


def _pair(network: Network, batch: Any) -> Problem:
    problem = Problem(network, batch["input"], batch["target"])
    return problem.with_weights(batch[WEIGHTS]) if WEIGHTS in batch else problem


def _check_parts(data: Dataset, network: Network) -> None:
    """All parts before anything is trained, since compiled code cannot look at values."""
    for title in data.titles:
        arrays = data.arrays(title)
        try:
            check_integers(network, arrays)
        except ValueError as error:
            raise ValueError(f"in the {title} part of {data.name!r}, {error}") from None
        for name, array in arrays.items():
            bad = int((~np.isfinite(array)).sum())
            if bad:
                raise ValueError(
                    f"{name!r} of {data.name!r} holds {bad} values in its {title} part that are "
                    "NaN or infinite; remove them, or mark them as missing by a pose that clamps "
                    "fx.Clamp.observed(batch[name])."
                )
        try:
            if has_weights(network, arrays):
                check_weights(arrays[WEIGHTS])
            check_targets(network, arrays)
        except ValueError as error:
            raise ValueError(f"in the {title} part of {data.name!r}, {error}") from None
