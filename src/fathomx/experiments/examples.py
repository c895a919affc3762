"""Data sets that the runs of a comparison share: each is loaded once."""

from __future__ import annotations

import functools

from fathomx import data as data_sets
from fathomx.data import Dataset


@functools.cache
def loaded(name: str, context: int | None = None) -> Dataset:
    """A data set as it comes; `context`, the length of its windows, is for texts."""
    return data_sets.load(name, context=context)


@functools.cache
def vectors(name: str) -> Dataset:
    """A data set with each input a vector."""
    return data_sets.load(name).flat()
