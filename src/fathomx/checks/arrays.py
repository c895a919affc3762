"""Checks of arrays and random keys."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks.shown import shown

_KEY_REMEDY = "such as jax.random.key(0)"


def is_traced(value: Any) -> bool:
    """Whether a value is known only while a compiled function runs."""
    return isinstance(value, jax.core.Tracer)


def array(name: str, value: Any) -> Array:
    """An array of real numbers or truth values; lists and either byte order are fine.

    Refused are text, objects, rows of unlike length, complex numbers, masked arrays (whose mask
    would be lost), and integers that 32 bits cannot hold, which JAX would wrap around.

    ```python
    array("input", [[1, 2], [3, 4]])    # Array([[1, 2], [3, 4]], dtype=int32)
    ```
    """
    if isinstance(value, jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            raise TypeError(f"{name} must be an array of numbers, not random keys.")
        if jnp.iscomplexobj(value):
            raise _complex(name)
        return value
    found = values(name, value)
    if found.dtype.kind in "iu" and found.size:
        limits = np.iinfo(jax.dtypes.canonicalize_dtype(found.dtype))
        low, high = int(found.min()), int(found.max())
        if low < limits.min or high > limits.max:
            raise ValueError(
                f"{name} holds integers from {low} to {high}, which {limits.dtype} cannot hold; "
                "give labels and tokens, or floating-point numbers."
            )
    return jnp.asarray(found)


def array_or_keys(name: str, value: Any) -> Array:
    """An array of numbers, or of random keys."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value
    return array(name, value)


def dtype(name: str, value: Any) -> np.dtype:
    """A type of real numbers, in this machine's byte order.

    ```python
    dtype("dtype", "bfloat16")
    dtype("dtype", "flaot32")    # TypeError: dtype must be a type of numbers ..., not 'flaot32'.
    ```
    """
    try:
        found = jnp.dtype(value)
    except TypeError:
        found = np.dtype(object)
    if value is None or not (jnp.issubdtype(found, np.floating) or found.kind in "iu"):
        raise TypeError(
            f"{name} must be a type of real numbers such as jnp.float32 or jnp.int32, not "
            f"{shown(value)}."
        )
    return found.newbyteorder("=")


def integers(name: str, value: Any, remedy: str = "") -> Array:
    """An array of integers."""
    found = array(name, value)
    if not jnp.issubdtype(found.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, not {found.dtype}{remedy and f'; {remedy}'}.")
    return found


def key(name: str, value: Any) -> PRNGKeyArray:
    """One random key; that of `jax.random.PRNGKey` is taken, too.

    ```python
    key("key", jax.random.key(0))
    key("key", 0)    # TypeError: key must be a random key such as jax.random.key(0), not 0.
    ```
    """
    found = _typed(name, value)
    if found.shape:
        raise ValueError(
            f"{name} must be one random key, not {found.size} of shape {found.shape}; take one of "
            "them, such as keys[0]."
        )
    return found


def keys(name: str, value: Any) -> Array:
    """Random keys of any shape."""
    return _typed(name, value)


def _typed(name: str, value: Any) -> Array:
    if isinstance(value, jax.Array | np.ndarray):
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return value
        if (
            value.dtype == np.uint32
            and value.shape[-1:] == jax.random.key_data(jax.random.key(0)).shape
        ):
            return jax.random.wrap_key_data(jnp.asarray(value))
    raise TypeError(f"{name} must be a random key {_KEY_REMEDY}, not {shown(value)}.")


def values(name: str, value: Any, remedy: str = "") -> np.ndarray:
    """As `array`, but on the host and in the type that they have, however wide."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost; give its filled(...), or "
            "fx.Clamp(values, mask=~masked.mask) where what is missing can be inferred."
        )
    if value is None or isinstance(value, str | bytes | dict | set | frozenset):
        raise TypeError(f"{name} must be an array of numbers, not {shown(value)}.")
    try:
        found = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{name} has rows of unlike length; give a full array, such as by padding the rows to "
            "one length."
        ) from None
    except (TypeError, RuntimeError):
        raise TypeError(f"{name} must be an array of numbers, not {shown(value)}.") from None
    if found.dtype.kind == "c":
        raise _complex(name)
    small = str(found.dtype).startswith(("bfloat16", "float8"))
    if found.dtype.kind not in "iufb" and not small:
        given = shown(value) if found.dtype == object else f"values of type {found.dtype}"
        raise TypeError(
            f"{name} must be an array of numbers, not {given}{remedy and f'; {remedy}'}."
        )
    return found if found.dtype.isnative else found.astype(found.dtype.newbyteorder("="))


def _complex(name: str) -> TypeError:
    return TypeError(
        f"{name} holds complex numbers, whose imaginary part would be lost; give its real part, or "
        "real and imaginary parts as two values."
    )


DType = Annotated[Any, dtype]
