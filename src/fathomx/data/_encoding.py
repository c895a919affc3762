"""The characters of a text file: its encoding, its byte-order mark, its line ends."""

from __future__ import annotations

import codecs
from encodings.aliases import aliases
from typing import Any

from fathomx import checks
from fathomx.data._files import DataError

# In this order: the mark of UTF-32 begins with that of UTF-16. These codecs drop the mark.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def checked_encoding(name: Any) -> str:
    """The name of an encoding of texts that Python knows."""
    checks.word("encoding", name, "utf-8")
    try:
        # Some codecs turn bytes into bytes, and are refused here.
        "a".encode(name)
    except (LookupError, ValueError):
        known = {alias.replace("_", "-") for alias in (*aliases, *aliases.values())}
        raise ValueError(
            f"unknown encoding {checks.shown(name)}.{checks.near(name.lower(), sorted(known))} "
            "Give one that Python knows, such as 'utf-8', 'latin-1' or 'cp1252'."
        ) from None
    return str(name)


def decoded(content: bytes, encoding: str, path: str) -> str:
    """The text of bytes, without a byte-order mark and with line ends `\\n`, as Python reads files.

    A mark at the beginning tells the encoding, whatever `encoding` says. Raises `DataError`, naming
    the file at `path`, the byte and the encoding, where a byte does not decode.
    """
    encoding = next((codec for mark, codec in _MARKS if content.startswith(mark)), encoding)
    try:
        characters = content.decode(encoding)
    except UnicodeError as error:
        raise DataError(
            f"the file {path} is not {encoding} text ({_place(error)}does not decode): give its "
            'encoding, possibly encoding="latin-1" or encoding="cp1252", or convert it first.'
        ) from None
    return characters.replace("\r\n", "\n").replace("\r", "\n")


def _place(error: UnicodeError) -> str:
    if not isinstance(error, UnicodeDecodeError):
        return "it "
    return f"byte {error.start}, {error.object[error.start]:#04x}, "
