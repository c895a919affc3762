"""Data sets that the runs of a comparison share, each loaded once, and examples of them."""

from __future__ import annotations

import functools

import numpy as np

from fathomx import data as data_sets
from fathomx.data import Dataset, Part


@functools.cache
def loaded(name: str, context: int | None = None) -> Dataset:
    """A data set as it comes; `context`, the length of its windows, is for texts."""
    return data_sets.load(name, context=context)


@functools.cache
def vectors(name: str) -> Dataset:
    """A data set with each input a vector."""
    return data_sets.load(name).flat()


def first(part: Part, count: int) -> Part:
    """The first examples of a part."""
    return Part(part.inputs[:count], part.labels[:count])


def drawn(data: Dataset, count: int, seed: int) -> Part:
    """Training examples drawn with the seed, none twice."""
    chosen = np.random.default_rng(seed).choice(len(data.train.labels), count, replace=False)
    return Part(data.train.inputs[chosen], data.train.labels[chosen])
