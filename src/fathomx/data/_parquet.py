"""Images in a parquet file, decoded once into arrays that later loads map from disk."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx.data._files import DataError

# Rows decoded at a time, so that a file of one huge row group takes little memory too.
_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """What a parquet file of images must hold.

    The hub publishes one data set in more than one image format, all lossless, so the checksum is
    of the pixels and labels themselves rather than of the file.

    **Fields**

    * `rows`: number of images.
    * `shape`: `(height, width, 3)` of every image.
    * `classes`: labels are from 0 to `classes - 1`, at most 256.
    * `sha256`: of the pixels as bytes in C order, then of the labels, one byte each.
    """

    rows: int
    shape: tuple[int, int, int]
    classes: int
    sha256: str


def require_decoders() -> None:
    """Raises `ImportError`, with the remedy, if pyarrow or Pillow is not installed."""
    missing = [
        title
        for title, module in (("pyarrow", "pyarrow"), ("Pillow", "PIL"))
        if find_spec(module) is None
    ]
    if missing:
        verb = "are" if len(missing) > 1 else "is"
        raise ImportError(
            f"reading images from parquet files needs {' and '.join(missing)}, which {verb} "
            'not installed: run `pip install "fathomx[images]"`.'
        )


def read_images(
    path: Path, expected: ImageFile, cache: Path
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The images and labels of a parquet file, decoded once and then mapped from disk.

    The format: a column `img` of structs with the field `bytes`, one PNG or WebP image, and a
    column `label` of integers. Images are uint8 `(rows, height, width, 3)`, labels uint8 `(rows,)`:
    read-only maps of files in `cache`, or arrays in memory.

    The decoded arrays are kept in `cache` as two `.npy` files whose names hold the sha256 of the
    parquet file, so another file never gets the arrays of this one. They are written whole or not
    at all, checked against `expected` on every call, and decoded again if they do not match.
    Deleting them is safe. If `cache` cannot be written, the arrays stay in memory.

    **Arguments**

    * `path`: the parquet file.
    * `expected`: what it must hold.
    * `cache`: the folder for the decoded arrays; made if it does not exist.

    Raises `DataError` if the file cannot be read, is no parquet file of that format, holds an image
    that cannot be decoded or a label out of range, or decodes to other pixels or labels than
    `expected`.

    ```python
    images, labels = read_images(path, expected, cache)
    images.shape, labels.shape    # ((50000, 32, 32, 3), (50000,))
    ```

    Source: Apache Parquet, parquet.apache.org/docs/file-format; the layout is that of image data
    sets on the Hugging Face hub, huggingface.co/docs/datasets/image_dataset.
    """
    identity = _identity(path)
    places = (
        cache / f"{path.stem}-{identity}-images.npy",
        cache / f"{path.stem}-{identity}-labels.npy",
    )
    arrays = _mapped(places, expected)
    if arrays is None:
        arrays = _decode(path, expected)
        if _digest(*arrays) != expected.sha256:
            raise _broken(
                path, "its images or labels differ from the published ones (by their sha256)"
            )
        if _stored(places, arrays):
            # The map takes the place of the array in memory.
            arrays = _mapped(places, expected) or arrays
    return arrays


def _identity(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise DataError(
            f"the file {path} cannot be read ({error.strerror or error}): "
            "check that it exists and that you may read it."
        ) from error


def _digest(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> str:
    both = hashlib.sha256(images.data)
    both.update(labels.data)
    return both.hexdigest()


def _mapped(
    places: tuple[Path, Path], expected: ImageFile
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """The stored arrays, or `None` if they are absent or not the expected ones."""
    try:
        # Unlike numpy.load, open_memmap has no way to unpickle.
        images, labels = (
            np.asarray(np.lib.format.open_memmap(place, mode="r")) for place in places
        )
    except Exception:
        # Garbage in a header raises errors of many kinds; each means to decode again.
        return None
    if (
        images.dtype == labels.dtype == np.dtype(np.uint8)
        and images.shape == (expected.rows, *expected.shape)
        and labels.shape == (expected.rows,)
        and images.flags.c_contiguous
        and _digest(images, labels) == expected.sha256
    ):
        return images, labels
    return None


def _stored(places: tuple[Path, Path], arrays: tuple[NDArray[np.uint8], ...]) -> bool:
    """Writes the arrays whole or not at all; whether that went well."""
    try:
        for place, array in zip(places, arrays, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own: two processes may decode at once, and the last one wins.
            handle, name = tempfile.mkstemp(prefix=".", suffix=".npy", dir=place.parent)
            try:
                # Written rather than mapped: on a full disk, a map ends the process.
                with open(handle, "wb") as file:
                    np.save(file, array, allow_pickle=False)
                os.replace(name, place)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
    except OSError:
        return False
    return True


def _decode(path: Path, expected: ImageFile) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images = np.zeros((expected.rows, *expected.shape), np.uint8)
    labels = np.zeros(expected.rows, np.uint8)
    # The footer's count is checked already; should it lie, the checksum tells.
    for row, (content, label) in zip(range(expected.rows), _rows(path, expected), strict=False):
        images[row] = _image(path, row, content, expected.shape)
        if label is None or not 0 <= label < expected.classes:
            raise _broken(
                path, f"row {row} has the label {label}, expected 0 to {expected.classes - 1}"
            )
        labels[row] = label
    return images, labels


def _rows(path: Path, expected: ImageFile) -> Iterator[tuple[bytes | None, int | None]]:
    """The encoded image and the label of every row, read by small batches."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow)
            rows = file.metadata.num_rows
            if rows != expected.rows:
                raise _broken(path, f"it has {rows} rows, expected {expected.rows}")
            for batch in file.iter_batches(_BATCH, columns=["img.bytes", "label"]):
                images, labels = (batch.column(name).to_pylist() for name in ("img", "label"))
                for image, label in zip(images, labels, strict=True):
                    yield (image and image["bytes"]), label
    except DataError:
        raise
    except (pa.ArrowException, OSError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise _broken(path, f"it is not a whole parquet file ({why})") from error


def _check_columns(path: Path, schema: Any) -> None:
    from pyarrow import types

    # The index is -1 for a name that is absent, and for one that occurs twice.
    index = {name: schema.get_field_index(name) for name in ("img", "label")}
    for name, place in index.items():
        if place < 0:
            raise _broken(path, f"it does not have one column {name!r}")
    image, label = (schema.field(place).type for place in index.values())
    fields = list(image) if types.is_struct(image) else []
    encoded = [field.type for field in fields if field.name == "bytes"]
    if not any(types.is_binary(kind) or types.is_large_binary(kind) for kind in encoded):
        raise _broken(
            path, f"its column 'img' is {image}, expected a struct with the binary field 'bytes'"
        )
    if not types.is_integer(label):
        raise _broken(path, f"its column 'label' is {label}, expected integers")


def _image(
    path: Path, row: int, content: bytes | None, shape: tuple[int, int, int]
) -> NDArray[np.uint8]:
    from PIL import Image

    if content is None:
        raise _broken(path, f"row {row} has no image")
    height, width, _ = shape
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "WEBP")) as image:
            # From the header, before anything of a false size is decoded.
            found = f"{image.width}x{image.height} {image.mode}"
            pixels = np.asarray(image) if found == f"{width}x{height} RGB" else None
    except Exception as error:
        # Pillow's decoders raise errors of many kinds for a broken image.
        raise _broken(
            path, f"the image of row {row} cannot be decoded ({type(error).__name__})"
        ) from error
    if pixels is None:
        raise _broken(
            path, f"the image of row {row} is {found}, expected {width}x{height} RGB pixels"
        )
    return pixels


def _broken(path: Path, why: str) -> DataError:
    return DataError(
        f"the file {path} is corrupted or truncated, or not the expected images: {why}; delete "
        "it and load the data set again, or put a fresh copy in its place."
    )
