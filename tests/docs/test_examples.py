"""Every Python example of the README and of the documentation runs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = {
    page.name: re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    for page in PAGES
}


def test_pages_hold_examples():
    assert len(EXAMPLES["README.md"]) >= 2
    assert len(EXAMPLES["your-own-network.md"]) >= 6


@pytest.mark.parametrize("page", [page for page, blocks in EXAMPLES.items() if blocks])
def test_examples_run(page, monkeypatch, tmp_path):
    """The blocks of a page one after another, as a reader types them: later ones may build on
    earlier ones. They fail if they raise; those of the documentation assert what they claim."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "example.py"
    script.write_text("\n".join(EXAMPLES[page]), encoding="utf-8")
    namespace = runpy.run_path(str(script))
    assert any(not name.startswith("__") for name in namespace)
