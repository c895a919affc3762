"""Arrays of a data set as pictures, and parts of pictures that are seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Canvas:
    """How arrays of a data set are shown: the shape of a picture, and its darkest and brightest.

    Color images are shown channel by channel, each over its own range.
    """

    shape: tuple[int, ...]
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, inputs: Any, shape: Sequence[int]) -> Canvas:
        """That of a data set's training images, of this shape."""
        train = np.asarray(inputs).reshape(-1, shape[-1] if len(shape) == 3 else 1)
        return cls(tuple(shape), train.min(axis=0), train.max(axis=0))

    def __call__(self, values: Any) -> np.ndarray:
        """Pictures in 0..1."""
        pictures = np.asarray(values).reshape(-1, *self.shape)
        span = np.where(self.high > self.low, self.high - self.low, 1)
        wide = (self.shape[-1],) if len(self.shape) == 3 else ()
        return np.clip((pictures - self.low.reshape(wide)) / span.reshape(wide), 0, 1)


def seen_part(mask: str, fraction: float, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """What of a picture is given: its upper or left part, or pixels at random."""
    height, width = shape[:2]
    known = np.zeros(shape[:2], bool)
    if mask == "upper":
        known[: round(fraction * height)] = True
    elif mask == "left":
        known[:, : round(fraction * width)] = True
    else:
        order = np.random.default_rng(seed).permutation(height * width)
        known.reshape(-1)[order[: round(fraction * height * width)]] = True
    if not known.any() or known.all():
        raise ValueError(
            f"fraction {fraction:g} leaves nothing to {'see' if not known.any() else 'complete'} "
            f"of pictures of {height} x {width} pixels; give another."
        )
    return np.broadcast_to(known.reshape(*shape[:2], *[1] * (len(shape) - 2)), shape)
