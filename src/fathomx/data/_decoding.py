"""Encoded images as pixels of one size: a part of the image, scaled, and for training mirrored."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx.data._files import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
GRAY, COLOR = ("1", "L", "LA"), ("P", "RGB", "RGBA", "CMYK", "YCbCr")
# Of the shorter side, in an image that is larger than what is wanted: 224 of 256.
_CENTER = 224 / 256
# Of a random crop: the range of width to height, and how often one is tried that may not fit.
_RATIOS, _TRIES = (3 / 4, 4 / 3), 10
_ORIENTATION = 0x0112

Box = tuple[float, float, float, float]


def pixels_of(
    content: bytes,
    size: int,
    what: str,
    random: np.random.Generator | None = None,
    smallest: float = 0.08,
) -> NDArray[np.uint8]:
    """An encoded image as `(size, size, 3)`: its center, or with `random` a part drawn at random.

    * The center is a square of 7/8 of the shorter side, or of `size` pixels if that is more and the
      image has them.
    * A random part covers from `smallest` to all of the area, evenly, with a ratio of width to
      height from 3/4 to 4/3, evenly in its logarithm; every second one is mirrored.

    It is scaled by the means of triangles (Pillow's bilinear filter, as wide as what a pixel
    stands for). JPEG files are decoded at a half, a quarter or an eighth of their size where the
    part is more than twice that often as large as wanted. `what` is what messages call the image.

    Raises `DataError` for what cannot be decoded.

    Source: C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.mode in (*GRAY, *COLOR):
                return _pixels(image, size, random, smallest)
            mode = image.mode
    except Exception as error:
        # Pillow's decoders raise errors of many kinds.
        raise DataError(
            f"{what} cannot be read ({type(error).__name__}): delete it, or put a whole copy in "
            "its place."
        ) from None
    raise DataError(
        f"{what} has pixels of the mode {mode!r}: convert it to gray or color of 8 bits."
    )


def _pixels(
    image: Any, size: int, random: np.random.Generator | None, smallest: float
) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    box = _center(image.size, size) if random is None else _part(image.size, random, smallest)
    mirrored = random is not None and random.random() < 0.5
    box = _drafted(image, box, size)
    image = image if image.mode == "RGB" else image.convert("RGB")
    found = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box))
    return found[:, ::-1] if mirrored else found


def _drafted(image: Any, box: Box, size: int) -> Box:
    """Has a JPEG file decoded smaller where enough pixels are left; the box in what is decoded."""
    left, upper, right, lower = box
    spare = min(right - left, lower - upper) / (2 * size)
    if spare < 2 or not hasattr(image, "draft"):
        return box
    width, height = image.size
    image.draft(None, (int(width / spare), int(height / spare)))
    across, down = image.width / width, image.height / height
    return left * across, upper * down, right * across, lower * down


def _center(sides: tuple[int, int], size: int) -> Box:
    width, height = sides
    shorter = min(width, height)
    side = max(_CENTER * shorter, min(size, shorter))
    left, upper = (width - side) / 2, (height - side) / 2
    return left, upper, left + side, upper + side


def _part(sides: tuple[int, int], random: np.random.Generator, smallest: float) -> Box:
    width, height = sides
    low, high = (math.log(ratio) for ratio in _RATIOS)
    for _ in range(_TRIES):
        area = width * height * random.uniform(smallest, 1)
        ratio = math.exp(random.uniform(low, high))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left = int(random.integers(width - across + 1))
            upper = int(random.integers(height - down + 1))
            return left, upper, left + across, upper + down
    # All that a ratio in the range leaves of a long image, around its center.
    across = min(width, round(height * _RATIOS[1]))
    down = min(height, round(width / _RATIOS[0]))
    left, upper = (width - across) // 2, (height - down) // 2
    return left, upper, left + across, upper + down
