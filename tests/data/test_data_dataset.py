"""Dataset and Part: construction checks, conversions and take."""

import re

import numpy as np
import pytest

from fathomx.data import Dataset, Part


def part(n=8, shape=(6,), classes=3):
    inputs = np.arange(n * int(np.prod(shape)), dtype=np.float32).reshape(n, *shape)
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


@pytest.mark.parametrize("n", [0, -1, 9, 2.0, True, "3", None])
def test_take_out_of_range(n):
    with pytest.raises(ValueError, match=r"n=.*expected an integer from 1 to 8, .*'toy'"):
        toy().take(n)


def shift(images, key):
    return images


def test_take_keeps_the_augmentation():
    assert toy(augmentation=shift).take(4).augmentation is shift


@pytest.mark.parametrize("augmentation", [3, "flip", ()])
def test_augmentation_must_be_a_function(augmentation):
    with pytest.raises(ValueError, match=r"augmentation of data set 'toy' was .*expected a func"):
        toy(augmentation=augmentation)


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
        (changed(np.zeros((0, 6)), np.zeros(0, int)), "is empty"),
        (changed(np.zeros((8, 0))), "is empty"),
        (changed(labels=np.zeros(7, int)), "has 8 inputs and 7 labels"),
        (changed(labels=[0, 1, 2, 0, 1, 2, 0, 3]), "has labels from 0 to 3, expected 0 to 2"),
        (changed(labels=[0, 1, 2, 0, 1, 2, 0, -1]), "has labels from -1 to 2, expected 0 to 2"),
        (changed(labels=np.zeros(8)), "labels of dtype float64, expected integers"),
        (changed(labels=np.zeros((8, 3), int)), r"labels of shape \(8, 3\)"),
        (changed(np.zeros(8)), r"inputs of shape \(8,\)"),
        (changed(with_value(np.nan)), "NaN or infinite"),
        (changed(with_value(np.inf)), "NaN or infinite"),
        (changed(with_value(-np.inf)), "NaN or infinite"),
        (changed(with_value(1e300)), "NaN or infinite"),
        (changed(np.full((8, 6), 1j)), "inputs of dtype complex128, expected real numbers"),
        (changed(np.full((8, 6), "a")), "inputs of dtype <U1, expected real numbers"),
        (changed([[1.0], [1.0, 2.0]]), "rows of unlike length"),
        (np.zeros((8, 6)), "was a ndarray, expected a pair"),
        (None, "was a NoneType, expected a pair"),
    ],
)
def test_a_bad_part_is_named(title, bad, words):
    with pytest.raises(ValueError, match=words) as caught:
        toy(**{title: bad})
    message = str(caught.value)
    assert f"the {title} part of data set 'toy'" in message
    assert "expected" in message
    assert re.search(r": \S.*\.$", message), "no remedy"
    assert "\n" not in message


@pytest.mark.parametrize("title", ["validation", "test"])
def test_parts_of_unlike_example_shape(title):
    with pytest.raises(ValueError, match=rf"the {title} part .*\(5,\) each, expected \(6,\)"):
        toy(**{title: part(4, (5,))})


@pytest.mark.parametrize("shape", [(2, 4), (7,), (6, 0), (-2, -3), (2.0, 3), 6, "ab", None])
def test_image_shape_must_hold_one_input(shape):
    with pytest.raises(ValueError, match=r"image_shape of data set 'toy' .*product is 6"):
        toy(image_shape=shape)


@pytest.mark.parametrize("classes", [0, -3, 2.5, True, None])
def test_classes_must_be_a_count(classes):
    with pytest.raises(ValueError, match=r"classes of data set 'toy' was .*at least 1"):
        toy(classes=classes)


@pytest.mark.parametrize("name", ["", None, 3])
def test_name_must_be_a_string(name):
    with pytest.raises(ValueError, match="the name of a data set was"):
        toy(name=name)
