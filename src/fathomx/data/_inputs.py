"""Inputs in files of their own, prepared as those of a data set were: images, arrays, tables."""

from __future__ import annotations

import csv
import io
import math
import os
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import gate, open_gate
from fathomx.checks.names import listed
from fathomx.data._decoding import pixels_of
from fathomx.data._encoding import decoded
from fathomx.data._files import DataError, read_bytes
from fathomx.data._folder import IMAGE_SUFFIXES, read_image
from fathomx.data._imagenet import Examples, ImageStream
from fathomx.data._table_files import SEPARATORS


@open_gate
class Inputs(NamedTuple):
    """Inputs as a network reads them, `(n, *input_shape)`, the file of each and its row there."""

    values: NDArray[np.float32]
    files: tuple[str, ...]
    rows: tuple[int, ...]


@gate
def read_inputs(paths: Sequence[str], data: Examples, *, prepared: bool = False) -> Inputs:
    """Inputs from files, in their order, standardized by the moments of a data set's training part.

    * Images (.png, .jpg and others that Pillow reads) are brought to the size of the data set's, as
      those of a folder are, or as those of `imagenet` are to be scored.
    * `.npy` and `.npz` hold one input or several, of the shape of the data set's or flat; of a
      `.npz` file with several arrays the one named `input` is taken.
    * `.csv` holds an input in each row. Where the data set knows the names of its columns, they are
      found by the names in the first row, and others are left out.

    `prepared` says that the values of arrays and tables are standardized already.

    Raises `DataError` for what cannot be read or does not fit, naming the file, and `ImportError`
    if Pillow is needed and not installed.

    ```python
    inputs = fx.data.read_inputs(["scan.png"], run.data)
    fx.predict(run.network, inputs.values)
    ```
    """
    found: list[NDArray[Any]] = []
    files: list[str] = []
    rows: list[int] = []
    for path in paths:
        suffix = os.path.splitext(path)[1].lower()
        if suffix in IMAGE_SUFFIXES:
            values = _scaled(_image(path, data)[None], data)
        elif suffix in _READERS:
            raw = _READERS[suffix](path, data)
            values = _shaped(path, raw, data)
            values = values if prepared else _scaled(values, data)
        else:
            raise DataError(
                f"the file {path} is of no kind that inputs are read from: give images such as "
                ".png and .jpg, arrays in .npy or .npz, or a table in .csv."
            )
        _check_finite(path, values)
        found.append(values.reshape(-1, *_shape_of(data)))
        files += [path] * len(found[-1])
        rows += range(len(found[-1]))
    return Inputs(np.concatenate(found).astype(np.float32), tuple(files), tuple(rows))


def _shape_of(data: Examples) -> tuple[int, ...]:
    return tuple(data.arrays("train")["input"].shape[1:])


def _scaled(values: NDArray[Any], data: Examples) -> NDArray[Any]:
    known = data.preparation
    if known is None or "input" not in known.scales:
        return values
    return known.scales["input"](values)


def _image(path: str, data: Examples) -> NDArray[Any]:
    if isinstance(data, ImageStream):
        return pixels_of(read_bytes(path), data.image_shape[0], f"the image {path}")
    shape = data.image_shape
    if len(shape) not in (2, 3):
        raise DataError(
            f"the file {path} is an image, but the inputs of {data.name!r} are none: give a table "
            "in .csv, or arrays in .npy."
        )
    gray = len(shape) == 2 or shape[2] == 1
    pixels = read_image(path, (shape[0], shape[1]), gray=gray)
    scale = None if data.preparation is None else data.preparation.scales.get("input")
    brightest = getattr(scale, "brightest", 255)
    return pixels if brightest == 255 else pixels * (brightest / 255)


def _array(path: str, data: Examples) -> NDArray[Any]:
    del data
    try:
        found = np.load(io.BytesIO(read_bytes(path)), allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        names = found.files
        if len(names) != 1 and "input" not in names:
            raise DataError(
                f"the file {path} holds the arrays {', '.join(names) or 'none'}: name the one to "
                "predict from input."
            )
        return np.asarray(found["input" if "input" in names else names[0]])
    except DataError:
        raise
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"the file {path} cannot be read as an array ({why}): save one by numpy.save."
        ) from None


def _table(path: str, data: Examples) -> NDArray[Any]:
    lines = csv.reader(io.StringIO(decoded(read_bytes(path), "utf-8", path)))
    head, *body = [line for line in lines if line] or [[]]
    if not head:
        raise DataError(f"the file {path} is empty: give a table with a row for each input.")
    head = [name.strip() for name in head]
    for sign, called in SEPARATORS.items():
        if len(head) == 1 and sign in head[0]:
            raise DataError(
                f"the columns of the file {path} are parted by {called}: write it with commas "
                "between them, and points in its numbers."
            )
    if all(_number(cell) is not None for cell in head):
        return _cells(path, [head, *body], range(len(head)), 1)
    known = () if data.preparation is None else data.preparation.columns
    if not body:
        raise DataError(f"the file {path} has a first row of names, but no row of values.")
    missing = [name for name in known if name not in head]
    if missing:
        raise DataError(
            f"the file {path} has no column {missing[0]!r}.{checks.near(missing[0], head)} It has "
            f"{listed(head)}: give the columns that the network was trained on, {listed(known)}."
        )
    return _cells(path, body, [head.index(name) for name in known] or range(len(head)), 2)


def _cells(
    path: str, lines: Sequence[Sequence[str]], places: Sequence[int], first: int
) -> NDArray[np.float64]:
    """The numbers of a table; `first` is the number of its first line."""
    found = np.empty((len(lines), len(places)))
    for number, line in enumerate(lines):
        for column, place in enumerate(places):
            cell = line[place] if place < len(line) else ""
            value = _number(cell)
            if value is None:
                raise DataError(
                    f"the file {path} has {checks.shown(cell)} in row {number + first}, column "
                    f"{place + 1}, where a number belongs: put one there, or leave out the row."
                )
            found[number, column] = value
    return found


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


_READERS: dict[str, Callable[[str, Examples], NDArray[Any]]] = {
    ".npy": _array,
    ".npz": _array,
    ".csv": _table,
}


def _shaped(path: str, values: NDArray[Any], data: Examples) -> NDArray[Any]:
    """Values as several inputs of the shape of the data set's."""
    wanted = _shape_of(data)
    one = wanted if not data.image_shape else data.image_shape
    if values.dtype.kind not in "buif":
        raise DataError(f"the file {path} holds {values.dtype}, not numbers: give numbers.")
    size = math.prod(wanted)
    if values.shape in (wanted, tuple(one), (size,)):
        values = values[None]
    if not len(values) or math.prod(values.shape[1:]) != size or values.ndim < 2:
        raise DataError(
            f"the file {path} holds values of shape {values.shape}, but an input of {data.name!r}, "
            f"which the network was trained on, has {wanted}: give one row of that for each input."
        )
    return values.reshape(-1, *wanted)


def _check_finite(path: str, values: NDArray[Any]) -> None:
    if not np.isfinite(values).all():
        raise DataError(
            f"the file {path} holds NaN or infinite values: leave them out, or put numbers there."
        )
