"""Experiments as declarations: what follows from one, and that every one declares the same."""

import dataclasses
import json

import pytest

from fathomx.drawing.style import MissingMatplotlibError
from fathomx.experiments import EXPERIMENTS, reproduction
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Selection
from fathomx.records.errors import RunFolderError

METHODS = ("a", "b + c")


@dataclasses.dataclass(frozen=True)
class Scale:
    """Two sizes and their seeds, and what decides the rows."""

    seeds: dict[str, tuple[int, ...]]
    width: int = 1
    plan: tuple[Selection, ...] = ()


SCALES = {"tiny": Scale({"small": (0, 1), "large": (0,)})}


def declared(run=lambda cell, scale: {"accuracy": 0.25}, **changes):
    """A declaration with little in it."""
    fields = {
        "question": "Which is better?",
        "scales": SCALES,
        "networks": lambda scale: scale.seeds,
        "methods": METHODS,
        "run": run,
        "outcome": said("accuracy {accuracy:.1%}", accuracy="diverged"),
        "columns": (Column("accuracy", "accuracy, %", ".1f", 100.0),),
        "figures": {},
    }
    return Experiment(**{**fields, **changes})


def nothing(text):
    """For what is not asked here."""


def test_an_experiment_that_is_stopped_shows_what_it_has_and_continues(tmp_path):
    ran, told, drawn, out = [], [], [], tmp_path / "grid"

    def stopping(cell, scale):
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(cell)
        return {"accuracy": 0.25}

    figures = {"methods.png": lambda found, path: drawn.append([g.method for g in found])}
    experiment = declared(stopping, figures=figures)
    with pytest.raises(ValueError, match="unknown network 'smal'"):
        experiment.reproduce("tiny", out, Selection(networks=("smal",)), told.append)
    with pytest.raises(ValueError, match=r"unknown scale 'tine'. Did you mean 'tiny'\?"):
        experiment.reproduce("tine", out, Selection(), told.append)
    assert not out.exists()
    with pytest.raises(KeyboardInterrupt):
        experiment.reproduce("tiny", out, Selection(), told.append)
    assert [text.split(" (")[0] for text in told] == [
        "1/6  small, a, seed 0: accuracy 25.0%",
        "2/6  small, b + c, seed 0: accuracy 25.0%",
    ]
    assert drawn == [["a", "b + c"]]
    assert (out / "results.md").read_text().count("| small |") == 2

    others = []

    def rest(cell, scale):
        others.append(cell)
        return {"accuracy": 0.75}

    table = declared(rest, figures=figures).reproduce("tiny", out, Selection(), told.append)
    assert ran + others == Selection().cells(SCALES["tiny"].seeds, METHODS)
    assert len(drawn) == 2
    assert "| small | a | 0, 1 | 50.0 ± 35.4 |" in table.read_text()


def test_cells_that_do_not_apply_are_not_run(tmp_path):
    """And a choice of nothing but these is refused before anything is written."""
    experiment = declared(applies=lambda cell: cell.network == "small" or cell.method == "a")
    every = Selection().cells(SCALES["tiny"].seeds, METHODS)
    left_out = Cell("large", "b + c", 0)
    cells = experiment.cells(Selection(), SCALES["tiny"])
    assert cells == [cell for cell in every if cell != left_out]
    chosen = Selection(networks=("large",), methods=("b + c",))
    with pytest.raises(ValueError, match="there is nothing to run"):
        experiment.reproduce("tiny", tmp_path / "grid", chosen, nothing)
    assert not (tmp_path / "grid").exists()
    table = experiment.reproduce("tiny", tmp_path / "grid", Selection(), nothing).read_text()
    assert "| large | a |" in table and "| large | b + c |" not in table


def test_a_plan_is_run_in_its_order_unless_networks_or_methods_are_chosen(tmp_path):
    plan = (Selection(("large",), ("b + c",), (3,)), Selection(("small",), ("a",), (0,)))
    planned = {"tiny": dataclasses.replace(SCALES["tiny"], plan=plan)}
    for place, (chosen, cells) in enumerate(
        (
            (Selection(), [Cell("large", "b + c", 3), Cell("small", "a", 0)]),
            (Selection(seeds=(7,)), [Cell("large", "b + c", 7), Cell("small", "a", 7)]),
            (Selection(("large",), seeds=(7,)), [Cell("large", m, 7) for m in METHODS]),
        )
    ):
        ran = []

        def run(cell, scale, ran=ran):
            ran.append(cell)
            return {}

        declared(run, scales=planned).reproduce("tiny", tmp_path / str(place), chosen, nothing)
        assert ran == cells


def test_a_folder_holds_rows_of_one_configuration_and_grows_in_its_extent(tmp_path):
    out, scale = tmp_path / "grid", SCALES["tiny"]
    besides = {
        "extent": ("seeds", "plan"),
        "besides": lambda scale: {"rate": 0.1},
        "descriptions": lambda scale: {"methods": {"a": "one"}},
    }
    declared(**besides).reproduce("tiny", out, Selection(), nothing)
    config = json.loads((out / "config.json").read_text())
    assert config == {"width": 1, "rate": 0.1, "methods": {"a": "one"}}
    more = {"tiny": dataclasses.replace(scale, seeds={"small": (2,)})}
    table = declared(scales=more, **besides).reproduce("tiny", out, Selection(), nothing)
    assert "| small | a | 0, 1, 2 |" in table.read_text()
    wider = {"tiny": dataclasses.replace(scale, width=2)}
    with pytest.raises(RunFolderError, match=r"another configuration \(width differ\)"):
        declared(scales=wider, **besides).reproduce("tiny", out, Selection(), nothing)
    besides["descriptions"] = lambda scale: {"methods": {"a": "two", "b + c": "three"}}
    with pytest.raises(RunFolderError, match=r"\(methods of 'a' differ\)"):
        declared(**besides).reproduce("tiny", out, Selection(), nothing)


def test_tables_remarks_and_figures_are_of_what_was_found(tmp_path):
    """Figures of every network where a name asks for it, and a sentence where none can be drawn."""
    told = []

    def refusing(found, path):
        raise MissingMatplotlibError("figures need matplotlib")

    declared(
        tables={"width.md": lambda found: f"width {found.scale.width}", "none.md": lambda f: ""},
        shown="width.md",
        remarks=lambda found: [f"{len(found)} groups"],
        figures={
            "of-{network}.txt": lambda found, path: path.write_text(str(len(found))),
            "all.png": refusing,
        },
    )("tiny", tmp_path, Selection(networks=("small",)), told.append)
    assert told[-2:] == ["2 groups", "figures need matplotlib"]
    assert (tmp_path / "width.md").read_text() == "width 1"
    assert (tmp_path / "of-small.txt").read_text() == "2"
    assert not (tmp_path / "of-large.txt").exists() and not (tmp_path / "none.md").exists()


def test_what_is_said_of_a_row():
    told = said("{accuracy:.2%} after {steps}", accuracy="diverged after {steps}")
    assert told({"accuracy": 0.98765, "steps": 3}) == "98.77% after 3"
    assert told({"accuracy": None, "steps": 3}) == told({"steps": 3}) == "diverged after 3"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_declares_a_whole_grid(name):
    """It asks; columns and files are named once, and every scale has cells that its grid knows."""
    experiment = EXPERIMENTS[name]
    assert experiment.question.partition("\n\n")[0].strip().endswith("?")
    assert reproduction(name) == experiment.reproduce
    keys = [column.key for column in experiment.columns]
    assert len(set(keys)) == len(keys)
    files = [*experiment.tables, *experiment.figures]
    assert len({*files, "results.csv", "results.md"}) == len(files) + 2
    assert experiment.shown in ("results.md", *experiment.tables)
    for scale in experiment.scales.values():
        assert experiment.cells(Selection(), scale)
        for part in getattr(scale, "plan", ()):
            assert experiment.cells(part, scale)
        assert set(experiment.extent) - {"plan"} <= set(vars(scale))
