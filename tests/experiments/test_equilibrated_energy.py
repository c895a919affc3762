"""`fathomx reproduce equilibrated-energy` on a few random vectors: weights, energies, files."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.experiments import equilibrated_energy
from fathomx.experiments.equilibrated_energy import NETWORKS, SCALES, Scale, path, summary
from fathomx.experiments.grid import Cell, Selection

TINY = Scale(
    name="tiny",
    width=6,
    iterations=4,
    batch_size=5,
    learning_rate=1e-2,
    record=2,
    examples=3,
    seeds=(0,),
)


def vectors():
    rng = np.random.default_rng(0)

    def part(count):
        return rng.normal(size=(count, 7)), rng.integers(4, size=count)

    return fx.data.Dataset("toy", part(20), part(8), part(9), classes=4)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)
    monkeypatch.setattr(fx.data, "load", lambda name: vectors())
    for cached in (equilibrated_energy.vectors, path):
        cached.cache_clear()
    yield
    for cached in (equilibrated_energy.vectors, path):
        cached.cache_clear()


def factors(network):
    """The weight matrices of a chain, from input to output."""
    leaves = jax.tree.leaves(fx.split(network)[0])
    return [m for leaf in leaves for m in (leaf if leaf.ndim == 3 else leaf[None])]


def energy(maps, x, y):
    """The closed form, from the products of the weights above each layer."""
    above, rescaling = jnp.eye(4), jnp.eye(4)
    for weight in maps[:0:-1]:
        above = above @ weight
        rescaling = rescaling + above @ above.T
    residual = y - x @ (above @ maps[0]).T
    return 0.5 * jnp.mean(jnp.sum(residual * jnp.linalg.solve(rescaling, residual.T).T, axis=1))


def test_weights_descend_the_energy_that_settled_activities_have(tiny, float64):
    name = "6 layers, mnist"
    checkpoints = path(name, 0, TINY)
    assert [c.iteration for c in checkpoints] == [0, 2, 4]
    data = vectors()
    inputs = jnp.asarray(data.train.inputs, float).reshape(4, 5, 7)
    wanted = jnp.eye(4)[data.train.labels].reshape(4, 5, 4)
    maps = factors(checkpoints[0].problem.network)
    assert len(maps) == NETWORKS[name].depth
    optimizer, slope = optax.adam(1e-2), jax.jit(jax.grad(energy))
    state = optimizer.init(maps)
    for x, y in zip(inputs, wanted, strict=True):
        updates, state = optimizer.update(slope(maps, x, y), state)
        maps = optax.apply_updates(maps, updates)
    for mine, theirs in zip(maps, factors(checkpoints[-1].problem.network), strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-6, atol=1e-9)

    # Settled activities have the energy of the closed form; a few steps do not reach it.
    row = equilibrated_energy.run(Cell(name, "Gauss-Newton", 0), TINY)
    assert row["largest_difference"] < 1e-12 and row["largest_unsettled"] < 1e-12
    for place, checkpoint in enumerate(path(name, 0, TINY)):
        problem = checkpoint.problem
        expected = energy(factors(problem.network), problem.input, problem.target)
        assert row["course"]["theory"][place] == pytest.approx(float(expected), rel=1e-12)
    unsettled = equilibrated_energy.run(Cell(name, "state descent, 20 steps", 0), TINY)
    assert unsettled["course"]["theory"] == row["course"]["theory"]
    assert unsettled["largest_difference"] > 1e-6 and unsettled["largest_unsettled"] > 1e-3


def test_a_divergence_is_counted_and_left_out():
    course = {
        "loss": np.asarray([1.0, 1.0, 1.0, 1.0]),
        "theory": np.asarray([0.5, 0.4, 0.4, 0.4]),
        "relaxed": np.asarray([0.5, 0.6, 7.0, np.nan]),
        "unsettled": np.asarray([0.0, 0.2, 9.0, np.nan]),
    }
    row = summary(np.arange(4), course)
    assert row["diverged"] == 0.5 and row["final_difference"] is None
    assert row["largest_difference"] == pytest.approx(0.5) and row["largest_unsettled"] == 0.2
    assert (row["first_ratio"], row["final_ratio"]) == (0.5, 0.4)
    assert row["course"]["relaxed"][-1] is None
    json.dumps(row, allow_nan=False)

    course["relaxed"][:] = 8.0
    assert summary(np.arange(4), course)["largest_difference"] is None


def test_it_runs_and_reports(tiny, tmp_path):
    said = []
    part = Selection(networks=("6 layers, mnist",), methods=("Gauss-Newton",))
    table = equilibrated_energy.reproduce("tiny", tmp_path / "out", part, said.append)
    assert len(said) == 1 and "relative difference at most" in said[0]
    assert "| 6 layers, mnist | Gauss-Newton | 0 |" in table.read_text()
    with (tmp_path / "out" / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["method"] for line in lines} == set(part.methods)
    assert (tmp_path / "out" / "energy.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_unknown_names_are_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"unknown scale 'tine'. Did you mean 'tiny'"):
        equilibrated_energy.reproduce("tine", tmp_path, Selection(), print)
    with pytest.raises(ValueError, match="unknown network '4 layers, mnist'"):
        equilibrated_energy.reproduce(
            "tiny", tmp_path, Selection(networks=("4 layers, mnist",)), print
        )
