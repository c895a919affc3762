"""Averaged weights, early stopping and validation within an epoch: by hand, and when resumed."""

import importlib
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.records.run_files import RunFiles
from fathomx.report.verdict import verdict
from fathomx.training import Observer, RunFolder
from fathomx.training.averaging import averaged

# What Orbax leaves open when it fails is not ours to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ADAM = optax.adam(1e-2, eps=1e-12)
DECAY = 0.8
TIMES = ("train_seconds", "first_step_seconds", "step_seconds_median", "step_memory_bytes")


def train(network, data, *observers, epochs=3, rule=None, **options):
    return fx.fit(
        network,
        data,
        rule or fx.Backprop(),
        optimizer=ADAM,
        epochs=epochs,
        batch_size=16,
        observers=observers,
        **options,
    )


def arrays(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def same(one, other):
    pairs = zip(arrays(one), arrays(other), strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def untimed(summary):
    return {name: value for name, value in summary.items() if name not in TIMES}


class Weights(Observer):
    """The state after every dispatch, and the validations within epochs."""

    def __init__(self):
        self.states, self.validations = [], []

    def stepped(self, record, state):
        self.states.append(state)

    def validated(self, record, state):
        self.validations.append((record, state))


class InterruptAt(Observer):
    """Ctrl-C after a step, in a validation within an epoch, or (step `None`) at its end."""

    def __init__(self, epoch, step, hook="stepped"):
        self.at, self.hook = (epoch, step), hook

    def stepped(self, record, state):
        if self.hook == "stepped" and (record["epoch"], record["step"]) == self.at:
            raise KeyboardInterrupt

    def validated(self, record, state):
        if self.hook == "validated" and (record["epoch"], record["step"]) == self.at:
            raise KeyboardInterrupt

    def epoch_ended(self, record, state):
        if (record["epoch"], None) == self.at:
            raise KeyboardInterrupt


def scripted(monkeypatch, losses):
    """From now on, validation after epoch `t` has the loss `losses[t]`; it is not asked before."""
    task = importlib.import_module("fathomx.training.task")
    real, given = task.Task.scoring, iter(losses)

    def scoring(self, network, title):
        found = yield from real(self, network, title)
        return {**found, "loss": next(given)} if title == "validation" else found

    monkeypatch.setattr(task.Task, "scoring", scoring)


# Averages


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_an_average_is_the_weighted_mean_of_all_steps(float64, decay):
    """`(1 - d) sum_i d^(t-i) theta_i / (1 - d^t)`, and nothing of where it started."""
    rng = np.random.default_rng(0)
    path = rng.normal(size=(6, 4))
    average = {"weight": jnp.full(4, 1e3), "steps": jnp.asarray(0)}
    for t in range(1, 7):
        now = {"weight": jnp.asarray(path[t - 1]), "steps": jnp.asarray(t)}
        average = averaged(average, now, decay, jnp.asarray(t))
        shares = (1 - decay) * decay ** np.arange(t - 1, -1, -1) / (1 - decay**t)
        np.testing.assert_allclose(shares.sum(), 1, rtol=1e-12)
        np.testing.assert_allclose(average["weight"], shares @ path[:t], rtol=1e-11)
        assert int(average["steps"]) == t


def test_the_first_steps_count_whole_in_float32():
    """With `1 - decay^t` as it stands, the first average would miss the weights by 1e-3."""
    average = averaged({"w": jnp.zeros(3)}, {"w": jnp.ones(3)}, 1 - 1e-5, jnp.asarray(1))
    np.testing.assert_allclose(average["w"], 1, rtol=1e-5)


@pytest.mark.parametrize(
    "rule", [fx.Backprop(), fx.Incremental(output_precision=1.0)], ids=["backprop", "incremental"]
)
def test_a_run_scores_and_returns_the_average_of_its_steps(
    blobs, network, one_step_per_dispatch, rule
):
    one_step_per_dispatch()
    seen = Weights()
    result = train(network, blobs, seen, epochs=2, rule=rule, average=DECAY)
    path = [jax.tree.leaves(fx.weights(state.network)) for state in seen.states]
    count = len(path)
    assert count == 8
    shares = (1 - DECAY) * DECAY ** np.arange(count - 1, -1, -1) / (1 - DECAY**count)
    for found, *steps in zip(jax.tree.leaves(fx.weights(result.network)), *path, strict=True):
        wanted = sum(share * np.asarray(w, float) for share, w in zip(shares, steps, strict=True))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    last = seen.states[-1]
    assert not same(result.network, last.network)
    problem = fx.Problem(result.network, blobs.test.inputs, blobs.test.labels)
    loss = float(jnp.mean(problem.loss(problem.feedforward())))
    np.testing.assert_allclose(result.summary["test_loss"], loss, rtol=1e-5)
    validated = fx.Problem(result.network, blobs.validation.inputs, blobs.validation.labels)
    loss = float(jnp.mean(validated.loss(validated.feedforward())))
    np.testing.assert_allclose(result.history[-1]["validation_loss"], loss, rtol=1e-5)
    assert result.summary["average"] == DECAY
    assert "averages over the steps (decay 0.8)" in " ".join(verdict({}, result.summary, []))


def test_the_weights_that_are_trained_are_those_without_an_average(blobs, network):
    seen, plain = Weights(), Weights()
    train(network, blobs, seen, epochs=2, average=DECAY)
    result = train(network, blobs, plain, epochs=2)
    assert same(seen.states[-1].network, result.network)
    assert "average" not in result.summary and plain.states[-1].average is None


def test_frozen_weights_stay_as_they_are(blobs, network):
    frozen = fx.freeze(network, ["first"])
    result = train(frozen, blobs, epochs=2, average=0.9)
    assert same(result.network.entry("first"), frozen.entry("first"))


# Early stopping


LOSSES = [1.0, 0.9, 0.5, 0.7, 0.6, 0.4, 0.3]


def test_it_ends_after_its_patience_with_the_weights_of_the_best_epoch(blobs, network, monkeypatch):
    whole = train(network, blobs, epochs=2)
    # The first is asked before training, whether there is such a score.
    scripted(monkeypatch, LOSSES)
    result = train(network, blobs, epochs=6, early_stopping=fx.EarlyStopping(patience=2))
    assert [record["epoch"] for record in result.history] == [1, 2, 3, 4]
    assert same(result.network, whole.network)
    assert result.summary["best_epoch"] == 2 and result.summary["best_by"] == "loss"
    assert result.summary["epochs"] == 4
    assert result.summary["ended"] == "the validation loss had not become better for 2 epochs"
    assert result.summary["validation_loss"] == 0.5
    assert result.summary["test_loss"] == whole.summary["test_loss"]
    for name in ("cosine_to_backprop", "weight_change_per_node", "train_loss"):
        assert result.summary[name] == result.history[1][name]
    said = " ".join(verdict({}, result.summary, result.history))
    assert "ended after epoch 4" in said and "of epoch 2, the best of 4 by validation loss" in said
    assert "lost" not in said


def test_the_best_weights_are_returned_where_nothing_ends_early(blobs, network, monkeypatch):
    whole = train(network, blobs, epochs=2)
    scripted(monkeypatch, LOSSES)
    result = train(network, blobs, epochs=3, early_stopping=fx.EarlyStopping(patience=2))
    assert same(result.network, whole.network)
    assert result.summary["best_epoch"] == 2 and result.summary["epochs"] == 3
    assert "ended" not in result.summary


def test_the_best_weights_are_averages_where_these_are_scored(blobs, network, monkeypatch):
    whole = train(network, blobs, epochs=2, average=DECAY)
    scripted(monkeypatch, LOSSES)
    stopping = fx.EarlyStopping(patience=2)
    result = train(network, blobs, epochs=6, average=DECAY, early_stopping=stopping)
    assert same(result.network, whole.network)


@pytest.mark.parametrize(
    ("options", "scores", "best"),
    [
        ({}, [3.0, 2.0, 2.0, 1.0], [1, 2, 2, 4]),
        ({"metric": "accuracy"}, [0.1, 0.3, 0.2, 0.3], [1, 2, 2, 2]),
        ({"metric": "reconstruction_error"}, [3.0, 2.0, 4.0, 1.0], [1, 2, 2, 4]),
        ({"metric": "profit", "better": "higher"}, [1.0, 5.0, 6.0, 2.0], [1, 2, 3, 3]),
        ({"metric": "accuracy", "better": "lower"}, [0.1, 0.3, 0.05, 0.2], [1, 1, 3, 3]),
        ({"least": 0.5}, [3.0, 2.6, 2.4, 2.3], [1, 1, 3, 3]),
        ({}, [float("nan"), 2.0, float("inf"), float("-inf")], [1, 2, 2, 2]),
    ],
)
def test_which_epoch_is_the_best(options, scores, best):
    stopping = fx.EarlyStopping(3, **options)
    found, at, highest = [], 0, float("nan")
    for epoch, score in enumerate(scores, 1):
        if not at or stopping.is_better(score, highest):
            at, highest = epoch, score
        found.append(at)
    assert found == best


def test_an_observer_may_end_training(blobs, network):
    class Enough(Observer):
        def stop(self, history):
            good = history[-1]["epoch"] == 2
            return "two epochs were enough" if good else None

    result = train(network, blobs, Enough(), epochs=5)
    assert same(result.network, train(network, blobs, epochs=2).network)
    assert result.summary["ended"] == "two epochs were enough" and result.summary["epochs"] == 2
    assert "best_epoch" not in result.summary


# Validation within an epoch


def test_validation_within_an_epoch_scores_the_weights_of_that_step(blobs, network):
    seen = Weights()
    result = train(network, blobs, seen, epochs=2, validate_every=3)
    assert [(r["epoch"], r["step"]) for r, _ in seen.validations] == [(1, 3), (2, 3)]
    for record, state in seen.validations:
        assert (int(state.epoch) + 1, int(state.step)) == (record["epoch"], record["step"])
        problem = fx.Problem(state.network, blobs.validation.inputs, blobs.validation.labels)
        loss = float(jnp.mean(problem.loss(problem.feedforward())))
        np.testing.assert_allclose(record["validation_loss"], loss, rtol=1e-5)
    plain = train(network, blobs, epochs=2)
    assert same(result.network, plain.network)
    assert untimed(result.summary) == untimed(plain.summary)


def test_points_of_validation_are_in_the_order_of_steps(blobs, network, tmp_path):
    folder = tmp_path / "run"
    run = RunFolder.create(folder, {})
    result = train(network, blobs, run, epochs=2, validate_every=3)
    steps, losses = RunFiles(folder).validation("validation_loss")
    assert steps.tolist() == [3, 4, 7, 8]
    assert losses[[1, 3]].tolist() == [r["validation_loss"] for r in result.history]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    within = [line for line in lines if line["kind"] == "validation"]
    assert [r["validation_loss"] for r in within] == losses[[0, 2]].tolist()


# Stopped and continued

ALL = {
    "average": DECAY,
    "validate_every": 2,
    "early_stopping": fx.EarlyStopping(patience=1, metric="accuracy", better="lower"),
}


def records(folder):
    """What `metrics.jsonl` says apart from times and from how steps were dispatched."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] != "steps"]


@pytest.fixture(scope="module")
def uninterrupted(blobs, network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, train(network, blobs, RunFolder.create(folder, {}), epochs=6, **ALL)


def test_the_uninterrupted_run_has_what_the_others_are_to_find_again(uninterrupted):
    _, result = uninterrupted
    best, epochs = result.summary["best_epoch"], result.summary["epochs"]
    assert 1 <= best < epochs < 6 and "ended" in result.summary


POINTS = [(1, 2, "stepped"), (1, 2, "validated"), (2, 3, "stepped"), (1, None, ""), (2, None, "")]


@pytest.mark.parametrize("behind", [True, False], ids=["after the folder", "before the folder"])
@pytest.mark.parametrize("at", POINTS, ids=str)
def test_a_stopped_run_finds_averages_best_weights_and_validations_again(
    blobs, network, uninterrupted, tmp_path, one_step_per_dispatch, at, behind
):
    one_step_per_dispatch()
    whole_folder, whole = uninterrupted
    folder = tmp_path / "run"
    observers = [RunFolder.create(folder, {}), InterruptAt(*at)]
    with pytest.raises(KeyboardInterrupt):
        train(network, blobs, *(observers if behind else observers[::-1]), epochs=6, **ALL)
    result = train(network, blobs, RunFolder.resume(folder), epochs=6, **ALL)
    assert same(result.network, whole.network)
    assert result.history == whole.history
    assert untimed(result.summary) == untimed(whole.summary)
    assert records(folder) == records(whole_folder)


def test_a_run_that_was_killed_after_it_had_ended_early_does_not_go_on(
    blobs, network, uninterrupted, tmp_path
):
    whole_folder, whole = uninterrupted
    folder = tmp_path / "run"
    last = whole.summary["epochs"]
    observers = (RunFolder.create(folder, {}), InterruptAt(last, None))
    with pytest.raises(KeyboardInterrupt):
        train(network, blobs, *observers, epochs=6, **ALL)
    result = train(network, blobs, RunFolder.resume(folder), epochs=6, **ALL)
    assert same(result.network, whole.network)
    assert untimed(result.summary) == untimed(whole.summary)
    assert records(folder) == records(whole_folder)


def test_checkpoints_of_a_run_without_choices_hold_no_more_than_before(blobs, network, tmp_path):
    import orbax.checkpoint as orbax

    folder = tmp_path / "run"
    train(network, blobs, RunFolder.create(folder, {}), epochs=1)
    held = orbax.StandardCheckpointer().metadata(
        folder.absolute() / "checkpoints" / "4" / "default"
    )
    names = set(held.item_metadata.tree if hasattr(held, "item_metadata") else held)
    assert not any(name.startswith(("average", "best")) for name in names)
    assert {"epoch", "step", "key", "checksums"} <= names


# What cannot be


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"average": 1.0}, "average must be .* below 1, not 1.0"),
        ({"average": 0.0}, "average must be"),
        ({"validate_every": 0}, "validate_every must be an integer of at least 1"),
        ({"validate_every": 4}, "validate_every is 4, but an epoch has 4 steps"),
        (
            {"early_stopping": fx.EarlyStopping(1, "energy")},
            "looks at 'energy', but validation is scored by 'loss', 'accuracy'",
        ),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_trained(blobs, network, options, words):
    seen = Weights()
    with pytest.raises(ValueError, match=words) as caught:
        train(network, blobs, seen, **options)
    assert "\n" not in str(caught.value) and not seen.states


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"patience": 0}, "patience must be an integer of at least 1"),
        ({"patience": 1, "metric": "profit"}, "whether a higher or a lower 'profit' is better"),
        ({"patience": 1, "better": "up"}, "unknown better 'up'"),
        ({"patience": 1, "least": -1.0}, "least must be"),
    ],
)
def test_early_stopping_that_cannot_be(arguments, words):
    with pytest.raises(ValueError, match=words):
        fx.EarlyStopping(**arguments)


def test_early_stopping_without_scores_of_validation():
    with pytest.raises(ValueError, match="there are none; give the data set such a part"):
        fx.EarlyStopping(2).check({"loss": None, "accuracy": None})


class Always(Observer):
    """Would end training after every epoch."""

    def stop(self, history):
        return "enough"


def test_who_did_all_epochs_was_not_ended(blobs, network):
    for epochs, ended in ((1, None), (2, "enough")):
        result = fx.fit(network, blobs, fx.Backprop(), epochs=epochs, observers=[Always()])
        assert result.summary["epochs"] == 1 and result.summary.get("ended") == ended


def test_numbers_that_are_not_recorded_are_told(blobs, network, tmp_path):
    run = RunFolder.create(tmp_path / "run", {})
    fx.fit(network, blobs, fx.Backprop(), epochs=1, observers=[run])
    files = RunFiles(tmp_path / "run")
    assert len(files.per_step("loss")[0]) == 1 and len(files.per_epoch("validation_loss")) == 1
    with pytest.raises(ValueError, match=r"'los'\. Did you mean 'loss'"):
        files.per_step("los")
    with pytest.raises(ValueError, match=r"'train_los'\. Did you mean 'train_loss'"):
        files.per_epoch("train_los")
