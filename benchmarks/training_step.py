"""Seconds per training step against backprop's, interleaved so that the machine's drift cancels.

Run with `make bench`. Float32, batch 64, residual GELU networks of width 128, Adam. Every step is a
call of its own on one device. A turn is as many steps as `fx.fit` takes from one certificate, and
from one measurement of the strength, to the next.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import optax
from _report import publish, random_problem

import fathomx as fx

RULES: dict[str, fx.LearningRule] = {
    "backprop": fx.Backprop(),
    "Gauss-Newton 1 x 2 (default)": fx.Equilibrium(fx.GaussNewton(1, 2)),
    "Gauss-Newton 1 x 3": fx.Equilibrium(fx.GaussNewton(1, 3)),
    "error descent, 5 steps": fx.Equilibrium(fx.ErrorDescent()),
}
DEPTHS = (8, 32, 128)
REPEATS = 11
TURN = 16
FIRST_STEPS = 3


def training_step(rule: fx.LearningRule, depth: int) -> Callable[[], None]:
    """The next step of a fresh network, as a function without arguments."""
    network = fx.models.residual_mlp(
        784, 10, width=128, depth=depth, parameterization=fx.MuPC(), key=jax.random.key(0)
    )
    problem = random_problem(network, 64)
    optimizer = optax.adam(1e-3, eps=1e-12)
    arrays, rest = eqx.partition(
        (network, rule.init_optimizer(optimizer, network), jax.numpy.asarray(0)), eqx.is_array
    )

    @jax.jit
    def step(arrays: Any) -> Any:
        network, state, number = eqx.combine(arrays, rest)
        now = fx.Problem(network, problem.input, problem.target)
        certified = rule.certifying(number % TURN == 0)
        updated, state, report = certified.update(now, optimizer, state, jax.random.key(0))
        return eqx.filter((updated, state, number + 1), eqx.is_array), report

    def following() -> None:
        nonlocal arrays
        arrays, _ = jax.block_until_ready(step(arrays))

    return following


def main() -> None:
    """Times all rules at all depths and prints one table."""
    depths = [int(depth) for depth in sys.argv[1:]] or list(DEPTHS)
    _ = jax.block_until_ready(jax.numpy.ones(1) + 1)
    training_step(fx.Backprop(), 4)()
    rows: list[dict[str, Any]] = []
    first: dict[tuple[str, int], list[float]] = {}
    steps: dict[tuple[str, int], Callable[[], None]] = {}
    for _ in range(FIRST_STEPS):
        jax.clear_caches()
        for name, rule in RULES.items():
            for depth in depths:
                steps[name, depth] = training_step(rule, depth)
                begun = time.perf_counter()
                steps[name, depth]()
                first.setdefault((name, depth), []).append(time.perf_counter() - begun)
    for depth in depths:
        seconds: dict[str, list[float]] = {name: [] for name in RULES}
        for _ in range(REPEATS):
            for name in RULES:
                begun = time.perf_counter()
                for _ in range(TURN):
                    steps[name, depth]()
                seconds[name].append((time.perf_counter() - begun) / TURN)
        base = seconds["backprop"]
        for name, own in seconds.items():
            own_first = statistics.median(first[name, depth])
            base_first = statistics.median(first[name, depths[0]])
            ratios = [a / b for a, b in zip(own, base, strict=True)]
            rows.append(
                {
                    "rule": name,
                    "nodes": depth,
                    "first step, s": own_first,
                    f"first step / {depths[0]} nodes'": own_first / base_first,
                    "step, ms (median)": 1000 * statistics.median(own),
                    "ratio to backprop (median)": statistics.median(ratios),
                    "ratio, quartiles": " .. ".join(
                        f"{q:.2f}" for q in statistics.quantiles(ratios, n=4)[::2]
                    ),
                }
            )
    publish("training_step", "Training step (float32, batch 64, width 128, Adam)", rows)


if __name__ == "__main__":
    main()
