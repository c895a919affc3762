"""Training at one learning rate: the batches, and all updates as one compiled program."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from fathomx.experiments.strength.setting import OPTIMIZERS, Setting
from fathomx.graph.network import Network
from fathomx.learning import Learner, LearningRule


def batches(count: int, setting: Setting, seed: int) -> Array:
    """Which examples the batches hold, `(updates, batch size)`: whole orders one after the other.

    A function of the seed alone, so that all methods see the same.
    """
    needed = setting.updates * setting.batch_size
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(count) for _ in range(-(-needed // count))]
    return jnp.asarray(np.concatenate(orders)[:needed].reshape(setting.updates, -1))


class Course(NamedTuple):
    """What the updates reported, each `(updates,)`."""

    loss: Array
    unsettled_median: Array
    unsettled_max: Array
    strength: Array


@eqx.filter_jit
def train(
    network: Network,
    rule: LearningRule,
    optimizer: str,
    examples: tuple[Array, Array],
    chosen: Array,
    rates: Array,
    key: PRNGKeyArray,
) -> tuple[Network, Course]:
    """One update for each row of `chosen`, at the learning rate of the same place."""
    make = OPTIMIZERS[optimizer]
    state = rule.init_optimizer(make(1.0), network)
    arrays, rest = eqx.partition((network, state), eqx.is_array)
    inputs, labels = examples

    def update(arrays: Any, now: tuple[Array, Array, Array]) -> tuple[Any, Course]:
        batch, rate, number = now
        network, state = eqx.combine(arrays, rest)
        # The rate of every step is traced: no optimizer's own schedule.
        learner = Learner(rule, make(rate))
        step_key = jax.random.fold_in(key, number)
        network, state, report = learner.update(
            network, state, (inputs[batch], labels[batch]), step_key
        )
        seen = Course(*(getattr(report, name) for name in Course._fields))
        return eqx.filter((network, state), eqx.is_array), seen

    arrays, course = jax.lax.scan(update, arrays, (chosen, rates, jnp.arange(len(chosen))))
    trained: Network = eqx.combine(arrays, rest)[0]
    return trained, course
