"""What is said while a run goes on: when it is due, once, and not when all is well."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import fathomx as fx
from fathomx.training import DivergenceError, Observer
from fathomx.training.parts import Parts
from fathomx.training.watch import Watch


class Heard(Observer):
    def __init__(self):
        self.notes = {}

    def noted(self, record):
        assert record["about"] not in self.notes
        self.notes[record["about"]] = record["text"]


class Steep(fx.Energy):
    """No curvature, and a slope that no step of inference is short enough for."""

    def unit(self, target, prediction):
        return 100 * jnp.sum(jnp.abs(target - prediction))


def heard(blobs, rule, output=None, depth=6):
    network = fx.models.residual_mlp(
        6, 4, width=8, depth=depth, output=output, key=jax.random.key(0)
    )
    found = Heard()
    fx.fit(network, blobs, rule, epochs=2, batch_size=16, observers=(found,))
    return found.notes


def test_nothing_is_said_when_all_is_well(blobs):
    assert heard(blobs, fx.Equilibrium()) == {}
    assert heard(blobs, fx.Backprop()) == {}


def test_inference_that_moves_away(blobs):
    rule = fx.Equilibrium(fx.ErrorDescent(0.2, 5), output_precision=1.0)
    notes = heard(blobs, rule, output=Steep(), depth=12)
    assert "inference moves away from equilibrium" in notes["inference"]
    assert "most energy at node '" in notes["inference"]


def test_nodes_that_no_signal_reaches(blobs):
    rule = fx.Equilibrium(fx.StateDescent(0.1, 3), output_precision=1.0)
    notes = heard(blobs, rule, depth=8)
    assert notes["signal"].startswith(
        "no signal reaches 4 of the 8 nodes that learn ('first' to 'hidden[2]'): inference brings"
    )


def chained(blobs, activity_rate, steps, optimizer, depth=8):
    """What is said of a linear chain that learns by state descent."""
    network = fx.models.mlp(
        6, 4, width=6, depth=depth, activation="linear", key=jax.random.key(0),
        parameterization=fx.Standard(),
    )  # fmt: skip
    rule = fx.Equilibrium(fx.StateDescent(optax.sgd(activity_rate), steps), 1.0)
    found = Heard()
    history = fx.fit(
        network, blobs, rule, optimizer=optimizer, epochs=1, batch_size=16, observers=(found,)
    ).history
    return found.notes, history[-1]


def test_a_signal_that_is_a_node_late_in_every_step(blobs):
    """After three steps hidden nodes 7, 6 and 5 of eight have errors, and node 8 is the output."""
    notes, record = chained(blobs, 0.5, 3, optax.sgd(1e-2))
    assert list(notes) == ["signal"]
    assert "4 of the 8 nodes that learn ('first' to 'hidden[2]')" in notes["signal"]
    assert "the signal arrives in step 7 at the earliest" in notes["signal"]
    assert record["cosine_to_backprop_per_quarter"][:2] == [0.0, 0.0]
    assert record["weight_change_per_node"][:4] == [0.0] * 4
    assert record["gradient_length_per_node"][:4] == [0.0] * 4
    assert min(record["weight_change_per_node"][4:]) > 0


def test_a_signal_that_arrives_weak_leaves_weights_still_unless_the_optimizer_raises_it(blobs):
    """Less than a tenth of the error passes from node to node, six nodes deep."""
    notes, record = chained(blobs, 0.05, 8, optax.sgd(2e-2), depth=6)
    assert list(notes) == ["still"]
    still = "part of the network stands still, 2 of the 6 nodes that learn ('first' to 'hidden[0]')"
    assert notes["still"].startswith(still)
    assert "of backprop's gradient; take more inference steps" in notes["still"]
    moved, told = (
        record[name] for name in ("weight_change_per_node", "length_to_backprop_per_node")
    )
    assert max(moved[:2]) < 1e-3 * moved[-1] < min(moved[2:])
    assert told[0] > 1e-6 and max(told[:2]) < 1e-2
    # The same gradients, at one pace for all weights.
    notes, record = chained(blobs, 0.05, 8, optax.adam(1e-3, eps=1e-12), depth=6)
    assert notes == {}
    assert min(record["weight_change_per_node"]) > 1e-3


def test_a_whole_signal_is_not_blamed(blobs):
    assert chained(blobs, 0.2, 60, optax.sgd(2e-2))[0] == {}


def test_weights_that_are_frozen_or_held_by_the_optimizer_do_not_stand_still(blobs):
    network = fx.models.residual_mlp(6, 4, width=8, depth=6, key=jax.random.key(0))
    held = jax.tree.map(lambda _: "learn", fx.weights(network))
    held = eqx.tree_at(lambda n: n.entries[1], held, replace_fn=lambda part: jax.tree.map(
        lambda _: "hold", part))  # fmt: skip
    optimizer = optax.multi_transform(
        {"learn": optax.adam(1e-2), "hold": optax.set_to_zero()}, held
    )
    frozen = fx.freeze(network, [network.entries[1].name])
    for each, rate in ((network, optimizer), (frozen, optax.adam(1e-2))):
        found = Heard()
        result = fx.fit(
            each, blobs, fx.Equilibrium(), optimizer=rate, epochs=1, batch_size=16,
            observers=(found,),
        )  # fmt: skip
        assert found.notes == {}
        assert result.history[-1]["weight_change_per_node"][0] in (0.0, None)


def parts(**changed):
    """What is said of three nodes; all is well with them unless changed."""
    record = {
        "length_to_backprop_per_node": [1.0, 1.0, 1.0],
        "gradient_length_per_node": [0.1, 0.1, 0.1],
        "weight_change_per_node": [0.1, 0.1, 0.1],
    }
    return {k: v for k, v in Parts(problem()).of_epoch(record | changed).items() if v}


def test_what_is_said_of_records_made_by_hand():
    nothing = [None] * 3
    assert parts() == {}
    # Backprop has no gradient there either; and without backprop that is not known.
    off = parts(
        length_to_backprop_per_node=[None, 1.0, 1.0], gradient_length_per_node=[0.0, 0.1, 0.1]
    )
    assert list(off) == ["off"] and "'first'), by backprop neither" in off["off"]
    unknown = parts(length_to_backprop_per_node=nothing, gradient_length_per_node=[0.1, 0.0, 0.1])
    assert list(unknown) == ["signal"]
    # All has been learned.
    assert parts(length_to_backprop_per_node=nothing, gradient_length_per_node=[0.0] * 3) == {}
    # A single rounding of float32 is 1.2e-7.
    assert parts(length_to_backprop_per_node=[1.3e-7, 1.0, 1.0]) == {}
    rounding = parts(length_to_backprop_per_node=[1.1e-7, 1.0, 1.0])
    assert "1 of the 3 nodes that learn ('first')" in rounding["signal"]
    # Held by choice: its gradient is like any other.
    assert parts(weight_change_per_node=[0.0, 0.1, 0.1]) == {}
    weak = {"length_to_backprop_per_node": [5e-3, 1.0, 1.0]}
    assert parts(**weak) == {}
    still = parts(**weak, weight_change_per_node=[9e-5, 0.1, 0.1])["still"]
    assert (
        "weights have moved by at most 9e-05 of their size, those of another node by 0.1" in still
    )
    assert "at most 0.005 of backprop's gradient" in still
    assert parts(**weak, weight_change_per_node=[2e-4, 0.1, 0.1]) == {}
    # Most of the network stands still; what moves is the measure.
    most = parts(
        length_to_backprop_per_node=[1e-4, 1e-3, 1.0], weight_change_per_node=[1e-6, 1e-5, 0.1]
    )
    assert "2 of the 3 nodes that learn ('first' to 'hidden" in most["still"]
    # Backprop's gradient is as small.
    vanishing = parts(
        gradient_length_per_node=[1e-8, 0.1, 0.1], weight_change_per_node=[1e-7, 0.1, 0.1]
    )
    assert "not for want of inference; use the muPC parameterization" in vanishing["still"]
    # The learning rate is so small that nothing moves.
    assert parts(**weak, weight_change_per_node=[0.0, 1e-6, 1e-6]) == {}


def problem():
    network = fx.models.mlp(2, 2, width=3, depth=3, key=jax.random.key(0))
    return fx.Problem(network, jnp.ones((4, 2)), jnp.zeros((4, 2)))


@pytest.fixture
def watch():
    return Watch(problem())


def steps(strength, unsettled=0.1):
    return {
        "strength": strength,
        "unsettled_median": [unsettled] * len(strength),
        "unsettled_max": [unsettled] * len(strength),
        "energy_per_node": [0.1, 0.3, 0.2],
    }


def test_a_strength_that_runs_away_is_said_once(watch):
    assert watch.of_steps(steps([0.1, 0.1])) == {}
    assert watch.of_steps(steps([0.4, 0.45])) == {}
    found = watch.of_steps(steps([0.6, 0.7]))
    assert found["strength"].startswith("the strength runs away: it was 0.1 and is 0.65, with most")
    assert "node 'hidden.1'" in found["strength"] or "at node" in found["strength"]
    assert watch.of_steps(steps([0.9, 0.9])) == {}


def test_what_was_said_before_a_stop_is_not_said_again():
    assert Watch(problem(), known=("inference",)).of_steps(steps([0.1], unsettled=5.0)) == {}
    assert "inference" in Watch(problem()).of_steps(steps([0.1], unsettled=5.0))


def test_without_observers_it_is_a_warning(blobs):
    network = fx.models.residual_mlp(6, 4, width=8, depth=8, key=jax.random.key(0))
    rule = fx.Equilibrium(fx.StateDescent(0.1, 3), output_precision=1.0)
    with pytest.warns(UserWarning, match="no signal reaches 4 of the 8"):
        fx.fit(network, blobs, rule, epochs=1, batch_size=16)


def test_inference_that_diverges_is_not_blamed_on_the_learning_rate(blobs):
    network = fx.models.residual_mlp(6, 4, width=8, depth=8, key=jax.random.key(0))
    rule = fx.Equilibrium(fx.StateDescent(optax.sgd(50.0), 100), output_precision=1.0)
    with pytest.raises(DivergenceError, match=r"inference diverged in epoch 1 .*activity rate"):
        fx.fit(network, blobs, rule, epochs=1, batch_size=16, observers=(Observer(),))
