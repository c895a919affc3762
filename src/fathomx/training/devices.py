"""Which devices training uses unless it is told."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from fathomx.checks import Count, gate, warn
from fathomx.graph.mesh import Mesh
from fathomx.graph.network import Network
from fathomx.graph.statistics import parameter_count
from fathomx.learning import Backprop, LearningRule

# Every device updates all weights; with more of them the cores of a processor gain nothing.
_MOST_PARAMETERS_DIVIDED = 4_000_000


def mesh_for(network: Network, rule: LearningRule, batch_size: int) -> Mesh:
    """How `fit` divides a batch: among all devices; among cores only where it pays."""
    devices = jax.devices()
    if devices[0].platform == "cpu" and (
        isinstance(rule, Backprop) or parameter_count(network) > _MOST_PARAMETERS_DIVIDED
    ):
        devices = list({device.process_index: device for device in reversed(devices)}.values())
        devices.sort(key=lambda device: device.process_index)
    return Mesh.of(batch_size, devices)


@gate
class Division(Mesh):
    """The former name of a `Mesh` that divides batches only."""

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        if not devices:
            raise ValueError("devices must hold at least one device, not [].")
        warn(
            f"fx.Division is now fx.Mesh: fx.Mesh(data={len(devices)}), or fx.Mesh.of(batch_size).",
            DeprecationWarning,
        )
        super().__init__(len(devices), 1, devices)

    @classmethod
    def of(cls, batch_size: Count, devices: Sequence[jax.Device] | None = None) -> Division:
        """Among as many of the devices as divide the batch evenly."""
        return cls(Mesh.of(batch_size, devices).devices)
