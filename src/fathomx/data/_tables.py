"""Tables that come with scikit-learn, divided and standardized."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx.data._dataset import Dataset
from fathomx.data._parts import Part
from fathomx.data._scale import ColumnScale

_SEED = 0


def load_classes(name: str, loader: str) -> Dataset:
    """A table whose rows have a class: columns standardized by the training part."""
    columns, labels = _table(loader)
    places = _divided(len(columns))
    scale = ColumnScale(columns[places[0]])
    train, validation, test = (Part(scale(columns[rows]), labels[rows]) for rows in places)
    return Dataset(name, train, validation, test, classes=int(labels.max()) + 1)


def load_values(name: str, loader: str, **options: Any) -> Dataset:
    """A table whose rows have a real target: `input` and `output`, both standardized."""
    columns, targets = _table(loader, **options)
    arrays = {"input": columns, "output": targets[:, None]}
    places = _divided(len(columns))
    return standardized(name, arrays, places, ("input", "output"))


def standardized(
    name: str, arrays: dict[str, NDArray[Any]], places: list[NDArray[Any]], ends: tuple[str, ...]
) -> Dataset:
    """Named arrays divided by the places of their rows.

    Those of `ends` are standardized by the training part, and the data set keeps their scales.
    """
    scales = {key: ColumnScale(arrays[key][places[0]]) for key in ends}
    train, validation, test = (
        {
            key: scales[key](array[rows]) if key in ends else array[rows]
            for key, array in arrays.items()
        }
        for rows in places
    )
    kept = {key: (scale.mean, scale.std) for key, scale in scales.items()}
    return Dataset(name, train, validation, test, scales=kept)


def _table(loader: str, **options: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    # Imported here because scikit-learn is slow to import; by name because it has no type hints.
    columns, targets = getattr(import_module("sklearn.datasets"), loader)(
        return_X_y=True, **options
    )
    return columns, targets


def _divided(size: int) -> list[NDArray[Any]]:
    """Places of the rows for training, validation (a tenth) and test (a fifth)."""
    order = np.random.default_rng(_SEED).permutation(size)
    return np.split(order, [size - size // 5 - size // 10, size - size // 5])
