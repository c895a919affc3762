"""Data standardized by its training part, and new data by the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import gate
from fathomx.data import _forms as forms
from fathomx.data._dataset import Dataset
from fathomx.data._scale import ColumnScale

# Counts, labels and weights are no measurements.
_KEPT = ("target", "weights")


@gate
class Standardization:
    """What makes the training part of a data set have mean 0 and standard deviation 1.

        (value - mean) / std,    value of a column that is everywhere the same becomes 0

    Every unit of an array has a mean and a deviation of its own, taken from the training part
    alone, so that nothing of validation and test is known in training. Arrays of integers and
    truth values stay as they are.

    **Attributes**: `mean` and `std`, arrays of the shape of one example, by name: `input` of pairs.

    **Arguments**: `data`, whose training part is measured.

    ```python
    scale = fx.data.Standardization(data)
    result = fx.fit(network, scale(data))
    found = fx.predict(result.network, scale.of("input", x_new))
    found = scale.undone("output", found)               # in the units of the targets
    ```
    """

    def __init__(self, data: Dataset) -> None:
        self.mean: dict[str, NDArray[Any]] = {}
        self.std: dict[str, NDArray[Any]] = {}
        for name, array in data.arrays("train").items():
            if array.dtype.kind == "f" and name not in _KEPT:
                scale = ColumnScale(array)
                self.mean[name], self.std[name] = scale.mean, scale.std

    def __call__(self, data: Dataset) -> Dataset:
        """All parts of a data set, each array by the moments of its name."""
        parts: dict[str, Any] = {}
        for title in data.titles:
            arrays = {k: self._scaled(k, array) for k, array in data.arrays(title).items()}
            parts[title] = arrays if data.named else tuple(arrays.values())
        if data.named:
            return Dataset(data.name, **parts)
        return Dataset(
            data.name,
            **parts,
            classes=data.classes,
            image_shape=data.image_shape,
            augmentation=data.augmentation,
        )

    def of(self, name: str, values: Any) -> NDArray[np.float32]:
        """New values of an array, one row for each example, as those of the data set became."""
        return self._scaled(self._known(name), self._rows(name, values))

    def undone(self, name: str, values: Any) -> NDArray[np.float32]:
        """Standardized values, such as predictions, in the units that they had before."""
        rows = self._rows(self._known(name), values)
        return np.asarray(rows * self.std[name] + self.mean[name], np.float32)

    def _scaled(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        if name not in self.mean:
            return array
        return np.ascontiguousarray((array - self.mean[name]) / self.std[name], np.float32)

    def _known(self, name: str) -> str:
        return checks.choice("name", name, tuple(self.mean))

    def _rows(self, name: str, values: Any) -> NDArray[Any]:
        found: NDArray[Any] = forms.values(name, values)
        if found.shape[1:] != self.mean[name].shape:
            raise ValueError(
                f"{name} has the shape {found.shape}, but an example of the data set had "
                f"{self.mean[name].shape}; give one row for each example."
            )
        return found


def standardized(data: Dataset) -> Dataset:
    """The data set with the moments of its training part taken off: `Standardization(data)(data)`.

    ```python
    data = fx.data.standardized(fx.data.split((x, y), classes=3))
    ```
    """
    return Standardization(checks.instance("data", data, Dataset, "fx.data.split((x, y))"))(data)
