"""`fx.compare`: what is trained, told (against SciPy on the same numbers) and refused."""

import importlib

import jax
import numpy as np
import optax
import pytest
import scipy.stats

import fathomx as fx

X = np.random.default_rng(0).normal(size=(80, 4)).astype("float32")
DATA = (X, (X[:, 0] > 0).astype(int))
OPTIONS = {"epochs": 1, "batch_size": 16}
RATE = 0.03
METHODS = {"PC": fx.Equilibrium(), "slow": (fx.Backprop(), 0.001), "<b>": fx.Backprop()}


def build(key):
    return fx.models.mlp(4, 2, width=4, depth=2, key=key)


@pytest.fixture(scope="module")
def found():
    return fx.compare(METHODS, build, DATA, seeds=(3, 1, 8), optimizer=RATE, **OPTIONS)


def test_every_method_is_trained_with_every_seed_as_fit_does(found):
    assert {name: list(of) for name, of in found.results.items()} == {
        name: [3, 1, 8] for name in METHODS
    }
    alone = fx.fit(
        build(jax.random.key(1)), DATA, fx.Backprop(), optimizer=0.001, seed=1, **OPTIONS
    )
    assert alone.summary["test_loss"] == found.results["slow"][1].summary["test_loss"]
    other = fx.fit(build(jax.random.key(8)), DATA, fx.Backprop(), optimizer=RATE, seed=8, **OPTIONS)
    assert other.summary["test_loss"] == found.results["<b>"][8].summary["test_loss"]


def test_numbers_are_those_of_scipy(found):
    first, *others = found.methods
    assert first.name == "PC" and first.differences == {}
    losses = [found.results["PC"][seed].summary["test_loss"] for seed in (3, 1, 8)]
    assert list(first.scores["test_loss"].values()) == losses
    for method in others:
        own = [found.results[method.name][seed].summary["test_loss"] for seed in (3, 1, 8)]
        told = method.differences["test_loss"]
        interval = scipy.stats.ttest_rel(own, losses).confidence_interval(0.95)
        np.testing.assert_allclose([told.low, told.high], interval, rtol=1e-9)
        exact = scipy.stats.permutation_test(
            (np.subtract(own, losses),), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        np.testing.assert_allclose(told.p, exact.pvalue, rtol=1e-12)
        summaries = [found.results[method.name][s].summary["train_seconds"] for s in (3, 1, 8)]
        assert list(method.seconds.values()) == summaries


def test_it_prints_as_a_line_a_table_and_a_page(found):
    assert repr(found) == "Comparison(PC, slow, <b>; 3 seeds)"
    losses = list(found.methods[0].scores["test_loss"].values())
    lines = str(found).splitlines()
    assert lines[0].split()[:2] == ["test", "accuracy"]
    assert f"{np.mean(losses):.4g} ± {np.std(losses, ddof=1):.4g}" in lines[1]
    p = found.methods[1].differences["test_loss"].p
    assert any(
        line.startswith("slow less PC, test loss:") and f"p = {p:.3g})" in line for line in lines
    )
    page = found._repr_html_()
    assert "<table" in page and "&lt;b&gt;" in page and "<b>" not in page


def test_outside_of_notebooks_nobody_watches_so_that_fit_warns(monkeypatch):
    module = importlib.import_module("fathomx.comparison.compare")
    watched, fit = [], module.fit

    def noting(*arguments, observers, **options):
        watched.append(list(observers))
        return fit(*arguments, observers=observers, **options)

    monkeypatch.setattr(module, "fit", noting)
    fx.compare({"PC": fx.Backprop()}, build, DATA, seeds=1, **OPTIONS)
    assert watched == [[]]


def test_one_network_keeps_its_weights_and_one_method_has_no_differences():
    network = build(jax.random.key(5))
    found = fx.compare({"PC": fx.Backprop()}, network, DATA, seeds=2, **OPTIONS)
    alone = fx.fit(network, DATA, fx.Backprop(), seed=1, **OPTIONS)
    assert found.results["PC"][1].summary["test_loss"] == alone.summary["test_loss"]
    assert "less" not in str(found) and "Differences" not in found._repr_html_()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"methods": {}}, ValueError, "methods is empty"),
        ({"methods": {"PC": fx.Equilibrium}}, TypeError, "'PC' of methods must be"),
        ({"methods": {"PC": (fx.Backprop(), optax.adam)}}, TypeError, "call it"),
        ({"seeds": ()}, ValueError, "seeds is empty"),
        ({"seeds": (1, 1)}, ValueError, "a seed twice"),
        ({"seeds": -1}, ValueError, "seeds must be"),
        ({"seed": 3}, ValueError, "seed cannot be given"),
        ({"observers": ()}, ValueError, "observers cannot be given"),
        ({"epoch": 3}, TypeError, "'epochs'"),
        ({"network": lambda key: 3}, TypeError, "what network"),
        ({"optimizer": 1e30, "epochs": 3}, fx.DivergenceError, "PC, seed 0: "),
    ],
)
def test_what_is_refused(change, error, words):
    given = {"methods": {"PC": fx.Backprop()}, "network": build, "data": DATA, "seeds": 1}
    with pytest.raises(error) as caught:
        fx.compare(**{**given, **OPTIONS, **change})
    assert words in str(caught.value), caught.value
