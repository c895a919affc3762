"""Where the energy sits: numbers computed by hand on energies made by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.diagnostics.diagnosis import diagnose
from fathomx.diagnostics.energy_balance import energy_balance

EPS = 2.0**-23


def chain(depth, width=4):
    return fx.models.mlp(3, 2, width=width, depth=depth, key=jax.random.key(0))


def add(a, b):
    return a + b


def keep(a):
    return 1.0 * a


def skipping():
    """in -> a -> b -> c -> d -> out, and a -> out.

    The output's error moves its parents a and d in step 0, so that they and a's child b have
    errors in step 1; c follows: arrivals 1, 1, 2, 1, 0.
    """
    nodes = [fx.Node(name, keep) for name in "abcd"]
    return fx.Network([*nodes, fx.Node("out", add, parents=("d", "a"))], (2,))


def test_a_balanced_chain():
    balance = energy_balance(chain(4), jnp.full(4, 0.3))
    assert float(balance.imbalance) == pytest.approx(1)
    assert float(balance.decay) == pytest.approx(1)
    assert int(balance.reached) == 4


@pytest.mark.parametrize("factor", [0.1, 0.5, 2.0])
def test_a_chain_that_decays_by_a_factor_per_node(factor):
    """Six nodes, arrivals 5..0: F = 7 factor^arrival."""
    arrival = np.array([5, 4, 3, 2, 1, 0])
    balance = energy_balance(chain(6), jnp.asarray(7 * factor**arrival, jnp.float32))
    high, low = 1 + factor + factor**2, factor**3 + factor**4 + factor**5
    assert float(balance.imbalance) == pytest.approx(high / low, rel=1e-5)
    assert float(balance.decay) == pytest.approx(factor, rel=1e-5)


def test_the_middle_node_of_an_odd_number_counts_for_neither_half():
    balance = energy_balance(chain(5), jnp.array([1.0, 2.0, 1e6, 4.0, 8.0]))
    assert float(balance.imbalance) == pytest.approx((4 + 8) / (1 + 2))


def test_the_line_is_that_of_least_squares():
    """log10 F = -4, -1, -2, 0 over arrivals 3, 2, 1, 0: slope -(1.5*4 + .5*1 - .5*2) / 5 = -1.1."""
    balance = energy_balance(chain(4), jnp.array([1e-4, 1e-1, 1e-2, 1.0]))
    assert float(balance.decay) == pytest.approx(10**-1.1, rel=1e-5)


def test_nodes_without_energy_do_not_bend_the_line():
    balance = energy_balance(chain(6), jnp.array([0, 0, 0, 1e-4, 1e-2, 1.0]))
    assert float(balance.decay) == pytest.approx(1e-2, rel=1e-5)
    assert np.isinf(balance.imbalance)
    assert int(balance.reached) == 3


def test_energy_in_the_output_alone_has_no_decay():
    balance = energy_balance(chain(4), jnp.array([0, 0, 0, 0.5]))
    assert np.isnan(balance.decay)
    assert np.isinf(balance.imbalance)
    assert int(balance.reached) == 1


def test_without_any_energy_nothing_is_claimed():
    balance = energy_balance(chain(4), jnp.zeros(4))
    assert np.isnan(balance.decay) and np.isnan(balance.imbalance)
    assert int(balance.reached) == 0


def test_nodes_are_ordered_by_arrival_and_ties_by_the_graph():
    """From the input: c (2), then a, b, d (1), out (0); b is the middle one.

    The line: deviations of arrival 1 for c and -1 for out, logs 0 and 3: slope -3/2.
    """
    balance = energy_balance(skipping(), jnp.array([10.0, 5.0, 1.0, 100.0, 1000.0]))
    assert float(balance.imbalance) == pytest.approx((100 + 1000) / (1 + 10))
    assert float(balance.decay) == pytest.approx(10**-1.5, rel=1e-5)


def test_nodes_that_arrive_together_have_no_decay():
    network = fx.Network([fx.Node("a", keep), fx.Node("out", keep)], (2,))
    balance = energy_balance(network, jnp.array([0.1, 0.0]))
    assert np.isnan(balance.decay)


def test_rounding_is_not_a_signal():
    """Four units of size 1: two roundings each are an energy of 4 (2 eps)^2 / 2 = 8 eps^2."""
    energy = jnp.array([7.9 * EPS**2, 8.1 * EPS**2, 1.0, 1.0])
    assert int(energy_balance(chain(4), energy).reached) == 3
    assert int(energy_balance(chain(4), energy, activity=0.5).reached) == 4
    assert int(energy_balance(chain(4), energy, activity=10.0).reached) == 2


def test_rounding_bends_no_line_and_fills_no_half():
    """Without the two nodes below rounding: arrivals 1 and 0, a factor of 0.1."""
    balance = energy_balance(chain(4), jnp.array([1e-14, 1e-15, 1e-1, 1.0]))
    assert float(balance.decay) == pytest.approx(0.1, rel=1e-5)
    assert np.isinf(balance.imbalance)


def test_what_is_not_a_number_stays_visible():
    balance = energy_balance(chain(4), jnp.array([np.nan, 1.0, 1.0, 1.0]))
    assert np.isnan(balance.imbalance)
    assert int(balance.reached) == 3


def test_what_the_feedforward_pass_rounds_off_is_not_reached():
    """Errors from activities that were unrolled: rounding alone in all hidden nodes."""
    network = chain(8, width=64)
    x = np.random.default_rng(0).normal(size=(16, 3))
    problem = fx.Problem(network, x, np.ones((16, 2)))
    activities = eqx.filter_jit(network.unroll)(None, problem.input)
    noisy = {k: v * (1 + EPS) for k, v in activities.items()}
    energy = eqx.filter_jit(fx.energy)(problem, noisy)
    assert (np.asarray(energy[:-1]) > 0).any()
    assert int(energy_balance(network, energy).reached) == 1


def test_a_trace_is_balanced_step_by_step_and_when_compiled():
    network = chain(4)
    steps = jnp.array([[0, 0, 0, 1.0], [0, 0, 0.1, 1.0], [1e-3, 1e-2, 1e-1, 1.0]])
    balance = eqx.filter_jit(energy_balance)(network, steps)
    np.testing.assert_allclose(balance.decay, [np.nan, 0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(balance.imbalance, [np.inf, np.inf, 100], rtol=1e-5)
    np.testing.assert_array_equal(balance.reached, [1, 2, 4])
    assert balance.imbalance.shape == balance.decay.shape == balance.reached.shape == (3,)


def test_energies_of_another_network_are_refused():
    with pytest.raises(ValueError, match="3 energies, but the network has 4 nodes"):
        energy_balance(chain(4), jnp.ones(3))


def scalar_chain():
    """mu_h = 2 x, mu_o = 3 z with x = 1, y = 8: by hand, e_h = z - 2 and e_o = 8 - 3 z."""
    two, three = (fx.layers.Linear(jnp.array([[weight]]), 1.0, 1.0) for weight in (2.0, 3.0))
    return fx.Network([fx.Node("h", two), fx.Node("o", three)], (1,))


def test_a_diagnosis_by_hand(float64):
    """One step of rate 0.1 from z = 2: dF/dz = (z - 2) - 3 (8 - 3 z) = -6, so z = 2.6.

    Then e_h = 0.6 and e_o = 0.2. At equilibrium 10 z = 26 as well: the step was exact.
    """
    problem = fx.Problem(scalar_chain(), np.array([[1.0]]), np.array([[8.0]]))
    found = diagnose(problem, fx.StateDescent(optax.sgd(0.1), steps=1))
    np.testing.assert_allclose(found.energy, [[0, 2], [0.18, 0.02]], atol=1e-12)
    np.testing.assert_allclose(found.equilibrium.energy, [0.18, 0.02], atol=1e-12)
    np.testing.assert_allclose(found.error, [0.6, 0.2], atol=1e-12)
    assert float(found.activity) == pytest.approx(2.6)
    # Scalars of the same sign as backprop's: -e_o 3 x = -6 and -e_o z = -4 there.
    np.testing.assert_allclose(found.alignment.cosine, [1, 1], atol=1e-12)
    ours, theirs = np.array([-0.6, -0.52]), np.array([-6.0, -4.0])
    cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert float(found.alignment.overall) == pytest.approx(cosine)
    assert float(found.balance.imbalance) == pytest.approx(1 / 9)
    assert float(found.balance.decay) == pytest.approx(9)
    assert float(found.equilibrium_balance.imbalance) == pytest.approx(1 / 9)


@pytest.mark.slow
def test_state_descent_is_diagnosed_as_imbalanced_and_gauss_newton_is_not():
    """Depth 32 under muPC: ten steps reach ten hidden nodes, one linearization all of them."""
    network = fx.models.residual_mlp(
        8, 4, width=32, depth=32, parameterization=fx.MuPC(), key=jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    problem = fx.Problem(network, rng.normal(size=(32, 8)), rng.integers(0, 4, 32))
    ill = diagnose(problem, fx.StateDescent(steps=10))
    well = diagnose(problem, fx.GaussNewton())
    assert np.isinf(ill.balance.imbalance)
    assert float(ill.balance.decay) < 0.5
    assert 2 <= int(ill.balance.reached) <= 11
    assert int(well.balance.reached) == 32
    assert 0.5 < float(well.balance.decay) < 1.5
    np.testing.assert_array_equal(ill.equilibrium.energy, well.equilibrium.energy)
    assert np.median(well.equilibrium.unsettled) < 0.03


def test_weights_that_moved_and_weights_that_stood_still():
    """By hand: one node doubled, one of a stack moved by a known length, the others still."""
    before = fx.models.mlp(3, 2, width=4, depth=5, key=jax.random.key(0))
    first, hidden, _ = before.entries[1:]
    weight = hidden.block.linear.weight
    moved = weight.at[1, 2, 3].add(0.3).at[1, 0, 0].add(-0.4)
    after = eqx.tree_at(
        lambda n: (n.entries[1].function.weight, n.entries[2].block.linear.weight),
        before,
        (2 * first.function.weight, moved),
    )
    length = np.linalg.norm(np.asarray(weight[1]))
    np.testing.assert_allclose(
        fx.weight_change(before, after), [1.0, 0.0, 0.5 / length, 0.0, 0.0], rtol=1e-6
    )
