"""Standardization by the training part: of pixels, and of the columns of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class PixelScale:
    """Standardizes pixels by the moments of those it is made from.

        (pixel - mean) / std

    The last axis is made of `channels` interleaved channels, each with its own moments. Scaling the
    pixels to 0..1 first would cancel out, so the moments stay in pixel units, where they come
    exactly from sums of integers. `brightest` is the largest value that a pixel can have.
    """

    def __init__(self, pixels: NDArray[np.uint8], channels: int = 1, brightest: int = 255) -> None:
        self.brightest = brightest
        # Summed by position first: numpy is slow along an axis as short as the channels.
        rows = pixels.reshape(len(pixels), -1)
        totals = rows.sum(axis=0, dtype=np.uint64)
        squares = np.square(rows, dtype=np.uint16).sum(axis=0, dtype=np.uint64)
        count = pixels.size // channels
        self.mean, self.std = np.empty(channels), np.empty(channels)
        for channel in range(channels):
            # As Python's integers, since the products exceed 64 bits.
            total = int(totals[channel::channels].sum())
            square = int(squares[channel::channels].sum())
            self.mean[channel] = total / count
            spread = np.sqrt((count * square - total**2) / count**2)
            # A channel that is everywhere the same becomes zeros.
            self.std[channel] = spread or 1.0

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float], brightest: int = 255) -> PixelScale:
        """That of known moments, one for each channel."""
        scale = cls.__new__(cls)
        scale.brightest, scale.mean, scale.std = brightest, np.array(mean), np.array(std)
        return scale

    def __call__(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        # In place: the larger sets take 553 MB in float32, and no second array is needed.
        values = pixels.astype(np.float32, order="C")
        rows = values.reshape(len(values), -1)
        repeats = rows.shape[1] // len(self.mean)
        rows -= np.tile(self.mean.astype(np.float32), repeats)
        rows /= np.tile(self.std.astype(np.float32), repeats)
        return values

    def raw(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The pixels of standardized ones."""
        rows = np.asarray(values, np.float64).reshape(len(values), -1, len(self.mean))
        return (rows * self.std + self.mean).reshape(np.shape(values))


class ColumnScale:
    """Standardizes every column by its own mean and standard deviation in the rows it is made from.

        (value - mean) / std

    A column that is everywhere the same becomes zeros.
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        self.mean = rows.mean(axis=0, dtype=np.float64)
        std = rows.std(axis=0, dtype=np.float64)
        self.std = np.where(std == 0, 1.0, std)

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        return np.ascontiguousarray((rows - self.mean) / self.std, np.float32)

    def raw(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The values of standardized ones."""
        return np.asarray(values, np.float64) * self.std + self.mean
