"""`fathomx reproduce memory`: retrieval in closed form, recall of a linear memory, a small run."""

import csv

import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import memory
from fathomx.experiments.grid import Cell, Selection
from fathomx.experiments.imaging import Pixels, pixels
from fathomx.experiments.memory import IN_ORDER, Scale, retrieved

TINY = Scale(
    "tiny",
    {"digits": (8,)},
    latents=8,
    updates=150,
    batch=8,
    rate=3e-2,
    precision=1e3,
    sequence=5,
    units=32,
    sequence_updates=400,
)


def test_retrieval_is_a_softmax_over_distances():
    rng = np.random.default_rng(0)
    stored, query = rng.normal(size=(4, 6)), rng.normal(size=(1, 6))
    found = query
    for _ in range(memory._RETRIEVALS):
        weights = np.exp([-0.5 * 0.7 * np.sum((found - x) ** 2) for x in stored])
        found = (weights / weights.sum() @ stored)[None]
    np.testing.assert_allclose(retrieved(query, stored, None, 0.7), found, rtol=1e-10)
    # Cold enough it is the nearest in what is seen.
    seen = np.arange(6) < 3
    half = np.where(seen, stored, 9.0)
    np.testing.assert_allclose(retrieved(half, stored, seen, 1e3), stored, atol=1e-6)


def test_a_memory_recalls_what_its_latent_determines(float64):
    """By least squares in the latent: what is seen of an image says all of it."""
    rng = np.random.default_rng(1)
    images = rng.normal(size=(5, 12))
    stored = Pixels(images, np.zeros(5, int), (4, 3))
    network = memory.memory(stored, 3, 1e6, 0)
    W = np.asarray(network.entry("output").function.map.weight)
    mean = images.mean(axis=0)
    latents = rng.normal(size=(5, 3))
    exact = mean + latents @ W.T
    seen = np.arange(12) < 6
    problem = fx.Problem(network, {"output": fx.Clamp(np.where(seen, exact, 7.0), seen)})
    found = fx.infer(problem, fx.Exact()).activities["output"]
    np.testing.assert_allclose(found, exact, atol=1e-3)
    assert np.abs(exact - mean).max() > 0.1


def test_a_small_run_stores_and_recalls(tmp_path, monkeypatch):
    monkeypatch.setitem(memory.SCALES, "tiny", TINY)
    said = []
    memory.reproduce("tiny", tmp_path / "found", Selection(networks=("digits, 8 images",)),
                     said.append)  # fmt: skip
    with (tmp_path / "found" / "results.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(memory.METHODS)
    for name in ("PC", "Hopfield", "nearest"):
        assert float(rows[name]["half_recalled"]) == 1, name
    assert float(rows["PC"]["half_error"]) < 1e-3
    assert float(rows["nearest"]["noise_recalled"]) == 1
    assert (tmp_path / "found" / "capacity.png").stat().st_size > 5000


def test_a_sequence_is_recalled_in_order():
    stored = pixels("digits")["train"].first(5)
    for method in ("PC", "Hopfield"):
        row = memory.in_order(Cell(f"{IN_ORDER}, 5 images", method, 0), TINY, stored)
        assert row["in_order"] == 5
        assert len(row["pictures"]["sequence"]) == 5


def test_sequences_are_not_for_every_method(tmp_path):
    with pytest.raises(ValueError, match="nothing to run"):
        memory.reproduce(
            "laptop",
            tmp_path,
            Selection(networks=(f"{IN_ORDER}, 50 images",), methods=("nearest",)),
            print,
        )
