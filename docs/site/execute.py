"""Runs the notebooks that were not run yet, or that have changed since: `make notebooks`.

Each `docs/notebooks/NAME.py` becomes `build/notebooks/NAME.ipynb`, with what it printed and drew.
Names as arguments choose some; `--all` runs all of them again.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SECONDS_PER_CELL = 300

# Small networks compile longer than they compute; what was compiled once is kept.
ENVIRONMENT = {
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / "build" / "compiled"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
}


def main(arguments: list[str]) -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    names = [argument for argument in arguments if argument != "--all"]
    sources = sorted((ROOT / "docs" / "notebooks").glob("*.py"))
    chosen = [source for source in sources if not names or source.stem in names]
    if "--all" not in arguments:
        chosen = [source for source in chosen if not is_current(source, target(source))]
    # Compiling keeps one core busy, so that two notebooks share two.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for line in pool.map(execute, chosen):
            print(line, flush=True)


def target(source: Path) -> Path:
    return ROOT / "build" / "notebooks" / f"{source.stem}.ipynb"


def execute(source: Path) -> str:
    """Runs a notebook, keeps it, and says how long it took."""
    begin = time.perf_counter()
    notebook = run(source)
    target(source).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target(source))
    return f"{source.stem}: {time.perf_counter() - begin:.0f} s"


def is_current(source: Path, executed: Path) -> bool:
    if not executed.is_file():
        return False
    return code(nbformat.read(executed, 4)) == code(jupytext.read(source))


def code(notebook: nbformat.NotebookNode) -> list[str]:
    """What is computed: the text between does not need to be run again."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def run(source: Path) -> nbformat.NotebookNode:
    """The notebook with its output; raises `CellExecutionError` at the first cell that fails."""
    notebook = jupytext.read(source)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}

    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS_PER_CELL,
            resources={"metadata": {"path": folder}},
            record_timing=False,
        )
        client.execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return notebook


if __name__ == "__main__":
    main(sys.argv[1:])
