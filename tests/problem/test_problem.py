"""What a problem refuses, how it reads targets, and which type of numbers it computes in."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx


def build(output=None, seed=0):
    return fx.models.mlp(
        3, 4, width=5, depth=4, activation="tanh", key=jax.random.key(seed), output=output
    )


def data(batch=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, 3)), rng.normal(size=(batch, 4))


def spoiled(array, value):
    array = array.copy()
    array[1, 2] = value
    return array


X, Y = data()


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X[:, :2], Y, ["input", "(6, 2)", "(3,)"]),
        (X[0], Y, ["input", "(3,)"]),
        (np.float32(1), Y, ["input", "()"]),
        (X[:0], Y[:0], ["0 examples"]),
        (X, Y[:, :3], ["target", "(6, 3)", "'output'", "(6, 4)"]),
        (X, Y[:5], ["target", "5 examples", "'output'", "holds 6"]),
        (X, Y[:, 0], ["target", "(6,)", "'output'"]),
        (X, np.float32(1), ["target", "()", "'output'"]),
        (X, np.array([0, 1, 2, 3, 4, 0]), ["labels", "'output'", "0..3"]),
        (X, np.array([0, 1, 2, 3, -1, 0]), ["labels", "'output'", "0..3"]),
        (X, np.array([0, 1, 2]), ["target", "'output'"]),
        (spoiled(X, np.nan), Y, ["input", "1", "NaN"]),
        (X, spoiled(Y, np.inf), ["target", "'output'", "infinite"]),
    ],
    ids=[
        "input size",
        "one example",
        "scalar input",
        "empty batch",
        "target size",
        "target batch",
        "float labels",
        "scalar target",
        "label too large",
        "negative label",
        "too few labels",
        "NaN in the input",
        "infinity in the target",
    ],
)
def test_what_does_not_fit_is_said_in_one_line(x, y, words):
    with pytest.raises(ValueError, match=words[0]) as caught:
        fx.Problem(build(), x, y)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_predict_checks_its_input_too():
    with pytest.raises(ValueError, match=r"\(6, 2\)"):
        fx.predict(build(), X[:, :2])


def test_shapes_are_checked_while_tracing():
    with pytest.raises(ValueError, match="'output'"):
        jax.eval_shape(lambda x, y: fx.Problem(build(), x, y).target, X, Y[:, :3])


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_integer_labels_become_one_hot(kind):
    labels = np.array([0, 3, 1, 2, 2, 0], kind)
    problem = fx.Problem(build(), X, labels)
    np.testing.assert_array_equal(problem.target, np.eye(4, dtype=np.float32)[labels])
    assert problem.target.dtype == jnp.float32


def test_labels_work_under_jit():
    labels = np.array([0, 3, 1, 2, 2, 0])
    target = jax.jit(lambda x, y: fx.Problem(build(), x, y).target)(X, labels)
    np.testing.assert_array_equal(target, np.eye(4)[labels])


def test_integer_targets_of_full_shape_are_values():
    target = np.arange(24).reshape(6, 4)
    np.testing.assert_array_equal(fx.Problem(build(), X, target).target, target)


def test_labels_per_position():
    """An output of two positions with three classes takes two labels per example."""
    network = fx.Network(
        [
            fx.Node("a", lambda x: x),
            fx.Node("out", lambda z: z.reshape(2, 3), energy=fx.Categorical()),
        ],
        input_shape=(6,),
    )
    labels = np.array([[0, 2], [1, 1]])
    problem = fx.Problem(network, np.ones((2, 6)), labels)
    np.testing.assert_array_equal(problem.target, np.eye(3)[labels])


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, [1.0, 2.0]])
def test_an_output_precision_is_a_positive_number(value):
    with pytest.raises((ValueError, TypeError), match="output_precision"):
        fx.Problem(build(), X, Y, output_precision=value)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("energy", [fx.Gaussian, fx.Categorical])
def test_the_precision_of_an_energy_is_a_positive_number(energy, value):
    with pytest.raises(ValueError, match="precision"):
        energy(precision=value)


def test_the_output_precision_is_that_of_the_output_node_unless_given():
    network = build(output=fx.Gaussian(precision=0.25))
    assert fx.Problem(network, X, Y).output_precision == 0.25
    assert fx.Problem(network, X, Y, output_precision=2).output_precision == 2
    again = fx.Problem(network, X, Y).with_output_precision(4)
    assert again.output_precision == 4
    assert again.output_precision.dtype == jnp.float32


# The type of numbers.


def cast(network, dtype):
    return jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, network)


def rebuilt(network, dtype):
    """The same entries in a network built from weights of the given type."""
    entries = [cast(entry, dtype) for entry in network.entries[1:]]
    return fx.Network(entries, network.input_shape)


SOLVERS = {
    "GaussNewton": fx.GaussNewton(iterations=2, cg_iterations=2),
    "StateDescent": fx.StateDescent(optax.sgd(0.1), steps=2),
    "ErrorDescent": fx.ErrorDescent(optax.sgd(0.1), steps=2),
}


@pytest.mark.parametrize("make", [rebuilt, cast], ids=["built", "cast"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_everything_follows_the_type_of_the_weights(make, dtype, request):
    if dtype == "float64":
        request.getfixturevalue("float64")
    network = make(build(output=fx.Gaussian(precision=0.5)), dtype)
    problem = fx.Problem(network, X, Y)

    def everything(problem):
        relaxed = {name: fx.infer(problem, solver) for name, solver in SOLVERS.items()}
        activities = relaxed["GaussNewton"].activities
        return {
            "problem": problem,
            "relaxed": relaxed,
            "energy": fx.energy(problem, activities),
            "gradient": fx.weight_gradient(problem, activities),
            "prediction": fx.predict(network, X),
        }

    shapes = eqx.filter_eval_shape(everything, problem)
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact):
            assert leaf.dtype == dtype, jax.tree_util.keystr(path)


def test_bfloat16_inference_lowers_the_energy():
    problem = fx.Problem(rebuilt(build(), "bfloat16"), X, Y)
    relaxed = eqx.filter_jit(fx.infer)(problem, fx.GaussNewton())
    before = fx.energy(problem, problem.explain(problem.network.zeros(6))[1])
    assert relaxed.energy.dtype == jnp.bfloat16
    assert float(relaxed.energy.sum()) < float(before.sum())


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: fx.StateDescent(steps=-1), "steps"),
        (lambda: fx.StateDescent(steps=1.5), "steps"),
        (lambda: fx.ErrorDescent(steps=True), "steps"),
        (lambda: fx.GaussNewton(iterations=-1), "iterations"),
        (lambda: fx.GaussNewton(cg_iterations=0), "cg_iterations"),
        (lambda: fx.Newton(tolerance=0.0), "tolerance"),
        (lambda: fx.Newton(tolerance=np.nan), "tolerance"),
        (lambda: fx.Newton(max_iterations=0), "max_iterations"),
        (lambda: fx.GradientFlow(tolerance=-1.0), "tolerance"),
        (lambda: fx.GradientFlow(segments=0), "segments"),
    ],
)
def test_options_of_solvers_are_checked(make, word):
    # Values of a wrong type are stopped by the run-time check of annotations already.
    with pytest.raises((ValueError, TypeError), match=word):
        make()


def test_integers_are_values_where_the_output_is_a_single_number():
    network = fx.models.mlp(3, 1, width=4, depth=2, key=jax.random.key(0))
    problem = fx.Problem(network, np.ones((3, 3)), np.array([[0], [1], [7]]))
    np.testing.assert_array_equal(problem.target, [[0.0], [1.0], [7.0]])
    with pytest.raises(ValueError, match="target"):
        fx.Problem(network, np.ones((3, 3)), np.array([0, 1, 7]))
