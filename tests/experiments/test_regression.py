"""`fathomx reproduce regression`: its divisions, its choice, and a whole small run."""

import csv

import numpy as np
import pytest
import sklearn.datasets
import sklearn.linear_model

import fathomx as fx
from fathomx.experiments import regression
from fathomx.experiments.grid import Cell, Selection
from fathomx.experiments.regression import RULES, SCALES, Division, Scale

TINY = Scale("tiny", width=4, depth=2, rates=(1e-2, 1e-9), epochs=2, folds=2, seeds=(0, 1))


def test_test_examples_take_no_part_in_the_choice():
    division = Division.of(5, 4)
    x, y = sklearn.datasets.load_diabetes(return_X_y=True, scaled=False)
    assert len(division.test) == 88
    places = np.concatenate([*division.folds, division.test])
    assert sorted(places) == list(range(442))
    for fold, data in zip(division.folds, division.inner(), strict=True):
        assert data.titles == ("train", "validation") and data.size + len(fold) == 442 - 88
        for name, array in (("input", x), ("output", y[:, None])):
            scale = data.preparation.scales[name]
            rest = np.concatenate([f for f in division.folds if f is not fold])
            np.testing.assert_allclose(scale.mean, array[rest].mean(axis=0))
            raw = scale.raw(data.validation[name])
            np.testing.assert_allclose(raw, array[fold], rtol=1e-4, atol=1e-3)
    assert division.outer().titles == ("train", "test") and division.outer().size == 442 - 88


def test_least_squares_against_the_normal_equations():
    row = regression.run(Cell("diabetes", "linear", 7), SCALES["laptop"])
    x, y = sklearn.datasets.load_diabetes(return_X_y=True, scaled=False)
    order = np.random.default_rng(7).permutation(442)
    test, train = order[:88], order[88:]
    design = np.concatenate([x, np.ones((442, 1))], axis=1)
    weights = np.linalg.lstsq(design[train], y[train], rcond=None)[0]
    missed = y[test] - design[test] @ weights
    assert row["test_rmse"] == pytest.approx(np.sqrt((missed**2).mean()), rel=1e-4)
    explained = 1 - (missed**2).mean() / y[test].var()
    assert row["test_r2"] == pytest.approx(explained, rel=1e-4)


def test_a_small_run(tmp_path, monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)
    said = []
    regression.reproduce("tiny", tmp_path, Selection(), said.append)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert len(rows) == 8 and (tmp_path / "errors.png").exists()
    errors = {(r["method"], r["seed"]): float(r["test_rmse"]) for r in rows}
    paired = [errors["PC", seed] - errors["backprop", seed] for seed in "01"]
    assert any(f"{np.mean(paired):+.2f} ± {np.std(paired, ddof=1):.2f}" in line for line in said)
    for row in rows:
        if row["method"] in RULES:
            # At the other rate nothing is learned.
            assert float(row["rate"]) == 1e-2
    chosen = next(r for r in rows if r["method"] == "backprop" and r["seed"] == "1")
    data = Division.of(1, 2).outer()
    result = fx.fit(
        regression.network(1, TINY),
        data,
        fx.Backprop(),
        optimizer=1e-2,
        epochs=int(chosen["epochs"]),
        batch_size=32,
        seed=1,
    )
    said = fx.predict(result.network, data.test["input"]) - data.test["output"]
    rmse = np.sqrt(np.mean(np.square(said))) * data.preparation.scales["output"].std[0]
    assert float(chosen["test_rmse"]) == pytest.approx(rmse, rel=1e-4)
