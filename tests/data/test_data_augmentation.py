"""CropAndFlip, against every shifted and mirrored image built by hand."""

import dataclasses
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fathomx.data import CropAndFlip

# Not square, and with other than three channels.
SHAPE = (5, 4, 2)


def candidates(image, padding):
    """Every possible result, by (rows down, columns right, mirrored), by plain loops."""
    height, width, _ = image.shape
    found = {}
    steps = range(-padding, padding + 1)
    for down, right, mirrored in itertools.product(steps, steps, (False, True)):
        result = np.zeros_like(image)
        for row, column in itertools.product(range(height), range(width)):
            source = row + down, column + right
            if 0 <= source[0] < height and 0 <= source[1] < width:
                result[row, width - 1 - column if mirrored else column] = image[source]
        found[result.tobytes()] = (down, right, mirrored)
    return found


def images(n, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def test_every_result_is_a_shifted_and_mirrored_image():
    given = images(40)
    changed = np.asarray(CropAndFlip(padding=2)(jnp.asarray(given), jax.random.key(0)))
    assert changed.shape == given.shape and changed.dtype == np.float32
    for before, after in zip(given, changed, strict=True):
        assert after.tobytes() in candidates(before, 2)


def test_all_results_are_equally_likely_and_independent_of_each_other():
    one = images(1)
    known = candidates(one[0], 1)
    assert len(known) == 18
    count = 18 * 200
    batch = jnp.asarray(np.repeat(one, count, axis=0))
    changed = np.asarray(CropAndFlip(padding=1)(batch, jax.random.key(3)))
    which = [known[image.tobytes()] for image in changed]
    numbers = np.array([which.count(result) for result in known.values()])
    assert numbers.sum() == count
    # Chi squared with 17 degrees of freedom: above 50 by chance in 4 of 100,000 keys.
    assert ((numbers - 200) ** 2 / 200).sum() < 50
    # Neighbors in the batch agree as often as strangers do, once in 18 times: 200 +- 6 * 14.
    same = sum(a == b for a, b in itertools.pairwise(which))
    assert 116 < same < 284


def test_without_padding_there_are_only_flips():
    given = images(64)
    changed = np.asarray(CropAndFlip(padding=0)(jnp.asarray(given), jax.random.key(1)))
    kept = [(after == before).all() for before, after in zip(given, changed, strict=True)]
    mirrored = [
        (after == before[:, ::-1]).all() for before, after in zip(given, changed, strict=True)
    ]
    assert all(a != b for a, b in zip(kept, mirrored, strict=True))
    # 64 fair coins: fewer than 14 or more than 50 heads in 3 of a million keys.
    assert 14 <= sum(kept) <= 50


def test_same_key_same_result_other_key_another():
    given = jnp.asarray(images(16))
    change = CropAndFlip()
    first = change(given, jax.random.key(0))
    assert (first == change(given, jax.random.key(0))).all()
    assert not (first == change(given, jax.random.key(1))).all()


def test_compiled_and_with_an_old_style_key():
    given = jnp.asarray(images(16))
    change = CropAndFlip(padding=3)
    expected = change(given, jax.random.key(5))
    assert (jax.jit(change)(given, jax.random.key(5)) == expected).all()
    assert (jax.jit(change)(given, jax.random.PRNGKey(5)) == expected).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 6, 3), (6, 1, 1), (2, 2, 5)])
def test_small_images_and_padding_beyond_their_size(shape):
    given = images(20, shape)
    changed = np.asarray(CropAndFlip(padding=3)(jnp.asarray(given), jax.random.key(0)))
    for before, after in zip(given, changed, strict=True):
        assert after.tobytes() in candidates(before, 3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.uint8])
def test_dtype_is_kept(dtype):
    assert CropAndFlip()(jnp.ones((2, 4, 4, 3), dtype), jax.random.key(0)).dtype == dtype


def test_dtype_is_kept_in_float64_mode(float64):
    given = jnp.asarray(images(2))
    assert CropAndFlip()(given, jax.random.key(0)).dtype == jnp.float32


def test_it_is_a_value():
    assert CropAndFlip() == CropAndFlip(padding=4) != CropAndFlip(padding=3)
    assert hash(CropAndFlip(4)) == hash(CropAndFlip(np.int64(4)))
    assert type(CropAndFlip(np.int64(4)).padding) is int
    assert repr(CropAndFlip(2)) == "CropAndFlip(padding=2)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        CropAndFlip().padding = 3


@pytest.mark.parametrize(
    ("padding", "error"),
    [(-1, ValueError), *((value, TypeError) for value in (1.5, 4.0, True, "4", None))],
)
def test_padding_must_be_a_count(padding, error):
    with pytest.raises(
        error, match=r"^padding must be an integer of at least 0, not .*padding=4\.$"
    ):
        CropAndFlip(padding=padding)


@pytest.mark.parametrize("shape", [(4, 48), (4, 4, 3), (1, 2, 4, 4, 3)])
def test_images_must_have_four_axes(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, height, width, channels\): reshape"):
        CropAndFlip()(jnp.ones(shape), jax.random.key(0))


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28), (3, 4), (1, 2)])
def test_channels_first_are_told_where_the_axes_show_it(channels, size):
    first = jnp.ones((4, channels, size, size))
    with pytest.raises(ValueError, match=r"give images\.transpose\(0, 2, 3, 1\)\.$"):
        CropAndFlip()(first, jax.random.key(0))
    with pytest.raises(ValueError, match="with their channels first"):
        jax.jit(CropAndFlip())(first, jax.random.key(0))
    last = first.transpose(0, 2, 3, 1)
    assert CropAndFlip()(last, jax.random.key(0)).shape == last.shape


def test_images_of_any_layout_give_the_same():
    given = images(6)
    key = jax.random.key(2)
    expected = np.asarray(CropAndFlip(1)(jnp.asarray(given), key))
    for same in (given, np.asfortranarray(given), given.astype(">f4"), given.tolist()):
        np.testing.assert_array_equal(CropAndFlip(1)(same, key), expected)


@pytest.mark.parametrize(
    ("given", "key", "words"),
    [
        (None, jax.random.key(0), "images must be an array of numbers, not None"),
        ([[1], [2, 3]], jax.random.key(0), "images has rows of unlike length"),
        (np.ones((1, 4, 4, 1), complex), jax.random.key(0), "images holds complex numbers"),
        (np.ones((1, 4, 4, 1)), 0, "key must be a random key such as jax.random.key(0), not 0"),
        (np.ones((1, 4, 4, 1)), None, "key must be a random key"),
        (np.ones((1, 4, 4, 1)), jax.random.split(jax.random.key(0)), "one random key, not 2"),
    ],
)
def test_what_is_no_image_or_no_key_is_told(given, key, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        CropAndFlip()(given, key)
