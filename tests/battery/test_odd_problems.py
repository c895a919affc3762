"""What a careful reviewer tried: combinations that no other test holds."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def linear(seed, inputs, outputs):
    return eqx.nn.Linear(inputs, outputs, key=jax.random.key(seed))


class Looked(eqx.Module):
    table: jax.Array

    def __call__(self, tokens):
        return self.table[tokens].sum(0)


class Both(eqx.Module):
    one: eqx.nn.Linear
    other: eqx.nn.Linear

    def __call__(self, a, b):
        return self.one(a) + self.other(jnp.tanh(b))


def blocks(depth, size):
    build = eqx.filter_vmap(lambda key: eqx.nn.Linear(size, size, key=key))
    return build(jax.random.split(jax.random.key(9), depth))


def loop():
    """Two roots that predict one another by feedbacks alone."""
    return fx.Network(
        [fx.Root("image", (4,)), fx.Root("cause", (3,))],
        feedbacks=[
            fx.Feedback("down", "image", linear(0, 3, 4), "cause"),
            fx.Feedback("up", "cause", linear(1, 4, 3), ("image",)),
        ],
    )


@pytest.mark.parametrize(
    "rule", [fx.Equilibrium, fx.EquilibriumErrors, fx.ForwardUpdate, fx.Incremental]
)
def test_feedbacks_alone_can_be_learned(rule):
    problem = fx.Problem(loop(), {"image": RNG.normal(size=(5, 4))})
    gradient, report = rule(output_precision=1.0).gradient(problem, KEY)
    assert np.isnan(report.strength) and np.isfinite(report.energy).all()
    # Where feedforward activities teach, what is predicted from a cause of zero learns its bias.
    assert sum(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient)) >= 3
    with pytest.raises(ValueError, match=r"output_precision=1.0"):
        rule().gradient(problem, KEY)
    data = fx.data.Dataset("images", *3 * [{"image": RNG.normal(size=(20, 4))}])
    found = fx.fit(loop(), data, rule(output_precision=1.0), epochs=1, batch_size=10)
    assert found.summary["pc_strength"] is None and found.summary["test_energy"] > 0


def test_tokens_that_two_entries_read():
    tables = [Looked(jnp.asarray(RNG.normal(size=(7, 4)), jnp.float32)) for _ in range(2)]
    network = fx.Network(
        [
            fx.Root("tokens", (5,), jnp.int32),
            fx.Node("one", tables[0]),
            fx.Node("two", tables[1], ("tokens",)),
            fx.Node("out", Both(linear(2, 4, 3), linear(3, 4, 3)), ("one", "two")),
        ]
    )
    problem = fx.Problem(network, RNG.integers(7, size=(6, 5)), RNG.normal(size=(6, 3)))
    found = [fx.infer(problem, s) for s in (fx.StateDescent(optax.sgd(0.1), 400), fx.Newton())]
    np.testing.assert_allclose(found[0].energy, found[1].energy, rtol=1e-3)
    fx.Incremental().gradient(problem, KEY)


@pytest.mark.parametrize("names", [["s"], None], ids=["a stack", "everything"])
def test_frozen_parts_with_every_rule(names):
    network = fx.freeze(
        fx.Network([fx.Stack("s", blocks(3, 4)), fx.Node("o", linear(4, 4, 2))], (4,)), names
    )
    problem = fx.Problem(network, *(RNG.normal(size=(5, n)) for n in (4, 2)))
    for rule in (fx.Equilibrium(), fx.Incremental()):
        optimizer = optax.sgd(0.1)
        state = rule.init_optimizer(optimizer, network)
        learned, _, _ = rule.update(problem, optimizer, state, KEY)
        kept = learned.entry("s").block.weight
        np.testing.assert_array_equal(kept, network.entry("s").block.weight)
    aligned = fx.alignment(problem, fx.Equilibrium(), KEY)
    assert np.isnan(aligned.cosine[:3]).all()


def test_own_scores_need_no_loss():
    network = fx.Network([fx.Root("z", (2,)), fx.Node("x", linear(5, 2, 4))])
    data = fx.data.Dataset("d", *3 * [{"x": RNG.normal(size=(20, 4))}])
    scores = lambda network, batch: {"size": jnp.mean(batch["x"] ** 2)}  # noqa: E731
    found = fx.fit(network, data, epochs=1, batch_size=10, scores=scores)
    assert found.summary["test_loss"] is None
    assert found.summary["test_size"] == pytest.approx(np.mean(data.test["x"] ** 2), rel=1e-5)


def test_a_batch_in_which_nothing_is_observed():
    network = fx.Network([fx.Root("z", (2,)), fx.Node("x", linear(5, 2, 4))])
    problem = fx.Problem(network, {"x": fx.Clamp.observed(np.full((3, 4), np.nan))})
    gradient, report = fx.Equilibrium().gradient(problem, KEY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert float(report.energy.sum()) == 0


def test_a_mask_of_labels_at_several_positions():
    network = fx.Network(
        [fx.Node("h", linear(6, 3, 9)), fx.Node("o", lambda z: z.reshape(3, 3))], (3,)
    )
    labels = RNG.integers(3, size=(6, 3))
    problem = fx.Problem(
        network, {"input": RNG.normal(size=(6, 3)), "o": fx.Clamp(labels, np.arange(3) < 2)}
    )
    expected = np.broadcast_to((np.arange(3) < 2)[:, None], (6, 3, 3))
    np.testing.assert_array_equal(problem.clamps["o"].mask, expected)


def test_shared_weights_are_frozen_at_their_owner():
    cell = linear(7, 3, 3)
    network = fx.Network(
        [fx.Node("a", cell), fx.Node("b", cell), fx.Node("o", linear(8, 3, 2))],
        (3,),
        share={"b": "a"},
    )
    with pytest.raises(ValueError, match="freeze 'a'"):
        fx.freeze(network, ["b"])
    assert not jax.tree.leaves(fx.weights(fx.freeze(network, ["a", "b"]).entry("a")))


SLIPS = """
import jax.numpy as jnp, numpy as np, optax, fathomx as fx
node = fx.Node("x", lambda z: 2 * z)
problem = fx.Problem(fx.Network([fx.Root("z", (2,)), node]), {"x": np.ones((1, 2))})
PART = {"x": np.ones((64, 2), np.float32)}
for act in (
    lambda: fx.infer(problem, fx.GaussNewton),
    lambda: fx.infer(problem.network, fx.GaussNewton()),
    lambda: fx.Node("a", jnp.tanh, energy="gaussian"),
    lambda: fx.fit(problem.network, fx.data.Dataset("d", PART, PART, PART), optimizer=optax.adam),
):
    try:
        act()
    except TypeError as error:
        print(error)
"""


def test_common_slips_are_said():
    """In a process of its own: here, types are checked before the library sees them."""
    found = subprocess.run(
        [sys.executable, "-c", SLIPS], capture_output=True, text=True, check=True
    )
    one, two, three, four = found.stdout.splitlines()
    assert "solver must be a Solver such as" in one and "not the class GaussNewton; call it" in one
    assert "problem must be a Problem such as fx.Problem(network, x, y), not a Network" in two
    assert "energy must be an Energy such as fx.Gaussian(), not 'gaussian'" in three
    assert "not the function adam; call it with its rate" in four
