"""`fathomx reproduce limits` on a few random images: rescaling, gradients, files."""

import csv
import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.experiments import limits
from fathomx.experiments.examples import loaded
from fathomx.experiments.grid import Cell, Group, Selection
from fathomx.experiments.limits.closed_form import CLOSED_FORM
from fathomx.experiments.limits.comparison import METHODS, applies, run
from fathomx.experiments.limits.embeddings import expected_motion, with_embeddings
from fathomx.experiments.limits.linear import Linear, linear_networks
from fathomx.experiments.limits.nodes import nodes_csv, nodes_markdown
from fathomx.experiments.limits.nonlinear import (
    FAMILIES,
    Nonlinear,
    embedding_networks,
    nonlinear_networks,
)
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
    embedding_widths=(8,),
    embeddings=(1.0,),
)
TANH, LINEAR = "tanh MLP, width 8", "linear muPC, 3 hidden layers, width 8"
EMBEDDED, PUBLISHED = "transformer, width 8, embedding std 1", "transformer, width 8"
PNG = b"\x89PNG\r\n\x1a\n"


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
    # The closed form for the linear networks alone, two ways to relax for each of the others, but
    # equilibrium alone for transformers with other embeddings.
    closed = {cell.network for cell in cells if cell.method == CLOSED_FORM}
    assert closed == set(linear_networks(laptop))
    embedded = set(embedding_networks(laptop))
    assert {cell.method for cell in cells if cell.network in embedded} == {SETTLED}
    others = len(nonlinear_networks(laptop)) - len(embedded)
    assert len(cells) == len(closed) + 2 * others + len(embedded) and len(embedded) == 16


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


class TanhMap(eqx.Module):
    """`W tanh(z)`."""

    linear: fx.layers.Linear

    def __call__(self, activity):
        return self.linear(jnp.tanh(activity))


def test_every_node_against_gradients_by_hand(float64):
    """Three nodes of sizes 3, 4 and 2, relaxed and differentiated with NumPy.

    z1 = W1 x + e1, z2 = W2 tanh(z1) + e2, e3 = y - W3 tanh(z2); dF/dW = -e (what it reads)^T.
    """
    rng = np.random.default_rng(0)
    first, second, third = (
        rng.normal(size=shape) / np.sqrt(shape[1]) for shape in ((3, 5), (4, 3), (2, 4))
    )
    x, y = rng.normal(size=(6, 5)), 2 * rng.normal(size=(6, 2))
    network = fx.Network(
        [
            fx.Node("n1", fx.layers.Linear(jnp.asarray(first))),
            fx.Node("n2", TanhMap(fx.layers.Linear(jnp.asarray(second)))),
            fx.Node("n3", TanhMap(fx.layers.Linear(jnp.asarray(third)))),
        ],
        (5,),
    )
    found = measure(fx.Problem(network, jnp.asarray(x), jnp.asarray(y), 1.0), fx.Newton(1e-10))

    def slope(z):
        return 1 - np.tanh(z) ** 2

    begun = x @ first.T, np.tanh(x @ first.T) @ second.T
    z1, z2 = begun
    for _ in range(5000):
        e1, e2 = z1 - x @ first.T, z2 - np.tanh(z1) @ second.T
        e3 = y - np.tanh(z2) @ third.T
        z1 = z1 - 0.1 * (e1 - slope(z1) * (e2 @ second))
        z2 = z2 - 0.1 * (e2 - slope(z2) * (e3 @ third))
    ours = [e1.T @ x, e2.T @ np.tanh(z1), e3.T @ np.tanh(z2)]
    d3 = y - np.tanh(begun[1]) @ third.T
    d2 = slope(begun[1]) * (d3 @ third)
    d1 = slope(begun[0]) * (d2 @ second)
    theirs = [d1.T @ x, d2.T @ np.tanh(begun[0]), d3.T @ np.tanh(begun[1])]
    dots = [np.sum(a * b) for a, b in zip(ours, theirs, strict=True)]
    sizes = [(np.linalg.norm(a), np.linalg.norm(b)) for a, b in zip(ours, theirs, strict=True)]
    cosines = [dot / (a * b) for dot, (a, b) in zip(dots, sizes, strict=True)]
    np.testing.assert_allclose(found["cosines"], cosines, rtol=1e-7)
    np.testing.assert_allclose(found["lengths"], [a / b for a, b in sizes], rtol=1e-7)
    overall = sum(dots) / np.prod([np.linalg.norm(each) for each in zip(*sizes, strict=True)])
    assert float(found["cosine"]) == pytest.approx(overall, rel=1e-7)
    assert float(found["lowest_cosine"]) == pytest.approx(min(cosines), rel=1e-7)
    assert float(found["hidden_cosine"]) == pytest.approx(cosines[1], rel=1e-7)
    moved = [
        np.linalg.norm(z - f) / np.linalg.norm(f) for z, f in zip((z1, z2), begun, strict=True)
    ]
    np.testing.assert_allclose(found["moved"], moved, rtol=1e-7)
    assert float(found["last_moved"]) == pytest.approx(moved[1], rel=1e-7)


def test_the_blocks_of_a_stack_are_nodes_of_their_own(float64):
    """A chain of numbers, x = 1 and y = 0: z1 = x + e1, z2 = 1.5 z1 + e2, z3 = 1.5 z2 + e3."""
    layer = fx.layers.Linear
    network = fx.Network(
        [
            fx.Node("first", layer(jnp.ones((1, 1)))),
            fx.Stack("blocks", eqx.filter_vmap(layer)(jnp.full((2, 1, 1), 1.5))),
            fx.Node("last", layer(jnp.ones((1, 1)))),
        ],
        (1,),
    )
    found = measure(fx.Problem(network, jnp.ones((1, 1)), jnp.zeros((1, 1)), 1.0), fx.Newton(1e-10))
    # The output is 2.25, S = 1 + 1 + 1.5^2 + 1.5^4, and errors are -2.25 / S times 2.25, 1.5, 1.
    share = 2.25 / (1 + 1 + 1.5**2 + 1.5**4)
    first = 1 - 2.25 * share
    second = 1.5 * first - 1.5 * share
    third = 1.5 * second - share
    moved = [1 - first, 1 - second / 1.5, 1 - third / 2.25]
    np.testing.assert_allclose(found["moved"], moved, rtol=1e-8)
    # Errors are share / 2.25 of backprop's, and what they are multiplied by is what is read.
    read = np.array([1, first, second / 1.5, third / 2.25])
    np.testing.assert_allclose(found["lengths"], share / 2.25 * read, rtol=1e-8)
    np.testing.assert_allclose(found["cosines"], np.ones(4), rtol=1e-8)


def test_muPCs_embeddings_are_those_of_muPC():
    built = [
        fx.models.transformer(
            7, 4, width=8, depth=3, parameterization=scaling, key=jax.random.key(1)
        )
        for scaling in (fx.MuPC(), with_embeddings(0.02), with_embeddings(1.0))
    ]
    published, same, other = ([*map(np.asarray, jax.tree.leaves(fx.weights(one)))] for one in built)
    for a, b in zip(published, same, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    x = np.arange(4)[None]
    np.testing.assert_allclose(fx.predict(built[0], x), fx.predict(built[1], x), rtol=1e-5)
    # Only the two tables of vectors differ, by a factor of 50.
    factors = {
        float(np.round(np.abs(b).sum() / np.abs(a).sum(), 3))
        for a, b in zip(published, other, strict=True)
    }
    assert factors == {1.0, 50.0}


def test_what_is_expected_of_embeddings_is_the_mean_over_weights():
    """On maps and vectors that are drawn here, by the definitions alone."""
    rng, vocabulary, width, blocks, deviation = np.random.default_rng(0), 5, 400, 3, 0.05
    tokens, labels = rng.integers(vocabulary, size=(2, 3, 6))
    expected = expected_motion(
        tokens, labels, vocabulary=vocabulary, width=width, blocks=blocks, deviation=deviation
    )
    moved, cosines = [], []
    for _ in range(300):
        readout = rng.normal(size=(vocabulary, width))
        vectors = deviation * rng.normal(size=(vocabulary, width))
        places = deviation * rng.normal(size=(6, width))
        read = np.concatenate([vectors[window] + places for window in tokens])
        downhill = np.eye(vocabulary)[labels.reshape(-1)] - 1 / vocabulary
        # Embedding and every block answer with an error of this size, all along the skips.
        motion = (blocks + 1) * downhill @ readout / width
        moved.append(np.sum(motion**2) / np.sum(read**2))
        before, after = downhill.T @ read, downhill.T @ (read + motion)
        size = np.linalg.norm(before) * np.linalg.norm(after)
        cosines.append(np.sum(before * after) / size)
    assert expected["expected_moved"] == pytest.approx(np.sqrt(np.mean(moved)), rel=0.01)
    assert expected["expected_output_cosine"] == pytest.approx(np.mean(cosines), rel=0.02)


@pytest.mark.parametrize(
    ("name", "nodes", "shape", "count"),
    [
        ("tanh MLP", 4, (48,), 5),
        ("residual CNN", 3 * 2 + 2, (4, 4, 3), 2),
        ("transformer", 3 + 2, (6,), 2),
    ],
)
def test_every_family_has_the_nodes_of_its_scale(tiny, name, nodes, shape, count):
    family, network, built = FAMILIES[name], Nonlinear(name, 8, fx.MuPC()), []
    jax.eval_shape(lambda key: built.append(family.build(network, TINY, key)), jax.random.key(0))
    inputs, labels = family.examples(TINY, 0)
    assert built[0].depth == nodes and built[0].input_shape == shape
    assert inputs.shape == (count, *shape) and len(labels) == count
    # Seeds choose other examples.
    assert not np.array_equal(inputs, family.examples(TINY, 1)[0])


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
    for figure in ("energy.png", "rescaling.png", "cosine.png", "nodes.png"):
        assert (out / figure).read_bytes()[:8] == PNG
    # One line for every node of the network that was relaxed.
    with (out / "nodes.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["network"], line["node"]) for line in lines] == [(TANH, k) for k in "1234"]
    found = [float(line["cosine"]) for line in lines]
    np.testing.assert_allclose(found, settled["cosines"], rtol=1e-5)
    # Embeddings are compared where there are two kinds.
    assert not (out / "embedding.png").exists()


def test_embeddings_are_rows_beside_those_of_version_0_1(tiny, tmp_path):
    """A folder whose configuration and rows are those of version 0.1 is continued."""
    former = {
        "name": "tiny",
        "linear_widths": [2, 8],
        "standard_widths": [3],
        "hidden_layers": [1, 3],
        "mlp_widths": [4, 8],
        "mlp_nodes": 4,
        "cnn_widths": [2],
        "cnn_blocks": 2,
        "transformer_widths": [8],
        "transformer_blocks": 3,
        "images": 5,
        "cnn_images": 2,
        "windows": 2,
        "context": 6,
        "seeds": [0],
        "tolerance": 5e-4,
        "rate": 0.3,
    }
    row = {
        "network": PUBLISHED,
        "method": SETTLED,
        "seed": 0,
        "ratio": 0.9,
        "cosine": 0.8,
        "lowest_cosine": 0.2,
        "output_cosine": 0.2,
        "cosines": [1.0, 0.9, 0.7, 0.5, 0.2],
        "lengths": [1.0, 1.1, 1.2, 1.3, 1.4],
        "unsettled": 1e-4,
        "strength": 0.5,
        "evaluations": 5.0,
        "seconds": 1.0,
    }
    (tmp_path / "rows").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(former))
    stored = tmp_path / "rows" / "transformer-width-8-equilibrium-seed-0.json"
    stored.write_text(json.dumps(row))

    said, part = [], Selection(networks=(PUBLISHED, EMBEDDED), methods=(SETTLED,))
    limits.reproduce("tiny", tmp_path, part, said.append)
    assert len(said) == 1 and said[0].startswith(f"1/1  {EMBEDDED}, {SETTLED}, seed 0: cosine")
    assert json.loads(stored.read_text()) == row
    with (tmp_path / "results.csv").open() as file:
        before, after = csv.DictReader(file)
    assert before["last_moved"] == before["hidden_cosine"] == "" and before["cosine"] == "0.8"
    # Embeddings of size 1 move less, relative to that, than muPC's of 0.02 could.
    assert 0 < float(after["last_moved"]) < 1
    assert float(after["lowest_cosine"]) <= float(after["hidden_cosine"])
    for figure in ("cosine.png", "nodes.png", "embedding.png"):
        assert (tmp_path / figure).read_bytes()[:8] == PNG


def test_some_nodes_by_hand():
    """Of nine nodes and a readout, the quarters are nodes 1, 3, 5, 7 and 9."""
    cosines = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, -0.5]
    row = {"seed": 3, "cosines": cosines, "lengths": [2.0] * 10, "moved": [0.25] * 9}
    found = [Group("net", "way", (row, {"seed": 4}))]
    lines = nodes_csv(found).splitlines()
    assert lines[0] == "network,method,seed,node,cosine,length,moved"
    assert lines[1] == "net,way,3,1,0.9,2,0.25" and lines[10] == "net,way,3,10,-0.5,2,"
    # The other seed diverged, and has no node.
    assert len(lines) == 11
    known = " (1 of 2 without) | ".join(["0.900", "0.700", "0.500", "0.300", "0.100", "-0.500"])
    assert f"| net | way | 3, 4 | {known} (1 of 2 without) |" in nodes_markdown(found)


def test_a_divergence_has_no_cosine(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(SOLVERS, UNSETTLED, fx.StateDescent(optax.sgd(5.0), steps=20))
    said = []
    part = Selection(networks=(TANH,), methods=(UNSETTLED,))
    table = limits.reproduce("tiny", tmp_path / "out", part, said.append)
    assert "seed 0: diverged" in said[0]
    assert f"| {TANH} | {UNSETTLED} | 0 | - | - |" in table.read_text()


def test_a_scale_can_be_without_a_part():
    nothing = dataclasses.replace(
        TINY, standard_widths=(), transformer_widths=(), embedding_widths=()
    )
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
