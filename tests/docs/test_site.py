"""The site: built strictly, links and names there, nothing from elsewhere, formulas rendered."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import fathomx as fx

ROOT = Path(__file__).parents[2]
MOST_LINES = 130
PUBLIC_MODULES = (
    "data",
    "inference",
    "layers",
    "learning",
    "models",
    "problem",
    "theory",
    "training",
)


class Seen(HTMLParser):
    """Identifiers of a page, what it links to, what it loads, and what stands outside of code."""

    def __init__(self) -> None:
        super().__init__()
        self.identifiers: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.text: list[str] = []
        self._code = 0

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.identifiers.update(found[name] for name in ("id", "name") if found.get(name))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("img", "script", "iframe") and found.get("src"):
            self.loaded.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preconnect"):
            self.loaded.append(found["href"])
        self._code += tag in ("code", "pre", "script", "style", "annotation")

    def handle_endtag(self, tag):
        self._code -= tag in ("code", "pre", "script", "style", "annotation")

    def handle_data(self, data):
        if not self._code:
            self.text.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[Path, Seen]:
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {}
    for path in sorted(folder.rglob("*.html")):
        pages[path] = Seen()
        pages[path].feed(path.read_text(encoding="utf-8"))
    return pages


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_every_link_leads_somewhere(site):
    broken = []
    for path, page in site.items():
        if path.name == "404.html":  # Its links begin at the root, wherever that will be.
            continue
        for link in page.links + page.loaded:
            if re.match(r"[a-z]+:", link):
                continue
            address, anchor = urldefrag(unquote(link))
            target = (path.parent / address).resolve() if address else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file() or (
                anchor and target in site and anchor not in site[target].identifiers
            ):
                broken.append(f"{path.name}: {link}")
    assert not broken


def test_every_page_is_in_the_navigation(site):
    """Those too that `mkdocs.yml` does not name."""
    home = next(
        path for path in site if path.name == "index.html" and (path.parent / "404.html").exists()
    )
    named = {urldefrag(link).url for link in site[home].links}
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages and not {page for page in pages if f"{page}.html" not in named}


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = {link for page in site.values() for link in page.loaded}
    styles = [style for path in site for style in path.parent.glob("**/*.css")]
    assert styles
    for style in set(styles):
        loaded.update(re.findall(r"url\([\"']?([^)\"']+)", style.read_text(encoding="utf-8")))
    assert not [link for link in loaded if re.match(r"(https?:)?//", link)]


def test_formulas_are_rendered(site):
    formulas = 0
    for path, page in site.items():
        text = "".join(page.text)
        assert r"\(" not in text and "$$" not in text, path.name
        formulas += path.read_text(encoding="utf-8").count("<math")
    assert formulas > 50


def test_every_public_name_has_an_entry(site):
    entries = {
        name
        for path, page in site.items()
        if path.parent.name == "reference"
        for name in page.identifiers
    }
    public = {f"fathomx.{name}" for name in dir(fx) if is_shown(fx, name)} | {"fathomx.load"}
    for room in PUBLIC_MODULES:
        module = importlib.import_module(f"fathomx.{room}")
        public |= {f"fathomx.{room}.{name}" for name in dir(module) if is_shown(module, name)}
    assert len(public) > 150
    # One of several names of the same object is enough: `fx.Newton` is `fx.inference.Newton`.
    assert not {name for name in public if not known_names(name) & entries}


def is_shown(module, name: str) -> bool:
    value = getattr(module, name)
    return (
        not name.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", "fathomx").startswith("fathomx")
        and not (module is not fx and name == "annotations")
    )


def known_names(name: str) -> set[str]:
    module, _, last = name.rpartition(".")
    value = getattr(importlib.import_module(module), last)
    home = getattr(value, "__module__", None)
    return {name, f"fathomx.{last}"} | ({f"{home}.{last}"} if home else set())


COMMANDS = [
    (page.name, *found)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    for found in re.findall(
        r"^\s*(?:srun )?fathomx ([a-z-]+)([^#\n]*)", block.replace("\\\n", " "), flags=re.M
    )
]


def test_commands_in_the_pages_and_their_options_exist():
    from fathomx_command import commands

    assert len(COMMANDS) > 10
    for page, name, rest in COMMANDS:
        command = commands.get_command(None, name)
        assert command is not None, f"{page}: fathomx {name}"
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        given = set(re.findall(r"(?<!\S)--[a-z-]+", rest))
        assert given <= known, f"{page}: fathomx {name}{rest}"
