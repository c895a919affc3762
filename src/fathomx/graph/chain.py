"""How the blocks of a stack are computed: all on each device, or divided among devices.

`first` is what the first block sees, `(batch, ...)`; `rows` have the depth as their first axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from fathomx.graph.predictor import apply_blocks, apply_to_batch

DATA, DEPTH = "data", "depth"
# Parts of the batch for each device of a pipeline: the more of them, the less devices wait for the
# first and the last part, and the smaller the products.
_PARTS_PER_DEVICE = 2

# What a device has: its rows, or all.
_ROWS, _ALL = PartitionSpec(DEPTH), PartitionSpec()

# `body(carried, row, own) -> carried, kept`: one block of a chain.
Body = Callable[[Array, Any, Any], tuple[Array, Any]]
# Derivatives in what the first block sees and in the activities, and the energy per example.
Local = tuple[Array, Array, Array]
# The derivative in the last activity, and the energy per example, of what sees it.
Child = Callable[[Array, Any], tuple[Array, Array]]


class Linearized(NamedTuple):
    """The blocks at the activities that they see.

    **Fields**: `predicted`; `rows` and `own`, what `back` needs of a block for all examples and
    for each of them; `back(row, own, reached)`, the derivative in what a block sees from that in
    its prediction.
    """

    predicted: Array
    rows: Any
    own: Any
    back: Callable[[Any, Any, Array], Array]


class Chain:
    """The blocks of a stack in order, on every device that computes."""

    # Whether blocks are never computed at once, since their weights are not all held at once.
    in_order = False

    @property
    def within(self) -> Chain:
        """How a device computes the blocks that it has."""
        return self

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def last(self, rows: Array) -> Array:
        """The last row."""
        return rows[-1]

    def add_to_last(self, rows: Array, more: Array) -> Array:
        """The rows with something added to the last one."""
        return rows.at[-1].add(more)

    def shifted(self, first: Array, rows: Array) -> Array:
        """What the blocks see: `first`, then all rows but the last."""
        return jnp.concatenate([first[None], rows[:-1]])

    def applied(self, block: Any, activity: Array) -> Array:
        """The prediction of one block for a batch."""
        return apply_to_batch(block, activity)

    def predicted(self, block: Any, seen: Array) -> Array:
        """The predictions of all blocks, from what each of them sees."""
        return apply_blocks(block, seen)

    def scanned(
        self, body: Body, first: Array, rows: Any, own: Any, *, reverse: bool = False
    ) -> tuple[Array, Any]:
        """`carried, kept = body(carried, row, own)` through the depth, or from its end.

        `rows` are what blocks have for all examples, `(depth, ...)`; `own` and what is kept
        `(depth, batch, ...)`; what is carried, from `first` on, `(batch, ...)`. Returns what is
        carried in the end, and all that is kept.
        """

        def block(carried: Array, given: tuple[Any, Any]) -> tuple[Array, Any]:
            return body(carried, *given)

        return jax.lax.scan(block, first, (rows, own), reverse=reverse)

    def linearized(self, block: Any, seen: Array) -> Linearized:
        """The predictions of all blocks, and how derivatives go back through one of them."""

        def one(block: Any, activity: Array) -> tuple[Array, Any]:
            result: tuple[Array, Any] = jax.vjp(lambda z: apply_to_batch(block, z), activity)
            return result

        predicted, pulls = eqx.filter_vmap(one)(block, seen)
        arrays, rest = eqx.partition(pulls, eqx.is_array)

        def back(row: Any, own: None, reached: Array) -> Array:
            found: Array = eqx.combine(row, rest)(reached)[0]
            return found

        return Linearized(predicted, arrays, None, back)

    def locally(
        self, compute: Callable[..., Local], first: Array, own: Array, rows: Any, whole: Any
    ) -> Local:
        """The derivatives of local energies, which are sums over neighboring blocks.

        `compute(first, own, rows, whole)`; `rows` have the depth as their first axis, `whole` has
        not.
        """
        return compute(first, own, rows, whole)

    def with_child(
        self, compute: Child, whole: Any, gradient: Array, own: Array
    ) -> tuple[Array, Array]:
        """A gradient with that of what sees the last block, and its energy per example.

        `compute(last, whole)` returns the derivative in the last activity, and the energy.
        """
        to_last, energy = compute(own[-1], whole)
        return self.add_to_last(gradient, to_last), energy


class Collecting(Chain):
    """The blocks of a stack in order, the derivative in their weights taken of all at once.

    For reverse-mode derivatives of what blocks with one matrix each compute. In a loop every
    block's part of the derivative is written into one array, which is zeroed before and too large
    for a cache; here the loop back keeps what reaches each block, and one batched product after it
    is the derivative in the matrices. A block with several products would compute some of them
    again for that, and is left to the loop.
    """

    def scanned(
        self, body: Body, first: Array, rows: Any, own: Any, *, reverse: bool = False
    ) -> tuple[Array, Any]:
        if reverse or jax.tree.leaves(own) or not _has_one_matrix(rows):
            return super().scanned(body, first, rows, own, reverse=reverse)

        def block(carried: Array, row: Any) -> tuple[Array, Any]:
            return body(carried, row, own)

        @jax.custom_vjp
        def scanned(first: Array, rows: Any) -> tuple[Array, Any]:
            return jax.lax.scan(block, first, rows)

        def forward(first: Array, rows: Any) -> tuple[Any, Any]:
            def one(carried: Array, row: Any) -> tuple[Array, Any]:
                after, kept = block(carried, row)
                return after, (kept, carried)

            last, (kept, seen) = jax.lax.scan(one, first, rows)
            return (last, kept), (rows, seen)

        def backward(known: Any, reached: Any) -> tuple[Array, Any]:
            rows, seen = known
            to_last, to_kept = reached

            def one(to_carried: Array, given: Any) -> tuple[Array, Array]:
                row, carried, to_kept = given
                pull = jax.vjp(lambda carried: block(carried, row), carried)[1]
                return pull((to_carried, to_kept))[0], to_carried

            def to_row(row: Any, carried: Array, to_carried: Array, to_kept: Any) -> Any:
                pull = jax.vjp(lambda row: block(carried, row), row)[1]
                return pull((to_carried, to_kept))[0]

            to_first, reaching = jax.lax.scan(one, to_last, (rows, seen, to_kept), reverse=True)
            return to_first, jax.vmap(to_row)(rows, seen, reaching, to_kept)

        scanned.defvjp(forward, backward)
        found: tuple[Array, Any] = scanned(first, rows)
        return found


def _has_one_matrix(rows: Any) -> bool:
    """Whether of the arrays of a block one is a matrix and the others are vectors or numbers."""
    leaves = jax.tree.leaves(rows)
    axes = sorted(leaf.ndim - 1 for leaf in leaves)
    real = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    return real and axes[-1:] == [2] and axes[-2:] != [2, 2]


class Gathering(Chain):
    """The blocks of a stack one after another, whose weights all devices hold a part of.

    Of one block at a time every device has the whole weights, for as long as it computes with them;
    a derivative gathers them again. `grid` has an axis `data`.
    """

    in_order = True

    def __init__(self, grid: jax.sharding.Mesh) -> None:
        self._grid = grid

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Gathering) and self._grid == other._grid

    def __hash__(self) -> int:
        return hash((Gathering, self._grid))

    def applied(self, block: Any, activity: Array) -> Array:
        arrays, rest = eqx.partition(block, eqx.is_array)

        def apply(arrays: Any, activity: Array) -> Array:
            whole = jax.tree.map(self._gathered, arrays)
            return apply_to_batch(eqx.combine(whole, rest), activity)

        # The two gatherings of one block in one loop may be one.
        found: Array = jax.checkpoint(apply, prevent_cse=False)(arrays, activity)
        return found

    def predicted(self, block: Any, seen: Array) -> Array:
        arrays, rest = eqx.partition(block, eqx.is_array)

        def one(_: None, given: tuple[Any, Array]) -> tuple[None, Array]:
            row, activity = given
            return None, self.applied(eqx.combine(row, rest), activity)

        return jax.lax.scan(one, None, (arrays, seen))[1]

    def linearized(self, block: Any, seen: Array) -> Linearized:
        return _recomputed(self, block, seen)

    def _gathered(self, array: Array) -> Array:
        # Said twice, so that the gradient, for which it holds in reverse, ends in parts, too.
        held = _constrained(array, self._grid, weight_axes(array.shape, self._grid.shape[DATA]))
        return _constrained(held, self._grid, PartitionSpec())


def weight_axes(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    """Along which axis a weight is divided among the devices that share the batch.

    The longest that has so many equal parts; a vector, and what has no such axis, stays whole.
    """
    dividing = [axis for axis, size in enumerate(shape) if size % parts == 0]
    if len(shape) < 2 or not dividing:
        return PartitionSpec()
    axis = max(dividing, key=lambda axis: shape[axis])
    return PartitionSpec(*[None] * axis, DATA)


def _constrained(array: Array, grid: jax.sharding.Mesh, axes: PartitionSpec) -> Array:
    # Where the depth is taken in hand, JAX has a mesh of what is left to the compiler.
    here = jax.sharding.get_abstract_mesh()
    place = NamedSharding(grid if here.empty else here, axes)
    return jax.lax.with_sharding_constraint(array, place)


def _recomputed(chain: Chain, block: Any, seen: Array) -> Linearized:
    """The linearization that keeps what blocks see, and computes the rest again."""
    arrays, rest = eqx.partition(block, eqx.is_array)

    def back(row: Any, own: Array, reached: Array) -> Array:
        function = eqx.combine(row, rest)
        found: Array = jax.vjp(lambda z: chain.applied(function, z), own)[1](reached)[0]
        return found

    return Linearized(chain.predicted(block, seen), arrays, seen, back)


class Across(Chain):
    """The blocks of a stack divided among devices, each with neighbors of its own.

    Every array whose first axis is the depth is divided along it; the rest, the batch too, is left
    to the compiler. `grid` has an axis `depth`; `within` is how a device computes its blocks.
    """

    def __init__(self, grid: jax.sharding.Mesh, within: Chain) -> None:
        self._grid, self._within = grid, within
        self._size: int = grid.shape[DEPTH]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Across) and (self._grid, self._within) == (
            other._grid,
            other._within,
        )

    def __hash__(self) -> int:
        return hash((self._grid, self._within))

    @property
    def within(self) -> Chain:
        return self._within

    def applied(self, block: Any, activity: Array) -> Array:
        return self._within.applied(block, activity)

    def predicted(self, block: Any, seen: Array) -> Array:
        if not self._within.in_order:
            return apply_blocks(block, seen)
        arrays, rest = eqx.partition(block, eqx.is_array)

        def local(_: Array, rows: Any, seen: Array) -> Array:
            return self._within.predicted(eqx.combine(rows, rest), seen)

        found: Array = self._each(local, arrays, seen)
        return found

    def last(self, rows: Array) -> Array:
        batch = self._batch(rows.shape[1])

        def local(_: Array, rows: Array) -> Array:
            return batch.sent(self._size - 1, rows[-1])

        return batch.outside(self._each(local, rows, returned=batch.place))

    def add_to_last(self, rows: Array, more: Array) -> Array:
        batch = self._batch(len(more))

        def local(_: Array, rows: Array, more: Array) -> Array:
            return self._within.add_to_last(rows, batch.brought(self._size - 1, more))

        found: Array = self._each(local, rows, batch.inside(more), taken=(_ROWS, batch.place))
        return found

    def shifted(self, first: Array, rows: Array) -> Array:
        batch = self._batch(len(first))

        def local(_: Array, first: Array, rows: Array) -> Array:
            seen = self._next(rows[-1]) + batch.brought(0, first)
            return self._within.shifted(seen, rows)

        found: Array = self._each(local, batch.inside(first), rows, taken=(batch.place, _ROWS))
        return found

    def scanned(
        self, body: Body, first: Array, rows: Any, own: Any, *, reverse: bool = False
    ) -> tuple[Array, Any]:
        # A pipeline: the batch goes through in parts, and while one device is at the second of
        # them, the next one is at the first.
        batch, parts = self._batch(len(first)), _parts(len(first), self._size)
        ticks = parts + self._size - 1
        begin, end = (self._size - 1, 0) if reverse else (0, self._size - 1)

        def local(device: Array, first: Array, rows: Any, own: Any) -> tuple[Array, Any]:
            place = self._size - 1 - device if reverse else device
            # In tick t the device at place p is at part t - p. Before and after that it computes
            # with a part that it has, and what comes out is left.
            which = jnp.clip(jnp.arange(ticks) - place, 0, parts - 1)
            firsts = _cut(batch.brought(begin, first), 0, parts)
            owns = jax.tree.map(lambda array: _cut(array, 1, parts), own)

            def tick(received: Array, part: Array) -> tuple[Array, tuple[Array, Any]]:
                here = jax.tree.map(lambda array: array[part], owns)
                carried, kept = self._within.scanned(
                    body, received + firsts[part], rows, here, reverse=reverse
                )
                sent = self._before(carried) if reverse else self._next(carried)
                return sent, (carried, kept)

            _, (carried, kept) = jax.lax.scan(tick, jnp.zeros_like(firsts[0]), which)

            def mine(array: Array, axis: int) -> Array:
                return _join(jax.lax.dynamic_slice_in_dim(array, place, parts, axis=0), axis)

            kept = jax.tree.map(lambda array: mine(array, 1), kept)
            return batch.sent(end, mine(carried, 0)), kept

        carried, kept = self._each(
            local,
            batch.inside(first),
            rows,
            own,
            taken=(batch.place, _ROWS, _ROWS),
            returned=(batch.place, _ROWS),
        )
        return batch.outside(carried), kept

    def linearized(self, block: Any, seen: Array) -> Linearized:
        # The pipeline goes part by part of the batch, and what a derivative keeps does not say
        # which of its axes that is: it is computed again there, from the activities.
        return _recomputed(self, block, seen)

    def locally(
        self, compute: Callable[..., Local], first: Array, own: Array, rows: Any, whole: Any
    ) -> Local:
        batch = self._batch(len(first))

        def local(_: Array, first: Array, own: Array, rows: Any, whole: Any) -> Local:
            seen = self._next(own[-1]) + batch.brought(0, first)
            to_seen, to_own, energy = compute(seen, own, rows, whole)
            # What the first block of a device sees is the last of the device before.
            to_own = to_own.at[-1].add(self._before(to_seen))
            return batch.sent(0, to_seen), to_own, energy[None]

        to_first, to_own, energy = self._each(
            local,
            batch.inside(first),
            own,
            rows,
            whole,
            taken=(batch.place, _ROWS, _ROWS, _ALL),
            returned=(batch.place, _ROWS, _ROWS),
        )
        return batch.outside(to_first), to_own, energy.sum(axis=0)

    def with_child(
        self, compute: Child, whole: Any, gradient: Array, own: Array
    ) -> tuple[Array, Array]:
        # Where the last block is: its activity goes nowhere.
        def local(device: Array, gradient: Array, own: Array, whole: Any) -> tuple[Array, Array]:
            here = device == self._size - 1
            to_last, energy = compute(own[-1], whole)
            gradient = gradient.at[-1].add(jnp.where(here, to_last, 0))
            return gradient, jnp.where(here, energy, 0)[None]

        gradient, energy = self._each(local, gradient, own, whole, taken=(_ROWS, _ROWS, _ALL))
        return gradient, energy.sum(axis=0)

    def _each(
        self, function: Callable[..., Any], *given: Any, taken: Any = None, returned: Any = None
    ) -> Any:
        """What `function(device, *given)` returns on every device, from what each has of it."""

        def local(*given: Any) -> Any:
            return function(jax.lax.axis_index(DEPTH), *given)

        mapped = jax.shard_map(
            local,
            mesh=self._grid,
            in_specs=(_ROWS,) * len(given) if taken is None else taken,
            out_specs=_ROWS if returned is None else returned,
            axis_names={DEPTH},
            check_vma=False,
        )
        # Compiled, since only there JAX lets a part of the axes be taken in hand.
        return jax.jit(mapped)(*given)

    def _batch(self, size: int) -> _Shared | _Masked:
        """How activities outside of the stack are held."""
        return (_Masked if size % self._grid.size else _Shared)(self._grid)

    def _next(self, array: Array) -> Array:
        """What the device before has; zeros on the first."""
        pairs = [(i, i + 1) for i in range(self._size - 1)]
        found: Array = jax.lax.ppermute(array, DEPTH, pairs)
        return found

    def _before(self, array: Array) -> Array:
        """What the next device has; zeros on the last."""
        pairs = [(i + 1, i) for i in range(self._size - 1)]
        found: Array = jax.lax.ppermute(array, DEPTH, pairs)
        return found


class _Shared:
    """A batch outside of the stack of which every device has a share.

    The activities of a network before and after a stack are computed by all devices together, each
    for its share of the examples.
    """

    place = PartitionSpec(None, DEPTH)

    def __init__(self, grid: jax.sharding.Mesh) -> None:
        self._groups, self._size = grid.shape[DATA], grid.shape[DEPTH]

    def inside(self, array: Array) -> Array:
        """The batch by groups of devices, devices and examples."""
        return array.reshape(self._groups, self._size, -1, *array.shape[1:])

    def outside(self, shares: Array) -> Array:
        """`inside` taken back."""
        return shares.reshape(-1, *shares.shape[3:])

    def brought(self, device: int, share: Array) -> Array:
        """On one device all examples, from every device's share; zeros on the others."""
        here = jax.lax.axis_index(DEPTH) == device
        shares = [
            jnp.where(here, share, 0)
            if other == device
            else jax.lax.ppermute(share, DEPTH, [(other, device)])
            for other in range(self._size)
        ]
        return self.outside(jnp.concatenate(shares, axis=1))

    def sent(self, device: int, array: Array) -> Array:
        """Every device's share, from all examples on one device."""
        shares = self.inside(array)
        here = jax.lax.axis_index(DEPTH) == device
        found = jnp.where(here, shares[:, device : device + 1], 0)
        for other in range(self._size):
            if other != device:
                share = shares[:, other : other + 1]
                # Zeros come where nothing is sent.
                found = found + jax.lax.ppermute(share, DEPTH, [(device, other)])
        return found


class _Masked:
    """A batch outside of the stack that all devices have whole, since it has no equal shares."""

    place = _ROWS

    def __init__(self, grid: jax.sharding.Mesh) -> None:
        self._size = grid.shape[DEPTH]

    def inside(self, array: Array) -> Array:
        """The batch in a row for each device."""
        return jnp.broadcast_to(array, (self._size, *array.shape))

    def outside(self, rows: Array) -> Array:
        """The one row that is not zero."""
        return rows.sum(axis=0)

    def brought(self, device: int, row: Array) -> Array:
        """The batch on one device; zeros on the others."""
        return jnp.where(jax.lax.axis_index(DEPTH) == device, row[0], 0)

    def sent(self, device: int, array: Array) -> Array:
        """What one device has, in its row."""
        return jnp.where(jax.lax.axis_index(DEPTH) == device, array, 0)[None]


def _parts(batch: int, devices: int) -> int:
    """How many parts of a batch go through a pipeline."""
    most = _PARTS_PER_DEVICE * devices
    return max(n for n in range(1, most + 1) if batch % n == 0)


def _cut(array: Array, axis: int, parts: int) -> Array:
    """The parts of a batch in front: every so many-th example, so that devices keep theirs."""
    shape = (*array.shape[:axis], -1, parts, *array.shape[axis + 1 :])
    return jnp.moveaxis(array.reshape(shape), axis + 1, 0)


def _join(parts: Array, axis: int) -> Array:
    """What was cut, in one."""
    back = jnp.moveaxis(parts, 0, axis + 1)
    return back.reshape(*back.shape[:axis], -1, *back.shape[axis + 2 :])
