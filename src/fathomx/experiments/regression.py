"""Does predictive coding at equilibrium predict real values as well as backprop does?

The diabetes table of scikit-learn (442 patients, 10 columns, a real target), the same network and
the same order of batches for both rules, divided and drawn anew for every seed; beside them linear
regression, which is hard to beat there.
"""

from __future__ import annotations

import dataclasses
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fathomx.data import Dataset
from fathomx.data._preparation import Preparation
from fathomx.data._scale import ColumnScale
from fathomx.drawing.style import COLORS, new_figure, save
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Group
from fathomx.graph.network import Network
from fathomx.learning import Backprop, Equilibrium, LearningRule
from fathomx.models import mlp
from fathomx.training import fit

_NETWORK = "diabetes"
_SEEDS = (5, 6, 7, 8, 9)
_FIFTH = 5

RULES: dict[str, LearningRule] = {"PC": Equilibrium(), "backprop": Backprop()}
BASELINES = ("linear", "ridge")
_PENALTIES = tuple(10.0**power for power in range(-2, 4))


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `width` and `depth` of the network; `batch_size`; what is tried, `rates` of Adam and
    up to `epochs` epochs, and in how many `folds` of what is no test example; `seeds`.
    """

    name: str
    width: int = 16
    depth: int = 3
    batch_size: int = 32
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    epochs: int = 40
    folds: int = 4
    seeds: tuple[int, ...] = _SEEDS


SCALES = {"laptop": Scale("laptop")}

COLUMNS = (
    Column("test_rmse", "test RMSE", ".2f"),
    Column("test_r2", "test R2", ".3f"),
    Column("chosen_rmse", "RMSE it was chosen by", ".2f"),
    Column("rate", "rate", ".2g"),
    Column("epochs", "epochs", ".0f"),
    Column("penalty", "penalty", ".2g"),
)


@dataclasses.dataclass(frozen=True)
class Division:
    """The table divided by a seed: a fifth for test, and the rest into folds.

    **Fields**: `input`, `output` as the table has them; `folds`, the places of their rows; `test`,
    those of the test part.
    """

    input: np.ndarray
    output: np.ndarray
    folds: tuple[np.ndarray, ...]
    test: np.ndarray

    @classmethod
    def of(cls, seed: int, folds: int) -> Division:
        """That of a seed."""
        table = import_module("sklearn.datasets").load_diabetes(scaled=False)
        order = np.random.default_rng(seed).permutation(len(table.data))
        test, rest = np.split(order, [len(order) // _FIFTH])
        return cls(table.data, table.target[:, None], tuple(np.array_split(rest, folds)), test)

    def inner(self) -> list[Dataset]:
        """For each fold the others to train on and it for validation, without a test part."""
        return [
            self._data(np.concatenate(self.folds[:i] + self.folds[i + 1 :]), validation=fold)
            for i, fold in enumerate(self.folds)
        ]

    def outer(self) -> Dataset:
        """All folds to train on, and the test part."""
        return self._data(np.concatenate(self.folds), test=self.test)

    def _data(self, train: np.ndarray, **others: np.ndarray) -> Dataset:
        """Parts of these rows, standardized by the one to train on."""
        arrays = {"input": self.input, "output": self.output}
        scales = {name: ColumnScale(array[train]) for name, array in arrays.items()}
        parts: dict[str, Any] = {
            title: {name: scales[name](array[rows]) for name, array in arrays.items()}
            for title, rows in {"train": train, **others}.items()
        }
        return Dataset("diabetes", **parts, preparation=Preparation(scales))


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """Chooses by the folds, learns from all of them, and scores the test part, once."""
    division = Division.of(cell.seed, scale.folds)
    if cell.method in BASELINES:
        return _linear(cell, division)
    return _network(cell, scale, division)


def network(seed: int, scale: Scale) -> Network:
    """The network of a seed, the same for both rules."""
    key = jax.random.key(seed)
    return mlp(10, 1, width=scale.width, depth=scale.depth, bias=True, key=key)


def _network(cell: Cell, scale: Scale, division: Division) -> dict[str, Any]:
    rule, begun = RULES[cell.method], network(cell.seed, scale)
    options: dict[str, Any] = {"batch_size": scale.batch_size, "seed": cell.seed}
    tried = []
    for rate in scale.rates:
        curves = [
            [
                each["validation_rmse"]
                for each in fit(
                    begun, data, rule, optimizer=rate, epochs=scale.epochs, **options
                ).history
            ]
            for data in division.inner()
        ]
        means = np.mean(curves, axis=0)
        tried.append((float(means.min()), rate, int(means.argmin()) + 1))
    error, rate, epochs = min(tried)
    metrics = ["rmse", "r2"]
    data = division.outer()
    summary = fit(
        begun, data, rule, optimizer=rate, epochs=epochs, metrics=metrics, **options
    ).summary
    return {
        "test_rmse": summary["test_rmse"],
        "test_r2": summary["test_r2"],
        "chosen_rmse": error,
        "rate": rate,
        "epochs": epochs,
        "cosine": summary["cosine_to_backprop"],
        "strength": summary["pc_strength"],
    }


def _linear(cell: Cell, division: Division) -> dict[str, Any]:
    """Least squares, or ridge regression with the penalty that suits the folds."""
    models = import_module("sklearn.linear_model")

    def made(penalty: float | None) -> Any:
        return models.LinearRegression() if penalty is None else models.Ridge(alpha=penalty)

    tried = []
    for penalty in _PENALTIES if cell.method == "ridge" else (None,):
        errors = [_judged(made(penalty), data, "validation")[0] for data in division.inner()]
        tried.append((float(np.mean(errors)), penalty))
    error, penalty = min(tried, key=lambda one: one[0])
    test_error, explained = _judged(made(penalty), division.outer(), "test")
    return {
        "test_rmse": test_error,
        "test_r2": explained,
        "chosen_rmse": error,
        "penalty": penalty,
    }


def _judged(model: Any, data: Dataset, title: str) -> tuple[float, float]:
    """Error in the target's units and part of the variance explained, after fitting."""
    metrics = import_module("sklearn.metrics")
    assert data.preparation is not None
    train, part = data.arrays("train"), data.arrays(title)
    model.fit(train["input"].astype(float), train["output"].astype(float))
    raw = data.preparation.scales["output"].raw
    true, said = raw(part["output"]), raw(model.predict(part["input"].astype(float)))
    error = metrics.root_mean_squared_error(true, said)
    return float(error), float(metrics.r2_score(true, said))


def differences(groups: list[Group]) -> list[float]:
    """Test error of PC minus that of backprop, by seed, of the seeds that have both."""
    found = {
        group.method: {row["seed"]: row["test_rmse"] for row in group.rows} for group in groups
    }
    own, other = (found.get(name, {}) for name in RULES)
    return [own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())]


def difference(groups: list[Group]) -> list[str]:
    """Mean and standard deviation of these differences, of two or more."""
    paired = differences(groups)
    if len(paired) < 2:
        return []
    mean, spread = float(np.mean(paired)), float(np.std(paired, ddof=1))
    return [f"PC - backprop, by seed: {mean:+.2f} ± {spread:.2f} (test RMSE)"]


def draw(groups: list[Group], path: Path) -> None:
    """The test error of every method, division by division."""
    figure, (axes,) = new_figure(3.6)
    for row, group in enumerate(groups):
        values = group.values("test_rmse")
        axes.plot(values, np.full(len(values), row), "o", markersize=5, alpha=0.6, color=COLORS[0])
        axes.plot(group.mean("test_rmse"), row, "|", markersize=22, color=COLORS[1])
    axes.set_yticks(range(len(groups)), [group.method for group in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel("test RMSE, in units of the target (dots: a division each; lines: means)")
    save(figure, path)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: {_NETWORK: scale.seeds},
    methods=(*RULES, *BASELINES),
    run=run,
    outcome=said("test RMSE {test_rmse:.2f}"),
    columns=COLUMNS,
    figures={"errors.png": draw},
    remarks=difference,
)

reproduce = EXPERIMENT.reproduce
