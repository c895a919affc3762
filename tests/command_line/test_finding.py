"""What helps to find one's way: help by topic, lists, completion, the doctor."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import fathomx as fx
import fathomx_command
from fathomx.command_line import doctor as doctor_module
from fathomx.command_line import listing
from fathomx.command_line.choices import RULES, SOLVERS
from fathomx.command_line.messages import as_options
from fathomx.command_line.models import MODELS
from fathomx.experiments import EXPERIMENTS


def test_help_comes_without_the_package():
    """Imports take seconds; neither help nor version nor completion of commands needs any."""
    for words in (["--help"], ["--version"], []):
        program = (
            "import sys, fathomx_command\n"
            f"sys.argv = ['fathomx', *{words}]\n"
            "try: fathomx_command.main()\n"
            "except SystemExit as end: assert not end.code\n"
            "assert not {'jax', 'numpy', 'fathomx'} & set(sys.modules), sys.modules\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("train" in done.stdout) == (words != ["--version"])


def test_the_table_of_contents_is_that_of_the_commands():
    group = fathomx_command.commands
    names = [name for topic in fathomx_command.TOPICS.values() for name in topic]
    assert group.list_commands(None) == names and len(set(names)) == len(names)
    for name in names:
        command = group.get_command(None, name)
        assert command.name == name and command.help
    shown = CliRunner().invoke(group, ["--help"]).output
    for topic, entries in fathomx_command.TOPICS.items():
        assert f"{topic}:" in shown
        for name, entry in entries.items():
            assert f"  {name} " in shown and entry.about in " ".join(shown.split())


def test_a_command_that_does_not_exist(run):
    code, out, err = run("trian")
    assert (code, out) == (2, "")
    assert err.startswith("error: no command 'trian'. Did you mean 'train'? Choose from: train, ")


def test_lists(run):
    code, out, err = run("list")
    assert (code, err) == (0, "")
    for name in (*MODELS, *SOLVERS, *RULES, "backprop", *EXPERIMENTS, *fx.data.names()):
        assert f"\n  {name} " in out, name
    code, out, err = run("list", "solvers")
    assert (code, err) == (0, "") and "--inference" in out and "residual-mlp" not in out
    code, out, err = run("list", "solver")
    assert code == 1 and "unknown kind 'solver'. Did you mean 'solvers'?" in err


def test_every_name_has_a_line():
    for kind, (_, lines) in listing._KINDS.items():
        if kind != "activations":
            for name, line in lines().items():
                assert len(line) > 15, (kind, name, line)


def test_descriptions_and_whereabouts(monkeypatch, tmp_path):
    assert tuple(fx.data.descriptions()) == fx.data.names()
    (tmp_path / "mnist").mkdir()
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "train_32x32.mat").touch()
    monkeypatch.setenv("FATHOMX_DATA", str(tmp_path))
    monkeypatch.setattr("fathomx.data._named._cache_folder", lambda: tmp_path / "cache")
    places = fx.data.whereabouts()
    assert places["svhn"] == tmp_path / "svhn"
    assert places["mnist"] is None and places["cifar10"] is None
    assert "digits" not in places and "wine" not in places


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run, shell):
    code, out, err = run("completion", shell)
    assert (code, err) == (0, "") and "_FATHOMX_COMPLETE" in out
    group = fathomx_command.commands
    found = group.shell_complete(click.Context(group), "com")
    assert [item.value for item in found] == ["compare", "complete", "completion"]


def test_the_doctor(run, monkeypatch):
    """It relaxes and trains a network, and fails where that does not come out as it must."""
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    for word in ("jax ", "devices", "cache", "figures", "FATHOMX_DATA", "all is well"):
        assert word in out
    monkeypatch.setattr(doctor_module, "_SETTLED", 1e-9)
    code, out, err = run("doctor")
    assert code == 1 and "NOT as it must be" in out


def test_sentences_name_options_as_the_command_line_does():
    said = as_options("batch_size is 5 of 'batch_size' in runs/batch_size.csv; give batch_size=4.")
    assert said == ("--batch-size is 5 of 'batch_size' in runs/batch_size.csv; give batch_size=4.")
    assert as_options("leave out image_size.") == "leave out --image-size."
