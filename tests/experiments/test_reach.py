"""`fathomx reproduce reach`: sizes of errors over those at equilibrium, and a whole small run."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import reach
from fathomx.experiments.grid import Cell, Selection
from fathomx.experiments.reach import METHODS, NETWORKS, SCALES, Scale, Setting
from fathomx.experiments.residual import Residual, whole

SMALL = Setting(Residual("tanh", 8, 12))
LINEAR = Setting(Residual("linear", 8, 12))
METHODS_RUN = (
    "backprop",
    "state descent, 8 steps",
    "error descent, 128 steps",
    "Newton",
    reach.DEFAULT,
)
TINY = Scale(
    "tiny",
    "digits",
    (Selection((SMALL.name,), METHODS_RUN, (0,)),),
    examples=64,
    shown=3,
    products=60,
    updates=1,
    batch_size=4,
    longer=("backprop",),
    longer_updates=3,
    longer_batch=8,
)


def test_ratio_and_cosine_of_errors():
    found = np.array([[3.0, 4.0], [0.0, 0.0], [1e-100, 0.0]])
    settled = np.array([[10.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    row = reach.compared(found, settled)
    np.testing.assert_allclose(row["ratio"], [0.5, 0, 5e-101])
    np.testing.assert_allclose(row["match"], [0.6, 0, 0])
    assert (row["reached"], row["traced"]) == (0, 1)
    assert (row["first"], row["smallest"], row["largest"]) == (0.5, 0, 0.5)


def test_errors_by_node():
    network = fx.models.mlp(3, 2, width=4, depth=4, key=jax.random.key(0))
    posed = fx.Problem(network, jnp.ones((2, 3)), jnp.ones((2, 2)))
    errors = {"first": jnp.full((2, 4), 1.0), "output": jnp.full((2, 2), 4.0)}
    errors["hidden"] = jnp.stack([jnp.full((2, 4), value) for value in (2.0, 3.0)])
    found = reach.by_node(posed, errors)
    np.testing.assert_array_equal(found[:3], np.outer([1, 2, 3], np.ones(8)))
    np.testing.assert_array_equal(found[3], [4] * 4 + [0] * 4)


def test_one_iteration_of_gauss_newton_is_the_equilibrium_of_a_linear_network():
    rule = fx.Equilibrium(fx.GaussNewton(1, 12), 1.0)
    row = reach.reach(rule, LINEAR, TINY, 0)
    np.testing.assert_allclose(row["ratio"], 1, rtol=1e-3)
    np.testing.assert_allclose(row["match"], 1, rtol=1e-3)
    assert row["reached"] == 12 and row["equilibrium_unsettled"] <= 1e-4


def test_state_descent_reaches_one_more_node_in_every_step():
    """Its first arrival at a node is smaller by about the rate than at the node above."""
    steps, rate = 5, 0.01
    rule = fx.Equilibrium(fx.StateDescent(rate, steps), 1.0)
    row = reach.reach(rule, LINEAR, TINY, 0)
    # The output's error is there from the start.
    assert all(row["ratio"][i] > 0 for i in range(11 - steps, 12))
    # Nothing has moved: what is left is rounding in float64.
    assert max(row["ratio"][: 11 - steps]) < 1e-14
    front = np.asarray(row["ratio"][11 - steps : 11])
    expected = [rate ** (k + 1) for k in range(steps)][::-1]
    with jax.enable_x64(True):
        posed = reach._shown(LINEAR, TINY, 0)
        slope = fx.infer(posed, fx.ErrorDescent(1.0, 1)).errors
        backward = np.linalg.norm(reach.by_node(posed, slope), axis=1)
        settled, _ = reach.equilibrium(LINEAR, TINY, 0, 1.0)
    # At small rates e_l is binomial(steps, L - l) rate^(L - l) times backprop's error.
    binomial = [1, 5, 10, 10, 5]
    wanted = np.array(binomial) * expected * backward[11 - steps : 11]
    found = front * np.linalg.norm(settled, axis=1)[11 - steps : 11]
    np.testing.assert_allclose(found, wanted, rtol=0.1)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", TINY)
    monkeypatch.setitem(NETWORKS, SMALL.name, SMALL)


def test_updates_are_those_of_adam(tiny):
    """Its first step is the rate in every weight whose gradient is above its epsilon."""
    row = reach.run(Cell(SMALL.name, "backprop", 0), TINY)
    network = SMALL.residual.network(whole("digits", 64), 0)
    weights = [w for leaf in jax.tree.leaves(fx.weights(network)) for w in _nodes(leaf)]
    rate = 1e-3 * (8 / 12) ** 0.5
    expected = [rate / np.sqrt(np.mean(np.square(weight))) for weight in weights]
    # Without the first node, some of whose inputs are zero in every image.
    np.testing.assert_allclose(row["weight_change"][1:], expected[1:], rtol=0.01)
    assert row["longer_change"][5] > 2 * row["weight_change"][5]
    assert row["moved"] == 12 and 0 <= row["test_accuracy"] <= 1


def _nodes(leaf):
    return np.asarray(leaf) if leaf.ndim == 3 else [np.asarray(leaf)]


def test_a_small_run(tiny, tmp_path):
    said = []
    reach.reproduce("tiny", tmp_path / "found", Selection(), said.append)
    with (tmp_path / "found" / "results.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(METHODS_RUN) <= set(METHODS)
    assert rows["backprop"]["reached"] == ""
    # Eight steps come no further than to the ninth node from the end.
    assert float(rows["state descent, 8 steps"]["first"]) < 1e-12
    assert int(rows["state descent, 8 steps"]["traced"]) <= 9
    for method in ("error descent, 128 steps", "Newton"):
        assert int(rows[method]["reached"]) == 12
        assert float(rows[method]["smallest_match"]) > 0.9
    # So few units make the network far from linear.
    assert float(rows[reach.DEFAULT]["smallest"]) > 0.8
    assert float(rows["Newton"]["smallest"]) == pytest.approx(1, abs=1e-6)
    assert float(rows["Newton"]["equilibrium_unsettled"]) <= 1e-4
    # At a held strength the equilibrium is that of the precision that holds it.
    kept = json.loads(
        (tmp_path / "found" / "rows" / Cell(SMALL.name, reach.DEFAULT, 0).file).read_text()
    )
    assert kept["output_precision"] != 1 and len(kept["ratio"]) == len(kept["cosines"]) == 12
    for figure in ("reach.png", "weight_change.png"):
        assert (tmp_path / "found" / figure).stat().st_size > 5000


def test_trained_networks_begin_where_longer_training_ends(tiny):
    trained = Setting(SMALL.residual, trained=True)
    before, after = (reach.begun(setting, TINY, 0) for setting in (SMALL, trained))
    assert trained.name == f"{SMALL.name}, trained"
    assert float(fx.weight_change(before, after).min()) > 0
    again = reach.trained(SMALL.residual, reach.DEFAULT, TINY, 0)
    assert float(fx.weight_change(after, again).max()) == 0


def test_methods_descend_at_the_rates_of_the_spectra():
    spectra = reach.Spectra(fx.theory.Extremes(0.01, 4.0), fx.theory.Extremes(1.0, 1.6))
    made = {name: method(spectra) for name, method in METHODS.items()}
    for name in reach.DESCENTS:
        assert [made[f"{name}, {n} steps"].solver.max_steps for n in ("8", "128", "1,024")] == [
            *reach.STEPS
        ]
    assert made["PC-ALM, 128 steps"].solver.rate == 0.25
    gradient, slopes = jnp.ones(3), {}
    for name in ("state descent", "momentum", "error descent"):
        optimizer = made[f"{name}, 8 steps"].solver.optimizer
        slopes[name] = float(optimizer.update(gradient, optimizer.init(gradient))[0][0])
    # Nesterov's first step is one of 1 + m, with m = (20 - 1) / (20 + 1).
    assert slopes["state descent"] == -0.25 and slopes["error descent"] == -0.625
    assert slopes["momentum"] == pytest.approx(-0.25 * (1 + 19 / 21))
    held = made[reach.DEFAULT].output_precision
    assert held == fx.HoldStrength(0.1)
    assert {made[name].output_precision for name in METHODS_RUN[1:-1]} == {1.0}


def test_the_plan_names_what_there_is():
    for scale in SCALES.values():
        for part in scale.plan:
            assert {*part.networks} <= {*NETWORKS} and {*part.methods} <= {*METHODS}
        assert {*scale.longer} <= {*METHODS}
