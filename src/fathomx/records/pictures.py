"""Pictures in a run folder: arrays of 8 bits in JSON, by panel and row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fathomx.records.forms import Misfit, listed, named, position, text
from fathomx.records.reading import read_json
from fathomx.records.writing import write_json

FILE = "pictures.json"


class PictureRow(NamedTuple):
    """Pictures in 0..1, `(count, height, width[, channels])`, a title and a label for each."""

    title: str
    pictures: np.ndarray
    labels: tuple[str, ...] = ()


class Panel(NamedTuple):
    """Rows of pictures that belong together, with a name for files and a caption."""

    name: str
    caption: str
    rows: Sequence[PictureRow]


def _byte(value: Any) -> None:
    position(value)
    if value > 255:
        raise Misfit("an integer of at most 255", value)


_ROW = named({"title": text, "labels": listed(text), "pictures": listed(listed(_byte))})
_PANEL = named({"name": text, "caption": text, "rows": listed(_ROW)})
_FORM = named({"shape": listed(position), "panels": listed(_PANEL)})


def write_pictures(folder: Path, panels: Sequence[Panel]) -> Path:
    """Writes panels whose pictures all have one shape into a folder; returns the path."""
    shape = panels[0].rows[0].pictures.shape[1:]
    found = [
        {
            "name": panel.name,
            "caption": panel.caption,
            "rows": [
                {
                    "title": row.title,
                    "labels": list(row.labels),
                    "pictures": as_bytes(row.pictures),
                }
                for row in panel.rows
            ],
        }
        for panel in panels
    ]
    path = folder / FILE
    write_json(path, {"shape": list(shape), "panels": found})
    return path


def read_pictures(path: Path, remedy: str) -> list[Panel]:
    """The panels of a file; `DamagedFileError` if it does not hold what it must."""
    found: Mapping[str, Any] = read_json(path, _whole, remedy)
    shape = tuple(found["shape"])
    return [
        Panel(
            panel["name"],
            panel["caption"],
            [
                PictureRow(
                    row["title"],
                    from_bytes(row["pictures"], shape),
                    tuple(row["labels"]),
                )
                for row in panel["rows"]
            ],
        )
        for panel in found["panels"]
    ]


def _whole(value: Any) -> None:
    """The form of the file, all of whose pictures have the shape that it says."""
    _FORM(value)
    size = math.prod(value["shape"])
    for panel in value["panels"]:
        for row in panel["rows"]:
            for picture in row["pictures"]:
                if len(picture) != size:
                    raise Misfit(f"pictures of {size} values", picture)


def as_bytes(pictures: np.ndarray) -> list[list[int]]:
    """Pictures in 0..1, each as a list of 8 bits, which JSON can hold; 0 for what is no number."""
    values = np.nan_to_num(np.asarray(pictures, float)).reshape(len(pictures), -1)
    found: list[list[int]] = np.rint(255 * np.clip(values, 0, 1)).astype(int).tolist()
    return found


def from_bytes(rows: Sequence[Sequence[int]], shape: Sequence[int]) -> np.ndarray:
    """The pictures of `as_bytes`, of this shape."""
    return np.asarray(rows, float).reshape(-1, *shape) / 255
