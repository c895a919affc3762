"""The rescaling matrix of a linear residual convolutional network, and the energy's gradient.

    python benchmarks/rescaling.py

`fx.models.residual_cnn` with 9 blocks of 32 channels on 32x32 images of 3 channels, 10 outputs,
float64. Seconds include compilation; memory
is the largest resident size of the process.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from _report import publish

import fathomx as fx

WIDTH, BLOCKS, OUTPUTS, BATCH = 32, 9, 10, 16


def mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    drawn = fx.models.residual_cnn(
        BLOCKS // 3,
        width=WIDTH,
        classes=OUTPUTS,
        activation="linear",
        parameterization=fx.MuPC(),
        key=jax.random.key(0),
    )
    x = jax.random.normal(jax.random.key(1), (BATCH, 32, 32, 3))
    y = jax.nn.one_hot(jnp.arange(BATCH) % OUTPUTS, OUTPUTS)
    learned, rest = fx.split(drawn)

    @jax.jit
    def slope(weights: Any) -> Any:
        def energy(weights: Any) -> jax.Array:
            return fx.theory.equilibrated_energy(eqx.combine(weights, rest), x, y).energy

        return jax.grad(energy)(weights)

    rows = []
    for name, compute in (
        ("rescaling matrix", lambda: fx.theory.rescaling(drawn)),
        ("weight gradient of the energy, 16 images", lambda: slope(learned)),
    ):
        begun = time.perf_counter()
        jax.block_until_ready(compute())
        rows.append(
            {
                "what": name,
                "seconds": time.perf_counter() - begun,
                "largest resident size, MiB": mebibytes(),
            }
        )
    publish("rescaling", "linear residual CNN, 32x32, width 32, 9 blocks, float64", rows)


if __name__ == "__main__":
    main()
