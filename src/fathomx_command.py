"""Where the command `fathomx` begins: its table of contents, which needs nothing of the package.

Importing the package takes seconds, so that it waits until a command is run.
"""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

COMPLETION = "_FATHOMX_COMPLETE"


class Entry(NamedTuple):
    """What a command does, and where below `fathomx.command_line` it is, if not in its module."""

    about: str
    place: str = ""


TOPICS: dict[str, dict[str, Entry]] = {
    "Train": {
        "train": Entry("Trains a network and leaves a run folder with a page."),
        "compare": Entry("Trains a network by PC and by backprop, side by side."),
    },
    "Compare and search": {
        "seeds": Entry("Trains several seeds of some methods, and tests their differences."),
        "sweep": Entry("Searches options by validation, with any number of workers."),
    },
    "Look at what was trained": {
        "diagnose": Entry("Shows how well a network infers, and why or why not."),
        "evaluate": Entry("Scores a trained network, and says how sure that is."),
        "predict": Entry("Predicts from images, tables, arrays or texts in files."),
        "report": Entry("Makes one page of all runs in a folder."),
        "generate": Entry("Draws what a generative network makes of nothing.", "pictures:generate"),
        "complete": Entry("Draws test pictures, a hidden part filled in.", "pictures:complete"),
    },
    "Published results": {
        "reproduce": Entry("Makes the tables and figures of a comparison anew."),
    },
    "Find your way": {
        "list": Entry("Lists models, data, solvers, rules and more.", "listing:listing"),
        "doctor": Entry("Says what is installed and found, and tests it in seconds."),
        "completion": Entry("Prints what completes commands in bash, zsh or fish."),
    },
}
_ENTRIES = {name: entry for topic in TOPICS.values() for name, entry in topic.items()}

_EXAMPLES = """
\b
Examples:
  fathomx compare --epochs 5                      # PC beside backprop, 64 nodes, digits
  fathomx train --data mnist --model mlp --depth 128
  fathomx diagnose --run runs/mine                # is its inference at equilibrium?
  fathomx list solvers
"""


class Contents(click.Group):
    """The commands by topic; the module of one is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_ENTRIES)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _ENTRIES and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], _ENTRIES, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"no command {args[0]!r}.{hint} Choose from: {', '.join(_ENTRIES)}.")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ENTRIES:
            return None
        module, name = (_ENTRIES[cmd_name].place or f"{cmd_name}:{cmd_name}").split(":")
        found = getattr(importlib.import_module(f"fathomx.command_line.{module}"), name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _ENTRIES))
        for topic, entries in TOPICS.items():
            with formatter.section(topic):
                formatter.write_dl([(name.ljust(width), e.about) for name, e in entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=entry.about)
            for name, entry in _ENTRIES.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=Contents, invoke_without_command=True, epilog=_EXAMPLES)
@click.version_option(package_name="fathomx", prog_name="fathomx")
@click.pass_context
def commands(context: click.Context) -> None:
    """Deep predictive coding networks, relaxed to equilibrium and honest about it.

    `fathomx COMMAND --help` says what a command takes.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _needs_package(words: list[str]) -> bool:
    """Whether it is neither the table of contents that is wanted, nor a completion."""
    return words not in ([], ["--help"], ["--version"]) and COMPLETION not in os.environ


def main() -> None:
    """Runs the command line; the package is imported for a command alone."""
    if "--distributed" in sys.argv[1:]:
        from fathomx_supervision import SUPERVISED, supervise

        if SUPERVISED not in os.environ:
            sys.exit(supervise([sys.executable, "-m", "fathomx_command", *sys.argv[1:]]))
    # Ctrl-C in the middle of an import would print where that import was.
    before = signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    run: Any = lambda: commands.main(prog_name="fathomx")  # noqa: E731
    if _needs_package(sys.argv[1:]):
        from fathomx.command_line.commands import main as run

    signal.signal(signal.SIGINT, before)
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # What is left is to end, and a second signal would only print where.
        for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)


if __name__ == "__main__":
    main()
