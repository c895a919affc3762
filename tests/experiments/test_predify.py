"""`fathomx reproduce predify`: what feedbacks learn, how rates are chosen, a whole small run."""

import csv

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import predify
from fathomx.experiments.grid import Selection
from fathomx.experiments.predify import DYNAMICS, METHODS, Dynamics, Scale, Seen

TINY = Scale(
    "tiny", {"digits": (0,)}, channels=(8, 16), epochs=20, feedback_epochs=4, batch=32,
    steps=3, searched=150, judged=100,
)  # fmt: skip


def with_feedbacks():
    network = predify.convolutional((8, 8, 1), 10, (4, 6), jax.random.key(0))
    return fx.models.with_feedbacks(network, key=jax.random.key(1))


def test_feedbacks_of_twins_predict_clean_activities_from_noisy_ones(float64):
    network = with_feedbacks()
    rng = np.random.default_rng(0)
    clean = jnp.asarray(rng.normal(size=(3, 8, 8, 1)))
    noisy = clean + 0.5 * rng.normal(size=clean.shape)
    twins = predify.twins(network)
    problem = fx.Problem(twins, {"input": noisy, "clean": clean})
    told, wanted = network.unroll(None, noisy), network.unroll(None, clean)
    wanted["input"] = clean
    expected = [
        0.5 * jnp.sum((wanted[f.of] - jax.vmap(f.function)(told[f.parents[0]])) ** 2) / 3
        for f in network.feedbacks
    ]
    # Entry by entry, the mean over examples; no node has an error.
    found = fx.infer(problem, fx.GaussNewton(0)).energy
    np.testing.assert_allclose(found[-2:], expected, rtol=1e-10)
    np.testing.assert_array_equal(found[:-2], 0)


def test_only_the_feedbacks_learn():
    network = with_feedbacks()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 1)), jnp.float32)
    rule = fx.Equilibrium(fx.GaussNewton(0), output_precision=1.0)
    learner = fx.Learner(rule, 1e-2)
    before = predify.twins(network)
    data = {"input": x[None], "clean": 2 * x[None]}
    after, _, _ = learner.updates(
        before, learner.begin(before), data, jax.random.split(jax.random.key(0), 1)
    )
    for name in ("stage1", "stage2", "output"):
        one, other = before.entry(name).function, after.entry(name).function
        assert eqx.tree_equal(one, other)
    for one, other in zip(before.feedbacks, after.feedbacks, strict=True):
        assert not np.allclose(one.function.map.map.weight, other.function.map.map.weight)


class Told(Seen):
    """100,000 validation images of which as many are recognized as the rates say."""

    def recognized(self, rates, solver):
        lost = 0.01 * rates["a"] + 0.001 * rates["b"]
        clean, noisy = 0.8 - lost, 0.6 + 0.02 * rates["a"] - 0.01 * (rates["b"] - 2) ** 2
        order = np.linspace(0, 1, 100_000)[:, None]
        # The second step is better under noise and costs clean images much.
        return order < np.array([0.8, clean, clean - 0.1]), order < np.array([0.6, noisy, 0.99])


def test_rates_are_those_that_see_most_and_spare_clean_images():
    dynamics = Dynamics(lambda network: ["a", "b"], (1.0, 2.0, 3.0), lambda n, rates, s: (rates, s))
    scale = Scale("told", {}, spared=0.025)
    told, network = Told(*np.zeros((3, 1))), with_feedbacks()
    # a = 3 costs clean images 0.03; of b the middle is best.
    assert predify.chosen_rates(network, dynamics, told, scale) == (
        {"a": 2.0, "b": 2.0},
        1,
    )
    strict = Scale("told", {}, spared=0.0)
    assert predify.chosen_rates(network, dynamics, told, strict) == (
        {"a": 0.0, "b": 0.0},
        1,
    )


@pytest.mark.parametrize("how", DYNAMICS)
def test_rates_of_0_are_the_feedforward_pass_and_others_are_not(how):
    network, dynamics = with_feedbacks(), DYNAMICS[how]
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 8, 8, 1)).astype(np.float32)
    labels = np.asarray(fx.predict(network, images).argmax(axis=-1))
    names = dynamics.names(network)
    seen = Seen(images, images, labels)
    for value, same in ((0.0, True), (0.5, False)):
        posed, solver = dynamics.posed(network, dict.fromkeys(names, value), 3)
        clean, noisy = (a.mean(axis=0) for a in seen.recognized(posed, solver))
        assert clean.shape == (solver.max_steps + 1,) and clean[0] == 1.0
        np.testing.assert_array_equal(clean, noisy)
        assert (clean[-1] == 1.0) == same


def test_a_small_run_is_judged(tmp_path, monkeypatch):
    monkeypatch.setitem(predify.SCALES, "tiny", TINY)
    predify.reproduce("tiny", tmp_path / "found", Selection(), lambda text: None)
    with (tmp_path / "found" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == list(METHODS)
    # All see the same network, and noise that costs it about what is asked.
    assert len({(row["feedforward_clean"], row["feedforward_noisy"]) for row in rows}) == 1
    lost = float(rows[0]["feedforward_clean"]) - float(rows[0]["feedforward_noisy"])
    assert abs(lost - TINY.lost) < 0.12
    for row in rows:
        gain = float(row["noisy"]) - float(row["feedforward_noisy"])
        assert float(row["gain"]) == pytest.approx(gain)
    for name in ("accuracy.png", "seen-digits.png"):
        assert (tmp_path / "found" / name).stat().st_size > 5000
