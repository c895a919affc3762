"""An update beside backprop's: quarters by hand, and a chain that a signal does not cross."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.diagnostics import Alignment, beside_backprop


def quarters(cosine, ratio):
    return np.asarray(Alignment(jnp.array(cosine), jnp.array(ratio), jnp.array(0.0)).quarters)


def test_quarters_are_means_over_their_nodes():
    """No update where backprop has one is a cosine of 0; no weights are no cosine at all."""
    nan = np.nan
    cosine = [1.0, 3.0, 5.0, nan, nan, 1.0, nan, nan]
    ratio = [1.0, 1.0, 1.0, 0.0, nan, 2.0, nan, np.inf]
    np.testing.assert_array_equal(quarters(cosine, ratio), [2.0, 2.5, 1.0, nan])


def test_what_does_not_divide_by_four_is_longer_near_the_input():
    np.testing.assert_allclose(
        quarters([1.0, 2, 3, 4, 5, 6, 7, 8, 9], [1.0] * 9), [2.0, 4.5, 6.5, 8.5]
    )


def test_three_nodes_have_no_quarters():
    assert np.isnan(quarters([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])).all()


def chain(weights):
    nodes = [
        fx.Node(f"n{place}", fx.layers.Linear(jnp.array([[weight]]), 1.0, 1.0))
        for place, weight in enumerate(weights, 1)
    ]
    return fx.Network(nodes, (1,))


@pytest.fixture
def crossed(float64):
    """Four scalar nodes of weights 2, 3, 1, 1, with x = 1 and y = 0: mu is 2, 6, 6, 6.

    Backprop's gradients are -6 times w_4 w_3 w_2 x = 3, w_4 w_3 z_1 = 2, w_4 z_2 = 6 and z_3 = 6.
    Two steps of rate 1/2: z_3 is 6, then 6 - 1/2 * 6 = 3, where e_3 = -3 and e_4 = -3; then
    dF/dz_3 = -3 + 3 = 0 stays, and dF/dz_2 = -(-3) = 3 takes z_2 to 4.5: e_2 = -1.5, e_3 = -1.5,
    e_1 = 0. Gradients -e z below: 0, 1.5 * 2, 1.5 * 4.5, 3 * 3.
    """
    problem = fx.Problem(chain([2.0, 3.0, 1.0, 1.0]), np.array([[1.0]]), np.array([[0.0]]))
    return problem, fx.StateDescent(optax.sgd(0.5), steps=2)


def test_a_signal_that_crosses_half_of_a_chain(crossed):
    problem, descent = crossed
    gradient, _ = fx.Equilibrium(descent, 1.0).gradient(problem, jax.random.key(0))
    found = beside_backprop(problem, gradient, jax.random.key(0))
    ours, theirs = np.array([0, 3.0, 6.75, 9.0]), np.array([18.0, 12.0, 36.0, 36.0])
    np.testing.assert_allclose(found.alignment.ratio, ours / theirs, atol=1e-12)
    np.testing.assert_allclose(found.alignment.quarters, [0, 1, 1, 1], atol=1e-12)
    overall = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    record = found.record()
    assert float(record["cosine_to_backprop"]) == pytest.approx(overall)
    # A single output has nowhere else to go.
    assert float(record["target_alignment"]) == pytest.approx(1)
    assert float(record["target_alignment_of_backprop"]) == pytest.approx(1)


def test_targets_are_those_of_target_alignment(float64):
    network = fx.models.mlp(5, 3, width=4, depth=4, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (6, 5))
    problem = fx.Problem(network, x, jax.random.normal(jax.random.key(2), (6, 3)))
    key = jax.random.key(3)
    gradient, _ = fx.Equilibrium().gradient(problem, key)
    told, _ = fx.Backprop().gradient(problem, key)
    found = beside_backprop(problem, gradient, key)
    for each, of in ((found.target, gradient), (found.target_of_backprop, told)):
        np.testing.assert_allclose(each.cosine, fx.target_alignment(problem, of).cosine)
    assert abs(float(found.target.mean) - float(found.target_of_backprop.mean)) > 1e-4


def test_tiny_updates_have_a_direction_like_any_other():
    network = fx.models.mlp(5, 3, width=4, depth=4, key=jax.random.key(0))
    problem = fx.Problem(network, jnp.ones((2, 5)), jnp.ones((2, 3)))
    told, _ = fx.Backprop().gradient(problem, jax.random.key(0))
    tiny = jax.tree.map(lambda g: 1e-30 * g, told)
    found = beside_backprop(problem, tiny, jax.random.key(0))
    np.testing.assert_allclose(found.alignment.cosine, 1, rtol=1e-5)
    np.testing.assert_allclose(found.alignment.ratio, 1e-30, rtol=1e-5)
    np.testing.assert_allclose(found.target.cosine, found.target_of_backprop.cosine, rtol=1e-5)


def test_examples_without_an_error_have_no_cosine_to_average():
    found = fx.TargetAlignment(jnp.array([0.5, jnp.nan, 1.0]), jnp.array(1.0))
    assert float(found.mean) == 0.75


def test_where_causes_are_inferred_all_is_unknown():
    network = fx.models.decoder(2, (3,), width=4, depth=4, key=jax.random.key(0))
    name = network.output.name
    problem = fx.Problem(network, {name: jnp.ones((2, 3))})
    gradient, _ = fx.Equilibrium().gradient(problem, jax.random.key(0))
    found = beside_backprop(problem, gradient, jax.random.key(0))
    assert all(np.isnan(value).all() for value in found.record().values())


def test_a_diagnosis_holds_them(crossed):
    problem, descent = crossed
    found = fx.diagnose(problem, descent)
    np.testing.assert_allclose(found.alignment.quarters, [0, 1, 1, 1], atol=1e-12)
    assert float(found.update.target.mean) == pytest.approx(1)


def test_the_gradient_of_another_network_is_refused():
    network, other = (
        fx.models.mlp(5, 3, width=width, depth=4, key=jax.random.key(0)) for width in (4, 6)
    )
    problem = fx.Problem(network, jnp.ones((2, 5)), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="not alike"):
        beside_backprop(problem, other, jax.random.key(0))
