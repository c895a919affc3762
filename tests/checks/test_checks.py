"""The gate for arguments, from both sides: what is right passes, what is wrong is told."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx import checks

HUGE = 10**400


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), jnp.int32(3), np.array(3)])
def test_integers_of_any_kind_are_counts(value):
    found = checks.count("epochs", value)
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize(
    "value", [None, "3", b"3", 1.5, 3.0, True, np.True_, jnp.array(True), [3], np.array([3, 4]), 1j]
)
def test_what_is_no_integer_is_no_count(value):
    with pytest.raises(TypeError, match=r"^epochs must be an integer of at least 1, not .+\.$"):
        checks.count("epochs", value)


@pytest.mark.parametrize("value", [0, -1, HUGE, 2**31, np.uint64(2**63)])
def test_counts_have_a_range(value):
    with pytest.raises(ValueError, match=r"^epochs must be an integer of at least 1, not .+\.$"):
        checks.count("epochs", value)
    with pytest.raises(ValueError, match=r"an integer of at least 2 and at most 4, not 5"):
        checks.count("ends", 5, least=2, most=4)


@pytest.mark.parametrize(
    "value", [0.5, np.float16(0.5), np.array(0.5, ">f8"), jnp.float32(0.5), jnp.bfloat16(0.5)]
)
def test_real_numbers_of_any_kind_come_out_as_pythons(value):
    found = checks.number("rate", value, above=0)
    assert (found, type(found)) == (0.5, float)
    assert type(checks.number("rate", np.int32(2))) is int


@pytest.mark.parametrize(
    "value", [None, "0.1", True, np.False_, 1j, np.complex64(1), [0.1], np.ones(2), optax.sgd]
)
def test_what_is_no_number_is_told(value):
    with pytest.raises(TypeError, match=r"^rate must be a positive, finite number, not .+\.$"):
        checks.number("rate", value, above=0)


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -np.inf, HUGE, 0, -1.0], ids=lambda v: str(v)[:9]
)
def test_numbers_have_a_range(value):
    with pytest.raises(ValueError, match=r"^rate must be a positive, finite number, not .+\.$"):
        checks.number("rate", value, above=0)


def test_ranges_are_said_in_words():
    with pytest.raises(ValueError, match="a finite number of at least 0 and below 1, not 1"):
        checks.number("momentum", 1, least=0, below=1)
    with pytest.raises(ValueError, match="must be a finite number, not inf"):
        checks.number("mean", np.inf)


def test_traced_numbers_pass():
    assert jax.jit(lambda rate: checks.number("rate", rate, above=0) * 2)(3.0) == 6


def test_shapes():
    assert checks.shape("input_shape", np.int64(7)) == (7,)
    assert checks.shape("input_shape", [np.int8(2), 3]) == (2, 3)
    for wrong in ("28", 4.7, (4.7,), {"height": 3}, {3}, None, (True,), [[2]]):
        with pytest.raises(TypeError, match="input_shape must be sizes of at least 1, such as"):
            checks.shape("input_shape", wrong)
    with pytest.raises(ValueError, match=r"not \(3, 0\)"):
        checks.shape("input_shape", (3, 0))
    with pytest.raises(ValueError, match="must be 3 sizes of at least 1"):
        checks.shape("input_shape", (3, 2), axes=3)


@pytest.mark.parametrize(
    "value",
    [
        [[1.0, 2.0]],
        np.array([[1.0, 2.0]], ">f4"),
        np.asfortranarray([[1.0, 2.0]]),
        np.array([[1, 2]], ">i8"),
        jnp.array([[1.0, 2.0]]),
    ],
)
def test_arrays_of_any_layout_are_read(value):
    np.testing.assert_array_equal(checks.array("input", value), [[1, 2]])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "must be an array of numbers, not None"),
        ("text", "must be an array of numbers, not 'text'"),
        ([["a", "b"]], "not values of type <U1"),
        ([object()], "must be an array of numbers, not [<object object"),
        ({"a": 1}, "must be an array of numbers, not {'a': 1}"),
        ([[1], [2, 3]], "has rows of unlike length"),
        (np.ones(2, complex), "imaginary part would be lost"),
        (jnp.ones(2, complex), "imaginary part would be lost"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "whose mask would be lost"),
        (np.array([2**32]), "holds integers from 4294967296 to 4294967296"),
        (np.array(["2026-11-25"], "M8[D]"), "must be an array of numbers"),
        (jax.random.key(0), "not random keys"),
    ],
)
def test_what_is_no_array_of_real_numbers_is_told(value, said):
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        checks.array("input", value)


def test_keys():
    key = jax.random.key(3)
    np.testing.assert_array_equal(
        jax.random.key_data(checks.key("key", jax.random.PRNGKey(3))), jax.random.key_data(key)
    )
    assert checks.key("key", key) is key
    for wrong in (0, None, "seed", np.zeros(2, np.int32), jnp.zeros(3, jnp.uint32)):
        with pytest.raises(TypeError, match="must be a random key such as"):
            checks.key("key", wrong)
    with pytest.raises(ValueError, match="one random key, not 3"):
        checks.key("key", jax.random.split(key, 3))


def test_kinds():
    rule = fx.Backprop()
    assert checks.instance("rule", rule, fx.LearningRule, "fx.Backprop()") is rule
    with pytest.raises(TypeError, match="not the class Backprop; call it"):
        checks.instance("rule", fx.Backprop, fx.LearningRule, "fx.Backprop()")
    with pytest.raises(TypeError, match="not 'backprop'"):
        checks.instance("rule", "backprop", fx.LearningRule, "fx.Backprop()")
    assert checks.truth("bias", np.True_) is True
    for wrong in ("no", 1, None, np.ones(2, bool)):
        with pytest.raises(TypeError, match="bias must be True or False"):
            checks.truth("bias", wrong)
    assert checks.items("parents", iter("ab"), "['a']") == ("a", "b")
    for wrong in ("ab", {"a": 1}, 3):
        with pytest.raises(TypeError, match="must be a list"):
            checks.items("parents", wrong, "['a']")
    with pytest.raises(TypeError, match="names in clamps must be texts, not 1"):
        checks.mapping("clamps", {1: 2}, "{'input': x}")
    with pytest.raises(TypeError, match="must be one of a, b, not None"):
        checks.choice("pool", None, ("a", "b"))
    with pytest.raises(ValueError, match="unknown pool 'maks'"):
        checks.choice("pool", "maks", ("max", "mean"))
    with pytest.raises(ValueError, match=r"Choose from: PC; PC, rate 0\.1; backprop\."):
        checks.choice("method", "zzz", ("PC", "PC, rate 0.1", "backprop"))


def test_what_was_given_is_named_in_a_few_words():
    assert checks.shown(np.ones((2, 3), np.float32)) == "an array of shape (2, 3) and type float32"
    assert checks.shown(optax.adam) == "the function adam"
    assert checks.shown(fx.Newton) == "the class Newton"
    assert checks.shown("x" * 1000).endswith("...")
    assert len(checks.shown("x" * 1000)) == 60
    assert checks.shown(HUGE) == "1" + "0" * 56 + "..."
    assert checks.shown(10**5000) == "an int"
    assert checks.shown(list(range(1000))) == "a list of 1000"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda net: fx.fit(net, ([[1.0]], [0]), epoch=3),
            "fit has no argument 'epoch'. Did you mean 'epo",
        ),
        (lambda net: fx.fit(net), "fit needs 'data'; it takes network, data, rule, optimizer, "),
        (lambda net: fx.Network(), "Network needs 'entries'; it takes entries, input_shape, "),
        (lambda net: fx.Problem(net, target=1, targets=1), "Problem has no argument 'targets'."),
        (lambda net: net.predictions(), "Network.predictions needs 'activities'; it takes acti"),
        (lambda net: fx.fit(net, network=net), "fit is given 'network' twice, by position and"),
        (
            lambda net: fx.models.mlp(4, 3, 5),
            "mlp takes at most 2 arguments by position (in_size, out_size), not 3; give the others",
        ),
        (lambda net: fx.Backprop(1), "Backprop takes at most 0 arguments by position, not 1;"),
        (lambda net: fx.data.Part(), "Part needs 'inputs' and 'labels'; it takes inputs, labels."),
        (lambda net: fx.data.load("digits", see=1), "load has no argument 'see'. It takes name,"),
    ],
)
def test_a_call_that_does_not_fit_is_told_what_is_taken(call, said):
    net = fx.models.mlp(4, 3, width=5, depth=3, key=jax.random.key(0))
    with pytest.raises(TypeError, match="^" + re.escape(said)):
        call(net)


def test_an_error_from_within_a_call_that_fits_stays_as_it_is():
    @checks.gate
    def divided(by: str) -> None:
        len(by, by)

    with pytest.raises(TypeError, match="exactly one argument"):
        divided("two")


def test_warnings_come_from_the_line_of_the_caller():
    net = fx.models.mlp(4, 3, width=5, depth=3, key=jax.random.key(0))
    problem = fx.Problem(net, input=jnp.ones((2, 4)), target=jnp.array([0, 1]))
    old = (
        lambda: fx.StateDescent(0.1, 3, precision=fx.Uniform()),
        lambda: net.nodes,
        lambda: problem.hidden(problem.zeros()),
    )
    for used in old:
        with pytest.warns(DeprecationWarning, match=" is now ") as caught:
            used()
        assert [warning.filename for warning in caught] == [__file__]
