"""Sentences, tables and figures of diagnoses that were made by hand."""

import json
import sys

import matplotlib.image
import numpy as np
import pytest

from fathomx import report
from fathomx.report.diagnosis import COLUMNS, caption, rows

FIGURES = {
    "heat": report.energy_over_inference,
    "line": report.energy_beside_equilibrium,
}


def diagnosis(nodes=6, steps=4, **changes):
    """Energies that fall tenfold per node toward the input, and are flat at equilibrium."""
    energy = [10.0**-k for k in range(nodes - 1, -1, -1)]
    zero = [0.0] * (nodes - 1) + [1.0]
    content = {
        "inference": "state-descent",
        "labels": [f"hidden[{i}]" for i in range(nodes - 1)] + ["output"],
        "arrivals": list(range(nodes - 1, -1, -1)),
        "energy": energy,
        "imbalance": 1000.0,
        "decay": 0.1,
        "reached": nodes,
        "unsettled": {"median": 0.8, "max": 0.9},
        "error_rms": [0.5] * nodes,
        "cosine_to_backprop": 0.25,
        "cosine_to_backprop_per_node": [None, *[0.5] * (nodes - 2), 0.125],
        "equilibrium": {
            "energy": [0.02] * nodes,
            "imbalance": 1.0,
            "decay": 1.0,
            "reached": nodes,
            "unsettled": {"median": 1e-4, "max": 1e-3},
        },
        "energy_per_step": [zero] + [energy] * steps,
    }
    return content | changes


def write(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / "diagnosis.json").write_text(json.dumps(content))
    return folder


def said(**changes):
    return " ".join(report.findings(diagnosis(**changes)))


def test_the_disease_in_words():
    text = said()
    assert "nearer to the output holds 1e+03 times the energy" in text
    assert "by a factor of 0.1 (1 is balanced)" in text
    assert "reached all 6 nodes" in text
    assert "median example with 0.8 (the worst: 0.9)" in text and "far from equilibrium" in text
    assert "backprop's is 0.25; of a single node 0.125 or more (node 'output')" in text
    assert "1 node has no weights or no update" in text
    assert "imbalance of 1 and a factor of 1: it is inference" in text
    assert "disguise" not in text


def test_a_signal_that_does_not_arrive():
    text = said(imbalance=None, reached=2, energy=[0, 0, 0, 0, 0.1, 1])
    assert "No energy reached the half of the nodes nearer to the input." in text
    assert "reached 2 of 6 nodes" in text


def test_nodes_that_have_next_to_nothing_of_their_error_at_equilibrium():
    """Energies of 0.02 there: a thousandth of the error is an energy of 2e-8."""
    assert "less than a thousandth" not in said(energy=[0.03e-6] * 5 + [1])
    text = said(energy=[0.0, 0.01e-6, 0.03e-6, 0.019e-6, 0.1, 1])
    assert "3 nodes have less than a thousandth of the error" in text
    assert "('hidden[0]' to 'hidden[1]', 'hidden[3]'), so that" in text
    assert "take more inference steps" in text
    # Where there is no error at equilibrium either, none is lacking.
    there = {"energy": [0.0] * 5 + [0.02], "imbalance": None, "decay": None}
    assert "less than a thousandth" not in said(energy=[0.0] * 5 + [1], equilibrium=there)


def test_quarters_and_targets():
    assert "quarter" not in said() and "Target" not in said()
    new = {
        "cosine_to_backprop_per_quarter": [0.1, 0.2, 0.3, 0.4],
        "target_alignment": 0.5,
        "target_alignment_of_backprop": 0.75,
    }
    text = said(**new)
    assert "from the input up: 0.1, 0.2, 0.3, 0.4." in text
    assert "errors: 0.5, that of backprop's update 0.75" in text


@pytest.mark.parametrize(
    ("median", "words"),
    [
        (1.1, "further from equilibrium than it began; lower the activity rate"),
        (0.6, "far from equilibrium"),
        (0.1, "not there"),
        (1e-4, "at equilibrium"),
        (None, "unknown"),
    ],
)
def test_how_settled(median, words):
    assert words in said(unsettled={"median": median, "max": median})


@pytest.mark.parametrize(
    ("decay", "words"), [(0.5, "imbalanced even there"), (0.7, "it is inference")]
)
def test_what_equilibrium_says_of_the_network(decay, words):
    """Over five steps 0.5 makes a factor of 32, more than a decade, and 0.7 one of 6."""
    there = {"imbalance": 3.0, "decay": decay, "unsettled": {"median": 1e-4}}
    assert words in said(equilibrium=there)


def test_balanced_inference_is_not_blamed():
    text = said(decay=1.01, imbalance=1.0, cosine_to_backprop=0.995)
    assert "it is inference" not in text and "even there" not in text
    assert "backprop in disguise" in text


def test_divergence_comes_alone():
    (sentence,) = report.findings(diagnosis(energy=[None, None, 1, 1, 1, 1]))
    assert "diverged" in sentence and "2 nodes, the first 'hidden[0]'" in sentence


def test_what_was_not_recorded_is_not_claimed():
    text = " ".join(report.findings({"energy": [1.0], "reached": 1}))
    assert text.count("unknown") == 3
    assert "diverged" in " ".join(report.findings({}))


def test_rows_hold_the_numbers_of_the_nodes():
    table = rows(diagnosis(nodes=3, energy=[0.0, 0.25, 0.75]))
    assert len(COLUMNS) == 7
    assert table == [
        ("hidden[0]", "2", "0.0e+00", "0.0%", "2.0e-02", "5.0e-01", "-"),
        ("hidden[1]", "1", "2.5e-01", "25.0%", "2.0e-02", "5.0e-01", "0.500"),
        ("output", "0", "7.5e-01", "75.0%", "2.0e-02", "5.0e-01", "0.125"),
    ]
    assert caption(diagnosis(nodes=3)).startswith("3 nodes, ")


def test_a_small_share_is_not_called_zero():
    assert [row[3] for row in rows(diagnosis(nodes=2, energy=[1e-9, 1.0]))] == ["<0.1%", "100.0%"]


@pytest.mark.parametrize(
    ("nodes", "stride", "words"),
    [(24, 1, "24 nodes"), (25, 2, "2nd of 25"), (128, 6, "6th of 128")],
)
def test_many_nodes_are_thinned_out_from_the_output(nodes, stride, words):
    content = diagnosis(nodes=nodes)
    shown = [row[0] for row in rows(content)]
    assert len(shown) <= 24
    assert shown == content["labels"][::-1][::stride][::-1]
    assert words in caption(content)


def check_png(path):
    assert path.read_bytes().startswith(b"\x89PNG")
    image = matplotlib.image.imread(path)
    assert image.shape[1] == 900
    assert image[..., :3].std() > 0.02
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    "content",
    [
        diagnosis(),
        diagnosis(nodes=2, steps=1),
        diagnosis(nodes=128, steps=500),
        diagnosis(inference="gauss-newton", arrivals=[]),
        diagnosis(energy=[None] * 6, energy_per_step=[[None] * 6] * 3, equilibrium={}),
        diagnosis(energy=[0.0] * 6, energy_per_step=[[0.0] * 6] * 3),
        {},
    ],
    ids=["typical", "smallest", "large", "no arrivals", "not finite", "zeros", "empty"],
)
def test_figures_of_whatever_was_found(tmp_path, name, content):
    path = tmp_path / "figures" / "figure.png"
    assert FIGURES[name](write(tmp_path / "run", content), path) == path
    check_png(path)


@pytest.mark.parametrize("name", FIGURES)
def test_missing_matplotlib_is_explained(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(report.MissingMatplotlibError, match=r"pip install fathomx\[figures\]"):
        FIGURES[name](write(tmp_path / "run", diagnosis()), tmp_path / "f.png")


def test_no_diagnosis_and_a_broken_one_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no diagnosis\.json"):
        report.energy_over_inference(tmp_path, tmp_path / "f.png")
    (tmp_path / "diagnosis.json").write_text("{")
    with pytest.raises(ValueError, match=r"diagnosis\.json is damaged: it must be JSON"):
        report.read_diagnosis(tmp_path)
    (tmp_path / "diagnosis.json").write_text("[]")
    with pytest.raises(ValueError, match="must be an object with named values"):
        report.read_diagnosis(tmp_path)


def test_arrivals_are_where_the_heat_map_says(tmp_path, monkeypatch):
    """The dashed line passes through (arrival step, node) and ends with the steps."""
    from matplotlib.axes import Axes

    drawn = []
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, **style: drawn.append((x, y)))
    content = diagnosis(nodes=6, steps=3)
    report.energy_over_inference(write(tmp_path / "run", content), tmp_path / "f.png")
    ((x, y),) = drawn
    np.testing.assert_array_equal(x, [np.nan, np.nan, 3, 2, 1, 0])
    np.testing.assert_array_equal(y, [1, 2, 3, 4, 5, 6])
