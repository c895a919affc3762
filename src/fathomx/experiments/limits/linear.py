"""The linear networks of the comparison, and what their weights let one expect."""

from __future__ import annotations

import dataclasses

from fathomx.experiments.limits.scales import Scale
from fathomx.layers.parameterization import MuPC, Parameterization, Standard


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear residual perceptron: its sizes, and how it is parameterized."""

    width: int
    hidden: int
    parameterization: Parameterization

    @property
    def layers(self) -> int:
        """Weight layers, L."""
        return self.hidden + 1

    @property
    def stable(self) -> bool:
        """Whether the parameterization is muPC."""
        return isinstance(self.parameterization, MuPC)

    @property
    def expected_mean(self) -> float:
        """The mean eigenvalue of `S - I`, expected over the weights.

        A skip and its branch multiply the squared length of an error by `1 + s` on its way up, with
        `s = 1 / L` under muPC and 1 under the standard parameterization, and the readout by `1 / N`
        and 1. Summed over the hidden nodes: `(L / N) ((1 + 1 / L)^(L-1) - 1)`, and `2^(L-1) - 1`.
        """
        if self.stable:
            return self.layers / self.width * ((1 + 1 / self.layers) ** self.hidden - 1)
        return 2.0**self.hidden - 1


def linear_networks(scale: Scale) -> dict[str, Linear]:
    """The linear networks of the comparison by name."""
    found = {}
    for label, parameterization, widths in (
        ("muPC", MuPC(), scale.linear_widths),
        ("SP", Standard(), scale.standard_widths),
    ):
        for hidden in scale.hidden_layers:
            for width in widths:
                name = f"linear {label}, {hidden_layers(hidden)}, width {width}"
                found[name] = Linear(width, hidden, parameterization)
    return found


def hidden_layers(count: int) -> str:
    """How many hidden layers there are, in words."""
    return "1 hidden layer" if count == 1 else f"{count} hidden layers"


def by_parameterization(known: dict[str, Linear]) -> dict[str, dict[str, Linear]]:
    """The networks under muPC, and those under the standard parameterization (SP)."""
    panels: dict[str, dict[str, Linear]] = {"muPC": {}, "SP": {}}
    for name, network in known.items():
        panels["muPC" if network.stable else "SP"][name] = network
    return panels
