"""Images are channels last; where the axes show that they are not, that is said."""

from __future__ import annotations

import math
from typing import Any

from fathomx import checks

_TRANSPOSED = "transpose(0, 2, 3, 1)"


def check_channels_last(name: str, shape: tuple[int, ...], array: str) -> None:
    """Raises `ValueError` for the shape of one image of 1 or 3 channels that has them first.

    `array` is what the message calls the array to transpose.

    ```python
    check_channels_last("images", (3, 32, 32), "images")
    # ValueError: images have the shape (3, 32, 32), with their channels first, ...
    ```
    """
    if _is_channels_first(shape):
        raise _channels_first(name, shape, f"{array}.{_TRANSPOSED}")


def checked_image_shape(given: Any, input_shape: tuple[int, ...], data: str) -> tuple[int, ...]:
    """The shape that shows an input as an image, or `()`; `data` is the name of the data set."""
    shape = checks.shape(f"image_shape of data set {data!r}", given)
    if not shape:
        return shape
    if math.prod(shape) != math.prod(input_shape):
        raise ValueError(
            f"image_shape of data set {data!r} must be sizes whose product is "
            f"{math.prod(input_shape)}, the number of values in one input, not {shape}; give such "
            "a shape, or () if inputs are not images."
        )
    if _is_channels_first(shape):
        advice = f"image_shape={_last(shape)}"
        if input_shape == shape:
            advice += f" and inputs.{_TRANSPOSED}"
        elif len(input_shape) == 1:
            sizes = ", ".join(map(str, shape))
            advice += f" and inputs.reshape(-1, {sizes}).{_TRANSPOSED}"
        raise _channels_first(f"images of data set {data!r}", shape, advice)
    inputs = f"inputs of data set {data!r}"
    if len(input_shape) == 3 and _last(input_shape) == shape != input_shape:
        raise _channels_first(inputs, input_shape, f"inputs.{_TRANSPOSED}")
    check_channels_last(inputs, input_shape, "inputs")
    if len(input_shape) > 1 and _without_ones(input_shape) != _without_ones(shape):
        raise ValueError(
            f"image_shape of data set {data!r} is {shape}, but its inputs have the shape "
            f"{input_shape}, which would be shown as another image; give the image_shape that they "
            "have, or vectors, inputs.reshape(len(inputs), -1)."
        )
    return shape


def _is_channels_first(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3) and shape[0] < shape[1] == shape[2]


def _last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[1:], shape[0])


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _channels_first(name: str, shape: tuple[int, ...], advice: str) -> ValueError:
    return ValueError(
        f"{name} have the shape {shape}, with their channels first, but images are "
        f"(height, width, channels); give {advice}."
    )
