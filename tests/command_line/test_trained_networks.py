"""Trained networks on the command line: evaluated, asked for predictions, trained further."""

import csv
import json
import shutil

import equinox as eqx
import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import fathomx as fx
from fathomx.command_line.beginning import begun
from fathomx.training import RunFolder

SMALL = ["--epochs", "1", "--batch-size", "8", "--learning", "backprop"]
MLP = ["--model", "mlp", "--depth", "3", "--width", "8", *SMALL]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, run_fathomx, trained):
    """Runs of several kinds of networks, and the images that one of them was trained on."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for kind, shade in (("cat", 60), ("dog", 190)):
        (folder / "animals" / kind).mkdir(parents=True)
        for number in range(15):
            pixels = rng.normal(shade, 40, (18, 16, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "animals" / kind / f"{number}.png")
    (folder / "book.txt").write_text("to be, or not to be; " * 60)
    for name, options in {
        "wine": [*MLP, "--data", "wine"],
        "vgg": ["--model", "vgg", "--depth", "5", "--width", "0.05", "--data", "animals",
                "--image-size", "16", *SMALL],
        "text": ["--model", "transformer", "--data", "book.txt", "--context", "8", "--depth", "1",
                 "--width", "8", "--heads", "2", *SMALL],
    }.items():  # fmt: skip
        found = run_fathomx("train", *options, "--out", name, folder=folder)
        assert found.returncode == 0, found.stderr
    for name in ("digits", "decoder", "bidirectional"):
        trained(name, folder)
    return folder


@pytest.fixture
def here(runs, run_fathomx, monkeypatch):
    monkeypatch.chdir(runs)
    return lambda *arguments: run_fathomx(*arguments, folder=runs)


def arrays(network):
    return jax.tree.leaves(eqx.filter(network, eqx.is_array))


@pytest.mark.parametrize("name", ["digits", "wine", "vgg", "text", "decoder", "bidirectional"])
def test_every_kind_of_run_is_loaded_and_evaluated(runs, here, name, tmp_path):
    run = fx.load(runs / name)
    assert isinstance(run.network, fx.Network) and isinstance(run.data, fx.data.Dataset)
    assert run.job.data in ("digits", "wine", "animals", "book.txt")
    found = here("evaluate", name, "--out", tmp_path / "found")
    assert found.returncode == 0, found.stderr
    content = json.loads((tmp_path / "found" / "evaluation.json").read_text())
    for metric, estimate in content["metrics"].items():
        if metric != "perplexity":
            assert estimate["value"] == run.summary[f"test_{metric}"]
            assert estimate["low"] <= estimate["value"] <= estimate["high"]
    page = (tmp_path / "found" / "index.html").read_text()
    assert "Worst examples" in page and page.endswith("</html>\n")
    for figure in (tmp_path / "found" / "figures").iterdir():
        assert figure.name in page and figure.stat().st_size > 3000
    if "confusion" in content:
        confusion = np.array(content["confusion"])
        hits, total = np.diagonal(confusion).sum(), confusion.sum()
        assert hits / total == pytest.approx(run.summary["test_accuracy"], abs=1e-7)
        assert f"{100 * run.summary['test_accuracy']:.2f}%" in found.stdout
        images = {"digits", "vgg", "bidirectional"}
        assert (tmp_path / "found" / "pictures.json").exists() == (name in images)


def test_another_part_and_another_data_set(runs, here, tmp_path):
    found = here("evaluate", "digits", "--part", "validation", "--out", tmp_path / "one")
    content = json.loads((tmp_path / "one" / "evaluation.json").read_text())
    summary = fx.load(runs / "digits").summary
    assert content["metrics"]["accuracy"]["value"] == summary["validation_accuracy"]
    # The same images under another name, of which the run has seen a part.
    found = here("evaluate", "digits", "--data", "digits", "--out", tmp_path / "two")
    assert found.returncode == 0 and "360 examples" in found.stdout
    found = here("evaluate", "digits", "--data", "digits", "--part", "all", "--out", tmp_path / "3")
    assert found.returncode == 0 and "1,797 examples of all parts of" in found.stdout
    whole = json.loads((tmp_path / "3" / "evaluation.json").read_text())
    network, data = fx.load(runs / "digits").network, fx.data.load("digits")
    scored = [fx.evaluate(network, data, part) for part in ("train", "validation", "test")]
    hits = sum(each.size * each.metrics["accuracy"].value for each in scored)
    assert whole["part"] == "all" and round(hits) == round(
        whole["size"] * whole["metrics"]["accuracy"]["value"]
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "nowhere"], "there is no run folder nowhere"),
        (["evaluate", "animals"], "holds no run"),
        (["evaluate", "digits", "--data", "wine"], "of shape"),
        (["evaluate", "digits", "--data", "digitz"], "Did you mean 'digits'"),
        (["evaluate", "digits", "--data", "book.txt"], "is text"),
        (["predict", "digits", "nothing.png"], "No such file"),
        (["predict", "digits", "broken.png"], "broken.png"),
        (["predict", "digits", "book.txt"], "of no kind"),
        (["predict", "wine", "other.csv"], "has no column 'alcohol'"),
        (["predict", "wine", "holes.csv"], "row 2, column 3, where a number belongs"),
        (["predict", "wine", "animals/cat/1.png"], "is an image, but"),
        (["predict", "text", "strange.txt"], "in the file strange.txt, the character 'Z'"),
        (["predict", "digits", "animals/cat/1.png", "--out", "a.txt"], "must end with .csv"),
        (["train", "--from", "nowhere"], "there is no run folder nowhere"),
        (["train", "--from", "digits", "--depth", "5"], "leave out --depth"),
        (["train", "--from", "digits", "--freeze", "frist"], "Did you mean 'first'"),
        (["train", "--from", "digits", "--freeze", "first,hidden,output"], "nothing to learn"),
        (["train", "--from", "wine", "--data", "breast-cancer", "--freeze", "output"],
         "leave it out of --freeze"),
        (["train", "--from", "strange.txt"], "cannot be read as safetensors"),
        (["train", "--from", "other.safetensors", "--data", "wine", "--model", "mlp"],
         "build the one that was saved"),
        (["compare", "--from", "digits"], "compare begins with new weights"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence_and_leave_nothing(runs, here, arguments, said):
    columns = fx.load(runs / "wine").data.preparation.columns
    (runs / "other.csv").write_text("a,b\n1,2\n")
    (runs / "holes.csv").write_text(",".join(columns) + "\n" + "1,2,," + ",".join(10 * "1") + "\n")
    (runs / "strange.txt").write_text("Zebra")
    (runs / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    other = fx.models.mlp(13, 3, width=5, depth=4, key=jax.random.key(0))
    fx.save(other, runs / "other.safetensors")
    before = {path for path in runs.rglob("*") if path.name != ".lock"}
    found = here(*arguments)
    assert found.returncode == 1 and said in found.stderr, found.stderr
    assert len(found.stderr.strip().splitlines()) == 1 and "Traceback" not in found.stderr
    assert {path for path in runs.rglob("*") if path.name != ".lock"} == before


def test_a_run_that_has_not_ended_is_refused(runs, here):
    shutil.copytree(runs / "digits", runs / "open")
    (runs / "open" / "summary.json").unlink()
    for arguments in (
        ["evaluate", "open"],
        ["predict", "open", "x.npy"],
        ["train", "--from", "open"],
    ):
        found = here(*arguments)
        assert found.returncode == 1 and "has not ended; continue it first" in found.stderr


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_images_are_prepared_as_those_of_training(runs, here):
    """Every image of the folder: those of the test part get what the network says of that part."""
    files = sorted((runs / "animals").rglob("*.png"))
    names = [str(path.relative_to(runs)) for path in files]
    found = here("predict", "vgg", *names, "--out", "said.csv")
    assert found.returncode == 0, found.stderr
    rows = table(runs / "said.csv")
    assert [row["file"] for row in rows] == names and {row["class"] for row in rows} <= {
        "cat",
        "dog",
    }
    run = fx.load(runs / "vgg")
    said = fx.evaluate(run.network, run.data).prediction
    likely = np.maximum(said, 0) / np.maximum(said, 0).sum(axis=1, keepdims=True)
    written = np.array([[float(row["cat"]), float(row["dog"])] for row in rows])
    for one in likely:
        assert np.abs(written - one).max(axis=1).min() < 1e-5


def test_arrays_and_tables_are_raw_unless_they_are_said_to_be_prepared(runs, here):
    run = fx.load(runs / "wine")
    known, x = run.data.preparation, run.data.test.inputs
    raw = known.scales["input"].raw(x)
    np.save(runs / "raw.npy", raw)
    np.savez(runs / "prepared.npz", input=x, other=np.zeros(2))
    order = np.random.default_rng(0).permutation(13)
    with (runs / "wine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["bottle", *(known.columns[n] for n in order)])
        writer.writerows([[n, *map(repr, row[order].tolist())] for n, row in enumerate(raw)])
    found = []
    for given in (["raw.npy"], ["prepared.npz", "--prepared"], ["wine.csv"]):
        assert here("predict", "wine", *given, "--out", "said.npz").returncode == 0
        with np.load(runs / "said.npz") as said:
            found.append(said["values"])
            assert said["names"].tolist() == list(run.data.class_names)
            assert said["rows"].tolist() == list(range(len(x)))
    expected = np.maximum(np.asarray(fx.predict(run.network, x)), 0)
    expected /= expected.sum(axis=1, keepdims=True)
    for each in found:
        np.testing.assert_allclose(each, expected, atol=2e-5)


def test_a_gray_picture_of_a_digit(runs, here):
    """Pixels of the digits reach from 0 to 16, those of a picture to 255."""
    run = fx.load(runs / "digits")
    x = run.data.test.inputs[:1]
    raw = np.rint(run.data.preparation.scales["input"].raw(x)).reshape(8, 8)
    Image.fromarray(np.rint(raw * 255 / 16).astype(np.uint8)).save(runs / "digit.png")
    inputs = fx.data.read_inputs([str(runs / "digit.png")], run.data)
    np.testing.assert_allclose(inputs.values, x, atol=0.02)
    np.save(runs / "digit.npy", raw)
    inputs = fx.data.read_inputs([str(runs / "digit.npy")], run.data)
    np.testing.assert_allclose(inputs.values, x, atol=1e-6)


def test_texts_are_continued_by_the_likeliest_characters(runs, here):
    (runs / "begun.txt").write_text("or not")
    found = here("predict", "text", "begun.txt", "--length", "5", "--out", "said.csv")
    assert found.returncode == 0, found.stderr
    (row,) = table(runs / "said.csv")
    run = fx.load(runs / "text")
    tokens = np.zeros((1, 8), np.int32)
    tokens[0, :6] = run.data.encode("or not")
    likely = np.asarray(jax.nn.softmax(fx.predict(run.network, tokens)[0, 5]))
    assert row["next"] == run.data.vocabulary[int(likely.argmax())]
    np.testing.assert_allclose(float(row["b"]), likely[run.data.vocabulary.index("b")], rtol=1e-5)
    more = fx.generate(run.network, run.data.encode("or not"), 5, jax.random.key(0), 0)
    assert row["continuation"] == run.data.decode(more)


@pytest.mark.parametrize("name", ["decoder", "bidirectional"])
def test_models_that_infer_predict(runs, here, name):
    run = fx.load(runs / name)
    np.save(runs / "raw.npy", run.data.preparation.scales["input"].raw(run.data.test.inputs[:3]))
    found = here("predict", name, "raw.npy", "--out", "said.csv")
    assert found.returncode == 0, found.stderr
    rows = table(runs / "said.csv")
    assert len(rows) == 3 and ("latent 0" if name == "decoder" else "class") in rows[0]


def test_fine_tuning_begins_with_the_weights_and_keeps_what_is_frozen(runs, here):
    found = here("train", "--from", "wine", "--freeze", "first", "--epochs", "2", "--out", "tuned")
    assert found.returncode == 0, found.stderr
    assert "begins with the weights of wine\n" in found.stdout
    before, after = fx.load(runs / "wine"), fx.load(runs / "tuned")
    assert after.job.depth == 3 and after.job.batch_size == 8 and after.job.epochs == 2
    for name, moved in (("first", False), ("output", True)):
        one, two = (arrays(run.network.entry(name))[0] for run in (before, after))
        assert bool((one != two).any()) == moved
    stored = load_file(runs / "tuned" / "source.safetensors")
    np.testing.assert_array_equal(
        stored["output.function.linear.weight"], before.network.output.function.linear.weight
    )
    config = json.loads((runs / "tuned" / "config.json").read_text())
    assert config["command"] == "fathomx train --epochs 2 --from wine --freeze first"
    # From there on it needs its source no longer.
    assert here("train", "--from", "tuned", "--out", "third").returncode == 0


def test_ends_of_another_size_are_drawn_anew(runs, here):
    found = here("train", "--from", "wine", "--data", "breast-cancer", "--out", "other-head")
    assert found.returncode == 0, found.stderr
    assert "drawn anew: first, output" in found.stdout
    run = fx.load(runs / "other-head")
    assert run.network.input_shape == (30,) and run.network.output_shape == (2,)
    # What lies between begins as it was, and the ends as in a new network.
    network, anew = begun(run.job, run.data, runs / "other-head")
    assert anew == ("first", "output")
    new, old = run.job.network(run.data), fx.load(runs / "wine").network
    for name in network.shapes:
        expected = new if name in anew else old
        for one, two in zip(arrays(network.entry(name)), arrays(expected.entry(name)), strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_file_of_weights_is_a_source(runs, here):
    fx.save(fx.load(runs / "wine").network, runs / "wine.safetensors")
    found = here("train", "--from", "wine.safetensors", "--data", "wine", *MLP, "--out", "of-file")
    assert found.returncode == 0, found.stderr
    assert (runs / "of-file" / "source.safetensors").read_bytes() == (
        runs / "wine.safetensors"
    ).read_bytes()


def test_fine_tuning_resumes_bit_for_bit_without_its_source(runs, here, monkeypatch):
    shutil.copytree(runs / "wine", runs / "source")
    options = ["--from", "source", "--freeze", "output", "--epochs", "3", "--seed", "4"]
    assert here("train", *options, "--out", "whole").returncode == 0
    ended = RunFolder.epoch_ended

    def stop(self, record, state):
        ended(self, record, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "epoch_ended", stop)
        assert here("train", *options, "--out", "stopped").returncode == 130
    # The source has learned something else in the meantime, and is told.
    shutil.rmtree(runs / "source")
    assert here("train", "--data", "wine", *MLP, "--seed", "9", "--out", "source").returncode == 0
    shutil.copytree(runs / "stopped", runs / "again")
    found = here("train", "--resume", "stopped")
    assert found.returncode == 0 and "source holds other weights" in found.stdout
    shutil.rmtree(runs / "source")
    found = here("train", "--resume", "again")
    assert found.returncode == 0 and "other weights" not in found.stdout
    whole, *others = (arrays(fx.load(runs / n).network) for n in ("whole", "stopped", "again"))
    for other in others:
        for one, two in zip(whole, other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_damaged_copy_of_the_source_is_told(runs, here):
    assert here("train", "--from", "wine", "--out", "damaged").returncode == 0
    for name in ("summary.json", "metrics.jsonl"):
        (runs / "damaged" / name).unlink()
    other = fx.models.mlp(13, 3, width=8, depth=3, key=jax.random.key(5))
    fx.save(other, runs / "damaged" / "source.safetensors")
    found = here("train", "--resume", "damaged")
    assert found.returncode == 1 and "does not hold the weights" in found.stderr
