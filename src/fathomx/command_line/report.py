"""`fathomx report`: one page for all runs in a folder."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from fathomx.command_line.messages import say
from fathomx.report.overview import overview


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
def report(folder: Path) -> None:
    """Makes one page of all runs in FOLDER: a table to sort and filter, and their curves.

    FOLDER is runs unless given. The page, runs.html in it, needs no server.
    """
    console = Console()
    page, left_out = overview(folder)
    for sentence in left_out:
        say(console, sentence)
    say(console, f"page: {page}")
