"""Predictions in a run folder: what a network said of examples, beside what was true."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fathomx.records.forms import listed, named, table, text
from fathomx.records.reading import read_json
from fathomx.records.writing import write_json

FILE = "predictions.json"
_FORM = named({"part": text, "names": listed(text), "target": table, "prediction": table})


class Predictions(NamedTuple):
    """Targets and predictions, `(examples, targets)`, in the targets' own units.

    **Fields**: `part` of the data set, `names` of the targets, `target`, `prediction`.
    """

    part: str
    names: tuple[str, ...]
    target: np.ndarray
    prediction: np.ndarray


def write_predictions(folder: Path, found: Predictions) -> Path:
    """Writes predictions into a folder; returns the path."""
    write_json(folder / FILE, found._asdict())
    return folder / FILE


def read_predictions(path: Path, remedy: str) -> Predictions:
    """The predictions of a file; `DamagedFileError` if it does not hold what it must."""
    found = read_json(path, _FORM, remedy)
    ends = (np.asarray(found[name], float) for name in ("target", "prediction"))
    return Predictions(found["part"], tuple(found["names"]), *ends)
