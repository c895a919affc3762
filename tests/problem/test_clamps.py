"""What is clamped by name: forms that are accepted, and mistakes that are said."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx

IMAGE = np.random.default_rng(0).normal(size=(4, 5))


def linear(seed, inputs, outputs):
    return eqx.nn.Linear(inputs, outputs, key=jax.random.key(seed))


def decoder(**root):
    return fx.Network(
        [
            fx.Root("label", (3,), **root),
            fx.Node("h", linear(0, 3, 4)),
            fx.Stack(
                "s",
                eqx.filter_vmap(lambda k: eqx.nn.Linear(4, 4, key=k))(
                    jax.random.split(jax.random.key(1), 2)
                ),
            ),
            fx.Node("image", linear(2, 4, 5)),
        ]
    )


def both():
    return fx.Network(
        [
            fx.Node("h", linear(3, 3, 4)),
            fx.Node("class", linear(4, 4, 3), energy=fx.Categorical()),
            fx.Node("value", linear(5, 4, 2), parents=("h",)),
        ],
        (3,),
    )


def test_input_and_target_are_short_for_names():
    network = fx.models.mlp(3, 2, width=4, depth=3, key=jax.random.key(0))
    x, y = IMAGE[:, :3], IMAGE[:, :2]
    forms = [
        fx.Problem(network, x, y, 0.5),
        fx.Problem(network, input=x, target=y, output_precision=0.5),
        fx.Problem(network, {"input": x, "output": y}, output_precision=0.5),
        fx.Problem(network, {"input": x, "output": y}, 0.5),
    ]
    energies = [fx.infer(p, fx.GaussNewton()).energy for p in forms]
    for energy in energies[1:]:
        np.testing.assert_array_equal(energy, energies[0])


def test_labels_become_vectors_wherever_they_are_clamped():
    labels = np.array([0, 2, 1, 1])
    problem = fx.Problem(decoder(), {"label": labels, "image": IMAGE})
    np.testing.assert_array_equal(problem.clamps["label"].value, np.eye(3)[labels])
    # A mask of labels holds for all of their classes, and what it hides may be anything.
    known = np.array([True, False, True, False])
    hidden = fx.Clamp(np.array([0, 99, 1, -7]), known)
    problem = fx.Problem(both(), {"input": IMAGE[:, :3], "class": hidden, "value": IMAGE[:, :2]})
    relaxed = fx.infer(problem, fx.Newton(1e-6))
    found = np.asarray(relaxed.activities["class"])
    np.testing.assert_array_equal(found[known], np.eye(3)[[0, 1]])
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert 0 < found[1].max() < 1
    alone = problem.examples([1])
    with_none = fx.Problem(both(), {"input": IMAGE[1:2, :3], "value": IMAGE[1:2, :2]})
    one, other = (fx.infer(p, fx.Newton(1e-6)) for p in (alone, with_none))
    np.testing.assert_allclose(one.activities["h"], other.activities["h"], rtol=1e-4)
    np.testing.assert_allclose(one.activities["class"], other.activities["class"], rtol=1e-4)


def test_what_is_missing_is_nan():
    assert fx.Clamp.observed(IMAGE).mask is None and fx.Clamp.observed([1, 2]).mask is None
    holes = np.where(IMAGE > 0, IMAGE, np.nan)
    problem = fx.Problem(decoder(), {"image": fx.Clamp.observed(holes)})
    np.testing.assert_array_equal(problem.clamps["image"].mask, IMAGE > 0)
    one = fx.Problem(decoder(), {"image": fx.Clamp(np.nan_to_num(holes), IMAGE > 0)})
    a, b = (fx.infer(p, fx.GaussNewton(2, 4)) for p in (problem, one))
    assert eqx.tree_equal(a, b)


def test_the_prior_is_a_problem_too():
    problem = fx.Problem(decoder(mean=0.5), {}, batch=3)
    relaxed = fx.infer(problem, fx.GaussNewton())
    np.testing.assert_array_equal(relaxed.activities["label"], np.full((3, 3), 0.5))
    assert float(relaxed.energy.sum()) == 0 and float(relaxed.unsettled.max()) == 0


def test_a_start_in_activities(float64):
    problem = fx.Problem(decoder(), {"image": IMAGE})
    settled = fx.infer(problem, fx.Newton(1e-12))
    for solver in (
        fx.GaussNewton(1, 1),
        fx.ErrorDescent(optax.sgd(0.01), 1),
        fx.StateDescent(optax.sgd(0.01), 1),
        fx.Newton(1e-6),
        fx.GradientFlow(segments=1),
    ):
        start = {name: settled.activities[name] for name in ("label", "h", "s")}
        warm = fx.infer(problem, solver, at=start)
        assert float(warm.unsettled.max()) < 1e-6
    # Of some entries alone: the others start at their prediction.
    label = settled.activities["label"]
    begun = fx.infer(problem, fx.GaussNewton(0), at={"label": label})
    np.testing.assert_allclose(begun.activities["label"], label, rtol=1e-12)
    np.testing.assert_array_equal(begun.errors["h"], 0)
    np.testing.assert_allclose(begun.errors["label"], label, rtol=1e-12)
    relaxed, rows = fx.trace(problem, fx.GaussNewton(2, 3), at=start)
    np.testing.assert_allclose(rows[-1].sum(), problem.batch * relaxed.energy.sum(), rtol=1e-10)
    np.testing.assert_allclose(relaxed.energy.sum(), settled.energy.sum(), rtol=1e-10)


class Noisy(fx.StateDescent):
    """A solver that draws."""

    @property
    def needs_key(self):
        return True


PART = fx.Clamp(IMAGE, np.ones((4, 3), bool))
MISTAKES = {
    "unknown name": (lambda: fx.Problem(decoder(), {"imag": IMAGE}), "Did you mean 'image'"),
    "everything clamped": (
        lambda: fx.Problem(
            decoder(),
            {"label": [0, 1, 2, 0], "h": np.ones((4, 4)), "s": np.ones((2, 4, 4)), "image": IMAGE},
        ),
        "everything is clamped",
    ),
    "nothing to explain": (lambda: fx.Problem(decoder(), {"label": [0]}), "nothing to explain"),
    "mask that does not fit": (lambda: fx.Problem(decoder(), {"image": PART}), "mask of 'image'"),
    "mask of numbers": (
        lambda: fx.Problem(decoder(), {"image": fx.Clamp(IMAGE, np.ones((4, 5)))}),
        "must be booleans",
    ),
    "no prior": (
        lambda: fx.Problem(decoder(energy=None), {"image": IMAGE}),
        "'label' has no prior",
    ),
    "categorical with children": (
        lambda: fx.Problem(
            fx.Network(
                [fx.Node("c", linear(6, 5, 3), energy=fx.Categorical()), fx.Node("o", jnp.tanh)],
                (5,),
            ),
            IMAGE,
            IMAGE[:, :3],
        ),
        "'c' has the energy",
    ),
    "feedback on nothing": (
        lambda: fx.Network(
            [fx.Root("z", (3,)), fx.Node("x", linear(7, 3, 3))],
            feedbacks=[fx.Feedback("f", "zz", jnp.tanh, ("x",))],
        ),
        "Did you mean 'z'",
    ),
    "feedback of another shape": (
        lambda: fx.Network(
            [fx.Root("z", (3,)), fx.Node("x", linear(7, 3, 5))],
            feedbacks=[fx.Feedback("f", "z", jnp.tanh, ("x",))],
        ),
        r"predicts \(5,\), but 'z'",
    ),
    "clamped twice": (
        lambda: fx.Problem(decoder(), {"image": IMAGE}, IMAGE),
        "'image' is clamped twice",
    ),
    "stack of another depth": (
        lambda: fx.Problem(decoder(), {"s": np.ones((3, 4, 4)), "image": IMAGE}),
        "a stack of depth 2 takes",
    ),
    "unlike batches": (
        lambda: fx.Problem(decoder(), {"label": [0, 1], "image": IMAGE}),
        "holds 4 examples, but what is clamped before holds 2",
    ),
    "start of what is clamped": (
        lambda: fx.infer(
            fx.Problem(decoder(), {"image": IMAGE}), fx.GaussNewton(), at={"image": IMAGE}
        ),
        "'image', which is clamped",
    ),
    "start of another shape": (
        lambda: fx.infer(
            fx.Problem(decoder(), {"image": IMAGE}), fx.GaussNewton(), at={"h": np.ones((4, 3))}
        ),
        r"\(4, 3\) for 'h'",
    ),
    "no key": (
        lambda: fx.infer(fx.Problem(decoder(), {"image": IMAGE}), Noisy(optax.sgd(0.1), 2)),
        "Noisy draws random numbers; give a key",
    ),
    "not finite": (
        lambda: fx.Problem(decoder(), {"image": np.full((4, 5), np.nan)}),
        "fx.Clamp.observed",
    ),
    "precision of another shape": (
        lambda: fx.Network(
            [fx.Root("z", (3,)), fx.Node("x", linear(7, 3, 5), energy=fx.Gaussian(np.ones(4)))]
        ),
        r"the precision of 'x' has the shape \(4,\)",
    ),
    "backprop without a feedforward pass": (
        lambda: fx.alignment(
            fx.Problem(decoder(), {"image": IMAGE}), fx.Equilibrium(), jax.random.key(0)
        ),
        "has a free root, 'label'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_said_in_one_sentence(name):
    act, words = MISTAKES[name]
    with pytest.raises(ValueError, match=words) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_targets_that_do_not_fit_say_how_they_would():
    network = fx.models.mlp(4, 3, width=5, depth=2, key=jax.random.key(0))
    x = np.ones((6, 4), np.float32)
    for target, message in (
        (np.ones(6, np.float32), "labels must be integers, not float32"),
        (np.ones((6, 2), np.float32), "give one target per example"),
        (np.zeros(5, int), "holds 5 examples, but what is clamped before holds 6"),
    ):
        with pytest.raises(ValueError, match=message):
            fx.Problem(network, x, target)
    single = fx.models.mlp(4, 1, width=5, depth=2, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"give target\[\.\.\., None\]"):
        fx.Problem(single, x, np.ones(6, np.float32))


def test_predictions_need_every_input():
    network = fx.Network(
        [
            fx.Root("left", (2,), energy=None),
            fx.Root("right", (2,), energy=None),
            fx.Node("hidden", lambda a, b: a + b, parents=("left", "right")),
            fx.Node("output", lambda z: 2 * z),
        ]
    )
    x = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(fx.predict(network, {"left": x, "right": x}), 4 * x)
    with pytest.raises(ValueError, match="root 'right' has no prior"):
        fx.predict(network, x)
