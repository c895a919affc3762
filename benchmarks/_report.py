"""What the benchmark scripts share: the problem they solve and how they print."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from rich.console import Console
from rich.table import Table

import fathomx as fx
from fathomx.command_line.runtime import cores
from fathomx.training.run_folder import versions

RESULTS = Path(__file__).parent / "results"


def random_problem(network: fx.Network, batch: int, seed: int = 1) -> fx.Problem:
    """A batch of random inputs with one-hot targets: the same for every solver."""
    input = jax.random.normal(jax.random.key(seed), (batch, *network.input_shape), network.dtype)
    labels = jax.numpy.arange(batch) % network.output_shape[0]
    return fx.Problem(network, input=input, target=labels)


def of_type(tree: Any, dtype: Any) -> Any:
    """Its floating-point arrays in another type."""
    return jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, tree)


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """How long a call takes until its arrays are there."""
    begun = time.perf_counter()
    jax.block_until_ready(eqx.filter(function(*arguments), eqx.is_array))
    return time.perf_counter() - begun


def publish(name: str, title: str, rows: list[dict[str, Any]], machine: str | None = None) -> None:
    """Prints a table and writes it to `results/name.json` with machine, versions and date.

    The machine is this one, unless the rows come from measurements of another.
    """
    table = Table(title=title)
    columns = list(rows[0])
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*[_shown(row[column]) for column in columns])
    Console(width=150).print(table)
    RESULTS.mkdir(exist_ok=True)
    record = {
        "title": title,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine or this_machine(),
        "versions": versions(),
        "rows": rows,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def this_machine() -> str:
    """Its processor, device and cores."""
    return f"{platform.machine()}, {jax.devices()[0].device_kind}, {cores()} cores"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
