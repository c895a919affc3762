"""Programs that fits share: what is alike, what is not, and that nothing stale is ever used."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.training import likeness as room
from fathomx.training import programs
from fathomx.training.likeness import Unlike, likeness, rates_of, with_rates, without_rates


def optimizers(rate):
    return {
        "sgd": optax.sgd(rate, momentum=0.9),
        "adam": optax.adam(rate, eps=1e-12),
        "scaled": fx.scale_learning_rates(optax.adam(rate)),
        "cosine": optax.adam(optax.cosine_decay_schedule(rate, 100)),
        "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0.1)),
    }


@pytest.mark.parametrize("name", optimizers(0.1))
def test_an_optimizer_made_anew_is_alike_whatever_its_rate(name):
    one, again, other = (optimizers(rate)[name] for rate in (0.1, 0.1, 0.3))
    assert likeness(one) == likeness(again) != likeness(other)
    assert likeness(without_rates(one)) == likeness(without_rates(other))
    assert [abs(rate) for rate in rates_of(other)] == [0.3] * len(rates_of(other)) != []


def test_what_is_no_rate_counts():
    assert likeness(optax.adam(0.1)) != likeness(optax.adam(0.1, b1=0.8))
    assert likeness(optax.adam(0.1)) != likeness(optax.sgd(0.1))
    plain, nesterov = (optax.sgd(0.1, momentum=0.9, nesterov=given) for given in (False, True))
    assert likeness(plain) != likeness(nesterov)
    assert likeness(1) != likeness(True) != likeness(1.0)


@pytest.mark.parametrize("name", optimizers(0.1))
def test_other_rates_give_the_update_of_an_optimizer_that_was_built_with_them(name):
    network = fx.models.mlp(3, 2, width=4, depth=3, key=jax.random.key(0))
    gradient = jax.tree.map(jnp.ones_like, fx.weights(network))
    built, changed = optimizers(0.3)[name], optimizers(0.1)[name]
    changed = with_rates(changed, [3 * rate for rate in rates_of(changed)])

    def updates(optimizer):
        state = optimizer.init(fx.weights(network))
        return optimizer.update(gradient, state, fx.weights(network))[0]

    pairs = zip(jax.tree.leaves(updates(built)), jax.tree.leaves(updates(changed)), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_networks_are_alike_if_their_shapes_are():
    def network(width, seed):
        return fx.models.mlp(3, 2, width=width, depth=3, key=jax.random.key(seed))

    assert likeness(network(4, 0)) == likeness(network(4, 1))
    assert likeness(network(4, 0)) != likeness(network(5, 0))


def test_arrays_that_a_function_holds_on_to_are_part_of_the_program():
    def scaled_by(factor):
        return lambda z: z * factor

    one, again, other = (scaled_by(jnp.asarray([f, 1.0])) for f in (2.0, 2.0, 3.0))
    assert likeness(one) == likeness(again) != likeness(other)


SCALE = 1.0


def scaled(network, batch):
    return fx.Problem(network, batch["input"] * SCALE, batch["target"])


def test_globals_that_changed_are_noticed(monkeypatch):
    before = likeness(scaled)
    assert likeness(scaled) == before
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert likeness(scaled) != before


def test_what_cannot_be_compared_is_compiled_anew(monkeypatch):
    class Counter:
        def __init__(self):
            self.calls = 0

    counter = Counter()
    with pytest.raises(Unlike):
        likeness(counter)
    monkeypatch.setattr(programs, "_kept", type(programs._kept)())
    assert programs.run(lambda x, c: x + 1, jnp.zeros(()), counter) == 1
    assert not programs._kept


def test_a_function_that_names_itself():
    def even(n):
        return n == 0 or not even(n - 1)

    assert likeness(even) == likeness(even)


def test_programs_that_were_used_last_are_kept(monkeypatch):
    monkeypatch.setattr(programs, "_kept", type(programs._kept)())
    monkeypatch.setattr(programs, "_MOST_KEPT", 2)
    compiled = []
    made = programs.Program.__init__

    def counted(self, *arguments):
        compiled.append(arguments)
        made(self, *arguments)

    monkeypatch.setattr(programs.Program, "__init__", counted)
    for size in (1, 2, 1, 3, 1, 2):
        found = programs.run(lambda x: x.sum(), jnp.ones(size))
        assert found == size
    assert [arguments[1][0].shape[0] for arguments in compiled] == [1, 2, 3, 2]


def test_a_second_fit_compiles_nothing_and_learns_as_the_first(blobs, monkeypatch):
    def result(rate, seed=0):
        network = fx.models.mlp(6, 4, width=8, depth=3, key=jax.random.key(seed))
        return fx.fit(network, blobs, optimizer=optax.adam(rate), epochs=1, batch_size=16)

    monkeypatch.setattr(programs, "_kept", type(programs._kept)())
    first = result(0.01)
    monkeypatch.setattr(programs, "Program", None)
    again, faster = result(0.01), result(0.05)
    for one, other in zip(
        jax.tree.leaves(eqx.filter(first.network, eqx.is_array)),
        jax.tree.leaves(eqx.filter(again.network, eqx.is_array)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert first.history == again.history != faster.history
    monkeypatch.undo()
    monkeypatch.setattr(programs, "_kept", type(programs._kept)())
    assert result(0.05).history == faster.history


@pytest.mark.parametrize("descent", [fx.StateDescent, fx.ErrorDescent])
def test_a_second_fit_infers_at_its_own_rate(blobs, monkeypatch, descent):
    """The rate of a descent is no input of the step, so that it is part of the program."""

    def history(rate):
        network = fx.models.mlp(6, 4, width=8, depth=3, key=jax.random.key(0))
        rule = fx.Equilibrium(descent(optax.sgd(rate), 4), 1.0)
        return fx.fit(network, blobs, rule, optimizer=0.01, epochs=1, batch_size=16).history

    slow, fast = history(0.01), history(0.2)
    assert fast[0]["unsettled"]["median"] < 0.8 * slow[0]["unsettled"]["median"]
    monkeypatch.setattr(programs, "_kept", type(programs._kept)())
    assert history(0.2) == fast


def test_too_many_parts_are_not_compared(monkeypatch):
    monkeypatch.setattr(room, "_MOST_PARTS", 10)
    with pytest.raises(Unlike):
        likeness(tuple(range(20)))
