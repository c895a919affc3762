"""How large the comparison is."""

from __future__ import annotations

import dataclasses

from fathomx.experiments.grid import Selection


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `width` multiplies all channels; `examples` to train on by network (`""`: the
    others), `validation` and `test`: how many images of each part, from the first; `epochs` and
    `batch_size`; `seeds` by network, too;
    `learning_rate` of AdamW at its peak (incremental rules, which step it at every inference step,
    take a third; networks in the form of the released code 7.5e-4); `augmented`: whether images are
    cropped and flipped; `plan`: what is run, in order, unless networks or methods are chosen.
    """

    name: str
    width: float
    examples: dict[str, int]
    validation: int
    test: int
    epochs: int
    batch_size: int
    seeds: dict[str, tuple[int, ...]]
    learning_rate: float
    augmented: bool
    plan: tuple[Selection, ...] = ()

    def examples_of(self, network: str) -> int:
        """How many examples a network is trained on."""
        return self.examples.get(network, self.examples[""])

    def seeds_of(self, network: str) -> tuple[int, ...]:
        """The seeds of a network."""
        return self.seeds.get(network, self.seeds[""])


_OVERNIGHT = (
    "backprop",
    "Gauss-Newton",
    "Gauss-Newton, equilibrium errors",
    "PC + spiking",
    "equilibrium propagation",
    "equilibrium propagation, strength 0.01",
    "PC + spiking + forward update",
    "PC + spiking + forward update, alpha 1e-5",
    "PC, rate 0.01",
    "PC, rate 0.1",
)

_ON_A_CARD = (
    "backprop",
    "PC + spiking + forward update",
    "equilibrium propagation",
    "equilibrium propagation, strength 0.01",
    "Gauss-Newton",
    "Gauss-Newton, equilibrium errors",
)

_PAPER = Scale(
    name="paper",
    width=1.0,
    examples={"": 45_000},
    validation=5000,
    test=10_000,
    epochs=50,
    batch_size=128,
    seeds={"": (0, 1, 2)},
    learning_rate=7.5e-4,
    augmented=True,
)

SCALES = {
    "laptop": Scale(
        name="laptop",
        width=0.125,
        examples={"": 6144, "ResNet-18": 3072},
        validation=1000,
        test=5000,
        epochs=1,
        batch_size=32,
        seeds={"": (0,), "VGG-10": (0, 1), "ResNet-10": (0, 1)},
        learning_rate=3e-3,
        augmented=False,
    ),
    "desk": Scale(
        name="desk",
        width=0.25,
        examples={"": 45_000},
        validation=5000,
        test=10_000,
        epochs=10,
        batch_size=64,
        seeds={"": (0,)},
        learning_rate=1.5e-3,
        augmented=True,
        plan=(Selection(("VGG-10",), _OVERNIGHT), Selection(("ResNet-10",), _OVERNIGHT)),
    ),
    "card": dataclasses.replace(
        _PAPER,
        name="card",
        epochs=10,
        seeds={"": (0,)},
        plan=(Selection(("VGG-10",), _ON_A_CARD), Selection(("ResNet-18",), _ON_A_CARD)),
    ),
    "paper": _PAPER,
}
