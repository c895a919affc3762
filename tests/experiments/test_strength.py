"""`fathomx reproduce strength` on a few random vectors: rules, selection, differences, files."""

import csv
import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import strength
from fathomx.experiments.examples import loaded
from fathomx.experiments.grid import Group, Selection
from fathomx.experiments.strength import comparison
from fathomx.experiments.strength.differences import (
    chosen_method,
    differences,
    differences_table,
)
from fathomx.experiments.strength.examples import training_examples
from fathomx.experiments.strength.mapped import map_settings
from fathomx.experiments.strength.networks import Chain
from fathomx.experiments.strength.probe import probe
from fathomx.experiments.strength.run import run
from fathomx.experiments.strength.scales import SCALES, Scale
from fathomx.experiments.strength.searched import grid_from, search_settings
from fathomx.experiments.strength.setting import Setting
from fathomx.experiments.strength.training import batches

TINY = Scale(
    name="tiny",
    depths=(3,),
    widths=(4,),
    channels=2,
    text_width=4,
    updates=4,
    examples=128,
    validation=30,
    test=20,
    seeds={"": (0,)},
    search_seeds=(0, 1),
)
SMALL = Setting(Chain(2, 5, "tanh", 1.0), "SGD", (0.01, 0.3), 8, 3)


def vectors():
    rng = np.random.default_rng(0)

    def part(count):
        labels = rng.integers(10, size=count)
        inputs = rng.normal(size=(count, 784))
        inputs[np.arange(count), labels] += 5.0
        return inputs, labels

    return fx.data.Dataset("toy", part(140), part(50), part(40), classes=10)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)
    monkeypatch.setattr(fx.data, "load", lambda name, context=None: vectors())
    for cached in (loaded, training_examples):
        cached.cache_clear()
    yield
    for cached in (loaded, training_examples):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("method", "precision"), [("strength 0.3", fx.HoldStrength(0.3)), ("precision 1", 1.0)]
)
def test_methods_choose_the_precision_as_the_library_does(method, precision):
    network = SMALL.model.network(jax.random.key(0))
    inputs = jax.random.normal(jax.random.key(1), (6, 784))
    problem, key = fx.Problem(network, inputs, jnp.arange(6)), jax.random.key(2)
    found = [
        rule.choose(problem, key)
        for rule in (SMALL.rule(method), fx.Equilibrium(output_precision=precision))
    ]
    for one, other in zip(*[(p.output_precision, s) for p, s in found], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_without_sensitivity_the_precision_stays_finite():
    network = SMALL.model.network(jax.random.key(0))
    arrays, rest = eqx.partition(network, eqx.is_array)
    network = eqx.combine(jax.tree.map(jnp.zeros_like, arrays), rest)
    problem = fx.Problem(network, jnp.ones((2, 784)), jnp.arange(2))
    taken, found = SMALL.rule("strength 1").choose(problem, jax.random.key(0))
    assert float(taken.output_precision) == pytest.approx(1e6) and float(found) == 0


def test_batches_visit_every_example_once_in_every_order():
    setting = dataclasses.replace(SMALL, batch_size=3, updates=8)
    chosen = np.asarray(batches(12, setting, 1))
    assert chosen.shape == (8, 3)
    for order in chosen.reshape(2, 12):
        np.testing.assert_array_equal(np.sort(order), np.arange(12))
    np.testing.assert_array_equal(chosen, batches(12, setting, 1))
    assert (chosen != np.asarray(batches(12, setting, 2))).any()


def test_learning_rates_decay_under_adam_alone():
    adam = dataclasses.replace(SMALL, optimizer="Adam", updates=4)
    half = 0.5**0.5
    np.testing.assert_allclose(adam.schedule(2.0), [2, 1 + half, 1, 1 - half], rtol=1e-6)
    np.testing.assert_array_equal(SMALL.schedule(0.25), [0.25] * 3)
    assert grid_from(0.1, 5) == (0.1, 0.18, 0.32, 0.56, 1.0)
    sizes = {len(setting.rates) for setting in search_settings().values()}
    assert sizes == {8}


def by_hand(rate, data):
    """Backprop as a plain loop."""
    network = SMALL.model.network(jax.random.key(0))

    @eqx.filter_jit
    def gradient(network, inputs, labels):
        problem = fx.Problem(network, inputs, labels)
        return fx.Backprop().gradient(problem, jax.random.key(0))[0]

    for batch in np.random.default_rng(0).permutation(TINY.examples)[:24].reshape(3, 8):
        slope = gradient(network, data.train.inputs[batch], data.train.labels[batch])
        network = eqx.apply_updates(network, jax.tree.map(lambda g: -rate * g, slope))
    return network


def accuracy(network, part, count):
    predicted = np.asarray(fx.predict(network, part.inputs[:count])).argmax(axis=1)
    return (predicted == part.labels[:count]).mean()


def test_validation_chooses_the_rate_and_the_test_part_is_scored_with_it(tiny):
    data = vectors()
    row = run(SMALL, "backprop", 0, TINY)
    trained = {rate: by_hand(rate, data) for rate in SMALL.rates}
    tried = {rate: accuracy(each, data.validation, 30) for rate, each in trained.items()}
    best = max(tried, key=lambda rate: tried[rate])
    assert row["rate"] == best and row["validation_accuracy"] == pytest.approx(tried[best])
    assert list(row["tried"].values()) == pytest.approx(list(tried.values()))
    assert row["test_accuracy"] == pytest.approx(accuracy(trained[best], data.test, 20))
    assert row["at_edge"] == 1.0
    assert row["cosine_first"] == pytest.approx(1, abs=1e-5) and "strength" not in row


def test_sensitivity_is_that_of_the_jacobian():
    """With one hidden layer `J` is the last weights times the slopes of the activation."""
    network, inputs = SMALL.model.network(jax.random.key(0)), jnp.ones((4096, 784)) / 28
    first, last = (np.asarray(leaf) for leaf in jax.tree.leaves(fx.weights(network)))
    slopes = 1 - np.tanh(first @ np.ones(784) / 28) ** 2
    exact = np.sum((last * slopes) ** 2) / 10
    found, cosine = probe(network, fx.Backprop(), inputs, jnp.zeros(4096, int), jax.random.key(0))
    assert float(found) == pytest.approx(exact, rel=0.02)
    assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_runs_that_diverge_are_rows_without_accuracy(tiny):
    setting = dataclasses.replace(SMALL, rates=(1e30, 1e35), model=Chain(2, 5, "linear", 1.0))
    row = run(setting, "backprop", 0, TINY)
    assert row["test_accuracy"] is None and row["tried"] == {"1e+30": None, "1e+35": None}
    assert strength.EXPERIMENT.outcome(row) == "diverged at every learning rate"


def group(method, test, validation, network="online"):
    rows = [
        {"seed": seed, "test_accuracy": one, "validation_accuracy": other}
        for seed, (one, other) in enumerate(zip(test, validation, strict=True))
    ]
    return Group(network, method, tuple(rows))


def test_differences_are_paired_by_seed():
    found = [
        group("backprop", (0.5, 0.6, 0.9), (0.5, 0.6, 0.9)),
        group("strength 0.1", (0.9, 0.9, 0.9), (0.9, 0.9, 0.9)),
        group("strength 0.3", (0.52, 0.6, None), (0.3, 0.5, None)),
        group("strength 1", (0.4, 0.7, 0.93), (0.5, 0.6, 0.7)),
    ]
    own = differences(found, "online")
    assert own["strength 0.3"].points == pytest.approx((2, 0))
    assert own["strength 1"].points == pytest.approx((-10, 10, 3))
    assert own["strength 1"].mean == pytest.approx(1) and own["strength 1"].ahead == 2
    assert own["strength 1"].deviation == pytest.approx(103**0.5)
    assert chosen_method(found, "online") == "strength 1"
    assert "strength 1: +1.0 ± 10.1 | 2 of 3 |" in differences_table(found, ["online"])
    assert differences(found, "batch 4") == {} and chosen_method(found, "batch 4") is None


def test_it_runs_and_reports(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(comparison, "search_settings", lambda: {"few updates": SMALL})
    monkeypatch.setattr(comparison, "map_settings", lambda scale: {"3 nodes, width 4": SMALL})
    said = []
    part = Selection(methods=("backprop", "strength 1"))
    table = strength.reproduce("tiny", tmp_path / "out", part, said.append)
    assert len(said) == 6 and "test accuracy" in said[0] and "at learning rate" in said[0]
    assert "| few updates | strength 1 | 0, 1 |" in table.read_text()
    with (tmp_path / "out" / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["network"] for line in lines].count("few updates") == 4
    coding = [line for line in lines if line["method"] == "strength 1"]
    assert all(float(line["strength"]) == pytest.approx(1) for line in coding)
    assert all(float(line["cosine_first"]) < 0.999 for line in coding)
    assert "| few updates |" in (tmp_path / "out" / "differences.md").read_text()
    for figure in ("map.png", "other.png", "search.png"):
        assert (tmp_path / "out" / figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_map_covers_depth_width_outputs_and_architectures():
    names = list(map_settings(SCALES["laptop"]))
    assert names[:2] == ["8 nodes, width 32", "8 nodes, width 128"] and len(names) == 12
    assert not set(names) & set(search_settings())
    assert set(SCALES["laptop"].seeds) - {""} <= set(names)


def test_unknown_names_are_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"unknown scale 'tine'. Did you mean 'tiny'"):
        strength.reproduce("tine", tmp_path, Selection(), print)
    with pytest.raises(ValueError, match="unknown network '9 nodes, width 4'"):
        strength.reproduce("tiny", tmp_path, Selection(networks=("9 nodes, width 4",)), print)
    with pytest.raises(ValueError, match="unknown method 'strength 2'"):
        strength.reproduce("tiny", tmp_path, Selection(methods=("strength 2",)), print)
