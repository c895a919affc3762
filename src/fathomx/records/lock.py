"""One writer in a folder at a time."""

from __future__ import annotations

from pathlib import Path

import filelock

from fathomx.records.errors import RunFolderError
from fathomx.records.writing import remove_unfinished, unwritable


class FolderLock:
    """Held while a process writes to a folder; the system releases it when the process dies.

    What writers that were killed left unfinished in the folder is removed.

    Raises `RunFolderError` if another process, or another run in this one, holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = filelock.FileLock(folder / ".lock", thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunFolderError(
                f"{folder} is in use: another process writes to it; wait for it to end, or stop it."
            ) from None
        except OSError as error:
            raise RunFolderError(unwritable(folder / ".lock", error)) from None
        remove_unfinished(folder)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *raised: object) -> None:
        self.release()

    def release(self) -> None:
        """Lets others write to the folder."""
        self._lock.release()
