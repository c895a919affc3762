"""How large the comparison is, on a laptop and for a paper."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `depths` and `widths` of the map, `channels` of its convolutional network and
    `text_width` of its transformer; `updates` of every network of the map; how many `examples` of
    the training part, of `validation` and of `test` are used, the first; `seeds` by network (`""`:
    the others), `search_seeds` of the search.
    """

    name: str
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    channels: int
    text_width: int
    updates: int
    examples: int
    validation: int
    test: int
    seeds: dict[str, tuple[int, ...]]
    search_seeds: tuple[int, ...]

    def seeds_of(self, network: str) -> tuple[int, ...]:
        """The seeds of a network of the map."""
        return self.seeds.get(network, self.seeds[""])

    @property
    def middle(self) -> tuple[int, int]:
        """The depth and the width at which what else there is gets compared."""
        return sorted(self.depths)[len(self.depths) // 2], min(self.widths)


SCALES = {
    "laptop": Scale(
        name="laptop",
        depths=(8, 32, 128),
        widths=(32, 128),
        channels=8,
        text_width=32,
        updates=200,
        examples=12_800,
        validation=2000,
        test=5000,
        seeds={
            "": (0,),
            "8 nodes, width 32": (0, 1, 2),
            "8 nodes, width 128": (0, 1, 2),
            "32 nodes, width 32": (0, 1, 2),
            "32 nodes, width 128": (0, 1, 2),
        },
        search_seeds=(0, 1, 2, 3, 4),
    ),
    "paper": Scale(
        name="paper",
        depths=(8, 32, 128),
        widths=(32, 128, 512),
        channels=64,
        text_width=256,
        updates=5 * 859,
        examples=55_000,
        validation=5000,
        test=10_000,
        seeds={"": (0, 1, 2)},
        search_seeds=tuple(range(10)),
    ),
}
