"""The command line as a function of its arguments."""

import contextlib
import io
import os
import shutil
import sys
import types

import pytest
from filelock import FileLock

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


TAKE = ["--take", "64", "--epochs", "1", "--batch-size", "8"]
# Runs that tests of several files look at.
TRAINED = {
    "digits": ["--model", "mlp", "--depth", "3", "--width", "8", "--epochs", "1", "--batch-size",
               "8", "--learning", "backprop", "--take", "160"],
    "decoder": ["--model", "decoder", "--width", "8", *TAKE],
    "bidirectional": ["--model", "bidirectional", "--width", "8", *TAKE],
}  # fmt: skip


@pytest.fixture(scope="session")
def trained(tmp_path_factory, run_fathomx):
    """Copies a run of `TRAINED` into a folder, under its name.

    Each is trained once, by the process of tests that asks first.
    """
    kept = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        kept = kept.parent

    def copy(name, folder):
        with FileLock(kept / f"{name}.lock"):
            if not (kept / "trained" / name).exists():
                (kept / "anew").mkdir(exist_ok=True)
                found = run_fathomx("train", *TRAINED[name], "--out", name, folder=kept / "anew")
                assert found.returncode == 0, found.stderr
                (kept / "trained").mkdir(exist_ok=True)
                (kept / "anew" / name).rename(kept / "trained" / name)
        shutil.copytree(kept / "trained" / name, folder / name)

    return copy


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
