"""How far probabilities of classes can be taken at their word."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx.checks import open_gate
from fathomx.evaluation.intervals import wilson

_BINS = 15


@open_gate
@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """How often predictions are right that claim to be right so often, in bins of the claim.

        error = sum_b (n_b / n) |accuracy_b - confidence_b|

    the expected calibration error. The confidence of a prediction is the probability of the class
    that it names; bins are of equal width, `(b - 1) / 15 < confidence <= b / 15`, and those without
    predictions add nothing.

    **Fields**, each an array over the 15 bins: `counts`, of predictions; `confidence` and
    `accuracy`, their means there, not a number in an empty bin. `error`, one number.

    Source: Guo, Pleiss, Sun and Weinberger (2017), arXiv 1706.04599, equation 5 and 15 bins.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    error: float

    def __repr__(self) -> str:
        return f"Calibration(error={self.error:.4g}, {int(self.counts.sum())} predictions)"

    def record(self) -> dict[str, Any]:
        """The numbers as files hold them, with the intervals of the accuracies."""
        hits = np.rint(np.nan_to_num(self.accuracy) * self.counts)
        ends = [wilson(int(h), int(n)) for h, n in zip(hits, self.counts, strict=True)]
        return {
            "error": self.error,
            "counts": self.counts,
            "confidence": self.confidence,
            "accuracy": self.accuracy,
            "low": [each.low for each in ends],
            "high": [each.high for each in ends],
        }


def calibration(confidence: NDArray[np.floating], hits: NDArray[np.bool_]) -> Calibration:
    """That of predictions, of which there are the confidences in 0..1 and whether they are right.

    **Arguments**: `confidence` and `hits`, `(n,)` each, at least one.
    """
    claimed, right = np.asarray(confidence, np.float64), np.asarray(hits, np.float64)
    places = np.clip(np.ceil(claimed * _BINS).astype(int) - 1, 0, _BINS - 1)
    counts = np.bincount(places, minlength=_BINS)
    nothing = np.full(_BINS, np.nan)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(places, values, minlength=_BINS)
        found: NDArray[np.float64] = np.divide(sums, counts, out=nothing.copy(), where=counts > 0)
        return found

    there, met = mean(claimed), mean(right)
    error = float(np.nansum(counts * np.abs(met - there)) / len(claimed))
    return Calibration(counts, there, met, error)
