"""`fathomx reproduce trust-region` on a few random images: against closed forms and its limits."""

import csv
import functools
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import trust_region
from fathomx.experiments.grid import Cell, Selection
from fathomx.experiments.trust_region import METHODS, NETWORKS, SCALES, Precisions, Scale

TINY = Scale(name="tiny", width=5, examples=4, training_steps=30, learning_rate=1e-2, seeds=(0,))
TANH = "tanh MLP, 4 layers"
RESULTS = Path(__file__).parents[2] / "experiments" / "trust_region" / "results.csv"
KEYS = [column.key for column in trust_region.COLUMNS if column.key != "unsettled"]


def images():
    rng = np.random.default_rng(0)

    def part(count):
        return rng.normal(size=(count, 3, 2)), rng.integers(3, size=count)

    return fx.data.Dataset("toy", part(160), part(8), part(9), classes=3)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)
    monkeypatch.setattr(trust_region, "vectors", functools.cache(lambda name: images().flat()))


def test_the_grid_is_the_one_that_was_asked_for():
    assert len(NETWORKS) == 6 and sum(a.trained for a in NETWORKS.values()) == 3
    ratios = [p.ratio for p in METHODS.values() if p.hidden == 1]
    assert ratios == sorted(ratios)
    # Every setting of the hidden precision has its counterpart among those of the output's.
    hidden = [p for p in METHODS.values() if p.hidden != 1]
    assert len(hidden) == 3
    for precisions in hidden:
        assert np.isclose(precisions.ratio, ratios).any()


@pytest.mark.slow
def test_rows_tables_and_figures(tiny, tmp_path):
    """The whole-Hessian model has order 2 in lambda, the Gauss-Newton one order 1."""
    out, said = tmp_path / "out", []
    methods = tuple(f"output precision {p}" for p in ("0.001", "0.01", "100"))
    selection = Selection(networks=(TANH,), methods=methods)
    path = trust_region.reproduce("tiny", out, selection, said.append)
    assert path == out / "results.md" and len(said) == 3
    assert "2/3  tanh MLP, 4 layers, output precision 0.01, seed 0: strength" in said[1]

    rows = [json.loads(p.read_text()) for p in (out / "rows").iterdir()]
    found = {row["method"]: row for row in rows}
    weaker, weak, strong = (found[method] for method in methods)
    for key, order in (("difference", 2), ("gauss_newton_difference", 1)):
        assert np.log10(weak[key] / weaker[key]) == pytest.approx(order, abs=0.1)
    assert weak["bounded"] == 1 and weak["unsettled"] < 1e-8
    for key in ("cosine", "gauss_newton_cosine", "cosine_to_gradient"):
        assert weak[key] == pytest.approx(1, abs=1e-3)
    for update in ("update_cosine_to_trust_region", "update_cosine_to_backprop"):
        assert weak[update] == pytest.approx(1, abs=1e-3)

    # No example has a bounded model at the strongest output: nothing is compared with it.
    assert strong["bounded"] == 0 and strong["unsettled"] < 1e-8
    assert strong["difference"] is strong["update_cosine_to_trust_region"] is None
    assert "no model bounded" in said[-1] and "| - |" in path.read_text()

    with (out / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    assert f"| {TANH} | output precision 0.01 | 0 |" in path.read_text()
    for figure in ("cosines.png", "displacement.png"):
        assert (out / figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


class _Reached(Exception):
    """What would have been relaxed."""


def test_a_hidden_precision_is_that_of_every_hidden_node(monkeypatch):
    def reached(problem):
        raise _Reached(problem)

    monkeypatch.setattr(trust_region, "trust_region", reached)
    with pytest.raises(_Reached) as stopped:
        trust_region.run(Cell(TANH, "hidden precision 10", 0), TINY, images().flat())
    (problem,) = stopped.value.args
    assert [entry.energy.precision for entry in problem.network.entries[1:]] == [10, 10, 1]
    assert float(problem.output_precision) == 1


def test_the_published_table_depends_on_the_ratio_of_the_precisions_alone():
    with RESULTS.open() as file:
        lines = {(r["network"], METHODS[r["method"]], r["seed"]): r for r in csv.DictReader(file)}
    compared = 0
    for (network, precisions, seed), line in lines.items():
        if precisions.hidden == 1:
            continue
        other = lines[network, Precisions(output=precisions.ratio), seed]
        for key in KEYS:
            assert bool(line[key]) == bool(other[key])
            if line[key]:
                # The same equilibrium, to the solver's tolerance.
                assert float(line[key]) == pytest.approx(float(other[key]), abs=1e-6), key
                compared += 1
    assert compared > 300


def chain(key, *sizes):
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        jax.random.normal(k, (b, a)) for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def test_steps_against_dense_algebra(float64):
    """Of a linear chain of two hidden nodes, with precisions 2 and 5: the derivative is [BA, B]."""
    weights = chain(jax.random.key(0), 3, 4, 4, 2)
    nodes = [
        fx.Node(f"n{i}", fx.layers.Linear(weight), energy=fx.Gaussian(precision))
        for i, (weight, precision) in enumerate(zip(weights, (2.0, 5.0, 1.0), strict=True))
    ]
    x, y = (jax.random.normal(jax.random.key(i), (3, n)) for i, n in ((1, 3), (2, 2)))
    problem = fx.Problem(fx.Network(nodes, (3,)), x, y, 0.7)
    one, two, three = map(np.asarray, weights)
    derivative = np.hstack([three @ two, three])
    inverse = np.diag(np.repeat([1 / 2, 1 / 5], 4))
    residual = np.asarray(y) - np.asarray(x) @ (three @ two @ one).T

    def assert_step(found, inner):
        expected = residual @ inner.T @ derivative @ inverse
        given = np.hstack([found["n0"], found["n1"]])
        np.testing.assert_allclose(given, expected, rtol=1e-9, atol=1e-12)

    sensitivity = derivative @ inverse @ derivative.T
    variances = (0.0, 1 / 0.7)

    @eqx.filter_jit
    def steps(problem):
        start = fx.problem.Linearization(problem, problem.network.zeros(3))
        return trust_region.gradient_step(problem, start), [
            trust_region.gauss_newton_step(problem, start, jnp.asarray(variance))
            for variance in variances
        ]

    gradient, solved = steps(problem)
    assert_step(gradient, np.eye(2))
    for variance, step in zip(variances, solved, strict=True):
        assert_step(step, np.linalg.inv(sensitivity + variance * np.eye(2)))


def test_training_learns_from_other_examples(tiny):
    """Trained networks are better on the same examples, which they have not seen."""
    data = images().flat()
    # Labels that can be learned.
    labels = np.argmax(data.train.inputs[:, :3], axis=1).astype(np.int32)
    data = fx.data.Dataset(
        "toy", (data.train.inputs, labels), data.validation, data.test, classes=3
    )
    with jax.enable_x64(True):
        before, after = (
            trust_region._prepared(TINY, name, 0, data) for name in (TANH, f"{TANH}, trained")
        )
        np.testing.assert_array_equal(before.input, after.input)
        losses = [float(p.loss(fx.predict(p.network, p.input)).mean()) for p in (before, after)]
    assert after.network.dtype == jnp.float64 and losses[1] < losses[0]


def test_mistakes_are_one_sentence(tiny, tmp_path):
    for scale, selection, words in (
        ("tine", Selection(), "unknown scale 'tine'"),
        ("tiny", Selection(networks=("tanh",)), "unknown network 'tanh'"),
    ):
        with pytest.raises(ValueError, match=words):
            trust_region.reproduce(scale, tmp_path / "out", selection, print)
        assert not (tmp_path / "out").exists()
