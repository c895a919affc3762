"""Notebooks as pages, with what they printed and drew when they were last run.

`make notebooks` runs `docs/notebooks/NAME.py` and leaves `build/notebooks/NAME.ipynb`. One that was
not run yet, or that has changed since, is shown without output, and says so.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

COLOR = re.compile(r"\x1b\[[0-9;]*m")
# Where the kernel kept the cell that warns, and the line of it.
PLACE = re.compile(r"^\S*ipykernel\S*: (.*)\n  .*\n", flags=re.M)
NOT_RUN = (
    "!!! note\n    This page was built without running the notebook: `make notebooks` does.\n\n"
)
RAN = (
    "[Download this notebook]({name}.ipynb), or open `docs/notebooks/{name}.py` in Jupyter with "
    "Jupytext.\n\n"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.config_file_path).parent
    for source in sorted((root / "docs" / "notebooks").glob("*.py")):
        name = source.stem
        notebook = jupytext.read(source)
        ran = take_output(notebook, root / "build" / "notebooks" / f"{name}.ipynb")
        if ran:
            text = nbformat.writes(notebook)
            files.append(File.generated(config, f"notebooks/{name}.ipynb", content=text))
        title, _, rest = page(notebook, name, files, config).partition("\n\n")
        note = RAN.format(name=name) if ran else NOT_RUN
        text = f"{title}\n\n{note}{rest}"
        files.append(File.generated(config, f"notebooks/{name}.md", content=text))
    return files


def take_output(notebook: Any, executed: Path) -> bool:
    """Whether the notebook was run as it is, whose cells then have their output."""
    if not executed.is_file():
        return False
    ran = nbformat.read(executed, 4)
    cells = [[c for c in book.cells if c.cell_type == "code"] for book in (notebook, ran)]
    if [cell.source for cell in cells[0]] != [cell.source for cell in cells[1]]:
        return False
    for here, there in zip(*cells, strict=True):
        here.outputs, here.execution_count = there.outputs, there.execution_count
    return True


def page(notebook: Any, name: str, files: Files, config: MkDocsConfig) -> str:
    parts = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        printed = ""
        for place, output in enumerate(cell.get("outputs", [])):
            data = output.get("data", {})
            if "image/png" not in data:
                printed += _text(output) or data.get("text/plain", "").rstrip() + "\n"
                continue
            uri = f"notebooks/{name}-{number}-{place}.png"
            picture = base64.b64decode(data["image/png"])
            files.append(File.generated(config, uri, content=picture))
            parts += [_printed(printed), f"![]({Path(uri).name})"]
            printed = ""
        parts.append(_printed(printed))
    return "\n\n".join(part for part in parts if part) + "\n"


def _text(output: Any) -> str:
    """What a stream wrote; of a warning what it says."""
    text = output.get("text", "")
    return PLACE.sub(r"\1\n", text) if output.get("name") == "stderr" else text


def _printed(text: str) -> str:
    text = COLOR.sub("", text).rstrip()
    return f"```{{.text .output}}\n{text}\n```" if text else ""
