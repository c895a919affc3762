"""The gallery: a card for every experiment, with its first figure and its first sentence."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FIGURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
BEGINNING = """# Experiments

Every published claim that was tried is one command, its results and figures beside what was
expected, where the two differ included. `fathomx reproduce NAME` runs it, continues where it was
stopped, and leaves a table and figures like those below.

<div class="grid cards" markdown>

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = sorted(Path(config.config_file_path).parent.glob("experiments/*/README.md"))
    cards = "".join(_card(page) for page in pages)
    text = f"{BEGINNING}{cards}</div>\n"
    files.append(File.generated(config, "experiments/index.md", content=text))
    for page in pages:
        for figure in page.parent.glob("*.png"):
            uri = f"experiments/{page.parent.name}/{figure.name}"
            if files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(figure)))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    pages = sorted(Path(config.config_file_path).parent.glob("experiments/*/README.md"))
    names = [f"experiments/{page.parent.name}/README.md" for page in pages]
    for part in config.nav or []:
        if "Experiments" in part:
            part["Experiments"] = ["experiments/index.md", *names]
    return config


def _card(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    title = re.search(r"^# (.*)$", text, flags=re.M)
    assert title is not None, f"{page} has no title"
    folder = page.parent.name
    drawn = FIGURE.search(text)
    figure = drawn[1] if drawn else next(p.name for p in sorted(page.parent.glob("*.png")))
    return (
        f"-   ![]({folder}/{figure})\n\n"
        f"    **[{title[1]}]({folder}/README.md)**\n\n"
        f"    `fathomx reproduce {folder.replace('_', '-')}`\n\n"
    )
