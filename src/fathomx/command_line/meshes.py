"""`--data-parallel` and its like: among how many devices a run is divided, and what of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fathomx.graph.mesh import Mesh
from fathomx.graph.network import Network

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--data-parallel",
        type=click.IntRange(1),
        default=None,
        help="Divide each batch among so many devices. [default: as many as pay]",
    ),
    click.option(
        "--depth-parallel",
        type=click.IntRange(1),
        default=None,
        help="Divide the depth of the network among so many devices; a run may go on with other "
        "numbers of them. [default: 1]",
    ),
    click.option(
        "--shard-weights",
        is_flag=True,
        help="Divide the weights, and their moments, among the devices of --data-parallel, too: "
        "less memory, more to send.",
    ),
)


def mesh_options(command: Command) -> Command:
    """The options, as `data_parallel`, `depth_parallel` and `shard_weights`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclasses.dataclass(frozen=True)
class MeshChoice:
    """What was given of the options; `None` where it is left to `fit`."""

    data: int | None = None
    depth: int | None = None
    shard_weights: bool = False

    def mesh(self, network: Network, batch_size: int) -> Mesh | None:
        """The mesh; `None` if nothing was given.

        Raises `ValueError` for one that there are too few devices for, and for one that does not
        divide batch, depth or weights.
        """
        if self == MeshChoice():
            return None
        if self.shard_weights and (self.data or 1) == 1:
            raise ValueError(
                "--shard-weights divides the weights among the devices that share the batch; give "
                "--data-parallel of at least 2, too."
            )
        weights = "divided" if self.shard_weights else "whole"
        mesh = Mesh(self.data or 1, self.depth or 1, weights=weights)
        mesh.check(network, batch_size)
        return mesh

    @property
    def written(self) -> str:
        """The options as they are typed, after a space each."""
        named = {"data": self.data, "depth": self.depth}
        found = "".join(f" --{k}-parallel {v}" for k, v in named.items() if v is not None)
        return found + " --shard-weights" * self.shard_weights
