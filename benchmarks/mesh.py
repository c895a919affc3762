"""Meshes of eight logical devices beside one device: do they compute the same numbers?

    python benchmarks/mesh.py

A residual network of 18 nodes and width 8 is trained for 20 updates by every rule, on each mesh,
and with weights divided among four groups of one and of two devices.
Told are the largest differences of activities after inference, weight gradients and trained
weights from those of one device, in float64 and in float32. Counts, not seconds: other work on the
machine does not matter.
"""

from __future__ import annotations

from typing import Any

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_x64", True)

import equinox as eqx  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from _report import of_type, publish  # noqa: E402

import fathomx as fx  # noqa: E402

SHAPES = (
    (2, 1, "whole"),
    (1, 2, "whole"),
    (2, 4, "whole"),
    (1, 8, "whole"),
    (4, 1, "divided"),
    (4, 2, "divided"),
)
UPDATES, BATCH, RATE = 20, 32, 0.1
RULES: dict[str, fx.LearningRule] = {
    "state descent": fx.Equilibrium(fx.StateDescent(0.1, 20), output_precision=1.0),
    "error descent": fx.Equilibrium(fx.ErrorDescent(), output_precision=1.0),
    "Gauss-Newton": fx.Equilibrium(),
    "Newton": fx.Equilibrium(fx.Newton(), output_precision=1.0),
    "Langevin": fx.Equilibrium(fx.Langevin(0.05, 20, burn_in=5), output_precision=1.0),
    "augmented Lagrangian": fx.Equilibrium(
        fx.AugmentedLagrangian(0.1, budget=20), output_precision=1.0
    ),
    "incremental": fx.Incremental(fx.StateDescent(steps=3), output_precision=1.0),
    "equilibrium propagation": fx.EquilibriumPropagation(),
    "backprop": fx.Backprop(),
}


def trained(rule: fx.LearningRule, mesh: fx.Mesh, dtype: Any) -> list[list[np.ndarray]]:
    """Activities and gradients at the first update, and weights after the last."""
    network = fx.models.residual_mlp(
        6, 4, width=8, depth=18, parameterization=fx.MuPC(), key=jax.random.key(0)
    )
    network = of_type(network, dtype)
    x = jax.random.normal(jax.random.key(1), (BATCH, 6), dtype)
    y = jax.nn.one_hot(jnp.arange(BATCH) % 4, 4, dtype=dtype)
    optimizer = optax.sgd(RATE)
    held = mesh.whole((network, rule.init_optimizer(optimizer, network)))
    batch = mesh.parts((x, y))

    @eqx.filter_jit
    def first(held: Any, batch: Any, key: Any) -> Any:
        problem = fx.Problem(mesh.divided(held[0]), *batch)
        gradient = fx.weights(rule.gradient(problem, key)[0])
        if not isinstance(rule, fx.Equilibrium):
            return {}, gradient
        relaxed = fx.infer(problem, rule.solver, key=key)
        return relaxed.activities, gradient

    @eqx.filter_jit
    def step(held: Any, batch: Any, key: Any) -> Any:
        network, state = mesh.divided(held)
        *updated, _ = rule.update(fx.Problem(network, *batch), optimizer, state, key)
        return mesh.whole(mesh.joined(tuple(updated)))

    found = [] if isinstance(rule, fx.Incremental) else list(first(held, batch, jax.random.key(9)))
    for number in range(UPDATES):
        held = step(held, batch, jax.random.key(number))
    return [
        [np.asarray(a) for a in jax.tree.leaves(part)] for part in (*found, fx.weights(held[0]))
    ]


def largest(ours: list[np.ndarray], one: list[np.ndarray]) -> float:
    return max((float(np.abs(a - b).max()) for a, b in zip(ours, one, strict=True)), default=0.0)


def main() -> None:
    rows = []
    for name, rule in RULES.items():
        for dtype in (jnp.float64, jnp.float32):
            one = trained(rule, fx.Mesh(devices=jax.devices()[:1]), dtype)
            for data, depth, weights in SHAPES:
                mesh = fx.Mesh(data, depth, jax.devices()[: data * depth], weights)
                parts = trained(rule, mesh, dtype)
                told = [largest(a, b) for a, b in zip(parts, one, strict=True)]
                rows.append(
                    {
                        "rule": name,
                        "numbers": np.dtype(dtype).name,
                        "data x depth": f"{data}x{depth}",
                        "weights": weights,
                        "activities and gradient": max(told[:-1], default=0.0),
                        "weights after 20 updates": told[-1],
                    }
                )
                print(*rows[-1].values(), flush=True)
    publish("mesh", "Largest difference from one device", rows)


if __name__ == "__main__":
    main()
