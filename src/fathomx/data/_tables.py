"""Tables that come with scikit-learn, divided and standardized."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx.data._dataset import Dataset
from fathomx.data._parts import Part
from fathomx.data._preparation import Preparation
from fathomx.data._scale import ColumnScale


def load_classes(name: str, loader: str) -> Dataset:
    """A table whose rows have a class: columns standardized by the training part."""
    table = _table(loader)
    columns, labels = table.data, table.target
    places = divided(len(columns))
    scale = ColumnScale(columns[places[0]])
    train, validation, test = (Part(scale(columns[rows]), labels[rows]) for rows in places)
    names = tuple(map(str, table.target_names))
    preparation = Preparation({"input": scale}, tuple(map(str, table.feature_names)), names)
    return Dataset(
        name, train, validation, test, classes=int(labels.max()) + 1, preparation=preparation
    )


def load_values(name: str, loader: str, **options: Any) -> Dataset:
    """A table whose rows have a real target: `input` and `output`, both standardized."""
    table = _table(loader, **options)
    columns, targets = table.data, table.target
    arrays = {"input": columns, "output": targets[:, None]}
    places = divided(len(columns))
    scales = {key: ColumnScale(array[places[0]]) for key, array in arrays.items()}
    train, validation, test = (
        {key: scales[key](array[rows]) for key, array in arrays.items()} for rows in places
    )
    preparation = Preparation(scales, tuple(map(str, table.feature_names)))
    return Dataset(name, train, validation, test, preparation=preparation)


def _table(loader: str, **options: Any) -> Any:
    # Imported here because scikit-learn is slow to import; by name because it has no type hints.
    return getattr(import_module("sklearn.datasets"), loader)(**options)


def divided(size: int, seed: int = 0) -> list[NDArray[Any]]:
    """Places of the rows for training, validation (a tenth) and test (a fifth)."""
    order = np.random.default_rng(seed).permutation(size)
    return np.split(order, [size - size // 5 - size // 10, size - size // 5])
