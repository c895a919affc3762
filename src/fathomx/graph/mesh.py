"""Devices in rows and columns: the batch is divided along one axis, the depth along the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from fathomx.checks import Count, choice, example, gate
from fathomx.graph.chain import DATA, DEPTH, Across, Chain, Gathering, weight_axes
from fathomx.graph.entries import Stack
from fathomx.graph.network import Network
from fathomx.graph.predictor import Chained, Predictor
from fathomx.graph.processes import Processes

Tree = TypeVar("Tree")
_WEIGHTS = ("whole", "divided")

# With fewer examples on a processor's core, a core waits for the others more than it computes.
_LEAST_EXAMPLES = 16


def equal_parts(size: int, most: int, least: int) -> int:
    """The largest number up to `most` of equal parts with at least `least` members, or 1."""
    fitting = (n for n in range(2, most + 1) if size % n == 0 and size // n >= least)
    return max(fitting, default=1)


@example("fx.Mesh()")
@gate
class Mesh:
    """How a batch and the depth of a network are divided among devices.

    `data` groups of devices share the examples, and the `depth` devices of each group the blocks of
    every `fx.Stack`: weights, activities, errors, moments of the optimizer. What is not in a stack
    is held and computed by all devices of a group. The numbers are those of one device, up to
    rounding.

    * **data.** Examples never interact during inference, so that each group relaxes its own; only
      the means over the batch (strengths, weight gradients) are taken over all.
    * **depth.** All nodes of a network relax at once, and only neighbors talk. In a step of
      `fx.StateDescent` each device computes its own blocks and sends the activity of its last one
      to the next device and a gradient of that size to the one before; none waits for another.
      Passes in order (unrolling, the certificate, solvers in error coordinates) go through the
      devices as a pipeline of parts of the batch, and `fill` of the time is spent in computing.

    * **weights.** `"whole"`: who shares the batch holds all weights of its blocks, and their
      moments. `"divided"`: a part of every matrix, and of its moments and averages, along the
      longest axis that has `data` equal parts; vectors, and matrices without such an axis, stay
      whole. A block's weights are gathered before it is computed and let go after it, in every step
      of inference anew: it saves memory, and costs what is sent.

    **Arguments**: `data` and `depth`, how many devices along each axis; `devices`, `data * depth`
    of them, the first ones of JAX's default backend unless given, as many of each process;
    `weights`, `"whole"` or `"divided"`.

    **Attributes**: these; `processes`, those that its devices belong to, each of which runs the
    same program and holds what is on its own devices (`jax.distributed`); `compiler_options` for
    functions that run on the devices. A mesh of one device moves nothing.

    Raises `ValueError` for more devices than there are, for devices of some processes only, for a
    depth that goes across processes on processors, and for weights divided among one.

    ```python
    jax.config.update("jax_num_cpu_devices", 8)         # before anything is computed
    mesh = fx.Mesh(data=2, depth=4)
    network, state = mesh.whole((network, rule.init_optimizer(optimizer, network)))
    problem = fx.Problem(mesh.network(network), *mesh.parts((x, y)))
    ```

    Ours for predictive coding; pipelines of parts of the batch: Huang et al. (2019), arXiv
    1811.06965; weights divided among those who share the batch: Rajbhandari et al. (2020), arXiv
    1910.02054.
    """

    data: int
    depth: int
    devices: tuple[jax.Device, ...]
    weights: str

    def __init__(
        self,
        data: Count = 1,
        depth: Count = 1,
        devices: Sequence[jax.Device] | None = None,
        weights: str = "whole",
    ) -> None:
        known = tuple(jax.devices()) if devices is None else tuple(devices)
        count = data * depth
        if count > len(known) or (devices is not None and count != len(known)):
            raise ValueError(
                f"a mesh of data={data} and depth={depth} needs {count} devices, not "
                f"{len(known)}; choose other numbers, or, on a processor, set "
                f"JAX_NUM_CPU_DEVICES={count} in the environment."
            )
        if choice("weights", weights, _WEIGHTS) == "divided" and data == 1:
            raise ValueError(
                "weights='divided' divides them among the devices that share the batch, but data "
                "is 1; choose data of at least 2, or depth, which divides the weights of stacks."
            )
        self.data, self.depth, self.weights = data, depth, weights
        self.devices = known if devices is not None else self._of_every_process(known)
        self.processes = Processes.of(self.devices)
        self._check_depth()
        grid = jax.sharding.Mesh(np.asarray(self.devices).reshape(data, depth), (DATA, DEPTH))
        self._grid = grid
        self._whole = NamedSharding(grid, PartitionSpec())
        self._parts = NamedSharding(grid, PartitionSpec(DATA))
        self._spread = NamedSharding(grid, PartitionSpec((DATA, DEPTH)))

    def __repr__(self) -> str:
        weights = "" if self.weights == "whole" else f", weights={self.weights!r}"
        return f"Mesh(data={self.data}, depth={self.depth}{weights})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mesh) and self._own == other._own

    def __hash__(self) -> int:
        return hash(self._own)

    @property
    def _own(self) -> tuple[Any, ...]:
        return type(self), self.data, self.depth, self.devices, self.weights

    @classmethod
    def of(cls, batch_size: Count, devices: Sequence[jax.Device] | None = None) -> Mesh:
        """A batch among as many of the devices as divide it evenly, the depth not divided.

        `devices`: all of JAX's default backend unless given. On a processor every device keeps at
        least 16 examples.
        """
        known = tuple(jax.devices()) if devices is None else tuple(devices)
        least = _LEAST_EXAMPLES if known and known[0].platform == "cpu" else 1
        of_each = _by_process(known)
        count = max(1, len(of_each))
        if batch_size % count:
            raise ValueError(
                f"{count} processes do not share a batch of {batch_size} examples evenly; choose a "
                f"batch size that is a multiple of {count}."
            )
        each = equal_parts(batch_size // count, len(known) // count, least)
        return cls(each * count, 1, tuple(d for own in of_each for d in own[:each]))

    @property
    def compiler_options(self) -> dict[str, Any]:
        """For `jax.jit`: on a processor, LLVM's first level of optimization.

        The products are a library's and the loops around them short, so that the levels above
        were measured to cost half of the compile time and to gain nothing.
        """
        on_processor = self.devices[0].platform == "cpu"
        return {"xla_backend_optimization_level": 1} if on_processor else {}

    def check(self, network: Network, batch_size: int) -> None:
        """Raises `ValueError` for a batch, a depth or weights that the mesh does not divide."""
        if batch_size % self.data:
            raise ValueError(
                f"{self} does not divide a batch of {batch_size} examples; choose a batch size "
                f"that is a multiple of {self.data}."
            )
        if self.weights == "divided":
            self._check_weights(network)
        if self.depth == 1:
            return
        stacks = [entry for entry in network.entries if isinstance(entry, Stack)]
        if not stacks:
            raise ValueError(
                f"{self} divides the depth of stacks, but this network has none; use "
                f"data={self.data * self.depth}, or a network of equal blocks such as "
                "fx.models.residual_mlp."
            )
        for stack in stacks:
            if stack.depth % self.depth:
                raise ValueError(
                    f"{self} does not divide the {stack.depth} blocks of stack {stack.name!r}; "
                    f"choose a depth of the network that makes them a multiple of {self.depth}."
                )

    def _check_weights(self, network: Network) -> None:
        sizes = {True: 0, False: 0}
        for part in network.predictors():
            stacked = isinstance(part, Chained)
            for leaf in jax.tree.leaves(eqx.filter(part, eqx.is_inexact_array)):
                axes = weight_axes(leaf.shape[1:] if stacked else leaf.shape, self.data)
                sizes[bool(axes)] += leaf.size
        if sizes[True] < sizes[False]:
            share = round(100 * sizes[True] / sum(sizes.values()))
            raise ValueError(
                f"{self} divides {share}% of the weights only: a matrix needs an axis that is a "
                f"multiple of {self.data}; choose such a width, or leave the weights whole."
            )

    def network(self, network: Network) -> Network:
        """The network whose stacks are computed across the devices; the same arrays.

        Raises `ValueError` for a depth that the mesh does not divide.
        """
        self.check(network, self.data)
        return self.divided(network)

    def divided(self, tree: Tree) -> Tree:
        """A network, or what is built like one, with its stacks across the devices."""
        if not self.divides_weights:
            return tree
        chain = Gathering(self._grid) if self.weights == "divided" else Chain()
        return _stacks(tree, Across(self._grid, chain) if self.depth > 1 else chain)

    def joined(self, tree: Tree) -> Tree:
        """A network, or what is built like one, with stacks that do not know of devices."""
        return _stacks(tree, Chain()) if self.divides_weights else tree

    @property
    def divides_weights(self) -> bool:
        """Whether no device holds all weights."""
        return self.depth > 1 or self.weights == "divided"

    def whole(self, tree: Tree) -> Tree:
        """The tree with its arrays whole on every device, but for what the mesh divides of weights
        and of what is built like them: those of stacks by depth, and all that it can if `weights`
        are divided."""
        if not self.divides_weights:
            return self._placed(tree, self._whole)

        def placed(part: Any) -> Any:
            if not isinstance(part, Predictor):
                return self._placed(part, self._whole)
            rows, rest = part.per_node(part) if isinstance(part, Chained) else (None, part)
            return eqx.combine(
                _map(lambda array: self._placed(array, self._place(array.shape[1:], DEPTH)), rows),
                _map(lambda array: self._placed(array, self._place(array.shape)), rest),
            )

        found: Tree = jax.tree.map(placed, tree, is_leaf=lambda part: isinstance(part, Predictor))
        return found

    def _place(self, shape: tuple[int, ...], *front: str) -> NamedSharding:
        """Where an array of weights is held, behind what stands in front."""
        axes = weight_axes(shape, self.data) if self.weights == "divided" else ()
        return NamedSharding(self._grid, PartitionSpec(*front, *axes))

    def parts(self, tree: Tree) -> Tree:
        """The tree with its arrays, whose first axis is the batch, divided among all devices.

        Between stacks, those along the depth share the examples, too. Whole on each where they
        cannot be divided evenly, as an incomplete batch.
        """
        sizes = {leaf.shape[0] for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))}
        return self._placed(tree, self._of_batch(*sizes))

    def rows(self, size: int) -> slice:
        """Which rows of a batch of so many examples this process computes with."""
        places = self._of_batch(size).addressable_devices_indices_map((size,)).values()
        ends = [place[0].indices(size) for place in places if place is not None]
        return slice(min(begin for begin, _, _ in ends), max(end for _, end, _ in ends))

    def batches(self, tree: Tree, size: int) -> Tree:
        """Batches of `size` examples, `(steps, batch, ...)`, each divided as `parts` divides one.

        Of each batch, `tree` holds the rows of this process (`rows`).
        """
        if len(self.devices) == 1:
            return tree
        of_batch, rows = self._of_batch(size), self.rows(size)
        sharding = NamedSharding(self._grid, PartitionSpec(None, *of_batch.spec))

        def placed(array: jax.Array) -> jax.Array:
            def part(index: Any) -> jax.Array:
                begin, end, _ = index[1].indices(size)
                return array[:, begin - rows.start : end - rows.start]

            shape = (len(array), size, *array.shape[2:])
            return jax.make_array_from_callback(shape, sharding, part)

        return _map(placed, tree)

    def gathered(self, tree: Tree) -> Tree:
        """The tree on the first device alone, of each process, as arrays usually are."""
        if len(self.devices) == 1:
            return tree
        if self.processes.count == 1:
            return _map(lambda array: jax.device_put(array, self.devices[0]), tree)
        return _map(lambda array: array.addressable_data(0), self._placed(tree, self._whole))

    def _check_depth(self) -> None:
        """On processors XLA may order the collectives of one program otherwise in each process.

        Those inside of loops, along the depth or of divided weights, then wait for ever.
        """
        if self.devices[0].platform != "cpu":
            return
        if self.weights == "divided" and self.processes.count > 1:
            raise ValueError(
                f"{self} divides weights among processes, which on processors may wait for each "
                "other for ever; leave them whole there."
            )
        for begin in range(0, len(self.devices), self.depth):
            if len(_by_process(self.devices[begin : begin + self.depth])) > 1:
                raise ValueError(
                    f"{self} divides the depth among processes, which on processors may wait for "
                    "each other for ever; divide it among the devices of each process "
                    f"(JAX_NUM_CPU_DEVICES={self.depth}), and the examples among processes."
                )

    def _of_every_process(self, known: tuple[jax.Device, ...]) -> tuple[jax.Device, ...]:
        """The first devices of every process, as many of each."""
        of_each = _by_process(known)
        each, rest = divmod(self.data * self.depth, len(of_each))
        if rest or any(len(own) < each for own in of_each):
            raise ValueError(
                f"{self} has {self.data * self.depth} devices, of which {len(of_each)} processes "
                f"with {' and '.join(str(len(own)) for own in of_each)} devices cannot give as "
                f"many each; choose a multiple of {len(of_each)}."
            )
        return tuple(device for own in of_each for device in own[:each])

    def _of_batch(self, *sizes: int) -> NamedSharding:
        """How arrays of so many examples are divided."""
        for place, count in ((self._spread, len(self.devices)), (self._parts, self.data)):
            if all(size % count == 0 for size in sizes):
                return place
        return self._whole

    def _placed(self, tree: Tree, sharding: NamedSharding) -> Tree:
        if len(self.devices) == 1:
            return tree

        def placed(array: jax.Array) -> jax.Array:
            # In a compiled function an array has no place to be taken from: the compiler is told.
            if isinstance(array, jax.core.Tracer):
                return jax.lax.with_sharding_constraint(array, sharding)
            return _put(array, sharding)

        return _map(placed, tree)


def _by_process(devices: Sequence[jax.Device]) -> list[list[jax.Device]]:
    """The devices of each process."""
    found: dict[int, list[jax.Device]] = {}
    for device in devices:
        found.setdefault(device.process_index, []).append(device)
    return list(found.values())


def _put(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    """The array on devices that may be those of other processes, which hold the same array."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    if not array.is_fully_addressable:
        moved: jax.Array = jax.jit(lambda held: held, out_shardings=sharding)(array)
        # Before another program asks the other processes for something.
        return jax.block_until_ready(moved)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(array), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    # JAX's own `device_put` compares the array with those of all processes each time.
    held = np.asarray(array)
    return jax.make_array_from_callback(held.shape, sharding, lambda index: held[index])


def _is_stack(part: object) -> bool:
    return isinstance(part, Stack)


def _stacks(tree: Tree, chain: Chain) -> Tree:
    changed: Tree = jax.tree.map(
        lambda part: part.computed(chain) if isinstance(part, Stack) else part,
        tree,
        is_leaf=_is_stack,
    )
    return changed


def _map(place: Callable[[Any], Array], tree: Tree) -> Tree:
    placed: Tree = jax.tree.map(lambda leaf: place(leaf) if eqx.is_array(leaf) else leaf, tree)
    return placed
