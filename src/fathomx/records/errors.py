"""What is wrong with a run folder or with one of its files."""

from __future__ import annotations


class RunFolderError(RuntimeError):
    """A run folder exists already, is missing, in use, damaged, or of another configuration."""


class DamagedFileError(RunFolderError, ValueError):
    """A file of a run does not hold what it must; the message names it, what is wrong, a remedy."""
