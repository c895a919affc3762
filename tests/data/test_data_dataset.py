"""Dataset and Part: construction checks, conversions and take."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from fathomx.data import Dataset, Part


def part(n=8, shape=(6,), classes=3):
    inputs = (np.arange(n * int(np.prod(shape))) % 12).astype(np.float32).reshape(n, *shape)
    return Part(inputs, np.arange(n, dtype=np.int32) % classes)


def toy(**changes):
    fields = {"train": part(8), "validation": part(3), "test": part(2), "classes": 3}
    return Dataset(**{"name": "toy", **fields, **changes})


def test_parts_unpack_and_shapes_are_reported():
    data = toy(image_shape=(2, 3))
    x, y = data.train
    assert x is data.train.inputs and y is data.train.labels
    assert data.input_shape == (6,)
    assert data.image_shape == (2, 3)
    assert x.reshape(-1, *data.image_shape).shape == (8, 2, 3)
    assert repr(data) == "Dataset('toy': 8 train, 3 validation, 2 test, inputs (6,), 3 classes)"


def test_inputs_of_more_axes_are_kept():
    data = toy(train=part(8, (2, 3)), validation=part(3, (2, 3)), test=part(2, (2, 3)))
    assert data.input_shape == (2, 3)
    assert data.image_shape == ()


def test_arrays_in_the_right_form_are_not_copied():
    given = part(8)
    data = toy(train=given)
    assert data.train.inputs is given.inputs and data.train.labels is given.labels


def test_other_forms_are_converted():
    inputs = np.asfortranarray([[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]])
    pair = (inputs, [2, 0, 1])
    data = toy(train=pair, validation=pair, test=pair, classes=np.int64(3), image_shape=[1, 2])
    for x, y in (data.train, data.validation, data.test):
        assert x.dtype == np.float32 and x.flags.c_contiguous
        assert y.dtype == np.int32
        assert x.tolist() == [[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]]
        assert y.tolist() == [2, 0, 1]
    assert isinstance(data.train, Part)
    assert type(data.classes) is int
    assert data.image_shape == (1, 2)


def test_dataset_is_frozen_and_compares_by_identity():
    data = toy()
    with pytest.raises(AttributeError):
        data.name = "other"
    assert data == data
    assert data != toy()


def test_take_keeps_the_first_examples():
    data = toy(image_shape=(2, 3))
    small = data.take(4)
    assert small.augmentation is None
    assert small.train.inputs.tolist() == data.train.inputs[:4].tolist()
    assert small.train.labels.tolist() == [0, 1, 2, 0]
    assert len(small.validation.labels) == len(small.test.labels) == 1
    assert (small.name, small.classes, small.image_shape) == ("toy", 3, (2, 3))
    assert np.shares_memory(small.train.inputs, data.train.inputs)
    assert len(data.train.labels) == 8


@pytest.mark.parametrize(
    ("n", "sizes"), [(1, (1, 1, 1)), (7, (7, 1, 1)), (8, (8, 2, 2)), (np.int32(8), (8, 2, 2))]
)
def test_take_sizes(n, sizes):
    small = toy().take(n)
    assert sizes == tuple(len(p.labels) for p in (small.train, small.validation, small.test))


def test_take_has_no_more_than_the_parts_have():
    small = toy(train=part(40)).take(40)
    assert (len(small.validation.labels), len(small.test.labels)) == (3, 2)


@pytest.mark.parametrize(
    ("n", "error"),
    [
        *((n, ValueError) for n in (0, -1, 9, 2**32 + 1, 10**400)),
        *((n, TypeError) for n in (2.0, True, "3", None)),
    ],
    ids=lambda value: str(value)[:9],
)
def test_take_out_of_range(n, error):
    with pytest.raises(error, match=r"at most 8, not .*; data set 'toy' has 8 train"):
        toy().take(n)


def shift(images, key):
    return images


def test_take_keeps_the_augmentation():
    assert toy(augmentation=shift).take(4).augmentation is shift


def parts_of(data):
    return data.train, data.validation, data.test


def reshaped(old, new, shape):
    """Each part of `new` shows the memory of `old` in another shape, labels and all."""
    for before, after in zip(parts_of(old), parts_of(new), strict=True):
        assert after.inputs.shape == (len(before.labels), *shape)
        assert np.shares_memory(after.inputs, before.inputs)
        assert after.inputs.ravel().tolist() == before.inputs.ravel().tolist()
        assert after.labels is before.labels
    assert (new.name, new.classes, new.image_shape) == (old.name, old.classes, old.image_shape)


def toy_of(shape, **changes):
    parts = {"train": part(8, shape), "validation": part(3, shape), "test": part(2, shape)}
    return toy(**parts, **changes)


def test_images_of_a_gray_set_get_a_channel_axis():
    data = toy(image_shape=(2, 3), augmentation=shift)
    images = data.images()
    reshaped(data, images, (2, 3, 1))
    assert images.train.inputs[1, :, :, 0].tolist() == [[6, 7, 8], [9, 10, 11]]
    assert images.augmentation is shift
    assert images.images() is images


def test_images_of_a_color_set():
    data = toy_of((12,), image_shape=(2, 2, 3))
    reshaped(data, data.images(), (2, 2, 3))
    # Channels last: the first pixel is the first three values.
    assert data.images().train.inputs[0, 0, 0].tolist() == [0, 1, 2]


def test_flat_vectors_have_no_augmentation():
    data = toy_of((2, 2, 3), image_shape=(2, 2, 3), augmentation=shift)
    assert data.images() is data
    flat = data.flat()
    reshaped(data, flat, (12,))
    assert flat.augmentation is None and data.augmentation is shift
    assert flat.flat() is flat
    reshaped(flat, flat.images(), (2, 2, 3))


def test_flat_drops_an_augmentation_even_of_vectors():
    data = toy(augmentation=shift)
    reshaped(data, data.flat(), (6,))
    assert data.flat().augmentation is None
    assert toy().flat().image_shape == ()


@pytest.mark.parametrize("shape", [(), (6,), (1, 1, 2, 3)])
def test_images_need_an_image_shape(shape):
    with pytest.raises(ValueError, match=r"of data set 'toy' have image_shape=\(.*\), expected"):
        toy(image_shape=shape).images()


def changed(inputs=None, labels=None):
    base = part(8)
    return (base.inputs if inputs is None else inputs, base.labels if labels is None else labels)


def with_value(value):
    inputs = part(8).inputs.astype(np.float64)
    inputs[5, 3] = value
    return inputs


@pytest.mark.parametrize("title", ["train", "validation", "test"])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (changed(np.zeros((0, 6)), np.zeros(0, int)), "(0, 6) are empty; give at least one"),
        (changed(np.zeros((8, 0))), "(8, 0) are empty; give at least one"),
        (changed(labels=np.zeros(7, int)), "there are 8 inputs and 7 labels; give one label"),
        (changed(labels=[0, 1, 2, 0, 1, 2, 0, 3]), "labels from 0 to 3, but classes=3 takes"),
        (changed(labels=[0, 1, 2, 0, 1, 2, 0, -1]), "labels from -1 to 2, but classes=3 takes"),
        (changed(np.zeros(8)), "inputs have the shape (8,), but must be (n, ...)"),
        (changed(with_value(np.nan)), "inputs hold NaN, infinite values or"),
        (changed(with_value(np.inf)), "inputs hold NaN, infinite values or"),
        (changed(with_value(-np.inf)), "inputs hold NaN, infinite values or"),
        (changed(with_value(1e300)), "too large for float32; remove or replace them"),
        (changed(np.full((8, 6), 1j)), "inputs holds complex numbers"),
        (changed(np.full((8, 6), "a")), "inputs must be an array of numbers, not values of type"),
        (changed([[1.0], [1.0, 2.0]]), "inputs has rows of unlike length; give a full array"),
        (np.zeros((8, 6)), "the arrays must be a pair such as Part(inputs, labels)"),
        (7, "the arrays must be a pair such as Part(inputs, labels)"),
        ((1, 2, 3, 4), "the arrays must be a pair such as Part(inputs, labels)"),
    ],
)
def test_a_bad_part_is_named(title, bad, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)) as caught:
        toy(**{title: bad})
    message = str(caught.value)
    assert message.startswith(f"in the {title} part of data set 'toy', ")
    assert message.endswith(".") and "\n" not in message


@pytest.mark.parametrize("title", ["validation", "test"])
def test_parts_of_unlike_example_shape(title):
    with pytest.raises(ValueError, match=rf"in the {title} part .*\(5,\).*in the train .*\(6,\)"):
        toy(**{title: part(4, (5,))})


@pytest.mark.parametrize("title", ["validation", "test"])
def test_parts_are_all_pairs_or_all_named(title):
    arrays = {"x": part(8).inputs}
    with pytest.raises(ValueError, match=rf"in the {title} part .*a dict, expected a pair of"):
        toy(**{title: arrays})
    parts = {name: arrays for name in ("train", "validation", "test")}
    with pytest.raises(ValueError, match=rf"in the {title} part .*a Part, expected arrays by name"):
        Dataset("named", **{**parts, title: part(8)})


@pytest.mark.parametrize("shape", [(2, 4), (7,), (4, 2)])
def test_image_shape_must_hold_one_input(shape):
    with pytest.raises(ValueError, match=r"image_shape of data set 'toy' .*product is 6"):
        toy(image_shape=shape)


def test_classes_are_two_or_more():
    with pytest.raises(ValueError, match=r"^classes of data set 'toy' must be .*at least 2, not 1"):
        toy(classes=1)
    with pytest.raises(ValueError, match="at least 2, not 0; give the number of classes"):
        toy(classes=0)
    assert toy(train=(part().inputs, np.arange(8) % 2), classes=np.uint8(3)).classes == 3


def named(**fields):
    return Dataset("named", *3 * [{"x": part(8).inputs, "y": np.arange(8)}], **fields)


@pytest.mark.parametrize(
    "field", [{"classes": 10}, {"classes": 1}, {"image_shape": (2, 3)}, {"augmentation": shift}]
)
def test_what_is_of_pairs_only(field):
    with pytest.raises(ValueError, match=rf"{next(iter(field))} of data set 'named' is for pairs"):
        named(**field)


@pytest.mark.parametrize("ask", [Dataset.flat, Dataset.images, lambda data: data.input_shape])
def test_named_arrays_are_no_vectors_or_images(ask):
    with pytest.raises(ValueError, match="is for pairs of inputs and labels, but the arrays of"):
        ask(named())


def test_named_arrays_are_taken_and_told():
    data = named()
    few = data.take(4)
    assert few.size == 4 and len(few.validation["y"]) == len(few.test["x"]) == 1
    assert np.shares_memory(few.train["x"], data.train["x"])
    assert repr(data) == (
        "Dataset('named': 8 train, 8 validation, 8 test, arrays {'x': (6,), 'y': ()})"
    )
    assert sorted(data.arrays("test")) == ["x", "y"]
    assert sorted(toy().arrays("test")) == ["input", "target"]
    with pytest.raises(ValueError, match=r"unknown part 'tset'\. Did you mean 'test'"):
        data.arrays("tset")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "unlike or no numbers of examples, {}"),
        ({"x": np.ones((4, 2)), "y": np.ones(3)}, "unlike or no numbers of examples"),
        ({"x": np.ones((0, 2))}, "unlike or no numbers of examples"),
        ({"x": 3.0}, "x is one number"),
        ({"x": [[1e300]]}, "x holds numbers that are too large for float32"),
        ({"x": np.full(3, 2**31)}, "x holds integers from 2147483648 to 2147483648, which int32"),
        ({"x": np.array([0, 2**32])}, "which int32 cannot hold; renumber them"),
        ({"x": np.array([2**63], np.uint64)}, "which int32 cannot hold; renumber them"),
        ({"x": np.array([-(2**31) - 1])}, "which int32 cannot hold; renumber them"),
        ({"x": np.ma.masked_array([1.0, 2.0], [True, False])}, "its filled(...)"),
        ({3: np.ones((4, 2))}, "must be texts, not 3"),
    ],
)
def test_bad_named_arrays_are_told(arrays, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)) as caught:
        Dataset("named", arrays, arrays, arrays)
    assert str(caught.value).startswith("in the train part of data set 'named', ")


def test_named_arrays_are_kept_by_their_kind():
    limits = np.iinfo(np.int32)
    given = {
        "real": np.array([1.0, np.inf, np.nan], np.float64),
        "half": np.array([1, 2, 3], np.float16),
        "truth": np.array([True, False, True]),
        "ends": np.array([limits.min, 0, limits.max]),
        "small": np.array([0, 1, 255], np.uint8),
        "wide": np.array([0, 1, 7], np.uint64),
        "list": [[1], [2], [3]],
    }
    held = Dataset("named", given, given, given).train
    types = {name: array.dtype.name for name, array in held.items()}
    whole = dict.fromkeys(("ends", "small", "wide", "list"), "int32")
    assert types == {"real": "float32", "half": "float32", "truth": "bool", **whole}
    for name, values in given.items():
        np.testing.assert_array_equal(held[name], np.asarray(values))


VALUES = np.array([[0.0, 1.0], [3.0, 2.0], [5.0, 4.0], [1.0, 6.0]])


def held(inputs):
    pair = (inputs, np.arange(len(VALUES)) % 2)
    return Dataset("toy", pair, pair, pair, classes=2).train.inputs


@pytest.mark.parametrize(
    "kind", ["f2", ">f4", "f8", ">f8", "g", "bfloat16", "i1", ">i2", "i8", "u1", ">u8"]
)
def test_inputs_of_any_kind(kind):
    given = VALUES.astype(jnp.bfloat16 if kind == "bfloat16" else kind)
    inputs = held(given)
    assert inputs.dtype == np.float32 and inputs.dtype.isnative
    assert inputs.tolist() == VALUES.tolist()
    assert held(VALUES > 2).tolist() == (VALUES > 2).astype(float).tolist()


def test_inputs_of_any_layout():
    spread = np.zeros((4, 6), np.float32)
    spread[:, ::3] = VALUES
    locked = VALUES.astype(np.float32)
    locked.setflags(write=False)
    for same in (VALUES.tolist(), np.asfortranarray(VALUES), spread[:, ::3], locked):
        assert held(same).flags.c_contiguous and held(same).tolist() == VALUES.tolist()
    assert held(jnp.asarray(VALUES)).tolist() == VALUES.tolist()
    assert held(locked) is locked


WRONG_KINDS = {
    "name": [None, 3, b"toy", ["toy"], True, 1j],
    "classes": [None, "3", 3.0, True, np.True_, [3], np.array([3]), 1j, np.nan, np.inf],
    "augmentation": [3, "flip", (), np.ones(3), True],
}
WRONG_VALUES = {"name": [""], "classes": [-3, 0, 1, 2**31, 2**63, 10**400, np.uint64(2**63)]}


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_fields_of_a_wrong_kind_or_value_are_told(error):
    for field, values in (WRONG_KINDS if error is TypeError else WRONG_VALUES).items():
        for value in values:
            with pytest.raises(error, match=rf"^(the )?{field} of .*(must be|is empty).*\.$"):
                toy(**{field: value})
