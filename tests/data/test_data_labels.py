"""Labels as people have them: what is taken, and the advice for what is not, by following it."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from fathomx.data import Dataset

NUMBERS = np.array([0, 2, 1, 2, 0])
INPUTS = np.random.default_rng(0).normal(size=(5, 4))


def held(labels, classes=3):
    pair = (INPUTS, labels)
    return Dataset("toy", pair, pair, pair, classes=classes).train.labels


@pytest.mark.parametrize("kind", ["i1", "i2", ">i4", "<i4", ">i8", "u1", "u2", ">u4", "u8"])
def test_integers_of_any_kind(kind):
    labels = held(NUMBERS.astype(kind))
    assert labels.dtype == np.int32 and labels.tolist() == NUMBERS.tolist()


def test_labels_of_any_layout():
    spread = np.zeros((5, 2), np.int32)
    spread[:, 0] = NUMBERS
    locked = NUMBERS.astype(np.int32)
    locked.setflags(write=False)
    for same in (NUMBERS.tolist(), tuple(NUMBERS), jnp.asarray(NUMBERS), spread[:, 0], locked):
        labels = held(same)
        assert labels.flags.c_contiguous and labels.tolist() == NUMBERS.tolist()


ONE_HOT = np.eye(3)[NUMBERS]


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (ONE_HOT, "labels.argmax(1)"),
        (ONE_HOT.astype(int), "labels.argmax(1)"),
        (ONE_HOT.astype(bool), "labels.argmax(1)"),
        (ONE_HOT.astype(np.float16), "labels.argmax(1)"),
        (ONE_HOT.astype(np.uint8), "labels.argmax(1)"),
        (np.asfortranarray(ONE_HOT), "labels.argmax(1)"),
        (NUMBERS[:, None], "labels[:, 0]"),
        (NUMBERS.astype(float), "labels.astype(int)"),
        (NUMBERS == 2, "labels.astype(int)"),
    ],
)
def test_following_the_advice_leads_to_class_numbers(labels, advice):
    with pytest.raises((TypeError, ValueError)) as caught:
        held(labels)
    message = str(caught.value)
    assert message.startswith("in the train part of data set 'toy', labels ")
    assert message.endswith(f"give {advice}.")
    expected = (NUMBERS == 2) if labels.dtype == bool and labels.ndim == 1 else NUMBERS
    assert held(eval(advice, {"labels": labels, "int": int})).tolist() == expected.tolist()


SEVERAL = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]])


@pytest.mark.parametrize(
    "labels",
    [
        SEVERAL,
        SEVERAL.astype(float),
        SEVERAL.astype(bool),
        2 * ONE_HOT,
        -ONE_HOT,
        INPUTS,
        INPUTS[:, :1],
        INPUTS[:, 0],
        np.where(NUMBERS == 0, np.nan, NUMBERS),
        np.where(NUMBERS == 0, np.inf, NUMBERS),
        np.zeros((5, 2, 2), int),
    ],
)
def test_other_targets_are_arrays_by_name(labels):
    with pytest.raises((TypeError, ValueError)) as caught:
        held(labels)
    message = str(caught.value)
    assert re.search("labels (have the shape|must be integers)", message)
    assert message.endswith("such as {'input': inputs, 'output': targets}.")
    part = {"input": INPUTS, "target": labels}
    np.testing.assert_array_equal(
        Dataset("toy", part, part, part).train["target"], labels.astype(np.float32)
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [(2**32, "i8"), (2**32 + 1, "u8"), (2**63, "u8"), (-1, "i1"), (3, "u1"), (2**31, "u4")],
)
def test_no_label_wraps_around(value, kind):
    labels = np.zeros(5, kind)
    labels[3] = value
    with pytest.raises(ValueError, match=rf"there are labels from (0 to )?{value}"):
        held(labels)


@pytest.mark.parametrize(
    "labels",
    [
        None,
        "01212",
        b"01212",
        object(),
        1j,
        {"a": 1},
        ["cat", "dog", "cat", "dog", "dog"],
        np.array([0, 1, None, 2, 1], object),
        [10**400] * 5,
        [[0], [1, 2], [0], [1], [2]],
        np.ma.masked_array(NUMBERS, NUMBERS == 1),
        NUMBERS.astype(complex),
        np.array(["2026-01-01"] * 5, "M8[D]"),
        iter(NUMBERS),
    ],
)
def test_what_is_no_array_of_numbers_is_told(labels):
    with pytest.raises((TypeError, ValueError), match=r"^in the train part .*, labels .*\.$"):
        held(labels)


def test_a_single_label_is_none_for_each_input():
    with pytest.raises(ValueError, match=r"labels have the shape \(\), but must be \(n,\)"):
        held(1)
