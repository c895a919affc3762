"""A data set made of arrays that nobody has divided yet."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathomx.checks import CountOrZero, Seed, gate
from fathomx.data._dataset import Dataset
from fathomx.data._parts import is_named, labeled_pair, named_arrays, weight_array

_TENTH = 10


@gate
def split(part: Any, classes: CountOrZero = 0, *, name: str = "arrays", seed: Seed = 0) -> Dataset:
    """Divides arrays at random: a tenth for validation, a tenth for test, the rest to train on.

    **Arguments**

    * `part`: a pair of inputs and class labels, a third array of weights if there is one, arrays
      by name, or a data frame; at least three examples.
    * `classes`: of a pair, the number of classes.
    * `name`, of the data set; `seed`: the same one divides alike.

    Raises as `Dataset` does, and `ValueError` for fewer than three examples.

    ```python
    mine = fx.data.split((x, y), classes=3)
    mine = fx.data.split({"image": images})
    ```
    """
    named = is_named(part)
    arrays = named_arrays(part) if named else labeled_pair(part, classes)._asdict()
    if not named and len(part) == 3:
        arrays["weights"] = weight_array(part[2], len(arrays["labels"]))
    size = len(next(iter(arrays.values())))
    if size < 3:
        raise ValueError(
            f"there are {size} examples, which cannot be divided in three; give at least 3."
        )
    tenth = max(1, size // _TENTH)
    order = np.random.default_rng(seed).permutation(size)
    cuts = np.split(order, [size - 2 * tenth, size - tenth])
    parts = [{key: array[rows] for key, array in arrays.items()} for rows in cuts]
    train, validation, test = parts if named else [tuple(each.values()) for each in parts]
    return Dataset(name, train, validation, test, classes=classes)
