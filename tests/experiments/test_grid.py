"""Grids of runs: which cells there are, that they continue, and what the tables say."""

import csv
import json

import pytest

from fathomx.experiments.grid import (
    Cell,
    Column,
    Rows,
    Selection,
    groups,
    markdown,
    write_tables,
)
from fathomx.records.errors import RunFolderError

NETWORKS = {"small": (0, 1), "large": (0,)}
METHODS = ("a", "b + c")
COLUMNS = (Column("accuracy", "accuracy, %", ".1f", 100.0), Column("seconds", "s", ".2f"))


def test_all_cells_come_seed_by_seed():
    found = Selection().cells(NETWORKS, METHODS)
    assert [(c.network, c.method, c.seed) for c in found] == [
        ("small", "a", 0),
        ("small", "b + c", 0),
        ("large", "a", 0),
        ("large", "b + c", 0),
        ("small", "a", 1),
        ("small", "b + c", 1),
    ]


def test_a_selection_takes_a_part_and_seeds_of_its_own():
    found = Selection(networks=("large",), methods=("a",), seeds=(5, 7)).cells(NETWORKS, METHODS)
    assert found == [Cell("large", "a", 5), Cell("large", "a", 7)]


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown network 'smal'\. Did you mean 'small'\?"):
        Selection(networks=("smal",)).cells(NETWORKS, METHODS)
    with pytest.raises(ValueError, match="unknown method 'z'"):
        Selection(methods=("z",)).cells(NETWORKS, METHODS)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="a seed must be an integer of at least 0 and"):
        Selection(seeds=(0, -1)).cells(NETWORKS, METHODS)


def test_file_names_are_plain_and_differ():
    names = {Cell(n, m, s).file for n in NETWORKS for m in METHODS for s in (0, 1)}
    assert len(names) == 8
    assert "small-b-c-seed-1.json" in names


def test_rows_are_kept_and_continued(tmp_path):
    folder = tmp_path / "grid"
    config = {"width": 0.5, "seeds": (0, 1)}
    rows = Rows(folder, config)
    cell = Cell("small", "a", 0)
    assert not rows.has(cell)
    rows.add(cell, {"accuracy": 0.5})
    again = Rows(folder, config)
    assert again.has(cell) and not again.has(Cell("small", "a", 1))
    assert again.all() == [{"network": "small", "method": "a", "seed": 0, "accuracy": 0.5}]
    assert not [p for p in folder.rglob("*") if p.name.startswith(".")]


def test_another_configuration_or_a_strange_folder_is_refused(tmp_path):
    Rows(tmp_path / "grid", {"width": 0.5})
    with pytest.raises(RunFolderError, match=r"another configuration \(width differ\)"):
        Rows(tmp_path / "grid", {"width": 1.0})
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="holds something else"):
        Rows(strange, {"width": 0.5})
    (tmp_path / "grid" / "rows").rmdir()
    (tmp_path / "grid" / "rows").touch()
    with pytest.raises(RunFolderError, match="rows is a file, where a folder belongs; move it"):
        Rows(tmp_path / "grid", {"width": 0.5})


def test_a_folder_goes_on_where_methods_have_come_or_gone(tmp_path):
    """What both sides describe must agree; also with what was described two versions ago."""
    folder = tmp_path / "grid"
    Rows(folder, {"width": 1}, {"rules": {"a": "1", "b": "2"}})
    Rows(folder, {"width": 1}, {"rules": {"b": "2", "c": "3"}})
    stored = json.loads((folder / "config.json").read_text())
    assert stored == {"width": 1, "rules": {"a": "1", "b": "2", "c": "3"}}
    for rules, told in (({"a": "4"}, "rules of 'a'"), ({"b": "2", "c": "1"}, "rules of 'c'")):
        with pytest.raises(RunFolderError, match=rf"another configuration \({told} differ\)"):
            Rows(folder, {"width": 1}, {"rules": rules})
    with pytest.raises(RunFolderError, match=r"\(rules of 'b', width differ\)"):
        Rows(folder, {"width": 2}, {"rules": {"b": "1"}})
    with pytest.raises(RunFolderError, match=r"\(solvers differ\)"):
        Rows(folder, {"width": 1}, {"rules": {}, "solvers": {}})
    assert json.loads((folder / "config.json").read_text()) == stored


def some_rows():
    def row(network, method, seed, accuracy, seconds):
        keys = ("network", "method", "seed", "accuracy", "seconds")
        return dict(zip(keys, (network, method, seed, accuracy, seconds), strict=True))

    return [
        row("large", "a", 0, 0.25, 3.0),
        row("small", "a", 1, 0.50, 1.0),
        row("small", "a", 0, 0.40, 2.0),
        row("small", "b + c", 0, None, None),
        row("small", "b + c", 1, 0.3, 5.0),
    ]


def test_means_and_spreads_by_hand(tmp_path):
    """0.40 and 0.50: mean 45, standard deviation sqrt(2 * 5^2 / 1) = 7.07 (of two)."""
    found = list(groups(some_rows(), tuple(NETWORKS), METHODS))
    assert [(g.network, g.method) for g in found] == [
        ("small", "a"),
        ("small", "b + c"),
        ("large", "a"),
    ]
    lines = markdown(found, COLUMNS).splitlines()
    assert lines[2] == "| small | a | 0, 1 | 45.0 ± 7.1 | 1.50 ± 0.71 |"
    # A run that diverged is neither left out in silence nor counted as zero.
    assert lines[3] == "| small | b + c | 0, 1 | 30.0 (1 of 2 without) | 5.00 (1 of 2 without) |"
    assert lines[4] == "| large | a | 0 | 25.0 | 3.00 |"

    write_tables(tmp_path, found, COLUMNS)
    assert (tmp_path / "results.md").read_text().splitlines() == lines
    with (tmp_path / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [line["seed"] for line in table] == ["0", "1", "0", "1", "0"]
    assert [line["accuracy"] for line in table] == ["0.4", "0.5", "", "0.3", "0.25"]


def test_rows_hold_no_numbers_that_json_has_not(tmp_path):
    rows = Rows(tmp_path / "grid", {})
    rows.add(Cell("small", "a", 0), {"accuracy": float("nan")})
    (path,) = (tmp_path / "grid" / "rows").iterdir()
    assert json.loads(path.read_text())["accuracy"] is None
