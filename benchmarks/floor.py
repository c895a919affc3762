"""The floor of state descent: its floating-point operations over the measured rate of products.

    python benchmarks/floor.py

For residual ReLU networks of two widths, the rate of products `(64, width) x (width, width)` alone,
one after the other, and the rate at which as many steps of `fx.StateDescent` as there are nodes
compute theirs: two for every block that is reached, in every step. Both with the batch divided
among the cores as `fx.fit` divides it. Only products count, so the fraction says what all else
costs.
"""

from __future__ import annotations

import statistics
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from _report import publish, random_problem, seconds

import fathomx as fx
from fathomx.command_line.runtime import prepare
from fathomx.problem.evaluation import Linearization
from fathomx.training.devices import mesh_for

BATCH, PRODUCTS, ROUNDS = 64, 1000, 9
# Depth and width.
CASES = ((128, 128), (32, 512))


@eqx.filter_jit
def products(activity: jax.Array, weight: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, PRODUCTS, lambda _, a: jnp.inner(a, weight), activity)


@eqx.filter_jit
def descent(problem: fx.Problem, solver: fx.StateDescent, state: Any) -> Any:
    return jax.lax.fori_loop(0, solver.steps, lambda _, s: solver.step(problem, s), state)


def row(depth: int, width: int) -> dict[str, Any]:
    network = fx.models.residual_mlp(
        784,
        10,
        width=width,
        depth=depth,
        activation="relu",
        parameterization=fx.MuPC(),
        key=jax.random.key(0),
    )
    solver = fx.StateDescent(optax.sgd(0.1), depth)
    mesh = mesh_for(network, fx.Equilibrium(solver), BATCH)
    given = random_problem(network, BATCH)
    problem = fx.Problem(mesh.whole(network), *mesh.parts((given.input, given.target)))

    @eqx.filter_jit
    def begun(problem: fx.Problem) -> Any:
        start = Linearization(problem, problem.network.zeros(problem.batch))
        return solver.init(problem, start, start.evaluation(problem))

    state = begun(problem)
    activity = mesh.parts(jax.random.normal(jax.random.key(1), (BATCH, width)))
    weight = mesh.whole(jnp.eye(width))
    # In step t the blocks 1 to t before the output are reached; the two ends are no square product.
    blocks = sum(min(step, depth - 2) for step in range(depth))
    once = 2 * BATCH * width**2
    alone, inside = [], []
    for _ in range(ROUNDS + 1):
        alone.append(PRODUCTS * once / seconds(products, activity, weight))
        inside.append(2 * blocks * once / seconds(descent, problem, solver, state))
    fractions = [b / a for a, b in zip(alone[1:], inside[1:], strict=True)]
    return {
        "network": f"{depth} nodes, width {width}",
        "devices": len(mesh.devices),
        "products alone, GFLOP/s": statistics.median(alone[1:]) / 1e9,
        "in state descent, GFLOP/s": statistics.median(inside[1:]) / 1e9,
        "fraction": statistics.median(fractions),
        "quartiles": " .. ".join(f"{q:.2f}" for q in statistics.quantiles(fractions, n=4)[::2]),
    }


if __name__ == "__main__":
    prepare()
    title = "State descent beside products alone (float32, batch 64, as many steps as nodes)"
    publish("floor", title, [row(depth, width) for depth, width in CASES])
