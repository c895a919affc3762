"""Truncated sampling of tokens, against the distribution computed in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.sampling.tokens import _Truncation

VOCABULARY, CONTEXT = 7, 4


def truncated(logits, top_k=None, top_p=None):
    """The probabilities in float64, token by token from the likeliest down."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    order = sorted(range(len(weights)), key=lambda token: (-weights[token], token))
    order = order[: top_k or len(order)]
    whole = sum(weights[order])
    kept, sum_so_far = [], 0.0
    for token in order:
        kept.append(token)
        sum_so_far += weights[token] / whole
        if top_p is not None and sum_so_far >= top_p:
            break
    found = np.zeros(len(weights))
    found[kept] = weights[kept] / weights[kept].sum()
    return found


@pytest.mark.parametrize("top_k", [None, 1, 2, 5, 7, 100])
@pytest.mark.parametrize("top_p", [None, 1e-6, 0.3, 0.7, 0.9, 0.999, 1.0])
def test_truncation_is_that_of_numpy(top_k, top_p):
    logits = np.random.default_rng(0).normal(size=(50, VOCABULARY)).astype(np.float32) * 2
    truncation = _Truncation.of(top_k, top_p, VOCABULARY)
    assert (truncation is None) == (top_k is None and top_p is None)
    kept = jnp.asarray(logits) if truncation is None else truncation(jnp.asarray(logits))
    found = np.asarray(jax.nn.softmax(kept, axis=-1))
    expected = np.array([truncated(row, top_k, top_p) for row in logits])
    assert ((found > 0) == (expected > 0)).all()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_by_hand_with_equal_tokens():
    logits = jnp.log(jnp.array([[0.125, 0.25, 0.25, 0.125, 0.25]]))

    def kept(top_k, top_p):
        truncation = _Truncation.of(top_k, top_p, 5)
        return np.flatnonzero(np.isfinite(truncation(logits)[0])).tolist()

    assert kept(2, None) == [1, 2]
    assert kept(4, None) == [0, 1, 2, 4]
    assert kept(None, 0.2) == [1]
    assert kept(None, 0.6) == [1, 2, 4]
    # Of the two likeliest, each half: one of them is enough for 0.4, not for 0.6.
    assert kept(2, 0.4) == [1]
    assert kept(2, 0.6) == [1, 2]


@pytest.fixture(scope="module")
def network():
    return fx.models.transformer(
        VOCABULARY, CONTEXT, width=4, depth=1, heads=1, key=jax.random.key(3)
    )


def test_generation_draws_from_the_truncated_prediction(network):
    count, temperature = 4000, 2.0
    given = np.tile([1, 4, 2], (count, 1))
    padded = jnp.asarray([[1, 4, 2, 0]])
    logits = np.asarray(fx.predict(network, padded))[0, 2] / temperature
    options = {"temperature": temperature, "top_k": 5, "top_p": 0.8}
    drawn = fx.generate(network, given, 1, jax.random.key(0), **options)
    expected = truncated(logits, 5, 0.8)
    assert 1 < (expected > 0).sum() < 5
    found = np.bincount(np.asarray(drawn)[:, 0], minlength=VOCABULARY) / count
    assert (found[expected == 0] == 0).all()
    # Five standard errors of a frequency.
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / count) + 1e-3).all()


def test_nothing_left_out_changes_nothing(network):
    given, key = [[1, 4], [0, 6]], jax.random.key(1)
    whole = fx.generate(network, given, 6, key)
    for options in ({"top_k": VOCABULARY}, {"top_p": 1}, {"top_k": 1000, "top_p": 1.0}):
        assert (fx.generate(network, given, 6, key, **options) == whole).all()
    greedy = fx.generate(network, given, 6, key, 0.0)
    assert (fx.generate(network, given, 6, key, top_k=1) == greedy).all()
    assert (fx.generate(network, given, 6, key, top_p=1e-9) == greedy).all()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"top_k": 0}, "top_k must be an integer of at least 1, not 0"),
        ({"top_k": 2.5}, "top_k must be an integer of at least 1, not 2.5"),
        ({"top_p": 0.0}, "top_p must be .* not 0.0"),
        ({"top_p": 1.5}, "top_p must be .* not 1.5"),
        ({"top_p": float("nan")}, "top_p must be .* not nan"),
    ],
)
def test_what_truncation_refuses(network, option, words):
    with pytest.raises((ValueError, TypeError), match=words):
        fx.generate(network, [1], 1, jax.random.key(0), **option)
