"""What users write themselves and hand in: rules, solvers, functions, targets that do not fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx

NETWORK = fx.models.mlp(4, 3, width=5, depth=3, key=jax.random.key(0))
X = jax.random.normal(jax.random.key(1), (6, 4))
LABELS = jnp.array([0, 1, 2, 0, 1, 2])
PROBLEM = fx.Problem(NETWORK, X, LABELS)


class Rule(fx.Backprop):
    """Returns what it is told, made from what backprop returns."""

    change: object = eqx.field(static=True, default=None)

    def gradient(self, problem, key):
        return self.change(*super().gradient(problem, key))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda g, r: g, TypeError, "Rule.gradient must return a gradient and a StepReport, not a"),
        (lambda g, r: (g, None), TypeError, "a gradient and a StepReport, not a tuple of 2"),
        (lambda g, r: (r, g), TypeError, "a gradient and a StepReport"),
        (lambda g, r: (g, r, 1), TypeError, "a gradient and a StepReport, not a tuple of 3"),
        (
            lambda g, r: (jax.tree.map(lambda a: a.sum(), g), r),
            ValueError,
            "with an array for every weight, of its shape and type",
        ),
        (
            lambda g, r: (jax.tree.map(lambda a: a + 1j, g), r),
            ValueError,
            "with an array for every weight, of its shape and type",
        ),
    ],
)
def test_a_rule_returns_a_gradient_of_every_weight(change, error, said):
    rule, optimizer = Rule(change=change), optax.sgd(0.1)
    state = rule.init_optimizer(optimizer, NETWORK)
    with pytest.raises(error, match=said):
        rule.update(PROBLEM, optimizer, state, jax.random.key(0))


class Done(fx.GaussNewton):
    def finished(self, problem, state):
        return jnp.zeros(3, bool)


class Lost(fx.GaussNewton):
    def step(self, problem, state):
        return None


class Half(fx.GaussNewton):
    @property
    def max_steps(self):
        return 2.5


class Nothing(fx.GaussNewton):
    def init(self, problem, start, here):
        return None


@pytest.mark.parametrize(
    ("solver", "error", "said"),
    [
        (Done, ValueError, r"Done\.finished must return one truth value for each of 6 examples"),
        (Lost, ValueError, r"Lost\.step must return a state of the same arrays"),
        (Half, TypeError, "max_steps of Half must be an integer of at least 0, not 2.5"),
        (Nothing, TypeError, r"Nothing\.init must return its first state, a SolverState, not None"),
    ],
)
def test_a_solver_keeps_what_it_promises(solver, error, said):
    with pytest.raises(error, match=said):
        fx.infer(PROBLEM, solver(2, 2))


def test_a_categorical_target_is_a_distribution():
    network = fx.models.mlp(4, 3, width=5, depth=3, output=fx.Categorical(), key=jax.random.key(0))
    soft = jnp.array([[0.2, 0.3, 0.5]] * 6)
    fx.Problem(network, X, soft)
    fx.Problem(network, X, soft.astype(jnp.bfloat16))
    for wrong in (soft * 2, jax.nn.one_hot(LABELS, 3) * 5 - 1, jnp.ones((6, 3))):
        with pytest.raises(ValueError, match="must be probabilities over the last axis, but holds"):
            fx.Problem(network, X, wrong)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fx.Problem(NETWORK, X, LABELS, batch=7), "batch is 7, but what is clamped holds"),
        (lambda: PROBLEM.examples([[0, 1]]), "takes none of 6 examples"),
        (lambda: fx.Problem(NETWORK, X, LABELS, output_precision=1e300), "float32 can hold"),
        (lambda: fx.Problem(NETWORK, X, LABELS, output_precision=1e-60), "float32 can hold"),
        (
            lambda: fx.Problem(NETWORK, {"input": X, "target": LABELS}),
            "Give target= by itself, or call it 'output'",
        ),
        (
            lambda: fx.Network(
                [fx.Node("a", lambda z: z + 1j), fx.Node("b", jnp.abs)], input_shape=(4,)
            ),
            "node 'a' must return real floating-point numbers, not complex",
        ),
        (
            lambda: fx.Network(
                [
                    fx.Node("a", eqx.nn.Linear(4, 4, key=jax.random.key(0))),
                    fx.Node("b", eqx.nn.Linear(4, 3, key=jax.random.key(1))),
                ],
                input_shape=(4,),
                share={"b": "a"},
            ),
            "'b' has weights of the shapes",
        ),
    ],
)
def test_what_contradicts_itself_is_told(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_an_augmentation_returns_what_it_was_given():
    part = np.asarray(X), np.asarray(LABELS)
    for change in (lambda b, key: b.astype(int), lambda b, key: b[:, :2], lambda b, key: {"x": b}):
        data = fx.data.Dataset("mine", part, part, part, 3, augmentation=change)
        with pytest.raises(ValueError, match="augmentation must return an array of shape"):
            fx.fit(NETWORK, data, batch_size=3, epochs=1)


def test_energies_and_vectors_may_be_integers():
    assert fx.energy_balance(NETWORK, [[1, 2, 3]]).reached.tolist() == [3]
    diagonal, _ = fx.theory.lanczos(lambda v: v, jnp.array([1, 2]), 1)
    np.testing.assert_allclose(diagonal, [1.0], rtol=1e-6)
