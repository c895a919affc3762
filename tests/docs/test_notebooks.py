"""Fathomx in a notebook: progress is seen, cells run twice, and an interrupt leaves all usable."""

from __future__ import annotations

import asyncio

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

BEGINNING = """
import jax
import numpy as np
from rich.console import Console
import fathomx as fx
from fathomx.training import ProgressBar

network = fx.models.mlp(4, 2, width=8, depth=3, key=jax.random.key(0))
x = np.random.default_rng(0).normal(size=(80, 4)).astype("float32")
y = (x[:, 0] > 0).astype(int)
"""
FIT = """
result = fx.fit(network, (x, y), epochs=2, batch_size=16, observers=[ProgressBar(Console())])
print(result.summary["epochs"] if "epochs" in result.summary else len(result.history))
"""
ENDLESS = """
print("running", flush=True)
fx.fit(network, (x, y), epochs=1_000_000, batch_size=16, observers=[ProgressBar(Console())])
"""
AFTER = """
again = fx.fit(network, (x, y), epochs=2, batch_size=16)
print(all(bool(np.array_equal(a, b)) for a, b in zip(
    jax.tree.leaves(fx.weights(again.network)), jax.tree.leaves(fx.weights(result.network)))))
"""


@pytest.fixture(scope="module")
def notebook():
    """A notebook that was run, its third cell interrupted."""
    cells = [nbformat.v4.new_code_cell(s) for s in (BEGINNING, FIT, FIT, ENDLESS, AFTER)]
    written = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(written, timeout=300, kernel_name="python3")

    async def run():
        async with client.async_setup_kernel():
            for number, cell in enumerate(cells):
                task = asyncio.create_task(client.async_execute_cell(cell, number))
                if cell.source == ENDLESS:
                    while len(cell.outputs) < 3:  # It says that it runs, then two epochs.
                        await asyncio.sleep(0.1)
                    await client.km.interrupt_kernel()
                    with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
                        await task
                else:
                    await task

    asyncio.run(run())
    return written


def text(cell) -> str:
    return "\n".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs)


def test_progress_is_seen(notebook):
    shown = text(notebook.cells[1])
    assert "epoch 1/2" in shown and "epoch 2/2" in shown and "validation accuracy" in shown


def test_a_cell_runs_twice_to_the_same_end(notebook):
    first, second = (text(notebook.cells[number]) for number in (1, 2))
    assert first == second and first.strip().endswith("2")


def test_an_interrupt_leaves_a_usable_state(notebook):
    assert "running" in text(notebook.cells[3])
    assert text(notebook.cells[4]).strip() == "True"
