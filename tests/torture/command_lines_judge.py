"""Running a command line, in this process or in one of its own, and judging how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from command_lines_generated import END, FAIL, SUCCEED, Line
from command_lines_place import Place
from time_limit import TooLong, limited

from fathomx.command_line.commands import main

SECONDS = 120
_CODES = (0, 1, 2, 130, 143)
_LONGEST, _QUOTED = 400, 200
_USAGE = re.compile(r"^(Usage:|Try ')")
_REMEDIES = (
    *("choose", "give", "use ", "leave out", "must", "did you mean", "expected", "start", "needs"),
    *("takes", "exists", "no such", "missing", "requires", "not a valid", "unexpected", "got "),
    *("move", "free some", "put a", "repeat", "delete", "wait", "leave", "nothing to do"),
)
_RUN = ("config.json", "summary.json", "metrics.jsonl", "index.html")


@dataclasses.dataclass(frozen=True)
class Ending:
    """The exit code (`None` where there is none) and what was printed."""

    code: int | None
    out: str
    err: str
    raised: str = ""


def within(words: Sequence[str]) -> Ending:
    """Runs a command line in this process, as a console that takes UTF-8 would."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    code: Any = None
    raised = ""
    with (
        mock.patch.object(sys, "argv", ["fathomx", *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        try:
            with limited(SECONDS):
                main()
        except SystemExit as end:
            code = 0 if end.code is None else end.code
        except TooLong:
            raised = f"took more than {SECONDS} s"
        except BaseException as error:
            raised = f"Traceback: {type(error).__name__}: {error}"
    return Ending(code, _read(out), _read(err), raised)


def outside(program: Path, words: Sequence[str]) -> Ending:
    """Runs a command line in a process of its own."""
    try:
        done = subprocess.run([program, *words], capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Ending(None, "", "", f"took more than {SECONDS} s")
    except ValueError as error:
        return Ending(None, "", "", f"cannot be started: {error}")
    out, err = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    return Ending(done.returncode, out, err)


def _read(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8", "replace")


def judged(line: Line, ending: Ending, place: Place, before: Mapping[str, Any]) -> str | None:
    """What is wrong about how a command line ended; `None` if nothing is.

    `line` is as it ran, and `before` the tree of the working directory before that.
    """
    if ending.raised:
        return _quoted(ending.raised)
    if "Traceback" in ending.err:
        return f"traceback: {_quoted(ending.err[-_QUOTED:])}"
    if ending.code not in _CODES:
        return f"exit code {ending.code}: {_quoted(ending.err)}"
    if line.must == SUCCEED and ending.code:
        return f"refused ({ending.code}): {_quoted(ending.err)}"
    if line.must == FAIL and not ending.code:
        return "accepted"
    if not place.untouched:
        return "changed files that are not its own"
    left = _unfinished(place)
    if left:
        return f"left {left} behind"
    return _failed(line, ending, place, before) if ending.code else _succeeded(line, ending, place)


def _failed(line: Line, ending: Ending, place: Place, before: Mapping[str, Any]) -> str | None:
    lines = [each for each in ending.err.splitlines() if each.strip()]
    said = [each for each in lines if not _USAGE.match(each)]
    if len(said) != 1:
        return f"{len(said)} lines on stderr: {_quoted(ending.err)}"
    if not said[0].lower().startswith("error: "):
        return f"no error line: {_quoted(said[0])}"
    if len(said[0]) > _LONGEST:
        return f"an error line of {len(said[0])} characters: {_quoted(said[0])}"
    if not _tells(said[0], line.words):
        return f"names neither the remedy nor what was given: {_quoted(said[0])}"
    training_began = "training examples)" in ending.out
    # A lock belongs to every run that is there.
    new = sorted(name for name in set(place.tree()) - set(before) if not name.endswith("/.lock"))
    if new and not training_began:
        return f"failed, but left {', '.join(new[:4])} behind: {_quoted(said[0])}"
    return None


def _tells(said: str, words: Sequence[str]) -> bool:
    low = said.lower()
    if any(remedy in low for remedy in _REMEDIES):
        return True
    given = [part.lstrip("-") for word in words for part in (word, *word.split("=", 1))]
    spoken = low.replace("_", "-")
    return any(len(word) > 1 and word.lower() in spoken for word in given)


def _succeeded(line: Line, ending: Ending, place: Place) -> str | None:
    """Whether the folder that was promised is complete; of what was damaged it need not be."""
    if line.must == END:
        return None
    if not line.words or line.words[-1] in ("--help", "--version"):
        return None if ending.out.strip() else "succeeded without a word"
    told = re.search(r"^diagnosis: (.+)$", ending.out, re.M)
    if told is not None:
        return _complete(place.folder / told[1], ("diagnosis.json",))
    compared = re.search(r"^side by side: (.+)/index\.html$", ending.out, re.M)
    if compared is not None:
        folder = place.folder / compared[1]
        missing = _complete(folder, ("comparison.json", "index.html"))
        return (
            missing
            or _complete(folder / "predictive-coding", _RUN)
            or _complete(folder / "backprop", _RUN)
        )
    run = re.search(r"^run folder: (.+)/index\.html$", ending.out, re.M)
    if run is None:
        strange = any(not character.isprintable() for word in line.words for character in word)
        return None if strange else f"succeeded, but named no folder: {_quoted(ending.out[-200:])}"
    return _complete(place.folder / run[1], _RUN)


def _complete(folder: Path, names: Sequence[str]) -> str | None:
    missing = [name for name in names if not (folder / name).is_file()]
    return f"succeeded, but {', '.join(missing)} is missing in {folder.name}" if missing else None


def _unfinished(place: Place) -> str:
    """Temporary files and folders, which nothing may leave behind."""
    found = [
        name for name in place.tree() if name.endswith(".tmp") or "orbax-checkpoint-tmp" in name
    ]
    return ", ".join(sorted(found)[:3])


def _quoted(text: str) -> str:
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text.strip())
    return shown[:_QUOTED]
