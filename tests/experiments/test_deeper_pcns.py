"""`fathomx reproduce deeper-pcns` on a few random images: every row, file and sentence."""

import csv
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.command_line import commands as cli
from fathomx.experiments import deeper_pcns
from fathomx.experiments.deeper_pcns import METHODS, NETWORKS, SCALES, Scale
from fathomx.training import TrainingState

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
    for descent in ("gentle_descent", "published_descent"):
        monkeypatch.setattr(deeper_pcns, descent, functools.cache(getattr(deeper_pcns, descent)))


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["fathomx", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr()


def test_the_grid_is_the_one_that_was_asked_for():
    assert list(NETWORKS) == ["VGG-5", "VGG-7", "VGG-10", "ResNet-10", "ResNet-18"]
    assert len(METHODS) == 13
    for architecture in NETWORKS.values():
        assert architecture.steps == architecture.depth + 3


def test_a_subset_is_the_first_examples():
    whole = images()
    part = deeper_pcns.subset(whole, dataclasses.replace(TINY, augmented=False), "VGG-5")
    sizes = [len(p.labels) for p in (part.train, part.validation, part.test)]
    assert sizes == [16, 4, 6]
    np.testing.assert_array_equal(part.test.inputs, whole.test.inputs[:6])
    assert part.augmentation is None
    assert deeper_pcns.subset(whole, TINY, "VGG-5").augmentation == fx.data.CropAndFlip()


def shallow(depth, **options):
    """VGG-5 where VGG-10 is asked for, which takes long to compile."""
    assert depth == 10
    return fx.models.vgg(5, **options)


@pytest.mark.slow
def test_it_runs_continues_and_reports(tiny, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(deeper_pcns, "vgg", shallow)
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
    best = max(h["validation_accuracy"] for h in row["history"])
    chosen = row["history"][row["selected_epoch"] - 1]
    assert chosen["validation_accuracy"] == best and len(row["history"]) == 2

    with (out / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {line["method"] for line in table} == {"backprop", "PC, rate 0.1"}
    assert "| VGG-5 | PC, rate 0.1 | 0 |" in (out / "results.md").read_text()
    for figure in ("accuracy.png", "energy.png"):
        assert (out / figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    energies = json.loads((out / "initialization.json").read_text())
    assert len(energies["runs"]) == 6 and len(energies["labels"]) == 5
    # At a rate of 0.1 errors fade on their way, whatever the schedule; a first step of about 1
    # hands them on.
    published = energies["runs"]["spiking, rate 0.5, momentum"]
    assert energies["runs"]["uniform, rate 0.1"]["imbalance"] > 100 * published["imbalance"]


def test_the_first_of_the_best_epochs_is_kept():
    seen = deeper_pcns._Selected()
    networks = [
        fx.models.mlp(3, 2, width=4, depth=3, key=jax.random.key(seed)) for seed in range(3)
    ]
    zero = jnp.zeros((), jnp.int32)
    for epoch, (accuracy, network) in enumerate(zip((0.25, 0.5, 0.5), networks, strict=True), 1):
        state = TrainingState(network, None, jax.random.key(0), zero, zero)
        seen.epoch_ended({"epoch": epoch, "validation_accuracy": accuracy}, state)
    assert seen.epoch == 2 and seen.network is networks[1]


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
