"""Images as two published sets store them: records of bytes in a tar file, and a MATLAB file."""

from __future__ import annotations

import io
import tarfile
import warnings
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx.data._files import DataError

# Two labels, then the planes of red, green and blue.
_SHAPE = (32, 32, 3)
_RECORD = 2 + 3 * 32 * 32
_COARSE, _FINE = 20, 100
_DIGITS = 10

Labeled = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def parse_cifar100(content: bytes, member: str, path: str) -> Labeled:
    """Images uint8 `(n, 32, 32, 3)` and fine labels uint8 `(n,)` of CIFAR-100's binary version.

    `content` is a tar file, packed or not, and `member` the file in it. A record is one byte for
    the coarse label (0 to 19), one for the fine label (0 to 99), and 1,024 bytes each for red,
    green and blue, row by row. `path` is for messages only. Raises `DataError` for anything else.

    Source: A. Krizhevsky, www.cs.toronto.edu/~kriz/cifar.html, section "Binary version".
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            stream = archive.extractfile(member)
            data = b"" if stream is None else stream.read()
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
        raise _broken(path, f"{member} cannot be read from it ({error})") from None
    if not data or len(data) % _RECORD:
        raise _broken(
            path, f"{member} has {len(data)} bytes, expected some records of {_RECORD} bytes"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    for column, (kind, count) in enumerate((("coarse", _COARSE), ("fine", _FINE))):
        most = int(records[:, column].max())
        if most >= count:
            raise _broken(path, f"{member} has the {kind} label {most}, expected 0 to {count - 1}")
    planes = records[:, 2:].reshape(-1, 3, *_SHAPE[:2])
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 1].copy()


def parse_svhn(content: bytes, path: str) -> Labeled:
    """Images uint8 `(n, 32, 32, 3)` and labels uint8 `(n,)` of a cropped file of SVHN.

    The file holds `X`, uint8 `(32, 32, 3, n)`, and `y`, `(n, 1)` with the digits 1 to 9 and 10 for
    the digit 0, which is 0 here. `path` is for messages only. Raises `DataError` for anything else.

    Source: ufldl.stanford.edu/housenumbers, section "Format 2: Cropped Digits".
    """
    from scipy.io import loadmat

    try:
        # Only what these files hold is read; a file of numbers has no code in it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: dict[str, Any] = loadmat(io.BytesIO(content), variable_names=("X", "y"))
    except Exception as error:
        # A damaged file raises errors of many kinds.
        raise _broken(path, f"it cannot be read ({type(error).__name__})") from None
    images, labels = (np.asarray(found.get(name, ())) for name in ("X", "y"))
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != _SHAPE:
        raise _broken(
            path,
            f"its X is {images.dtype} of shape {images.shape}, expected uint8 (32, 32, 3, n)",
        )
    labels = labels.reshape(-1)
    if labels.dtype.kind not in "iuf" or len(labels) != images.shape[-1] or not len(labels):
        raise _broken(
            path,
            f"its y holds {len(labels)} labels of {labels.dtype} for {images.shape[-1]} images",
        )
    if labels.min() < 1 or labels.max() > _DIGITS or (labels != np.round(labels)).any():
        raise _broken(
            path, f"it has labels from {labels.min()} to {labels.max()}, expected 1 to {_DIGITS}"
        )
    digits = (labels.astype(np.int64) % _DIGITS).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(images, -1, 0)), digits


def _broken(path: str, why: str) -> DataError:
    return DataError(
        f"the file {path} is corrupted or truncated, or not the expected images: {why}; delete it "
        "and get a fresh copy."
    )
