"""The command line as it runs: one line for whatever goes wrong in a command."""

from __future__ import annotations

import sys

import click
import jax

from fathomx.command_line.messages import as_options, say_mistake
from fathomx.command_line.runtime import prepare
from fathomx.command_line.stopping import Stopped, never_ended_by_printing, stopped_by_signals
from fathomx.command_line.supervised import begin, leave
from fathomx.data import DataError
from fathomx.graph.processes import ProcessError
from fathomx.records.writing import remedy
from fathomx.training import CheckpointError, DivergenceError, RunFolderError
from fathomx_command import commands as commands

_EXPECTED = (
    ValueError,
    DataError,
    CheckpointError,
    DivergenceError,
    RunFolderError,
    ProcessError,
    MemoryError,
    ImportError,
    ConnectionError,
)
_LARGEST_MESSAGE = 200


def main() -> None:
    """Runs the command line; whatever goes wrong is one line, without a traceback."""
    begin()
    prepare()
    never_ended_by_printing()
    try:
        with stopped_by_signals():
            code = _run()
    except Stopped as stopped:
        code = stopped.code
    except KeyboardInterrupt:
        code = 130
    leave(code if isinstance(code, int) else 0)
    sys.exit(code if isinstance(code, int) else 0)


def _run() -> int:
    """The exit code of the command that was given."""
    try:
        code = commands.main(prog_name="fathomx", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except click.Abort as error:
        raise error.__context__ or KeyboardInterrupt from None
    except _EXPECTED as error:
        return _fail(as_options(str(error)))
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).strip().splitlines()[0][:_LARGEST_MESSAGE]
        return _fail(f"{reason} - if memory ran out, use a smaller width, depth or batch size.")
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{place}; {remedy(error.errno)}.")


def _fail(message: str, code: int = 1) -> int:
    say_mistake(message)
    return code
