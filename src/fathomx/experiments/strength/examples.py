"""The data that the networks learn, each loaded once."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from jaxtyping import Array

from fathomx.data import Dataset
from fathomx.experiments.examples import loaded

_CONTEXTS = {"tiny-shakespeare": 32}


def dataset(name: str) -> Dataset:
    """The data set of this name; texts as windows of 32 tokens."""
    return loaded(name, _CONTEXTS.get(name))


@functools.cache
def training_examples(name: str, count: int) -> tuple[Array, Array]:
    """The first training examples and their labels, on the device."""
    part = dataset(name).train
    return jnp.asarray(part.inputs[:count]), jnp.asarray(part.labels[:count])
