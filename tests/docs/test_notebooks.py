"""Fathomx in a notebook: progress is seen, cells run twice, and an interrupt leaves all usable."""

from __future__ import annotations

import asyncio
import re

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
fx.fit(network, (x, y), epochs=1_000_000, batch_size=16)
"""
BY_DEFAULT = """
result = fx.fit(network, (x, y), epochs=2, batch_size=16)
"""
SILENT = """
fx.fit(network, (x, y), epochs=2, batch_size=16, observers=())
"""
DIVERGED = """
try:
    fx.fit(network, (x, y), optimizer=1e30, epochs=2, batch_size=16)
except fx.DivergenceError:
    pass
"""
AFTER = """
again = fx.fit(network, (x, y), epochs=2, batch_size=16, observers=())
print(all(bool(np.array_equal(a, b)) for a, b in zip(
    jax.tree.leaves(fx.weights(again.network)), jax.tree.leaves(fx.weights(result.network)))))
"""
CELLS = (BEGINNING, FIT, FIT, BY_DEFAULT, SILENT, DIVERGED, ENDLESS, AFTER)


@pytest.fixture(scope="module")
def notebook():
    """A notebook that was run, its endless cell interrupted."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    written = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(written, timeout=300, kernel_name="python3")

    seen = []

    async def run():
        async with client.async_setup_kernel():
            for number, cell in enumerate(cells):
                task = asyncio.create_task(client.async_execute_cell(cell, number))
                if cell.source == ENDLESS:
                    while not re.search(r"epoch \d{2,}/1000000", text(cell)):
                        await asyncio.sleep(0.1)
                    seen.append(cell.outputs[-1]["data"]["text/html"])
                    await client.km.interrupt_kernel()
                    with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
                        await task
                else:
                    await task

    asyncio.run(run())
    written.metadata["seen"] = seen
    return written


def outputs(notebook, source):
    """The outputs of the last cell with this source."""
    return next(cell for cell in reversed(notebook.cells) if cell.source == source)


def text(cell) -> str:
    return "\n".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs)


def test_progress_is_seen(notebook):
    shown = text(notebook.cells[1])
    assert "epoch 1/2" in shown and "epoch 2/2" in shown and "validation accuracy" in shown


def test_a_cell_runs_twice_to_the_same_end(notebook):
    first, second = (text(notebook.cells[number]) for number in (1, 2))
    assert first == second and first.strip().endswith("2")


def test_a_live_bar_by_default(notebook):
    (bar,) = notebook.metadata["seen"]
    assert "<progress" in bar and "/1000000" in bar and " left" in bar and "loss" in bar


def test_what_stays_is_one_line(notebook):
    (output,) = outputs(notebook, BY_DEFAULT).outputs
    assert set(output["data"]) == {"text/plain"}
    shown = output["data"]["text/plain"]
    assert shown.startswith("training: 2 epochs, ") and "validation accuracy" in shown
    (output,) = outputs(notebook, DIVERGED).outputs
    assert output["data"]["text/plain"].startswith("training: ended by an error")


def test_a_result_is_one_line_and_observers_may_be_none(notebook):
    (output,) = outputs(notebook, SILENT).outputs
    assert output["output_type"] == "execute_result"
    assert output["data"]["text/plain"].startswith("FitResult(2 epochs, validation accuracy")
    assert "\n" not in output["data"]["text/plain"]


def test_an_interrupt_leaves_a_usable_state(notebook):
    stopped = text(outputs(notebook, ENDLESS))
    assert "running" in stopped and "training: stopped in epoch" in stopped
    assert text(outputs(notebook, AFTER)).strip() == "True"
