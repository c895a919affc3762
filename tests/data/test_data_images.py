"""Channels first: told at once where inputs are taken for images, and only there."""

import numpy as np
import pytest

from fathomx.data import CropAndFlip, Dataset


def data(shape, **fields):
    inputs = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    pair = (inputs, np.arange(5) % 2)
    return Dataset("toy", pair, pair, pair, classes=2, **fields)


# What the inputs are, what image_shape says, and what to do: inputs, and the image_shape then.
WRONG = [
    ((3, 8, 8), (8, 8, 3), "inputs.transpose(0, 2, 3, 1)", None),
    ((3, 6, 8), (6, 8, 3), "inputs.transpose(0, 2, 3, 1)", None),
    ((5, 6, 8), (6, 8, 5), "inputs.transpose(0, 2, 3, 1)", None),
    ((1, 8, 8), (8, 8, 1), "inputs.transpose(0, 2, 3, 1)", None),
    ((1, 8, 8), (8, 8), "inputs.transpose(0, 2, 3, 1)", None),
    ((3, 8, 8), (3, 8, 8), "inputs.transpose(0, 2, 3, 1)", (8, 8, 3)),
    ((1, 8, 8), (1, 8, 8), "inputs.transpose(0, 2, 3, 1)", (8, 8, 1)),
    ((192,), (3, 8, 8), "inputs.reshape(-1, 3, 8, 8).transpose(0, 2, 3, 1)", (8, 8, 3)),
    ((8, 8, 3), (3, 8, 8), "inputs", (8, 8, 3)),
]


@pytest.mark.parametrize(("shape", "image_shape", "advice", "then"), WRONG)
def test_following_the_advice_leads_to_images(shape, image_shape, advice, then):
    with pytest.raises(ValueError, match=r"of data set 'toy' have the shape .* channels") as caught:
        data(shape, image_shape=image_shape)
    message = str(caught.value)
    if then is None:
        assert message.endswith(f"give {advice}.")
    elif advice == "inputs":
        assert message.endswith(f"give image_shape={then}.")
    else:
        assert message.endswith(f"give image_shape={then} and {advice}.")
    given = data(shape).train.inputs
    inputs = eval(advice, {"inputs": given})
    pair = (inputs, np.arange(5) % 2)
    right = Dataset("toy", pair, pair, pair, classes=2, image_shape=then or image_shape)
    pixels = right.images().train.inputs
    # One pixel, from where it stood: of channels first, all but where they were last already.
    first = given.reshape(5, *shape) if len(shape) == 3 else given.reshape(5, 3, 8, 8)
    expected = first if advice == "inputs" else np.moveaxis(first, 1, -1)
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(("shape", "size"), [((3, 8, 8), 8), ((1, 28, 28), 28)])
def test_an_augmentation_takes_inputs_for_images(shape, size):
    with pytest.raises(ValueError, match=r"give inputs\.transpose\(0, 2, 3, 1\)\.$"):
        data(shape, augmentation=CropAndFlip())
    right = data((size, size, shape[0]), augmentation=CropAndFlip())
    assert right.input_shape == (size, size, shape[0])


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28)])
def test_inputs_that_are_not_taken_for_images_are_kept(shape):
    assert data(shape).input_shape == shape
    assert data(shape).flat().input_shape == (np.prod(shape),)


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [
        ((192,), (8, 8, 3)),
        ((8, 8, 3), (8, 8, 3)),
        ((8, 8, 1), (8, 8)),
        ((8, 8), (8, 8, 1)),
        ((3, 3, 3), (3, 3, 3)),
        ((1, 1, 1), (1, 1, 1)),
        ((1, 6, 3), (1, 6, 3)),
        ((3, 2, 2), (3, 2, 2)),
        ((4, 8, 8), (4, 8, 8)),
        ((6,), 6),
    ],
)
def test_shapes_that_agree(shape, image_shape):
    right = data(shape, image_shape=image_shape)
    if isinstance(image_shape, tuple):
        images = right.images().train.inputs
        np.testing.assert_array_equal(images.ravel(), right.train.inputs.ravel())
        assert images.shape[1:] == (*image_shape, 1)[:3]


@pytest.mark.parametrize(
    ("shape", "image_shape"), [((8, 6), (6, 8)), ((4, 12), (6, 8)), ((2, 4, 6), (8, 6))]
)
def test_an_image_shape_that_contradicts(shape, image_shape):
    with pytest.raises(
        ValueError, match=r"image_shape of data set 'toy' is .* another image; give"
    ):
        data(shape, image_shape=image_shape)


@pytest.mark.parametrize(
    "image_shape", [None, "ab", (2.0, 3), (True, 6), {2, 3}, {"a": 6}, [[2, 3]], 6.0, ("2", 3)]
)
def test_image_shapes_are_sizes(image_shape):
    with pytest.raises(TypeError, match="image_shape of data set 'toy' must be sizes of at least"):
        data((6,), image_shape=image_shape)


@pytest.mark.parametrize("image_shape", [(6, 0), (-2, -3), 0, (10**400, 1)])
def test_sizes_are_at_least_one(image_shape):
    with pytest.raises(ValueError, match="image_shape of data set 'toy' must be sizes of at least"):
        data((6,), image_shape=image_shape)
