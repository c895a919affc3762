"""Averages of the weights over the steps of a run."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

Tree = TypeVar("Tree")


def averaged(average: Tree, network: Tree, decay: float, step: Array) -> Tree:
    """The exponential moving average of the weights after a step, which count from 1.

        a_t = a_{t-1} + (theta_t - a_{t-1}) (1 - decay) / (1 - decay^t)

    That is `(1 - decay) sum_i decay^(t-i) theta_i / (1 - decay^t)`: without bias from a start, of
    which nothing is left after the first step. Statistics of batch normalization are averaged, too.

    Source: Polyak and Juditsky (1992), doi 10.1137/0330046, with the decay and the correction that
    Kingma and Ba (2015), arXiv 1412.6980, section 7.2, give it.
    """
    moving, rest = eqx.partition(network, eqx.is_inexact_array)

    def one(old: Array, new: Array) -> Array:
        # Not as 1 - decay^t, of which little would be left in float32.
        whole = -jnp.expm1(step.astype(new.dtype) * math.log(decay))
        return old + (new - old) * ((1 - decay) / whole)

    taken: Any = jax.tree.map(one, eqx.filter(average, eqx.is_inexact_array), moving)
    found: Tree = eqx.combine(taken, rest)
    return found
