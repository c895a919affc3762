"""How the command line speaks: lines as they are, the verdict on a run, the line on a mistake."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fathomx.command_line.settings import option_fields, option_name
from fathomx.records.run_files import RunFiles
from fathomx.report.verdict import verdict

_LONGEST_WORD = 200


def say(console: Console, text: str) -> None:
    """Prints a text as it is: nothing in it is markup, no number is colored, no line is broken."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def as_options(message: str) -> str:
    """A sentence about settings in which they are called as the options of the command line are."""
    called = {f.name: option_name(f) for f in option_fields(training=True) if "_" in f.name}
    names = "|".join(sorted(called, key=len, reverse=True))
    # What is quoted, part of a path or of code is not the name of a setting.
    pattern = rf"(?<![\w./'\"-])({names})(?![\w/'\"(=-]|\.\w)"
    return re.sub(pattern, lambda match: f"--{called[match[1]]}", message)


def say_mistake(message: str) -> None:
    """Prints what went wrong to stderr, as one line."""
    words = [word if len(word) <= _LONGEST_WORD else f"{word[:60]}..." for word in message.split()]
    line = Text(" ".join(words))
    Console(stderr=True).print(Text("error: ", "bold red") + line, soft_wrap=True)


def say_verdict(console: Console, folder: Path) -> None:
    """Prints the sentences that sum up the run in a folder, and where it is."""
    run = RunFiles(folder)
    for line in verdict(run.config, run.summary, run.records):
        say(console, line)
    say(console, f"run folder: {folder}/index.html")
