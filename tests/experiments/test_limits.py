"""`fathomx reproduce limits` on a few random images: rescaling, gradients, files."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.experiments import limits
from fathomx.experiments.examples import loaded
from fathomx.experiments.grid import Cell, Selection
from fathomx.experiments.limits.closed_form import CLOSED_FORM
from fathomx.experiments.limits.comparison import METHODS, applies, run
from fathomx.experiments.limits.linear import Linear, linear_networks
from fathomx.experiments.limits.nonlinear import FAMILIES, nonlinear_networks
from fathomx.experiments.limits.relaxation import SETTLED, SOLVERS, UNSETTLED, _compiled, measure
from fathomx.experiments.limits.scales import SCALES, Scale

TINY = Scale(
    name="tiny",
    linear_widths=(2, 8),
    standard_widths=(3,),
    hidden_layers=(1, 3),
    mlp_widths=(4, 8),
    mlp_nodes=4,
    cnn_widths=(2,),
    cnn_blocks=2,
    transformer_widths=(8,),
    transformer_blocks=3,
    images=5,
    cnn_images=2,
    windows=2,
    context=6,
    seeds=(0,),
)
TANH, LINEAR = "tanh MLP, width 8", "linear muPC, 3 hidden layers, width 8"


def load(name, context=None):
    rng = np.random.default_rng(0)
    if context:
        return fx.data.Text(
            "toy",
            *[(rng.integers(5, size=(n, context)),) * 2 for n in (8, 2, 2)],
            classes=5,
            vocabulary="abcde",
        )
    parts = [(rng.normal(size=(n, 4, 4, 3)), rng.integers(3, size=n)) for n in (20, 2, 2)]
    return fx.data.Dataset("toy", *parts, classes=3, image_shape=(4, 4, 3))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)
    monkeypatch.setattr(fx.data, "load", load)
    for cached in (loaded, _compiled):
        cached.cache_clear()
    yield
    for cached in (loaded, _compiled):
        cached.cache_clear()


def test_the_grid_is_the_one_that_was_asked_for():
    laptop = SCALES["laptop"]
    assert laptop.linear_widths == tuple(2**k for k in range(1, 12))
    assert (laptop.hidden_layers[0], laptop.hidden_layers[-1]) == (1, 31)
    assert laptop.mlp_nodes == 32 and laptop.mlp_widths[-1] == 512
    assert laptop.transformer_blocks == 12 and laptop.transformer_widths[-1] == 512
    assert SOLVERS[SETTLED].tolerance <= 1e-3 and SOLVERS[UNSETTLED].max_steps == 100
    names = (*linear_networks(laptop), *nonlinear_networks(laptop))
    every = Selection().cells(dict.fromkeys(names, (0,)), METHODS)
    cells = [cell for cell in every if applies(cell)]
    # The closed form for the linear networks alone, two ways to relax for each of the others.
    closed = {cell.network for cell in cells if cell.method == CLOSED_FORM}
    assert closed == set(linear_networks(laptop))
    assert len(cells) == len(closed) + 2 * len(nonlinear_networks(laptop))


@pytest.mark.parametrize("name", [LINEAR, "linear SP, 1 hidden layer, width 3"])
def test_closed_form_against_products_of_the_weights(tiny, name):
    network = linear_networks(TINY)[name]
    row = run(Cell(name, CLOSED_FORM, 2), TINY)
    with jax.enable_x64(not network.stable):
        built = fx.models.residual_mlp(
            48,
            3,
            width=network.width,
            depth=network.hidden + 1,
            activation="linear",
            parameterization=network.parameterization,
            key=jax.random.key(2),
        )
    layers = [built.entries[1].function, built.output.function.linear]
    first, last = (np.asarray(layer.weight, float) * layer.multiplier for layer in layers)
    blocks = []
    if network.hidden > 1:
        branch = built.entries[2].block.branch.linear
        blocks = list(np.asarray(branch.weight, float) * branch.multiplier)
    above, rescaling = last, np.eye(3) + last @ last.T
    for block in reversed(blocks):
        above = above @ (np.eye(network.width) + block)
        rescaling += above @ above.T
    chosen = np.random.default_rng(2).choice(20, 5, replace=False)
    train = load("cifar10").flat().train
    residual = np.eye(3)[train.labels[chosen]] - train.inputs[chosen] @ (above @ first).T
    energy = np.sum(residual * np.linalg.solve(rescaling, residual.T).T)
    eigenvalues = np.linalg.eigvalsh(rescaling) - 1
    assert row["ratio"] == pytest.approx(energy / np.sum(residual**2), rel=1e-4)
    assert row["mean_eigenvalue"] == pytest.approx(eigenvalues.mean(), rel=1e-4)
    assert row["largest_eigenvalue"] == pytest.approx(eigenvalues.max(), rel=1e-4)
    assert row["expected_mean"] == network.expected_mean


def test_the_expected_eigenvalue_is_the_mean_over_weights():
    """Of 3 hidden layers of width 6: maps that are drawn here, not by the library."""
    rng, draws = np.random.default_rng(0), 4000
    for parameterization, branch, readout in (
        (fx.MuPC(), (6 * 4) ** -0.5, 1 / 6),
        (fx.Standard(), 6**-0.5, 6**-0.5),
    ):
        above = readout * rng.normal(size=(draws, 2, 6))
        total = np.mean(np.sum(above**2, axis=2))
        for _ in range(2):
            above = above @ (np.eye(6) + branch * rng.normal(size=(draws, 6, 6)))
            total += np.mean(np.sum(above**2, axis=2))
        assert Linear(6, 3, parameterization).expected_mean == pytest.approx(total, rel=0.05)


def test_measures_against_a_chain_by_hand(float64):
    """x = 1, W1 = 2, W2 = 3, y = 1: z1* = 0.5, F* = 1.25 where the loss is 12.5.

    The gradients are (1.5, 0.25) at the equilibrium and (15, 10) by backprop.
    """
    layer = fx.layers.Linear
    network = fx.Network(
        [fx.Node("n1", layer(jnp.full((1, 1), 2.0))), fx.Node("n2", layer(jnp.full((1, 1), 3.0)))],
        (1,),
    )
    problem = fx.Problem(network, jnp.ones((1, 1)), jnp.ones((1, 1)), 1.0)
    found = measure(problem, fx.Newton(tolerance=1e-9))
    assert float(found["ratio"]) == pytest.approx(0.1)
    cosine = (1.5 * 15 + 0.25 * 10) / np.hypot(1.5, 0.25) / np.hypot(15, 10)
    assert float(found["cosine"]) == pytest.approx(cosine)
    assert float(found["lowest_cosine"]) == pytest.approx(1)
    np.testing.assert_allclose(found["lengths"], [1.5 / 15, 0.25 / 10])
    assert float(found["unsettled"]) < 1e-9 and float(found["strength"]) == pytest.approx(9)


@pytest.mark.parametrize(
    ("name", "nodes", "shape", "count"),
    [
        ("tanh MLP", 4, (48,), 5),
        ("residual CNN", 3 * 2 + 2, (4, 4, 3), 2),
        ("transformer", 3 + 2, (6,), 2),
    ],
)
def test_every_family_has_the_nodes_of_its_scale(tiny, name, nodes, shape, count):
    build, examples = FAMILIES[name]
    built = []
    jax.eval_shape(lambda key: built.append(build(8, TINY, key)), jax.random.key(0))
    inputs, labels = examples(TINY, 0)
    assert built[0].depth == nodes and built[0].input_shape == shape
    assert inputs.shape == (count, *shape) and len(labels) == count
    # Seeds choose other examples.
    assert not np.array_equal(inputs, examples(TINY, 1)[0])


def test_it_runs_and_reports(tiny, tmp_path):
    said, out = [], tmp_path / "out"
    part = Selection(networks=(TANH, LINEAR), methods=(CLOSED_FORM, SETTLED))
    table = limits.reproduce("tiny", out, part, said.append)
    assert len(said) == 2 and "F* / loss" in said[0] and "unsettled" in said[1]
    rows = [json.loads(path.read_text()) for path in (out / "rows").iterdir()]
    (settled,) = [row for row in rows if row["method"] == SETTLED]
    assert settled["unsettled"] <= 1e-3 and 0 < settled["ratio"] < 1 and settled["seconds"] > 0
    assert len(settled["cosines"]) == 4 and min(settled["cosines"]) == settled["lowest_cosine"]
    assert settled["lowest_cosine"] <= settled["cosine"] < 1

    with (out / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
    assert f"| {TANH} | {SETTLED} | 0 |" in table.read_text()
    for figure in ("energy.png", "rescaling.png", "cosine.png"):
        assert (out / figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_divergence_has_no_cosine(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(SOLVERS, UNSETTLED, fx.StateDescent(optax.sgd(5.0), steps=20))
    said = []
    part = Selection(networks=(TANH,), methods=(UNSETTLED,))
    table = limits.reproduce("tiny", tmp_path / "out", part, said.append)
    assert "seed 0: diverged" in said[0]
    assert f"| {TANH} | {UNSETTLED} | 0 | - | - |" in table.read_text()


def test_a_scale_can_be_without_a_part():
    nothing = dataclasses.replace(TINY, standard_widths=(), transformer_widths=())
    assert not [name for name in linear_networks(nothing) if "SP" in name]
    assert not [name for name in nonlinear_networks(nothing) if "transformer" in name]


def test_unknown_names_are_refused(tiny, tmp_path):
    for scale, selection, words in (
        ("tine", Selection(), r"unknown scale 'tine'. Did you mean 'tiny'"),
        ("tiny", Selection(networks=("tanh MLP",)), "unknown network 'tanh MLP'"),
        ("tiny", Selection(methods=("closed",)), "unknown method 'closed'"),
    ):
        with pytest.raises(ValueError, match=words):
            limits.reproduce(scale, tmp_path / "out", selection, print)
        assert not (tmp_path / "out").exists()
