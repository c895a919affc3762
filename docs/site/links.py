"""Links that leave `docs/` lead somewhere on GitHub, and on the site.

What a page links to elsewhere in the repository (the README of an experiment, a figure, a script)
comes along into the site, and the link is written anew. `docs/` is the root of the site; all other
folders keep their names.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(
    r"(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^()\s#:]+)(?P<anchor>#\S*?)?\)"
)
# The first page on GitHub and the first page here say the same.
ALIASES = {"README.md": "index.md"}


def root(config: MkDocsConfig) -> Path:
    return Path(config.config_file_path).parent


def target(config: MkDocsConfig, page: Path, link: str) -> Path | None:
    """The file or folder of the repository that `link` in the file `page` means, if any."""
    path = Path(os.path.normpath(page.parent / link))
    if (path / "README.md").is_file():
        path /= "README.md"
    return path if path.exists() and path.is_relative_to(root(config)) else None


def place(config: MkDocsConfig, path: Path) -> str:
    """Where a file of the repository is on the site; a folder is where its index is."""
    inside = path.relative_to(root(config)) / ("index.md" if path.is_dir() else "")
    return ALIASES.get(inside.as_posix(), inside.as_posix().removeprefix("docs/"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = [Path(file.abs_src_path) for file in files if file.src_uri.endswith(".md")]
    pages += sorted(root(config).glob("experiments/*/README.md"))
    pages += [root(config) / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    seen = set(pages)
    while pages:
        page = pages.pop()
        _bring(files, config, page)
        for match in LINK.finditer(page.read_text(encoding="utf-8")):
            path = target(config, page, match["target"])
            if path is None or path.is_dir() or path in seen:
                continue
            seen.add(path)
            if path.suffix == ".md":
                pages.append(path)
            else:
                _bring(files, config, path)
    return files


def _bring(files: Files, config: MkDocsConfig, path: Path) -> None:
    uri = place(config, path)
    if files.get_file_from_path(uri) is None:
        files.append(File.generated(config, uri, abs_src_path=str(path)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    # A notebook is written by another hook, as if it were in its folder of `docs/`.
    here = Path(page.file.abs_src_path or Path(config.docs_dir, page.file.src_uri))

    def written(match: re.Match[str]) -> str:
        path = target(config, here, match["target"])
        if path is None or files.get_file_from_path(place(config, path)) is None:
            return match[0]
        link = os.path.relpath(place(config, path), Path(page.file.src_uri).parent)
        return f"{match['text']}({Path(link).as_posix()}{match['anchor'] or ''})"

    return LINK.sub(written, markdown)
