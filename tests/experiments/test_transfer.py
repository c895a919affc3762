"""`fathomx reproduce transfer`: search, parabola and drift by hand; training; files."""

import csv
import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import transfer
from fathomx.experiments.grid import Cell, Group, Selection
from fathomx.experiments.transfer import SCALES, Scale, drifts, losses, optimum, search, summary
from fathomx.layers.parameterization import Role

TINY = Scale(
    name="tiny",
    data="mnist",
    widths=(4, 6),
    depth_of_widths=3,
    depths=(3, 4),
    width_of_depths=4,
    updates=4,
    batch_size=5,
    seeds=(0,),
    most_rates=6,
)


def vectors():
    rng = np.random.default_rng(0)

    def part(count):
        return rng.normal(size=(count, 7)), rng.integers(3, size=count)

    return fx.data.Dataset("toy", part(24), part(8), part(9), classes=3)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)
    monkeypatch.setattr(fx.data, "load", lambda name: vectors())
    transfer.vectors.cache_clear()
    yield
    transfer.vectors.cache_clear()


def bowl(best):
    """A loss that is a parabola in the logarithms of rate and loss."""
    return lambda rate: 0.1 * math.exp(0.3 * math.log(rate / best) ** 2)


@pytest.mark.parametrize("best", [0.02, 0.7, 1.3, 90.0])
def test_the_search_finds_a_parabolas_bottom_from_afar(best):
    asked = []

    def loss(rate):
        asked.append(rate)
        return bowl(best)(rate)

    curve = search(loss, 1.0, 20)
    assert list(curve) == sorted(asked) and len(set(asked)) == len(asked)
    rate, value = optimum(curve)
    assert rate == pytest.approx(best, rel=1e-9) and value == min(curve.values())
    assert sum(rate < best for rate in curve) >= 3 and sum(rate > best for rate in curve) >= 3


def test_the_search_stops_at_divergences_and_at_its_budget():
    def cliff(rate):
        return math.nan if rate > 1.5 else 0.3 / rate

    curve = search(cliff, 0.25, 20)
    assert curve[2.0] == math.inf and max(curve) == 2.0 and curve[2**0.5] < curve[1.0]
    assert optimum(curve) == (2**0.5, pytest.approx(0.3 / 2**0.5))
    assert len(search(lambda rate: 1 / rate, 1.0, 7)) <= 7
    lost = search(lambda rate: math.nan, 1.0, 7)
    assert optimum(lost) is None and min(lost) < 0.1
    # From rates that all diverge down to one that does not.
    assert optimum(search(lambda r: math.nan if r > 0.1 else bowl(0.02)(r), 1.0, 20))[
        0
    ] == pytest.approx(0.02, rel=1e-9)


def test_nothing_learned_is_no_optimum():
    row = summary({0.5: 0.6, 1.0: 0.496, 2.0: math.inf})
    assert (row["best_rate"], row["best_loss"], row["diverged"]) == (None, 0.496, 1)
    assert row["losses"] == [0.6, 0.496, None] and summary({1.0: math.inf})["best_loss"] is None
    assert summary({0.5: 0.4, 1.0: 0.3, 2.0: 0.4})["best_rate"] == pytest.approx(1)


def test_training_is_adam_with_a_cosine_at_the_scales_of_the_parameterization(tiny, float64):
    data = vectors()
    examples = transfer.batches(data, TINY, 3)
    assert examples[0].shape == (4, 5, 7) and examples[1].shape == (4, 5)
    assert len(np.unique(np.asarray(examples[0])[..., 0])) == 20
    network = fx.models.residual_mlp(
        7, 3, width=4, depth=4, parameterization=fx.MuPC(), key=jax.random.key(1)
    )
    seen = losses(network, examples, jnp.asarray(0.3), fx.Backprop(), jax.random.key(2))

    arrays, rest = fx.split(network)
    weights, structure = jax.tree.flatten(arrays)
    scales = [0.5, 0.25, 0.5]
    first, second = [0.0] * 3, [0.0] * 3

    @jax.jit
    @jax.value_and_grad
    def loss(weights, x, y):
        whole = eqx.combine(jax.tree.unflatten(structure, weights), rest)
        return 0.5 * jnp.mean(jnp.sum((fx.predict(whole, x) - y) ** 2, axis=1))

    for step in range(4):
        x, y = examples[0][step], jnp.eye(3)[examples[1][step]]
        value, slopes = loss(weights, x, y)
        assert float(seen[step]) == pytest.approx(float(value), rel=1e-5)
        rate = 0.3 * 0.5 * (1 + math.cos(math.pi * step / 4))
        first = [0.9 * m + 0.1 * g for m, g in zip(first, slopes, strict=True)]
        second = [0.999 * v + 0.001 * g**2 for v, g in zip(second, slopes, strict=True)]
        for place, (m, v) in enumerate(zip(first, second, strict=True)):
            m, v = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
            weights[place] = weights[place] - rate * scales[place] * m / (jnp.sqrt(v) + 1e-12)


def test_drift_is_the_largest_over_the_smallest_optimum():
    def group(network, *rates):
        rows = tuple({"best_rate": rate} for rate in rates)
        return Group(network, "PC, SP", rows)

    found = [
        group("width 4", 0.1, 0.4),
        group("width 6", 0.05, 0.05),
        group("3 nodes", 0.3),
        group("4 nodes", None),
    ]
    wide, deep = drifts(found, TINY)
    assert (wide["sweep"], wide["drift"]) == ("width", pytest.approx(4.0))
    assert wide["optima"] == {4: pytest.approx(0.2), 6: pytest.approx(0.05)}
    assert (deep["sweep"], deep["drift"], deep["untrained"]) == ("depth", 1.0, [4])


def test_constant_ends_are_mupc_at_width_128_and_keep_their_rates():
    for role, fan_in in ((Role.INPUT, 784), (Role.RESIDUAL, None), (Role.OUTPUT, None)):
        for width in (128, 512):
            theirs = fx.MuPC().scaling(role, fan_in or width, width, 8)
            ours = transfer.CONSTANT_ENDS.scaling(role, fan_in or width, width, 8)
            assert ours[:2] == pytest.approx(theirs[:2])
            faster = 1 if role is Role.RESIDUAL else (width / 128) ** 0.5
            assert ours.learning_rate == pytest.approx(faster * theirs.learning_rate)


def test_it_runs_and_reports(tiny, tmp_path):
    said = []
    part = Selection(("width 6", "3 nodes"), ("backprop, muPC",))
    table = transfer.reproduce("tiny", tmp_path / "out", part, said.append)
    assert len(said) == 2 and "| width 6 | backprop, muPC | 0 |" in table.read_text()
    with (tmp_path / "out" / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["method"] for line in lines} == set(part.methods)
    assert all(int(line["rates_tried"]) <= 6 for line in lines)
    assert (tmp_path / "out" / "drift.md").read_text().count("\n") >= 3
    assert (tmp_path / "out" / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    row = json.loads((tmp_path / "out" / "rows" / "width-6-backprop-mupc-seed-0.json").read_text())
    assert len(row["rates"]) == len(row["losses"]) == row["rates_tried"]


def test_unknown_names_and_too_few_images_are_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"unknown scale 'tine'. Did you mean 'tiny'"):
        transfer.reproduce("tine", tmp_path, Selection(), print)
    with pytest.raises(ValueError, match="unknown network 'width 5'"):
        transfer.reproduce("tiny", tmp_path, Selection(networks=("width 5",)), print)
    with pytest.raises(ValueError, match="needed, and toy has 24"):
        transfer.batches(vectors(), SCALES["laptop"], 0)
    with pytest.raises(ValueError, match="needed"):
        transfer.run(Cell("width 32", "PC, SP", 0), SCALES["laptop"])
