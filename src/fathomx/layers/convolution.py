"""Two-dimensional convolutions as layers, and pooling."""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
from jaxtyping import Array

from fathomx.checks import gate
from fathomx.layers.convolve import convolve, convolve_transposed
from fathomx.layers.scaled import ScaledWeight


@gate
class _Convolving(ScaledWeight):
    """What a convolution and its transpose have in common."""

    stride: int = eqx.field(static=True, default=1)
    _axes: ClassVar[int | None] = 4

    def __check_init__(self) -> None:
        if self.stride not in (1, 2):
            raise ValueError(f"the stride of a convolution must be 1 or 2, not {self.stride!r}.")

    def _check(self, activity: Array) -> None:
        channels = self.weight.shape[2]
        if activity.ndim != 3 or activity.shape[-1] != channels:
            raise ValueError(
                f"a convolution with a weight of shape {self.weight.shape} takes activities "
                f"(height, width, {channels}), not {activity.shape}."
            )


@gate
class Convolution(_Convolving):
    """`multiplier * (weight * activity)`: a two-dimensional convolution, for one example.

        (height, width, in_channels) -> (ceil(height / stride), ceil(width / stride), out_channels)

    Zeros are padded around the image so that with an odd kernel the output at `(i, j)` sees the
    input around `(stride * i, stride * j)`, the pixel that a 1x1 convolution of the same stride
    sees there (XLA's own "same" padding is off by one with stride 2). No bias.

    **Fields**: those of `ScaledWeight`, with a `weight` of shape
    `(kernel, kernel, in_channels, out_channels)`, and `stride`, 1 or 2.

    Raises `ValueError` for other strides and for activities of another shape.

    ```python
    layer = Convolution(weight, stride=2)
    layer(image)
    ```
    """

    def __call__(self, activity: Array) -> Array:
        self._check(activity)
        convolved = convolve(activity[None], self.weight, self.stride)
        return self.multiplier * convolved[0]


@gate
class TransposedConvolution(_Convolving):
    """The transpose of a `Convolution`: from an image to one `stride` times as large.

        (height, width, in_channels) -> (stride * height, stride * width, out_channels)

    With the weights of a `Convolution` whose channels are exchanged it is that map transposed, as
    decoders and feedbacks need it. With stride 2 every output sees a quarter of the kernel, alike
    everywhere only if the kernel is even: 4 leaves no checkerboard. No bias.

    **Fields**: those of `ScaledWeight`, with a `weight` of shape
    `(kernel, kernel, in_channels, out_channels)`, and `stride`, 1 or 2.

    Raises `ValueError` for other strides and for activities of another shape.

    ```python
    TransposedConvolution(weight, stride=2)(image)
    ```

    Source: Zeiler et al. (2010); checkerboards: Odena et al. (2016).
    """

    def __call__(self, activity: Array) -> Array:
        self._check(activity)
        convolved = convolve_transposed(activity[None], self.weight, self.stride)
        return self.multiplier * convolved[0]


@gate
def max_pool(activity: Array) -> Array:
    """The largest of every 2x2 pixels: `(height, width, channels)`, both even, to half of each."""
    return _quarters(activity).max(axis=(1, 3))


@gate
def average_pool(activity: Array) -> Array:
    """The mean of every 2x2 pixels: `(height, width, channels)`, both even, to half of each."""
    return _quarters(activity).mean(axis=(1, 3))


# Blocks of pixels by reshaping: several times faster on CPU than a reduction over windows.
def _quarters(activity: Array) -> Array:
    height, width, channels = activity.shape if activity.ndim == 3 else (1, 1, 1)
    if height % 2 or width % 2:
        raise ValueError(
            f"2x2 pooling takes (height, width, channels) of even heights and widths, not "
            f"{activity.shape}."
        )
    return activity.reshape(height // 2, 2, width // 2, 2, channels)
