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
NOT_RUN = '!!! note\n    This page was built without running the notebook: `make notebooks` does.\n\n'
RAN = "[Download this notebook]({name}.ipynb), or open `docs/notebooks/{name}.py` in Jupyter with Jupytext.\n\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.config_file_path).parent
    for source in sorted((root / "docs" / "notebooks").glob("*.py")):
        name = source.stem
        executed = root / "build" / "notebooks" / f"{name}.ipynb"
        written = jupytext.read(source)
        notebook = nbformat.read(executed, 4) if executed.is_file() else written
        if [cell.source for cell in notebook.cells] != [cell.source for cell in written.cells]:
            notebook = written
        ran = notebook is not written
        if ran:
            uri = f"notebooks/{name}.ipynb"
            files.append(File.generated(config, uri, abs_src_path=str(executed)))
        lines = page(notebook, name, files, config)
        title, _, rest = lines.partition("\n\n")
        note = RAN.format(name=name) if ran else NOT_RUN
        text = f"{title}\n\n{note}{rest}"
        files.append(File.generated(config, f"notebooks/{name}.md", content=text))
    return files


def page(notebook: Any, name: str, files: Files, config: MkDocsConfig) -> str:
    parts = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for place, output in enumerate(cell.get("outputs", [])):
            parts.append(_shown(output, f"{name}-{number}-{place}.png", files, config))
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(output: Any, file: str, files: Files, config: MkDocsConfig) -> str:
    if output.output_type == "stream":
        return _printed(output.text)
    data = output.get("data", {})
    if "image/png" in data:
        picture = base64.b64decode(data["image/png"])
        files.append(File.generated(config, f"notebooks/{file}", content=picture))
        return f"![]({file})"
    if "text/html" in data:
        return f'<div class="output">{data["text/html"]}</div>'
    return _printed(data.get("text/plain", ""))


def _printed(text: str) -> str:
    text = COLOR.sub("", text).rstrip()
    return f'```{{.text .output}}\n{text}\n```' if text else ""
