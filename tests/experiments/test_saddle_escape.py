"""`fathomx reproduce saddle-escape`: growth rates that theory gives, equal conditions, reports."""

import csv
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import saddle_escape
from fathomx.experiments.grid import Cell, Group, Selection
from fathomx.experiments.saddle_escape import NETWORKS, SCALES, Examples, Scale, Setting
from fathomx.graph.statistics import split, weights

TINY = Scale(
    name="tiny",
    width=4,
    channels=1,
    examples=40,
    per_class=2,
    batch_size=4,
    learning_rate=0.01,
    interval=2,
    chunk=2,
    most_chunks=2,
    seeds={"": (0,)},
)


def digits():
    rng = np.random.default_rng(0)

    def part(count):
        return rng.normal(size=(count, 784)), np.arange(count) % 10

    return fx.data.Dataset("toy", part(50), part(10), part(10), classes=10, image_shape=(28, 28))


def last_weights(network):
    return np.asarray(network.output.function.linear.weight)


def test_predictive_coding_leaves_at_the_rate_of_the_smallest_curvature(float64):
    rng = np.random.default_rng(1)
    x, y = jnp.asarray(rng.normal(size=(8, 5))), jnp.asarray(rng.normal(size=(8, 2)))
    network = fx.models.mlp(5, 2, width=3, depth=4, activation="linear", key=jax.random.key(0))
    start = fx.theory.nearby(fx.theory.origin(network), 1e-7, jax.random.key(2))
    # Minus the largest eigenvalue is the smallest curvature of the equilibrated energy there.
    values, vectors = np.linalg.eigh(np.asarray(y.T @ y) / len(y))

    examples, rate, steps = Examples(x, y, x, y), 0.1, 40
    everything = jnp.broadcast_to(jnp.arange(8), (4, 10, 8))
    steepest = vectors[:, -1] @ last_weights(start)
    for rule, grown in (
        (fx.Equilibrium(fx.Exact(), 1.0), (1 + rate * values[-1]) ** steps),
        (fx.Backprop(), 1.0),
    ):
        after, losses, unsettled = saddle_escape.advance(
            rule, start, examples, jnp.asarray(rate), everything
        )
        np.testing.assert_allclose(
            vectors[:, -1] @ last_weights(after), grown * steepest, rtol=1e-6
        )
        assert losses.shape == (4,)
        assert isinstance(rule, fx.Backprop) or unsettled.max() < 1e-6


def test_both_methods_start_alike_and_see_the_same_batches(monkeypatch):
    seen = {}

    def spy(rule, network, examples, rate, chosen):
        seen.setdefault(type(rule).__name__, []).append((weights(network), rate, chosen))
        return network, jnp.full(TINY.chunk, 0.49), jnp.zeros(TINY.chunk)

    monkeypatch.setattr(saddle_escape, "advance", spy)
    examples = Examples.of(digits(), TINY, image=False)
    for method in saddle_escape.METHODS:
        saddle_escape.run(Cell("linear, 4 layers", method, 3), TINY, examples)
    for coding, backprop in zip(seen["Equilibrium"], seen["Backprop"], strict=True):
        same = jax.tree.map(np.array_equal, coding, backprop)
        assert all(jax.tree.leaves(same))
    first, second = (chosen for *_, chosen in seen["Backprop"])
    assert not np.array_equal(first, second)
    other = saddle_escape.batches(TINY, 4, 0)
    assert first.shape == other.shape == (2, 2, 4) and not np.array_equal(first, other)


def test_no_constant_prediction_reaches_the_main_level():
    examples = Examples.of(digits(), TINY, image=False)
    network = fx.theory.origin(NETWORKS["tanh, 4 layers"].start(TINY, 0))
    initial = float(examples.loss(network))
    best = np.asarray(examples.measured_targets).mean(axis=0)
    loss = 0.5 * np.mean(np.sum((np.asarray(examples.measured_targets) - best) ** 2, axis=1))
    assert loss == pytest.approx(saddle_escape.LEVELS[saddle_escape.MAIN] * initial, rel=1e-6)
    with pytest.raises(ValueError, match="every class"):
        Examples.of(fx.data.load("digits").take(12), TINY, image=False)


def test_single_precision_keeps_the_gradient_of_backprop_near_the_origin():
    learned, rest = split(Setting("tanh").start(SCALES["laptop"], 0))
    data = digits().train
    with jax.enable_x64(True):
        slopes = []
        for dtype in (jnp.float32, jnp.float64):
            cast = jax.tree.map(lambda leaf, d=dtype: leaf.astype(d), learned)
            whole = eqx.combine(cast, rest)
            problem = fx.Problem(whole, data.inputs, data.labels)
            gradient, _ = eqx.filter_jit(fx.Backprop().gradient)(problem, jax.random.key(0))
            slopes.append([np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(gradient)])
    assert len(slopes[0]) == 3
    for single, double in zip(*slopes, strict=True):
        assert np.linalg.norm(single - double) < 1e-5 * np.linalg.norm(double)


def test_the_convolutional_network_has_four_weight_layers():
    network = Setting("tanh", convolutional=True).start(TINY, 0)
    assert network.depth == 4 and len(jax.tree.leaves(weights(network))) == 4
    examples = Examples.of(digits(), TINY, image=True)
    assert eqx.filter_jit(fx.predict)(network, examples.inputs).shape == (40, 10)


def test_an_iteration_of_escape_is_the_first_below_the_level():
    found = saddle_escape.escapes([0.5, 0.51, 0.46, 0.47, 0.44], 10)
    assert found == {"escape_95": 20, "escape_90": 40, "escape_70": None}


def test_ratios_say_which_side_did_not_get_there():
    def row(seed, first, second):
        return {
            "seed": seed,
            "iterations": 100,
            "escape_95": first,
            "escape_90": second,
            "escape_70": None,
        }

    groups = [
        Group("tanh, 3 layers", "PC", (row(0, 10, 20), row(1, 10, None))),
        Group("tanh, 3 layers", "backprop", (row(0, 40, None), row(1, 25, 50))),
    ]
    lines = saddle_escape.ratios(groups).splitlines()
    assert lines[2:] == [
        "| tanh, 3 layers | 95% | 4.0 | 2.5 |",
        "| tanh, 3 layers | 90% | > 5.0 | < 0.5 |",
        "| tanh, 3 layers | 70% | - | - |",
    ]


@pytest.mark.slow
def test_it_runs_and_reports(monkeypatch, tmp_path):
    monkeypatch.setitem(SCALES, "tiny", TINY)
    monkeypatch.setattr(saddle_escape, "vectors", lambda name: digits())
    said = []
    path = saddle_escape.reproduce(
        "tiny", tmp_path / "out", Selection(("ReLU, 4 layers",)), said.append
    )
    assert path == tmp_path / "out" / "results.md"
    assert len(said) == 2 and "not within 8 iterations" in said[0]
    with (tmp_path / "out" / "results.csv").open() as file:
        table = {line["method"]: line for line in csv.DictReader(file)}
    assert 0 < float(table["PC"]["unsettled"]) <= 1 and table["backprop"]["unsettled"] == ""
    assert "| ReLU, 4 layers | 90% | - |" in (tmp_path / "out" / "ratios.md").read_text()
    assert (tmp_path / "out" / "escape.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    stored = json.loads((tmp_path / "out" / "config.json").read_text())
    assert set(stored["networks"]) == set(NETWORKS)
    further = Setting("relu", deviation=0.3)
    left = saddle_escape.energy_left(
        further.start(TINY, 0), Examples.of(digits(), TINY, image=False), further.solver
    )
    assert -1e-3 < left < 0.05
    with pytest.raises(ValueError, match=r"unknown scale 'tinny'\. Did you mean 'tiny'"):
        saddle_escape.reproduce("tinny", tmp_path / "other", Selection(), said.append)
    assert not (tmp_path / "other").exists()
