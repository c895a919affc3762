"""`fathomx reproduce deeper-pcns` on a few random images: every row, file and sentence."""

import csv
import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

import fathomx as fx
from fathomx.command_line import commands as cli
from fathomx.experiments.deeper_pcns import comparison
from fathomx.experiments.deeper_pcns.comparison import METHODS, RELEASED, applies
from fathomx.experiments.deeper_pcns.methods import Steps
from fathomx.experiments.deeper_pcns.networks import NETWORKS, released_vgg
from fathomx.experiments.deeper_pcns.scales import SCALES, Scale
from fathomx.experiments.grid import Cell

TINY = Scale(
    name="tiny",
    width=1 / 16,
    examples={"": 16},
    validation=4,
    test=6,
    epochs=2,
    batch_size=8,
    seeds={"": (0,)},
    learning_rate=1e-3,
    augmented=True,
)


def images():
    rng = np.random.default_rng(0)

    def part(count):
        return rng.normal(size=(count, 32, 32, 3)), rng.integers(10, size=count)

    return fx.data.Dataset(
        "toy",
        part(20),
        part(8),
        part(9),
        classes=10,
        image_shape=(32, 32, 3),
        augmentation=fx.data.CropAndFlip(),
    )


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)
    monkeypatch.setattr(fx.data, "load", lambda name: images())
    # One object per solver: JAX then knows what it has compiled already.
    monkeypatch.setattr(Steps, "descent", functools.cache(Steps.descent))


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["fathomx", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr()


def test_the_grid_is_the_one_that_was_asked_for():
    asked = ["VGG-5", "VGG-7", "VGG-10", "ResNet-10", "ResNet-18"]
    assert [name for name in NETWORKS if applies(Cell(name, "PC + spiking", 0))] == asked
    assert len(METHODS) == 21 and len(RELEASED) == 4
    assert applies(Cell("VGG-5 as released", "backprop", 0))
    assert not applies(Cell("VGG-5 as released", "PC + spiking", 0))
    assert not applies(Cell("VGG-5", "spiking, rate 0.8, momentum 0.1", 0))
    for architecture in NETWORKS.values():
        assert architecture.steps == architecture.depth + 3


def test_a_subset_is_the_first_examples():
    whole = images()
    part = comparison.subset(whole, dataclasses.replace(TINY, augmented=False), "VGG-5")
    sizes = [len(p.labels) for p in (part.train, part.validation, part.test)]
    assert sizes == [16, 4, 6]
    np.testing.assert_array_equal(part.test.inputs, whole.test.inputs[:6])
    assert part.augmentation is None
    assert comparison.subset(whole, TINY, "VGG-5").augmentation == fx.data.CropAndFlip()


def shallow(depth, **options):
    """VGG-5 where VGG-10 is asked for, which takes long to compile."""
    assert depth == 10
    return fx.models.vgg(5, **options)


@pytest.mark.slow
def test_it_runs_continues_and_reports(tiny, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(comparison, "vgg", shallow)
    out = tmp_path / "out"
    command = ["reproduce", "deeper-pcns", "--scale", "tiny", "--network", "VGG-5", "--out"]
    code, printed = run(monkeypatch, capsys, *command, str(out), "--method", "backprop")
    assert code == 0, printed.err
    assert "1/1  VGG-5, backprop, seed 0: test accuracy" in printed.out
    code, printed = run(
        monkeypatch, capsys, *command, str(out), "--method", "backprop", "--method", "PC, rate 0.1"
    )
    assert code == 0, printed.err
    assert (
        "1/1  VGG-5, PC, rate 0.1, seed 0" in printed.out
        and "VGG-5, backprop, seed" not in printed.out
    )

    rows = {p.name: json.loads(p.read_text()) for p in (out / "rows").iterdir()}
    assert set(rows) == {"vgg-5-backprop-seed-0.json", "vgg-5-pc-rate-0-1-seed-0.json"}
    row = rows["vgg-5-backprop-seed-0.json"]
    assert row["step_seconds"] > 0 and row["memory_megabytes"] > 1
    assert row["cosine_to_backprop"] == pytest.approx(1, abs=1e-5)
    assert len(row["history"]) == 2 and not any((out / "unfinished").iterdir())

    with (out / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {line["method"] for line in table} == {"backprop", "PC, rate 0.1"}
    with (out / "curves.csv").open() as file:
        epochs = [line for line in csv.DictReader(file) if line["method"] == "backprop"]
    assert [float(line["train_loss"]) for line in epochs] == [
        e["train_loss"] for e in row["history"]
    ]
    assert [line["epoch"] for line in epochs] == ["1", "2"]
    assert float(epochs[1]["lowest_cosine_of_a_node"]) == pytest.approx(1, abs=1e-5)
    assert "| VGG-5 | PC, rate 0.1 | 0 |" in (out / "results.md").read_text()
    for figure in ("accuracy.png", "energy.png", "curves.png"):
        assert (out / figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    energies = json.loads((out / "initialization.json").read_text())
    assert len(energies["runs"]) == 9 and len(energies["labels"]) == 5
    # At a rate of 0.1 errors fade on their way, whatever the schedule; a first step of about 1
    # hands them on.
    published = energies["runs"]["spiking, rate 0.5, momentum"]
    assert energies["runs"]["uniform, rate 0.1"]["imbalance"] > 100 * published["imbalance"]


class Stop(Exception):
    """Ends a run from outside."""


def test_a_run_that_is_stopped_continues_to_the_same_weights(tiny, monkeypatch, tmp_path):
    """Stopped after its first epoch it ends with the numbers of a run that was not."""
    cell = Cell("VGG-5", "backprop", 0)
    data = images()
    whole = comparison.run(cell, TINY, data, tmp_path / "whole")

    epoch_ended = fx.training.RunFolder.epoch_ended

    def stopping(self, record, state):
        epoch_ended(self, record, state)
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(fx.training.RunFolder, "epoch_ended", stopping)
        with pytest.raises(Stop):
            comparison.run(cell, TINY, data, tmp_path / "stopped")
    assert (tmp_path / "stopped" / "checkpoints").exists()
    row = comparison.run(cell, TINY, data, tmp_path / "stopped")
    assert not (tmp_path / "stopped").exists()
    for key in ("test_accuracy", "train_accuracy", "cosine_to_backprop", "strength"):
        assert row[key] == whole[key]
    assert len(row["history"]) == 2


def test_released_networks_are_what_they_say():
    """`phi(pool(W * z + b))` by NumPy on an image; weights and biases within `1 / sqrt(fan_in)`."""
    network = released_vgg(5, width=1 / 16, key=jax.random.key(3))
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3))
    problem = fx.Problem(network, image, np.zeros((1, 10)), 1.0)
    found = fx.infer(problem, fx.StateDescent(0.1, steps=0)).activities
    first, second = (np.asarray(found[f"stage{stage}.conv1"]) for stage in (1, 2))
    layer = network.entry("stage1.conv1").function.function.convolution
    kernel, bias = np.asarray(layer.map.weight), np.asarray(layer.bias.weight)
    padded = np.pad(image[0], ((1, 1), (1, 1), (0, 0)))
    convolved = bias + sum(
        padded[i : i + 32, j : j + 32] @ kernel[i, j] for i in range(3) for j in range(3)
    )
    pooled = convolved.reshape(16, 2, 16, 2, 4).max((1, 3))
    gelu = np.asarray(jax.nn.gelu(pooled))
    np.testing.assert_allclose(first[0], gelu, atol=1e-5)
    assert second.shape == (1, 8, 8, 8)
    for array, fan_in in ((kernel, 27), (bias, 27)):
        assert np.abs(array).max() <= 1 / np.sqrt(fan_in)
    assert np.std(kernel) == pytest.approx(0.577 / np.sqrt(27), rel=0.1)
    assert len(set(np.asarray(bias).tolist())) == 4


def test_mistakes_are_one_sentence(tiny, monkeypatch, capsys, tmp_path):
    for arguments, words in (
        (["deeper-pcn"], "unknown experiment 'deeper-pcn'. Did you mean 'deeper-pcns'?"),
        (["deeper-pcns", "--scale", "tine"], "unknown scale 'tine'. Did you mean 'tiny'?"),
        (["deeper-pcns", "--scale", "tiny", "--network", "VGG-6"], "unknown network 'VGG-6'"),
    ):
        code, printed = run(
            monkeypatch, capsys, "reproduce", *arguments, "--out", str(tmp_path / "x")
        )
        assert code == 1 and words in printed.err
        assert len(printed.err.strip().splitlines()) == 1
        assert not (tmp_path / "x").exists()
