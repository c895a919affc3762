"""Two-dimensional convolution whose derivatives stay fast inside of loops.

XLA's CPU backend has a fast convolution for channels-last operands only. At the top level of a
program it rearranges others; inside loops and conditionals, where inference and training happen, it
falls back to a naive one that is up to a hundred times slower (jax-ml/jax issue 12868). JAX's own
derivatives of a convolution are of that other form. The primitive here states both derivatives as
channels-last convolutions. On an accelerator JAX's own are taken, for which there are kernels that
put no zeros between the pixels of a cotangent.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jax_core
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

_LAYOUT = ("NHWC", "HWIO", "NHWC")
Padding = tuple[tuple[int, int], tuple[int, int]]


def convolve(images: Array, kernels: Array, stride: int = 1) -> Array:
    """Channels-last convolution, padded with zeros to `ceil(size / stride)` outputs.

        out[n, i, j, d] = sum_{a, b, c} kernels[a, b, c, d] images[n, s i + a - h, s j + b - h, c]

    with `h = (k - 1) // 2` for a kernel of size `k`. `images` has the shape
    `(batch, height, width, channels)`, `kernels` `(k, k, channels, out_channels)`. It has
    derivatives of every order, forward and reverse; vectorized over the images alone it is one
    convolution, over the kernels a loop.
    """
    sizes = kernels.shape[:2]
    padding = tuple(((size - 1) // 2, size // 2) for size in sizes)
    return _bind(images, kernels, stride, padding)


def convolve_transposed(images: Array, kernels: Array, stride: int = 1) -> Array:
    """The adjoint of `convolve` in its images, from `size` to `stride * size` pixels.

        <convolve_transposed(u, K), v> = <u, convolve(v, K^T)>

    with `K^T` the kernels with inputs and outputs exchanged. `images` has the shape
    `(batch, height, width, channels)`, `kernels` `(k, k, channels, out_channels)`. With stride 2 it
    is one convolution of the images as they are, to four times as many channels, one group for each
    of the four pixels that a pixel becomes: no zeros are put between pixels, and its derivatives
    are those of `convolve`.
    """
    windows = [_phases(taps, stride) for taps in kernels.shape[:2]]
    (rows, around_rows), (columns, around_columns) = windows
    # One tap more, of zeros, for what a phase does not see.
    padded = jnp.pad(kernels, ((0, 1), (0, 1), (0, 0), (0, 0)))
    chosen = padded[rows[:, None, :, None], columns[None, :, None, :]]
    taps = chosen.transpose(0, 1, 4, 2, 3, 5)
    groups = taps.reshape(*taps.shape[:3], -1)
    found = _bind(images, groups, 1, (around_rows, around_columns))
    count, height, width, _ = found.shape
    apart = found.reshape(count, height, width, stride, stride, kernels.shape[-1])
    return apart.swapaxes(2, 3).reshape(count, stride * height, stride * width, -1)


def _phases(taps: int, stride: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Along one axis, which tap each pixel of a window adds to each phase of the output.

    The output `s j + p` is the sum over `d` of `kernel[s d + p + h] image[j - d]`. Returns the taps
    by place in the window and phase, `taps` for none, and how far the window reaches before and
    after `j`.
    """
    half = (taps - 1) // 2
    steps = range(-taps, taps + 1)
    used = [d for d in steps if any(0 <= stride * d + p + half < taps for p in range(stride))]
    found = np.full((len(used), stride), taps)
    for place, step in enumerate(reversed(used)):
        for phase in range(stride):
            tap = stride * step + phase + half
            if 0 <= tap < taps:
                found[place, phase] = tap
    return found, (max(used), -min(used))


_convolution = jax_core.Primitive("channels_last_convolution")


def _bind(images: Array, kernels: Array, stride: int, padding: Any) -> Array:
    if jax.default_backend() != "cpu":
        return _compute(images, kernels, stride=stride, padding=padding)
    result: Array = _convolution.bind(images, kernels, stride=stride, padding=padding)
    return result


def _compute(images: Array, kernels: Array, *, stride: int, padding: Padding) -> Array:
    return jax.lax.conv_general_dilated(
        images, kernels, (stride, stride), padding, dimension_numbers=_LAYOUT
    )


def _to_images(
    cotangent: Array, images: Any, kernels: Array, *, stride: int, padding: Padding
) -> Any:
    """The cotangent between whose pixels zeros are put, convolved with the reversed kernel."""
    spread = _spread(cotangent, stride)
    around = []
    for axis, (low, _) in enumerate(padding):
        size, taps = images.aval.shape[axis + 1], kernels.shape[axis]
        before = taps - 1 - low
        around.append((before, size + taps - 1 - spread.shape[axis + 1] - before))
    reversed_kernels = jnp.flip(kernels, (0, 1)).swapaxes(2, 3)
    return _bind(spread, reversed_kernels, 1, tuple(around))


def _to_kernels(
    cotangent: Array, images: Array, kernels: Any, *, stride: int, padding: Padding
) -> Any:
    """Channels as a batch, the batch as channels: images convolved with the cotangent."""
    spread = _spread(cotangent, stride)
    around = []
    for axis, (low, _) in enumerate(padding):
        taps, size = kernels.aval.shape[axis], images.shape[axis + 1]
        around.append((low, taps - 1 + spread.shape[axis + 1] - size - low))
    turned = jax.lax.conv_general_dilated(
        images.transpose(3, 1, 2, 0),
        spread.transpose(1, 2, 0, 3),
        (1, 1),
        around,
        dimension_numbers=_LAYOUT,
    )
    return turned.transpose(1, 2, 0, 3)


def _spread(cotangent: Array, stride: int) -> Array:
    between = (0, 0, stride - 1)
    zero = jnp.zeros((), cotangent.dtype)
    return jax.lax.pad(cotangent, zero, ((0, 0, 0), between, between, (0, 0, 0)))


def _shape(images: Any, kernels: Any, *, stride: int, padding: Padding) -> Any:
    return jax.core.ShapedArray(
        jax.eval_shape(
            lambda i, k: _compute(i, k, stride=stride, padding=padding), images, kernels
        ).shape,
        jnp.result_type(images.dtype, kernels.dtype),
    )


def _vectorized(arguments: Any, axes: Any, *, stride: int, padding: Padding) -> tuple[Array, int]:
    images, kernels = arguments
    if axes[1] is None:
        moved = jnp.moveaxis(images, axes[0], 0)
        together = moved.reshape(-1, *moved.shape[2:])
        result = _bind(together, kernels, stride, padding)
        return result.reshape(*moved.shape[:2], *result.shape[1:]), 0

    def one(pair: tuple[Array, Array]) -> Array:
        return _bind(*pair, stride, padding)

    kernels = jnp.moveaxis(kernels, axes[1], 0)
    if axes[0] is None:
        return jax.lax.map(lambda kernel: one((images, kernel)), kernels), 0
    return jax.lax.map(one, (jnp.moveaxis(images, axes[0], 0), kernels)), 0


_convolution.def_impl(jax.jit(_compute, static_argnames=("stride", "padding")))
_convolution.def_abstract_eval(_shape)
mlir.register_lowering(_convolution, mlir.lower_fun(_compute, multiple_results=False))
ad.defbilinear(_convolution, _to_images, _to_kernels)
batching.primitive_batchers[_convolution] = _vectorized
