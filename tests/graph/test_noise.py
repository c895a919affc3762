"""Random nodes: their noise is given, whatever else is inferred."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.graph.smoothness import has_kinks

BATCH, RATE = 3, 0.5


class Dropped(eqx.Module):
    """A linear map of units, half of which a key silences."""

    linear: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __call__(self, activity, key):
        dropped = self.dropout(jnp.tanh(activity), key=key, inference=key is None)
        return self.linear(dropped)


class Masked(eqx.Module):
    """The same with factors that are given."""

    linear: eqx.nn.Linear

    def __call__(self, activity, factors):
        return self.linear(factors * jnp.tanh(activity))


def linears():
    first, hidden, last = jax.random.split(jax.random.key(0), 3)
    return [
        eqx.nn.Linear(*sizes, key=key)
        for sizes, key in (((4, 5), first), ((5, 5), hidden), ((5, 2), last))
    ]


def random_network():
    first, hidden, last = linears()
    dropout = eqx.nn.Dropout(RATE)
    return fx.Network(
        [
            fx.Noise("noise"),
            fx.Node("first", first, parents="input"),
            fx.Node("hidden", Dropped(hidden, dropout), parents=("first", "noise")),
            fx.Node("output", Dropped(last, dropout), parents=("hidden", "noise")),
        ],
        input_shape=(4,),
    )


def masked_network():
    first, hidden, last = linears()
    return fx.Network(
        [
            fx.Root("factors", (5,), energy=None),
            fx.Node("first", first, parents="input"),
            fx.Node("hidden", Masked(hidden), parents=("first", "factors")),
            fx.Node("output", Masked(last), parents=("hidden", "factors")),
        ],
        input_shape=(4,),
    )


def data(batch=BATCH):
    x, y = jax.random.split(jax.random.key(1))
    return jax.random.normal(x, (batch, 4)), jax.random.normal(y, (batch, 2))


def factors(keys):
    """What dropout multiplies five units by: two, or nothing."""
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - RATE, (5,)))(keys)
    return jnp.where(kept, 1 / (1 - RATE), 0.0)


SOLVERS = [
    fx.GaussNewton(iterations=30, cg_iterations=20),
    fx.Newton(),
    fx.StateDescent(optax.sgd(0.1), steps=200),
    fx.ErrorDescent(optax.sgd(0.1), steps=200),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_noise_is_a_constant_of_its_problem(solver):
    x, y = data()
    keys = jax.random.split(jax.random.key(7), BATCH)
    noisy = fx.Problem(random_network(), {"input": x, "output": y, "noise": keys})
    mask = factors(keys)
    assert len({tuple(row) for row in np.asarray(mask).tolist()}) == BATCH
    given = fx.Problem(masked_network(), {"input": x, "output": y, "factors": mask})
    ours, oracle = fx.infer(noisy, solver), fx.infer(given, solver)
    np.testing.assert_allclose(ours.energy, oracle.energy, rtol=1e-5)
    for name in ("first", "hidden"):
        np.testing.assert_allclose(
            ours.activities[name], oracle.activities[name], rtol=1e-4, atol=1e-5
        )
    gradient = fx.weight_gradient(noisy, ours.activities)
    expected = fx.weight_gradient(given, oracle.activities)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_without_a_key_nothing_is_random():
    x, y = data()
    quiet = fx.Problem(random_network(), x, y)
    ones = fx.Problem(masked_network(), {"input": x, "output": y, "factors": jnp.ones((BATCH, 5))})
    solver = fx.GaussNewton(iterations=5, cg_iterations=5)
    ours, oracle = fx.infer(quiet, solver), fx.infer(ones, solver)
    np.testing.assert_allclose(ours.energy.sum(), oracle.energy.sum(), rtol=1e-5)
    assert "noise" not in ours.activities
    np.testing.assert_allclose(
        fx.predict(random_network(), x),
        ones.feedforward()["output"],
        rtol=1e-6,
    )


def test_a_key_draws_another_noise_for_every_example_and_keeps_what_is_clamped():
    x, y = data()
    problem = fx.Problem(random_network(), jnp.tile(x[:1], (BATCH, 1)), jnp.tile(y[:1], (BATCH, 1)))
    drawn = problem.with_noise(jax.random.key(3))
    predicted = np.asarray(drawn.feedforward()["output"])
    assert len({tuple(row) for row in predicted.tolist()}) == BATCH
    again = problem.with_noise(jax.random.key(3)).feedforward()["output"]
    np.testing.assert_array_equal(predicted, again)
    alone = fx.infer(drawn.examples([1]), fx.GaussNewton())
    whole = fx.infer(drawn, fx.GaussNewton())
    for name in ("first", "hidden"):
        ours, oracle = (relaxed.activities[name] for relaxed in (alone, whole))
        np.testing.assert_allclose(ours[0], oracle[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        drawn.with_noise(jax.random.key(4)).feedforward()["output"], again
    )
    plain = fx.Problem(masked_network(), {"input": x, "output": y, "factors": jnp.ones((BATCH, 5))})
    assert plain.with_noise(jax.random.key(0)) is plain


def test_training_draws_noise_and_scores_do_not():
    """An update is that with the keys the learner says it draws; a prediction has none."""
    x, y = data()
    network, optimizer = random_network(), optax.sgd(0.1)
    learner = fx.Learner(fx.Equilibrium(output_precision=1.0), optimizer)
    key = jax.random.key(5)
    updated, _, _ = learner.update(network, learner.begin(network), (x, y), key)
    other, _, _ = learner.update(network, learner.begin(network), (x, y), jax.random.key(6))
    assert not np.allclose(*(n.entry("output").function.linear.weight for n in (updated, other)))
    posed = fx.Problem(network, x, y).with_noise(jax.random.fold_in(key, 1_000_003))
    by_hand, _, _ = learner.rule.update(posed, optimizer, learner.begin(network), key)
    for a, b in zip(jax.tree.leaves(updated), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_fit_trains_a_network_with_dropout():
    x, y = data(40)
    part = {"input": np.asarray(x), "output": np.asarray(y)}
    noisy = fx.data.Dataset("numbers", part, part, part)
    found = fx.fit(random_network(), noisy, epochs=2, batch_size=10)
    again = fx.fit(random_network(), noisy, epochs=2, batch_size=10)
    assert (
        found.history == again.history
        or found.history[-1]["train_loss"] == (again.history[-1]["train_loss"])
    )
    scored = fx.Problem(found.network, x, y)
    loss = scored.loss(scored.feedforward()).mean()
    np.testing.assert_allclose(found.summary["test_loss"], loss, rtol=1e-5)


def test_samples_are_drawn_with_noise():
    """With all but the output clamped, its spread is that of dropout and of its own precision."""
    count = 20_000
    network = random_network()
    given = {"input": jnp.ones((count, 4)), "hidden": jnp.ones((count, 5))}
    drawn = fx.sample(network, jax.random.key(2), {**given, "first": jnp.ones((count, 5))})
    weight = network.entry("output").function.linear.weight
    # A unit is doubled or silent: its variance is that of its activity squared.
    expected = 1.0 + jnp.sum(jnp.square(weight * jnp.tanh(1.0)), axis=1)
    np.testing.assert_allclose(jnp.var(drawn["output"], axis=0), expected, rtol=0.05)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (jnp.ones((BATCH, 2)), "values of type float32"),
        (fx.Clamp(jax.random.split(jax.random.key(0), BATCH), jnp.ones(BATCH, bool)), "a mask"),
        (jax.random.split(jax.random.key(0), BATCH + 1), "holds 4 examples"),
        (jax.random.key(0), r"shape \(2,\)"),
    ],
)
def test_what_is_no_key_is_refused(given, message):
    x, y = data()
    with pytest.raises(ValueError, match=message):
        fx.Problem(random_network(), {"input": x, "noise": given, "output": y})


def test_a_node_that_needs_its_key_is_refused():
    with pytest.raises(ValueError, match="'output' reads noise, but cannot predict without it"):
        fx.Network(
            [
                fx.Noise("noise"),
                fx.Node("hidden", linears()[0], parents="input"),
                fx.Node(
                    "output",
                    lambda z, key: z + jax.random.normal(key, z.shape),
                    parents=("hidden", "noise"),
                ),
            ],
            input_shape=(4,),
        )


def test_noise_is_no_output():
    with pytest.raises(ValueError, match="the last entry is the output, but 'noise' is only given"):
        fx.Network(
            [
                fx.Node("hidden", lambda z: z),
                fx.Node("output", lambda z: z),
                fx.Noise("noise"),
            ],
            input_shape=(4,),
        )


def test_noise_is_no_node_and_no_input():
    network = random_network()
    assert network.labels == ("first", "hidden", "output")
    assert network.input_shape == (4,)
    assert not has_kinks(network)
