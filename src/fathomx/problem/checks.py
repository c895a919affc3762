"""Checks of what is clamped: shapes, values, names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx import checks
from fathomx.checks.names import near
from fathomx.graph.clamp import Clamp
from fathomx.graph.entries import Entry, Root
from fathomx.graph.network import Network

Method = TypeVar("Method", bound=Callable[..., Any])


def check_clamps(network: Network, given: Mapping[str, Any]) -> dict[str, Clamp]:
    """Clamps by name with values in the network's types, and masks of the values' shapes.

    Raises `ValueError` for names that are unknown and values that do not fit.
    """
    check_names(network, given)
    known = {entry.name: entry for entry in network.entries}
    clamps: dict[str, Clamp] = {}
    batch: int | None = None
    # In the order of the network, so that inputs tell the size of the batch.
    for name, entry in known.items():
        if name not in given:
            continue
        clamp = given[name] if isinstance(given[name], Clamp) else Clamp(given[name])
        clamps[name] = check_clamp(network, entry, clamp, batch)
        batch = clamps[name].value.shape[entry.batch_axis]
    return clamps


def check_names(network: Network, given: Iterable[str]) -> None:
    """Raises `ValueError` for the name of something clamped that is no entry's."""
    known = [entry.name for entry in network.entries]
    usual = {"target": network.output.name, "input": network.roots[0].name}
    for name in given:
        if name not in known:
            hint = near(name, known)
            if name in usual:
                hint = f" Give {name}= by itself, or call it {usual[name]!r}."
            raise ValueError(
                f"{name!r} is clamped, but the network has no entry of that name."
                f"{hint} Its entries are {', '.join(map(repr, known))}."
            )


def check_roots(network: Network, clamps: Mapping[str, Clamp]) -> None:
    """Raises `ValueError` for a root without a prior that is not clamped as a whole."""
    for root in network.roots:
        if not root.depth and not (root.name in clamps and clamps[root.name].whole):
            raise ValueError(
                f"root {root.name!r} has no prior and is not clamped as a whole: clamp it, or "
                "build it with an energy such as fx.Gaussian(1.0)."
            )


def check_clamp(network: Network, entry: Entry, clamp: Clamp, batch: int | None) -> Clamp:
    """One clamp, its value in the network's type and its mask of the value's shape."""
    if isinstance(clamp.value, Clamp):
        raise TypeError(f"{entry.name!r} is clamped by a clamp of a clamp; give one fx.Clamp.")
    clamp = entry.read_clamp(clamp)
    value = checks.array_or_keys(f"the value of {entry.name!r}", clamp.value)
    given = value.shape
    mask = None if clamp.mask is None else _check_mask_type(entry, clamp.mask)
    if mask is not None and jnp.issubdtype(value.dtype, jnp.integer):
        # A label that is not known may hold anything.
        fits = _broadcast(mask, given)
        value = value if fits is None else jnp.where(fits, value, 0)
    if entry.is_root:
        array = check_root(network, entry, value, batch, masked=mask is not None)
    else:
        array = check_target(network, entry, value, batch, masked=mask is not None)
    if mask is None:
        return Clamp(array)
    whole = _whole_mask(entry, mask, given, array)
    _check_positions(entry, whole)
    known = array if isinstance(array, jax.core.Tracer) else np.asarray(array, np.float64)
    if isinstance(known, np.ndarray) and not isinstance(whole, jax.core.Tracer):
        seen = known[np.asarray(whole)]
        _check_values(f"the clamp of {entry.name!r}", jnp.asarray(seen))
        if not entry.is_root and seen.size:
            _check_fit(entry, _selected(known, np.asarray(whole)))
    return Clamp(jnp.where(whole, array, 0).astype(array.dtype), whole)


def check_activities(problem: Any, activities: Mapping[str, Any]) -> dict[str, Any]:
    """Activities with those of the free entries as arrays of the network's type.

    Raises `ValueError` where one of these is missing or of another shape.
    """
    return {**activities, **_whole(problem, activities, problem.free, "activities")}


def fitting(method: Method) -> Method:
    """Of a problem's method: what it takes by name must fit the problem.

    Raises `ValueError` for entries that the network does not have, or of another shape.
    """

    @functools.wraps(method)
    def checked(problem: Any, *given: Any, **options: Any) -> Any:
        for value in (*given, *options.values()):
            if isinstance(value, dict):
                problem.network.check_fit(value, problem.batch)
        return method(problem, *given, **options)

    return checked  # type: ignore[return-value]


def check_errors(problem: Any, errors: Mapping[str, Any]) -> dict[str, Any]:
    """Errors of free and observed entries as arrays of the network's type, and of feedbacks.

    Raises `ValueError` where one is missing or of another shape, and for entries without an error.
    """
    free = dict.fromkeys((*problem.free, *problem.observed))
    strange = [name for name in errors if name not in {*free, *problem.explained}]
    if strange:
        raise ValueError(
            f"errors hold {strange[0]!r}, which has no error in this problem; were activities and "
            "errors exchanged?"
        )
    for name in problem.explained:
        if name not in errors:
            raise ValueError(_lacking("errors", name))
    return {**errors, **_whole(problem, errors, free, "errors")}


def _whole(
    problem: Any, given: Mapping[str, Any], names: Iterable[str], what: str
) -> dict[str, Array]:
    found = {}
    for name in names:
        if name not in given:
            raise ValueError(_lacking(what, name))
        array = checks.array(f"{name!r} of {what}", given[name])
        network = problem.network
        wanted = network.entry(name).whole_shape(network.shapes[name], problem.batch)
        if array.shape != wanted:
            raise ValueError(
                f"{what} hold {array.shape} for {name!r}, but its activity is {wanted}; give those "
                "of a relaxation of this problem."
            )
        found[name] = array.astype(network.dtype)
    return found


def _lacking(what: str, name: str) -> str:
    return f"{what} lack {name!r}; give those of a relaxation of this problem."


def check_input(network: Network, input: Any) -> Array:
    """The input as an array of the network's input type; `ValueError` if it does not fit."""
    return check_root(network, network.roots[0], input, None)


def check_root(
    network: Network, root: Any, value: Any, batch: int | None, masked: bool = False
) -> Array:
    """The value of a root as an array of its type; `ValueError` if it does not fit."""
    what = "the input" if root.name == "input" else f"the value of {root.name!r}"
    array = checks.array_or_keys(what, value)
    taker = "the network's input" if root.name == "input" else f"root {root.name!r}"
    array = _one_hot(root, array, root.shape, network.dtype, what)
    if array.ndim == 0 or array.shape[1:] != root.shape:
        raise ValueError(
            f"{what} has shape {array.shape}, but {taker} takes "
            f"{('batch', *root.shape)}: a batch of examples of shape "
            f"{root.shape}. Reshape the input, or build the network for this size."
        )
    _check_batch(array.shape[0], batch, what)
    if root.vocabulary is not None:
        check_tokens(array, root.vocabulary)
    array = array.astype(network.root_dtype(root))
    if not masked:
        _check_values(what, array)
    return array


def check_target(
    network: Network, entry: Entry, target: Any, batch: int | None, masked: bool = False
) -> Array:
    """The value of an entry with a prediction, labels as one-hot vectors; `ValueError` if unfit."""
    shape = network.shapes[entry.name]
    array = checks.array(f"the target of node {entry.name!r}", target)
    if entry.batch_axis:
        fits = array.ndim == len(shape) + 1 and (*array.shape[:1], *array.shape[2:]) == shape
        if not fits or (batch is not None and array.shape[1] != batch):
            wanted = (shape[0], "batch" if batch is None else batch, *shape[1:])
            raise ValueError(
                f"the value of {entry.name!r} has shape {array.shape}, but a stack of depth "
                f"{shape[0]} takes {wanted}: one activity for each of its blocks."
            )
    else:
        array = _one_hot(entry, array, shape, network.dtype, "target labels")
        if array.ndim == 0 or array.shape[1:] != shape:
            raise ValueError(_unfit_target(entry, array, shape, batch))
    _check_batch(array.shape[entry.batch_axis], batch, f"the target of node {entry.name!r}")
    array = array.astype(network.dtype)
    if not masked:
        _check_values(f"the target of node {entry.name!r}", array)
        if not isinstance(array, jax.core.Tracer):
            _check_fit(entry, array)
    return array


def _selected(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What a mask selects: whole distributions, where it does not split the last axis."""
    whole = (mask == mask[..., :1]).all()
    found: np.ndarray = values[mask[..., 0]] if whole else values[mask]
    return found


def _check_fit(entry: Entry, known: Array | np.ndarray) -> None:
    """Raises `ValueError` for values that the energy of an entry cannot compare."""
    unfit = entry.energy.unfit(jnp.asarray(known))
    if unfit:
        raise ValueError(f"the target of node {entry.name!r} must be {unfit}.")


def _unfit_target(entry: Entry, array: Array, shape: tuple[int, ...], batch: int | None) -> str:
    """What is wrong with the shape of a target, and how it would be right."""
    count = "batch" if batch is None else batch
    wanted = (count, *shape)
    found = f"the target has shape {array.shape}, but node {entry.name!r} predicts {wanted}"
    labels = entry.energy.takes_labels
    if array.ndim and array.shape[1:] == shape[:-1] and shape:
        if shape[-1] == 1:
            return f"{found}; give target[..., None]."
        if labels and not jnp.issubdtype(array.dtype, jnp.integer):
            return f"{found}; labels must be integers, not {array.dtype}: give labels.astype(int)."
    if not labels:
        return f"{found}; give one target of this shape per example."
    return (
        f"{found}; give one target per example, or integer labels of shape {(count, *shape[:-1])}."
    )


def _one_hot(entry: Entry, array: Array, shape: tuple[int, ...], dtype: Any, what: str) -> Array:
    """Integer labels as one-hot vectors; anything else as it is."""
    if not _are_labels(entry, array, shape):
        return array
    _check_labels(entry, array, shape[-1], what)
    vectors = jax.nn.one_hot(array, shape[-1], dtype=dtype)
    if not isinstance(array, jax.core.Tracer):
        return vectors
    # In compiled code nothing can be raised: energies and certificate of the example become NaN.
    known = (array >= 0) & (array < shape[-1])
    return jnp.where(known[..., None], vectors, jnp.nan)


def _are_labels(entry: Entry, array: Array | np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether integers lack the axis of classes; a single output is a regression, with values."""
    tokens = isinstance(entry, Root) and entry.dtype is not None
    fits = array.ndim > 0 and bool(shape) and shape[-1] > 1 and array.shape[1:] == shape[:-1]
    fits = fits and entry.energy.takes_labels
    return fits and not tokens and bool(jnp.issubdtype(array.dtype, jnp.integer))


def _check_labels(entry: Entry, array: Array | np.ndarray, classes: int, what: str) -> None:
    if isinstance(array, jax.core.Tracer) or not array.size:
        return
    values = np.asarray(array)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"{what} run from {low} to {high}, but node {entry.name!r} has {classes} outputs: "
            f"labels must lie in 0..{classes - 1}."
        )


def check_integers(network: Network, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises `ValueError` for labels and tokens out of range, whole parts of a data set at once."""
    for entry in network.entries:
        array = arrays.get(entry.name)
        if array is None:
            continue
        if _are_labels(entry, array, network.shapes[entry.name]):
            what = "the values" if entry.is_root else "target labels"
            _check_labels(entry, array, network.shapes[entry.name][-1], what)
        elif isinstance(entry, Root) and entry.vocabulary is not None:
            check_tokens(array, entry.vocabulary)


def check_targets(network: Network, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises `ValueError` for values that an energy cannot compare, whole parts at once."""
    for entry in network.entries:
        array = arrays.get(entry.name)
        if array is None or not array.size or entry.is_root:
            continue
        if not _are_labels(entry, array, network.shapes[entry.name]):
            _check_fit(entry, array)


def check_weights(weights: np.ndarray) -> None:
    """Raises `ValueError` for weights of examples that are negative or not finite."""
    if weights.size and not (np.isfinite(weights).all() and weights.min() >= 0):
        raise ValueError(
            f"weights run from {weights.min():.3g} to {weights.max():.3g}, but must be finite and "
            "at least 0; give 0 to leave an example out."
        )


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


def check_precision(precision: Any, network: Network) -> Array:
    """The output precision as an array; `ValueError` unless it is one positive, finite number."""
    with np.errstate(over="ignore"):
        found = jnp.asarray(checks.number("output_precision", precision, above=0), network.dtype)
    if not isinstance(found, jax.core.Tracer) and not 0 < found < jnp.inf:
        raise ValueError(
            f"output_precision must be a number that {network.dtype} can hold, not {precision!r}."
        )
    return found


def _check_batch(count: int, batch: int | None, what: str) -> None:
    if count == 0:
        raise ValueError(f"{what} holds 0 examples; give at least one.")
    if batch is not None and count != batch:
        raise ValueError(
            f"{what} holds {count} examples, but what is clamped before holds {batch}; "
            "give one value per example everywhere."
        )


def _check_mask_type(entry: Entry, mask: Any) -> Array:
    array = checks.array(f"the mask of {entry.name!r}", mask)
    if array.dtype != jnp.bool_:
        raise ValueError(
            f"the mask of {entry.name!r} holds {array.dtype}, but must be booleans: true where the "
            "value is known; compare first, as in mask > 0."
        )
    return array


def _broadcast(mask: Array, shape: tuple[int, ...]) -> Array | None:
    try:
        return jnp.broadcast_to(mask, shape)
    except ValueError:
        return None


def _whole_mask(entry: Entry, mask: Array, given: tuple[int, ...], array: Array) -> Array:
    """The mask in the shape of the value; that of labels holds for all of their classes."""
    shape = array.shape
    one = (*shape[: entry.batch_axis], *shape[entry.batch_axis + 1 :])
    labels = None if given == shape else _broadcast(mask, given)
    if labels is not None:
        mask = labels[..., None]
    elif mask.shape == one:
        mask = jnp.expand_dims(mask, entry.batch_axis)
    found = _broadcast(mask, shape)
    if found is None:
        raise ValueError(
            f"the mask of {entry.name!r} has the shape {mask.shape}, which does not fit its value "
            f"{shape}; give one of that shape, or of one example, {one}."
        )
    return found


def _check_positions(entry: Entry, mask: Array) -> None:
    """An energy that compares distributions cannot see a part of one."""
    energy = entry.energy
    like = jnp.zeros(mask.shape[entry.batch_axis + 1 :])
    terms = jax.eval_shape(energy.terms, like, like)
    if terms is None:
        raise ValueError(
            f"{entry.name!r} is clamped in part, but its energy {type(energy).__name__} does not "
            "say what its terms are; define terms(target, prediction) or clamp all of it."
        )
    if terms.shape == like.shape or isinstance(mask, jax.core.Tracer):
        return
    seen = np.asarray(mask)
    if (seen != seen[..., :1]).any():
        raise ValueError(
            f"the mask of {entry.name!r} splits a distribution of its {type(energy).__name__} "
            "energy; it must be the same for all classes of a position."
        )


def _check_values(what: str, array: Array) -> None:
    if isinstance(array, jax.core.Tracer) or not jnp.issubdtype(array.dtype, jnp.inexact):
        return
    finite = np.isfinite(np.asarray(array, dtype=np.float64))
    if not finite.all():
        raise ValueError(
            f"{what} holds {int((~finite).sum())} values that are NaN or infinite; remove or "
            "replace them, or mark what is missing of an entry that can be inferred with "
            "fx.Clamp.observed."
        )
