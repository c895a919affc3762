"""The command line as a function of its arguments."""

import sys

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
