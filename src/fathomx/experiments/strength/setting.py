"""How one network is trained, the same for all methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array

from fathomx.experiments.strength.methods import METHODS, Aimed
from fathomx.experiments.strength.networks import Model
from fathomx.inference import GaussNewton
from fathomx.layers.parameterization import scale_learning_rates
from fathomx.learning import Backprop, LearningRule

OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "Adam": lambda rate: scale_learning_rates(optax.adam(rate, eps=1e-12)),
    "SGD": optax.sgd,
    "clipped SGD": lambda rate: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(rate)),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A network and how it is trained; the same for all methods.

    **Fields**: `model`; `optimizer`, a name of `OPTIMIZERS`; `rates`, the learning rates to choose
    from by validation; `batch_size` and number of `updates`; `iterations` and `cg_iterations` of
    Gauss-Newton.
    """

    model: Model
    optimizer: str
    rates: tuple[float, ...]
    batch_size: int
    updates: int
    iterations: int = 1
    cg_iterations: int = 2

    def rule(self, method: str) -> LearningRule:
        """The learning rule of this name, with this setting's solver."""
        target = METHODS[method]
        if target is None:
            return Backprop()
        solver = GaussNewton(self.iterations, self.cg_iterations)
        return Aimed(solver, strength=jnp.asarray(target[0]), ceiling=jnp.asarray(target[1]))

    def schedule(self, rate: float) -> Array:
        """The learning rate of every update: cosine decay for Adam, else constant."""
        progress = jnp.arange(self.updates) / self.updates
        if self.optimizer == "Adam":
            return rate * (1 + jnp.cos(jnp.pi * progress)) / 2
        return jnp.full(self.updates, rate)
