"""Run folders: what they hold, and runs that are stopped, killed, damaged or out of space."""

import errno
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import equinox as eqx
import jax
import numpy as np
import optax
import orbax.checkpoint as orbax
import pytest

import fathomx as fx
from fathomx.records.run_files import RunFiles
from fathomx.records.writing import write_json
from fathomx.training import CheckpointError, Observer, RunFolder, RunFolderError, checkpoints
from fathomx.training.checkpoints import Checkpoints

# What Orbax leaves open when it fails is not ours to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ADAM = optax.adam(1e-2, eps=1e-12)
RULES = {"equilibrium": fx.Equilibrium(), "backprop": fx.Backprop()}
CONFIG = {"depth": 4, "rate": 0.01, "note": None}
# Of a session: one that resumes after the last step has not measured them.
TIMES = ("train_seconds", "first_step_seconds", "step_seconds_median", "step_memory_bytes")


def train(network, data, *observers, rule=RULES["backprop"], epochs=3):
    return fx.fit(
        network, data, rule, optimizer=ADAM, epochs=epochs, batch_size=16, observers=observers
    )


def arrays(tree):
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    is_key = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    plain = [jax.random.key_data(a) if key else a for a, key in zip(leaves, is_key, strict=True)]
    return [np.asarray(leaf) for leaf in plain]


def same(one, other):
    pairs = zip(arrays(one), arrays(other), strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def strict(text):
    """JSON without the NaN and Infinity that Python would let pass."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def per_step(folder):
    """`(epoch, step, loss, accuracy)` of every step, in the order of the file."""
    found = []
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = strict(line)
        if record["kind"] == "steps":
            first = record["step"] - len(record["loss"]) + 1
            pairs = zip(record["loss"], record["accuracy"], strict=True)
            found += [(record["epoch"], first + i, *pair) for i, pair in enumerate(pairs)]
    return found


def per_epoch(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(strict, lines) if record["kind"] == "epoch"]


def untimed(summary):
    return {name: value for name, value in summary.items() if name not in TIMES}


def leftovers(folder):
    """Files that a finished write does not leave behind."""
    names = [path.name for path in folder.rglob("*")]
    unfinished = [name for name in names if name.startswith(".") or "tmp" in name]
    return [name for name in unfinished if name != ".lock"]


def one_line(caught, *words):
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def newest(folder):
    return max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name))


class InterruptAt(Observer):
    """Ctrl-C after a step, or (step `None`) at the end of an epoch."""

    def __init__(self, epoch, step):
        self.at = (epoch, step)

    def stepped(self, record, state):
        if (record["epoch"], record["step"]) == self.at:
            raise KeyboardInterrupt

    def epoch_ended(self, record, state):
        if (record["epoch"], None) == self.at:
            raise KeyboardInterrupt


class Notes(Observer):
    """What is said while a run goes on."""

    def __init__(self):
        self.records = []

    def noted(self, record):
        self.records.append(record)


@pytest.fixture(scope="module")
def uninterrupted(blobs, network, tmp_path_factory):
    """By rule, the folder and the result of a run of three epochs."""
    found = {}
    for name, rule in RULES.items():
        folder = tmp_path_factory.mktemp("whole") / "run"
        found[name] = folder, train(network, blobs, RunFolder.create(folder, CONFIG), rule=rule)
    return found


@pytest.fixture
def stopped(blobs, network, tmp_path):
    """The folder of a run that was stopped after the second of three epochs."""
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train(network, blobs, RunFolder.create(folder, CONFIG), InterruptAt(2, None))
    return folder


def assert_as_if_uninterrupted(folder, result, whole):
    whole_folder, expected = whole
    assert same(result.network, expected.network)
    assert result.history == expected.history
    assert untimed(result.summary) == untimed(expected.summary)
    assert per_step(folder) == per_step(whole_folder)
    assert per_epoch(folder) == per_epoch(whole_folder)
    assert [entry[:2] for entry in per_step(folder)] == [
        (epoch, step) for epoch in (1, 2, 3) for step in (1, 2, 3, 4)
    ]
    assert leftovers(folder) == []


# What a folder holds


@pytest.mark.parametrize("name", RULES)
def test_the_files_of_a_finished_run(uninterrupted, name):
    folder, result = uninterrupted[name]
    assert strict((folder / "config.json").read_text()) == {**CONFIG, "format": 1}
    history = [{k: v for k, v in record.items() if k != "kind"} for record in per_epoch(folder)]
    assert history == result.history
    assert [entry[:2] for entry in per_step(folder)] == [
        (epoch, step) for epoch in (1, 2, 3) for step in (1, 2, 3, 4)
    ]
    summary = strict((folder / "summary.json").read_text())
    versions = summary.pop("versions")
    assert summary == result.summary
    assert versions["fathomx"] == fx.__version__
    assert set(versions) >= {"python", "jax", "jaxlib", "equinox", "optax", "numpy"}
    assert {p.name for p in folder.iterdir()} - {".lock"} == {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "checkpoints",
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"8", "12"}
    assert leftovers(folder) == []


def test_what_is_not_finite_becomes_null(tmp_path):
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": np.nan})
    found = strict((tmp_path / "a.json").read_text())
    assert found == {"a": None, "b": [None, 1.5], "c": None}


def test_create_refuses_what_exists(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="exists already") as caught:
        RunFolder.create(folder, CONFIG)
    one_line(caught, str(folder), "--out")
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    with pytest.raises(RunFolderError, match="exists already"):
        RunFolder.create(folder / "mine.txt", CONFIG)
    with pytest.raises(RunFolderError, match="cannot be written") as caught:
        RunFolder.create(folder / "mine.txt" / "run", CONFIG)
    one_line(caught, "mine.txt")


# Stopped and continued


@pytest.mark.parametrize("behind", [True, False], ids=["after the folder", "before the folder"])
@pytest.mark.parametrize(
    "at", [(1, 1), (1, 2), (2, 3), (2, 4), (2, None), (3, 4), (3, None)], ids=str
)
def test_a_stopped_run_continues_bit_for_bit(
    blobs, network, uninterrupted, tmp_path, one_step_per_dispatch, at, behind
):
    """Ctrl-C may come while any observer works, those before the run folder too."""
    one_step_per_dispatch()
    folder = tmp_path / "run"
    observers = [RunFolder.create(folder, CONFIG), InterruptAt(*at)]
    with pytest.raises(KeyboardInterrupt):
        train(network, blobs, *(observers if behind else observers[::-1]))
    assert not (folder / "summary.json").exists()
    result = train(network, blobs, RunFolder.resume(folder, CONFIG))
    assert_as_if_uninterrupted(folder, result, uninterrupted["backprop"])


def test_predictive_coding_continues_bit_for_bit_too(
    blobs, network, uninterrupted, tmp_path, one_step_per_dispatch
):
    one_step_per_dispatch()
    folder = tmp_path / "run"
    for at in ((1, 2), (2, 3)):
        run = RunFolder.resume(folder) if folder.exists() else RunFolder.create(folder, CONFIG)
        with pytest.raises(KeyboardInterrupt):
            train(network, blobs, run, InterruptAt(*at), rule=RULES["equilibrium"])
    result = train(network, blobs, RunFolder.resume(folder), rule=RULES["equilibrium"])
    assert_as_if_uninterrupted(folder, result, uninterrupted["equilibrium"])


def test_stopped_before_the_first_step(blobs, network, uninterrupted, tmp_path):
    class Interrupt(Observer):
        def started(self, plan, state):
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(network, blobs, RunFolder.create(folder, CONFIG), Interrupt())
    result = train(network, blobs, RunFolder.resume(folder, CONFIG))
    assert_as_if_uninterrupted(folder, result, uninterrupted["backprop"])


def test_stopped_while_the_test_set_is_scored(blobs, network, uninterrupted, tmp_path):
    class Interrupt(Observer):
        def finished(self, summary, state):
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(network, blobs, Interrupt(), RunFolder.create(folder, CONFIG))
    result = train(network, blobs, RunFolder.resume(folder, CONFIG))
    assert_as_if_uninterrupted(folder, result, uninterrupted["backprop"])


@pytest.mark.parametrize("moment", ["before", "after"])
def test_stopped_while_a_checkpoint_is_written(
    blobs, network, uninterrupted, tmp_path, monkeypatch, moment
):
    save, calls = Checkpoints.save, []

    def stopping(self, state, position):
        calls.append(position)
        if moment == "after" or len(calls) != 2:
            save(self, state, position)
        if len(calls) == 2:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    monkeypatch.setattr(Checkpoints, "save", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(network, blobs, RunFolder.create(folder, CONFIG))
    monkeypatch.undo()
    result = train(network, blobs, RunFolder.resume(folder, CONFIG))
    assert_as_if_uninterrupted(folder, result, uninterrupted["backprop"])


@pytest.fixture
def heeding():
    """Ctrl-C is heeded, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding")
def test_a_checkpoint_that_is_being_written_is_finished_before_the_run_stops(
    blobs, network, uninterrupted, tmp_path, monkeypatch
):
    """Orbax writes in threads: one torn from it by Ctrl-C would race with the save that follows."""
    folder = tmp_path / "run"
    run = RunFolder.create(folder, CONFIG)
    manager, finished = run._store()._manager, []
    save = manager.save

    def pressed(position, **rest):
        if position == 8:
            signal.raise_signal(signal.SIGINT)
        done = save(position, **rest)
        finished.append(position)
        return done

    monkeypatch.setattr(manager, "save", pressed)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(network, blobs, run)
    assert signal.getsignal(signal.SIGINT) is handler
    assert finished == [4, 8]
    monkeypatch.undo()
    result = train(network, blobs, RunFolder.resume(folder, CONFIG))
    assert_as_if_uninterrupted(folder, result, uninterrupted["backprop"])


KILLED = """
    import importlib, os, signal, sys
    from pathlib import Path

    import jax, numpy as np, optax
    import fathomx as fx
    from fathomx.training import Observer, RunFolder

    importlib.import_module("fathomx.training.run")._SECONDS_PER_DISPATCH = 0.0

    class KillAt(Observer):
        def stepped(self, record, state):
            if (record["epoch"], record["step"]) == (2, 3):
                os.kill(os.getpid(), signal.SIGKILL)

    folder, arrays = Path(sys.argv[1]), np.load(sys.argv[2])
    parts = [fx.data.Part(arrays[f"{n}_inputs"], arrays[f"{n}_labels"])
             for n in ("train", "validation", "test")]
    network = fx.models.residual_mlp(
        6, 4, width=8, depth=4, parameterization=fx.MuPC(), key=jax.random.key(3)
    )
    fx.fit(network, fx.data.Dataset("blobs", *parts, classes=4), fx.Backprop(),
           optimizer=optax.adam(1e-2, eps=1e-12), epochs=3, batch_size=16,
           observers=(RunFolder.create(folder, {"depth": 4, "rate": 0.01, "note": None}), KillAt()))
"""


def test_a_killed_run_continues_from_its_last_checkpoint(blobs, network, uninterrupted, tmp_path):
    """SIGKILL in the second epoch: two steps are recorded after the checkpoint and taken again."""
    folder, arrays = tmp_path / "run", tmp_path / "blobs.npz"
    parts = {name: getattr(blobs, name) for name in ("train", "validation", "test")}
    values = {
        f"{name}_{field}": array
        for name, part in parts.items()
        for field, array in part._asdict().items()
    }
    np.savez(arrays, **values)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder), str(arrays)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [entry[:2] for entry in per_step(folder)][-1] == (2, 3)
    assert [record["epoch"] for record in per_epoch(folder)] == [1]
    # A kill in the middle of a write leaves half a line.
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "steps", "epoch": 2, "st')
    result = train(network, blobs, RunFolder.resume(folder, CONFIG))
    assert_as_if_uninterrupted(folder, result, uninterrupted["backprop"])


@pytest.mark.parametrize("cut", [1, 2, 30, -1])
def test_a_last_line_that_was_cut_off_is_left_out(tmp_path, cut):
    steps = [{"kind": "steps", "epoch": 1, "step": n, "seconds": 1, "loss": [1]} for n in (1, 2, 3)]
    lines = [json.dumps(record) for record in steps]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines[:2], lines[2][:cut]]))
    found = RunFiles(tmp_path)
    assert [record["step"] for record in found.records] == [1, 2]
    assert found.damaged_lines == []


DAMAGES = {
    "cut": lambda line: line[:10],
    "other JSON": lambda line: "[3, 4]",
    "of another shape": lambda line: '{"kind": "steps", "epoch": "one", "step": 1}',
    "deep": lambda line: "[" * 100_000,
    "bytes": lambda line: "\x00",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_what_is_lost_of_the_metrics_is_said_and_the_weights_are_whole(
    stopped, blobs, network, uninterrupted, how
):
    path = stopped / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[0] = DAMAGES[how](lines[0])
    path.write_text("\n".join(lines) + "\n")
    said = Notes()
    result = train(network, blobs, RunFolder.resume(stopped, CONFIG), said)
    assert [record["epoch"] for record in said.records] == [3]
    assert said.records[0]["text"] == (
        f"{path} has lost records of epoch 1: the weights are whole, but the curves and means of "
        "these epochs are not."
    )
    assert [note["text"] for note in RunFiles(stopped).notes] == [said.records[0]["text"]]
    expected = uninterrupted["backprop"][1]
    assert same(result.network, expected.network)
    assert result.summary["test_loss"] == expected.summary["test_loss"]


def test_metrics_that_are_gone_are_said(stopped, blobs, network, uninterrupted):
    (stopped / "metrics.jsonl").unlink()
    said = Notes()
    result = train(network, blobs, RunFolder.resume(stopped, CONFIG), said)
    assert "lost records of epoch 1, 2:" in said.records[0]["text"]
    assert same(result.network, uninterrupted["backprop"][1].network)


def test_checkpoints_that_are_gone_are_said(stopped, blobs, network, uninterrupted):
    shutil.rmtree(stopped / "checkpoints")
    said = Notes()
    result = train(network, blobs, RunFolder.resume(stopped, CONFIG), said)
    assert "starts again from its beginning" in said.records[0]["text"]
    assert same(result.network, uninterrupted["backprop"][1].network)


def test_one_writer_at_a_time(stopped, blobs, network):
    first = RunFolder.resume(stopped, CONFIG)
    with pytest.raises(RunFolderError, match="another process writes to it") as caught:
        RunFolder.resume(stopped, CONFIG)
    one_line(caught, str(stopped))
    first.close()
    RunFolder.resume(stopped, CONFIG).close()


def test_a_run_that_fails_leaves_its_folder_to_others(stopped, blobs):
    with pytest.raises(CheckpointError):
        train(other_networks()["wider"], blobs, RunFolder.resume(stopped))
    RunFolder.resume(stopped).close()


# What cannot be continued


def test_a_run_that_has_ended(uninterrupted):
    folder, _ = uninterrupted["backprop"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(RunFolderError, match="has ended") as caught:
        RunFolder.resume(folder, CONFIG)
    one_line(caught, str(folder))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_run_that_is_missing(tmp_path):
    with pytest.raises(RunFolderError, match="holds no run") as caught:
        RunFolder.resume(tmp_path / "nowhere", CONFIG)
    one_line(caught, "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("text", ["", '{"depth": 4', "[]", "3", "\x00\xff"], ids=repr)
def test_a_configuration_that_is_damaged(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunFolderError, match=r"config\.json") as caught:
        RunFolder.resume(tmp_path, CONFIG)
    one_line(caught)


def test_another_configuration(stopped):
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(RunFolderError, match="another configuration") as caught:
        RunFolder.resume(stopped, {**CONFIG, "rate": 0.02, "depth": 5})
    one_line(caught, "depth 4 -> 5", "rate 0.01 -> 0.02")
    assert {p: p.read_bytes() for p in stopped.rglob("*") if p.is_file()} == before


def other_networks():
    def make(width=8, depth=4, outputs=4):
        key = jax.random.key(0)
        return fx.models.residual_mlp(6, outputs, width=width, depth=depth, key=key)

    return {"wider": make(width=9), "deeper": make(depth=5), "no stack": make(depth=2)}


@pytest.mark.parametrize("name", ["wider", "deeper", "no stack"])
def test_a_checkpoint_of_another_network(stopped, blobs, name):
    with pytest.raises(CheckpointError) as caught:
        train(other_networks()[name], blobs, RunFolder.resume(stopped))
    one_line(caught, str(stopped), "network")


def test_a_checkpoint_of_another_optimizer(stopped, blobs, network):
    run = RunFolder.resume(stopped)
    with pytest.raises(CheckpointError) as caught:
        fx.fit(
            network,
            blobs,
            RULES["backprop"],
            optimizer=optax.sgd(0.1),
            epochs=3,
            batch_size=16,
            observers=(run,),
        )
    one_line(caught, str(stopped))
    run.close()


# Damaged checkpoints


def damage(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "overwritten":
        path.write_bytes(bytes(byte ^ 0x5A for byte in content))
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "overwritten", "deleted"])
def test_a_damaged_checkpoint_never_gives_other_weights(stopped, blobs, network, tmp_path, how):
    """Whichever file of it is damaged: the one before it, or the very same state if it is spare."""

    class Keep(Observer):
        def started(self, plan, state):
            self.state = state
            raise KeyboardInterrupt

    def restored(folder):
        keep, run = Keep(), RunFolder(folder)
        with pytest.raises(KeyboardInterrupt):
            train(network, blobs, run, keep)
        run.close()
        return keep.state

    expected = restored(stopped)
    assert int(expected.epoch) == 2
    files = [path.relative_to(stopped) for path in newest(stopped).rglob("*") if path.is_file()]
    fallen_back = []
    for index, file in enumerate(files):
        copy = tmp_path / f"copy{index}"
        shutil.copytree(stopped, copy)
        if how != "deleted" and not (copy / file).stat().st_size:
            continue
        damage(copy / file, how)
        found = restored(copy)
        if int(found.epoch) == 2:
            assert same(found, expected), file
        else:
            assert int(found.epoch) == 1, file
            fallen_back.append(file)
            assert not (copy / "checkpoints" / "8").exists()
    assert fallen_back


def test_after_a_damaged_checkpoint_the_one_before_it_serves(
    stopped, blobs, network, uninterrupted, caplog
):
    for path in newest(stopped).rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    run = RunFolder.resume(stopped, CONFIG)
    said = Notes()
    result = train(network, blobs, run, said)
    (record,) = said.records
    assert record["text"].startswith("the checkpoint at step 8 in")
    assert "is damaged" in record["text"]
    assert record["text"].endswith("the run goes on from step 4.")
    assert [record.getMessage() for record in caplog.records] == [], "logged to the terminal"
    assert_as_if_uninterrupted(stopped, result, uninterrupted["backprop"])


def test_one_flipped_bit_of_an_array_is_noticed(
    stopped, blobs, network, uninterrupted, monkeypatch
):
    """Whatever the files' own format notices: the array that is read differs by one bit."""
    manager = type(Checkpoints(stopped / "checkpoints")._manager)
    restore = manager.restore

    def flipped(self, position, **given):
        found = restore(self, position, **given)
        if position == 8:
            name = next(name for name in found if name.endswith("weight"))
            bits = np.array(found[name]).view(np.uint32)
            bits[(0,) * bits.ndim] ^= 1
            found[name] = bits.view(np.float32)
        return found

    monkeypatch.setattr(manager, "restore", flipped)
    said = Notes()
    result = train(network, blobs, RunFolder.resume(stopped, CONFIG), said)
    assert (
        "weight does not have its checksum; the run goes on from step 4."
        in (said.records[0]["text"])
    )
    assert_as_if_uninterrupted(stopped, result, uninterrupted["backprop"])


def test_a_checkpoint_under_another_number_is_noticed(stopped, blobs, network, uninterrupted):
    (stopped / "checkpoints" / "8").rename(stopped / "checkpoints" / "11")
    said = Notes()
    result = train(network, blobs, RunFolder.resume(stopped, CONFIG), said)
    assert "step 11" in said.records[0]["text"]
    assert_as_if_uninterrupted(stopped, result, uninterrupted["backprop"])


def test_an_empty_folder_of_a_high_number(stopped, blobs, network, uninterrupted):
    (stopped / "checkpoints" / "99").mkdir()
    result = train(network, blobs, RunFolder.resume(stopped, CONFIG), Notes())
    assert_as_if_uninterrupted(stopped, result, uninterrupted["backprop"])


def test_checkpoints_without_checksums_are_those_of_version_01(
    stopped, blobs, network, uninterrupted, monkeypatch
):
    folder, whole = stopped.parent / "old", orbax.args.StandardSave
    without = lambda arrays: whole({k: v for k, v in arrays.items() if k != "checksums"})  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(orbax.args, "StandardSave", without)
        with pytest.raises(KeyboardInterrupt):
            train(network, blobs, RunFolder.create(folder, CONFIG), InterruptAt(2, None))
    for path in newest(folder).rglob("*METADATA*"):
        assert b"checksums" not in path.read_bytes()
    said = Notes()
    result = train(network, blobs, RunFolder.resume(folder, CONFIG), said)
    assert said.records == []
    assert_as_if_uninterrupted(folder, result, uninterrupted["backprop"])


def test_checkpoints_hold_nothing_executable(stopped, blobs, network, monkeypatch):
    """Reading one never unpickles."""

    def refuse(*_, **__):
        raise AssertionError("a checkpoint was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    run = RunFolder(stopped)
    fresh = []

    class Ask(Observer):
        def restore(self, state):
            fresh.append(state)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network, blobs, Ask())
    restored = run.restore(fresh[0])
    run.close()
    assert int(restored.state.epoch) == 2
    for path in stopped.rglob("*"):
        if path.is_file():
            # A pickle of protocol 2 or later begins so; earlier ones end like this.
            content = path.read_bytes()
            assert not (content[:1] == b"\x80" and content[1:2] in (b"\2", b"\3", b"\4", b"\5"))
            assert b"numpy.core.multiarray" not in content


# A full disk

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def failing(*_, **__):
    raise FULL


def said(caught, *words):
    one_line(caught, "No space left on device", *words)


@pytest.mark.parametrize("step", ["write_text", "replace"])
def test_no_space_for_the_configuration(tmp_path, monkeypatch, step):
    """Nothing stays behind, so that the same command can be given again."""
    monkeypatch.setattr(*((Path, step) if step == "write_text" else (os, step)), failing)
    with pytest.raises(RunFolderError) as caught:
        RunFolder.create(tmp_path / "run", CONFIG)
    said(caught, "config.json")
    assert not (tmp_path / "run").exists()


@needs_dev_full
def test_no_space_for_a_json_file(tmp_path):
    """A real device that is always full, in the place of the temporary file."""
    path = tmp_path / "summary.json"
    write_json(path, {"old": 1})
    (tmp_path / f".summary.json.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(RunFolderError) as caught:
        write_json(path, {"new": 2})
    said(caught, "summary.json")
    assert strict(path.read_text()) == {"old": 1}
    assert leftovers(tmp_path) == []


@needs_dev_full
def test_no_space_for_the_metrics(blobs, network, uninterrupted, tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    metrics = run.folder / "metrics.jsonl"

    class FillDisk(Observer):
        def started(self, plan, state):
            metrics.symlink_to("/dev/full")

    with pytest.raises(RunFolderError) as caught:
        train(network, blobs, run, FillDisk())
    said(caught, "metrics.jsonl", "free some space")
    run.close()
    assert not (run.folder / "summary.json").exists()
    metrics.unlink()
    result = train(network, blobs, RunFolder.resume(run.folder, CONFIG))
    assert_as_if_uninterrupted(run.folder, result, uninterrupted["backprop"])


def test_no_space_for_the_summary(blobs, network, uninterrupted, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    run = RunFolder.create(folder, CONFIG)
    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(RunFolderError) as caught:
        train(network, blobs, run)
    said(caught, "summary.json")
    run.close()
    monkeypatch.undo()
    assert not (folder / "summary.json").exists()
    assert leftovers(folder) == []
    result = train(network, blobs, RunFolder.resume(folder, CONFIG))
    assert_as_if_uninterrupted(folder, result, uninterrupted["backprop"])


def test_no_space_for_a_checkpoint(blobs, network, uninterrupted, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    run = RunFolder.create(folder, CONFIG)
    manager = run._store()._manager
    save = manager.save

    def full_at_the_second(position, **rest):
        if position == 8:
            raise FULL
        return save(position, **rest)

    monkeypatch.setattr(manager, "save", full_at_the_second)
    with pytest.raises(CheckpointError) as caught:
        train(network, blobs, run)
    said(caught, "step 8", str(folder), "resume")
    run.close()
    monkeypatch.undo()
    assert leftovers(folder) == []
    result = train(network, blobs, RunFolder.resume(folder, CONFIG))
    assert_as_if_uninterrupted(folder, result, uninterrupted["backprop"])


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits on Windows")
def test_no_room_for_a_checkpoint_in_earnest(blobs, tmp_path, caplog):
    """The system lets no file grow beyond 16 kB: the checkpoint fails below Python."""
    import resource

    network = fx.models.mlp(6, 4, width=64, depth=4, key=jax.random.key(0))
    folder = tmp_path / "run"
    run = RunFolder.create(folder, CONFIG)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, hard))
    try:
        with pytest.raises(CheckpointError) as caught:
            train(network, blobs, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        run.close()
    one_line(caught, "step 4", str(folder), "resume")
    assert [record.getMessage() for record in caplog.records] == [], "logged to the terminal"
    assert not (folder / "summary.json").exists()
    assert leftovers(folder) == []
    whole = RunFolder.create(tmp_path / "whole", CONFIG)
    result = train(network, blobs, RunFolder.resume(folder, CONFIG))
    assert_as_if_uninterrupted(folder, result, (whole.folder, train(network, blobs, whole)))


def test_steps_are_numbered_without_gaps_over_sessions(blobs, network, tmp_path):
    """Three sessions, the records of each dispatched as it comes."""
    folder = tmp_path / "run"
    for stop in ((1, None), (2, None), None):
        run = RunFolder.resume(folder) if folder.exists() else RunFolder.create(folder, CONFIG)
        if stop is None:
            train(network, blobs, run)
        else:
            with pytest.raises(KeyboardInterrupt):
                train(network, blobs, run, InterruptAt(*stop))
    steps = [entry[:2] for entry in per_step(folder)]
    assert steps == list(itertools.product((1, 2, 3), (1, 2, 3, 4)))


def test_a_failed_write_has_the_last_word(monkeypatch):
    """What its unfinished files report to a closed event loop is not shown; anything else is."""
    shown = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda unraisable: shown.append(unraisable.exc_value)
    )
    with pytest.raises(OSError, match="full"), checkpoints._quiet():
        raise OSError("full")
    late, other = RuntimeError("Event loop is closed"), RuntimeError("anything else")
    for error in (late, other):
        sys.unraisablehook(SimpleNamespace(exc_value=error))
    assert shown == [other]
    with checkpoints._quiet():
        pass
    sys.unraisablehook(SimpleNamespace(exc_value=other))
    assert shown == [other, other]


def test_a_checkpoint_of_before_updates_carried_anything_goes_on(blobs, network, tmp_path):
    """As it was written when every update measured what holds the strength."""
    before, now = (fx.Equilibrium(output_precision=fx.HoldStrength(0.1, n)) for n in (1, 16))
    with pytest.raises(KeyboardInterrupt):
        train(
            network,
            blobs,
            RunFolder.create(tmp_path / "run", CONFIG),
            InterruptAt(1, None),
            rule=before,
        )
    first = Checkpoints(tmp_path / "run" / "checkpoints")
    fresh = fx.training.TrainingState.begun(
        network, fx.Learner(now, ADAM).begin(network), jax.random.key(0)
    )
    found = first.restore(fresh)
    first.close()
    assert int(found.state.optimizer.sensitivity.count) == 0
    assert int(found.state.optimizer.optimizer_state[0].count) == found.position > 0
    result = train(network, blobs, RunFolder.resume(tmp_path / "run"), rule=now)
    assert len(result.history) == 3
