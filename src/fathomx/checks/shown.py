"""How a value that was given is named in a sentence."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_LONGEST = 60


def shown(value: Any) -> str:
    """A value in a few words: numbers and short texts as they are, larger things by their kind.

    ```python
    shown(1.5), shown(jnp.ones((2, 3))), shown(optax.adam)
    # '1.5', 'an array of shape (2, 3) and type float32', 'the function adam'
    ```
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {getattr(value, '__name__', 'without a name')}"
    if isinstance(value, jax.core.Tracer):
        return f"a traced array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"random keys of shape {value.shape}" if value.ndim else "a random key"
    if isinstance(value, jax.ShapeDtypeStruct) or (
        isinstance(value, np.ndarray | jax.Array) and value.ndim
    ):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, np.ndarray | jax.Array | np.generic):
        return f"{value} of type {value.dtype}"
    if isinstance(value, list | tuple | set | frozenset | dict):
        text = _text(value)
        return text if len(text) <= _LONGEST else f"{_a(value)} of {len(value)}"
    if isinstance(value, str | bytes | int | float | complex | None):
        text = _text(value)
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return _a(value)


def _a(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def _text(value: Any) -> str:
    """What Python writes for a value; integers of thousands of digits it refuses to write."""
    try:
        return " ".join(repr(value).split())
    except (ValueError, RecursionError):
        return _a(value)
