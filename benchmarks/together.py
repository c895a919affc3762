"""Eight seeds of one network: `fx.fit_together` against `fx.fit` for one after the other.

Run with `python benchmarks/together.py`: float32, batch 64, residual networks of 32 nodes and width
32, random data, one epoch of 100 steps with validation, probe and test as `fit` has them, every
core a device as on the command line. All has been compiled before; forms take turns. Beside the
seconds are those of the processor, all cores taken together, which other work disturbs less.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from _report import publish

import fathomx as fx
from fathomx.command_line.runtime import cores

MEMBERS, DEPTH, WIDTH, EPOCHS = 8, 32, 32, 1
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 11
RULES: dict[str, fx.LearningRule] = {"Gauss-Newton": fx.Equilibrium(), "backprop": fx.Backprop()}


def forms(rule: fx.LearningRule) -> dict[str, Callable[[], Any]]:
    """Ways to train the seeds: one after the other, as `fit` uses devices or on one; together."""
    rng = np.random.default_rng(0)
    parts = [
        fx.data.Part(rng.normal(size=(size, 64)), rng.integers(10, size=size))
        for size in (6_400, 640, 640)
    ]
    data = fx.data.Dataset("random", *parts, classes=10)
    keys = [jax.random.key(seed) for seed in range(MEMBERS)]
    networks = [fx.models.residual_mlp(64, 10, width=WIDTH, depth=DEPTH, key=key) for key in keys]

    def in_turn(mesh: fx.Mesh | None) -> list[fx.FitResult]:
        return [
            fx.fit(network, data, rule, epochs=EPOCHS, seed=seed, observers=(), mesh=mesh)
            for seed, network in enumerate(networks)
        ]

    one = fx.Mesh(devices=jax.devices()[:1])
    return {
        "in turn": lambda: in_turn(None),
        "in turn, one core": lambda: in_turn(one),
        "together": lambda: fx.fit_together(networks, data, rule, epochs=EPOCHS),
    }


def measured(rule: fx.LearningRule) -> dict[str, list[tuple[float, float]]]:
    """Seconds, and those of the processor, of every form in every round but the first."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS + 1):
        for name, form in forms(rule).items():
            begun, used = time.perf_counter(), time.process_time()
            form()
            now = time.perf_counter() - begun, time.process_time() - used
            found.setdefault(name, []).append(now)
    return {name: times[1:] for name, times in found.items()}


def rows(name: str, found: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """Medians, and of the rounds' ratios to what was trained together."""

    def median(form: str, which: int) -> float:
        return statistics.median(times[which] for times in found[form])

    def ratio(form: str, which: int) -> float:
        pairs = zip(found[form], found["together"], strict=True)
        return statistics.median(one[which] / other[which] for one, other in pairs)

    return [
        {
            "rule": name,
            "seeds": form,
            "seconds": median(form, 0),
            "against together": ratio(form, 0),
            "processor seconds": median(form, 1),
            "of those, against together": ratio(form, 1),
        }
        for form in found
    ]


def main() -> None:
    """Measures and publishes."""
    jax.config.update("jax_num_cpu_devices", cores())
    warnings.simplefilter("ignore")
    loads = [os.getloadavg()[0]]
    table = [row for name, rule in RULES.items() for row in rows(name, measured(rule))]
    loads.append(os.getloadavg()[0])
    title = (
        f"{MEMBERS} seeds of {DEPTH} nodes, {ROUNDS} rounds, load of the machine "
        f"{min(loads):.1f} to {max(loads):.1f}"
    )
    publish("together", title, table)


if __name__ == "__main__":
    main()
