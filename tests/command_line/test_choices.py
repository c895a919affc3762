"""Optimizers, averages and early stopping on the command line, to the weights that are loaded."""

import json
import re

import pytest

import fathomx as fx
from fathomx.command_line.job import Job
from fathomx.learning.optimizer_choice import OptimizerChoice
from fathomx.records.run_files import RunFiles
from fathomx.training.scores import score

SIZES = ("--depth", "4", "--width", "16", "--take", "320")
CHOSEN = (
    *("--optimizer", "muon", "--learning-rate", "0.2", "--warm-up", "0.2", "--clip", "5"),
    *("--weight-decay", "0.01", "--average", "0.8", "--validate-every", "2"),
    *("--early-stopping", "1", "--early-stopping-metric", "accuracy", "--epochs", "12"),
)


@pytest.fixture(scope="module")
def chosen(run_fathomx, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    done = run_fathomx("train", *SIZES, *CHOSEN, "--out", "run", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout


def test_the_weights_of_the_best_epoch_are_loaded_and_have_its_scores(chosen):
    run = fx.load(chosen[0])
    best, epochs = run.summary["best_epoch"], run.summary["epochs"]
    assert score(run.network, run.data.test)[1] == run.summary["test_accuracy"]
    loss, accuracy = score(run.network, run.data.validation)
    history = RunFiles(chosen[0]).epochs
    assert (loss, accuracy) == tuple(
        history[best - 1][f"validation_{name}"] for name in ("loss", "accuracy")
    )
    assert accuracy == max(record["validation_accuracy"] for record in history)
    assert len(history) == epochs <= 12
    assert ("ended" in run.summary) == (best == epochs - 1 and epochs < 12)


def test_page_and_console_say_which_weights_these_are(chosen):
    folder, printed = chosen
    summary = RunFiles(folder).summary
    page = (folder / "index.html").read_text()
    best = f"The weights are those of epoch {summary['best_epoch']}, the best of"
    assert best in page and best in " ".join(printed.split())
    assert "averages over the steps (decay 0.8)" in page
    assert re.search(r"epoch 1/12\s+step 2/5\s+validation accuracy", printed)
    config = json.loads((folder / "config.json").read_text())
    assert "--optimizer muon" in config["command"] and "--average 0.8" in config["command"]


def test_points_within_epochs_are_on_record(chosen):
    run = RunFiles(chosen[0])
    steps, _ = run.validation("validation_accuracy")
    assert steps[:6].tolist() == [2, 4, 5, 7, 9, 10]
    assert len(steps) == 3 * run.summary["epochs"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--optimizer", "adm"), "unknown optimizer 'adm'. Did you mean 'adam'"),
        (("--momentum", "0.9"), "optimizer 'adam' has no momentum"),
        (("--optimizer", "sgd"), "optimizer 'sgd' needs a learning rate of its own"),
        (("--early-stopping", "0"), "--early-stopping must be at least 1"),
        (
            ("--early-stopping", "2", "--early-stopping-metric", "energy"),
            "looks at 'energy', but validation is scored by 'loss', 'accuracy'",
        ),
        (
            ("--early-stopping", "2", "--early-stopping-metric", "f2"),
            "unknown --early-stopping-metric 'f2'. Did you mean 'r2'? Choose from: loss, ",
        ),
        (("--early-stopping-metric", "loss"), "give --early-stopping, too"),
        (("--model", "decoder", "--early-stopping", "2"), "scored by 'reconstruction_error'"),
        (("--accumulate", "6"), "accumulate is 6, but an epoch has 5 batches"),
        (("--accumulate", "2", "--learning", "incremental"), "leave out accumulate"),
        (("--average", "1"), "average must be a number above 0 and below 1"),
        (("--validate-every", "5"), "--validate-every is 5, but an epoch has 5 steps"),
        (("--warm-up", "99"), "--warm-up takes 99 of 75 updates"),
        (("--clip", "0"), "clip must be a positive"),
        (("--offload",), "give rematerialize, too"),
        (("--shard-weights",), "give --data-parallel of at least 2, too"),
        (
            ("--data-parallel", "2", "--shard-weights", "--depth", "40", "--width", "5"),
            "of the weights only: a matrix needs an axis that is a multiple of 2",
        ),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_what_cannot_be_is_told_before_a_folder_is_made(run, tmp_path, options, words):
    code, _, err = run("train", *SIZES, *options, "--out", "run")
    assert code == 1 and words in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_decay_belongs_to_the_model_unless_it_is_given():
    assert Job(optimizer="adamw").weight_decay == 0.01
    assert Job(model="decoder", optimizer="adamw").weight_decay == 2.0
    assert Job(model="decoder", optimizer="adamw", weight_decay=0.0).weight_decay == 0.0
    assert Job(model="decoder").weight_decay is None and Job().weight_decay is None


def test_a_model_that_decays_does_so_under_other_choices_too(monkeypatch):
    made = []
    real = OptimizerChoice.make
    monkeypatch.setattr(OptimizerChoice, "make", lambda c, n: made.append(c) or real(c, n))
    job = Job(model="decoder", clip=1.0)
    job.optimizer_for(job.load())
    (choice,) = made
    assert (choice.optimizer, choice.weight_decay, choice.clip) == ("adamw", 2.0, 1.0)


def test_settings_of_earlier_versions_are_those_of_today():
    config = Job(depth=4).config()
    older = {k: v for k, v in config.items() if k not in NEW}
    assert len(older) == len(config) - len(NEW)
    assert Job.from_config(older) == Job(depth=4)


NEW = (
    *("optimizer", "learning_rate_schedule", "warm_up", "momentum", "weight_decay", "clip"),
    *("accumulate", "average", "validate_every", "early_stopping", "early_stopping_metric"),
)
