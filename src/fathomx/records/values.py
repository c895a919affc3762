"""Values as files hold them: plain numbers, null for what is not finite."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np

PathLike = str | os.PathLike[str]


def plain(value: Any) -> Any:
    """Numbers, lists and dictionaries that JSON can hold; what is not finite becomes `None`."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def numbers(values: list[Any]) -> np.ndarray:
    """The values as floats; NaN where one is missing or not finite."""
    known = [finite(value) for value in values]
    return np.array([np.nan if value is None else value for value in known], float)


def finite(value: Any) -> float | None:
    """A number as a float; `None` for anything else, NaN and infinities included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if np.isfinite(value) else None
