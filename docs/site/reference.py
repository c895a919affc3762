"""The API reference: a page for every part of the package, an entry for every public name.

A name of `fathomx` is on the page of the room that it comes from, so that a new one finds its page
by itself. In every text, `fx.Name` in code type is a link to its entry.
"""

from __future__ import annotations

import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# The pages, the rooms whose names they show, and the modules that are public as a whole.
PAGES = {
    "networks": ("Networks", "Entries, feedbacks, energies and what is clamped.", ["graph"], []),
    "problems": ("Problems", "What is clamped of a network, and the energy that follows.", ["problem"], ["problem"]),
    "inference": ("Inference", "Solvers: each turns a problem into a relaxation.", ["inference"], ["inference"]),
    "learning": ("Learning", "Rules: each turns a batch into a weight update.", ["learning"], ["learning"]),
    "models": ("Models", "Networks ready to train.", ["models"], ["models"]),
    "layers": ("Layers and parameterizations", "Layers that carry their own scaling, and where it comes from.", ["layers"], ["layers"]),
    "data": ("Data", "Data sets by name, from folders, from arrays.", ["data"], ["data"]),
    "training": ("Training", "The loop, its observers, saved networks and runs.", [], ["training"]),
    "diagnostics": ("Diagnostics", "Where the energy sits, and where an update points.", ["diagnostics"], []),
    "sampling": ("Sampling", "Samples of networks, and texts.", ["sampling"], []),
    "theory": ("Theory", "Energies, Hessians and saddles of real networks.", ["theory"], ["theory"]),
}
# What no room of the table claims (how runs are loaded and saved) is about training.
REST = "training"
MENTION = re.compile(r"(?<![\[`\w])`fx\.([A-Za-z_][\w.]*)`")


def entries(source: Path) -> dict[str, list[griffe.Object]]:
    """The public names of the package, each with its full name, by page."""
    package = griffe.load("fathomx", search_paths=[source], resolve_aliases=True)
    assert isinstance(package, griffe.Module)
    pages: dict[str, list[griffe.Object]] = {page: [] for page in PAGES}
    shown = set()
    for name, member in public(package):
        room = member.canonical_path.split(".")[1]
        claims = [page for page, (_, _, rooms, _) in PAGES.items() if room in rooms]
        pages[claims[0] if claims else REST].append(member)
        shown.add(member.canonical_path)
    for page, (_, _, _, modules) in PAGES.items():
        for module in modules:
            for name, member in public(package[module]):
                if member.canonical_path not in shown:
                    pages[page].append(member)
                    shown.add(member.canonical_path)
    return pages


def public(module: griffe.Module) -> list[tuple[str, griffe.Object]]:
    """What a module exports: what it says in `__all__`, else what it imports as itself."""
    if module.exports is not None:
        chosen = [str(name) for name in module.exports]
    else:
        chosen = [n for n, m in module.members.items() if m.is_alias and not n.startswith("_")]
    return [
        (name, module.members[name])
        for name in chosen
        if module.members[name].canonical_path.startswith("fathomx.")
        and not module.members[name].is_module
    ]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    for part in config.nav or []:
        if "Reference" in part:
            part["Reference"] = ["reference/index.md", *(f"reference/{page}.md" for page in PAGES)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    global known
    found = entries(Path(config.config_file_path).parent / "src")
    known = {member.path for members in found.values() for member in members}
    known |= {f"{member.path}.{name}" for members in found.values() for member in members
              for name in member.members}
    index = ["# Reference\n\nEvery public name; `import fathomx as fx` is assumed everywhere.\n"]
    for page, members in found.items():
        title, text, _, _ = PAGES[page]
        index.append(f"\n## [{title}]({page}.md)\n\n{text}\n\n| | |\n|---|---|\n")
        directives = [f"# {title}\n\n{text}\n"]
        for member in sorted(members, key=lambda m: (m.path.count("."), m.name.lower())):
            first = _first_sentence(member)
            index.append(f"| [`{_short(member.path)}`][{member.path}] | {first} |\n")
            directives.append(f"\n::: {member.path}\n")
        files.append(File.generated(config, f"reference/{page}.md", content="".join(directives)))
    files.append(File.generated(config, "reference/index.md", content="".join(index)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    parts = re.split(r"(^```.*?^```|^#.*?$)", markdown, flags=re.M | re.S)
    return "".join(
        part if part.startswith(("```", "#")) else MENTION.sub(_linked, part) for part in parts
    )


def _linked(match: re.Match[str]) -> str:
    path = f"fathomx.{match[1]}"
    return f"[`fx.{match[1]}`][{path}]" if path in known else match[0]


def _short(path: str) -> str:
    return path.replace("fathomx.", "fx.", 1)


def _first_sentence(member: griffe.Object) -> str:
    text = member.docstring.value if member.docstring else ""
    return re.split(r"\n\n|(?<=[.:])\s", text)[0].replace("\n", " ").replace("|", "\\|").rstrip(":")
