"""How the command line speaks: lines as they are, the verdict on a run, the line on a mistake."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from fathomx.report import verdict
from fathomx.training.run_folder import read_config, read_json, read_metrics


def say(console: Console, text: str) -> None:
    """Prints a text with its markup, whose numbers are not colored and whose lines not broken."""
    console.print(text, highlight=False, soft_wrap=True)


def say_mistake(message: str) -> None:
    """Prints what went wrong to stderr, as one line."""
    line = " ".join(message.split())
    say(Console(stderr=True), f"[bold red]error:[/] {escape(line)}")


def say_verdict(console: Console, folder: Path) -> None:
    """Prints the sentences that sum up the run in a folder, and where it is."""
    summary = read_json(folder / "summary.json")
    for line in verdict(read_config(folder), summary, read_metrics(folder)):
        say(console, line)
    say(console, f"run folder: {folder}/index.html")
