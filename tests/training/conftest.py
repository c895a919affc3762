"""A problem that trains in a blink: four blobs in the plane of the first two of six features."""

import importlib

import jax
import numpy as np
import pytest

import fathomx as fx

CENTERS = np.array([(2.0, 0.0), (-2.0, 0.0), (0.0, 2.0), (0.0, -2.0)])


def _part(rng, count):
    labels = rng.integers(4, size=count)
    inputs = rng.normal(size=(count, 6))
    inputs[:, :2] = CENTERS[labels] + 0.5 * inputs[:, :2]
    return fx.data.Part(inputs, labels)


@pytest.fixture(scope="session")
def blobs():
    """70 training examples: with batches of 16, four steps in an epoch and six examples left."""
    rng = np.random.default_rng(0)
    return fx.data.Dataset("blobs", _part(rng, 70), _part(rng, 24), _part(rng, 24), classes=4)


@pytest.fixture(scope="session")
def network():
    return fx.models.residual_mlp(
        6, 4, width=8, depth=4, parameterization=fx.MuPC(), key=jax.random.key(3)
    )


@pytest.fixture
def one_step_per_dispatch(monkeypatch):
    """A function after which every training step is a dispatch, and a record, of its own."""
    # The module, not the function of the same name that the package exports.
    loop = importlib.import_module("fathomx.training.run")
    return lambda: monkeypatch.setattr(loop, "_SECONDS_PER_DISPATCH", 0.0)
