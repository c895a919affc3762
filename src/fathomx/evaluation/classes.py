"""Classes that were predicted beside those that were there."""

from __future__ import annotations

from typing import NamedTuple

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


def class_scores(confusion: NDArray[np.int64], names: tuple[str, ...]) -> list[ClassScores]:
    """The scores of every class, in order, from the confusion matrix."""
    hits = np.diagonal(confusion).tolist()
    there, said = confusion.sum(axis=1).tolist(), confusion.sum(axis=0).tolist()
    return [
        ClassScores(name, of, by, both, wilson(both, of), wilson(both, by))
        for name, of, by, both in zip(names, there, said, hits, strict=True)
    ]
