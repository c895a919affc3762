"""Pictures in rows, as models make and complete them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fathomx.drawing.style import FAINT, new_figure, save
from fathomx.records.pictures import PictureRow
from fathomx.records.values import PathLike

_TITLE = 1.05
_WIDTH = 7.5
_LARGEST = 0.9


def draw_gallery(rows: Sequence[PictureRow], path: PathLike) -> Path:
    """Draws rows of pictures, one below the other, into a PNG; returns its path."""
    columns = max(len(row.pictures) for row in rows)
    side = min(_LARGEST, (_WIDTH - _TITLE) / columns)
    labeled = any(row.labels for row in rows)
    shape = rows[0].pictures.shape[1:3]
    tall = side * shape[0] / shape[1]
    height = sum(tall + 0.05 + 0.18 * bool(row.labels) for row in rows) + 0.1
    figure, (axes,) = new_figure(height)
    axes.set_axis_off()
    axes.set_position((0, 0, 1, 1))
    figure.set_layout_engine(None)
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(height, 0)
    top = 0.05
    for row in rows:
        top += 0.18 * bool(row.labels)
        for place, picture in enumerate(row.pictures):
            left = _TITLE + place * side
            _show(axes, picture, (left, left + side - 0.04, top + tall, top))
            if labeled and place < len(row.labels):
                axes.text(
                    left + (side - 0.04) / 2, top - 0.03, row.labels[place],
                    ha="center", va="bottom", fontsize=7, color="#444444",
                )  # fmt: skip
        axes.text(_TITLE - 0.08, top + tall / 2, row.title, ha="right", va="center", fontsize=8)
        top += tall + 0.05
    return save(figure, path)


def _show(axes: Any, picture: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture = picture[..., 0]
    axes.imshow(
        np.clip(picture, 0, 1),
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=extent,
        interpolation="nearest",
        aspect="auto",
        zorder=2,
    )
    left, right, bottom, top = extent
    axes.plot(
        [left, right, right, left, left], [top, top, bottom, bottom, top],
        color=FAINT, linewidth=0.3, zorder=3,
    )  # fmt: skip
