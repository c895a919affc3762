"""What is said while a run goes on: when it is due, once, and not when all is well."""

import jax
import jax.numpy as jnp
import optax
import pytest

import fathomx as fx
from fathomx.training import DivergenceError, Observer
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
        "no signal reaches 4 of the 8 nodes that learn, the first of them 'first': their weights"
    )


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
