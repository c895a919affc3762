"""Files of data: their paths, their bytes, and the error that names them."""

from __future__ import annotations

import os
from pathlib import Path


class DataError(OSError):
    """A data file is missing, cannot be read or fetched, or is corrupted or truncated.

    The message is one sentence: the file, what is wrong with it, and the remedy. It is a subclass
    of `OSError`, so that code which handles file errors handles this one too.

    ```python
    issubclass(fx.data.DataError, OSError)    # True
    ```
    """


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file; raises `DataError`, naming the file, if they cannot be read."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        # A path with a null character is a ValueError.
        why = getattr(error, "strerror", None) or error
        raise DataError(
            f"the file {os.fspath(path)} cannot be read ({why}): "
            "check that it exists and that you may read it."
        ) from error
