"""`fathomx reproduce strict-saddles` in small: verdicts and eigenvalues that theory gives."""

import csv
import json

import numpy as np
import pytest

from fathomx.experiments import strict_saddles
from fathomx.experiments.grid import Selection
from fathomx.experiments.strict_saddles import SCALES, Scale

TINY = Scale(
    name="tiny",
    layers=(2, 4),
    data=("toy",),
    seeds=(0,),
    examples=8,
    width={"toy": 2},
    points=5,
)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)


def test_verdicts_files_and_figures(tiny, tmp_path, float64):
    said = []
    chosen = ("linear, 2 layers, toy", "tanh, 4 layers, toy")
    out = tmp_path / "out"
    path = strict_saddles.reproduce("tiny", out, Selection(networks=chosen), said.append)
    assert len(said) == 4
    rows = {p.name: json.loads(p.read_text()) for p in (out / "rows").iterdir()}
    shallow = rows["linear-2-layers-toy-origin-seed-0.json"]
    assert (shallow["loss_verdict"], shallow["energy_verdict"]) == ("strict", "strict")
    # One zero layer: the loss still has a slope.
    assert rows["linear-2-layers-toy-rank-zero-seed-0.json"]["loss_verdict"] == "not critical"
    for saddle in ("origin", "rank-zero"):
        row = rows[f"tanh-4-layers-toy-{saddle}-seed-0.json"]
        assert (row["loss_verdict"], row["energy_verdict"]) == ("non-strict", "strict")
        assert row["settled"] == 1
    # x = -y: the eigenvalues of the second moments, as the closed form has them.
    row = rows["tanh-4-layers-toy-origin-seed-0.json"]
    x, y = strict_saddles.examples("toy", TINY, 0)
    np.testing.assert_array_equal(x, -y)
    largest = np.linalg.eigvalsh(np.asarray(y.T @ y / 8))[-1]
    np.testing.assert_allclose([row["energy_smallest"], row["predicted"]], -largest, rtol=1e-9)
    with (out / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    assert "| tanh, 4 layers, toy | origin | 0 | 0.00 | 1.00 |" in path.read_text()
    for figure in ("smallest.png", "spectra.png", "chains.png"):
        assert (out / figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    strict_saddles.reproduce("tiny", out, Selection(networks=chosen), said.append)
    assert len(said) == 4, "rows that are there are not run again"


def test_unknown_names_are_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"unknown scale 'tine'\. Did you mean 'tiny'"):
        strict_saddles.reproduce("tine", tmp_path, Selection(), print)
    with pytest.raises(ValueError, match="unknown method 'orgin'"):
        strict_saddles.reproduce("tiny", tmp_path / "x", Selection(methods=("orgin",)), print)
    assert not (tmp_path / "x").exists()
