"""What entries and feedbacks have in common: they predict an activity, node by node."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from fathomx.checks import gate
from fathomx.graph.energy import Energy, Gaussian
from fathomx.graph.statistics import Freezable, with_fields

Part = TypeVar("Part", bound="Predictor")


def _placed(energy: Energy) -> tuple[Energy | None, Energy | None]:
    """An energy as the one that is fixed, or as the one that learns."""
    learns = bool(jax.tree.leaves(eqx.filter(energy, eqx.is_array)))
    return (None, energy) if learns else (energy, None)


@gate
class Predictor(Freezable):
    """One row, or several rows, of a network: a function that predicts, and an energy.

    **Fields**: `name`, unique in the network; `parents`, the names of those whose activities it
    predicts from; `energy`, how the predicted activity and the prediction are compared.
    """

    name: eqx.AbstractVar[str]
    parents: eqx.AbstractVar[tuple[str, ...]]
    # Apart from one that learns, so that a network has few parts for every call to take apart.
    _fixed_energy: Energy | None = eqx.field(static=True, default=None, kw_only=True, repr=False)
    _learned_energy: Energy | None = eqx.field(default=None, kw_only=True, repr=False)

    # How many axes stand before that of the batch.
    batch_axis: ClassVar[int] = 0

    @property
    def energy(self) -> Energy:
        """How the predicted activity and the prediction are compared."""
        energy = self._fixed_energy if self._learned_energy is None else self._learned_energy
        assert energy is not None
        return energy

    def _set_energy(self, energy: Any) -> None:
        if not isinstance(energy, Energy):
            raise TypeError(
                f"{self.name!r}: its energy must be one such as fx.Gaussian() or "
                f"fx.Categorical(), not {energy!r}."
            )
        self._fixed_energy, self._learned_energy = _placed(energy)

    def with_energy(self: Part, energy: Energy) -> Part:
        """The same with another energy."""
        fixed, learned = _placed(energy)
        return with_fields(self, _fixed_energy=fixed, _learned_energy=learned)

    @abc.abstractmethod
    def learned_function(self) -> Any:
        """The module that predicts."""

    @abc.abstractmethod
    def with_function(self, function: Any) -> Any:
        """The same with another function."""

    @abc.abstractmethod
    def predict(self, sources: list[Any], own: ArrayLike | None) -> Array:
        """The prediction from the sources and, of a stack, from its own activity."""

    @abc.abstractmethod
    def infer_shape(self, sources: list[Any]) -> tuple[tuple[int, ...], Any]:
        """The shape of one example's prediction, and that of what is predicted last."""

    @property
    def depth(self) -> int:
        """Number of nodes that are reported."""
        return 1

    @property
    def labels(self) -> tuple[str, ...]:
        """One name per node."""
        return (self.name,)

    @property
    def energy_is_gaussian(self) -> bool:
        """Whether what it predicts may be inferred."""
        return isinstance(self.energy, Gaussian)

    def whole_shape(self, shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
        """The shape of an activity over a batch, from that of one example."""
        return (*shape[: self.batch_axis], batch, *shape[self.batch_axis :])

    def units(self, shape: tuple[int, ...]) -> list[int]:
        """Number of units of every node."""
        return [math.prod(shape[self.batch_axis :])] * self.depth

    def rows(self, values: Array) -> Array:
        """What belongs to an activity with an axis of nodes in front: `(depth, batch, ...)`."""
        return values[None]

    def spread(self, per_node: Array, ndim: int) -> Array:
        """One value per node as an array that multiplies an activity of so many axes."""
        return jnp.squeeze(per_node, 0)

    def over_nodes(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of one node's arrays as one of all."""
        return function

    def precision(self, shape: tuple[int, ...]) -> float | Array:
        """The precision, as a number or as an array that multiplies an activity."""
        learned = self.energy.log_precision
        if learned is None:
            return self.energy.precision
        return jnp.exp(self.aligned(learned, shape))

    def aligned(self, values: Array, shape: tuple[int, ...]) -> Array:
        """Values per unit (and per node of a stack) with an axis for the batch."""
        front, rest = values.shape[: self.batch_axis], values.shape[self.batch_axis :]
        inner = len(shape) - self.batch_axis
        return values.reshape(*front, 1, *[1] * (inner - len(rest)), *rest)

    def check_precision(self, shape: tuple[int, ...]) -> None:
        """Raises `ValueError` for a learned precision that does not fit the activity."""
        learned = self.energy.log_precision
        if learned is None:
            return
        lead, rest = learned.shape[: self.batch_axis], learned.shape[self.batch_axis :]
        if lead != shape[: self.batch_axis] or not broadcasts(rest, shape[self.batch_axis :]):
            raise ValueError(
                f"the precision of {self.name!r} has the shape {learned.shape}, which does not fit "
                f"its activity {shape}; give one that broadcasts to it (of a stack, with the depth "
                "as its first axis)."
            )


@gate
class Chained(Predictor):
    """A predictor whose arrays have a leading axis of nodes, its depth."""

    batch_axis: ClassVar[int] = 1
    _depth: eqx.AbstractVar[int]

    @property
    def depth(self) -> int:
        """Number of nodes."""
        return self._depth

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"{self.name}[{i}]" for i in range(self.depth))

    def rows(self, values: Array) -> Array:
        return values

    def spread(self, per_node: Array, ndim: int) -> Array:
        return per_node.reshape(-1, *[1] * (ndim - 1))

    def over_nodes(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.vmap(function)

    def per_node(self, tree: Any) -> tuple[Any, Any]:
        """The arrays with a row for each node, and the rest."""

        def has_rows(leaf: Any) -> bool:
            return eqx.is_array_like(leaf) and jnp.ndim(leaf) > 0 and len(leaf) == self.depth

        rows, rest = eqx.partition(tree, has_rows)
        return rows, rest


def broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    """Whether one shape broadcasts to another."""
    padded = (1,) * (len(large) - len(small)) + tuple(small)
    return len(small) <= len(large) and all(a in (1, b) for a, b in zip(padded, large, strict=True))


def as_names(given: str | Sequence[str]) -> tuple[str, ...]:
    """Names, or one name alone, as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)


def check_callable(what: str, function: Any) -> None:
    """Raises `TypeError` for what cannot be the function of a node or a feedback."""
    if not callable(function):
        raise TypeError(
            f"{what}: its function must map activities to a prediction, not "
            f"{type(function).__name__}; give an Equinox module or a function."
        )


def checked_depth(what: str, block: Any) -> int:
    """The leading depth axis that the arrays of some blocks share; `ValueError` if they do not."""
    lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(eqx.filter(block, eqx.is_array))}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        raise ValueError(
            f"{what}: the arrays of its blocks must share one leading depth axis, but "
            f"their leading axes are {sorted(lengths)}; build the blocks with "
            "equinox.filter_vmap over one key per block."
        )
    return int(lengths.pop()[0])


def apply_blocks(block: Callable[..., Array], seen: Array) -> Array:
    """The predictions of all blocks at once, from what each of them sees."""
    stacked: Array = eqx.filter_vmap(apply_to_batch)(block, seen)
    return stacked


def apply_to_batch(block: Callable[[Array], Array], activity: Array) -> Array:
    """The prediction of one block for a batch."""
    return jax.vmap(block)(activity)


def first_block(block: Any) -> Any:
    """One block of several, as its class was written."""
    return jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, block)


def traced_shape(name: str, function: Any, sources: list[Any]) -> Any:
    """Shape and type of one prediction; `ValueError` if a function returns no single array."""
    predicted = eqx.filter_eval_shape(function, *sources)
    if not isinstance(predicted, jax.ShapeDtypeStruct):
        raise ValueError(f"node {name!r} must return one array, not {predicted}.")
    if not jnp.issubdtype(predicted.dtype, jnp.floating):
        raise ValueError(
            f"node {name!r} must return real floating-point numbers, not {predicted.dtype}."
        )
    return predicted
