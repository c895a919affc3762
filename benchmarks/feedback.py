"""Time to the first step of a network with a feedback on a stack: flat in depth?

Run with `make bench`. Float32, batch 64, width 64, tanh, Gauss-Newton and state descent; every
depth compiles in a fresh cache, in turns.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from _report import publish

import fathomx as fx

DEPTHS, ROUNDS, WIDTH = (8, 64), 5, 64
SOLVERS: dict[str, fx.Solver] = {
    "Gauss-Newton": fx.GaussNewton(),
    "state descent": fx.StateDescent(optax.sgd(0.1), steps=20),
}


class Block(eqx.Module):
    """`W tanh(z)`."""

    weight: jax.Array

    def __call__(self, z: jax.Array) -> jax.Array:
        return self.weight @ jnp.tanh(z)


def problem(depth: int) -> fx.Problem:
    """Image and label clamped, a stack upwards and one feedback block for each block downwards."""
    up, down = jax.random.normal(jax.random.key(0), (2, depth, WIDTH, WIDTH)) / WIDTH**0.5
    network = fx.Network(
        [
            fx.Root("image", (WIDTH,)),
            fx.Stack("up", Block(up)),
            fx.Node("label", eqx.nn.Linear(WIDTH, 10, key=jax.random.key(1))),
        ],
        feedbacks=[fx.Feedback("down", "up", Block(down), energy=fx.Gaussian(0.5))],
    )
    x = jax.random.normal(jax.random.key(2), (64, WIDTH))
    return fx.Problem(network, {"image": x, "label": jnp.arange(64) % 10})


def first_step(depth: int, solver: fx.Solver) -> float:
    """Seconds of tracing, compiling and running one update."""
    jax.clear_caches()
    posed, rule = problem(depth), fx.Equilibrium(solver)
    optimizer = optax.adam(1e-3)
    state = rule.init_optimizer(optimizer, posed.network)
    begun = time.perf_counter()
    update = eqx.filter_jit(rule.update)
    jax.block_until_ready(update(posed, optimizer, state, jax.random.key(0))[2].energy)
    return time.perf_counter() - begun


def main() -> None:
    """Times all solvers at all depths, in turns, and prints one table."""
    rows: list[dict[str, Any]] = []
    for name, solver in SOLVERS.items():
        first_step(4, solver)
        seconds: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
        for _ in range(ROUNDS):
            for depth in DEPTHS:
                seconds[depth].append(first_step(depth, solver))
        shallow, deep = (seconds[depth] for depth in DEPTHS)
        rows.append(
            {
                "solver": name,
                **{f"first step at {d}, s": statistics.median(seconds[d]) for d in DEPTHS},
                "ratio (median)": statistics.median(
                    b / a for a, b in zip(shallow, deep, strict=True)
                ),
            }
        )
    publish("feedback", "First step with a feedback on a stack of 64 blocks against 8", rows)


if __name__ == "__main__":
    main()
