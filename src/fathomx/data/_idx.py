"""Reading idx files, the format of MNIST and its kin, with no trust in the file."""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import zlib
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import open_gate
from fathomx.data._files import DataError, read_bytes

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08
_MOST_AXES = 4
_CHUNK = 1 << 20


@open_gate
def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Reads one idx file of unsigned bytes, gzip-compressed or not.

    Whether it is compressed is told by its first two bytes, not by its name. The format: two zero
    bytes, one byte for the element type (8 is unsigned byte), one byte for the number of axes, one
    big-endian 32-bit size for each axis, then the elements in C order. Images (magic 2051) have
    three axes, labels (magic 2049) one. The array is uint8, C-contiguous, of 1 to 4 axes with the
    sizes that the header gives.

    **Arguments**: `path`, the file, such as `train-images-idx3-ubyte.gz` or
    `train-images.idx3-ubyte`.

    Raises `DataError` if it is missing or unreadable, begins as gzip and is not whole, has another
    magic number or element type, or holds more or fewer bytes than its header says; `TypeError` if
    `path` is no path.

    ```python
    fx.data.read_idx("mnist/train-images-idx3-ubyte.gz").shape    # (60000, 28, 28)
    ```

    Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits",
    section "File formats", yann.lecun.com/exdb/mnist.
    """
    text = checks.path("path", path, "train-images-idx3-ubyte.gz")
    return parse_idx(read_bytes(text), text)


def parse_idx(content: bytes, path: str) -> NDArray[np.uint8]:
    """`read_idx` of bytes that are in memory already; `path` is for messages only."""
    if not content.startswith(_GZIP):
        return _parse(io.BytesIO(content), path)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            return _parse(stream, path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _broken(path, f"it is not a whole gzip file ({error})") from error


def _parse(stream: BinaryIO | gzip.GzipFile, path: str) -> NDArray[np.uint8]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= _MOST_AXES:
        raise _broken(
            path,
            f"it begins with the bytes {magic.hex(' ') or '(none)'}, expected the magic number "
            f"00 00 08 and a number of axes from 1 to {_MOST_AXES}",
        )
    kind, axes = magic[2], magic[3]
    if kind != _UNSIGNED_BYTE:
        raise _broken(
            path, f"its elements have the idx type 0x{kind:02x}, expected 0x08 (unsigned byte)"
        )
    header = stream.read(4 * axes)
    if len(header) < 4 * axes:
        raise _broken(path, f"its header has {4 + len(header)} bytes, expected {4 + 4 * axes}")
    shape = struct.unpack(f">{axes}I", header)
    if 0 in shape:
        raise _broken(path, f"its header gives the shape {shape}, expected no size of zero")
    expected = math.prod(shape)
    # By chunks and no further than one byte too many, so that a false header or a gzip bomb
    # cannot ask for more memory than the file's own data and its header agree on.
    data = bytearray()
    while len(data) <= expected:
        chunk = stream.read(min(_CHUNK, expected + 1 - len(data)))
        if not chunk:
            break
        data += chunk
    if len(data) != expected:
        found = f"more than {expected}" if len(data) > expected else str(len(data))
        raise _broken(
            path, f"it holds {found} bytes of data, expected {expected} for the shape {shape}"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _broken(path: str, why: str) -> DataError:
    return DataError(
        f"the file {path} is corrupted or truncated, or not an idx file: {why}; "
        "delete it and get a fresh copy."
    )
