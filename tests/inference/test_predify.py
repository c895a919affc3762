"""Predify's dynamics, against the published equation written out."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx

SIZES = (5, 4, 3, 2)


class Bent(eqx.Module):
    weight: jax.Array

    def __call__(self, z):
        return self.weight @ jnp.tanh(z)


def network(rng):
    def matrix(large, small):
        return Bent(jnp.asarray(rng.normal(size=(large, small)) / 2))

    names = ["one", "two", "output"]
    nodes = [fx.Node(n, matrix(b, a)) for n, a, b in zip(names, SIZES, SIZES[1:], strict=False)]
    read = ["input", "one"]
    feedbacks = [
        fx.Feedback(f"from_{n}", of, matrix(a, b), n)
        for n, of, a, b in zip(names, read, SIZES, SIZES[1:], strict=False)
    ]
    return fx.Network(nodes, (5,), feedbacks=feedbacks)


def test_it_is_the_published_update(float64):
    made = network(np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(3, 5))
    forward = {"one": 0.6, "two": 0.5, "output": 0.7}
    feedback, correction, steps = {"one": 0.2, "two": 0.3}, {"one": 0.4, "two": 0.1}, 4
    f = [np.asarray(e.function.weight) for e in made.entries[1:]]
    g = [np.asarray(e.function.weight) for e in made.feedbacks]
    for i in range(3):
        z = [x[i]]
        for w in f:
            z.append(w @ np.tanh(z[-1]))
        for _ in range(steps):
            old = [np.array(a) for a in z]
            for n, name in enumerate(("one", "two", "output"), start=1):
                b, a = forward[name], correction.get(name, 0.0)
                # The output predicts nothing here, and nothing predicts it or the second node.
                down = g[n] @ np.tanh(old[n + 1]) if n == 1 else None
                share = feedback[name] if down is not None else 0.0
                new = b * f[n - 1] @ np.tanh(z[n - 1]) + (1 - b - share) * old[n]
                if down is not None:
                    new = new + share * down
                if n <= 2:
                    missed = old[n - 1] - g[n - 1] @ np.tanh(old[n])
                    slope = g[n - 1] * (1 - np.tanh(old[n]) ** 2)
                    new = new + a * 2 / missed.size * slope.T @ missed
                z[n] = new
        found = fx.infer(
            fx.Problem(made, {"input": x}), fx.Predify(forward, feedback, correction, steps)
        )
        for name, expected in zip(("one", "two", "output"), z[1:], strict=True):
            np.testing.assert_allclose(found.activities[name][i], expected, atol=1e-12)


def test_without_steps_or_rates_it_is_the_feedforward_pass():
    made = network(np.random.default_rng(0))
    problem = fx.Problem(made, {"input": jnp.ones((2, 5))})
    expected = fx.predict(made, jnp.ones((2, 5)))
    for solver in (fx.Predify(0.5, 0.5, 1.0, 0), fx.Predify(0.3, 0.0, 0.0, 5)):
        found = fx.infer(problem, solver)
        np.testing.assert_allclose(found.activities["output"], expected, atol=1e-6)


def test_what_predify_refuses():
    for rates, said in (
        ((-0.1, 0.1, 0.1), "forward must be"),
        ((0.8, 0.3, 0.1), "forward and feedback sum to 1.1"),
        (({"one": 0.5}, {"one": 0.6}, 0.1), "sum to 1.1"),
    ):
        with pytest.raises(ValueError, match=said):
            fx.Predify(*rates, 3)
    key = jax.random.key(0)
    plain = fx.models.mlp(4, 2, width=3, depth=2, key=key)
    with pytest.raises(ValueError, match="Predify needs a network with feedbacks"):
        fx.infer(
            fx.Problem(plain, jnp.ones((1, 4)), jnp.ones((1, 2))), fx.Predify(0.8, 0.1, 0.1, 3)
        )
    stacked = fx.models.bidirectional(4, 2, width=3, depth=4, key=key)
    with pytest.raises(ValueError, match="'hidden' is a stack"):
        fx.infer(fx.Problem(stacked, {"input": jnp.ones((1, 4))}), fx.Predify(0.8, 0.1, 0.1, 3))
    made = network(np.random.default_rng(0))
    with pytest.raises(ValueError, match="'tow'"):
        fx.infer(
            fx.Problem(made, {"input": jnp.ones((1, 5))}), fx.Predify(0.8, {"tow": 0.1}, 0.1, 3)
        )


def test_one_program_serves_all_rates():
    made = network(np.random.default_rng(0))
    traced = []

    @eqx.filter_jit
    def output(solver):
        traced.append(solver)
        problem = fx.Problem(made, {"input": jnp.ones((1, 5))})
        return fx.infer(problem, solver).activities["output"]

    one = output(fx.Predify({"one": 0.6}, {"one": 0.2}, 0.1, 3))
    other = output(fx.Predify({"one": 0.7}, {"one": 0.3}, 0.2, 3))
    assert len(traced) == 1
    assert not np.allclose(one, other)
