"""What relaxing a nonlinear network does to its weight gradient."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from fathomx.diagnostics.alignment import compare_to_backprop
from fathomx.experiments.limits.nonlinear import Nonlinear, expected, posed
from fathomx.experiments.limits.scales import Scale
from fathomx.graph.vector_space import Entries
from fathomx.inference import Newton, Solver, StateDescent, infer
from fathomx.problem.energies import weight_gradient
from fathomx.problem.problem import Problem
from fathomx.problem.strength import strength

SETTLED, UNSETTLED = "equilibrium", "100 steps of state descent"
TOLERANCE, STEPS, RATE = 5e-4, 100, 0.3
SOLVERS: dict[str, Solver] = {
    SETTLED: Newton(tolerance=TOLERANCE),
    UNSETTLED: StateDescent(optax.sgd(RATE), steps=STEPS),
}


def relax(network: Nonlinear, method: str, seed: int, scale: Scale) -> dict[str, Any]:
    """What `measure` finds, what is expected, and how long it took.

    Little is found where inference diverged.
    """
    problem = posed(network, seed, scale)
    # Seeds share their shapes, and so what is compiled; the time is that of running alone.
    program = _compiled(network, method, scale)
    begun = time.perf_counter()
    found = jax.block_until_ready(program(problem))
    seconds = time.perf_counter() - begun
    if not found["ratio"] <= 1 + TOLERANCE:
        # Inference begins at the loss: above it, it has diverged, and the rest says nothing.
        found = {key: found[key] for key in ("strength", "evaluations")}
    return {**found, **expected(network, seed, scale), "seconds": seconds}


@functools.cache
def _compiled(
    network: Nonlinear, method: str, scale: Scale
) -> Callable[[Problem], dict[str, Array]]:
    solver = SOLVERS[method]
    jitted: Any = eqx.filter_jit(functools.partial(measure, solver=solver))
    program: Callable[[Problem], dict[str, Array]]
    program = jitted.lower(posed(network, 0, scale)).compile()
    return program


def measure(problem: Problem, solver: Solver) -> dict[str, Array]:
    """Relaxes a problem and compares the weight gradient there with backprop's.

    `ratio`: energy over loss; `cosine`, `lowest_cosine`, `hidden_cosine`, `output_cosine`: of all
    weights, of the node where it is lowest, of the hidden node where it is lowest (those after the
    first and before the readout), of the readout; `cosines` and `lengths` `(nodes,)`, of every
    node, the latter relative to backprop's; `moved` `(nodes - 1,)`, how far the activities of every
    node before the output are from the feedforward pass, relative to their size there, and
    `last_moved`, those that the readout reads; `unsettled`, `evaluations`: largest of the batch;
    `strength`.
    """
    relaxed = infer(problem, solver)
    gradient = weight_gradient(problem, relaxed.activities, relaxed.errors)
    key = jax.random.key(0)
    found = compare_to_backprop(problem, gradient, key)
    explained, feedforward = problem.explain({})
    loss = problem.loss(explained).mean()
    moved = _moved(problem, feedforward, relaxed.activities)
    return {
        "ratio": relaxed.energy.sum() / loss,
        "cosine": found.overall,
        "lowest_cosine": jnp.nanmin(found.cosine),
        "hidden_cosine": jnp.nanmin(found.cosine[1:-1], initial=jnp.inf),
        "output_cosine": found.cosine[-1],
        "cosines": found.cosine,
        "lengths": found.ratio,
        "moved": moved,
        "last_moved": moved[-1],
        "unsettled": relaxed.unsettled.max(),
        "strength": strength(problem, key),
        "evaluations": relaxed.evaluations.max(),
    }


def _moved(problem: Problem, before: Entries, after: Entries) -> Array:
    """Of every node before the output: `||z - z_before|| / ||z_before||`, over batch and units."""
    network = problem.network

    def sizes(name: str, activities: Array) -> Array:
        rows = network.entry(name).rows(activities)
        return jnp.sqrt(jnp.sum(rows**2, axis=tuple(range(1, rows.ndim))))

    return jnp.concatenate(
        [sizes(n, after[n] - before[n]) / sizes(n, before[n]) for n in network.hidden]
    )
