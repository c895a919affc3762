"""Figures open at their full size; drawings follow the dark scheme, pictures do not."""

from __future__ import annotations

import os
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from PIL import Image

ALONE = re.compile(r"<p>(?P<image><img [^>]*src=\"(?P<source>[^\"]+)\"[^>]*>)</p>")
# A drawing is mostly paper.
PAPER = 0.75


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    def shown(match: re.Match[str]) -> str:
        folder = os.path.dirname(page.url)
        url = os.path.normpath(os.path.join(folder, match["source"]))
        source = next((file for file in files if file.url == url), None)
        kind = "drawing" if source is not None and is_drawing(source) else "picture"
        link = f'<a class="figure {kind}" href="{match["source"]}">{match["image"]}</a>'
        return f"<p>{link}</p>"

    return ALONE.sub(shown, html)


def is_drawing(source) -> bool:
    from io import BytesIO

    with Image.open(BytesIO(source.content_bytes)) as image:
        histogram = image.convert("L").histogram()
    return sum(histogram[250:]) > PAPER * sum(histogram)
