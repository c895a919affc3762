"""`fathomx reproduce`: published comparisons, whose tables and figures are made anew."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from fathomx.command_line.messages import say
from fathomx.command_line.options import check_text
from fathomx.experiments import EXPERIMENTS, Selection, reproduction


def _having(scale: str) -> str:
    """The experiments that can be this large."""
    return ", ".join(name for name, each in EXPERIMENTS.items() if scale in each.scales)


@click.command(
    help=f"""Runs a published comparison, NAME, and leaves its tables and figures.

    NAME is one of: {", ".join(EXPERIMENTS)}. Stopped with Ctrl-C, the same command continues where
    it was.
    """
)
@click.argument("name")
@click.option(
    "--scale",
    default="laptop",
    help=f"How large: laptop (two cores; deeper-pcns takes most of an hour, the others minutes), "
    f"desk (a night and more; {_having('desk')}), card (half an hour of an accelerator; "
    f"{_having('card')}) or paper (for an accelerator; "
    f"{_having('paper')}). [default: laptop]",
)
@click.option("--network", "networks", multiple=True, help="Only this network; may be repeated.")
@click.option("--method", "methods", multiple=True, help="Only this method; may be repeated.")
@click.option("--seed", "seeds", type=int, multiple=True, help="Only this seed; may be repeated.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of tables and figures; what it has already is not run again. "
    "[default: runs/NAME-SCALE]",
)
def reproduce(
    name: str,
    scale: str,
    networks: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    out: Path | None,
) -> None:
    console = Console()

    def tell(text: str) -> None:
        say(console, text)

    run = reproduction(name)
    if out is not None:
        check_text(out)
    table = run(
        scale, out or Path("runs") / f"{name}-{scale}", Selection(networks, methods, seeds), tell
    )
    tell(table.read_text(encoding="utf-8"))
    tell(f"table: {table}")
