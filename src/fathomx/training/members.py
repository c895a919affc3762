"""One function for several runs at once: the runs are members of a program, shared by devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from fathomx.graph.chain import DATA
from fathomx.graph.mesh import Mesh

# A function of one member's arrays and of those that all members share.
One = Callable[[Any, Any], Any]
# How a device computes the first members that it has.
Form = Callable[[One, Any, Any, Array], Any]


class Members(Mesh):
    """Devices that share the members of a program: each has some of them, with whole batches.

    Members do not talk to each other, so that no device waits for another. All arrays are whole on
    every device outside of the program.
    """

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        super().__init__(len(devices), 1, devices)

    def check(self, network: Any, batch_size: int) -> None:
        """Any network and any batch will do."""

    def parts(self, tree: Any) -> Any:
        """A batch, which is not divided."""
        return self.whole(tree)

    def slots(self, count: int) -> int:
        """Places for so many members, as many on every device."""
        return -(-count // len(self.devices)) * len(self.devices)

    def dealt(self, given: Sequence[Any], slots: int) -> tuple[tuple[Any, ...], Array, list[int]]:
        """What is given of some members by slot, how many each device has, and their slots.

        They are dealt to the devices one by one, the first slots of each; the rest repeat one.
        """
        devices, count = len(self.devices), len(given)
        places = [at % devices * (slots // devices) + at // devices for at in range(count)]
        found = [given[0]] * slots
        for place, each in zip(places, given, strict=True):
            found[place] = each
        busy = [len(range(device, count, devices)) for device in range(devices)]
        return tuple(found), jnp.asarray(busy, jnp.int32), places

    def computed(self, form: Form, one: One, members: Any, common: Any, busy: Array) -> Any:
        """What a function returns for the members, along the first axis; `busy` of each device."""

        def on_device(members: Any, common: Any, busy: Array) -> Any:
            return form(one, members, common, busy[0])

        if len(self.devices) == 1:
            return on_device(members, common, busy)
        mine, all_have = PartitionSpec(DATA), PartitionSpec()
        divided = jax.shard_map(
            on_device,
            mesh=self._grid,
            in_specs=(mine, all_have, mine),
            out_specs=mine,
            check_vma=False,
        )
        whole = NamedSharding(self._grid, all_have)
        return jax.lax.with_sharding_constraint(divided(members, common, busy), whole)

    def _placed(self, tree: Any, sharding: NamedSharding) -> Any:
        def placed(leaf: Any) -> Any:
            # Inside of the program a device sees its own members alone.
            inside = not eqx.is_array(leaf) or isinstance(leaf, jax.core.Tracer)
            there = inside or (leaf.committed and leaf.sharding == sharding)
            return leaf if there else jax.device_put(leaf, sharding)

        return tree if len(self.devices) == 1 else jax.tree.map(placed, tree)


def at_once(one: One, members: Any, common: Any, busy: Array) -> Any:
    """All members together, as suits an accelerator; those behind the first `busy`, too."""
    return jax.vmap(one, in_axes=(0, None))(members, common)


def in_turn(one: One, members: Any, common: Any, busy: Array) -> Any:
    """The first `busy` members, one after the other; zeros for the rest.

    On a processor's core: activities, gradients and moments of one network stay in its cache, and
    a convolution has one set of kernels.
    """
    first = jax.tree.map(lambda array: array[0], members)
    count = len(jax.tree.leaves(members)[0])
    shapes = jax.eval_shape(one, first, common)
    found = jax.tree.map(lambda shape: _zeros((count, *shape.shape), shape.dtype), shapes)

    def compute(at: Array, found: Any) -> Any:
        made = one(jax.tree.map(lambda array: array[at], members), common)
        return jax.tree.map(lambda all, new: all.at[at].set(new), found, made)

    return jax.lax.fori_loop(0, busy, compute, found)


def usual_form(device: jax.Device) -> Form:
    """The form that is the fastest on a device."""
    return in_turn if device.platform == "cpu" else at_once


def _zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return jnp.zeros(shape, dtype)
    data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(shape, dtype))
    impl = jax.random.key_impl(jax.random.key(0))
    return jax.random.wrap_key_data(jnp.zeros(data.shape, data.dtype), impl=impl)


@dataclasses.dataclass(frozen=True)
class ForMembers:
    """A function of one run's arguments and of shared ones, as one of several runs.

    Called with the own arguments of the run in every slot, how many runs each device has
    (`Members.dealt`), and the shared arguments; returns what the run in every slot gets. What is no
    array is alike in all runs, and taken from the first.
    """

    function: Callable[..., Any]
    mesh: Members
    form: Form

    def __call__(self, own: tuple[Any, ...], busy: Array, *shared: Any) -> list[Any]:
        arrays, rest = zip(*(eqx.partition(each, eqx.is_array) for each in own), strict=True)
        leaves, structure = zip(*(jax.tree.flatten(each) for each in arrays), strict=True)
        stacked = [jnp.stack(each) for each in zip(*leaves, strict=True)]
        common, kept = eqx.partition(shared, eqx.is_array)
        static: list[Any] = []

        def one(leaves: list[Array], common: Any) -> Any:
            member = eqx.combine(jax.tree.unflatten(structure[0], leaves), rest[0])
            made, no_arrays = eqx.partition(
                self.function(*member, *eqx.combine(common, kept)), eqx.is_array
            )
            static.append(no_arrays)
            return made

        made = self.mesh.computed(self.form, one, stacked, common, busy)
        return [
            eqx.combine(jax.tree.map(lambda array, n=at: array[n], made), static[0])
            for at in range(len(own))
        ]
