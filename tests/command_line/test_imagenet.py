"""`--data imagenet:FOLDER`: trained, evaluated, asked, continued, and what is wrong with it."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import fathomx as fx
from fathomx.command_line.evaluate import _other
from fathomx.command_line.job import Job
from fathomx.command_line.stored import stored_settings

SMALL = {"model": "resnet", "image_size": 8, "width": 1 / 64, "data_workers": 0, "batch_size": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes, of which one is dark and the other light."""
    made = tmp_path_factory.mktemp("sky")
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("val", 5)):
        for kind, shade in (("day", 200), ("night", 40)):
            (made / part / kind).mkdir(parents=True)
            for number in range(count):
                pixels = rng.normal(shade, 20, (12, 14, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(made / part / kind / f"{number}.jpg")
    return made


def job(folder, **options):
    return Job(data=f"imagenet:{folder}", **{**SMALL, **options})


def test_a_run_from_its_beginning_to_its_predictions(folder, tmp_path, run_fathomx):
    options = [
        *("--data", f"imagenet:{folder}", "--model", "vgg", "--depth", "5"),
        *(
            "--width",
            "0.02",
            "--image-size",
            "16",
            "--data-workers",
            "0",
            "--batch-size",
            "8",
            "--epochs",
            "1",
        ),
        *("--learning", "backprop"),
    ]
    found = run_fathomx("train", *options, "--out", "run", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    run = fx.load(tmp_path / "run")
    assert isinstance(run.data, fx.data.ImageStream) and run.data.class_names == ("day", "night")
    found = run_fathomx("evaluate", "run", "--out", "evaluated", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    said = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text())
    assert said["size"] == 10 and {c["name"] for c in said["classes"]} == {"day", "night"}
    for score in ("loss", "accuracy"):
        np.testing.assert_allclose(
            said["metrics"][score]["value"], run.summary[f"test_{score}"], rtol=1e-5
        )
    picture = folder / "val" / "day" / "0.jpg"
    found = run_fathomx("predict", "run", picture, "--out", "said.csv", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    with open(tmp_path / "said.csv") as file:
        row = next(csv.DictReader(file))
    inputs = fx.data.read_inputs([str(picture)], run.data).values
    assert row["class"] == ("day", "night")[int(fx.predict(run.network, inputs)[0].argmax())]
    # Other images of the same classes, and of others.
    other = _other(run, f"imagenet:{folder}")
    assert other.sha256() == run.data.sha256()
    with pytest.raises(ValueError, match="one is standardized by its training part"):
        _other(run, "digits")
    (folder / "train" / "day" / "0.jpg").rename(folder / "train" / "day" / "x.jpg")
    try:
        with pytest.raises(fx.training.RunFolderError, match="is not the folder of images any m"):
            fx.load(tmp_path / "run")
    finally:
        (folder / "train" / "day" / "x.jpg").rename(folder / "train" / "day" / "0.jpg")


def test_the_inputs_of_a_problem_are_standardized_images(folder):
    made = job(folder)
    data = made.load()
    network = made.network(data)
    problem = made.problem(network, data)
    wanted = data.standardized(data.first(8))["input"]
    np.testing.assert_allclose(problem.clamps["input"].value, wanted, rtol=1e-5, atol=1e-6)
    made.check(data, network)


def test_a_run_before_there_was_a_choice_keeps_its_network():
    """Which large images would have another one of by now."""
    for model, name, former in (("resnet", "stem", "small"), ("vgg", "head", "flat")):
        now = dataclasses.asdict(Job(data="cifar10", model=model))
        assert now[name] is None
        before = {key: value for key, value in now.items() if key not in ("stem", "head")}
        assert stored_settings(before)[name] == former
        assert stored_settings(now)[name] is None


def test_stems_and_heads_are_built(folder):
    large = job(folder, image_size=32, stem="large")
    assert large.network(large.load()).shapes["stem"][:2] == (8, 8)
    mean = job(folder, model="vgg", depth=5, image_size=18, head="average")
    assert mean.network(mean.load()).shapes["stage4.conv1"][:2] == (2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1, not 0"),
        ({"data_workers": -1}, "data_workers must be at least 0, not -1"),
        ({"data_workers": 4096}, "workers is 4096, but this process may use"),
        ({"model": "mlp", "width": 8}, "holds images that are read while they are trained on"),
        ({"model": "decoder-cnn", "width": 8}, "needs its images in memory"),
        ({"model": "transformer", "width": 8}, "reads text"),
        ({"head": "flat"}, "model 'resnet' has no head"),
        ({"batch_size": 99}, "batch_size is 99, but .* has 36 training examples"),
        ({"target": "price"}, "target is for tables"),
    ],
)
def test_what_is_wrong(folder, options, message):
    def begun():
        made = job(folder, **options)
        data = made.load()
        made.check(data, made.network(data))

    with pytest.raises(ValueError, match=message):
        begun()


def test_workers_are_for_images_that_are_read_later():
    with pytest.raises(ValueError, match="data_workers is for imagenet: and a folder"):
        Job(data="digits", model="mlp", data_workers=1)
