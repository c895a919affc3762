"""What a card can do, and what Fathomx makes of it.

    FATHOMX_PEERS=here python benchmarks/peers --accelerator
    python benchmarks/accelerator.py                  # or some of: ceilings precision memory rates

The first command times training steps beside FabricPC and plain JAX. The second measures the
ceilings of the card (a matrix product in three precisions, a copy, counting bytes read and
written), what rematerialization and offload save on a transformer, and how far Newton's method
settles a deep network in every precision. Last it puts the first command's rows beside the
ceilings: seconds per epoch, products per second, and their share.

Floating-point operations are those of products and convolutions alone: an update by backprop takes
three forward passes, one by error descent with five steps 12, by Gauss-Newton 7 (counted by
`tests/battery/products.py`), less what the first layer saves.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from _report import RESULTS, publish, random_problem, seconds

import fathomx as fx

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from cases import (
    BACKPROP,
    BFLOAT16,
    BY_NAME,
    ERROR,
    FABRICPC,
    FLOAT32,
    GAUSS_NEWTON,
    TENSORFLOAT32,
    of_float32,
)
from networks import operations

PRECISIONS = (FLOAT32, TENSORFLOAT32, BFLOAT16)
SIDE, ROUNDS, REPEATS = 8192, 7, 10
CONTEXT, WIDE = 256, 512
PASSES = {BACKPROP: 3, GAUSS_NEWTON: 7, ERROR: 12}
EXAMPLES = {"residual-mlp": 60_000, "resnet-18": 45_000, "vgg-10": 45_000}


def median(function: Callable[..., Any], *arguments: Any) -> float:
    """Seconds of a call, after one that compiles."""
    seconds(function, *arguments)
    return statistics.median(seconds(function, *arguments) for _ in range(ROUNDS))


def product_rate(precision: str) -> float:
    """Operations per second of a large product."""
    kind = jnp.bfloat16 if precision == BFLOAT16 else jnp.float32
    left, right = (jax.random.normal(jax.random.key(n), (SIDE, SIDE), kind) for n in range(2))

    @jax.jit
    def products(left: jax.Array, right: jax.Array) -> jax.Array:
        def one(_: Any, left: jax.Array) -> jax.Array:
            return (left @ right) / jnp.asarray(math.sqrt(SIDE), kind)

        return jax.lax.fori_loop(0, REPEATS, one, left)

    with jax.default_matmul_precision(of_float32(precision)):
        return 2 * SIDE**3 * REPEATS / median(products, left, right)


def copy_rate() -> float:
    """Bytes read and written per second."""
    array = jax.random.normal(jax.random.key(0), (2**28,))
    return 2 * array.nbytes / median(jax.jit(lambda array: array + 1), array)


def ceilings() -> list[dict[str, Any]]:
    rows = [
        {"ceiling": f"products, {precision}", "TFLOP/s": product_rate(precision) / 1e12, "TB/s": ""}
        for precision in PRECISIONS
    ]
    return [*rows, {"ceiling": "copy", "TFLOP/s": "", "TB/s": copy_rate() / 1e12}]


def kept() -> Iterator[dict[str, Any]]:
    """Memory and time of an update that keeps all, computes again, and keeps on the host."""
    network = fx.models.transformer(
        65, CONTEXT, width=WIDE, heads=8, depth=12, key=jax.random.key(0)
    )
    tokens = jax.random.randint(jax.random.key(1), (32, CONTEXT + 1), 0, 65)
    optimizer = optax.adam(1e-3)
    forms = {
        "kept": network,
        "computed again": fx.rematerialized(network),
        "on the host": fx.rematerialized(network, inputs="host"),
    }
    for rule_name, rule in (
        ("backprop", fx.Backprop()),
        ("Gauss-Newton", fx.Equilibrium(fx.GaussNewton())),
    ):
        for form, own in forms.items():
            problem = fx.Problem(own, tokens[:, :-1], tokens[:, 1:])
            state = rule.init_optimizer(optimizer, own)

            def step(problem: fx.Problem, state: Any, rule: Any = rule) -> Any:
                return rule.update(problem, optimizer, state, jax.random.key(0))

            row: dict[str, Any] = {"update": rule_name, "results of a block": form}
            try:
                compiled = eqx.filter_jit(step).lower(problem, state).compile()
                found = compiled.compiled.memory_analysis()
                row |= {
                    "temporaries, MiB": found.temp_size_in_bytes / 2**20,
                    "on the host, MiB": found.host_temp_size_in_bytes / 2**20,
                    "seconds": median(compiled, problem, state),
                }
            except jax.errors.JaxRuntimeError as error:
                # Out of memory, say: a row, too.
                row |= {"temporaries, MiB": "", "on the host, MiB": "", "seconds": str(error)[:300]}
            yield row


def settled() -> Iterator[dict[str, Any]]:
    """How far inference gets in every precision."""
    network = fx.models.residual_mlp(
        784, 10, width=128, depth=128, parameterization=fx.MuPC(), key=jax.random.key(0)
    )
    for precision in PRECISIONS:
        own = fx.mixed_precision(network) if precision == BFLOAT16 else network
        problem = random_problem(own, 64)
        for name, solver in (("Gauss-Newton", fx.GaussNewton()), ("Newton", fx.Newton())):
            with jax.default_matmul_precision(of_float32(precision)):
                found = eqx.filter_jit(fx.infer)(problem, solver)
            yield {
                "precision": precision,
                "solver": name,
                "unsettled, median": float(jnp.median(found.unsettled)),
                "unsettled, worst": float(found.unsettled.max()),
            }


def rooflines() -> list[dict[str, Any]]:
    """Seconds per epoch of what was measured beside peers, and operations per second."""
    measured = {row["ceiling"]: row["TFLOP/s"] for row in _read("accelerator-ceilings")["rows"]}
    rows = []
    for row in _read("accelerator")["rows"]:
        if "turns, ms" not in row:
            continue
        task = BY_NAME[row["case"]].task
        step = row["step, ms"] / 1000
        algorithm = row["algorithm"].partition(",")[0]
        counted = row["library"] != FABRICPC or algorithm == BACKPROP
        passes = PASSES.get(algorithm) if counted else None
        rate = passes and passes * operations(task) / step / 1e12
        ceiling = measured[f"products, {task.precision}"]
        rows.append(
            {
                "network": row["case"].removeprefix("card-").removesuffix(f"-{task.precision}"),
                "precision": task.precision,
                "library": row["library"],
                "method": row["method"],
                "step, ms": row["step, ms"],
                "epoch, s": step * (EXAMPLES[task.model] // task.batch),
                "TFLOP/s": rate or "",
                "of the ceiling": rate / ceiling if rate else "",
                "device, MiB": row["device, MiB"] or "",
            }
        )
    return rows


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


PARTS = {
    "ceilings": ("the ceilings of the card", ceilings),
    "precision": ("how far inference settles", lambda: list(settled())),
    "memory": ("an update of a transformer", lambda: list(kept())),
}

RATES = "rates"


def main() -> None:
    parser = argparse.ArgumentParser(prog="accelerator.py", description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join((*PARTS, RATES)))
    parts = parser.parse_args().parts or [*PARTS, RATES]
    for part in parts:
        if part not in (*PARTS, RATES):
            parser.error(f"there is no part {part!r}; choose from {', '.join((*PARTS, RATES))}.")
    if RATES in parts and not (RESULTS / "accelerator.json").exists():
        parser.error(f"{RATES} needs what `benchmarks/peers --accelerator` measures; run it first.")
    for part in parts:
        if part == RATES:
            machine = _read("accelerator")["rows"][0]["machine"]
            publish(
                f"accelerator-{part}", "training steps beside the ceilings", rooflines(), machine
            )
        else:
            title, measure = PARTS[part]
            publish(f"accelerator-{part}", title, measure())


if __name__ == "__main__":
    main()
