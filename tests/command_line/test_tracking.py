"""`--track`: what a run is handed to, and where that is."""

import pytest

OPTIONS = ("--depth", "2", "--width", "4", "--take", "40", "--batch-size", "20", "--epochs", "1")


def test_tensorboard_is_in_the_run_folder(run, tmp_path):
    code, _, err = run("train", *OPTIONS, "--track", "tensorboard", "--out", "out")
    assert (code, err) == (0, "")
    (file,) = (tmp_path / "out" / "tensorboard").iterdir()
    content = file.read_bytes()
    assert b"train/loss" in content and b"residual-mlp" in content and b"config.json" in content


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_what_is_not_installed_is_told_before_anything_is_written(run, tmp_path, monkeypatch, name):
    monkeypatch.setattr("fathomx.training.trackers.find_spec", lambda name: None)
    code, out, err = run("train", *OPTIONS, "--track", name, "--out", "out")
    assert (code, out) == (1, "")
    assert 'pip install "fathomx[trackers]"' in err and len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tracker(run, tmp_path):
    code, _, err = run("train", *OPTIONS, "--track", "tensorbord", "--out", "out")
    assert code == 2 and "'tensorbord' is not one of 'tensorboard', 'wandb', 'mlflow'" in err
    assert list(tmp_path.iterdir()) == []
