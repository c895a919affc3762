"""Values that are not of order 1: said once, of the training part alone."""

import dataclasses
import re
import warnings

import numpy as np
import pytest

from fathomx import data
from fathomx.data import Dataset, Text

NORMAL = np.random.default_rng(0).normal(size=(200, 6))
LABELS = np.arange(200) % 2
PIXELS = np.random.default_rng(1).integers(256, size=(200, 6))


def made(inputs, others=NORMAL):
    return Dataset("mine", (inputs, LABELS), *2 * [(others, LABELS)], classes=2, image_shape=(2, 3))


def said(make):
    """The warnings of a call, and what it returns."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = make()
    return [str(warning.message) for warning in caught], found


@pytest.mark.parametrize(
    "inputs",
    [PIXELS, PIXELS.astype(np.uint8), 1e-6 * NORMAL, 1e30 * NORMAL, 1e-30 * NORMAL, NORMAL + 100],
)
def test_other_orders_are_told_with_their_scale(inputs):
    messages, _ = said(lambda: made(inputs))
    assert len(messages) == 1
    scale = float(
        re.match(r"the root mean square of inputs in data set 'mine' is (\S+);", messages[0])[1]
    )
    assert scale == pytest.approx(np.sqrt((inputs.astype(float) ** 2).mean()), rel=0.01)
    assert "standardize them, such as by (x - mean) / std" in messages[0]


def test_following_the_advice_is_silent():
    x = PIXELS.astype(float)
    assert said(lambda: made((x - x.mean()) / x.std()))[0] == []


@pytest.mark.parametrize(
    "inputs", [NORMAL, 0.02 * NORMAL, 20 * NORMAL, PIXELS / 255, 0 * NORMAL, PIXELS % 17]
)
def test_values_of_order_one_and_zeros_are_silent(inputs):
    assert said(lambda: made(inputs))[0] == []


def test_other_parts_are_not_judged():
    assert said(lambda: made(NORMAL, PIXELS))[0] == []


def test_what_is_made_of_a_data_set_is_silent():
    _, found = said(lambda: made(PIXELS))
    assert said(lambda: found.take(10).images().flat().take(5))[0] == []
    assert len(said(lambda: dataclasses.replace(found, name="other"))[0]) == 1


def test_it_is_said_where_the_data_set_is_made():
    with pytest.warns(UserWarning, match="root mean square") as caught:
        Dataset("mine", *3 * [(PIXELS, LABELS)], classes=2)
    assert caught[0].filename == __file__


def test_named_arrays_of_real_numbers_are_judged_each():
    part = {
        "large": 1000 * NORMAL,
        "good": NORMAL,
        "holes": np.where(NORMAL > 1, np.nan, 1000 * NORMAL),
        "counts": PIXELS,
        "mask": NORMAL > 0,
        "small": 1e-4 * NORMAL,
    }
    messages, _ = said(lambda: Dataset("mine", part, part, part))
    judged = [re.search(r"of (\w+) in data set 'mine'", message)[1] for message in messages]
    assert judged == ["large", "small"]


def test_tokens_are_not_judged():
    tokens = np.random.default_rng(0).integers(500, size=(50, 8))
    vocabulary = "".join(chr(0x100 + i) for i in range(500))
    part = (tokens, tokens)
    make = lambda: Text("t", part, part, part, classes=500, vocabulary=vocabulary)  # noqa: E731
    assert said(make)[0] == []


def test_a_named_data_set_is_silent():
    assert said(lambda: data.load("digits"))[0] == []
