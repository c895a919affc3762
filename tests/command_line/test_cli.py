"""The command line: what it leaves behind, and one line for every mistake."""

import dataclasses
import gc
import gzip
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from fathomx.command_line.job import Job
from fathomx.command_line.settings import option_name
from fathomx.data import Dataset, Part, load
from fathomx.training import RunFolder, fit
from fathomx.training.checkpoints import Checkpoints

SMALL = ["--depth", "4", "--width", "8", "--batch-size", "32"]
BACKPROP = [*SMALL, "--learning", "backprop"]
# Runs with the same options share their compiled programs.
LEARNING = [*SMALL, "--epochs", 2, "--strength", "0.5"]
PROGRAM = [sys.executable, "-c", "from fathomx.command_line.commands import main; main()"]
FIGURES = {
    "learning_curves.png",
    "energy_per_node.png",
    "energy_over_training.png",
    "alignment_per_node.png",
    "strength_and_settledness.png",
}
TIMES = ("train_seconds", "first_step_seconds", "step_seconds_median")


def strict(path):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def untimed(summary):
    return {name: value for name, value in summary.items() if name not in TIMES}


def checkpoint(folder):
    """The arrays of the newest checkpoint, read without the package."""
    import orbax.checkpoint

    newest = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name))
    with orbax.checkpoint.StandardCheckpointer() as reader:
        found = reader.restore((newest / "default").absolute())
    return {name: np.asarray(array) for name, array in found.items()}


@pytest.fixture
def few_digits(monkeypatch):
    """The digits with 100 training examples only."""
    few = load("digits").take(100)
    monkeypatch.setattr(Job, "load", lambda self: few)


def refused(run, folder, *arguments):
    """The one line about a mistake, which leaves the folder as it was."""
    before = sorted(folder.rglob("*"))
    code, out, err = run(*arguments)
    assert code not in (0, 130)
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err
    assert sorted(folder.rglob("*")) == before
    return err


@pytest.mark.usefixtures("few_digits")
def test_a_stopped_comparison_continues(run, tmp_path, monkeypatch):
    """Stopped in the second run: the first is not repeated, the second ends as if never stopped."""
    assert run("compare", *LEARNING, "--out", "whole")[0] == 0
    epochs = 0
    ended = RunFolder.epoch_ended

    def stop(self, record, state):
        nonlocal epochs
        ended(self, record, state)
        epochs += 1
        if epochs == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "epoch_ended", stop)
        code, out, _ = run("compare", *LEARNING, "--out", "stopped")
    assert code == 130
    assert "fathomx compare --resume stopped" in out
    first = (tmp_path / "stopped" / "predictive-coding" / "summary.json").read_bytes()
    assert "leave out" in run("compare", "--resume", "stopped", "--depth", 5)[2]
    assert run("compare", "--resume", "stopped")[0] == 0
    assert (tmp_path / "stopped" / "predictive-coding" / "summary.json").read_bytes() == first
    whole, stopped = (strict(tmp_path / n / "comparison.json") for n in ("whole", "stopped"))
    for name, summary in whole.items():
        assert untimed(summary) == untimed(stopped[name])


# What it leaves behind


@pytest.mark.usefixtures("few_digits")
def test_train_writes_the_whole_folder(run, tmp_path):
    code, out, err = run("train", *LEARNING, "--out", "runs/one")
    assert (code, err) == (0, "")
    folder = tmp_path / "runs" / "one"
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "inference.json",
        "index.html",
        "checkpoints",
        "figures",
    }
    assert {path.name for path in (folder / "figures").iterdir()} == FIGURES
    for path in (folder / "figures").iterdir():
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    config, summary = strict(folder / "config.json"), strict(folder / "summary.json")
    asked = Job(depth=4, width=8, batch_size=32, epochs=2, strength=0.5)
    assert {name: config[name] for name in asked.config()} == asked.config()
    assert set(summary) >= {
        "test_accuracy",
        "train_seconds",
        "first_step_seconds",
        "step_seconds_median",
        "unsettled",
        "cosine_to_backprop",
        "pc_strength",
        "depth",
        "parameters",
        "seed",
        "versions",
    }
    assert summary["depth"] == 4
    assert summary["parameters"] == 64 * 8 + 2 * 64 + 8 * 10
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records if r["kind"] == "epoch"] == [1, 2]
    assert sum(len(r["loss"]) for r in records if r["kind"] == "steps") == 2 * (100 // 32)
    page = (folder / "index.html").read_text()
    assert all(f"figures/{name}" in page for name in FIGURES)
    # The accuracy that the page and the terminal show is the one in the summary.
    accuracy = f"{100 * summary['test_accuracy']:.2f}%"
    assert accuracy in page
    assert accuracy in out
    assert "runs/one/index.html" in out
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"]
    inference = strict(folder / "inference.json")
    assert inference["labels"] == ["first", "hidden[0]", "hidden[1]", "output"]
    for moment in ("before", "after"):
        energies = np.array(inference[moment]["energy"])
        assert energies.shape[1] == 4
        # Inference starts at the feedforward pass, and never raises the energy.
        np.testing.assert_array_equal(energies[0, :3], 0)
        assert (np.diff(energies.sum(axis=1)) <= 0).all()


def test_a_transformer_trains_on_a_text_and_writes_on(run, tmp_path):
    """From a file of one's own; other mistakes of text are one line."""
    (tmp_path / "novel.txt").write_text("The sun rose. The moon set. " * 40)
    model = ["--model", "transformer", "--data", "novel.txt", "--width", "8"]
    small = [*model, "--context", "8", "--heads", "2", "--depth", "1", "--steps", "1"]
    code, out, err = run("train", *small, "--epochs", 2, "--out", "out")
    assert (code, err) == (0, "")
    folder = tmp_path / "out"
    summary = strict(folder / "summary.json")
    # In nats per character: no worse than knowing nothing of 15 of them.
    assert 0 < summary["test_loss"] < 1.1 * np.log(15)
    assert f"{summary['test_loss']:.4f} nats per token" in out
    sample = (folder / "sample.txt").read_text()
    assert len(sample) == 8 + 300 + 1
    assert sample.strip() in out and "A sample" in (folder / "index.html").read_text()
    assert (folder / "figures" / "learning_curves.png").exists()
    for options, words in (
        (["--heads", "3", "--context", "8"], ["3 heads", "width of 8"]),
        (["--context", "500"], ["novel.txt", "context=500"]),
    ):
        message = refused(run, tmp_path, "train", *model, *options, "--out", "another")
        assert all(word in message for word in words), message
    # Of the same characters and as long, so that nothing but its order tells it from the other.
    (tmp_path / "novel.txt").write_text("The moon set. The sun rose. " * 40)
    for command in (["train", "--resume", "out"], ["diagnose", "--run", "out", "--out", "seen"]):
        message = refused(run, tmp_path, *command)
        assert "novel.txt is not the text any more that the run in out was trained on" in message


def test_a_transformer_of_subwords(run, tmp_path):
    """Learned from the training part, told from others at a resume; other tokens are one line."""
    (tmp_path / "novel.txt").write_text("The sun rose. The moon set. " * 120)
    model = ["--model", "transformer", "--data", "novel.txt", "--width", "8", "--depth", "1"]
    small = [*model, "--context", "4", "--heads", "2", "--learning", "backprop", "--epochs", "1"]
    code, out, err = run("train", *small, "--tokens", "264", "--batch-size", 4, "--out", "out")
    assert (code, err) == (0, "")
    assert "begun by 4 tokens of the validation text" in out
    summary = strict(tmp_path / "out" / "summary.json")
    assert 0 < summary["test_loss"] < 1.1 * np.log(264)
    config = strict(tmp_path / "out" / "config.json")
    assert config["tokens"] == "264" and "--tokens 264" in config["command"]
    for tokens in ("256", "-300", "none.json", "many"):
        message = refused(run, tmp_path, "train", *small, "--tokens", tokens, "--out", "another")
        assert "number of subwords of at least 257" in message and tokens in message
    message = refused(run, tmp_path, "train", "--tokens", "264", "--out", "another")
    assert "'residual-mlp' has no tokens" in message
    (tmp_path / "novel.txt").write_text("The sun set. The moon rose. " * 120)
    message = refused(run, tmp_path, "train", "--resume", "out")
    assert "novel.txt is not the text any more that the run in out was trained on" in message
    (tmp_path / "novel.txt").unlink()
    message = refused(run, tmp_path, "train", "--resume", "out")
    assert "novel.txt, which the run in out was trained on, is not there any more" in message


def test_a_folder_of_images_is_trained_on_and_known_again(run, tmp_path):
    rng = np.random.default_rng(0)
    for kind, shade in (("day", 200), ("night", 50)):
        (tmp_path / "sky" / kind).mkdir(parents=True)
        for number in range(10):
            pixels = np.clip(rng.normal(shade, 20, (4, 6, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "sky" / kind / f"{number}.png")
    images = [*("--data", "sky", "--image-size", "3"), *("--depth", "2", "--width", "4")]
    options = [*images, *("--epochs", "2", "--batch-size", "4", "--learning", "backprop")]
    code, out, _ = run("train", *options, "--out", "out")
    assert code == 0 and "sky (16 training examples)" in out
    config = strict(tmp_path / "out" / "config.json")
    assert config["image_size"] == 3 and len(config["images_sha256"]) == 64
    Image.fromarray(pixels).save(tmp_path / "sky" / "day" / "new.png")
    message = refused(run, tmp_path, "train", "--resume", "out")
    assert "sky is not the folder of images any more that the run in out was trained on" in message
    (tmp_path / "sky" / "day" / "new.png").write_bytes(b"no image")
    message = refused(run, tmp_path, "train", *options, "--out", "other")
    assert "the image day/new.png in sky cannot be read" in message


@pytest.mark.usefixtures("few_digits")
def test_the_command_in_the_folder_repeats_the_run(run, tmp_path):
    options = [*BACKPROP, "--epochs", 1, "--learning-rate", "0.02", "--seed", "3"]
    assert run("train", *options, "--out", "one")[0] == 0
    words = strict(tmp_path / "one" / "config.json")["command"].split()
    assert words[0] == "fathomx"
    assert run(*words[1:], "--out", "two")[0] == 0
    one, two = (strict(tmp_path / name / "summary.json") for name in ("one", "two"))
    assert untimed(one) == untimed(two)
    pages = {path.name for path in (tmp_path / "one" / "figures").iterdir()}
    assert pages == {"learning_curves.png"}


@pytest.mark.usefixtures("few_digits")
def test_compare_sets_two_runs_side_by_side(run, tmp_path):
    code, out, err = run("compare", *LEARNING, "--out", "both")
    assert (code, err) == (0, "")
    folder = tmp_path / "both"
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "predictive-coding",
        "backprop",
        "comparison.json",
        "index.html",
        "figures",
    }
    comparison = strict(folder / "comparison.json")
    assert list(comparison) == ["predictive-coding", "backprop"]
    for name, summary in comparison.items():
        assert summary == strict(folder / name / "summary.json")
        assert (folder / name / "index.html").exists()
        assert f"{summary['test_accuracy']:.4f}" in out
    ours, theirs = (strict(folder / name / "config.json") for name in comparison)
    differing = {name for name in ours if ours[name] != theirs[name]} - {"command"}
    assert differing == {"learning", "strength", "steps"}
    assert (ours["learning"], theirs["learning"]) == ("equilibrium", "backprop")
    assert comparison["predictive-coding"]["pc_strength"] == pytest.approx(0.5, rel=0.4)
    assert comparison["backprop"]["cosine_to_backprop"] == pytest.approx(1, abs=1e-5)
    assert "both/index.html" in out


def test_help_tells_every_option_and_default(run):
    for command in ("train", "compare", "diagnose"):
        code, out, err = run(command, "--help")
        assert (code, err) == (0, "")
        words, unbroken = " ".join(out.split()), "".join(out.split())
        for field in dataclasses.fields(Job):
            option = f"--{option_name(field)} "
            if command == "diagnose" and field.metadata["training"]:
                assert option not in words
                continue
            assert option in words
            if field.default is not None:
                assert f"[default: {field.default}]" in words
            for choice in field.metadata["choices"] or ():
                assert choice in unbroken
        assert "--out " in words
        assert "[default:0.1,byequilibrium-propagation0.01]" in unbroken
        assert "--auxiliary / --no-auxiliary" in words
        assert "[default: 64 for residual-mlp and mlp, 10 for vgg and resnet, " in words
    code, out, _ = run("--help")
    assert code == 0
    for command in ("train", "compare", "diagnose"):
        assert command in out


# Mistakes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dpeth", "8"], ["--dpeth", "--depth"]),
        (["--activation", "gleu"], ["gleu", "'gelu'"]),
        (["--data", "digit"], ["'digit'", "'digits'"]),
        (["--model", "residual_mlp"], ["residual_mlp", "'residual-mlp'"]),
        (["--inference", "newtn"], ["newtn", "'newton'"]),
        (["--learning", "back-prop"], ["back-prop", "'backprop'"]),
        (["--parameterization", "MuPC"], ["MuPC", "'mupc'"]),
        (["--depth", "1"], ["depth", "at least 2", "1"]),
        (["--depth", "deep"], ["--depth", "deep"]),
        (["--depth"], ["--depth"]),
        (["--width", "0"], ["width", "at least 1"]),
        (["--width", "1.5"], ["width", "whole number", "1.5"]),
        (["--width", "inf"], ["width", "inf"]),
        (["--model", "vgg", "--width", "0"], ["width", "positive", "'vgg'"]),
        (["--model", "vgg"], ["8", "halve"]),
        (["--model", "resnet", "--depth", "11"], ["depth", "11"]),
        (["--normalization", "batch"], ["residual-mlp", "normalization", "'vgg' or 'resnet'"]),
        (["--model", "vgg", "--no-auxiliary"], ["'vgg'", "auxiliary", "'resnet'"]),
        (["--heads", "2"], ["residual-mlp", "heads", "'transformer'"]),
        (["--model", "residual-cnn", "--depth", "10"], ["residual-cnn", "8, 11", "10"]),
        (["--model", "transformer", "--data", "digits"], ["reads text", "'tiny-shakespeare'"]),
        (["--data", "tiny-shakespeare"], ["is text", "'residual-mlp'", "'transformer'"]),
        (["--data", "novel.txt"], ["novel.txt", "no file", "tiny-shakespeare"]),
        (["--data", "diabetes", "--model", "vgg"], ["'regression'", "'vgg'", "'residual-mlp'"]),
        (["--data", "diabetes", "--task", "classification"], ["'regression'", "leave out task"]),
        (["--data", "diabetes", "--task", "regresion"], ["task", "'regression'"]),
        (["--data", "diabetes", "--metrics", "rsme"], ["'rsme'", "Did you mean 'rmse'"]),
        (["--data", "diabetes", "--metrics", "rmse,accuracy"], ["'accuracy'", "mse, rmse, mae"]),
        (["--model", "decoder", "--metrics", "rmse"], ["'decoder'", "metrics"]),
        (["--target", "price"], ["target", "'digits'", ".csv"]),
        (["--data", "digits", "--image-size", "8"], ["--image-size", "'digits'", "folder"]),
        (["--image-size", "8"], ["--image-size", "folder"]),
        (["--data", ".", "--image-size", "0"], ["--image-size", "at least 1"]),
        (["--data", "."], ["holds no folder of images", "cat/1.png"]),
        (["--model", "transformer", "--context", "0"], ["context", "at least 1"]),
        (["--schedule", "spiking"], ["gauss-newton", "schedule", "'state-descent'"]),
        (["--inference", "newton", "--steps", "3"], ["newton", "steps", "'state-descent'"]),
        (["--activity-rate", "0.1"], ["gauss-newton", "--activity-rate"]),
        (["--inference", "state-descent", "--steps", "0"], ["steps", "at least 1"]),
        (["--inference", "state-descent", "--activity-rate", "-1"], ["--activity-rate", "-1"]),
        (
            ["--inference", "state-descent", "--schedule", "spiking", "--steps", "63"],
            ["64 inference steps", "63"],
        ),
        (
            ["--learning", "backprop", "--inference", "state-descent", "--steps", "3"],
            ["backprop", "steps"],
        ),
        (["--learning", "incremental", "--inference", "newton"], ["incremental", "newton"]),
        (["--take", "0"], ["take", "at least 1"]),
        (["--take", "5000"], ["5000", "1257"]),
        (["--epochs", "0"], ["epochs", "at least 1"]),
        (["--batch-size", "0"], ["--batch-size", "at least 1"]),
        (["--learning-rate", "nan"], ["--learning-rate", "nan"]),
        (["--learning-rate", "-1"], ["--learning-rate", "-1"]),
        (["--output-precision", "inf"], ["--output-precision", "inf"]),
        (["--strength", "0"], ["strength", "0"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--strength", "0.1", "--output-precision", "1"], ["strength", "--output-precision"]),
        (["--inference", "exact"], ["exact", "linear"]),
        (["--batch-size", "2000"], ["2000", "1257", "--batch-size"]),
        (["surprise"], ["surprise"]),
    ],
    ids=" ".join,
)
def test_a_mistake_in_the_options_is_one_line(run, tmp_path, options, words):
    message = refused(run, tmp_path, "train", *options, "--out", "out")
    for word in words:
        assert word in message


def test_compare_checks_its_options_too(run, tmp_path):
    assert "'gelu'" in refused(run, tmp_path, "compare", "--activation", "gleu", "--out", "out")
    assert "2000" in refused(run, tmp_path, "compare", "--batch-size", "2000", "--out", "out")
    message = refused(run, tmp_path, "compare", "--learning", "backprop", "--out", "out")
    assert "backprop" in message


def test_an_unknown_command_names_the_nearest(run, tmp_path):
    assert "train" in refused(run, tmp_path, "trian")


@pytest.mark.parametrize("command", ["train", "compare"])
def test_an_existing_folder_is_left_alone(run, tmp_path, command):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    message = refused(run, tmp_path, command, *SMALL, "--out", "out")
    assert "out exists already" in message


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_truncated_data_file(run, tmp_path, monkeypatch, name):
    folder = tmp_path / "data" / name
    folder.mkdir(parents=True)
    content = gzip.compress(b"\0\0\x08\x03" + bytes(1000))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(content[:-7])
    monkeypatch.setenv("FATHOMX_DATA", str(tmp_path / "data"))
    message = refused(run, tmp_path, "train", *SMALL, "--data", name, "--out", "out")
    assert "train-images-idx3-ubyte.gz" in message
    assert "corrupted or truncated" in message


def test_diverging_is_one_line(run, tmp_path):
    code, _, err = run("train", *BACKPROP, "--learning-rate", "1e30", "--out", "out")
    assert code not in (0, 130)
    assert len(err.strip().splitlines()) == 1
    assert "diverged" in err
    assert "step 2" in err
    assert not (tmp_path / "out" / "summary.json").exists()


def test_the_figures_stay_whole_when_the_disk_is_full(run, tmp_path, monkeypatch):
    """The page fails after the numbers were written: they stay, and no half of a page does."""
    import errno
    import os

    def full(source, target):
        if str(target).endswith((".png", ".html")):
            os.unlink(source)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "replace", full)
    code, _, err = run("train", *BACKPROP, "--epochs", 1, "--out", "out")
    assert code not in (0, 130)
    assert len(err.strip().splitlines()) == 1
    assert "No space left on device" in err
    strict(tmp_path / "out" / "summary.json")
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".png", ".html")]
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]


# Stopped and continued


@pytest.fixture
def stopped(run, few_digits, tmp_path, monkeypatch):
    """`stopped`, a run of three epochs that was interrupted at the end of the second one."""
    save = Checkpoints.save

    def stopping(self, state, position):
        save(self, state, position)
        if int(state.epoch) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", stopping)
        code, out, err = run("train", *BACKPROP, "--epochs", 3, "--out", "stopped")
    assert code == 130
    assert "Traceback" not in err
    assert "fathomx train --resume stopped" in out + err
    return tmp_path / "stopped"


def test_resume_with_another_configuration(run, stopped):
    message = refused(run, stopped, "train", "--resume", "stopped", "--width", "9")
    assert "width 8 -> 9" in message


def test_resume_with_out(run, stopped):
    message = refused(run, stopped, "train", "--resume", "stopped", "--out", "other")
    assert "--out" in message


def test_resume_with_a_mistake(run, stopped):
    assert "--depth" in refused(run, stopped, "train", "--resume", "stopped", "--dpeth", "3")


def test_resume_where_no_run_is(run, tmp_path):
    assert "nowhere" in refused(run, tmp_path, "train", "--resume", "nowhere")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"depth": "four"}', '{"depth": 4, "model": null}'], ids=repr
)
def test_resume_with_a_damaged_configuration(run, stopped, text):
    (stopped / "config.json").write_text(text)
    assert "config" in refused(run, stopped, "train", "--resume", "stopped")


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json", "checkpoints", "figures"])
def test_resume_with_a_folder_where_a_file_belongs_or_the_reverse(run, stopped, name):
    path = stopped / name
    if path.is_dir():
        shutil.rmtree(path)
    if path.is_file() or name == "summary.json":
        path.unlink(missing_ok=True)
        path.mkdir()
    else:
        path.write_text("")
    message = refused(run, stopped, "train", "--resume", "stopped")
    assert name in message and "move it away" in message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("which", ["**/*", "*METADATA"], ids=["all files", "metadata"])
def test_resume_with_a_damaged_checkpoint(run, stopped, caplog, which):
    newest = max((stopped / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for path in newest.glob(which):
        if path.is_file():
            path.write_bytes(b"damaged")
    code, out, err = run("train", "--resume", "stopped")
    # What is logged at the level of errors reaches the terminal too.
    assert [record.getMessage() for record in caplog.records] == []
    assert (code, err) == (0, "")
    said = [line for line in out.splitlines() if "is damaged" in line]
    # The arrays may be whole without the metadata.
    assert said or which == "*METADATA"
    for line in said[:1]:
        assert f"the checkpoint at step {newest.name} in" in line
        assert "the run goes on from step" in line
    assert (stopped / "summary.json").exists()
    # What Orbax leaves open when it fails is not ours to close, nor other tests' to be warned of.
    gc.collect()


def test_resume_goes_to_the_same_end_and_no_further(run, stopped, tmp_path):
    assert run("train", "--resume", "stopped")[0] == 0
    assert run("train", *BACKPROP, "--epochs", 3, "--out", "whole")[0] == 0
    summaries = [untimed(strict(tmp_path / n / "summary.json")) for n in ("stopped", "whole")]
    assert summaries[0] == summaries[1]
    one, other = checkpoint(stopped), checkpoint(tmp_path / "whole")
    assert set(one) == set(other)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert {path.name for path in stopped.iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    assert "has ended" in refused(run, stopped, "train", "--resume", "stopped")
    # Older weights than those of the end are not diagnosed in silence.
    last = max((stopped / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.move(last, tmp_path / "last")
    message = refused(run, tmp_path, "diagnose", "--run", "stopped", "--out", "seen")
    assert "the last checkpoint in stopped is gone; delete summary.json" in message
    shutil.move(tmp_path / "last", last)
    # As a process leaves it that is killed while it draws a figure again.
    (left := stopped / "figures" / ".learning_curves.png.1.tmp").touch()
    assert "has ended" in run("train", "--resume", "stopped")[2]
    assert not left.exists()


def test_sigint_in_a_real_process(run, tmp_path):
    """Ctrl-C: exit code 130, how to continue, and the same weights after continuing."""
    options = [*BACKPROP, "--epochs", "40", "--out"]
    # A process that was started in the background may have been told to ignore Ctrl-C.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    python, flag, program = PROGRAM
    process = subprocess.Popen(
        [python, flag, heed + program, "train", *options, "stopped"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    deadline = time.monotonic() + 100
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and '"epoch": 1' in metrics.read_text():
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    assert "fathomx train --resume stopped" in out + err
    assert not (tmp_path / "stopped" / "summary.json").exists()
    assert run("train", "--resume", "stopped")[0] == 0

    job = Job(depth=4, width=8, batch_size=32, learning="backprop", epochs=40)
    data = job.load()
    whole = fit(
        job.network(data),
        data,
        job.rule(),
        optimizer=job.optimizer_for(data),
        epochs=40,
        batch_size=32,
        seed=0,
    )
    summary = strict(tmp_path / "stopped" / "summary.json")
    summary.pop("versions")
    assert untimed(summary) == untimed(whole.summary)
    found = {array.tobytes() for array in checkpoint(tmp_path / "stopped").values()}
    hidden = whole.network.entries[2].block.branch.linear.weight
    assert np.asarray(hidden).tobytes() in found


def test_exit_codes_of_a_real_process(tmp_path):
    wrong = subprocess.run(
        [*PROGRAM, "train", "--activation", "gleu", "--out", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert wrong.returncode == 1
    assert wrong.stdout == ""
    assert len(wrong.stderr.strip().splitlines()) == 1
    assert "'gelu'" in wrong.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits on Windows")
def test_a_full_disk_in_a_real_process(tmp_path):
    """No file may grow beyond 16 kB, so that the first checkpoint of 50 kB cannot be written."""
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, 2**14)); "
        "from fathomx.command_line.commands import main; main()"
    )
    options = [*BACKPROP, "--width", "64", "--epochs", "2", "--out", "out"]
    done = subprocess.run(
        [sys.executable, "-c", limited, "train", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "could not be written" in done.stderr
    left = {path.name for path in (tmp_path / "out").rglob("*")} - {".lock"}
    assert not [name for name in left if "tmp" in name or name.startswith(".")]


def test_labels_out_of_range_never_reach_a_run(run, tmp_path, monkeypatch):
    """A data set that is wrong is refused before a folder is made."""

    def load_wrong(self):
        part = Part(np.zeros((40, 64), np.float32), np.full(40, 11))
        return Dataset("wrong", part, part, part, classes=10)

    monkeypatch.setattr(Job, "load", load_wrong)
    message = refused(run, tmp_path, "train", *SMALL, "--out", "out")
    assert "labels from 11 to 11" in message


HOUSES = ["--model", "mlp", "--depth", "2", "--width", "8", "--bias", "--batch-size", "16"]


def houses(folder):
    """A table with two real targets and two labels."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    y = np.stack([1000 + 100 * x[:, 0], 5 * x[:, 1] + x[:, 2]], axis=1)
    tags = np.stack([x[:, 0] > 0, x[:, 1] > 0], axis=1)
    head = "a,b,c,price,days,near,new"
    rows = np.concatenate([x, y, tags], axis=1)
    np.savetxt(folder / "houses.csv", rows, delimiter=",", header=head, comments="", fmt="%.8g")


def test_real_targets_of_a_table_are_learned_and_shown(run, tmp_path):
    houses(tmp_path)
    options = ["--data", "houses.csv", "--target", "price,days", "--metrics", "rmse,r2"]
    code, out, err = run("train", *options, *HOUSES, "--epochs", 3, "--out", "out")
    assert (code, err) == (0, "") and "(84 training examples, regression)" in out
    folder = tmp_path / "out"
    config, summary = strict(folder / "config.json"), strict(folder / "summary.json")
    assert config["task"] == "regression" and config["target"] == "price,days"
    assert config["metrics"] == "rmse,r2" and len(config["table_sha256"]) == 64
    assert not any("accuracy" in name for name in summary)
    page = (folder / "index.html").read_text()
    assert f"RMSE: {summary['test_rmse']:.4g}" in page and "accuracy" not in page
    assert f"R2: {summary['test_r2']:.4g}" in out
    assert {p.name for p in (folder / "figures").iterdir()} == FIGURES | {"predictions.png"}
    # What the page shows gives the scores that validation had, in the units of the table.
    shown = strict(folder / "predictions.json")
    assert shown["names"] == ["price", "days"] and shown["part"] == "validation"
    true, said = (np.asarray(shown[name]) for name in ("target", "prediction"))
    rmse = np.sqrt(((true - said) ** 2).mean(axis=0)).mean()
    assert summary["validation_rmse"] == pytest.approx(rmse, rel=1e-4)
    assert true.shape == (12, 2) and 500 < true[:, 0].mean() < 1500
    # The targets by themselves are known again.
    (folder / "predictions.json").unlink()
    code, out, _ = run("train", "--resume", "out")
    assert code == 0 and "made again: predictions.json" in out
    assert strict(folder / "predictions.json") == shown
    text = (tmp_path / "houses.csv").read_text()
    (tmp_path / "houses.csv").write_text(text.replace("a,b,c,price", "c,b,a,price")[:-40] + "\n")
    assert "houses.csv" in refused(run, tmp_path, "train", "--resume", "out")


def test_labels_of_a_table_are_compared(run, tmp_path):
    houses(tmp_path)
    options = ["--data", "houses.csv", "--target", "near,new", "--metrics", "f1,exact-match"]
    code, out, err = run("compare", *options, *HOUSES, "--epochs", 1, "--out", "both")
    assert (code, err) == (0, "")
    summaries = strict(tmp_path / "both" / "comparison.json")
    for name, summary in summaries.items():
        assert strict(tmp_path / "both" / name / "config.json")["task"] == "multi-label"
        assert 0 <= summary["test_exact_match"] <= 1 and f"{summary['test_f1']:.4f}" in out
    page = (tmp_path / "both" / "index.html").read_text()
    assert '<th scope="col">test F1</th>' in page and "test exact match" in page
    assert "accuracy" not in page


def test_a_configuration_without_tasks_is_one_of_classes():
    config = Job(data="digits").config()
    for name in ("task", "target", "metrics"):
        del config[name]
    job = Job.from_config(config)
    assert job == Job(data="digits") and job.judged_by is None
