"""A batch divided among devices: each computes its part of the examples, all hold the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fathomx.checks import Count, gate
from fathomx.graph.network import Network
from fathomx.graph.statistics import parameter_count
from fathomx.learning import Backprop, LearningRule

Tree = TypeVar("Tree")

# With fewer examples on a processor's core, a core waits for the others more than it computes.
_LEAST_EXAMPLES = 16
# Every device updates all weights; with more of them the cores of a processor gain nothing.
_MOST_PARAMETERS_DIVIDED = 4_000_000
_BATCH = "batch"


def equal_parts(size: int, most: int, least: int) -> int:
    """The largest number up to `most` of equal parts with at least `least` members, or 1."""
    fitting = (n for n in range(2, most + 1) if size % n == 0 and size // n >= least)
    return max(fitting, default=1)


@gate
class Division:
    """How a batch is divided among devices.

    Examples never interact during inference, so that each device relaxes its own; the means over
    the batch, of strengths and of weight gradients, are taken over all. JAX does the rest: a
    compiled function whose inputs were placed by `parts` and `whole` computes the same numbers as
    on one device, up to rounding. With one device nothing is moved.

    **Attributes**: `devices`, in use, and `compiler_options` for functions that run on them.

    ```python
    jax.config.update("jax_num_cpu_devices", 2)         # before anything is computed
    division = fx.Division.of(batch_size=64)
    network, state = division.whole((network, rule.init_optimizer(optimizer, network)))
    problem = fx.Problem(network, *division.parts((x, y)))
    ```
    """

    devices: tuple[jax.Device, ...]

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        if not devices:
            raise ValueError("devices must hold at least one device, not [].")
        self.devices = tuple(devices)
        mesh = Mesh(np.asarray(self.devices), (_BATCH,))
        self._whole = NamedSharding(mesh, PartitionSpec())
        self._parts = NamedSharding(mesh, PartitionSpec(_BATCH))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Division) and self.devices == other.devices

    def __hash__(self) -> int:
        return hash(self.devices)

    @classmethod
    def of(cls, batch_size: Count, devices: Sequence[jax.Device] | None = None) -> Division:
        """Among as many of the devices as divide the batch evenly.

        `devices`: all of JAX's default backend unless given. On a processor every device keeps at
        least 16 examples.
        """
        known = cls(jax.devices() if devices is None else devices).devices
        least = _LEAST_EXAMPLES if known[0].platform == "cpu" else 1
        return cls(known[: equal_parts(batch_size, len(known), least)])

    @property
    def compiler_options(self) -> dict[str, Any]:
        """For `jax.jit`: on a processor, LLVM's first level of optimization.

        The products are a library's and the loops around them short, so that the levels above
        were measured to cost half of the compile time and to gain nothing.
        """
        on_processor = self.devices[0].platform == "cpu"
        return {"xla_backend_optimization_level": 1} if on_processor else {}

    def whole(self, tree: Tree) -> Tree:
        """The tree with its arrays whole on every device."""
        return self._placed(tree, self._whole)

    def parts(self, tree: Tree) -> Tree:
        """The tree with its arrays, whose first axis is the batch, divided among the devices.

        Whole on each where they cannot be divided evenly, as an incomplete batch.
        """
        sizes = {leaf.shape[0] for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))}
        even = all(size % len(self.devices) == 0 for size in sizes)
        return self._placed(tree, self._parts if even else self._whole)

    def gathered(self, tree: Tree) -> Tree:
        """The tree on the first device alone, as arrays usually are."""
        if len(self.devices) == 1:
            return tree
        return _map(lambda array: jax.device_put(array, self.devices[0]), tree)

    def _placed(self, tree: Tree, sharding: NamedSharding) -> Tree:
        if len(self.devices) == 1:
            return tree

        def placed(array: jax.Array) -> jax.Array:
            # In a compiled function an array has no place to be taken from: the compiler is told.
            if isinstance(array, jax.core.Tracer):
                return jax.lax.with_sharding_constraint(array, sharding)
            return jax.device_put(array, sharding)

        return _map(placed, tree)


def division_for(network: Network, rule: LearningRule, batch_size: int) -> Division:
    """How `fit` divides a batch: among all devices; among cores only where it pays."""
    devices = jax.devices()
    if devices[0].platform == "cpu" and (
        isinstance(rule, Backprop) or parameter_count(network) > _MOST_PARAMETERS_DIVIDED
    ):
        devices = devices[:1]
    return Division.of(batch_size, devices)


def _map(place: object, tree: Tree) -> Tree:
    placed: Tree = jax.tree.map(lambda leaf: place(leaf) if eqx.is_array(leaf) else leaf, tree)  # type: ignore[operator]
    return placed
