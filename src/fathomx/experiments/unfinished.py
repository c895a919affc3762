"""A run of a comparison that has not ended, so that it can be continued where it was stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from fathomx.training import RunFolder
from fathomx.training.observer import Observer


class Unfinished:
    """Within it a run writes to a folder, or continues from it; the folder is gone at its end.

    It stays where the run was stopped, by an exception that leaves the context or by a kill. A run
    that had ended without its row begins again.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder, self.config = folder, config

    def __enter__(self) -> Observer:
        if (self.folder / "summary.json").exists():
            shutil.rmtree(self.folder)
        if self.folder.exists():
            self._run = RunFolder.resume(self.folder, self.config)
        else:
            self._run = RunFolder.create(self.folder, self.config)
        return self._run

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run.close()
        if error is None:
            shutil.rmtree(self.folder)
