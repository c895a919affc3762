"""Streams: the same training as in memory, continued where it was, and told what is wrong."""

import re
from pathlib import Path

import datasets
import equinox as eqx
import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from grain.experimental import WindowShuffleIterDataset

import fathomx as fx
from fathomx.training import Observer, RunFolder

# What Grain's threads and Orbax leave open is not ours to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

RNG = np.random.default_rng(0)
SIZE, BATCH, EPOCHS = 75, 8, 3
STEPS = SIZE // BATCH
X = RNG.normal(size=(SIZE, 5)).astype(np.float32)
Y = RNG.integers(0, 3, SIZE).astype(np.int32)
ADAM = optax.adam(1e-2, eps=1e-12)


def network():
    return fx.models.mlp(5, 3, width=6, depth=3, key=jax.random.key(0))


def train(data, *observers, rule=None, epochs=EPOCHS, **options):
    return fx.fit(
        network(), data, rule or fx.Backprop(), optimizer=ADAM, epochs=epochs, observers=observers,
        **options,
    )  # fmt: skip


def weights(result):
    found = result.network if isinstance(result, fx.training.FitResult) else result
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(fx.weights(found)))


def orders():
    """The order of every epoch in memory at seed 0, as places."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1_000_003), 0)
    keys = [jax.random.fold_in(key, epoch) for epoch in range(EPOCHS)]
    found = [np.asarray(jax.random.permutation(k, SIZE)) for k in keys]
    return np.stack([order[: STEPS * BATCH].reshape(STEPS, BATCH) for order in found])


def by_name(rows):
    return {"input": X[rows], "output": Y[rows]}


def memory_map(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return fx.data.Stream((np.load(tmp_path / "x.npy", mmap_mode="r"), Y))


def part_of_a_memory_map(tmp_path):
    np.save(tmp_path / "x.npy", np.concatenate([X[:4], X, X]))
    return fx.data.Stream((np.load(tmp_path / "x.npy", mmap_mode="r")[4 : 4 + SIZE], Y))


def hugging_face(tmp_path):
    made = datasets.Dataset.from_dict({"input": X.tolist(), "output": Y.tolist()})
    made.save_to_disk(str(tmp_path / "stored"))
    return fx.data.Stream(datasets.load_from_disk(str(tmp_path / "stored")))


def grain_map(tmp_path):
    places = orders().reshape(-1)
    rows = grain.MapDataset.range(len(places)).map(lambda place: by_name(places[place]))
    return fx.data.Stream(rows.batch(BATCH), steps=STEPS)


def grain_iterator(tmp_path):
    places = orders().reshape(-1)
    rows = grain.MapDataset.range(len(places)).map(lambda place: by_name(places[place]))
    return fx.data.Stream(rows.to_iter_dataset().batch(BATCH), steps=STEPS)


class Examples:
    def __repr__(self):
        # By which Grain's loader knows a source again.
        return "Examples()"

    def __len__(self):
        return STEPS * BATCH * EPOCHS

    def __getitem__(self, place):
        return by_name(orders().reshape(-1)[place])


def grain_loader(tmp_path):
    sampler = grain.samplers.SequentialSampler(len(Examples()), grain.sharding.NoSharding())
    operations = [grain.transforms.Batch(BATCH, drop_remainder=True)]
    loader = grain.DataLoader(data_source=Examples(), sampler=sampler, operations=operations)
    return fx.data.Stream(loader, steps=STEPS)


def function(tmp_path):
    return fx.data.Stream(lambda epoch: ((X[rows], Y[rows]) for rows in orders()[epoch]), steps=9)


SAME_ORDER = [
    memory_map,
    part_of_a_memory_map,
    hugging_face,
    grain_map,
    grain_iterator,
    grain_loader,
    function,
]


@pytest.fixture(scope="module")
def in_memory():
    return train(fx.data.Dataset("mine", (X, Y), classes=3), batch_size=BATCH)


@pytest.mark.parametrize("stream", SAME_ORDER)
def test_a_stream_trains_as_memory_does(stream, tmp_path, in_memory):
    result = train(stream(tmp_path), batch_size=BATCH)
    assert weights(result) == weights(in_memory)
    wanted = [record["train_loss"] for record in in_memory.history]
    assert [record["train_loss"] for record in result.history] == wanted


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_read_the_same_rows(workers, tmp_path, in_memory):
    stream = fx.data.Stream(fx.data.Rows((X, Y), workers=workers))
    assert weights(train(stream, batch_size=BATCH)) == weights(in_memory)


def test_chunks_of_any_size_are_the_same_training(in_memory, monkeypatch):
    """Chunks of four batches, which do not divide an epoch of nine."""
    monkeypatch.setattr(fx.training.feed, "MOST_STEPS", 4)
    assert weights(train(fx.data.Stream((X, Y)), batch_size=BATCH)) == weights(in_memory)


def test_rows_of_numbers_of_other_types():
    """What JAX cannot hold is converted as in a data set: integers are tokens or labels."""
    rows = fx.data.Rows({"a": X.astype(np.float64), "b": np.arange(SIZE), "c": X > 0})
    taken = rows.take([3, 1])
    kinds = {name: array.dtype.name for name, array in taken.items()}
    assert kinds == {"a": "float32", "b": "int32", "c": "bool"}
    assert taken["b"].tolist() == [3, 1] and taken["a"].tobytes() == X[[3, 1]].tobytes()


@pytest.mark.parametrize("places", [[0], [74], [3, 4, 5], [9, 8, 7], [0, 74, 1, 2, 2], []])
def test_rows_of_a_file(places, tmp_path):
    """Neighbors are read at once, others one by one."""
    np.asarray(X).tofile(tmp_path / "x.bin")
    mapped = np.memmap(tmp_path / "x.bin", np.float32, "r", offset=20, shape=(SIZE - 1, 5))
    rows = fx.data.Rows((mapped, Y[1:]))
    if 74 in places:
        places = [min(place, 73) for place in places]
    np.testing.assert_array_equal(rows.take(np.array(places, int))["input"], X[1:][places])


def test_a_file_is_not_held_in_memory(tmp_path):
    """64 MB are read, in chunks of 1, and no page of the map counts as the process's own."""

    def mapped_bytes():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))

    np.save(tmp_path / "x.npy", np.ones((16_384, 1024), np.float32))
    rows = fx.data.Rows({"x": np.load(tmp_path / "x.npy", mmap_mode="r")})
    before = mapped_bytes()
    assert sum(float(part["x"][:, 0].sum()) for part in rows.once(256)) == 16_384
    assert mapped_bytes() - before < 2**23


# An incomplete last batch.


def test_an_incomplete_batch_is_learned_from():
    """Of 11 examples the last 3: the update of `fx.Learner` on these alone."""
    rows = fx.data.Rows((X[:11], Y[:11]), shuffle=False, incomplete=True)
    result = train(fx.data.Stream(rows), epochs=1, batch_size=8)
    assert result.history[0]["steps"] == 2
    learner, now = fx.Learner(fx.Backprop(), ADAM), network()
    state = learner.begin(now)
    for part in (slice(0, 8), slice(8, 11)):
        now, state, _ = learner.update(now, state, (X[part], Y[part]), jax.random.key(0))
    pair = [jax.tree.leaves(fx.weights(net)) for net in (result.network, now)]
    for found, wanted in zip(*pair, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_an_incomplete_batch_is_left_out_unless_asked_for():
    result = train(fx.data.Stream((X[:11], Y[:11])), epochs=1, batch_size=8)
    assert result.history[0]["steps"] == 1
    few = train(fx.data.Stream(fx.data.Rows((X[:5], Y[:5]), incomplete=True)), batch_size=8)
    assert few.history[-1]["steps"] == EPOCHS


def test_an_incomplete_batch_of_a_stream_of_batches():
    batches = [(X[:8], Y[:8]), (X[8:11], Y[8:11])]
    rows = fx.data.Rows((X[:11], Y[:11]), shuffle=False, incomplete=True)
    wanted = train(fx.data.Stream(rows), batch_size=8)
    assert weights(train(fx.data.Stream(batches))) == weights(wanted)
    # Grain's own, at the end of every epoch.
    ds = grain.MapDataset.range(11).map(lambda i: (X[i], Y[i])).batch(8)
    assert weights(train(fx.data.Stream(ds))) == weights(wanted)


# Validation and test.


def test_parts_of_a_stream_are_scored_as_in_memory():
    parts = {"validation": (X[:20], Y[:20]), "test": (X[20:50], Y[20:50])}
    wanted = train(fx.data.Dataset("mine", (X, Y), classes=3, **parts), batch_size=BATCH).summary
    in_batches = [(X[20:32], Y[20:32]), (X[32:50], Y[32:50])]
    stream = fx.data.Stream((X, Y), validation=parts["validation"], test=in_batches)
    found = train(stream, batch_size=BATCH).summary
    for name in ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)
    for name in ("cosine_to_backprop", "pc_strength"):
        assert found[name] == wanted[name]


def test_own_scores_and_poses():
    """What Stream gives an own pose are the arrays by name, and scores are means of examples."""

    def pose(network, batch):
        return fx.Problem(network, batch["x"] * 2, batch["y"])

    def scores(network, batch):
        return {"first": batch["x"][:, 0]}

    parts = [{"x": X[:3], "y": Y[:3]}, {"x": X[3:4], "y": Y[3:4]}]
    stream = fx.data.Stream({"x": X / 2, "y": Y}, validation=parts)
    result = train(stream, batch_size=BATCH, pose=pose, scores=scores)
    wanted = train(fx.data.Dataset("mine", (X, Y), classes=3), batch_size=BATCH)
    assert weights(result) == weights(wanted)
    np.testing.assert_allclose(result.summary["validation_first"], X[:4, 0].mean(), rtol=1e-6)


# Going on.


class StopAfter(Observer):
    """Interrupts a run after more than so many steps, as Ctrl-C does; none of them is lost."""

    def __init__(self, steps):
        self.left = steps

    def stepped(self, record, state):
        self.left -= len(record["loss"])
        if self.left < 0:
            raise KeyboardInterrupt


def mixed(tmp_path):
    """A Grain pipeline with a state of its own: a window that is shuffled."""
    rows = grain.MapDataset.range(SIZE).seed(1).shuffle().map(lambda i: (X[i], Y[i])).repeat()
    window = WindowShuffleIterDataset(rows.to_iter_dataset(), window_size=10, seed=2)
    return fx.data.Stream(window.batch(BATCH), steps=STEPS)


@pytest.mark.parametrize("stream", [memory_map, hugging_face, mixed, grain_loader, function])
@pytest.mark.parametrize("steps", [4, 9, 14])
def test_a_run_goes_on_bit_for_bit(stream, steps, tmp_path, monkeypatch):
    """Stopped in the first epoch, at its end, and in the second."""
    monkeypatch.setattr(fx.training.run, "_SECONDS_PER_DISPATCH", 0.0)
    wanted = train(stream(tmp_path), batch_size=BATCH)
    folder = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(KeyboardInterrupt):
        train(stream(tmp_path), folder, StopAfter(steps), batch_size=BATCH)
    folder = RunFolder.resume(tmp_path / "run")
    found = train(stream(tmp_path), folder, batch_size=BATCH)
    folder.close()
    assert weights(found) == weights(wanted)
    assert [r["train_loss"] for r in found.history] == [r["train_loss"] for r in wanted.history]


def test_a_stream_that_is_replayed_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(fx.training.run, "_SECONDS_PER_DISPATCH", 0.0)
    folder = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(KeyboardInterrupt):
        train(function(tmp_path), folder, StopAfter(STEPS + 4))
    folder = RunFolder.resume(tmp_path / "run")
    train(function(tmp_path), folder)
    folder.close()
    said = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert (
        "stream 'stream' keeps no place of its own: the first 5 batches of epoch 2 are gone "
        "through again, and not trained on." in said
    )


def test_a_state_of_another_stream_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fx.training.run, "_SECONDS_PER_DISPATCH", 0.0)
    folder = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(KeyboardInterrupt):
        train(mixed(tmp_path), folder, StopAfter(4))
    folder = RunFolder.resume(tmp_path / "run")
    with pytest.raises(ValueError, match=r"^stream 'stream' cannot go on where the run was stop"):
        train(grain_loader(tmp_path), folder)


def test_a_finite_grain_data_set_begins_anew_in_every_epoch():
    ds = grain.MapDataset.range(16).map(lambda i: (X[i], Y[i])).batch(8)
    wanted = train(fx.data.Stream(fx.data.Rows((X[:16], Y[:16]), shuffle=False)), batch_size=8)
    assert weights(train(fx.data.Stream(ds))) == weights(wanted)
    assert weights(train(fx.data.Stream(ds.to_iter_dataset(), steps=2))) == weights(wanted)


# What is wrong.


def batches_with(step, batch):
    found = [(X[:8], Y[:8]) for _ in range(4)]
    found[step] = batch
    return fx.data.Stream(found, name="mine")


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (
            (X[:8, :4], Y[:8]),
            "step 3 of epoch 1 of stream 'mine' was given input float32[4], target int32[], but "
            "the first batch held input float32[5], target int32[]; give all batches the names,",
        ),
        (
            (X[:8] > 0, Y[:8]),
            "step 3 of epoch 1 of stream 'mine' was given input bool[5], target int32[], but",
        ),
        (
            {"input": X[:8], "output": Y[:8]},
            "was given input float32[5], output int32[], but the first batch held input float32",
        ),
        (
            (X[:7], Y[:7]),
            "step 3 of epoch 1 of stream 'mine' was given 7 examples, but the first batch held 8; "
            "give all batches one size",
        ),
        ((X[:9], Y[:9]), "was given 9 examples, but the first batch held 8; give all"),
        ((X[:8], Y[:7]), "in step 3 of epoch 1 of stream 'mine', there are unlike or no numbers"),
        (X[:8], "in step 3 of epoch 1 of stream 'mine', a batch must be a pair such as (x, y)"),
        (
            (np.full_like(X[:8], np.nan), Y[:8]),
            "'input' holds values that are NaN or infinite in batches 1 to 4 of epoch 1 of stream",
        ),
        (
            (X[:8], Y[:8] + 3),
            "in batches 1 to 4 of epoch 1 of stream 'mine', target labels run from 0 to 5",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_named(batch, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)) as caught:
        train(batches_with(2, batch), epochs=1)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_the_last_batch_may_not_be_larger():
    with pytest.raises(ValueError, match=r"step 4 of epoch 1 .* was given 9 examples"):
        train(batches_with(3, (X[:9], Y[:9])), epochs=1)


@pytest.mark.parametrize("kept", [True, False])
def test_a_stream_that_ends_early_is_named(kept):
    ds = grain.MapDataset.range(24).map(lambda i: (X[i], Y[i])).batch(8)
    batches = [(X[:8], Y[:8])] * 3
    given = ds.to_iter_dataset() if kept else lambda epoch: iter(batches)
    words = (
        "stream 'mine' ended early: there is no batch for step 4 of 5 in epoch 1; give steps=3, or "
        "more batches."
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        train(fx.data.Stream(given, steps=5, name="mine"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fx.data.Stream(iter([(X, Y)])), "can be gone through only once; give what begins"),
        (lambda: fx.data.Stream([]), "in the train part of stream 'stream', there are no batches"),
        (lambda: fx.data.Stream(7), "a part of a stream must be arrays (a pair, or by name), a"),
        (lambda: fx.data.Stream((X, Y[:3])), "there are unlike or no numbers of examples"),
        (lambda: fx.data.Stream((X, Y), steps=0), "steps must be an integer of at least 1, not 0"),
        (lambda: fx.data.Stream((X, Y), buffer=0), "buffer must be an integer of at least 1, not"),
        (lambda: fx.data.Stream((X, Y), validation=[]), "in the validation part of stream"),
        (
            lambda: fx.data.Stream(grain.MapDataset.range(9)),
            "a batch must be a pair such as (x, y) or arrays by name such as {'image': x}, not",
        ),
        (
            lambda: train(fx.data.Stream(lambda epoch: iter([(X, Y)]))),
            "stream 'stream' does not know how many batches an epoch has; give fx.data.Stream(...",
        ),
        (
            lambda: train(fx.data.Stream((X, Y), steps=10), batch_size=8),
            "steps is 10, but stream 'stream' has 9 batches of 8 in an epoch; give at most so many",
        ),
        (
            lambda: train(fx.data.Stream([(X[:8], Y[:8])] * 2), batch_size=16),
            "batch_size is 16, but stream 'stream' has batches of 8; leave out batch_size",
        ),
        (
            lambda: train(fx.data.Stream((X, Y)), batch_size=100),
            "batch_size is 100, but stream 'stream' has fewer examples; choose a smaller one.",
        ),
        (
            lambda: train(fx.data.Stream((X[:, :4], Y)), batch_size=8),
            "the input has shape (2, 4), but the network's input takes",
        ),
        (
            lambda: train(fx.data.Stream({"input": X, "image": Y}), batch_size=8),
            "image",
        ),
        (
            lambda: train(
                fx.data.Stream(
                    (X, Y),
                    validation=grain.MapDataset.range(9)
                    .map(lambda i: (X[i], Y[i]))
                    .repeat()
                    .batch(3),
                ),
                batch_size=8,
            ),
            "a part that is scored must end, but this one repeats without end",
        ),
    ],
)
def test_streams_that_do_not_fit(make, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_what_is_wrong_is_told_from_the_thread_that_reads(tmp_path):
    """A file that has become shorter."""
    np.save(tmp_path / "x.npy", X)
    stream = fx.data.Stream((np.load(tmp_path / "x.npy", mmap_mode="r"), Y))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:1000])
    with pytest.raises(ValueError, match="the file behind a memory map has become shorter"):
        train(stream, batch_size=8)


def test_the_shape_of_what_is_read_ahead_is_bounded():
    """Of 75 examples of 20 bytes in batches of 8, chunks of at most a mebibyte are one epoch."""
    big = np.zeros((64, 70_000), np.float32)
    sizes = []

    class Watched(fx.data.Rows):
        def take(self, places):
            sizes.append(len(places))
            return super().take(places)

    net = fx.models.mlp(70_000, 3, width=2, depth=2, key=jax.random.key(0))
    stream = fx.data.Stream(Watched((big, np.zeros(64, int))), buffer=5)
    fx.fit(net, stream, fx.Backprop(), epochs=1, batch_size=8, optimizer=1e-3)
    # 8 examples are 2.2 MB: two batches fit in 5 MiB.
    assert max(sizes) == 16


def test_a_state_with_a_place_is_saved_and_restored(tmp_path):
    from fathomx.training.checkpoints import Checkpoints
    from fathomx.training.observer import TrainingState

    moments = fx.Learner(fx.Backprop(), ADAM).begin(network())
    fresh = TrainingState.begun(network(), moments, jax.random.key(0))
    long = bytes(range(256)) * 3
    store = Checkpoints(tmp_path / "checkpoints")
    store.save(fresh.at_place(long), 1)
    found = store.restore(fresh.at_place(b"short"))
    store.close()
    assert np.asarray(found.state.place).tobytes() == long
    assert eqx.tree_equal(found.state.network, fresh.network)
    assert jnp.asarray(found.state.epoch) == 0
