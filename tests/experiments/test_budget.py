"""`fathomx reproduce budget`: the search for the smallest budget, its table, and a small run."""

import dataclasses
import math

import numpy as np
import pytest

from fathomx.experiments import budget
from fathomx.experiments.budget import BACKPROP, Scale, method, smallest, work_table, works
from fathomx.experiments.grid import Selection
from fathomx.experiments.power_laws import interval, slope


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("begin", range(5))
def test_the_smallest_place_that_reaches(begin, count):
    """From wherever the search begins, of every threshold; no place is asked for beyond it."""
    begin = min(begin, count - 1)
    for threshold in range(count + 1):
        asked = []

        def reaches(place, threshold=threshold, asked=asked):
            asked.append(place)
            return place >= threshold

        assert smallest(reaches, begin, count) == threshold
        if count:
            assert min(asked) >= min(begin, threshold - 1)
            assert max(asked) <= max(begin, threshold)


def row(depth, name, accuracy, evaluations=1.0):
    return {
        "network": f"depth {depth}",
        "method": name,
        "seed": 0,
        "validation_accuracy": accuracy,
        "evaluations": evaluations,
        "step_seconds": 0.1,
    }


def test_work_is_that_of_the_smallest_budget_that_is_enough():
    """Depths 4, 8, 16 need 4, 16, 64 steps for 90%: the square; 98% is not reached at depth 16."""
    rows = []
    for depth in (4, 8, 16):
        need = depth**2 // 4
        rows += [
            row(depth, BACKPROP, 0.8),
            row(depth, method("PC", need // 2), 0.71, need // 2),
            row(depth, method("PC", need), 0.73, need),
            # A budget that diverges is as good as none.
            row(depth, method("PC", 2 * need), None, 2 * need),
        ]
        if depth < 16:
            rows.append(row(depth, method("PC", 4 * need), 0.79, 4 * need))
    found = works(rows)
    by = {(work.level, work.depth): work for work in found}
    assert [by[0.90, depth].budget for depth in (4, 8, 16)] == [4, 16, 64]
    assert [by[0.98, depth].evaluations for depth in (4, 8)] == [16, 64]
    assert math.isnan(by[0.98, 16].budget) and by[0.98, 16].most == 128
    table = work_table(found)
    assert "| PC | 90% | 4 | 16 | 64 | 2.00 (2.00 to 2.00) | 1.92 |" in table
    assert "| PC | 98% | 16 | 64 | > 128 | 2.00 | - |" in table


def test_the_interval_of_an_exponent():
    """Against the normal equations and Student's quantile for one degree of freedom, 12.706."""
    x, y = np.array([4.0, 8.0, 16.0]), np.array([3.0, 9.0, 20.0])
    a = np.stack([np.log(x), np.ones(3)], 1)
    solution, residual, *_ = np.linalg.lstsq(a, np.log(y), rcond=None)
    deviation = math.sqrt(residual[0] * np.linalg.inv(a.T @ a)[0, 0])
    low, high = interval(x, y)
    assert slope(x, y) == pytest.approx(solution[0])
    assert (high - low) / 2 == pytest.approx(12.7062 * deviation, rel=1e-4)
    assert interval(x[:2], y[:2]) == (-math.inf, math.inf)
    assert interval(x, np.full(3, 4.0)) == pytest.approx((0, 0), abs=1e-12)


TINY = Scale("tiny", "digits", (4, 8), (0,), ((4, 2), (8, 1)), examples=640, rate=1e-2)


def test_a_small_run(tmp_path, monkeypatch):
    monkeypatch.setitem(budget.SCALES, "tiny", TINY)
    said = []
    chosen = Selection(methods=(method("Gauss-Newton", 1), method("PC", 1)))
    budget.reproduce("tiny", tmp_path / "found", chosen, said.append)
    table = (tmp_path / "found" / "work.md").read_text()
    assert "| Gauss-Newton | 90% |" in table and "| PC | 98% |" in table
    assert "PC-ALM" not in table
    assert (tmp_path / "found" / "work.png").stat().st_size > 5000
    trained = len(said)
    assert trained >= 4 and all(line.startswith("1/1  depth") for line in said)
    # Nothing is trained twice, and another range of budgets goes on from what is there.
    budget.reproduce("tiny", tmp_path / "found", chosen, said.append)
    assert len(said) == trained
    wider = dataclasses.replace(TINY, depths=(4,))
    monkeypatch.setitem(budget.SCALES, "tiny", wider)
    budget.reproduce("tiny", tmp_path / "found", chosen, said.append)
    assert len(said) == trained
    with pytest.raises(ValueError, match="unknown method 'PC'"):
        budget.reproduce("tiny", tmp_path / "other", Selection(methods=("PC",)), said.append)
    assert not (tmp_path / "other").exists()
