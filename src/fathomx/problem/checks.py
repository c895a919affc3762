"""Checks of what is clamped."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx.graph.entries import Node
from fathomx.graph.network import Network


def check_input(network: Network, input: Any) -> Array:
    """The input as an array of the network's input type; `ValueError` if it does not fit."""
    array = jnp.asarray(input)
    if array.ndim == 0 or array.shape[1:] != network.input_shape:
        raise ValueError(
            f"the input has shape {array.shape}, but the network's input takes "
            f"{('batch', *network.input_shape)}: a batch of examples of shape "
            f"{network.input_shape}. Reshape the input, or build the network for this size."
        )
    _check_batch(array)
    if network.vocabulary is not None:
        check_tokens(array, network.vocabulary)
    array = array.astype(network.input_dtype)
    _check_values("input", array, "the input")
    return array


def check_tokens(tokens: Array | np.ndarray, vocabulary: int) -> None:
    """Raises `ValueError` for what are not integers from 0 to below the vocabulary's size."""
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"tokens must be integers, not {tokens.dtype}; encode the text first.")
    if isinstance(tokens, jax.core.Tracer):
        return
    values = np.asarray(tokens)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= vocabulary:
        raise ValueError(
            f"tokens run from {low} to {high}, but the network's vocabulary has those from 0 to "
            f"{vocabulary - 1}; encode the text with the vocabulary that the network was built for."
        )


def _check_batch(array: Array) -> None:
    if array.shape[0] == 0:
        raise ValueError("the batch is empty; give at least one example.")


def _check_target(network: Network, target: Any, batch: int) -> Array:
    output: Node = network.output
    shape = network.output_shape
    array = jnp.asarray(target)
    # A single output is a regression, whose integers are values.
    labels = bool(shape) and shape[-1] > 1 and array.shape[1:] == shape[:-1]
    if jnp.issubdtype(array.dtype, jnp.integer) and labels:
        if not isinstance(array, jax.core.Tracer) and array.size:
            values = np.asarray(array)
            low, high = int(values.min()), int(values.max())
            if low < 0 or high >= shape[-1]:
                raise ValueError(
                    f"target labels run from {low} to {high}, but node {output.name!r} has "
                    f"{shape[-1]} outputs: labels must lie in 0..{shape[-1] - 1}."
                )
        array = jax.nn.one_hot(array, shape[-1], dtype=network.dtype)
    if array.ndim == 0 or array.shape[1:] != shape or array.shape[0] != batch:
        raise ValueError(
            f"the target has shape {array.shape}, but node {output.name!r} predicts "
            f"{(batch, *shape)}; give one target per example, or integer labels of shape "
            f"{(batch, *shape[:-1])}."
        )
    array = array.astype(network.dtype)
    _check_values("target", array, f"node {output.name!r}")
    return array


def _check_precision(precision: Any, network: Network) -> Array:
    array = jnp.asarray(precision, network.dtype)
    if array.ndim:
        raise ValueError(
            f"output_precision has shape {array.shape}, but must be one number for the output node."
        )
    _check_values("output_precision", array, "the output node")
    if not isinstance(array, jax.core.Tracer) and not float(array) > 0:
        raise ValueError(f"output_precision must be positive, not {float(array)}.")
    return array


def _check_values(what: str, array: Array, where: str) -> None:
    if isinstance(array, jax.core.Tracer) or not jnp.issubdtype(array.dtype, jnp.inexact):
        return
    finite = np.isfinite(np.asarray(array, dtype=np.float64))
    if not finite.all():
        raise ValueError(
            f"{what} of {where} holds {int((~finite).sum())} values that are NaN or infinite; "
            "remove or replace them."
        )
