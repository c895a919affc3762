"""Gradient evaluations to the same certificate, on networks that generate: float64, batch 16.

Run with `python benchmarks/generative.py [CASE ...]` with cases `decoder`, `bidirectional`,
`memory` (all, unless given). Every network is trained for some updates first, on MNIST (the memory
on 64 images of CIFAR-10). Counted is how many gradients and Hessian-vector products each solver
needs until the gradient of the median example is a thousandth of that at the start. State descent
has the largest rate of 2^-n that stays stable.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _report import publish

import fathomx as fx
from fathomx.experiments.imaging import order, pixels, trained
from fathomx.experiments.memory import memory
from fathomx.learning.learner import cosine_adam
from fathomx.models import with_precisions

jax.config.update("jax_enable_x64", True)

TOLERANCE = 1e-3
BATCH, MOST = 16, 100_000
# Steps between looks at the certificate, at first and later.
_FEW, _MANY, _LATER = 20, 500, 2000

Poses = Callable[[fx.Network, Any], fx.Problem]


def decoder() -> dict[str, fx.Problem]:
    """A decoder of MNIST whose latents are inferred, from whole images and from halves."""
    network = fx.models.decoder(
        32, 784, precision=1000.0, output=fx.Gaussian(10.0), key=jax.random.key(0)
    )
    images = pixels("mnist")["train"].images
    network = _trained(network, images, 400, lambda n, x: fx.Problem(n, {"output": x}))
    x, seen = _first("mnist"), jnp.arange(784) < 392
    return {
        "decoder, images": fx.Problem(network, {"output": x}),
        "decoder, upper halves": fx.Problem(network, {"output": fx.Clamp(x, seen)}),
    }


def bidirectional() -> dict[str, fx.Problem]:
    """A bidirectional network that classifies and imagines."""
    network = fx.models.bidirectional(
        784, 10, width=256, precisions=(1.0, 1e-2), key=jax.random.key(0)
    )
    train = pixels("mnist")["train"]
    labels = np.eye(10, dtype=np.float32)[train.labels]

    def pose(network: fx.Network, batch: Any) -> fx.Problem:
        return fx.Problem(network, {"input": batch[:, :784], "output": batch[:, 784:]})

    both = np.concatenate([train.images, labels], axis=1)
    network = _trained(network, both, 400, pose)
    return {
        "bidirectional, classifying": fx.Problem(network, {"input": _first("mnist")}),
        "bidirectional, imagining": fx.Problem(
            with_precisions(network, (1e-2, 1.0)), {"output": jnp.eye(10)}
        ),
    }


def remembering() -> dict[str, fx.Problem]:
    """A memory that completes images."""
    stored = pixels("cifar10")["train"].first(64)
    network = memory(stored, 64, 1e4, 0)
    network = _trained(
        network, stored.images, 300, lambda n, x: fx.Problem(n, {"output": x}), 1e-2, 15
    )
    seen = jnp.arange(3072) < 1536
    clamp = fx.Clamp(jnp.asarray(stored.images[:BATCH], jnp.float64), seen)
    return {"memory, upper halves": fx.Problem(network, {"output": clamp})}


CASES = {"decoder": decoder, "bidirectional": bidirectional, "memory": remembering}


def _first(name: str) -> jax.Array:
    return jnp.asarray(pixels(name)["validation"].images[:BATCH], jnp.float64)


def _trained(
    network: fx.Network, data: np.ndarray, updates: int, pose: Poses, rate: float = 3e-3,
    cg_iterations: int = 8,
) -> fx.Network:  # fmt: skip
    """The network after some updates."""
    rule = fx.Equilibrium(fx.GaussNewton(2, cg_iterations), output_precision=1.0)
    chosen = order(len(data), 64, -(-updates * 64 // len(data)), 0, updates)
    learner = fx.Learner(rule, cosine_adam(rate, updates), pose=pose)
    network, _ = trained(
        learner, network, lambda rows: jnp.asarray(data[rows], network.dtype), chosen, 0
    )
    return network


def second_order(problem: fx.Problem) -> tuple[str, int]:
    """The fewest evaluations of Gauss-Newton, or of Newton where it does not get there."""
    found = []
    for cg_iterations in (3, 5, 10, 20):
        for iterations in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20):
            relaxed = fx.infer(problem, fx.GaussNewton(iterations, cg_iterations))
            if float(jnp.median(relaxed.unsettled)) <= TOLERANCE:
                name = f"Gauss-Newton {iterations} x {cg_iterations}"
                found.append((int(jnp.median(relaxed.evaluations)), name))
                break
    if found:
        evaluations, name = min(found)
        return name, evaluations
    relaxed = fx.infer(problem, fx.Newton(tolerance=TOLERANCE))
    return "Newton", int(jnp.median(relaxed.evaluations))


def descent(problem: fx.Problem) -> tuple[float, int | None]:
    """The rate of state descent, and its steps until there; `None` if they do not suffice."""

    @eqx.filter_jit
    def more(rate: jax.Array, at: Any, count: int) -> tuple[Any, jax.Array]:
        def step(now: Any, _: None) -> tuple[Any, None]:
            slope = jax.grad(lambda z: fx.energy(problem, z).sum() * problem.batch)(now)
            return jax.tree.map(lambda z, g: z - rate * g, now, slope), None

        now = jax.lax.scan(step, at, None, length=count)[0]
        relaxed = fx.infer(problem, fx.GaussNewton(0), at=now)
        return now, jnp.median(relaxed.unsettled)

    start = problem.select(fx.infer(problem, fx.GaussNewton(0)).activities)
    rate = 1.0
    # Diverges within a chunk if it is not stable.
    while not float(more(jnp.asarray(rate), start, _MANY)[1]) < 1.5:
        rate /= 2
    now, steps = start, 0
    while steps < MOST:
        count = _FEW if steps < _LATER else _MANY
        now, left = more(jnp.asarray(rate), now, count)
        steps += count
        if float(left) <= TOLERANCE:
            return rate, steps
    return rate, None


def main() -> None:
    """Measures the cases and prints a table."""
    for case in [name for name in sys.argv[1:] if name in CASES] or list(CASES):
        rows = []
        for name, problem in CASES[case]().items():
            solver, evaluations = second_order(problem)
            rate, steps = descent(problem)
            rows.append(
                {
                    "problem": name,
                    "solver": solver,
                    "evaluations": evaluations,
                    "state descent, rate": rate,
                    "steps": MOST if steps is None else steps,
                    "at least": steps is None,
                    "ratio": (steps or MOST) / evaluations,
                }
            )
            print(rows[-1], flush=True)
        title = f"Evaluations to a thousandth of the gradient: {case} (float64, batch 16)"
        publish(f"generative-{case}", title, rows)


if __name__ == "__main__":
    main()
