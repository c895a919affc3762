"""`--data-parallel` and `--depth-parallel`: among how many devices a run is divided."""

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
)


def mesh_options(command: Command) -> Command:
    """Both options, as `data_parallel` and `depth_parallel`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclasses.dataclass(frozen=True)
class MeshChoice:
    """What was given of the two options; `None` where it is left to `fit`."""

    data: int | None = None
    depth: int | None = None

    def mesh(self, network: Network, batch_size: int) -> Mesh | None:
        """The mesh; `None` if nothing was given.

        Raises `ValueError` for one that there are too few devices for, and for one that does not
        divide batch or depth.
        """
        if self.data is None and self.depth is None:
            return None
        mesh = Mesh(self.data or 1, self.depth or 1)
        mesh.check(network, batch_size)
        return mesh

    @property
    def written(self) -> str:
        """The options as they are typed, after a space each."""
        named = {"data": self.data, "depth": self.depth}
        return "".join(f" --{k}-parallel {v}" for k, v in named.items() if v is not None)
