"""An HTML document that needs no other file: its style, its tables, and escaped text."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fathomx.records.writing import atomic

_STYLE = """
:root { color-scheme: light dark; --line: #d4d4d4; --soft: #f4f4f2; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --line: #444; --soft: #242424; --accent: #56b4e9; }
  body { background: #181818; color: #e4e4e4; }
}
body { font: 16px/1.55 system-ui, sans-serif; max-width: 58rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin-bottom: 1rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.verdict { border-left: 4px solid var(--accent); background: var(--soft); padding: .7rem 1.1rem; }
.verdict p { margin: .35rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .9rem .3rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
table.wide th, table.wide td { overflow-wrap: normal; }
th { font-weight: 600; }
td { font-variant-numeric: tabular-nums; }
pre { background: var(--soft); padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 1.6rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { font-size: .92rem; margin-top: .3rem; }
""".strip()


def write_document(path: Path, title: str, body: Sequence[str]) -> Path:
    """Writes the elements of `body` as a document with this title, and returns its path."""
    page = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escaped(title)}</title>",
            f"<style>\n{_STYLE}\n</style></head>",
            "<body>",
            *body,
            "</body></html>",
            "",
        ]
    )
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, wide: bool = False) -> str:
    """A table as HTML, which scrolls sideways; `wide` breaks no words. Without rows, a sentence."""
    if not rows:
        return "<p>Nothing was recorded.</p>"
    top = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in head)
    lines = [
        f'<tr><th scope="row">{escaped(row[0])}</th>'
        + "".join(f"<td>{escaped(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    ]
    kind = ' class="wide"' if wide else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{top}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def escaped(value: Any) -> str:
    """Text that a document shows as it is."""
    return html.escape(str(value), quote=True)
