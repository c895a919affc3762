"""Starts of inference that are learned, and learning while a sequence is followed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx

KEY = jax.random.key(0)


def hybrid(chained=False):
    keys = jax.random.split(KEY, 4)
    entries = [
        fx.Root("cause", (2,)),
        fx.Node("hidden", eqx.nn.Linear(2, 4, key=keys[0])),
        fx.Node("image", eqx.nn.Linear(4, 6, key=keys[1]), energy=fx.Gaussian(5.0)),
    ]
    first = fx.Amortized("to_hidden", "hidden", eqx.nn.Linear(6, 4, key=keys[2]), "image")
    size = 4 if chained else 6
    read = "hidden" if chained else "image"
    last = fx.Amortized("to_cause", "cause", eqx.nn.Linear(size, 2, key=keys[3]), read)
    # In any order.
    return fx.Network(entries, feedbacks=[last, first] if chained else [last])


def images(count=8):
    return jax.random.normal(jax.random.key(1), (count, 6))


@pytest.mark.parametrize("chained", [False, True])
def test_inference_starts_at_what_is_predicted(chained):
    network, x = hybrid(chained), images()
    problem = fx.Problem(network, {"image": x})
    start = fx.infer(problem, fx.GaussNewton(0))
    guess = {a.of: a.function for a in network.amortized}
    hidden = jax.vmap(guess["hidden"])(x) if chained else None
    cause = jax.vmap(guess["cause"])(hidden if chained else x)
    np.testing.assert_allclose(start.activities["cause"], cause, rtol=1e-6)
    if chained:
        np.testing.assert_allclose(start.activities["hidden"], hidden, rtol=1e-5, atol=1e-6)
    # What is given goes before it.
    given = fx.infer(problem, fx.GaussNewton(0), at={"cause": jnp.ones((8, 2))})
    np.testing.assert_array_equal(given.activities["cause"], jnp.ones((8, 2)))


def test_it_changes_where_inference_starts_and_not_where_it_ends(float64):
    network, x = hybrid(), images()
    plain = fx.Network(network.entries)
    found = fx.infer(fx.Problem(network, {"image": x}), fx.Newton(tolerance=1e-12))
    wanted = fx.infer(fx.Problem(plain, {"image": x}), fx.Newton(tolerance=1e-12))
    for name in ("cause", "hidden"):
        np.testing.assert_allclose(
            found.activities[name], wanted.activities[name], rtol=0, atol=1e-10
        )
    np.testing.assert_allclose(found.energy, wanted.energy, rtol=1e-10)
    assert network.labels == plain.labels and network.depth == plain.depth


def test_it_learns_what_inference_found(float64):
    network, x = hybrid(), images()
    problem = fx.Problem(network, {"image": x})
    relaxed = fx.infer(problem, fx.Newton(tolerance=1e-12))
    gradient = fx.weight_gradient(problem, relaxed.activities, relaxed.errors)
    own = network.amortized[0].function
    missed = np.asarray(relaxed.activities["cause"]) - np.asarray(jax.vmap(own)(x))
    expected = -missed.T @ np.asarray(x) / len(x)
    np.testing.assert_allclose(gradient.amortized[0].function.weight, expected, rtol=1e-10)
    plain = fx.Problem(fx.Network(network.entries), {"image": x})
    same = fx.weight_gradient(plain, relaxed.activities)
    np.testing.assert_allclose(
        gradient.entry("image").function.weight, same.entry("image").function.weight, rtol=1e-9
    )


@pytest.mark.parametrize("rule", [fx.Equilibrium, fx.EquilibriumErrors, fx.ForwardUpdate])
def test_every_rule_teaches_it_what_inference_found(float64, rule):
    network, x = hybrid(), images()
    problem = fx.Problem(network, {"image": x})
    relaxed = fx.infer(problem.with_output_precision(0.5), fx.Newton(tolerance=1e-12))
    gradient, _ = rule(fx.Newton(tolerance=1e-12), 0.5).gradient(problem, jax.random.key(2))
    own = network.amortized[0].function
    missed = np.asarray(relaxed.activities["cause"]) - np.asarray(jax.vmap(own)(x))
    expected = -missed.T @ np.asarray(x) / len(x) / 0.5
    np.testing.assert_allclose(gradient.amortized[0].function.weight, expected, rtol=1e-8)


def test_hybrid_networks_train_and_begin_near_the_equilibrium():
    network, x = hybrid(chained=True), images(64)
    learner = fx.Learner(fx.Equilibrium(fx.GaussNewton(2, 6), output_precision=1.0), 1e-2)
    state, update = learner.begin(network), eqx.filter_jit(learner.update)
    for step in range(300):
        network, state, _ = update(network, state, {"image": x}, jax.random.key(step))
    problem = fx.Problem(network, {"image": x})
    start = fx.infer(problem, fx.GaussNewton(0))
    blind = fx.infer(
        problem, fx.GaussNewton(0), at={"cause": jnp.zeros((64, 2)), "hidden": jnp.zeros((64, 4))}
    )
    end = fx.infer(problem, fx.Newton(tolerance=1e-3))
    gap = float(start.energy.sum() - end.energy.sum())
    assert gap < 0.1 * float(blind.energy.sum() - end.energy.sum())


def test_what_amortized_predictions_refuse():
    layer = eqx.nn.Linear(3, 3, key=KEY)
    deep = fx.models.decoder(3, 5, width=4, depth=4, key=KEY)
    with pytest.raises(ValueError, match="about the stack 'hidden'"):
        deep.with_feedbacks([fx.Amortized("guess", "hidden", layer, "output")])
    with pytest.raises(ValueError, match=r"predicts \(3,\), but 'image' has the shape \(6,\)"):
        fx.Network(
            hybrid().entries,
            feedbacks=[fx.Amortized("guess", "image", eqx.nn.Linear(2, 3, key=KEY), "cause")],
        )


def test_learning_online_is_one_update_for_every_frame():
    network = fx.models.state_space(2, 3, controls=1, key=KEY)
    rng = np.random.default_rng(0)
    clamps = {"output": rng.normal(size=(5, 4, 3)), "control": rng.normal(size=(5, 4, 1))}
    rule = fx.Equilibrium(fx.GaussNewton(1, 6), output_precision=2.0)
    learner, key = fx.Learner(rule, 1e-2), jax.random.key(2)
    found, _, (reports, activities) = eqx.filter_jit(learner.follow)(
        network, learner.begin(network), clamps, {"before": "state"}, key
    )
    state, before = learner.begin(network), jnp.zeros((4, 2))
    for t, own in enumerate(jax.random.split(key, 5)):
        clamped = {"before": before, **{n: jnp.asarray(v[t]) for n, v in clamps.items()}}
        problem = fx.Problem(network, clamped)
        ahead = fx.predict(network, {"before": before, "control": clamped["control"]})
        loss = 0.5 * jnp.sum((ahead - clamped["output"]) ** 2) / 4
        np.testing.assert_allclose(reports.loss[t], loss, rtol=1e-4)
        relaxed = fx.infer(problem.with_output_precision(2.0), rule.solver)
        network, state, _ = rule.update(problem, learner.optimizer, state, own)
        before = relaxed.activities["state"]
        np.testing.assert_allclose(activities["state"][t], before, rtol=1e-4, atol=1e-5)
    pairs = (jax.tree.leaves(fx.weights(each)) for each in (found, network))
    for a, b in zip(*pairs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_learning_online_needs_a_state_to_carry_over():
    network = fx.models.state_space(2, 3, key=KEY)
    learner = fx.Learner(fx.Backprop(), 1e-2)
    clamps, carry = {"output": np.ones((2, 1, 3))}, {"before": "state"}
    with pytest.raises(TypeError, match="Backprop infers no state"):
        learner.follow(network, learner.begin(network), clamps, carry, KEY)
