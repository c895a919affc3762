"""Seconds per training step against backprop's, interleaved so that the machine's drift cancels.

Run with `make bench`. Float32, batch 64, residual GELU networks of width 128, Adam.
"""

from __future__ import annotations

import statistics
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
REPEATS = 31
FIRST_STEPS = 3


def training_step(rule: fx.LearningRule, depth: int) -> Callable[[], None]:
    """One step of a fresh network, as a function without arguments."""
    network = fx.models.residual_mlp(
        784, 10, width=128, depth=depth, parameterization=fx.MuPC(), key=jax.random.key(0)
    )
    problem = random_problem(network, 64)
    optimizer = optax.adam(1e-3, eps=1e-12)
    state = optimizer.init(eqx.filter(network, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(network: fx.Network, state: Any) -> Any:
        now = fx.Problem(network, problem.input, problem.target)
        updated, state, report = rule.update(now, optimizer, state, jax.random.key(0))
        return eqx.filter((updated, state, report), eqx.is_array)

    return lambda: jax.block_until_ready(step(network, state))


def main() -> None:
    """Times all rules at all depths and prints one table."""
    _ = jax.block_until_ready(jax.numpy.ones(1) + 1)
    training_step(fx.Backprop(), 4)()
    rows: list[dict[str, Any]] = []
    first: dict[tuple[str, int], list[float]] = {}
    steps: dict[tuple[str, int], Callable[[], None]] = {}
    for _ in range(FIRST_STEPS):
        jax.clear_caches()
        for name, rule in RULES.items():
            for depth in DEPTHS:
                steps[name, depth] = training_step(rule, depth)
                begun = time.perf_counter()
                steps[name, depth]()
                first.setdefault((name, depth), []).append(time.perf_counter() - begun)
    for depth in DEPTHS:
        seconds: dict[str, list[float]] = {name: [] for name in RULES}
        for _ in range(REPEATS):
            for name in RULES:
                begun = time.perf_counter()
                steps[name, depth]()
                seconds[name].append(time.perf_counter() - begun)
        base = seconds["backprop"]
        for name, own in seconds.items():
            own_first = statistics.median(first[name, depth])
            ratios = [a / b for a, b in zip(own, base, strict=True)]
            rows.append(
                {
                    "rule": name,
                    "nodes": depth,
                    "first step, s": own_first,
                    "first step / 8 nodes'": own_first / statistics.median(first[name, 8]),
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
