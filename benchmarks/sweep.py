"""Sweeps in one process: the second fit beside the first, and memory over fifty sizes.

    python benchmarks/sweep.py

Prints the seconds until the first training step of a fit, of a second one of the same shapes with
another learning rate and seed, and their ratio; then the resident memory of the process before and
after fits of fifty widths.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax
import optax

import fathomx as fx
from fathomx.training import Observer, TrainingState


class FirstStep(Observer):
    """Notes when the first training step is done."""

    def __init__(self) -> None:
        self.at: float | None = None

    def stepped(self, record: dict[str, Any], state: TrainingState) -> None:
        if self.at is None:
            self.at = time.perf_counter()


def seconds_to_first_step(data: fx.data.Dataset, rate: float, seed: int) -> float:
    """Of one fit, from its call on."""
    network = fx.models.residual_mlp(64, 10, width=32, depth=8, key=jax.random.key(seed))
    watch = FirstStep()
    begun = time.perf_counter()
    fx.fit(network, data, optimizer=optax.adam(rate), epochs=1, seed=seed, observers=(watch,))
    assert watch.at is not None
    return watch.at - begun


def resident() -> float:
    """Resident memory of this process in GiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**30


def main() -> None:
    data = fx.data.load("digits").take(256)
    first = seconds_to_first_step(data, 1e-2, 0)
    second = seconds_to_first_step(data, 3e-3, 1)
    print(
        f"first step of a fit {first:.2f} s, of a second one {second:.3f} s: {second / first:.3f}"
    )
    before = resident()
    for width in range(8, 58):
        network = fx.models.mlp(64, 10, width=width, depth=4, key=jax.random.key(0))
        fx.fit(network, data, epochs=1)
    print(f"fifty widths: {before:.2f} GiB before, {resident():.2f} GiB after")


if __name__ == "__main__":
    main()
