"""Classes that were predicted beside those that were there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fathomx.evaluation.intervals import Estimate, wilson


class ClassScores(NamedTuple):
    """How a class fared: `recall`, of its examples; `precision`, of the predictions that name it.

    `examples` are of the class, `predicted` were said to be, `hits` are both. A class without
    examples has no recall, one that is never named no precision: not a number.
    """

    name: str
    examples: int
    predicted: int
    hits: int
    recall: Estimate
    precision: Estimate


def confusion_matrix(
    target: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """How often each class (rows) was predicted to be each (columns), `(classes, classes)`."""
    pairs = np.asarray(target, np.int64).ravel() * classes + np.asarray(predicted).ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_scores(confusion: NDArray[np.int64], names: Sequence[str]) -> tuple[ClassScores, ...]:
    """The scores of every class, in order, from the confusion matrix."""
    return _fared(names, np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0))


def label_scores(
    target: NDArray[np.bool_], predicted: NDArray[np.bool_], names: Sequence[str]
) -> tuple[ClassScores, ...]:
    """The scores of labels of which several may hold, `(n, labels)`; numbered without names."""
    named = names or tuple(map(str, range(target.shape[1])))
    return _fared(
        named, (target & predicted).sum(axis=0), target.sum(axis=0), predicted.sum(axis=0)
    )


def _fared(
    names: Sequence[str], hits: NDArray[Any], there: NDArray[Any], said: NDArray[Any]
) -> tuple[ClassScores, ...]:
    counts = zip(names, there.tolist(), said.tolist(), hits.tolist(), strict=True)
    return tuple(
        ClassScores(name, of, by, both, wilson(both, of), wilson(both, by))
        for name, of, by, both in counts
    )
