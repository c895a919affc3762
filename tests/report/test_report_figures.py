"""Figures are drawn from hand-made run folders, whatever these hold."""

import json
import sys

import matplotlib.image
import numpy as np
import pytest

from fathomx import report
from fathomx.records.predictions import Predictions, write_predictions
from fathomx.records.run_files import RunFiles
from fathomx.report import figures
from fathomx.training import RunFolderError


def steps(epoch, step, values, **others):
    """A record of steps with the same values for every metric unless given."""
    names = ("loss", "accuracy", "unsettled_median", "unsettled_max", "strength")
    record = {"kind": "steps", "epoch": epoch, "step": step, "seconds": 0.5}
    record |= {name: values for name in (*names, "output_precision")}
    return record | others


def epoch(number, count, per_node, **others):
    """A record of an epoch with the same values for every metric per node unless given."""
    record = {"kind": "epoch", "epoch": number, "steps": number * count}
    record |= {"validation_accuracy": 0.9, "cosine_to_backprop": 0.5, "imbalance": 0.5}
    record |= {name: per_node for name in ("cosine_to_backprop_per_node", "energy_per_node")}
    return record | others


def run_folder(folder, records, energy=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    if energy is not None:
        (folder / "inference.json").write_text(json.dumps(energy))
    return folder


def energies(nodes, rows):
    first = [0.0] * (nodes - 1) + [0.5]
    later = [list(np.geomspace(1e-9, 1e-2, nodes) * (row + 1)) for row in range(rows - 1)]
    return {"energy": [first, *later]}


def typical(folder, nodes=64, epochs=15, per_epoch=20, rows=2):
    noise = np.random.default_rng(0)
    records = []
    for number in range(1, epochs + 1):
        for last in range(10, per_epoch + 1, 10):
            records.append(steps(number, last, noise.uniform(0.01, 1, 10).tolist()))
        newer = {
            "cosine_to_backprop_per_quarter": noise.uniform(-1, 1, 4).tolist(),
            "target_alignment": noise.uniform(),
            "target_alignment_of_backprop": noise.uniform(),
        }
        per_node = noise.uniform(-1, 1, nodes).tolist()
        records.append(epoch(number, per_epoch, per_node, **(newer if nodes != 5 else {})))
    energy = {"before": energies(nodes, rows), "after": energies(nodes, rows)}
    return run_folder(folder, records, energy)


ALL = {
    "curves": lambda folder, path: report.learning_curves({"run": folder}, path),
    "energy": report.energy_per_node,
    "training": report.energy_over_training,
    "alignment": report.alignment_per_node,
    "strength": report.strength_and_settledness,
}


def check_png(path):
    assert path.read_bytes().startswith(b"\x89PNG")
    image = matplotlib.image.imread(path)
    assert image.shape[1] == 900
    assert 300 <= image.shape[0] <= 1200
    assert image[..., :3].std() > 0.02
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "shape", [(64, 15, 20, 2), (128, 1, 800, 60), (1, 1, 10, 2), (5, 2, 10, 6), (5, 2, 10, 7)]
)
def test_every_figure_of_every_shape_is_a_png_without_leftovers(tmp_path, name, shape):
    folder = typical(tmp_path / "run", *shape)
    path = tmp_path / "figures" / "new" / "figure.png"
    assert ALL[name](folder, path) == path
    check_png(path)


def no_values(folder):
    empty = {"before": {"energy": [[None, None]]}, "after": {"energy": [[None, None]]}}
    nothing = {"cosine_to_backprop": None, "imbalance": None}
    records = [steps(1, 3, [None] * 3), epoch(1, 3, [None] * 4, **nothing)]
    return run_folder(folder, records, empty)


def two_epochs_of_nulls(folder):
    folder = no_values(folder)
    records = RunFiles(folder).records
    return run_folder(folder, [*records, *({**r, "epoch": 2} for r in records)])


def nothing_yet(folder):
    return run_folder(folder, [], {"labels": [], "before": {"energy": []}})


def zeros(folder):
    flat = {"energy": [[0.0, 0.0]] * 9}
    records = [steps(1, 3, [0.0] * 3), epoch(1, 3, [0.0] * 4, validation_accuracy=None)]
    return run_folder(folder, records, {"before": flat, "after": flat})


def two_epochs_of_zeros(folder):
    records = [epoch(n, 3, [0.0] * 4, imbalance=0.0) for n in (1, 2)]
    return run_folder(folder, records, {"before": {}, "after": {}})


def constants(folder):
    flat = {"energy": [[0.0, 0.1], [0.1, 0.1]] * 9}
    records = [steps(n, 30, [0.1] * 30) for n in (1, 2)]
    records += [epoch(n, 30, [1.0, None]) for n in (1, 2)]
    return run_folder(folder, records, {"before": flat, "after": {"energy": [[0.0, 0.1]] * 3}})


def one_step(folder):
    few = {"energy": [[0.0, 0.5], [1e-300, 0.4]]}
    return run_folder(folder, [steps(1, 1, [0.3])], {"before": few, "after": few})


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "make",
    [no_values, two_epochs_of_nulls, nothing_yet, zeros, two_epochs_of_zeros, constants, one_step],
)
def test_degenerate_runs_are_drawn_without_warnings(tmp_path, name, make):
    path = tmp_path / "figures" / "figure.png"
    ALL[name](make(tmp_path / "run"), path)
    check_png(path)


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws some records, energies over training unless told; returns the axes as they are."""

    def draw(records, figure=report.energy_over_training):
        kept = []
        monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure) or path)
        figure(run_folder(tmp_path / "run", records), tmp_path / "f.png")
        return kept[0].axes

    return draw


def test_energies_over_training_are_those_of_the_file(drawn):
    table = [[1e-3, 1e-2, 0.1, 1.0], [0.0, None, 0.2, 2.0], [1e-4, 1e-2, 0.3, 3.0]]
    records = [epoch(n, 3, row, imbalance=10.0**n) for n, row in enumerate(table, 4)]
    top, bottom, bar = drawn(records)
    (image,) = top.get_images()
    expected = np.array([[1e-3, np.nan, 1e-4], [1e-2, np.nan, 1e-2], [0.1, 0.2, 0.3], [1, 2, 3]])
    np.testing.assert_allclose(image.get_array().filled(np.nan), np.log10(expected))
    assert image.get_extent() == [3.5, 6.5, 0.5, 4.5]
    assert image.get_clim() == pytest.approx((-4, np.log10(3)))
    assert image.origin == "lower"
    assert image.colorbar.extend == "neither"
    assert "log10" in bar.get_ylabel()
    line, balanced = bottom.get_lines()
    assert line.get_xdata().tolist() == [4, 5, 6]
    assert line.get_ydata().tolist() == [1e4, 1e5, 1e6]
    assert set(balanced.get_ydata()) == {1}
    assert bottom.get_yscale() == "log"
    assert "1e+06" in bottom.get_title()


def test_energies_over_training_are_colored_over_twelve_decades_at_most(drawn):
    top, *_ = drawn([epoch(n, 3, [1e-30, 1e-5, 0.1]) for n in (1, 2)])
    (image,) = top.get_images()
    assert image.get_clim() == pytest.approx((-13, -1))
    assert image.colorbar.extend == "min"


def test_epochs_without_energies_or_imbalance_are_left_blank(drawn):
    old = {"energy_per_node": None, "imbalance": None}
    there = [epoch(n, 3, [0.1, 0.2], imbalance=2.0) for n in (2, 3)]
    infinite = epoch(4, 3, [0.0, 0.2], imbalance=None)
    top, bottom, _ = drawn([epoch(1, 3, [], **old), *there, infinite])
    (image,) = top.get_images()
    blank = [[True, False, False, True], [True, False, False, False]]
    assert np.ma.getmaskarray(image.get_array()).tolist() == blank
    np.testing.assert_array_equal(bottom.get_lines()[0].get_ydata(), [np.nan, 2, 2, np.nan])
    assert bottom.get_title().endswith("not finite, or not recorded")


@pytest.mark.parametrize(
    ("imbalance", "words"),
    [(3.25, ": 3.25"), (0.0, ": 0"), (None, ": not finite, or not recorded")],
)
def test_the_energies_of_a_single_epoch_are_one_line(drawn, imbalance, words):
    (axes,) = drawn([epoch(1, 3, [1e-3, 0.0, 0.1, 1.0], imbalance=imbalance)])
    (line,) = axes.get_lines()
    assert line.get_xdata().tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(line.get_ydata(), [1e-3, np.nan, 0.1, 1])
    assert axes.get_yscale() == "log"
    assert axes.get_title().endswith(words)


def test_several_runs_share_the_axes_whatever_their_names(tmp_path):
    folder = typical(tmp_path / "run", 4, 2)
    names = ["$x_1$", "_hidden", "a" * 200, *"bcdefgh"]
    path = tmp_path / "figures" / "figure.png"
    report.learning_curves({name: folder for name in names}, path)
    check_png(path)


def test_a_figure_replaces_an_older_one(tmp_path):
    folder = typical(tmp_path / "run", 4, 2)
    path = tmp_path / "figures" / "figure.png"
    path.parent.mkdir()
    path.write_text("old")
    report.alignment_per_node(folder, path)
    check_png(path)


def test_a_failed_figure_leaves_the_older_one(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def fail(self, target, **options):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    path = tmp_path / "figures" / "figure.png"
    path.parent.mkdir()
    path.write_text("old")
    with pytest.raises(RunFolderError, match="cannot be written: disk full"):
        report.alignment_per_node(typical(tmp_path / "run", 4, 2), path)
    assert [p.read_text() for p in path.parent.iterdir()] == ["old"]


def test_no_runs_and_no_run_folder_and_no_energies_are_named(tmp_path):
    with pytest.raises(ValueError, match="runs is empty"):
        report.learning_curves({}, tmp_path / "f.png")
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        report.alignment_per_node(tmp_path, tmp_path / "f.png")
    with pytest.raises(FileNotFoundError, match=r"no inference\.json"):
        report.energy_per_node(run_folder(tmp_path / "run", []), tmp_path / "f.png")


def test_missing_matplotlib_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(report.MissingMatplotlibError, match=r"pip install fathomx\[figures\]"):
        report.alignment_per_node(typical(tmp_path / "run", 4, 1), tmp_path / "f.png")


def test_pyplot_is_not_touched(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    folder = typical(tmp_path / "run", 4, 2)
    for name, draw in ALL.items():
        draw(folder, tmp_path / f"{name}.png")
    assert "matplotlib.pyplot" not in sys.modules


def test_steps_are_counted_over_the_run_and_later_records_win(tmp_path):
    records = [
        steps(1, 2, [1.0, 2.0]),
        steps(1, 3, [3.0]),
        steps(2, 2, [4.0, 99.0]),
        steps(2, 2, [5.0]),
        steps(2, 3, [None]),
    ]
    x, y = RunFiles(run_folder(tmp_path / "run", records)).per_step("loss")
    assert x.tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(y, [1, 2, 3, 4, 5, np.nan])


def test_epochs_are_sorted_and_later_records_win(tmp_path):
    records = [epoch(2, 3, [0.1]), epoch(1, 3, [0.2]), epoch(2, 3, [0.3])]
    run = RunFiles(run_folder(tmp_path / "run", records))
    assert [r["cosine_to_backprop_per_node"] for r in run.epochs] == [[0.2], [0.3]]


def test_a_line_cut_short_is_skipped_and_a_broken_file_is_named(tmp_path):
    folder = run_folder(tmp_path / "run", [steps(1, 1, [0.3])])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "steps", "epo')
    (folder / "summary.json").write_text("{")
    assert len(RunFiles(folder).records) == 1
    with pytest.raises(ValueError, match=r"summary\.json is damaged: it must be JSON"):
        _ = RunFiles(folder).summary
    (folder / "summary.json").write_text("[]")
    with pytest.raises(ValueError, match="must be an object with named values"):
        _ = RunFiles(folder).summary


def test_quarters_and_targets_are_drawn_where_they_were_recorded(drawn):
    new = {"target_alignment": 0.5, "target_alignment_of_backprop": 0.75}
    records = [
        epoch(1, 3, [0.1] * 8),
        epoch(2, 3, [0.1] * 8, cosine_to_backprop_per_quarter=[0.0, None, 0.5, 1.0], **new),
        epoch(3, 3, [0.1] * 8, cosine_to_backprop_per_quarter=[0.2, None, 0.6, 1.0], **new),
    ]
    top, targets, *_ = drawn(records, report.alignment_per_node)
    first, third, last, whole = (each.get_ydata() for each in top.get_lines())
    assert whole.tolist() == [0.5] * 3
    # All that is drawn is within the axes, and all of the way to 1.
    assert top.get_ylim()[0] < 0 and top.get_ylim()[1] > 1
    np.testing.assert_array_equal(first, [np.nan, 0.0, 0.2])
    np.testing.assert_array_equal(third, [np.nan, 0.5, 0.6])
    np.testing.assert_array_equal(last, [np.nan, 1, 1])
    rule, told = (each.get_ydata() for each in targets.get_lines())
    np.testing.assert_array_equal(rule, [np.nan, 0.5, 0.5])
    np.testing.assert_array_equal(told, [np.nan, 0.75, 0.75])
    assert targets.get_title().endswith("0.500, of backprop 0.750")


def test_a_run_of_an_earlier_version_has_no_quarters_and_no_targets(drawn):
    top, bottom, *_ = drawn([epoch(n, 3, [0.1] * 8) for n in (1, 2)], report.alignment_per_node)
    assert len(top.get_lines()) == 1 and not top.figure.legends
    assert bottom.get_title().startswith("Each node")


def test_the_quarters_of_a_single_epoch_span_their_nodes(drawn):
    quarters = [0.0, 0.25, 0.5, 1.0]
    records = [epoch(1, 3, [0.1] * 9, cosine_to_backprop_per_quarter=quarters)]
    (axes,) = drawn(records, report.alignment_per_node)
    spans = [(*each.get_xdata(), each.get_ydata()[0]) for each in axes.get_lines()[2:6]]
    assert spans == [(0.5, 3.5, 0.0), (3.5, 5.5, 0.25), (5.5, 7.5, 0.5), (7.5, 9.5, 1.0)]


def test_the_metric_of_a_regression_is_drawn(drawn):
    record = epoch(1, 3, [0.1] * 4, validation_loss=0.5, validation_rmse=54.0)
    later = epoch(2, 3, [0.1] * 4, validation_loss=0.4, validation_rmse=51.0)
    records = [{k: v for k, v in r.items() if k != "validation_accuracy"} for r in (record, later)]
    _, axes = drawn(
        [steps(1, 3, [0.5] * 3), *records],
        lambda folder, path: report.learning_curves({"run": folder}, path),
    )
    assert axes.get_title() == "RMSE on the validation set"
    assert axes.get_ylabel() == "RMSE (lower is better)"
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_ydata(), [54, 51])


def test_predictions_are_drawn_beside_what_is_true(drawn, tmp_path):
    true, said = np.array([[1.0, 5.0], [3.0, 6.0]]), np.array([[2.0, 5.0], [3.0, 8.0]])

    def figure(folder, path):
        write_predictions(folder, Predictions("validation", ("price", "days"), true, said))
        report.predictions(folder, path)

    panels = drawn([epoch(1, 3, [0.1])], figure)
    assert panels[0].get_title() == "price (RMSE 0.7071)"
    for column in range(2):
        beside, off = (panels[column + 2 * row].collections[0].get_offsets() for row in (0, 1))
        np.testing.assert_array_equal(beside, np.stack([said[:, column], true[:, column]], axis=1))
        np.testing.assert_array_equal(off[:, 1], true[:, column] - said[:, column])
    (tmp_path / "run" / "predictions.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no predictions\.json"):
        report.predictions(tmp_path / "run", tmp_path / "f.png")
