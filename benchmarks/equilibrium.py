"""How far each solver gets, and at what price: float64, batch 32, width 128.

Run with `make bench`, or `python benchmarks/equilibrium.py [--long] [CASE ...]` with cases
`residual-32`, `residual-128`, `plain-20` (all, unless given); `--long` adds the 10,000 steps of
state descent that Newton is measured against (about ten minutes on two cores).
"""

from __future__ import annotations

import sys
import time
from typing import Any

import equinox as eqx
import jax
import optax
from _report import publish, random_problem

import fathomx as fx

jax.config.update("jax_enable_x64", True)

CASES = {
    "residual-32": ("residual, muPC, 32 nodes", fx.models.residual_mlp, 32, fx.MuPC()),
    "residual-128": ("residual, muPC, 128 nodes", fx.models.residual_mlp, 128, fx.MuPC()),
    "plain-20": ("plain, standard, 20 nodes", fx.models.mlp, 20, fx.Standard()),
}


def solvers(plain: bool, long: bool) -> dict[str, fx.Solver]:
    """The solvers compared, by the name in the table."""
    rate = 0.1 if plain else 0.4  # state descent at 0.4 diverges on the plain networks
    compared: dict[str, fx.Solver] = {
        "feedforward": fx.GaussNewton(iterations=0),
        "Gauss-Newton 1 x 2": fx.GaussNewton(1, 2),
        "Gauss-Newton 1 x 3": fx.GaussNewton(1, 3),
        "Gauss-Newton 12 x 3": fx.GaussNewton(12, 3),
        "Newton 1e-6": fx.Newton(tolerance=1e-6),
        "error descent, 5 steps": fx.ErrorDescent(),
        "error descent, Adam, 2,000 steps": fx.ErrorDescent(
            optax.adam(optax.cosine_decay_schedule(1e-2, 2000)), 2000
        ),
        "state descent, 1,000 steps": fx.StateDescent(optax.sgd(rate), 1000),
    }
    if long:
        compared["state descent, 10,000 steps"] = fx.StateDescent(optax.sgd(rate), 10_000)
    return compared


def main() -> None:
    """Measures the cases and prints a table of each."""
    long = "--long" in sys.argv
    infer = eqx.filter_jit(fx.infer)
    chosen = [name for name in sys.argv[1:] if name in CASES] or list(CASES)
    for case in chosen:
        label, make, depth, parameterization = CASES[case]
        rows: list[dict[str, Any]] = []
        for activation in ("tanh", "gelu", "relu"):
            network = make(
                784,
                10,
                width=128,
                depth=depth,
                activation=activation,
                parameterization=parameterization,
                key=jax.random.key(0),
            )
            problem = random_problem(network, 32)
            energies: dict[str, float] = {}
            for name, solver in solvers(make is fx.models.mlp, long).items():
                compiled = infer.lower(problem, solver).compile()
                begun = time.perf_counter()
                relaxed = jax.block_until_ready(compiled(problem, solver))
                seconds = time.perf_counter() - begun
                energies[name] = float(relaxed.energy.sum())
                rows.append(
                    {
                        "network": f"{label}, {activation}",
                        "solver": name,
                        "energy": energies[name],
                        "unsettled, worst": float(relaxed.unsettled.max()),
                        "evaluations, worst": int(relaxed.evaluations.max()),
                        "seconds": seconds,
                    }
                )
                print(f"{label}, {activation}: {name}: {relaxed.describe()}", flush=True)
            lowest = min(energies.values())
            for row in rows[-len(energies) :]:
                row["energy above lowest"] = row["energy"] / lowest - 1
                gap = energies["feedforward"] - lowest
                row["gap closed"] = (energies["feedforward"] - row["energy"]) / gap
        publish(f"equilibrium-{case}", f"Inference: {label} (float64, batch 32, width 128)", rows)


if __name__ == "__main__":
    main()
