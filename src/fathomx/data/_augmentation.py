"""Random changes of training images that keep their class."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from fathomx import checks
from fathomx.checks import open_gate
from fathomx.data._images import check_channels_last


@open_gate
@dataclass(frozen=True)
class CropAndFlip:
    """Shifts every image by a few pixels at random and mirrors half of them.

    An object that stands a little to the left, or is seen in a mirror, is of the same class, so
    every epoch may show each training image a little differently. Each image is padded with
    `padding` zeros on all four sides, a window of its own size is cut out at one of the
    `(2 * padding + 1)**2` places, all equally likely, and the window is mirrored left to right with
    probability 1/2. Every image of a batch has its own place and its own mirroring. Zero is the
    mean of each channel in the images of `fathomx.data.load`, so the border that a shift uncovers
    is of the mean color.

    A `Dataset` carries it in its field `augmentation`; it is then applied to every training batch.
    It is a pure function of the images and the key, may be compiled by `jax.jit`, and is hashable
    and equal to another of the same padding.

    **Fields**: `padding`, the largest shift in pixels along either axis, an integer of at least 0;
    0 leaves only the mirroring. Raises `TypeError` if it is not an integer, and `ValueError` if it
    is negative.

    ```python
    change = fx.data.CropAndFlip(padding=4)
    change(jnp.ones((8, 32, 32, 3)), jax.random.key(0)).shape    # (8, 32, 32, 3)
    ```

    Source: C.-Y. Lee, S. Xie, P. Gallagher, Z. Zhang, Z. Tu, "Deeply-Supervised Nets", AISTATS
    2015; with padding 4 on CIFAR-10, K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for
    Image Recognition", CVPR 2016, section 4.2.
    """

    padding: int = 4

    def __post_init__(self) -> None:
        padding = checks.count(
            "padding",
            self.padding,
            least=0,
            remedy="give the largest shift in pixels, such as padding=4",
        )
        # A numpy integer becomes an int; the class is frozen, so past its own __setattr__.
        object.__setattr__(self, "padding", padding)

    def __call__(self, images: jax.Array, key: jax.Array) -> jax.Array:
        """Shifted and mirrored images, of the shape and dtype of those given.

        **Arguments**

        * `images`: `(batch, height, width, channels)`, of any real dtype.
        * `key`: a PRNG key; the same key gives the same result.

        Raises `TypeError` if `images` is no array of real numbers or `key` no random key, and
        `ValueError` if `images` does not have four axes or the axes show that channels are first.
        """
        images, key = checks.array("images", images), checks.key("key", key)
        if images.ndim != 4:
            raise ValueError(
                f"CropAndFlip was given images of shape {images.shape}, expected "
                "(batch, height, width, channels): reshape them, such as with Dataset.images()."
            )
        check_channels_last("images", images.shape[1:], "images")
        batch, height, width, _ = images.shape
        margin = (self.padding, self.padding)
        padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)))
        place_key, mirror_key = jax.random.split(key)
        places = jax.random.randint(place_key, (batch, 2), 0, 2 * self.padding + 1)
        mirrored = jax.random.bernoulli(mirror_key, 0.5, (batch, 1))
        forward = jnp.arange(width)
        rows = places[:, :1] + jnp.arange(height)
        columns = places[:, 1:] + jnp.where(mirrored, forward[::-1], forward)
        # One gather does both the crop and the flip.
        examples = jnp.arange(batch)[:, None, None]
        return padded[examples, rows[:, :, None], columns[:, None, :]]
