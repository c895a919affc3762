"""`Task`: a data set, how its batches become problems, and what they are scored by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
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
from fathomx.problem.checks import check_integers, check_targets, check_weights
from fathomx.problem.problem import Problem
from fathomx.training.scores import AT_ONCE, Scores, UsualScores, evaluate_part, score


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned and how it is judged.

    **Fields**: `data`; `pose`, unless given by the names of the arrays, a pair as input and target;
    `scores`, unless given loss and accuracy, of named arrays `UsualScores`.
    """

    data: Dataset | Stream
    own_pose: Pose | None = None
    scores: Scores | None = None

    @property
    def pose(self) -> Pose:
        """How a batch becomes a problem."""
        if self.own_pose is not None:
            return self.own_pose
        return by_name if self.data.named else _pair

    def check(self, network: Network) -> None:
        """Raises where data and network do not fit, `ValueError`, or a pose makes no problem."""
        if self.pose is not _pair:
            if self.own_pose is None and isinstance(self.data, Dataset):
                _check_parts(self.data, network)
            first = {name: jnp.asarray(a[:2]) for name, a in self._first(2).items()}
            posed = self.pose(network, first)
            if not isinstance(posed, Problem):
                raise TypeError(f"pose must return an fx.Problem, not {type(posed).__name__}.")
            return
        data = self.data
        if isinstance(data, Stream):
            self.pose(network, {k: jnp.asarray(a[:2]) for k, a in self._first(2).items()})
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

    def _first(self, count: int) -> dict[str, np.ndarray]:
        if isinstance(self.data, Stream):
            return self.data.first(count)
        return self.data.arrays("train")

    def score(self, network: Network, title: str) -> dict[str, float | None]:
        """The scores of a part; `loss` and `accuracy` are among them, `None` if there are none."""
        if title not in self.data.titles:
            return {"loss": None, "accuracy": None}
        if isinstance(self.data, Stream):
            return self._score_stream(network, self.data, title)
        arrays = self.data.arrays(title)
        if self.scores is None and self.pose is _pair and WEIGHTS not in arrays:
            loss, accuracy = score(network, getattr(self.data, title))
            return {"loss": loss, "accuracy": accuracy}
        scores = UsualScores(self.pose) if self.scores is None else self.scores
        weighed = self._weighed(network, arrays, scores)
        if weighed is None:
            return {"loss": None, "accuracy": None}
        found = evaluate_part(network, arrays, weighed)
        return {"loss": None, "accuracy": None, **found}

    def _weighed(
        self, network: Network, arrays: Mapping[str, np.ndarray], scores: Scores
    ) -> Scores | None:
        """The scores of examples with weights, unless an own pose says what the arrays mean.

        None, where no example counts.
        """
        if self.own_pose is not None or not has_weights(network, arrays):
            return scores
        mean = float(arrays[WEIGHTS].mean())
        return _Weighed(scores, mean) if mean > 0 else None

    def _score_stream(self, network: Network, data: Stream, title: str) -> dict[str, float | None]:
        """Means over the examples of all batches of a part."""
        scores = UsualScores(self.pose) if self.scores is None else self.scores
        totals: dict[str, float] = {}
        size = 0.0
        for arrays in data.scored(title, AT_ONCE):
            self.check_values(network, arrays, f"the {title} part of {data.name!r}")
            weighed = self._weighed(network, arrays, scores)
            if weighed is None:
                continue
            count = len(next(iter(arrays.values()))) * getattr(weighed, "mean", 1.0)
            size += count
            for name, value in evaluate_part(network, arrays, weighed).items():
                totals[name] = totals.get(name, 0.0) + value * count
        if not size:
            raise ValueError(f"the {title} part of {data.name!r} gave no batches; give some.")
        return {"loss": None, "accuracy": None} | {n: v / size for n, v in totals.items()}


class _Weighed(eqx.Module):
    """Scores whose mean is that of examples by their weights."""

    scores: Scores
    mean: float

    def __call__(self, network: Network, batch: Any) -> Mapping[str, Array]:
        found = self.scores(network, batch)
        if not isinstance(found, Mapping):
            return found
        return {name: value * (batch[WEIGHTS] / self.mean) for name, value in found.items()}


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
