"""Where command lines run: a working directory with files of all kinds, and stored runs to copy."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

SIZES = ("--depth", "2", "--width", "4", "--batch-size", "32", "--data", "digits")
SHORT = ("--take", "64", "--epochs", "1")
# Folders that a command line may name in braces: each gets a copy of its own.
STORED = {
    "done": lambda run: None,
    "begun": lambda run: (run / "summary.json").unlink(),
    "no config": lambda run: (run / "config.json").unlink(),
    "cut config": lambda run: _cut(run / "config.json"),
    "empty config": lambda run: (run / "config.json").write_text("", encoding="utf-8"),
    "list config": lambda run: (run / "config.json").write_text("[1, 2]", encoding="utf-8"),
    "config without depth": lambda run: _replace(run / "config.json", '"depth"', '"dpeth"'),
    "config of another kind": lambda run: _replace(run / "config.json", '"digits"', "7"),
    "config of unknown model": lambda run: _replace(run / "config.json", "residual-mlp", "mpl"),
    "binary config": lambda run: (run / "config.json").write_bytes(bytes(range(256))),
    "cut summary": lambda run: _cut(run / "summary.json"),
    "cut metrics": lambda run: _cut(run / "metrics.jsonl"),
    "garbage metrics": lambda run: _unfinished(run, "metrics.jsonl", "garbage\n\ngarbage\n"),
    "no metrics": lambda run: (run / "metrics.jsonl").unlink(),
    "no checkpoints": lambda run: shutil.rmtree(run / "checkpoints"),
    "begun without checkpoints": lambda run: _begun_without(run),
    "broken checkpoints": lambda run: _broken(run),
    "checkpoints a file": lambda run: _file_for(run / "checkpoints"),
}


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _replace(path: Path, old: str, new: str) -> None:
    content = path.read_text(encoding="utf-8")
    assert old in content, (path, old)
    path.write_text(content.replace(old, new), encoding="utf-8")


def _unfinished(run: Path, name: str, content: str) -> None:
    (run / "summary.json").unlink()
    (run / name).write_text(content, encoding="utf-8")


def _begun_without(run: Path) -> None:
    (run / "summary.json").unlink()
    shutil.rmtree(run / "checkpoints")


def _broken(run: Path) -> None:
    (run / "summary.json").unlink()
    for path in (run / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"\0" * 10)


def _file_for(folder: Path) -> None:
    (folder.parent / "summary.json").unlink()
    shutil.rmtree(folder)
    folder.write_text("no folder\n", encoding="utf-8")


class Place:
    """A working directory, and what is in it.

    `begin(*words)` runs a command line that must succeed, to have runs to copy.
    """

    def __init__(self, folder: Path, begin: Callable[[Sequence[str]], None]) -> None:
        self.folder = folder
        self._runs = folder.parent / "stored"
        self._copies = 0
        self._write_files()
        for command, name in (("train", "train"), ("compare", "compare")):
            begin((command, *SIZES, *SHORT, "--out", str(self._runs / name)))
        self._before = self.tree()

    def copied(self, word: str) -> str:
        """A word of a command line, with a new copy of a stored run in place of its name."""
        if not (word.startswith("{") and word.endswith("}")):
            return word
        command, _, state = word[1:-1].partition(":")
        self._copies += 1
        copy = self.folder / f"run{self._copies}"
        shutil.copytree(self._runs / command, copy)
        run = copy / "predictive-coding" if command == "compare" else copy
        STORED[state](run)
        return copy.name

    def tree(self) -> dict[str, tuple[int, int]]:
        """Every file and folder that is there: its size and when it was written."""
        found = {}
        for path in self.folder.rglob("*"):
            told = path.lstat()
            size = (told.st_size, told.st_mtime_ns) if path.is_file() else (0, 0)
            found[os.fsencode(path.relative_to(self.folder)).decode("utf-8", "replace")] = size
        return found

    def clear(self) -> None:
        """Removes what was not there at the beginning."""
        for path in self.folder.iterdir():
            if path.name not in ("files",):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @property
    def untouched(self) -> bool:
        """Whether the files that were there at the beginning are as they were."""
        now = self.tree()
        return all(now.get(name) == size for name, size in self._before.items())

    def _write_files(self) -> None:
        files = self.folder / "files"
        files.mkdir()
        (files / "book.txt").write_text("abcdef gh\n" * 60, encoding="utf-8")
        (files / "tëxt 文.txt").write_text("äöü 文字\n" * 90, encoding="utf-8")
        (files / "empty.txt").write_text("", encoding="utf-8")
        (files / "short.txt").write_text("ab", encoding="utf-8")
        (files / "latin1.txt").write_bytes("müßig\n".encode("latin-1") * 100)
        (files / "binary.bin").write_bytes(bytes(range(256)) * 8)
        (files / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
        np.savez(files / "numbers.npz", x=np.ones(3))
        (files / "folder").mkdir()
        locked = files / "locked"
        locked.mkdir()
        locked.chmod(0o555)


@contextlib.contextmanager
def elsewhere() -> Iterator[Path]:
    """An empty folder in which the process works."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "here"
        folder.mkdir()
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)
