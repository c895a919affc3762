"""Tables, in CSV or parquet files or data frames: some columns are predicted from all others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import Seed, gate
from fathomx.checks.names import listed
from fathomx.checks.warn import warn
from fathomx.data._dataset import Dataset
from fathomx.data._files import DataError
from fathomx.data._forms import columns, is_table
from fathomx.data._parts import Part
from fathomx.data._preparation import Preparation
from fathomx.data._scale import ColumnScale
from fathomx.data._tables import divided

TASKS = ("classification", "regression", "multi-label")
# What parts columns in tables of other programs, and what it is called.
SEPARATORS = {";": "semicolons", "\t": "tabs"}
ENDINGS = (".csv", ".parquet", ".pq")
# Whole numbers with more different values than this are taken for amounts, not for classes.
_MOST_CLASSES = 20
_LEAST_ROWS = 10


@gate
def table(
    source: Any,
    target: str | Sequence[str],
    task: str | None = None,
    *,
    seed: Seed = 0,
) -> Dataset:
    """A table as a data set: target columns are predicted from all others.

    Rows are permuted and divided, a fifth for test and a tenth for validation. Inputs are
    standardized by the training part, every column by itself, and so are real targets: metrics then
    speak of these in their own units.

    **Arguments**

    * `source`: a file whose name ends in `.csv` (a head line, then rows with commas between) or
      `.parquet`, or a data frame of pandas or Polars, or an Arrow table. Needs
      `pip install "fathomx[tables]"`.
    * `target`: the column that is predicted, or several.
    * `task`: `"classification"`, of one column whose different values are the classes;
      `"regression"`, of numbers; `"multi-label"`, of zeros and ones, several of which may be one.
      Unless given: classification of one column of texts, of truth values or of at most 20
      different whole numbers; multi-label of several columns of zeros and ones or truth values;
      regression of others.
    * `seed`: of the permutation.

    Returns inputs and class labels, or arrays by the names `input` and `output`, which are those of
    the ends of `fx.models.mlp`, `(n, columns)`. Names of columns and classes are in `preparation`.

    Raises `DataError` for a file that is missing or cannot be read, and `ValueError` for columns
    that hold no numbers, miss some or hold infinite ones, unknown columns, columns that do not suit
    the task and fewer than 10 rows.

    ```python
    houses = fx.data.table("houses.csv", ["price", "days"])
    network = fx.models.mlp(5, 2, bias=True, key=key)       # of five other columns
    ```
    """
    read, name = _read(source)
    names = _targets(target, list(read.column_names))
    if len(read) < _LEAST_ROWS:
        raise ValueError(f"{name} holds {len(read)} rows, and at least {_LEAST_ROWS} are needed.")
    rest = [name for name in read.column_names if name not in names]
    if not rest:
        raise ValueError(f"{name} holds no columns beside its targets; there is nothing to go by.")
    inputs = np.stack([_numbers(read, name) for name in rest], axis=1).astype(np.float64)
    targets = {name: _column(read, name) for name in names}
    task = _usual(targets) if task is None else checks.choice("task", task, TASKS)
    places = divided(len(inputs), seed)
    scale = ColumnScale(inputs[places[0]])
    if task == "classification":
        numbers, classes = _labels(targets)
        train, validation, test = (Part(scale(inputs[rows]), numbers[rows]) for rows in places)
        kept = Preparation({"input": scale}, tuple(rest), classes)
        return Dataset(name, train, validation, test, classes=len(classes), preparation=kept)
    if task == "regression":
        values = np.stack([_real(n, each) for n, each in targets.items()], axis=1)
        own = ColumnScale(values[places[0]])
        ends, scales = own(values), {"input": scale, "output": own}
    else:
        ends = np.stack([_truth(n, each) for n, each in targets.items()], axis=1)
        scales = {"input": scale}
    first, second, third = ({"input": scale(inputs[r]), "output": ends[r]} for r in places)
    labels = tuple(names) if task == "multi-label" else ()
    return Dataset(name, first, second, third, preparation=Preparation(scales, tuple(rest), labels))


def target_columns(text: str) -> list[str]:
    """The names in a text with commas between."""
    return [name for each in text.split(",") if (name := each.strip())]


def _read(source: Any) -> tuple[Any, str]:
    """A table, as Arrow has it, and its name."""
    if find_spec("pyarrow") is None:
        raise ImportError('tables need pyarrow: pip install "fathomx[tables]"')
    import pyarrow

    if isinstance(source, pyarrow.Table):
        return source, "table"
    if hasattr(source, "to_arrow"):
        return source.to_arrow(), "table"
    if is_table(source):
        return pyarrow.Table.from_pandas(source, preserve_index=False), "table"
    path = checks.path("source", source, "houses.csv")
    return _of_file(path), os.path.splitext(os.path.basename(path))[0] or "table"


def _of_file(path: str) -> Any:
    """The table of a file."""
    import pyarrow
    from pyarrow import csv, parquet

    if not path.lower().endswith(ENDINGS):
        raise DataError(f"{path} is no table: give a file that ends in {' or '.join(ENDINGS)}.")
    if not os.path.isfile(path):
        raise DataError(f"there is no file {path}; give the path of a table.")
    try:
        return (
            _checked_csv(path, csv.read_csv(path))
            if path.lower().endswith(".csv")
            else parquet.read_table(path)
        )
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"the table {path} cannot be read ({reason}); repair the file.") from None


def _checked_csv(path: str, read: Any) -> Any:
    """The table; `DataError` where its columns are parted by something else than commas."""
    head = str(read.column_names[0])
    for sign, called in SEPARATORS.items():
        if len(read.column_names) == 1 and sign in head:
            raise DataError(
                f"the columns of {path} are parted by {called}, as in {head[:40]!r}; write it with "
                "commas between them, and points in its numbers."
            )
    return read


def _targets(target: str | Sequence[str], known: list[str]) -> list[str]:
    """The target columns, each of them known and given once."""
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise ValueError(f"the table has several columns called {twice[0]!r}; rename them.")
    names = [target] if isinstance(target, str) else list(target)
    if not names:
        raise ValueError(f"give at least one target, of {listed(known)}.")
    for name in names:
        if name not in known:
            near = checks.near(name, known)
            raise ValueError(
                f"the table has no column {name!r} to be the target.{near} Its columns are: "
                f"{listed(known)}."
            )
        if names.count(name) > 1:
            raise ValueError(f"target {name!r} is given twice; give it once.")
    return names


def _column(read: Any, name: str) -> NDArray[Any]:
    """A target: numbers, truth values or texts."""
    from pyarrow import types

    column = read[name]
    kinds = (types.is_string, types.is_large_string, types.is_dictionary)
    if column.null_count or not any(is_kind(column.type) for is_kind in kinds):
        return _numbers(read, name)
    return np.asarray(column.to_pylist())


def _numbers(read: Any, name: str) -> NDArray[Any]:
    """A column of numbers; what is in a file is a value, whatever kind it is of."""
    missing = read[name].null_count
    if missing:
        raise ValueError(
            f"column {name!r} has {missing} missing values in {len(read)} rows; "
            "fill them, leave out these rows, or leave out the column."
        )
    try:
        found = columns(read.select([name]))[name]
    except TypeError as error:
        raise ValueError(str(error)) from None
    if found.ndim > 1:
        raise ValueError(f"column {name!r} holds lists; make a column of each of their members.")
    infinite = np.flatnonzero(np.isinf(found))
    if infinite.size:
        raise ValueError(
            f"column {name!r} holds {len(infinite)} infinite value{'s' * (len(infinite) > 1)}, the "
            f"first in row {infinite[0] + 1}; correct it, or leave out the row."
        )
    return found


def _usual(targets: dict[str, NDArray[Any]]) -> str:
    """The task that the columns suggest."""
    if len(targets) == 1:
        (values,) = targets.values()
        kind = values.dtype.kind
        if kind == "U":
            _check_classes(next(iter(targets)), values)
        few = kind in "iu" and len(np.unique(values)) <= _MOST_CLASSES
        return "classification" if kind in "Ub" or few else "regression"
    zeros_and_ones = (v.dtype.kind in "iufb" and np.isin(v, (0, 1)).all() for v in targets.values())
    return "multi-label" if all(zeros_and_ones) else "regression"


def _check_classes(name: str, values: NDArray[Any]) -> None:
    """Tells of texts that are hardly the names of classes, where nothing says that they are."""
    different = len(np.unique(values))
    if different <= _MOST_CLASSES:
        return
    known = np.array([_is_number(value) for value in values])
    if known.any():
        first = int(np.flatnonzero(~known)[0])
        raise ValueError(
            f"column {name!r} holds numbers and texts, such as {str(values[first])!r} in row "
            f"{first + 1}; correct these, or use the task 'classification', if each of its "
            f"{different} values is a class."
        )
    warn(
        f"column {name!r} holds {different} different texts, each of which is taken for a class; "
        "the task 'classification' says that this is meant."
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _labels(targets: dict[str, NDArray[Any]]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The class of each row, and the names of the classes."""
    if len(targets) > 1:
        raise ValueError(
            f"classification has one target, and {len(targets)} are given; give one, or the task "
            "'multi-label'."
        )
    ((name, values),) = targets.items()
    found, labels = np.unique(values, return_inverse=True)
    if values.dtype.kind == "f" and len(found) > _MOST_CLASSES:
        raise ValueError(
            f"column {name!r} holds {len(found)} different numbers, which are no classes; use the "
            "task 'regression'."
        )
    if len(found) < 2:
        raise ValueError(f"column {name!r} holds one class alone; there is nothing to tell apart.")
    return labels, tuple(map(str, found))


def _real(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind not in "iufb":
        raise ValueError(
            f"column {name!r} holds texts, not numbers; use the task 'classification', or turn it "
            "into numbers."
        )
    return values.astype(np.float64)


def _truth(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind not in "iufb" or not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"column {name!r} holds other values than 0 and 1, which say whether a label holds; "
            "leave it out of the targets, or use the task 'regression'."
        )
    return values.astype(bool)
