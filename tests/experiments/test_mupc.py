"""`fathomx reproduce mupc` on a few random vectors: plan, audit of the weights, files."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import mupc
from fathomx.experiments.grid import Selection
from fathomx.experiments.mupc import METHODS, NETWORKS, SCALES, Scale, audit

TINY = Scale(
    name="tiny",
    examples=0,
    epochs=1,
    batch_size=8,
    plan=(
        Selection(("mnist, toy",), ("backprop, muPC",), (0,)),
        Selection(("mnist, toy",), ("PC, SP",), (1,)),
    ),
)


FILE = "mnist-toy-backprop-mupc-seed-0.json"


def vectors():
    rng = np.random.default_rng(0)

    def part(count):
        return rng.normal(size=(count, 5)), rng.integers(3, size=count)

    return fx.data.Dataset("toy", part(8), part(8), part(9), classes=3)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)
    monkeypatch.setitem(NETWORKS, "mnist, toy", mupc.Residual("mnist", 4, width=6))
    monkeypatch.setattr(fx.data, "load", lambda name: vectors())
    mupc.vectors.cache_clear()
    yield
    mupc.vectors.cache_clear()


def changes_by_one_step(seed):
    """Adam's first step is the learning rate in every entry, whatever the gradient."""
    network = NETWORKS["mnist, toy"].network(vectors(), fx.MuPC(), seed)
    first, hidden, output = map(np.asarray, jax.tree.leaves(fx.split(network)[0]))
    rate = METHODS["backprop, muPC"].learning_rate / 6**0.5
    steps = [(rate, first), *((rate / 2, weight) for weight in hidden), (rate, output)]
    return np.asarray([step / np.sqrt(np.mean(weight**2)) for step, weight in steps])


def test_the_audit_finds_the_node_that_stands_still():
    row = audit(np.asarray([0.2, 0.4, 0.01, 0.8, 0.4]), ("a", "b", "c", "d", "e"))
    assert row["smallest_change"] == pytest.approx(0.025) and row["least_moved"] == "c"
    assert row["median_change"] == 0.4 and row["weight_change"] == [0.2, 0.4, 0.01, 0.8, 0.4]


def test_networks_have_the_seeds_of_the_plan():
    assert TINY.seeds("mnist, toy") == (0, 1) and TINY.seeds("mnist, 8 nodes") == (0,)
    for scale in SCALES.values():
        for part in scale.plan:
            assert {*part.networks} <= {*NETWORKS} and {*part.methods} <= {*METHODS}


def test_it_runs_and_reports_also_what_diverges(tiny, monkeypatch, tmp_path):
    method = dataclasses.replace(METHODS["PC, SP"], learning_rate=1e30, rule=fx.Backprop())
    monkeypatch.setitem(METHODS, "PC, SP", method)
    said = []
    table = mupc.reproduce("tiny", tmp_path / "out", Selection(), said.append)
    assert len(said) == 2 and "smallest weight change" in said[0] and "diverged" in said[1]
    assert "| mnist, toy | PC, SP | 1 | - |" in table.read_text()
    with (tmp_path / "out" / "results.csv").open() as file:
        lines = {line["method"]: line for line in csv.DictReader(file)}
    assert lines["PC, SP"]["test_accuracy"] == "" and lines["backprop, muPC"]["unsettled"] == ""
    assert 0 <= float(lines["backprop, muPC"]["test_accuracy"]) <= 1
    row = json.loads((tmp_path / "out" / "rows" / FILE).read_text())
    expected = changes_by_one_step(0)
    np.testing.assert_allclose(row["weight_change"], expected, rtol=1e-4)
    assert row["smallest_change"] == pytest.approx(expected.min() / np.median(expected), rel=1e-4)
    assert row["unsettled"] is None and row["cosine_to_backprop"] == pytest.approx(1)
    for figure in ("accuracy.png", "weight_change.png"):
        assert (tmp_path / "out" / figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    # Another plan continues the same folder.
    monkeypatch.setitem(SCALES, "tiny", dataclasses.replace(TINY, plan=TINY.plan[:1]))
    mupc.reproduce("tiny", tmp_path / "out", Selection(), said.append)
    assert len(said) == 2


def test_unknown_names_are_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"unknown scale 'tine'. Did you mean 'tiny'"):
        mupc.reproduce("tine", tmp_path, Selection(), print)
    with pytest.raises(ValueError, match="unknown network 'mnist, 9 nodes'"):
        mupc.reproduce("tiny", tmp_path, Selection(networks=("mnist, 9 nodes",)), print)
    with pytest.raises(ValueError, match="unknown method 'PC, muP'"):
        mupc.reproduce("tiny", tmp_path, Selection(methods=("PC, muP",)), print)
