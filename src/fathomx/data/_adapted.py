"""A data set in the form of another one, which a network has learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx.checks import gate
from fathomx.data._dataset import Dataset
from fathomx.data._parts import Part
from fathomx.data._text import Text


@gate
def adapted(data: Dataset, reference: Dataset) -> Dataset:
    """Data as a network reads it that has learned from `reference`.

    Inputs are standardized by the moments of the training part of `reference` instead of their own,
    tokens and classes numbered as there, by their names. Raises `ValueError` for examples of
    another shape, and for classes or characters that `reference` does not have.

    ```python
    photographs = fx.data.adapted(fx.data.images("photographs", 32), run.data)
    fx.evaluate(run.network, photographs)
    ```
    """
    if data.named or reference.named:
        return _same_arrays(data, reference)
    if data.input_shape != reference.input_shape:
        raise ValueError(
            f"the examples of {data.name!r} have shape {data.input_shape}, but the network was "
            f"trained on those of {reference.name!r}, of shape {reference.input_shape}; give data "
            "of that shape."
        )
    numbers = _class_numbers(data, reference)
    tokens = isinstance(data, Text)
    parts: dict[str, Any] = {}
    for title in data.titles:
        inputs, labels = getattr(data, title)
        inputs = numbers[inputs] if tokens else _standardized(inputs, "input", data, reference)
        parts[title] = Part(inputs, numbers[labels])
    return reference.with_parts(data.name, parts)


def _same_arrays(data: Dataset, reference: Dataset) -> Dataset:
    shapes = [{k: a.shape[1:] for k, a in d.arrays("train").items()} for d in (data, reference)]
    if data.named != reference.named or shapes[0] != shapes[1]:
        raise ValueError(
            f"{data.name!r} holds arrays {shapes[0]}, but the network was trained on those of "
            f"{reference.name!r}, {shapes[1]}; give data of these names and shapes."
        )
    parts: dict[str, Any] = {
        title: {
            name: _standardized(array, name, data, reference)
            for name, array in data.arrays(title).items()
        }
        for title in data.titles
    }
    return reference.with_parts(data.name, parts)


def _standardized(
    values: NDArray[Any], name: str, data: Dataset, reference: Dataset
) -> NDArray[Any]:
    """Values that were standardized by the moments of one data set by those of another instead."""
    own, wanted = data.preparation, reference.preparation
    if own is None or wanted is None or name not in own.scales or name not in wanted.scales:
        return values
    here, there = own.scales[name], wanted.scales[name]
    if np.array_equal(here.mean, there.mean) and np.array_equal(here.std, there.std):
        return values
    raw = here.raw(values)
    brightness = [getattr(each, "brightest", 1) for each in (here, there)]
    return there(raw * (brightness[1] / brightness[0]))


def _class_numbers(data: Dataset, reference: Dataset) -> NDArray[np.int32]:
    """The number that each class of the data has in the other data set."""
    own, wanted = data.class_names, reference.class_names
    if own == wanted or (len(own) == len(wanted) and not (_named(data) and _named(reference))):
        return np.arange(len(own), dtype=np.int32)
    strange = [name for name in own if name not in wanted]
    kind = "token" if isinstance(data, Text) else "class"
    if not strange and _named(data) and _named(reference):
        return np.array([wanted.index(name) for name in own], np.int32)
    if _named(data) and _named(reference):
        raise ValueError(
            f"{data.name!r} has the {kind} {strange[0]!r}, which {reference.name!r}, that the "
            "network was trained on, has not; leave it out, or train on it."
        )
    raise ValueError(
        f"{data.name!r} has {len(own)} classes, but the network was trained on the {len(wanted)} "
        f"of {reference.name!r}; give data of the same classes."
    )


def _named(data: Dataset) -> bool:
    """Whether classes have names of their own, by which they can be found in another data set."""
    known = data.preparation is not None and bool(data.preparation.class_names)
    return known or isinstance(data, Text)
