"""What was done to raw values, and what numbers stand for, so that others are prepared alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fathomx.checks import open_gate
from fathomx.data._scale import ColumnScale, PixelScale

Scale = PixelScale | ColumnScale


@open_gate
@dataclass(frozen=True)
class Preparation:
    """How raw values became those of a data set, and what its numbers stand for.

    `fathomx.data.load` and `fathomx.data.images` put it into the field `preparation` of what they
    make, so that further examples can be prepared as those were that a network has learned from.

    **Fields**

    * `scales`: by the name of an array (`input` of a pair), what standardizes raw values by the
      moments of the training part, `scale(raw)`; `scale.raw(values)` leads back. The first axis is
      that of examples.
    * `columns`: the names of the columns of inputs that are tables.
    * `class_names`: those of the classes, in the order of their numbers.

    ```python
    wine = fx.data.load("wine")
    wine.preparation.scales["input"].raw(wine.test.inputs[:1])    # alcohol 13.2, malic acid ...
    ```
    """

    scales: Mapping[str, Scale] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
