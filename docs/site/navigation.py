"""Pages that nobody has put into the navigation, under "How to"; folders that other hooks fill."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig

REST = "How to"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    from pathlib import Path

    assert config.nav is not None
    named = set(_pages(config.nav))
    written = sorted(path.name for path in Path(config.docs_dir).glob("*.md"))
    section = next(part[REST] for part in config.nav if isinstance(part, dict) and REST in part)
    section.extend(name for name in written if name not in named)
    return config


def _pages(part: Any) -> list[str]:
    if isinstance(part, str):
        return [part]
    parts = part.values() if isinstance(part, dict) else part
    return [page for inner in parts for page in _pages(inner)]
