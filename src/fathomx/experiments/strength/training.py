"""Training at one learning rate: the batches, and all updates as one compiled program."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from fathomx.experiments.strength.setting import OPTIMIZERS, Setting
from fathomx.graph.network import Network
from fathomx.learning import Learner, LearningRule, StepReport
from fathomx.problem.problem import Problem


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
    inputs, labels = examples

    def pose(network: Network, batch: Array) -> Problem:
        return Problem(network, inputs[batch], labels[batch])

    def seen(network: Network, report: StepReport) -> Course:
        return Course(*(getattr(report, name) for name in Course._fields))

    # Rates are traced, so that all of them share one program.
    learner = Learner(rule, OPTIMIZERS[optimizer](lambda count: rates[count]), pose)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(chosen)))
    trained, _, course = learner.updates(network, learner.begin(network), chosen, keys, seen)
    return trained, course
