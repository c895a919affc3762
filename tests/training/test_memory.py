"""Steps take the memory of what they replace, and nobody who keeps a state notices."""

import signal

import equinox as eqx
import jax
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.learning.optimizer_choice import OptimizerChoice
from fathomx.training import Observer, RunFolder
from fathomx.training.programs import Program


class Keeps(Observer):
    """All states that it is given."""

    def __init__(self):
        self.states = []

    def started(self, plan, state):
        self.states.append(state)

    def stepped(self, record, state):
        self.states.append(state)


class Reads(Keeps):
    """Keeps them, though it says that it does not."""

    keeps = False


def leaves(state):
    return jax.tree.leaves(
        eqx.filter((state.network, state.optimizer, state.average), eqx.is_array)
    )


def train(network, data, *observers, **options):
    return fx.fit(
        network, data, fx.Backprop(), optimizer=optax.adam(1e-2), epochs=2, batch_size=16,
        average=0.9, mesh=fx.Mesh(devices=jax.devices()[:1]), observers=observers, **options,
    )  # fmt: skip


def arrays(tree):
    return [np.array(leaf) for leaf in jax.tree.leaves(fx.weights(tree))]


def test_a_step_takes_the_memory_of_weights_moments_and_averages(
    blobs, network, one_step_per_dispatch
):
    one_step_per_dispatch()
    before, reads, keeps = arrays(network), Reads(), Keeps()
    result = train(network, blobs, reads)
    for state in reads.states[:-1]:
        assert all(leaf.is_deleted() for leaf in leaves(state))
    kept = train(network, blobs, keeps)
    assert len(keeps.states) == 9
    for state in keeps.states:
        assert not any(leaf.is_deleted() for leaf in leaves(state))
    last = [np.array(leaf) for leaf in leaves(keeps.states[-1])]
    assert not np.array_equal(last[0], np.array(leaves(keeps.states[-2])[0]))
    # The caller's network is as it was, and what is trained does not depend on who watches.
    for one, other in zip(arrays(network), before, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(arrays(result.network), arrays(kept.network), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_best_weights_outlive_later_steps(blobs, network, one_step_per_dispatch):
    """With a rate that spoils them after two epochs."""
    one_step_per_dispatch()

    class Ends(Observer):
        def __init__(self):
            self.networks = []

        def epoch_ended(self, record, state):
            self.networks.append((record["validation_loss"], arrays(state.network)))

    ends = Ends()
    rate = optax.join_schedules([lambda count: 1.0, lambda count: -0.5], [8])
    result = fx.fit(
        network, blobs, fx.Backprop(), optimizer=optax.sgd(rate), epochs=4, batch_size=16,
        observers=(ends,), early_stopping=fx.EarlyStopping(4, "loss"),
    )  # fmt: skip
    losses = [loss for loss, _ in ends.networks]
    best = int(np.argmin(losses))
    assert best < len(losses) - 1
    for one, other in zip(arrays(result.network), ends.networks[best][1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("when", ["before", "after", "observer"])
def test_ctrl_c_around_a_step_leaves_a_state_that_is_there(
    blobs, network, tmp_path, monkeypatch, one_step_per_dispatch, when
):
    """Where the arrays before the step are gone, and those after it are in nobody's hands yet."""
    one_step_per_dispatch()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    whole = train(network, blobs)
    call, calls = Program.__call__, []

    def interrupted(self, *given):
        steps = len(given) == 5
        calls.append(steps)
        here = steps and sum(calls) == 3
        if here and when == "before":
            signal.raise_signal(signal.SIGINT)
        made = call(self, *given)
        if here and when == "after":
            signal.raise_signal(signal.SIGINT)
        return made

    class Stops(Observer):
        def stepped(self, record, state):
            if when == "observer" and sum(calls) == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(Program, "__call__", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            # The folder hears of the step, too, though it comes after who stops the run.
            train(network, blobs, Stops(), RunFolder.create(tmp_path / "run", {}))
    finally:
        signal.signal(signal.SIGINT, before)
    assert sum(calls) == 3
    monkeypatch.setattr(Program, "__call__", call)
    heard = Keeps()
    gone_on = train(network, blobs, RunFolder.resume(tmp_path / "run", {}), heard)
    assert int(heard.states[0].step) == 3
    for one, other in zip(arrays(gone_on.network), arrays(whole.network), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [record["epoch"] for record in gone_on.history] == [1, 2]


@pytest.mark.parametrize("weights", ["whole", "divided"])
def test_accumulated_gradients_on_a_mesh(blobs, network, weights):
    """Half batches on two devices, of which two make an update, as on one device."""

    def trained(mesh):
        optimizer = OptimizerChoice(0.1, "sgd", "constant", accumulate=2).make(8)
        return fx.fit(
            network,
            blobs,
            fx.Backprop(),
            optimizer=optimizer,
            epochs=2,
            batch_size=16,
            average=0.5,
            mesh=mesh,
        )

    ours = trained(fx.Mesh(data=2, weights=weights))
    one = trained(fx.Mesh(devices=jax.devices()[:1]))
    assert not np.allclose(arrays(one.network)[0], arrays(network)[0])
    for a, b in zip(arrays(ours.network), arrays(one.network), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
