"""The command line as a function of its arguments."""

import contextlib
import io
import sys
import types

import pytest

from fathomx.command_line import commands as cli


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs `fathomx ...` in an empty folder; returns the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["fathomx", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        printed = capsys.readouterr()
        return caught.value.code or 0, printed.out, printed.err

    return command


@pytest.fixture(scope="session")
def run_fathomx():
    """Runs `fathomx ...` in a folder, for fixtures that several tests share."""

    def command(*arguments, folder):
        out, err = io.StringIO(), io.StringIO()
        before = sys.argv
        sys.argv = ["fathomx", *map(str, arguments)]
        code = 0
        try:
            with (
                contextlib.chdir(folder),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                cli.main()
        except SystemExit as caught:
            code = caught.code or 0
        finally:
            sys.argv = before
        return types.SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())

    return command
