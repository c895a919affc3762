"""`fathomx diagnose`: its numbers are those of `fx.trace` called directly."""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.command_line.job import Job

SMALL = ["--depth", "6", "--width", "16", "--batch-size", "32"]
DESCENT = [*SMALL, "--inference", "state-descent", "--steps", "4", "--output-precision", "0.5"]


def read(folder):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads((folder / "diagnosis.json").read_text(), parse_constant=refuse)


def traced(network, steps):
    """The mean energies over steps of the first 32 digits at output precision 0.5."""
    data = fx.data.load("digits")
    input, labels = data.train.inputs[:32], data.train.labels[:32]
    problem = fx.Problem(network, input, labels, output_precision=0.5)
    relaxed, energies = fx.trace(problem, fx.StateDescent(optax.sgd(0.4), steps))
    return relaxed, np.asarray(energies).mean(axis=-1)


def network_of_six(seed=0):
    return fx.models.residual_mlp(
        64, 10, width=16, depth=6, parameterization=fx.MuPC(), key=jax.random.key(seed)
    )


def test_the_numbers_are_those_of_a_trace(run, tmp_path):
    code, out, err = run("diagnose", *DESCENT, "--out", "one")
    assert (code, err) == (0, "")
    folder = tmp_path / "one"
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) == [
        "diagnosis.json",
        "figures",
        "figures/energy_beside_equilibrium.png",
        "figures/energy_over_inference.png",
    ]
    for path in (folder / "figures").iterdir():
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    content = read(folder)
    relaxed, energies = traced(network_of_six(), 4)
    np.testing.assert_allclose(content["energy_per_step"], energies, rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(content["energy"], energies[-1], rtol=1e-4, atol=1e-12)
    assert content["arrivals"] == [5, 4, 3, 2, 1, 0]
    assert content["labels"][0] == "first" and content["labels"][-1] == "output"
    # Four steps bring the signal to four hidden nodes and leave the first without energy.
    assert content["energy"][0] == 0
    assert content["reached"] == 5
    high, low = energies[-1][3:].sum(), energies[-1][:3].sum()
    assert content["imbalance"] == pytest.approx(high / low, rel=1e-3)
    assert content["unsettled"]["median"] == pytest.approx(
        float(jnp.median(relaxed.unsettled)), rel=1e-3
    )
    assert content["output_precision"] == 0.5
    assert content["equilibrium"]["unsettled"]["max"] < 1e-2
    output_error = np.asarray(relaxed.errors["output"])
    assert content["error_rms"][-1] == pytest.approx(np.sqrt((output_error**2).mean()), rel=1e-4)
    assert content["cosine_to_backprop_per_node"][0] is None
    assert content["cosine_to_backprop_per_node"][-1] > 0.9
    # Six nodes in quarters of 2, 2, 1 and 1.
    cosine = [value or 0.0 for value in content["cosine_to_backprop_per_node"]]
    means = [np.mean(cosine[:2]), np.mean(cosine[2:4]), cosine[4], cosine[5]]
    assert content["cosine_to_backprop_per_quarter"] == pytest.approx(means, abs=1e-6)
    assert 0 < content["target_alignment"] < 1
    assert 0 < content["target_alignment_of_backprop"] < 1
    assert content["target_alignment"] != content["target_alignment_of_backprop"]
    assert content["inference"] == "state-descent"
    assert content["depth"] == 6
    assert not {"epochs", "learning_rate", "learning", "take"} & set(content)

    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    for label, node, energy in zip(content["labels"], range(6), energies[-1], strict=True):
        arrival, said = lines[label][1:3]
        assert int(arrival) == 5 - node
        assert float(said) == pytest.approx(energy, rel=0.06)
    assert "The signal reached 5 of 6 nodes" in out
    words = " ".join(out.split())
    assert (
        "1 node has less than a thousandth of the error that it has near equilibrium ('first')"
        in words
    )
    assert f"by quarter of the depth, from the input up: {means[0]:.3g}, " in words
    assert "Target alignment, the cosine between" in words
    assert "diagnosis: one" in out


def test_a_new_folder_under_runs_by_default(run, tmp_path):
    assert run("diagnose", *SMALL)[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}-diagnose", folder.name)
    assert read(folder)["strength"] == pytest.approx(0.1, rel=1e-4)


def test_deep_networks_keep_a_readable_table(run):
    options = ["--inference", "error-descent", "--steps", "2"]
    code, out, _ = run("diagnose", "--depth", "100", "--width", "4", "--batch-size", "8", *options)
    assert code == 0
    assert "every 5th of 100 nodes" in out
    begun = ("node", "first", "hidden", "output")
    rows = [line for line in out.splitlines() if line.strip().startswith(begun)]
    assert len(rows) == 1 + 20
    assert max(map(len, rows)) <= 80
    assert "…" not in out


@pytest.mark.slow
def test_a_convolutional_network_with_batch_normalization(run, tmp_path):
    options = ["--model", "resnet", "--width", "0.05", "--normalization", "batch"]
    options += ["--batch-size", "16", "--inference", "error-descent", "--no-auxiliary"]
    code, out, err = run("diagnose", *options, "--out", "one")
    assert (code, err) == (0, "")
    content = read(tmp_path / "one")
    assert len(content["energy"]) == 10
    assert content["reached"] == 10
    assert content["auxiliary"] is False
    assert "stage1.block1.conv1" in out


def test_the_network_of_a_run(run, tmp_path):
    """The weights are those of the run's end, not those of the start."""
    training = [*SMALL, "--learning", "backprop", "--epochs", "2", "--take", "200"]
    assert run("train", *training, "--out", "trained")[0] == 0
    before = sorted((tmp_path / "trained").rglob("*"))
    options = ["--inference", "state-descent", "--steps", 4, "--output-precision", "0.5"]
    code, _, err = run("diagnose", "--run", "trained", *options, "--out", "one")
    assert (code, err) == (0, "")
    assert sorted((tmp_path / "trained").rglob("*")) == before
    content = read(tmp_path / "one")
    assert content["run"] == "trained"

    job = Job(depth=6, width=16, batch_size=32, learning="backprop", epochs=2, take=200)
    data = job.load()
    optimizer = job.optimizer_for(data)
    whole = fx.fit(
        job.network(data), data, job.rule(), optimizer=optimizer, epochs=2, batch_size=32
    )
    _, energies = traced(whole.network, 4)
    np.testing.assert_allclose(content["energy_per_step"], energies, rtol=1e-3, atol=1e-12)
    assert abs(content["energy"][-1] / traced(network_of_six(), 4)[1][-1, -1] - 1) > 0.05


def test_divergence_is_said_and_not_drawn_over(run, tmp_path):
    options = [*SMALL, "--inference", "state-descent", "--steps", "4", "--activity-rate", "1e12"]
    code, out, err = run("diagnose", *options, "--out", "one")
    assert (code, err) == (0, "")
    assert "Inference diverged" in out
    assert None in read(tmp_path / "one")["energy"]


def test_without_matplotlib_the_numbers_are_there(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = run("diagnose", *SMALL, "--out", "one")
    assert (code, err) == (0, "")
    assert "pip install fathomx[figures]" in out
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["diagnosis.json"]


# Mistakes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--activation", "gleu"], ["gleu", "'gelu'"]),
        (["--epochs", "3"], ["--epochs"]),
        (["--learning", "backprop"], ["--learning"]),
        (["--batch-size", "2000"], ["2000", "1257"]),
        (["--schedule", "spiking"], ["schedule", "gauss-newton"]),
        (["--run", "nowhere"], ["nowhere"]),
        (["--run", "nowhere", "--depth", "3"], ["--depth", "--run"]),
        (["--run", "nowhere", "--bias", "--precision", "bfloat16"], ["--bias and --precision"]),
        (
            ["--inference", "state-descent", "--schedule", "spiking", "--steps", "5"],
            ["64 inference steps", "5"],
        ),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_and_leaves_nothing(run, tmp_path, options, words):
    code, out, err = run("diagnose", *options, "--out", "one")
    assert code not in (0, 130)
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    for word in words:
        assert word in err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(run, tmp_path):
    (tmp_path / "one").mkdir()
    code, _, err = run("diagnose", *SMALL, "--out", "one")
    assert code not in (0, 130)
    assert "one exists already" in err
    assert list((tmp_path / "one").iterdir()) == []


def test_a_run_without_checkpoints_is_named(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(json.dumps(Job(depth=3, width=4).config()))
    code, _, err = run("diagnose", "--run", "empty", "--out", "one")
    assert code not in (0, 130)
    assert "empty holds no checkpoint" in err
    assert not (tmp_path / "one").exists()
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["config.json"]
