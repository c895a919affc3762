"""One part of a data set: what it may hold, and the form in which it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import open_gate
from fathomx.data import _forms as forms

_BY_NAME = (
    "targets that are no class numbers are given as arrays by the names of the network's entries, "
    "such as {'input': inputs, 'output': targets}"
)


@open_gate
class Part(NamedTuple):
    """One part of a data set: inputs and their labels, in the same order.

    It is a plain pair; what it holds is checked by the `Dataset` that is made of it.

    **Fields**

    * `inputs`: float32 `(n, ...)`, C-contiguous once inside a `Dataset`; int32 tokens inside a
      `Text`.
    * `labels`: int32 `(n,)`, each from 0 to `classes - 1`; `(n, context)` inside a `Text`.

    ```python
    x, y = fx.data.load("digits").validation
    len(x) == len(y)    # True
    ```
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int32]


@contextmanager
def in_part(title: str, data: str) -> Iterator[None]:
    """What is wrong with a part is said with the part and the data set that it is in."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"in the {title} part of data set {data!r}, {error}") from None


def is_named(part: Any) -> bool:
    """Whether a part is arrays by name rather than a pair; `TypeError` if it is neither."""
    if isinstance(part, Mapping) or forms.is_table(part):
        return True
    if isinstance(part, tuple | list) and len(part) in (2, 3):
        return False
    raise TypeError(
        "the arrays must be a pair such as Part(inputs, labels), or arrays by name such as "
        f"{{'image': x}}, not {checks.shown(part)}."
    )


def named_arrays(part: Any) -> dict[str, NDArray[Any]]:
    """The arrays of a named part: numbers as float32 or int32, truth values as they are."""
    part = forms.columns(part) if forms.is_table(part) else part
    given = checks.mapping("the arrays", part, "{'image': x}")
    found = {name: named_array(name, values) for name, values in given.items()}
    sizes = {name: len(array) for name, array in found.items()}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        raise ValueError(
            f"there are unlike or no numbers of examples, {sizes}; give every array one row for "
            "each example."
        )
    return found


def labeled_pair(part: tuple[Any, Any], classes: int) -> Part:
    """Inputs of real numbers and one class number for each."""
    inputs, labels = forms.values("inputs", part[0]), forms.values("labels", part[1])
    if inputs.ndim < 2:
        raise ValueError(
            f"inputs have the shape {inputs.shape}, but must be (n, ...) with at least two axes; "
            "give inputs.reshape(n, -1) for n examples."
        )
    _check_class_numbers(labels)
    _check_lengths(inputs, labels)
    return Part(_finite(inputs), _in_range(labels, classes))


def token_pair(part: tuple[Any, Any], classes: int) -> Part:
    """Windows of tokens and a label for each of them."""
    inputs, labels = checks.values("inputs", part[0]), checks.values("labels", part[1])
    if inputs.ndim != 2 or labels.shape != inputs.shape:
        raise ValueError(
            f"inputs have the shape {inputs.shape} and labels {labels.shape}, but both must be "
            "(n, context); give one label for each token."
        )
    _check_lengths(inputs, labels)
    for name, array in (("inputs", inputs), ("labels", labels)):
        if array.dtype.kind not in "iu":
            raise TypeError(f"{name} must be integers, not {array.dtype}; give tokens.")
    return Part(int32("inputs", inputs), _in_range(labels, classes))


def weight_array(weights: Any, size: int) -> NDArray[np.float32]:
    """How much each example counts: one number for each, at least 0."""
    found = forms.values("weights", weights)
    if found.shape != (size,):
        raise ValueError(
            f"weights have the shape {found.shape}, but there are {size} examples; give one number "
            "for each."
        )
    values = float32(found)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() > 0):
        raise ValueError(
            f"weights run from {found.min():.3g} to {found.max():.3g}, but must be finite, at "
            "least 0, and not all 0; give 0 to leave an example out."
        )
    return values


def int32(name: str, values: NDArray[Any]) -> NDArray[np.int32]:
    """Integers as int32; `ValueError` where they would wrap around."""
    limits = np.iinfo(np.int32)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        raise ValueError(
            f"{name} holds integers from {values.min()} to {values.max()}, which int32 cannot "
            "hold; renumber them, or give floating-point numbers."
        )
    return np.ascontiguousarray(values, np.int32)


def float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Real numbers as float32, infinite where they are too large for it."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32)


def named_array(name: str, values: Any) -> NDArray[Any]:
    array = forms.values(name, values)
    if array.ndim == 0:
        raise ValueError(f"{name} is one number; give an array with a row for each example.")
    if array.dtype.kind == "b":
        return np.ascontiguousarray(array)
    if array.dtype.kind in "iu":
        return int32(name, array)
    found = float32(array)
    if array.dtype.itemsize > 4 and np.isinf(found).sum() > np.isinf(array).sum():
        raise ValueError(
            f"{name} holds numbers that are too large for float32; scale them to order 1."
        )
    return found


def _check_class_numbers(labels: NDArray[Any]) -> None:
    """Raises, with the way to class numbers, where labels are something else."""
    whole = labels.dtype.kind in "iub" or bool(
        (np.isfinite(labels) & (labels == np.round(labels))).all()
    )
    if labels.ndim != 1:
        raise ValueError(
            f"labels have the shape {labels.shape}, but must be (n,), one class number for each "
            f"input; {_way_to_one_axis(labels) if whole else _BY_NAME}."
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"labels must be integers, not {labels.dtype}; "
            f"{'give labels.astype(int)' if whole else _BY_NAME}."
        )


def _way_to_one_axis(labels: NDArray[Any]) -> str:
    if labels.ndim != 2 or not len(labels):
        return _BY_NAME
    if labels.shape[1] == 1:
        return "give labels[:, 0]"
    zeros_and_ones = bool(((labels == 0) | (labels == 1)).all())
    if zeros_and_ones and (labels.sum(axis=1) == 1).all():
        return "they are one-hot vectors: give labels.argmax(1)"
    return _BY_NAME


def _check_lengths(inputs: NDArray[Any], labels: NDArray[Any]) -> None:
    if len(inputs) != len(labels):
        raise ValueError(
            f"there are {len(inputs)} inputs and {len(labels)} labels; give one label for each "
            "input."
        )
    if inputs.size == 0:
        raise ValueError(
            f"inputs of shape {inputs.shape} are empty; give at least one example of at least one "
            "value, such as by splitting the data differently."
        )


def _finite(inputs: NDArray[Any]) -> NDArray[np.float32]:
    values = float32(inputs)
    # A NaN or an infinity reaches the minimum or the maximum, with no array of flags.
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise ValueError(
            "inputs hold NaN, infinite values or such that are too large for float32; remove or "
            "replace them before the data set is built."
        )
    return values


def _in_range(labels: NDArray[Any], classes: int) -> NDArray[np.int32]:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"there are labels from {low} to {high}, but classes={classes} takes those from 0 to "
            f"{classes - 1}; renumber the labels from 0, or give the true number of classes."
        )
    return np.ascontiguousarray(labels, np.int32)
