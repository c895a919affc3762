"""Formulas become MathML when the site is built: browsers need no script to show them.

The font is STIX Two Math, which the package ziamath brings along, less what no formula here uses.
"""

from __future__ import annotations

import html
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fontTools import subset, ttLib
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[\[(](?P<tex>.*?)\\[\])]</(?P=tag)>', flags=re.S
)
FONT = Path(find_spec("ziamath").origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"
CHARACTERS = (
    *range(0x20, 0x250),  # Latin
    *range(0x370, 0x400),  # Greek
    *range(0x2000, 0x2300),  # punctuation, letterlike, arrows, operators
    *range(0x27C0, 0x2800),  # brackets
    *range(0x1D400, 0x1D800),  # italic and other alphabets
)


def on_page_content(html: str, **_: object) -> str:
    return FORMULA.sub(lambda match: mathml(match["tex"], match["tag"] == "div"), html)


@cache
def mathml(tex: str, display: bool) -> str:
    # Bars stay as tall as letters: without a partner the browser stretches them by guesswork.
    found = convert(html.unescape(tex).strip(), display="block" if display else "inline")
    found = found.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')
    return f'<div class="formula">{found}</div>' if display else found


def on_post_build(config: MkDocsConfig) -> None:
    options = subset.Options()
    options.flavor = "woff"
    options.layout_features = ["ssty"]  # what scripts of scripts need
    font = ttLib.TTFont(FONT)
    chosen = subset.Subsetter(options)
    chosen.populate(unicodes=CHARACTERS)
    chosen.subset(font)
    font.flavor = "woff"
    folder = Path(config.site_dir, "site")
    folder.mkdir(exist_ok=True)
    font.save(folder / "formulas.woff")
