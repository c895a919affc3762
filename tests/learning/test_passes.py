"""What an update costs, counted; and that nothing is lost by what it leaves out."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import kinds
import numpy as np
import optax
import pytest
from products import products

import fathomx as fx
from fathomx.graph.statistics import with_fields
from fathomx.inference.augmented_lagrangian import AugmentedGaussNewton
from fathomx.learning.carried import Carrying, Sensitivity
from fathomx.problem.evaluation import Linearization, evaluate, gradient_at, unrolled
from fathomx.problem.strength import mean_sensitivity

KEY = jax.random.key(0)
NODES, WIDTH, BATCH = 10, 6, 4
SGD = optax.sgd(1e-2)
SOLVERS = {
    "Gauss-Newton": fx.GaussNewton(1, 2),
    "Gauss-Newton, twice": fx.GaussNewton(2, 2),
    "Gauss-Newton, not at all": fx.GaussNewton(0),
    "augmented Gauss-Newton": AugmentedGaussNewton(fx.GaussNewton(1, 2)),
    "augmented Lagrangian": fx.AugmentedLagrangian(0.1, 3),
    "error descent": fx.ErrorDescent(0.1, 3),
    "error descent, decaying": fx.ErrorDescent(0.1, 3, fx.Decaying()),
    "state descent": fx.StateDescent(0.1, 6),
    "Newton": fx.Newton(max_iterations=2),
}


def square(activation="tanh", output=None):
    """Every matrix is of the same size, so that a pass is one product for each node."""
    return fx.models.residual_mlp(
        WIDTH,
        WIDTH,
        width=WIDTH,
        depth=NODES,
        activation=activation,
        parameterization=fx.MuPC(),
        output=fx.Gaussian() if output is None else output,
        key=KEY,
    )


def batch(seed=1):
    x, y = jax.random.normal(jax.random.key(seed), (2, BATCH, WIDTH))
    return x, y


@eqx.filter_jit
def updated(rule, network, state, x, y, certify=True):
    return rule.certifying(certify).update(fx.Problem(network, x, y), SGD, state, KEY)


@eqx.filter_jit
def sensitivity(network, x, y):
    return mean_sensitivity(fx.Problem(network, x, y), KEY)


def passes(rule, *, certify=True, count=0):
    """What an update multiplies, in forward passes; `count` updates were before it."""
    network = square()
    state = rule.init_optimizer(SGD, network)
    if isinstance(state, Carrying):
        before = Sensitivity(jnp.ones(()), jnp.asarray(count, jnp.int32))
        state = Carrying(state.optimizer_state, before)

    def update(network, state, x, y, certify):
        return updated(rule, network, state, x, y, certify)

    found = products(update, network, state, *batch(), jnp.asarray(certify))
    return found / (NODES * BATCH * WIDTH**2)


# Nothing goes back beyond the first node, nor through it: where the derivative in the first error
# is wanted, or pushed, one node of ten needs no product. Weights need all.
BACK = FORTH = 1 - 1 / NODES
GAUSS_NEWTON = 1 + BACK + (FORTH + BACK + FORTH) + 1 + 1


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # Forward, back, weights.
        (fx.Backprop(), 1 + BACK + 1),
        # Forward, first gradient, conjugate gradients, the new point, weights.
        (fx.Equilibrium(), GAUSS_NEWTON),
        (fx.Equilibrium(output_precision=1.0), GAUSS_NEWTON),
        (fx.EquilibriumErrors(), GAUSS_NEWTON),
        # Forward, five times back and forward, weights.
        (fx.Equilibrium(fx.ErrorDescent()), 1 + 5 * (BACK + 1) + 1),
        (fx.Equilibrium(fx.ErrorDescent(), 1.0), 1 + 5 * (BACK + 1) + 1),
    ],
)
def test_an_update_without_measurements_costs_what_it_computes(rule, expected):
    assert passes(rule, certify=False, count=3) == pytest.approx(expected)


@pytest.mark.parametrize("offloaded", [False, True], ids=["on the device", "on the host"])
def test_backprop_writes_no_weight_gradient_block_by_block(offloaded):
    """A loop that does zeroes an array for all blocks and goes through memory three times; but
    what is to wait on the host for its derivative is kept by the loop alone."""
    network = fx.rematerialized(square(), inputs="host") if offloaded else square()
    rule, problem = fx.Backprop(), fx.Problem(network, *batch())
    weights, rest = eqx.partition(problem, eqx.is_array)
    program = jax.make_jaxpr(lambda weights: rule.gradient(eqx.combine(weights, rest), KEY)[0])
    scans = [each for each in program(weights).eqns if each.primitive.name == "scan"]
    assert len(scans) == 2
    matrices = (NODES - 2, WIDTH, WIDTH)
    written = [kept.aval.shape == matrices for scan in scans for kept in scan.outvars]
    assert any(written) == offloaded
    assert any(kept.aval.shape == matrices for kept in program(weights).jaxpr.outvars)


@pytest.mark.parametrize("solver", [fx.GaussNewton(), fx.ErrorDescent()])
def test_what_is_measured_costs_one_pass_each(solver):
    held, fixed = fx.Equilibrium(solver), fx.Equilibrium(solver, 1.0)
    least = passes(held, certify=False, count=3)
    assert passes(held, certify=True, count=3) == pytest.approx(least + BACK)
    assert passes(held, certify=False, count=32) == pytest.approx(least + BACK)
    assert passes(fixed, certify=True) == pytest.approx(least + 2 * BACK)


@pytest.mark.parametrize("kind", ["latent_root", "label_on_top", "masked_output"])
def test_a_gradient_taken_later_is_the_one_of_the_pass(float64, kind):
    problem = getattr(kinds, kind)(jnp.tanh)
    errors = jax.tree.map(
        lambda e: e + 0.1 * jnp.cos(jnp.arange(e.size)).reshape(e.shape), problem.zeros()
    )
    errors = problem.free_errors(errors)
    there, later = evaluate(problem, errors), unrolled(problem, errors)
    assert not later.gradient
    np.testing.assert_allclose(later.energy, there.energy, rtol=1e-12)
    found = gradient_at(problem, later)
    for name, gradient in there.gradient.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_certificate_changes_nothing_and_is_the_same_wherever_it_is_computed(float64, name):
    problem = fx.Problem(square("gelu"), *batch())

    @eqx.filter_jit
    def relaxed(certify):
        start = Linearization.at_start(problem)
        return fx.infer(problem, SOLVERS[name], start=start, certify=certify)

    always, wanted = relaxed(True), relaxed(jnp.asarray(True))
    for never in (relaxed(False), relaxed(jnp.asarray(False))):
        assert jnp.isnan(never.unsettled).all()
        rest = dataclasses.replace(never, unsettled=always.unsettled)
        for one, other in zip(jax.tree.leaves(rest), jax.tree.leaves(always), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)
    assert (always.unsettled > 0).all() or SOLVERS[name].max_steps == 0
    np.testing.assert_allclose(wanted.unsettled, always.unsettled, rtol=1e-10)


@pytest.mark.parametrize(
    "rule",
    [
        fx.Equilibrium(fx.Langevin(1e-3, 4, 2), 1.0),
        fx.EquilibriumErrors(output_precision=1.0),
        fx.ForwardUpdate(output_precision=1.0),
        fx.EquilibriumPropagation(beta=0.2),
        fx.Incremental(fx.ErrorDescent(0.1, 2), 1.0),
        fx.Backprop(),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_every_rule_learns_the_same_without_a_certificate(float64, rule):
    problem = fx.Problem(square(), *batch())
    gradient, seen = eqx.filter_jit(rule.gradient)(problem, KEY)
    other, uncertified = eqx.filter_jit(rule.certifying(False).gradient)(problem, KEY)
    for one, two in zip(jax.tree.leaves(gradient), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(uncertified.energy, seen.energy, rtol=1e-10)
    for name in ("unsettled_median", "unsettled_max"):
        assert jnp.isnan(getattr(uncertified, name))
        assert jnp.isnan(getattr(seen, name)) == isinstance(rule, fx.Backprop)


def test_a_strength_is_measured_in_some_updates_and_carried_between(float64):
    every, count = 8, 20
    rule = fx.Equilibrium(output_precision=fx.HoldStrength(0.1, every))
    network, value = square(), 0.0
    state = rule.init_optimizer(SGD, network)
    measured = []
    for number in range(count):
        x, y = batch(number)
        now = float(sensitivity(network, x, y))
        if number in (0, 1, 2, 4, 8, 16):
            value = now if number == 0 else (value + now) / 2
            measured.append(value)
        network, state, seen = updated(rule, network, state, x, y)
        assert float(seen.output_precision) == pytest.approx(0.1 / value, rel=1e-12)
        assert float(seen.strength) == pytest.approx(0.1, rel=1e-12)
    assert len(set(measured)) == 6 and int(state.sensitivity.count) == count


def test_a_state_of_the_optimizer_alone_measures_in_every_update(float64):
    carrying, measuring = (
        fx.Equilibrium(output_precision=fx.HoldStrength(0.1, every)) for every in (16, 1)
    )
    network = square()
    alone = SGD.init(fx.weights(network))
    assert not isinstance(measuring.init_optimizer(SGD, network), Carrying)
    for number in range(4):
        x, y = batch(number)
        one = updated(carrying, network, alone, x, y)
        other = updated(measuring, network, alone, x, y)
        precision = 0.1 / sensitivity(network, x, y)
        np.testing.assert_allclose(one[2].output_precision, precision, rtol=1e-12)
        for a, b in zip(*(jax.tree.leaves(fx.weights(o[0])) for o in (one, other)), strict=True):
            np.testing.assert_array_equal(a, b)
        network = one[0]


def test_a_gradient_by_itself_measures_what_holds_its_strength():
    rule = fx.Equilibrium()
    problem = fx.Problem(square(), *batch())
    _, seen = eqx.filter_jit(rule.gradient)(problem, KEY)
    precision = 0.1 / mean_sensitivity(problem, KEY)
    np.testing.assert_allclose(seen.output_precision, precision, rtol=1e-5)
    # What another update carried is not looked at, once it is due.
    stale = Sensitivity(jnp.asarray(7.0), jnp.asarray(0, jnp.int32))
    _, again = eqx.filter_jit(with_fields(rule, carried=stale).gradient)(problem, KEY)
    np.testing.assert_allclose(again.output_precision, precision, rtol=1e-5)


@pytest.mark.parametrize("value", [None, "no", 1, jnp.ones(3, bool)])
def test_whether_to_certify_is_a_truth_value(value):
    with pytest.raises(TypeError, match="when must be True or False"):
        fx.Equilibrium().certifying(value)
