"""Trackers, read back by the libraries they write for."""

import json
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import fathomx as fx
from fathomx.training import MLflow, Observer, TensorBoard, WeightsAndBiases

# Of the libraries, which warn of one another.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EPOCHS, BATCH = 2, 16
CONFIGURATION = {"depth": 3, "what": "a test"}


class Kept(Observer):
    """The records themselves."""

    def __init__(self):
        self.steps, self.epochs, self.summary = [], [], {}

    def stepped(self, record, state):
        self.steps += record["loss"]

    def epoch_ended(self, record, state):
        self.epochs.append(record)

    def finished(self, summary, state):
        self.summary = summary


def trained(*observers):
    data = fx.data.load("digits").take(50)
    network = fx.models.mlp(64, 10, depth=3, width=8, key=jax.random.key(0))
    fx.fit(network, data, epochs=EPOCHS, batch_size=BATCH, observers=observers)


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    kept = Kept()
    trained(kept, TensorBoard(tmp_path / "board", CONFIGURATION))
    found = EventAccumulator(str(tmp_path / "board"), size_guidance={"scalars": 0})
    found.Reload()
    losses = found.Scalars("train/loss")
    assert [event.step for event in losses] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([event.value for event in losses], kept.steps, rtol=1e-6)
    accuracies = found.Scalars("validation/accuracy")
    assert [event.step for event in accuracies] == [3, 6]
    expected = [record["validation_accuracy"] for record in kept.epochs]
    np.testing.assert_allclose([event.value for event in accuracies], expected, rtol=1e-6)
    (score,) = found.Scalars("summary/test_accuracy")
    assert score.value == pytest.approx(kept.summary["test_accuracy"])
    images = found.Images("energy_per_node")
    assert [event.step for event in images] == [3, 6]
    assert images[0].encoded_image_string.startswith(b"\x89PNG")
    assert b"a test" in found.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0]


def test_a_resumed_run_hides_what_was_written_after_its_checkpoint(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path, {})
    board.begin(0)
    board.scalars([(step, {"train/loss": 1.0}) for step in range(1, 9)])
    board.end(False)
    board.begin(5)
    board.scalars([(step, {"train/loss": 2.0}) for step in range(6, 8)])
    board.end(True)
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    events = [(event.step, event.value) for event in found.Scalars("train/loss")]
    assert events == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2)]


def test_mlflow(tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    # Pictures and files go to a folder beside the one that the program runs in.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.txt").write_text("an artifact")
    kept, store = Kept(), f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker = MLflow(store, "tests", CONFIGURATION, [tmp_path / "own.txt", tmp_path / "none.txt"])
    trained(kept, tracker)
    client = MlflowClient(tracking_uri=store)
    run = client.get_run(tracker.run)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"depth": "3", "what": "a test"}
    losses = client.get_metric_history(tracker.run, "train/loss")
    assert [metric.step for metric in losses] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([metric.value for metric in losses], kept.steps, rtol=1e-6)
    files = {file.path for file in client.list_artifacts(tracker.run)}
    assert files == {"energy_per_node_00000003.png", "energy_per_node_00000006.png", "own.txt"}
    assert run.data.metrics["summary/test_loss"] == pytest.approx(kept.summary["test_loss"])


def logged(content):
    """The records of a log in the format of LevelDB, which begins with a header of 7 bytes.

    In blocks of 32 KiB: checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle,
    4: last), then the data; less than 7 bytes at the end of a block are empty.
    """
    at, record = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def records(file):
    """The records of a run of Weights & Biases; a process of its own writes them, even later."""
    from wandb.proto.wandb_internal_pb2 import Record

    for _ in range(300):
        found = []
        for content in logged(file.read_bytes()):
            found.append(Record())
            found[-1].ParseFromString(content)
        if found and found[-1].HasField("exit"):
            return found
        time.sleep(0.1)
    raise AssertionError("the run was never closed")


def test_weights_and_biases_offline(tmp_path):
    """What it would send is in one file."""
    kept = Kept()
    trained(kept, WeightsAndBiases("tests", CONFIGURATION, folder=tmp_path, mode="offline"))
    (file,) = Path(tmp_path).rglob("run-*.wandb")
    losses, configured = {}, {}
    for record in records(file):
        items = {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        if "train/loss" in items:
            losses[items["_step"]] = items["train/loss"]
        configured |= {c.key: json.loads(c.value_json) for c in record.run.config.update}
    assert list(losses) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(list(losses.values()), kept.steps, rtol=1e-6)
    assert configured["depth"] == 3 and configured["what"] == "a test"


def test_what_is_refused(monkeypatch, tmp_path):
    with pytest.raises(TypeError, match="folder must be"):
        TensorBoard(3)
    with pytest.raises(ValueError, match="folder is empty"):
        TensorBoard("")
    with pytest.raises(ValueError, match="mode"):
        WeightsAndBiases("tests", mode="offlin")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for store in ("nowhere://store", "http://127.0.0.1:9"):
        with pytest.raises(ConnectionError, match=rf"the MLflow store {store} cannot be used"):
            MLflow(store).begin(0)
    monkeypatch.setattr("fathomx.training.trackers.find_spec", lambda name: None)
    for make, name in (
        (lambda: TensorBoard(tmp_path), "TensorBoard needs tensorboardX"),
        (lambda: WeightsAndBiases("tests"), "Weights & Biases needs wandb"),
        (MLflow, "MLflow needs mlflow"),
    ):
        with pytest.raises(ImportError, match=rf'{name}; pip install "fathomx\[trackers\]"'):
            make()
