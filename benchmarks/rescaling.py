"""The rescaling matrix of a linear residual convolutional network, and the energy's gradient.

    python benchmarks/rescaling.py

32x32 images of 3 channels, a stem of 32 channels, 9 residual blocks of one 3x3 convolution, and a
linear readout of the channels' means into 10 outputs, float64. Seconds include compilation; memory
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
from fathomx.layers import Convolution, Linear
from fathomx.parameterization import Role

WIDTH, BLOCKS, OUTPUTS, BATCH = 32, 9, 10, 16


class Block(eqx.Module):
    convolution: Convolution

    def __call__(self, image: jax.Array) -> jax.Array:
        return image + self.convolution(image)


class Readout(eqx.Module):
    linear: Linear

    def __call__(self, image: jax.Array) -> jax.Array:
        return self.linear(image.mean(axis=(0, 1)))


def network() -> fx.Network:
    stem, hidden, last = jax.random.split(jax.random.key(0), 3)
    scaled, depth = fx.MuPC(), BLOCKS + 2

    @eqx.filter_vmap
    def block(key: jax.Array) -> Block:
        return Block(scaled.convolution(Role.RESIDUAL, (WIDTH, WIDTH), 3, WIDTH, depth, key))

    return fx.Network(
        [
            fx.Node("stem", scaled.convolution(Role.INPUT, (3, WIDTH), 3, WIDTH, depth, stem)),
            fx.Stack("hidden", block(jax.random.split(hidden, BLOCKS))),
            fx.Node(
                "output",
                Readout(scaled.linear(Role.OUTPUT, (WIDTH, OUTPUTS), WIDTH, depth, last)),
            ),
        ],
        (32, 32, 3),
    )


def mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    drawn = network()
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
