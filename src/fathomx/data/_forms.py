"""Arrays from what others hold them in: data frames, Arrow tables, Hugging Face data sets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx import checks


def is_table(value: Any) -> bool:
    """Whether a value has columns by name: a data frame, an Arrow table, a data set of tables."""
    return _is_frame(value) or _is_arrow(value)


def is_on_disk(value: Any) -> bool:
    """Whether rows can be taken out of a table without reading the rest of it."""
    return _is_hugging_face(value)


def columns(table: Any) -> dict[str, NDArray[Any]]:
    """The columns of a table by name, one row for each example.

    Raises `TypeError` for a column that holds no numbers and `ValueError` for one with missing
    values, rows of unlike length or a name that another has.
    """
    if _is_hugging_face(table):
        table = table.with_format("arrow")[:]
    if _is_arrow(table):
        return {str(name): _from_arrow(str(name), table[name]) for name in table.column_names}
    return {str(name): _from_series(str(name), table[name]) for name in _frame_names(table)}


def rows(table: Any, places: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Some rows of a data set on disk, by the names of its columns."""
    return columns(table.with_format("arrow")[places])


def values(name: str, value: Any) -> NDArray[Any]:
    """An array of numbers, from a data frame one row for each of its own, from a series one number.

    Raises as `columns` and `checks.values` do.
    """
    if is_table(value):
        found = columns(value)
        if not found:
            raise ValueError(f"{name} is a table without columns; give at least one.")
        wide = [array.reshape(len(array), -1) for array in found.values()]
        return np.concatenate(wide, axis=1)
    if _is_series(value):
        label = getattr(value, "name", None)
        return _from_series(name if label in (None, "") else str(label), value)
    return checks.values(name, value)


def described(name: str, value: Any) -> str:
    """What an argument is called in a message, with the names of its columns if it has any."""
    if is_table(value):
        names = value.columns if _is_frame(value) else value.column_names
        return f"{name} ({', '.join(repr(str(column)) for column in names)})"
    label = getattr(value, "name", None) if _is_series(value) else None
    return name if label in (None, "") else f"{name} ({str(label)!r})"


def _is_frame(value: Any) -> bool:
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def _is_arrow(value: Any) -> bool:
    return hasattr(value, "column_names") and hasattr(value, "__getitem__")


def _is_hugging_face(value: Any) -> bool:
    return _is_arrow(value) and hasattr(value, "with_format") and hasattr(value, "__len__")


def _is_series(value: Any) -> bool:
    return hasattr(value, "to_numpy") and (hasattr(value, "isna") or hasattr(value, "is_null"))


def _frame_names(frame: Any) -> list[Any]:
    names = list(frame.columns)
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"the data frame has several columns called {twice[0]!r}; give each a name of its own."
        )
    return names


def _from_series(name: str, series: Any) -> NDArray[Any]:
    """A column of a data frame, whose missing values have several forms."""
    missing = series.isna() if hasattr(series, "isna") else series.is_null()
    count = int(np.asarray(missing.to_numpy(), bool).sum())
    if count:
        raise _missing(name, count, len(series))
    found = series.to_numpy()
    if found.dtype == object:
        # Nullable columns of older versions hold numbers as objects.
        kinds = {type(value) for value in found}
        numbers = bool(kinds) and kinds <= {int, float, bool, np.float64, np.int64, np.bool_}
        found = np.asarray(found.tolist()) if numbers else found
    found = _numbers(name, found, series.dtype)
    bad = int(np.isnan(found).sum()) if found.dtype.kind == "f" else 0
    if bad:
        raise _missing(name, bad, len(series))
    return found


def _from_arrow(name: str, column: Any) -> NDArray[Any]:
    """A column of an Arrow table; lists of one length become axes."""
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    kind, shape = array.type, [len(array)]
    while True:
        if array.null_count:
            raise _missing(name, array.null_count, shape[0])
        if hasattr(array, "storage"):
            array = array.storage
        if "list" not in str(array.type).partition("<")[0]:
            break
        flat = array.flatten()
        lengths = {len(flat) // max(1, len(array))}
        if hasattr(array, "value_lengths"):
            lengths = set(np.unique(array.value_lengths().to_numpy()).tolist()) or lengths
        if len(lengths) > 1:
            raise ValueError(
                f"column {name!r} holds lists of unlike length, from {min(lengths)} to "
                f"{max(lengths)} values; pad them to one length, or leave the column out."
            )
        shape.append(lengths.pop())
        array = flat
    found = _numbers(name, array.to_numpy(zero_copy_only=False), kind)
    return found.reshape(shape)


def _numbers(name: str, found: NDArray[Any], kind: Any) -> NDArray[Any]:
    if found.dtype.kind not in "iufb":
        raise TypeError(
            f"column {name!r} holds {kind}, not numbers; leave it out, or turn it into numbers, "
            "such as a category into 0 and 1 for each of its values."
        )
    return found


def _missing(name: str, count: int, size: int) -> ValueError:
    return ValueError(
        f"column {name!r} has {count} missing values in {size} rows; fill them or drop these rows "
        "before, or give an array in which NaN marks what a pose is to infer."
    )
