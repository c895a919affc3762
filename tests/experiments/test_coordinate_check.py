"""`fathomx reproduce coordinate-check` on a few random images: sizes, slopes, files."""

import csv

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.experiments import coordinate_check
from fathomx.experiments.coordinate_check import (
    CNN,
    COLUMNS,
    CORRECTED,
    KINDS,
    METHODS,
    MUPC,
    PERCEPTRON,
    SCALES,
    TRANSFORMER,
    Course,
    Scale,
    courses,
    kinds,
    networks,
)
from fathomx.experiments.grid import Cell, Group, Selection

TINY = Scale(
    name="tiny",
    widths=(4, 8),
    nodes=5,
    depths=(5, 7),
    width=8,
    cnn_widths=(4,),
    cnn_blocks=1,
    transformer_widths=(8,),
    transformer_blocks=3,
    updates=2,
    batch_size=6,
    cnn_batch_size=2,
    windows=2,
    context=6,
    seeds=(0,),
)
NAME = "residual MLP, width 8, 5 nodes"


def load(name, context=None):
    rng = np.random.default_rng(0)
    if context:
        return fx.data.Text(
            "toy",
            *[(rng.integers(5, size=(n, context)),) * 2 for n in (8, 2, 2)],
            classes=5,
            vocabulary="abcde",
        )
    parts = [(rng.normal(size=(n, 4, 4, 1)), rng.integers(3, size=n)) for n in (20, 7, 2)]
    return fx.data.Dataset("toy", *parts, classes=3, image_shape=(4, 4, 1))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)
    monkeypatch.setattr(fx.data, "load", load)
    coordinate_check.loaded.cache_clear()
    yield
    coordinate_check.loaded.cache_clear()


def rms(values):
    return float(np.sqrt(np.mean(np.asarray(values, float) ** 2)))


def test_the_grid_is_the_one_that_was_asked_for():
    laptop = SCALES["laptop"]
    assert (laptop.widths[0], laptop.widths[-1]) == (32, 512)
    assert (laptop.depths[0], laptop.depths[-1]) == (8, 128)
    known = networks(laptop)
    every = Selection().cells(dict.fromkeys(known, (0,)), tuple(METHODS))
    cells = [cell for cell in every if coordinate_check.applies(cell)]
    other = {cell.method for cell in cells if known[cell.network].family != PERCEPTRON}
    assert other == {MUPC, CORRECTED}
    perceptrons = [a for a in known.values() if a.family == PERCEPTRON]
    assert len(cells) == 4 * len(perceptrons) + 2 * (len(known) - len(perceptrons))


def test_the_corrected_scales_are_those_of_mupc_at_width_128():
    """And elsewhere the rates of the first layer and the readout alone differ."""
    mupc, corrected = METHODS[MUPC].parameterization, METHODS[CORRECTED].parameterization
    for role in set(fx.Role) - {fx.Role.NORMALIZATION}:
        for width in (128, 512):
            one, other = (p.scaling(role, 50, width, 9) for p in (mupc, corrected))
            np.testing.assert_allclose(one[:2], other[:2])
            if role in (fx.Role.ATTENTION, fx.Role.BRANCH):
                continue
            ends = role in (fx.Role.INPUT, fx.Role.OUTPUT, fx.Role.EMBEDDING)
            expected = one[2] * (width / 128) ** 0.5 if ends else one[2]
            assert other[2] == pytest.approx(expected)


def test_sizes_against_updates_by_the_rule(tiny):
    row = coordinate_check.run(Cell(NAME, MUPC, 3), TINY)
    data = load("mnist").flat()
    network = fx.models.residual_mlp(
        16, 3, width=8, depth=5, parameterization=fx.MuPC(), key=jax.random.key(3)
    )
    chosen = np.random.default_rng(3).choice(20, 12, replace=False).reshape(2, 6)
    optimizer = fx.scale_learning_rates(optax.adam(0.1, eps=1e-12))
    rule, probe = fx.Equilibrium(), jnp.asarray(data.validation.inputs[:6])
    state, updated, courses = rule.init_optimizer(optimizer, network), network, []
    update = eqx.filter_jit(rule.update)
    for batch in chosen:
        problem = fx.Problem(updated, data.train.inputs[batch], data.train.labels[batch])
        updated, state, _ = update(problem, optimizer, state, jax.random.key(0))
        courses.append(updated.unroll(None, probe))
    before = network.unroll(None, probe)
    own = updated.predictions(before, probe)
    for name, key in (("first", "first"), ("output", "output")):
        assert row[f"activity_{key}"] == pytest.approx(rms(before[name]), rel=1e-4)
        for quantity, after in (
            ("first_update", courses[0]),
            ("update", courses[1]),
            ("own_update", own),
        ):
            moved = rms(after[name] - before[name])
            assert row[f"{quantity}_{key}"] == pytest.approx(moved, rel=1e-3)
    # Three hidden nodes: one in each third.
    for place, kind in enumerate(("early", "middle", "late")):
        moved = rms(courses[1]["hidden"][place] - before["hidden"][place])
        assert row[f"update_{kind}"] == pytest.approx(moved, rel=1e-3)
    change = fx.weight_change(network, updated)
    np.testing.assert_allclose(row["nodes"]["weight_change"], change, rtol=1e-3)
    assert all(row[column.key] is not None for column in COLUMNS)


def test_kinds_of_nodes_are_root_mean_squares():
    found = kinds(np.asarray([5.0, 1.0, 7.0, 2.0, 2.0, 3.0, 9.0]))
    assert found == pytest.approx(
        {"first": 5, "early": 5, "middle": 2, "late": 3, "output": 9}, rel=1e-12
    )


def test_slopes_of_power_laws():
    def group(width, depth, value):
        rows = [{"seed": seed, "activity_first": value * (1 + seed)} for seed in (0, 1)]
        return Group(f"residual MLP, width {width}, {depth} nodes", "SP", tuple(rows))

    found = [group(4, 5, 0.5), group(8, 5, 0.25), group(8, 7, 0.25 * (7 / 5) ** 2)]
    width, depth = courses(found, TINY)
    assert (width.along, width.sizes, depth.along, depth.sizes) == (
        "width",
        (4, 8),
        "depth",
        (5, 7),
    )
    assert width.slopes("activity_first") == pytest.approx([-1, -1])
    assert depth.slopes("activity_first") == pytest.approx([2, 2])
    missing = ({"seed": 0, "x": None},), ({"seed": 0, "x": 2.0},)
    assert Course(PERCEPTRON, "width", "SP", (4, 8), missing).slopes("x") == []


@pytest.mark.parametrize(
    ("family", "name"),
    [
        (PERCEPTRON, NAME),
        (CNN, "residual CNN, width 4"),
        (TRANSFORMER, "transformer, width 8"),
    ],
)
def test_every_family_has_inputs_that_fit(tiny, family, name):
    build, examples = coordinate_check._FAMILIES[family]
    sizes, scales = networks(TINY)[name], METHODS[CORRECTED].parameterization
    built = []
    jax.eval_shape(lambda key: built.append(build(sizes, TINY, scales, key)), jax.random.key(0))
    assert built[0].depth == sizes.depth
    probe, (inputs, labels) = examples(TINY, 0)
    assert probe.shape[1:] == inputs.shape[2:] == built[0].input_shape
    assert inputs.shape[:2] == labels.shape[:2] and len(inputs) == TINY.updates


def test_it_runs_and_reports(tiny, tmp_path, monkeypatch):
    """With sizes given instead of computed: in width they fall like its inverse."""

    def course(network, examples, optimizer):
        width = network.shapes["first"][0]
        return dict.fromkeys(coordinate_check.QUANTITIES, np.full(network.depth, 1 / width))

    monkeypatch.setattr(coordinate_check, "_course", course)
    said, out = [], tmp_path / "out"
    part = Selection((NAME, "residual MLP, width 4, 5 nodes"), ("NTK", MUPC))
    table = coordinate_check.reproduce("tiny", out, part, said.append)
    assert len(said) == 4 and "hidden updates of 2.5e-01" in said[0]
    assert f"| {NAME} | {MUPC} | 0 | 1.25e-01 |" in table.read_text()
    with (out / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(said)
    with (out / "slopes.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["size"] for line in lines} == set(coordinate_check.QUANTITIES)
    in_width = [line[kind] for line in lines if line["along"] == "width" for kind in KINDS]
    assert set(in_width) == {"-1.00 +- 0.00"}
    assert (out / "width.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_unknown_names_are_refused(tiny, tmp_path):
    for scale, selection, words in (
        ("tine", Selection(), r"unknown scale 'tine'. Did you mean 'tiny'"),
        ("tiny", Selection(methods=("mup",)), "unknown method 'mup'"),
    ):
        with pytest.raises(ValueError, match=words):
            coordinate_check.reproduce(scale, tmp_path / "out", selection, print)
        assert not (tmp_path / "out").exists()
