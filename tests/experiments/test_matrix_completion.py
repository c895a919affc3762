"""`fathomx reproduce matrix-completion`: the energy of partly observed outputs, the measures."""

import csv
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import matrix_completion
from fathomx.experiments.grid import Cell, Selection
from fathomx.experiments.matrix_completion import (
    NETWORKS,
    SCALES,
    Scale,
    Start,
    Task,
    Way,
    descend,
    start_network,
)

TINY = Scale(
    name="tiny",
    rows=4,
    singular_values=(3.0, 2.0),
    observed=12,
    width=5,
    learning_rate=0.05,
    tolerance=0.5,
    most_iterations=2000,
    seeds=(0, 1),
)


def factors(network):
    """The weight matrices of a chain, from input to output."""
    leaves = jax.tree.leaves(fx.split(network)[0])
    return [np.asarray(m) for leaf in leaves for m in np.atleast_3d(leaf.T).T]


def relaxed_energy(maps, target, observed):
    """The energy at its minimum over the activities and the outputs that are not clamped.

    Written as one least-squares problem in all of them, for every row of the target.
    """
    sizes = [m.shape[0] for m in maps]
    begins = np.cumsum([0, *sizes])
    total = 0.0
    for row in range(len(target)):
        system, constant = np.zeros((begins[-1], begins[-1])), np.zeros(begins[-1])
        for place, weight in enumerate(maps):
            own = slice(begins[place], begins[place + 1])
            system[own, own] = np.eye(sizes[place])
            if place:
                system[own, begins[place - 1] : begins[place]] = -weight
            else:
                constant[own] = weight[:, row]
        clamped = begins[-2] + np.nonzero(observed[row])[0]
        free = np.setdiff1d(np.arange(begins[-1]), clamped)
        constant = constant - system[:, clamped] @ target[row, observed[row]]
        moved = np.linalg.lstsq(system[:, free], constant, rcond=None)[0]
        total += 0.5 * np.sum((system[:, free] @ moved - constant) ** 2)
    return total / len(target)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)


@pytest.mark.parametrize("depth", [2, 4])
def test_the_energy_is_that_of_relaxed_activities(float64, depth):
    task = Task.of(TINY, 3)
    network = start_network(TINY, Start(depth, 0.5), 1)
    maps, target = factors(network), np.asarray(task.target)
    observed = np.asarray(task.observed)
    objective = task.objective("PC at equilibrium")
    weights, rest = fx.split(network)
    energy, gradient = jax.jit(jax.value_and_grad(lambda w: objective(eqx.combine(w, rest))))(
        weights
    )
    expected = relaxed_energy(maps, target, observed)
    assert float(energy) == pytest.approx(expected, rel=1e-11)
    product = np.linalg.multi_dot(maps[::-1]) if depth > 1 else maps[0]
    loss = 0.5 * np.sum(((target - product.T) ** 2)[observed]) / len(target)
    assert float(task.objective("backprop")(network)) == pytest.approx(loss, rel=1e-12)
    assert expected < loss

    first = np.asarray(jax.tree.leaves(gradient)[0])
    for entry in ((0, 0), (2, 1)):
        sides = []
        for sign in (1, -1):
            shifted = [maps[0].copy(), *maps[1:]]
            shifted[0][entry] += sign * 1e-5
            sides.append(relaxed_energy(shifted, target, observed))
        assert first[entry] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6, abs=1e-9)


def test_observing_everything_is_the_library_s_energy_and_loss(float64):
    task = Task.of(TINY, 0)
    network = start_network(TINY, Start(3, 0.4), 2)
    x, y, everything = jnp.eye(4), task.target, jnp.ones((4, 4), bool)
    for objective in (fx.theory.EquilibratedEnergy, fx.theory.Loss):
        masked = {"input": x, "output": fx.Clamp(y, everything)}
        found = eqx.filter_jit(objective(masked, output_precision=0.3))(network)
        expected = eqx.filter_jit(objective(x, y, 0.3))(network)
        assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_a_task_has_the_rank_and_the_entries_asked_for(float64):
    task = Task.of(TINY, 0)
    values = np.linalg.svd(np.asarray(task.target))[1]
    np.testing.assert_allclose(values, [3, 2, 0, 0], atol=1e-12)
    assert int(task.observed.sum()) == 12
    assert not np.array_equal(task.observed, Task.of(TINY, 1).observed)


def test_descent_is_gradient_descent(float64):
    task = Task.of(TINY, 0)
    network = start_network(TINY, Start(2, 0.3), 0)
    _, records = descend(network, task.objective("backprop"), task, 0.05)
    first, last = factors(network)
    target, observed = np.asarray(task.target), np.asarray(task.observed)
    for _ in range(3 * matrix_completion.RECORD):
        residual = np.where(observed, (last @ first).T - target, 0) / 4
        first, last = (
            first - 0.05 * last.T @ residual.T,
            last - 0.05 * residual.T @ first.T,
        )
    product = (last @ first).T
    squares = (product - target) ** 2
    assert float(records.loss[2]) == pytest.approx(squares[observed].sum() / 8, rel=1e-9)
    assert float(records.unobserved[2]) == pytest.approx(squares[~observed].mean(), rel=1e-9)
    np.testing.assert_allclose(
        records.singular_values[2], np.linalg.svd(product)[1], rtol=1e-8, atol=1e-12
    )


def test_plateaus_and_ranks_of_a_staircase():
    # Two steps of a staircase: ten records at 1, then ten at 0.1, then none.
    loss = np.concatenate([np.ones(10), np.full(10, 0.1), [0.001, 0.0001]])
    values = np.zeros((22, 3))
    values[10:, 0], values[20:, 1] = 2.1, 1.0
    way = Way(20 * np.arange(22), loss, np.zeros(22), values)
    row = way.row(np.asarray([4.0, 2.0]))
    assert row["iterations"] == 400 and row["final_iterations"] == 420
    assert (row["at_rank_0"], row["at_rank_1"]) == (200, 200)
    # Of ten records on a step, the first five see no fall within the next five.
    assert row["plateaus"] == 2 and row["flat_iterations"] == 200
    assert row["way"]["rank"][-1] == 2

    row = Way(20 * np.arange(10), np.ones(10), np.zeros(10), np.zeros((10, 3))).row(np.ones(2))
    assert row["iterations"] is None and row["at_rank_0"] is None
    assert row["plateaus"] == 1 and row["flat_iterations"] == 180


def test_a_steady_fall_has_no_plateau():
    loss = 0.5 ** np.arange(30)
    row = Way(20 * np.arange(30), loss, np.zeros(30), np.ones((30, 1))).row(np.ones(1))
    assert row["plateaus"] == 0 and row["flat_iterations"] == 0 and row["at_rank_0"] == 0


def test_a_run_ends_at_the_tolerance(monkeypatch):
    monkeypatch.setitem(NETWORKS, "toy", Start(2, 0.3))
    for method in matrix_completion.METHODS:
        row = matrix_completion.run(Cell("toy", method, 0), TINY)
        loss = np.asarray(row["way"]["loss"])
        assert loss[-1] <= 0.5 * loss[0] < loss[-2]
        assert row["final_iterations"] == row["way"]["iterations"][-1]


def test_it_runs_and_reports(tiny, tmp_path):
    said = []
    part = Selection(networks=("3 layers, std 0.02",), seeds=(0,))
    table = matrix_completion.reproduce("tiny", tmp_path / "out", part, said.append)
    assert len(said) == 2
    assert "| 3 layers, std 0.02 | PC at equilibrium | 0 |" in table.read_text()
    with (tmp_path / "out" / "results.csv").open() as file:
        assert [line["method"] for line in csv.DictReader(file)] == [
            "backprop",
            "PC at equilibrium",
        ]
    for figure in ("loss.png", "initialization.png"):
        assert (tmp_path / "out" / figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    rows = sorted((tmp_path / "out" / "rows").iterdir())
    ways = [json.loads(path.read_text())["way"]["loss"] for path in rows]
    assert ways[0][0] == ways[1][0]


def test_unknown_names_are_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"unknown scale 'tine'. Did you mean 'tiny'"):
        matrix_completion.reproduce("tine", tmp_path, Selection(), print)
    with pytest.raises(ValueError, match="unknown method 'backdrop'"):
        matrix_completion.reproduce("tiny", tmp_path, Selection(methods=("backdrop",)), print)
