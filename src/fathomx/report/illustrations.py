"""Figures with their captions, drawn into `figures/` beside a page and shown in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from fathomx.drawing.style import MissingMatplotlibError
from fathomx.report.document import escaped


class Illustration(NamedTuple):
    """A figure's file name, the function that draws it into a path, and its caption."""

    name: str
    draw: Callable[[Path], Path]
    caption: str


def illustrated(folder: Path, figures: Iterable[Illustration]) -> list[str]:
    """Writes the figures into `figures/` and returns them as HTML; without matplotlib, says so."""
    lines = []
    for name, draw, caption in figures:
        try:
            draw(folder / "figures" / name)
        except MissingMatplotlibError as error:
            return [f"<p>{escaped(error)}</p>"]
        lines.append(
            f'<figure><img src="figures/{name}" alt="{escaped(caption)}">'
            f"<figcaption>{escaped(caption)}</figcaption></figure>"
        )
    return lines
