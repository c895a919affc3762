"""The training loop: it learns, repeats itself bit for bit, compiles once and keeps its hands off
the test set."""

import dataclasses
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.data import Part
from fathomx.training import Observer

# One object for all runs: JAX then knows that it has compiled their training step already.
ADAM = optax.adam(1e-2, eps=1e-12)
RULES = {"equilibrium": fx.Equilibrium(), "backprop": fx.Backprop()}
# Of a session: one that resumes after the last step has not measured them.
TIMES = ("train_seconds", "first_step_seconds", "step_seconds_median", "step_memory_bytes")


def train(network, data, rule=RULES["backprop"], **options):
    options = {"optimizer": ADAM, "epochs": 2, "batch_size": 16, **options}
    return fx.fit(network, data, rule, **options)


def weights(network):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array))]


def same(one, other):
    pairs = zip(weights(one), weights(other), strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def untimed(summary):
    return {name: value for name, value in summary.items() if name not in TIMES}


def relabeled(data, part):
    inputs, labels = getattr(data, part)
    return dataclasses.replace(data, **{part: Part(inputs, (labels + 1) % data.classes)})


class Recorder(Observer):
    """Writes down what it is told."""

    def __init__(self):
        self.calls, self.steps, self.states, self.plan, self.summary = [], [], [], None, None

    def restore(self, fresh):
        self.calls.append("restore")

    def started(self, plan, state):
        self.calls.append("started")
        self.plan = plan

    def stepped(self, record, state):
        self.calls.append("stepped")
        self.steps.append(record)
        self.states.append((int(state.epoch), int(state.step)))

    def epoch_ended(self, record, state):
        self.calls.append("epoch_ended")
        self.states.append((int(state.epoch), int(state.step)))

    def interrupted(self, state):
        self.calls.append("interrupted")

    def finished(self, summary, state):
        self.calls.append("finished")
        self.summary = summary


# It learns


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_it_learns_digits(rule):
    """400 digits, 8 hidden units: far beyond the 10 % of guessing, beyond 75 % of unseen ones."""
    data = fx.data.load("digits").take(400)
    network = fx.models.residual_mlp(
        64, 10, width=16, depth=4, parameterization=fx.MuPC(), key=jax.random.key(0)
    )
    result = train(network, data, rule, optimizer=optax.adam(0.03, eps=1e-12), epochs=12)
    assert result.summary["test_accuracy"] > 0.75
    assert result.history[-1]["train_loss"] < 0.5 * result.history[0]["train_loss"]


# It repeats itself


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_same_seed_gives_the_same_run_bit_for_bit(blobs, network, rule):
    one, again = (train(network, blobs, rule, seed=5) for _ in range(2))
    other = train(network, blobs, rule, seed=6)
    assert same(one.network, again.network)
    assert one.history == again.history
    assert untimed(one.summary) == untimed(again.summary)
    assert not same(one.network, other.network)
    assert not same(one.network, network)


def test_steps_per_dispatch_change_no_bit(blobs, network, one_step_per_dispatch):
    fast = train(network, blobs)
    one_step_per_dispatch()
    slow = train(network, blobs)
    assert same(fast.network, slow.network)
    assert fast.history == slow.history


# It compiles once


class Compilations:
    """Counts programs that JAX hands to the compiler."""

    def __init__(self):
        self.count = 0

    def __call__(self, event, seconds, **_):
        self.count += event == "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations():
    counter = Compilations()
    jax.monitoring.register_event_duration_secs_listener(counter)
    yield counter
    jax.monitoring.unregister_event_duration_listener(counter)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_nothing_is_compiled_after_the_first_epoch(blobs, network, rule, compilations):
    counts = []

    class Watch(Observer):
        def epoch_ended(self, record, state):
            counts.append(compilations.count)

    # A new optimizer, so that the first epoch has something to compile.
    train(network, blobs, rule, optimizer=optax.adam(2e-2), epochs=3, observers=(Watch(),))
    counts.append(compilations.count)
    assert len(counts) == 4
    assert counts[0] > 0, "the counter counts nothing"
    assert counts[1:] == counts[:1] * 3
    # The control: something new is counted, something known is not.
    doubled = jax.jit(lambda x: 2 * x)
    ones = jnp.ones(13), jnp.ones(17)
    before = compilations.count
    doubled(ones[0])
    assert compilations.count == before + 1
    doubled(ones[0])
    assert compilations.count == before + 1
    doubled(ones[1])
    assert compilations.count == before + 2


# It looks at what it may look at


def test_the_test_set_only_changes_the_test_score(blobs, network):
    one, other = train(network, blobs), train(network, relabeled(blobs, "test"))
    assert same(one.network, other.network)
    assert one.history == other.history
    changed = {k for k, v in untimed(one.summary).items() if v != other.summary[k]}
    assert changed == {"test_accuracy", "test_loss"}


def test_the_validation_set_changes_no_weight(blobs, network):
    one, other = train(network, blobs), train(network, relabeled(blobs, "validation"))
    assert same(one.network, other.network)
    for a, b in zip(one.history, other.history, strict=True):
        changed = {key for key in a if a[key] != b[key]}
        assert changed == {"validation_accuracy", "validation_loss"}


def test_training_labels_do_matter(blobs, network):
    one, other = train(network, blobs), train(network, relabeled(blobs, "train"))
    assert not same(one.network, other.network)


def test_scores_are_those_of_the_feedforward_prediction(blobs, network):
    result = train(network, blobs)
    for part, scores in (("validation", result.history[-1]), ("test", result.summary)):
        inputs, labels = getattr(blobs, part)
        predicted = np.asarray(fx.predict(result.network, inputs), float)
        loss = 0.5 * ((np.eye(4)[labels] - predicted) ** 2).sum(-1).mean()
        assert scores[f"{part}_loss"] == pytest.approx(loss, rel=1e-5)
        accuracy = (predicted.argmax(-1) == labels).mean()
        assert scores[f"{part}_accuracy"] == pytest.approx(accuracy, abs=1e-12)


def test_scores_of_parts_larger_than_one_dispatch(blobs, network):
    """1,203 examples are three dispatches, the last one padded."""
    inputs, labels = (np.resize(a, (1203, *a.shape[1:])) for a in blobs.train)
    result = train(network, dataclasses.replace(blobs, test=Part(inputs, labels)), epochs=1)
    predicted = np.asarray(fx.predict(result.network, inputs), float)
    loss = 0.5 * ((np.eye(4)[labels] - predicted) ** 2).sum(-1).mean()
    assert result.summary["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert result.summary["test_accuracy"] == (predicted.argmax(-1) == labels).mean()


# What it reports

EPOCH_KEYS = {
    "epoch",
    "steps",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "unsettled",
    "certified",
    "pc_strength",
    "output_precision",
    "cosine_to_backprop",
    "cosine_to_backprop_per_node",
    "energy_per_node",
    "imbalance",
    "length_to_backprop_per_node",
    "cosine_to_backprop_per_quarter",
    "target_alignment",
    "target_alignment_of_backprop",
    "gradient_length_per_node",
    "weight_change_per_node",
}


def test_the_history_of_predictive_coding(blobs, network):
    result = train(network, blobs, RULES["equilibrium"], epochs=3)
    assert [record["epoch"] for record in result.history] == [1, 2, 3]
    assert [record["steps"] for record in result.history] == [4, 8, 12]
    for record in result.history:
        assert set(record) == EPOCH_KEYS
        assert 0 <= record["unsettled"]["median"] <= record["unsettled"]["max"]
        # Held by one random estimate and measured by another: equal up to their spread.
        assert record["pc_strength"] == pytest.approx(0.1, rel=0.4)
        assert record["output_precision"] > 0
        assert 0.5 < record["cosine_to_backprop"] < 1
        assert len(record["cosine_to_backprop_per_node"]) == network.depth
        assert len(record["length_to_backprop_per_node"]) == network.depth
        first, second, third, output = record["energy_per_node"]
        balance = (third + output) / (first + second)
        assert record["imbalance"] == pytest.approx(balance, rel=1e-5)


def test_the_history_of_backprop(blobs, network):
    for record in train(network, blobs).history:
        assert set(record) == EPOCH_KEYS
        assert record["unsettled"] == {"median": None, "max": None}
        assert record["output_precision"] is None
        assert record["cosine_to_backprop"] == pytest.approx(1, abs=1e-5)
        assert record["length_to_backprop_per_node"] == pytest.approx([1] * 4, abs=1e-5)
        assert record["energy_per_node"] is None and record["imbalance"] is None


def test_training_scores_are_the_means_over_the_steps(blobs, network):
    recorder = Recorder()
    result = train(network, blobs, observers=(recorder,))
    for record in result.history:
        steps = [step for step in recorder.steps if step["epoch"] == record["epoch"]]
        for name in ("loss", "accuracy"):
            values = list(itertools.chain(*(step[name] for step in steps)))
            assert len(values) == 4
            assert record[f"train_{name}"] == pytest.approx(sum(values) / 4, rel=1e-12)


def test_the_summary(blobs, network):
    recorder = Recorder()
    result = train(network, blobs, RULES["equilibrium"], seed=7, observers=(recorder,))
    summary = result.summary
    assert recorder.summary == summary
    assert summary["depth"] == 4
    assert summary["parameters"] == 6 * 8 + 2 * 8 * 8 + 8 * 4
    assert summary["seed"] == 7
    assert summary["epochs"] == 2
    assert set(summary) >= {"test_accuracy", "test_loss"} | EPOCH_KEYS - {"epoch", "steps"}
    for name in ("unsettled", "pc_strength", "cosine_to_backprop", "validation_accuracy"):
        assert summary[name] == result.history[-1][name]
    for name in TIMES:
        assert summary[name] > 0
    assert summary["step_seconds_median"] <= summary["first_step_seconds"]
    assert summary["first_step_seconds"] <= summary["train_seconds"]


def test_one_step_has_a_first_step_but_no_median(blobs, network):
    summary = train(network, blobs, epochs=1, batch_size=70).summary
    assert summary["first_step_seconds"] > 0
    assert summary["step_seconds_median"] is None


def test_a_last_incomplete_batch_is_left_out(blobs, network):
    """70 examples in batches of 16: four steps, and which six are left out changes."""
    seen = []

    class Peek(fx.Backprop):
        def gradient(self, problem, key):
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), problem.input, ordered=False)
            return super().gradient(problem, key)

    recorder = Recorder()
    train(network, blobs, Peek(), epochs=3, observers=(recorder,))
    jax.effects_barrier()
    assert recorder.plan.steps_per_epoch == 4
    assert sum(len(step["loss"]) for step in recorder.steps) == 12
    # The probe looks at the first 16 examples once an epoch; in all else a batch is a new order.
    probe = blobs.train.inputs[:16]
    batches = [x for x in seen if not np.array_equal(x, probe)]
    assert len(batches) == 12
    left_out = []
    for epoch in range(3):
        rows = {row.tobytes() for x in batches[4 * epoch : 4 * epoch + 4] for row in x}
        assert len(rows) == 64, "an example came twice in an epoch"
        everything = {row.tobytes() for row in blobs.train.inputs}
        assert rows < everything
        left_out.append(everything - rows)
    assert len(set(map(frozenset, left_out))) == 3


def test_observers_are_called_in_order(blobs, network, one_step_per_dispatch):
    one_step_per_dispatch()
    recorder = Recorder()
    train(network, blobs, observers=(recorder,))
    epoch = ["stepped"] * 4 + ["epoch_ended"]
    assert recorder.calls == ["restore", "started", *epoch, *epoch, "finished"]
    assert [record["step"] for record in recorder.steps] == [1, 2, 3, 4] * 2
    assert [record["epoch"] for record in recorder.steps] == [1] * 4 + [2] * 4
    # The state after each: what comes next.
    first = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]
    assert recorder.states == first + [(epoch + 1, step) for epoch, step in first]
    plan = recorder.plan
    assert (plan.epochs, plan.steps_per_epoch, plan.batch_size) == (2, 4, 16)
    assert plan.labels == ("first", "hidden[0]", "hidden[1]", "output")


def test_an_interruption_reaches_the_observers_and_the_caller(blobs, network):
    recorder = Recorder()

    class Interrupt(Observer):
        def stepped(self, record, state):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network, blobs, observers=(recorder, Interrupt()))
    assert recorder.calls == ["restore", "started", "stepped", "interrupted"]


# Divergence


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_divergence_names_node_and_step(blobs, network, rule):
    with pytest.raises(fx.DivergenceError) as caught:
        train(network, blobs, rule, optimizer=optax.sgd(1e30))
    message = str(caught.value)
    assert "\n" not in message
    # The first step sees the initial weights; the second one sees the absurd ones.
    assert "epoch 1 at step 2" in message
    assert any(repr(label) in message for label in network.labels)
    assert "learning rate" in message


def test_divergence_in_the_last_step_is_noticed(blobs, network):
    """No step comes after it whose energy would tell."""
    with pytest.raises(fx.DivergenceError):
        train(network, blobs, optimizer=optax.sgd(1e37), epochs=1, batch_size=70)


# Mistakes


def one_line(caught, *words):
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("size", [0, -3, 71])
def test_batches_must_fit_into_the_data(blobs, network, size):
    with pytest.raises(ValueError, match="batch_size") as caught:
        train(network, blobs, batch_size=size)
    one_line(caught, str(size), *(("'blobs'", "70") if size > 70 else ("at least 1",)))


@pytest.mark.parametrize("epochs", [0, -1])
def test_there_must_be_an_epoch(blobs, network, epochs):
    with pytest.raises(ValueError, match="epochs must be an integer of at least 1") as caught:
        train(network, blobs, epochs=epochs)
    one_line(caught, str(epochs))


def test_the_input_must_fit_the_network(blobs):
    network = fx.models.mlp(5, 4, width=8, depth=3, key=jax.random.key(0))
    with pytest.raises(ValueError, match="input") as caught:
        train(network, blobs)
    one_line(caught, "(6,)", "(5,)", "'blobs'")


def test_the_classes_must_fit_the_network(blobs):
    network = fx.models.mlp(6, 3, width=8, depth=3, key=jax.random.key(0))
    with pytest.raises(ValueError, match="classes") as caught:
        train(network, blobs)
    one_line(caught, "4 classes", "'output'", "(3,)")


@pytest.mark.parametrize("rule", ["backprop", fx.GaussNewton(), fx.Backprop], ids=str)
def test_the_rule_must_be_a_learning_rule(blobs, network, rule):
    with pytest.raises(TypeError, match="rule"):
        train(network, blobs, rule)


def test_nothing_is_told_to_observers_before_the_check(blobs, network):
    recorder = Recorder()
    with pytest.raises(ValueError, match="batch_size"):
        train(network, blobs, batch_size=math.prod((10, 10)), observers=(recorder,))
    assert recorder.calls == []


def test_what_a_rule_reports_of_its_own_is_in_the_summary(network, blobs):
    rule = fx.EquilibriumPropagation(fx.ErrorDescent(optax.sgd(0.5), steps=1), beta=0.2)
    result = train(network, blobs, rule, epochs=1)
    assert 0 < result.summary["nudge_stability"] == result.history[-1]["nudge_stability"]


def test_a_result_in_one_line_says_scores_of_zero_too(network):
    found = fx.FitResult(network, [], {"test_accuracy": 0.0, "test_loss": None, "epochs": 2})
    assert repr(found) == "FitResult(2 epochs, test accuracy 0)"


@pytest.mark.parametrize(
    "rule", [fx.Equilibrium(), fx.Equilibrium(output_precision=1.0)], ids=["held", "fixed"]
)
def test_a_sample_of_the_steps_is_certified_and_no_weight_depends_on_it(blobs, network, rule):
    every, some, least = (train(network, blobs, rule, certify=count) for count in (1, 2, 16))
    assert same(every.network, some.network) and same(every.network, least.network)
    told = [result.summary["certified"] for result in (every, some, least)]
    assert told == [{"steps": steps, "of": 4} for steps in (4, 3, 2)]
    recorder = Recorder()
    train(network, blobs, rule, certify=3, observers=[recorder], epochs=1)
    rows = [
        [value for record in recorder.steps for value in record[name]]
        for name in ("unsettled_median", "unsettled_max", "strength")
    ]
    known = [[value is not None for value in row] for row in rows]
    # The first of every three steps, and the last of the epoch.
    assert known[0] == known[1] == [True, False, False, True]
    assert known[2] == ([True] * 4 if rule == fx.Equilibrium() else known[0])
    median = np.median([rows[0][0], rows[0][3]])
    found = train(network, blobs, rule, certify=3, epochs=1).summary["unsettled"]
    assert found["median"] == pytest.approx(median, rel=1e-6)
    assert found["max"] == max(rows[1][0], rows[1][3])


def test_backprop_has_nothing_to_certify(blobs, network):
    assert train(network, blobs, epochs=1).summary["certified"] is None
