"""Verdicts say what the numbers show and no more; pages hold the numbers, escaped."""

import html
import json
import re
import sys

import pytest

from fathomx.report import verdict, write_comparison, write_page

CONFIG = {
    "data": "digits",
    "model": "residual-mlp",
    "depth": 4,
    "width": 16,
    "activation": "gelu",
    "learning": "equilibrium",
    "output_precision": None,
    "batch_size": 64,
    "learning_rate": 0.01,
    "strength": 0.1,
    "seed": 0,
    "command": "fathomx train --data digits --depth 4",
}

SUMMARY = {
    "test_accuracy": 0.9583,
    "test_loss": 0.031,
    "validation_accuracy": 0.9472,
    "unsettled": {"median": 0.04321, "max": 0.2468},
    "cosine_to_backprop": 0.8765,
    "cosine_to_backprop_per_node": [0.7, None, 0.8, 0.9],
    "pc_strength": 0.1,
    "output_precision": 0.0321,
    "train_seconds": 61.25,
    "first_step_seconds": 3.411,
    "step_seconds_median": 0.0412,
    "depth": 4,
    "parameters": 1056896,
    "seed": 0,
    "versions": {"jax": "0.6.2"},
}

BACKPROP = SUMMARY | {
    "unsettled": {"median": None, "max": None},
    "cosine_to_backprop": 1.0,
    "pc_strength": 7.7,
    "output_precision": None,
    "step_seconds_median": 0.0103,
}


def said(config=None, summary=None, history=()):
    return " ".join(verdict(CONFIG | (config or {}), SUMMARY | (summary or {}), list(history)))


def test_accuracy_is_said():
    assert "Test accuracy: 95.83% (94.72% in validation)." in said()
    assert "Test accuracy: 95.83%." in said(summary={"validation_accuracy": None})
    assert "The test accuracy is unknown." in said(summary={"test_accuracy": None})


def test_the_metrics_in_force_are_said():
    rest = {name: value for name, value in SUMMARY.items() if "accuracy" not in name}
    scores = {"test_rmse": 54.2178, "validation_rmse": 52.0, "test_r2": 0.45, "test_own": 3.0}
    text = " ".join(verdict(CONFIG, rest | scores, []))
    assert "Test RMSE: 54.22 (52 in validation), R2: 0.45, own: 3." in text
    labels = {"test_label_accuracy": 0.9, "test_exact_match": 0.5}
    text = " ".join(verdict(CONFIG, rest | labels, []))
    assert "Test label accuracy: 90.00%, exact match: 50.00%." in text
    assert "accuracy" not in " ".join(verdict(CONFIG, rest, []))


@pytest.mark.parametrize(
    ("median", "expected"),
    [
        (0.0, "reached equilibrium"),
        (1e-3, "reached equilibrium"),
        (1.001e-3, "without quite reaching it"),
        (0.5, "without quite reaching it"),
        (0.5001, "far from equilibrium, so the results say little about equilibrium"),
        (1.0, "far from equilibrium"),
        (1.5, "inference moved away from equilibrium, so the results say nothing"),
        (None, "How settled inference was is unknown"),
        (float("nan"), "How settled inference was is unknown"),
    ],
)
def test_settledness_is_judged_by_the_median(median, expected):
    text = said(summary={"unsettled": {"median": median, "max": 2.0}})
    assert expected in text
    assert ("far from equilibrium" in text) == ("far" in expected)


def test_settledness_may_be_missing_altogether():
    assert "is unknown" in said(summary={"unsettled": None})
    assert "certified" not in said(summary={"certified": {"steps": 54, "of": 54}})
    text = said(summary={"certified": {"steps": 55, "of": 859}})
    assert "In the last epoch (55 of its 859 steps were certified), inference" in text
    assert "worst example" not in said(summary={"unsettled": {"median": 0.1, "max": None}})


def test_kinks_are_named_where_they_matter():
    assert "kinks" in said({"activation": "relu"})
    assert "kinks" not in said({"activation": "gelu"})
    assert "kinks" not in said({"activation": "relu"}, {"unsettled": {"median": 1e-4, "max": 1}})


@pytest.mark.parametrize(
    ("cosine", "expected"),
    [
        (1.0, "close to backprop in disguise"),
        (0.9901, "close to backprop in disguise"),
        (0.99, "a different update, though"),
        (0.01, "a different update, though"),
        (0.0, "does not follow backprop's direction"),
        (-0.4, "does not follow backprop's direction"),
        (None, "is unknown"),
    ],
)
def test_the_cosine_is_explained(cosine, expected):
    text = said(summary={"cosine_to_backprop": cosine})
    assert expected in text
    assert ("disguise" in text) == ("disguise" in expected)


def test_the_lowest_node_is_named_from_the_last_epoch():
    ends = [
        {"cosine_to_backprop_per_node": [-1.0, 0.2, 0.3]},
        {"cosine_to_backprop_per_node": [None, 0.62, 0.41]},
    ]
    assert "lowest cosine of a single node was 0.41, at node 3 of 3" in said(history=ends)
    assert "single node" not in said(history=[{"cosine_to_backprop_per_node": [None, None]}])
    assert "single node" not in said(history=[{"cosine_to_backprop_per_node": None}])


def test_quarters_and_targets_are_said_where_they_were_recorded():
    text = said()
    assert "quarter" not in text and "Target alignment" not in text
    new = {
        "cosine_to_backprop_per_quarter": [0.0, None, 0.5, 0.9876],
        "target_alignment": 0.25,
        "target_alignment_of_backprop": 0.125,
    }
    text = said(summary=new)
    assert "by quarter of the depth, from the input up: 0, none learns, 0.5, 0.988." in text
    assert "errors: 0.25, that of backprop's update 0.125 (1 is straight to the targets)." in text
    assert "quarter" not in said(summary={"cosine_to_backprop_per_quarter": [None] * 4})
    assert "errors: 0.25 (1 is" in said(summary={"target_alignment": 0.25})


@pytest.mark.parametrize(("final", "stiffened"), [(0.5, False), (0.51, True), (0.02, False)])
def test_a_fixed_precision_stiffens_beyond_five_times(final, stiffened):
    history = [{"strength": [None, 0.1, 0.2]}, {"strength": [0.3]}]
    text = said({"output_precision": 1.0}, {"pc_strength": final}, history)
    assert f"fixed at 1{' and' if stiffened else ';'} the strength went from 0.1" in text
    assert ("stiffened" in text) == stiffened
    assert "held" not in text


def test_growth_is_measured_from_the_first_epoch_without_steps():
    history = [{"epoch": 3, "pc_strength": 0.1}, {"epoch": 4, "pc_strength": 0.9}]
    text = said({"output_precision": 1.0}, {"pc_strength": 0.9}, history)
    assert "from 0.1 after epoch 3 to 0.9, 9 times as much: the network stiffened" in text


def test_growth_is_unknown_with_one_epoch_and_strength_with_none():
    one = [{"epoch": 1, "pc_strength": 0.9}]
    assert "from where is unknown" in said({"output_precision": 1.0}, {"pc_strength": 0.9}, one)
    assert "The strength is unknown." in said(summary={"pc_strength": None})


def test_a_held_strength_is_checked():
    held = [{"strength": [0.1, 0.1], "output_precision": [0.5, 0.25]}]
    text = said(history=held)
    assert "held at 0.1 by choosing the output precision of every batch" in text
    assert "which went from 0.5 to 0.25" in text
    assert "was not held" in said(summary={"pc_strength": 0.02})
    strayed = [{"strength": [0.03, 0.1]}]
    assert "ranged from 0.03 to 0.1 on the way" in said(history=strayed)
    assert "The strength ended at 0.1." in said({"strength": None})


COURSE = {"strength": [0.1, 0.1], "output_precision": [0.4, None]}


@pytest.mark.parametrize(
    ("last", "config", "summary", "expected"),
    [
        (0.001, {}, {}, "became 400 times more sensitive, which a held strength does not show and"),
        (0.001, {"learning": "equilibrium-errors"}, {}, "more sensitive, which a held * show."),
        (0.001, {"model": "decoder"}, {}, "became 400 times more sensitive, * show."),
        (0.001, {"inference": "langevin"}, {}, "became 400 times more sensitive, * show."),
        (0.001, {}, {"unsettled": {"median": 0.6, "max": 0.9}}, "more sensitive, * show."),
        (8e-13, {}, {}, "became 5.0e+11 times more sensitive"),
        (80.0, {}, {}, "became 200 times less sensitive, which a held strength does not show."),
        (80.0, {}, {"nudge_stability": 0.4}, "less sensitive, which a held * show."),
        (80.0, {}, {"nudge_stability": 0.6}, "does not show and large nudges reward"),
        (0.004, {}, {}, None),
        (40.0, {}, {}, None),
        (0.001, {}, {"best_epoch": 1}, None),
        (0.001, {"strength": None, "output_precision": 1.0}, {}, None),
    ],
)
def test_what_a_held_strength_hides_is_said(last, config, summary, expected):
    history = [{"epoch": 1, **COURSE}, {"epoch": 2, "output_precision": [last]}]
    text = said({"learning": "equilibrium", **config}, summary, history)
    assert ("sensitive, which a held" in text) == (expected is not None)
    if expected is not None:
        pattern = re.escape(expected).replace(re.escape("*"), ".*")
        assert re.search(pattern, text), text


@pytest.mark.parametrize(
    ("nudge", "expected"),
    [
        (None, None),
        (0.5, None),
        (0.8, "teach the largest errors 2.78 times as strongly as backprop"),
        (1.0, "had no equilibrium at the end (nudge stability 1, which must stay below 1)"),
    ],
)
def test_large_nudges_are_told(nudge, expected):
    text = said({"learning": "equilibrium-propagation"}, {"nudge_stability": nudge})
    assert ("nudge" in text) == (expected is not None)
    assert expected is None or expected in text


def test_backprop_has_no_inference_and_nothing_more_is_said():
    sentences = verdict(CONFIG | {"learning": "backprop"}, BACKPROP, [])
    assert len(sentences) == 2
    assert "There was no inference" in sentences[1]
    assert "7.7" not in " ".join(sentences)


def test_without_a_summary_there_is_no_verdict():
    assert "has not finished" in verdict(CONFIG, {}, [])[0]


def test_verdict_leaves_its_arguments_alone():
    history = [{"strength": [0.1], "cosine_to_backprop_per_node": [0.1, 0.2]}]
    before = json.dumps([CONFIG, SUMMARY, history])
    verdict(CONFIG, SUMMARY, history)
    assert json.dumps([CONFIG, SUMMARY, history]) == before


def run_folder(folder, config=None, summary=None, energy=None):
    """`energy`: what the record of the epoch holds about it; that of an older run is nothing."""
    folder.mkdir()
    config = CONFIG | (config or {})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text(json.dumps(SUMMARY if summary is None else summary))
    none = config["learning"] == "backprop"
    values = [None, None] if none else [0.1, 0.1]
    record = {"kind": "steps", "epoch": 1, "step": 2, "loss": [0.5, 0.4], "accuracy": [0.1, 0.2]}
    names = ("unsettled_median", "unsettled_max", "strength", "output_precision")
    record |= {name: values for name in names}
    end = {"kind": "epoch", "epoch": 1, "steps": 2, **SUMMARY, **(energy or {})}
    (folder / "metrics.jsonl").write_text(f"{json.dumps(record)}\n{json.dumps(end)}\n")
    if not none:
        energy = {"energy": [[0.0, 0.0, 0.0, 0.5], [0.1, 0.1, 0.1, 0.2]]}
        content = {"labels": [], "solver": "Exact()", "before": energy, "after": energy}
        (folder / "inference.json").write_text(json.dumps(content))
    return folder


def check_page(path):
    """Tags are balanced, links are relative and lead somewhere, nothing temporary is left."""
    text = path.read_text(encoding="utf-8")
    for tag in ("table", "figure", "section", "tr", "td", "p", "body", "html", "style"):
        assert len(re.findall(f"<{tag}[ >]", text)) == text.count(f"</{tag}>"), tag
    for link in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert (path.parent / link).is_file()
        assert link.startswith("figures/")
    assert "<script" not in text
    assert "http" not in text
    assert "prefers-color-scheme: dark" in text
    assert str(path.parent) not in text
    assert not [p for p in path.parent.rglob("*") if p.name.endswith(".tmp")]
    return text


def test_a_page_holds_verdict_numbers_command_and_figures(tmp_path):
    folder = run_folder(tmp_path / "run")
    path = write_page(folder)
    assert path == folder / "index.html"
    text = check_page(path)
    for number in ("95.83%", "94.72%", "0.04321", "0.2468", "0.8765", "0.0321", "61.25"):
        assert number in text
    for number in ("3.411", "0.0412", "1,056,896", "0.6.2", "4 values from 0.7 to 0.9"):
        assert number in text
    assert "fathomx train --data digits --depth 4" in text
    history = [{"strength": [0.1] * 2, "output_precision": [0.1] * 2}, SUMMARY]
    for sentence in verdict(CONFIG, SUMMARY, history):
        assert html.escape(sentence) in text
    assert len(list((folder / "figures").iterdir())) == text.count("<img ") == 4


def test_a_page_can_be_written_again(tmp_path):
    folder = run_folder(tmp_path / "run")
    first = write_page(folder).read_bytes()
    assert write_page(folder).read_bytes() == first


def test_everything_in_a_page_is_escaped(tmp_path):
    evil = "<script>alert('&\"')</script>"
    config = {"data": evil, "command": evil, "model": evil, "learning": evil, evil: evil}
    folder = run_folder(tmp_path / "run", config, SUMMARY | {evil: evil, "versions": {evil: evil}})
    assert html.escape(evil) in check_page(write_page(folder))
    text = check_page(write_comparison(tmp_path / "both", {evil: folder, "b": folder}))
    assert html.escape(evil) in text


def test_a_backprop_page_shows_only_what_it_has(tmp_path):
    folder = run_folder(tmp_path / "run", {"learning": "backprop"}, BACKPROP)
    text = check_page(write_page(folder))
    assert text.count("<img ") == 1
    assert "There was no inference" in text


@pytest.mark.parametrize(
    ("energy", "shown"),
    [
        ({}, False),
        ({"energy_per_node": None, "imbalance": None}, False),
        ({"energy_per_node": [0.1, 0.1, 0.1, 0.5], "imbalance": None}, True),
        ({"energy_per_node": [0.1, 0.1, 0.1, 0.5], "imbalance": 3.0}, True),
    ],
)
def test_energies_over_training_are_shown_where_they_were_recorded(tmp_path, energy, shown):
    folder = run_folder(tmp_path / "run", energy=energy)
    text = check_page(write_page(folder))
    assert ("figures/energy_over_training.png" in text) == shown
    assert (folder / "figures" / "energy_over_training.png").is_file() == shown
    said = "the half of the nodes nearer to the output over that of the other half"
    # In the caption and in the words for who does not see the figure.
    assert text.count(said) == 2 * shown


def test_an_unfinished_run_has_a_page(tmp_path):
    folder = run_folder(tmp_path / "run")
    (folder / "summary.json").unlink()
    text = check_page(write_page(folder))
    assert "has not finished" in text
    assert "Nothing was recorded." in text


def test_a_page_without_matplotlib_says_how_to_get_figures(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = check_page(write_page(run_folder(tmp_path / "run")))
    assert text.count("pip install fathomx[figures]") == 1
    assert "<img" not in text
    assert "95.83%" in text


def rows_of(text):
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', text)
    return {name: re.findall("<td>(.*?)</td>", cells) for name, cells in rows}


def test_a_comparison_sets_runs_side_by_side(tmp_path):
    runs = {
        "pc": run_folder(tmp_path / "pc"),
        "deep": run_folder(tmp_path / "deep", {"depth": 8}),
        "bp": run_folder(tmp_path / "bp", {"learning": "backprop"}, BACKPROP),
        "unfinished": run_folder(tmp_path / "unfinished", None, {}),
    }
    text = check_page(write_comparison(tmp_path / "all", runs))
    rows = rows_of(text)
    inference = ["0.04321", "0.2468", "0.8765", "0.1"]
    assert rows["pc"] == ["95.83%", "94.72%", *inference, "0.0412", "4", "61.25"]
    assert rows["deep"][7] == "no match"
    assert rows["bp"][2:6] == ["no inference", "no inference", "is backprop", "no inference"]
    assert rows["bp"][7] == "1"
    assert set(rows["unfinished"]) == {"not recorded", "no match"}
    assert rows["depth"] == ["4", "8", "4", "4"]
    assert rows["learning"] == ["equilibrium", "equilibrium", "backprop", "equilibrium"]
    assert "width" not in rows
    assert (tmp_path / "all" / "figures" / "learning_curves.png").is_file()


def test_a_comparison_needs_runs(tmp_path):
    with pytest.raises(ValueError, match="runs is empty"):
        write_comparison(tmp_path, {})
    text = check_page(write_comparison(tmp_path / "one", {"only": run_folder(tmp_path / "run")}))
    assert "Where the runs differ" not in text
