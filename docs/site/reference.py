"""The API reference: a page for every part of the package, an entry for every public name.

A name of `fathomx` is on the page of the room that it comes from, so that a new one finds its page
by itself. In every text, `fx.Name` in code type is a link to its entry.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# The pages, the rooms whose names they show, and the modules that are public as a whole.
PAGES = {
    "networks": ("Networks", "Entries, feedbacks, energies and what is clamped.", ["graph"], []),
    "problems": (
        "Problems",
        "What is clamped of a network, and the energy that follows.",
        ["problem"],
        ["problem"],
    ),
    "inference": (
        "Inference",
        "Solvers: each turns a problem into a relaxation.",
        ["inference"],
        ["inference"],
    ),
    "learning": (
        "Learning",
        "Rules: each turns a batch into a weight update.",
        ["learning"],
        ["learning"],
    ),
    "models": ("Models", "Networks ready to train.", ["models"], ["models"]),
    "layers": (
        "Layers and parameterizations",
        "Layers that carry their own scaling, and where it comes from.",
        ["layers"],
        ["layers"],
    ),
    "data": ("Data", "Data sets by name, from folders, from arrays.", ["data"], ["data"]),
    "training": ("Training", "The loop, its observers, saved networks and runs.", [], ["training"]),
    "diagnostics": (
        "Diagnostics",
        "Where the energy sits, and where an update points.",
        ["diagnostics"],
        [],
    ),
    "sampling": ("Sampling", "Samples of networks, and texts.", ["sampling"], []),
    "theory": (
        "Theory",
        "Energies, Hessians and saddles of real networks.",
        ["theory"],
        ["theory"],
    ),
}
# What no room of the table claims (how runs are loaded and saved) is about training.
REST = "training"
MENTION = re.compile(r"(?<![\[`\w])`fx\.([A-Za-z_][\w.]*)(\([^`]*\))?`")


class Entry(NamedTuple):
    """A public name: what it is called, and what it is."""

    path: str
    meant: griffe.Object

    @property
    def directive(self) -> str:
        """What mkdocstrings is told. A module of the same name would take the place of a function
        that it holds; then the function is named by where it stands, and headed by its name."""
        if self.meant.path == self.path or self.meant.parent.path != self.path:
            return f"\n::: {self.path}\n"
        options = f"    options:\n      heading: {self.path}\n      toc_label: {self.path}\n"
        return f'\n<span id="{self.path}"></span>\n\n::: {self.meant.path}\n{options}'

    @property
    def target(self) -> str:
        return self.path if self.meant.parent.path != self.path else self.meant.path


def entries(source: Path) -> dict[str, list[Entry]]:
    """The public names of the package by page; each object once, by its shortest name."""
    package = griffe.load("fathomx", search_paths=[source], resolve_aliases=True)
    pages: dict[str, list[Entry]] = {page: [] for page in PAGES}
    shown = set()
    for entry in public(package, package):
        room = entry.meant.path.split(".")[1]
        claims = [page for page, (_, _, rooms, _) in PAGES.items() if room in rooms]
        pages[claims[0] if claims else REST].append(entry)
        shown.add(entry.meant.path)
    for page, (_, _, _, modules) in PAGES.items():
        for module in modules:
            for entry in public(package, package[module]):
                if entry.meant.path not in shown:
                    pages[page].append(entry)
                    shown.add(entry.meant.path)
    return pages


def public(package: griffe.Module, module: griffe.Module) -> list[Entry]:
    """What a module exports: what it says in `__all__`, else what it imports as itself."""
    chosen = [str(name) for name in module.exports or module.imports]
    found = []
    for name in chosen:
        origin = module.imports.get(name, "")
        if name.startswith("_") or not origin.startswith("fathomx."):
            continue
        meant = _resolved(package, origin)
        if not meant.is_module:
            found.append(Entry(f"{module.path}.{name}", meant))
    return found


def _resolved(package: griffe.Module, path: str) -> griffe.Object:
    """What a path means in Python, where an import takes the place of a module of its name."""
    folder, _, name = path.removeprefix("fathomx.").rpartition(".")
    module = package[folder] if folder else package
    imported = module.imports.get(name) if module.is_module else None
    if imported is not None and imported != path:
        return _resolved(package, imported)
    return module[name]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    for part in config.nav or []:
        if "Reference" in part:
            part["Reference"] = ["reference/index.md", *(f"reference/{page}.md" for page in PAGES)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    global known
    found = entries(Path(config.config_file_path).parent / "src")
    known = {}
    for entry in (entry for page in found.values() for entry in page):
        known[entry.path] = entry.target
        for name, member in entry.meant.members.items():
            if member.docstring and not name.startswith("_"):
                known[f"{entry.path}.{name}"] = f"{entry.target}.{name}"
    index = ["# Reference\n\nEvery public name; `import fathomx as fx` is assumed everywhere.\n"]
    for page, members in found.items():
        title, text, _, _ = PAGES[page]
        index.append(f"\n## [{title}]({page}.md)\n\n{text}\n\n| name | what it is |\n|---|---|\n")
        directives = [f"# {title}\n\n{text}\n"]
        for entry in sorted(members, key=lambda e: (e.path.count("."), e.path.lower())):
            first = _first_sentence(entry.meant)
            index.append(f"| [`{_short(entry.path)}`][{entry.target}] | {first} |\n")
            directives.append(entry.directive)
        files.append(File.generated(config, f"reference/{page}.md", content="".join(directives)))
    files.append(File.generated(config, "reference/index.md", content="".join(index)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    parts = re.split(r"(^```.*?^```|^#.*?$)", markdown, flags=re.M | re.S)
    return "".join(
        part if part.startswith(("```", "#")) else MENTION.sub(_linked, part) for part in parts
    )


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings were not Markdown yet when the pages around them were read."""
    if not page.file.src_uri.startswith("reference/"):
        return html
    return re.sub(r"(?<!>)<code>fx\.([A-Za-z_][\w.]*)</code>(?!</a>)", _referring, html)


def _referring(match: re.Match[str]) -> str:
    target = known.get(f"fathomx.{match[1]}")
    return f'<autoref identifier="{target}">{match[0]}</autoref>' if target else match[0]


def _linked(match: re.Match[str]) -> str:
    path = f"fathomx.{match[1]}"
    return f"[{match[0]}][{known[path]}]" if path in known else match[0]


def _short(path: str) -> str:
    return path.replace("fathomx.", "fx.", 1)


def _first_sentence(member: griffe.Object) -> str:
    text = member.docstring.value if member.docstring else ""
    return re.split(r"\n\n|(?<=[.:])\s", text)[0].replace("\n", " ").replace("||", "‖").rstrip(":")
