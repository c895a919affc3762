"""Networks that generate: trained, shown on their page, asked to generate and to complete."""

import json

import numpy as np
import pytest

from fathomx.command_line.imagery import canvas_of
from fathomx.command_line.job import Job
from fathomx.command_line.models import MODELS
from fathomx.data import load
from fathomx.drawing.canvas import seen_part
from fathomx.records.pictures import Panel, PictureRow, read_pictures, write_pictures
from fathomx.report import RunFiles
from fathomx.report.verdict import _GENERATIVE

SMALL = ["--data", "digits", "--take", "64", "--epochs", "1", "--batch-size", "32"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, run_fathomx, trained):
    folder = tmp_path_factory.mktemp("generative")
    for name in ("decoder", "bidirectional", "digits"):
        trained(name, folder)
    model = ["--model", "decoder-cnn", "--width", "2"]
    found = run_fathomx("train", *model, *SMALL, "--out", "decoder-cnn", folder=folder)
    assert found.returncode == 0, found.stderr
    return folder


def test_the_page_of_a_decoder_shows_what_it_learned(runs):
    files = RunFiles(runs / "decoder")
    assert [p.name for p in files.pictures] == ["reconstructions", "samples", "completions", "walk"]
    page = (runs / "decoder" / "index.html").read_text()
    for panel in files.pictures:
        assert f'src="figures/{panel.name}.png"' in page
        assert (runs / "decoder" / "figures" / f"{panel.name}.png").stat().st_size > 3000
    assert "test reconstruction error" in page.lower() and "no backprop to compare" in page
    images = files.pictures[0].rows[0].pictures
    whole = canvas_of(load("digits").take(64))(load("digits").take(64).validation.inputs[:10])
    np.testing.assert_allclose(images, whole, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("model", ["decoder", "bidirectional", "decoder-cnn"])
def test_generate_and_complete(runs, run_fathomx, model):
    found = run_fathomx("generate", model, "--count", "12", folder=runs)
    assert found.returncode == 0 and "picture:" in found.stdout
    assert (runs / model / "generated.png").read_bytes().startswith(b"\x89PNG")
    for mask in ("upper", "left", "random"):
        found = run_fathomx(
            "complete", model, "--mask", mask, "--fraction", "0.4", "--out", f"{mask}.png",
            folder=runs,
        )  # fmt: skip
        assert found.returncode == 0 and (runs / f"{mask}.png").stat().st_size > 3000


def test_what_cannot_generate_says_so(runs, run_fathomx):
    for command in ("generate", "complete"):
        found = run_fathomx(command, "digits", folder=runs)
        assert found.returncode == 1 and "which generates nothing" in found.stderr
        assert len(found.stderr.strip().splitlines()) == 1
        assert not list((runs / "digits").glob("*.png"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["generate", "nothing"], "holds no run"),
        (["complete", "decoder", "--fraction", "0.01"], "leaves nothing to see"),
        (["complete", "decoder", "--fraction", "1.5"], "range"),
        (["complete", "decoder", "--mask", "middle"], "upper"),
        (["generate", "decoder", "--out", "no/such.png"], "no folder that exists"),
        (["generate", "decoder", "--count", "0"], "range"),
        (["compare", "--model", "decoder"], "compare trains the same network by backprop"),
        (["diagnose", "--inference", "langevin"], "no equilibrium"),
    ],
)
def test_wrong_requests_get_one_sentence(runs, run_fathomx, options, said):
    found = run_fathomx(*options, folder=runs)
    assert found.returncode != 0 and said in found.stderr and "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "decoder", "latents": 0}, "latents must be at least 1"),
        ({"model": "mlp", "latents": 4}, "has no latents"),
        ({"model": "decoder", "learning": "backprop"}, "use learning 'equilibrium'"),
        ({"model": "decoder", "data": "tiny-shakespeare"}, "is text"),
        ({"model": "mlp", "inference": "langevin", "schedule": "spiking"}, "has no schedule"),
        ({"inference": "langevin", "learning": "incremental"}, "draws samples"),
    ],
)
def test_jobs_that_contradict_themselves(given, said):
    with pytest.raises(ValueError, match=said):
        Job(**given)


def test_the_verdict_knows_which_models_generate():
    able = {name for name, model in MODELS.items() if model.generative is not None}
    assert set(_GENERATIVE) == able


def test_what_is_seen():
    for mask, axis in (("upper", 0), ("left", 1)):
        seen = seen_part(mask, 0.25, (8, 4, 3), 0)
        assert seen.shape == (8, 4, 3) and seen.mean() == 0.25
        assert seen.take(range(seen.shape[axis] // 4), axis).all()
    random = seen_part("random", 0.3, (10, 10), 1)
    assert random.sum() == 30 and (random != seen_part("random", 0.3, (10, 10), 2)).any()


def test_pictures_are_stored_in_bytes_and_checked(tmp_path):
    rng = np.random.default_rng(0)
    given = rng.uniform(size=(3, 4, 5))
    path = write_pictures(tmp_path, [Panel("some", "Some.", [PictureRow("one", given, ("a",))])])
    (panel,) = read_pictures(path, "delete it")
    np.testing.assert_allclose(panel.rows[0].pictures, given, atol=0.5 / 255 + 1e-9)
    assert panel.rows[0].labels == ("a",) and panel.caption == "Some."
    content = json.loads(path.read_text())
    content["panels"][0]["rows"][0]["pictures"][1] = [1, 2]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="pictures of 20 values"):
        read_pictures(path, "delete it")


def test_langevin_and_number_formats_reach_the_encoder(tmp_path, run_fathomx):
    """An inference of the command line like others, in half precision and computed again."""
    found = run_fathomx(
        "train", "--model", "decoder", "--width", "8", "--inference", "langevin", "--steps", "4",
        "--precision", "bfloat16", "--rematerialize", *SMALL, "--out", "sampled", folder=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "samples of the activities" in found.stdout
    diagnosed = run_fathomx("diagnose", "--run", "sampled", "--out", "diagnosed", folder=tmp_path)
    assert diagnosed.returncode == 0, diagnosed.stderr
