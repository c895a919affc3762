"""`fx.load` of a run: its network, data and job, and the accuracy of its summary."""

import shutil

import pytest

import fathomx as fx
from fathomx.training import CheckpointError
from fathomx.training.scores import score


@pytest.fixture(scope="module")
def run_folder(run_fathomx, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    options = ["--epochs", "1", "--depth", "4", "--width", "16", "--take", "320"]
    run_fathomx("train", *options, "--out", "run", folder=folder)
    return folder / "run"


def test_a_run_is_loaded(run_folder):
    run = fx.load(run_folder)
    assert score(run.network, run.data.test)[1] == run.summary["test_accuracy"]
    assert run.job.depth == 4 and isinstance(run.job.rule(), fx.Equilibrium)
    relaxed = fx.infer(run.job.problem(run.network, run.data), run.job.solver())
    assert float(relaxed.unsettled.max()) < 1


def test_without_weights_there_is_no_network(run_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        fx.load(copy)
