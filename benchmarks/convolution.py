"""Convolutions inside loops, ResNet-18 at full width, state descent from the reached nodes.

    python benchmarks/convolution.py

The first table compares the derivatives of `fathomx.layers.convolve.convolve` with those of
`jax.lax.conv_general_dilated`, inside a `fori_loop` of five. The second builds ResNet-18 with 64
channels at the stem and takes one training step by every method of `fathomx reproduce
deeper-pcns`. The third compares `fx.StateDescent` with descent that computes every node in every
step.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from _report import publish, random_problem, seconds

import fathomx as fx
from fathomx.experiments.deeper_pcns.methods import METHODS
from fathomx.experiments.deeper_pcns.networks import NETWORKS
from fathomx.experiments.deeper_pcns.scales import SCALES
from fathomx.layers.convolve import convolve, convolve_transposed

ROUNDS = 7


def interleaved(ours: Any, theirs: Any, *arguments: Any) -> tuple[float, float, float]:
    """Median seconds of both, and the median of their ratios in the same round."""
    pairs = []
    for _ in range(ROUNDS + 1):
        pairs.append((seconds(ours, *arguments), seconds(theirs, *arguments)))
    pairs = pairs[1:]
    one, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return one, other, statistics.median(b / a for a, b in pairs)


def convolutions() -> list[dict[str, Any]]:
    def plain(images: jax.Array, kernels: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            images, kernels, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def repeated(gradient: Any) -> Any:
        def body(_: Any, carry: Any) -> Any:
            return jax.tree.map(lambda a, g: a - 1e-6 * g, carry, gradient(*carry))

        return jax.jit(lambda *given: jax.lax.fori_loop(0, 5, body, given))

    def doubled(images: jax.Array, kernels: jax.Array) -> jax.Array:
        return convolve_transposed(images, kernels, 2)

    def plainly_doubled(images: jax.Array, kernels: jax.Array) -> jax.Array:
        return jax.lax.conv_transpose(
            images, kernels, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    rows = []
    for what, ours, theirs, kernel, (channels, size) in (
        ("3x3", convolve, plain, 3, (16, 32)),
        ("3x3", convolve, plain, 3, (64, 8)),
        ("4x4, transposed, stride 2", doubled, plainly_doubled, 4, (16, 16)),
        ("4x4, transposed, stride 2", doubled, plainly_doubled, 4, (64, 7)),
    ):
        images = jax.random.normal(jax.random.key(0), (64, size, size, channels))
        kernels = jax.random.normal(jax.random.key(1), (kernel, kernel, channels, channels)) / 10

        def gradient(convolution: Any) -> Any:
            return jax.grad(lambda i, k: jnp.sum(convolution(i, k) ** 2), (0, 1))

        one, other, ratio = interleaved(
            repeated(gradient(ours)), repeated(gradient(theirs)), images, kernels
        )
        rows.append(
            {
                "batch 64": f"{what}, {channels} channels, {size}x{size}",
                "ours, ms": 1000 * one / 5,
                "lax, ms": 1000 * other / 5,
                "lax / ours": ratio,
            }
        )
    return rows


def resnet_18() -> list[dict[str, Any]]:
    architecture, scale = NETWORKS["ResNet-18"], SCALES["paper"]
    optimizer = optax.adamw(1e-3)
    rows = []
    for name, method in METHODS.items():
        begun = time.perf_counter()
        network = architecture.network(scale, method, seed=0)
        built = time.perf_counter() - begun
        rule = method.rule(architecture.steps)
        problem = random_problem(network, batch=4)
        state = rule.init_optimizer(optimizer, network)

        def step(problem: fx.Problem, state: Any, rule: Any = rule) -> Any:
            return rule.update(problem, optimizer, state, jax.random.key(0))

        begun = time.perf_counter()
        compiled = eqx.filter_jit(step).lower(problem, state).compile()
        compilation = time.perf_counter() - begun
        taken = seconds(compiled, problem, state)
        rows.append(
            {
                "method": name,
                "nodes": network.depth,
                "build, s": built,
                "compile, s": compilation,
                "step at batch 4, s": taken,
            }
        )
    return rows


def state_descent() -> list[dict[str, Any]]:
    rows = []
    for depth in (8, 32, 128):
        network = fx.models.residual_mlp(
            784, 10, width=128, depth=depth, parameterization=fx.MuPC(), key=jax.random.key(0)
        )
        problem = random_problem(network, batch=64)

        @eqx.filter_jit
        def reached(problem: fx.Problem, depth: int = depth) -> Any:
            return fx.infer(problem, fx.StateDescent(optax.sgd(0.4), steps=depth)).activities

        @eqx.filter_jit
        def everywhere(problem: fx.Problem, depth: int = depth) -> Any:
            def energy(activities: Any) -> Any:
                return problem.batch * fx.energy(problem, activities).sum()

            def descend(_: Any, activities: Any) -> Any:
                gradient = jax.grad(energy)(activities)
                return jax.tree.map(lambda z, g: z - 0.4 * g, activities, gradient)

            activities = problem.network.unroll(None, problem.input)
            hidden = {name: activities[name] for name in problem.network.hidden}
            return jax.lax.fori_loop(0, depth, descend, hidden)

        ours, theirs, ratio = interleaved(reached, everywhere, problem)
        rows.append(
            {
                "nodes = steps": depth,
                "ours, ms": 1000 * ours,
                "every node, ms": 1000 * theirs,
                "every node / ours": ratio,
            }
        )
    return rows


if __name__ == "__main__":
    publish("convolution", "gradients of a convolution inside a loop", convolutions())
    publish("state_descent", "state descent: reached nodes only", state_descent())
    publish("resnet_18", "ResNet-18 at full width: one training step", resnet_18())
