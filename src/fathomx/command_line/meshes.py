"""`--data-parallel` and its like: among how many devices a run is divided, and what of it."""

from __future__ import annotations

import dataclasses

import click

from fathomx.command_line.options import all_of, typed
from fathomx.graph.mesh import Mesh
from fathomx.graph.network import Network

# The options, as `data_parallel`, `depth_parallel` and `shard_weights`.
mesh_options = all_of(
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
        values = {
            "data-parallel": self.data,
            "depth-parallel": self.depth,
            "shard-weights": self.shard_weights or None,
        }
        return "".join(f" {option}" for option in typed(values))
