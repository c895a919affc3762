"""Plain JAX in the benchmark against peers: what backprop costs without any library.

Timed: one function compiled with `jax.jit`, weights and optimizer state donated, that computes the
gradient of the squared error with `jax.value_and_grad` and applies optax's Adam. Written twice:
with a loop over the layers that is unrolled when it is traced, and with `jax.lax.scan` over the
stacked hidden weights. The faster one counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import SCANNED
from protocol import Files, Session, serve

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


class JaxSession(Session):
    compared = "written by hand"
    timed = "jax.value_and_grad and optax.adam in one jax.jit, donated"

    def __init__(self) -> None:
        self.versions = {name: version(name) for name in ("jax", "jaxlib", "optax")}

    def build(self, task: Mapping[str, Any], method: Mapping[str, Any], files: Files) -> None:
        phi = _ACTIVATIONS[task["activation"]]
        first, hidden, last = files.multipliers[0], files.multipliers[1], files.multipliers[-1]
        scanned = method["name"] == SCANNED

        def layer(activity: jax.Array, weight: jax.Array) -> tuple[jax.Array, None]:
            return activity + hidden * (phi(activity) @ weight.T), None

        def predict(weights: Any, inputs: jax.Array) -> jax.Array:
            inward, middle, outward = weights
            activity = first * (inputs @ inward.T)
            if scanned:
                activity, _ = jax.lax.scan(layer, activity, middle)
            else:
                for weight in middle:
                    activity, _ = layer(activity, weight)
            return last * (phi(activity) @ outward.T)

        self._prepare(predict, task, files, jnp.stack if scanned else list)

    def _prepare(self, predict: Any, task: Mapping[str, Any], files: Files, pack: Any) -> None:
        inward, *middle, outward = [jnp.asarray(weight) for weight in files.weights]
        self.predict, self.weights = jax.jit(predict), (inward, pack(middle), outward)
        self.batches = [
            (jnp.asarray(x), jnp.asarray(y))
            for x, y in zip(files.inputs, files.targets, strict=True)
        ]
        self.next_batch = cycle(self.batches)
        optimizer = optax.adam(task["learning_rate"])
        self.optimizer_state = optimizer.init(self.weights)

        def loss(weights: Any, batch: Any) -> jax.Array:
            inputs, targets = batch
            return 0.5 * ((targets - predict(weights, inputs)) ** 2).sum(axis=-1).mean()

        def update(weights: Any, state: Any, batch: Any) -> Any:
            value, gradient = jax.value_and_grad(loss)(weights, batch)
            updates, state = optimizer.update(gradient, state, weights)
            return optax.apply_updates(weights, updates), state, value

        self.update = jax.jit(update, donate_argnums=(0, 1))

    def outputs(self) -> np.ndarray:
        return np.asarray(self.predict(self.weights, self.batches[0][0]))

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.weights, self.optimizer_state, value = self.update(
                self.weights, self.optimizer_state, next(self.next_batch)
            )
        jax.block_until_ready((self.weights, self.optimizer_state, value))


serve(JaxSession())
