"""Plain JAX in the benchmark against peers: what backprop costs without any library.

Timed: one function compiled with `jax.jit`, weights and optimizer state donated, that computes the
gradient of the squared error with `jax.value_and_grad` and applies optax's Adam. Written twice:
with a loop over the layers that is unrolled when it is traced, and with `jax.lax.scan` over the
stacked hidden weights. The faster one counts. Convolutional networks are unrolled. In bfloat16
weights are cast in the loss, and the output back to float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import BFLOAT16, SCANNED
from protocol import Files, Session, serve

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": jax.nn.gelu}


class JaxSession(Session):
    compared = "written by hand"
    timed = "jax.value_and_grad and optax.adam in one jax.jit, donated"

    def __init__(self) -> None:
        self.versions = {name: version(name) for name in ("jax", "jaxlib", "optax")}

    def build(self, task: Mapping[str, Any], method: Mapping[str, Any], files: Files) -> None:
        phi = _ACTIVATIONS[task["activation"]]
        if task["model"] == "residual-mlp":
            self._build_chain(phi, task, method, files)
        else:
            make = _residual_network if task["model"] == "resnet-18" else _plain_network
            weights = [jnp.asarray(weight) for weight in files.weights]
            self._prepare(partial(make, phi), weights, task, files)

    def _build_chain(
        self, phi: Any, task: Mapping[str, Any], method: Mapping[str, Any], files: Files
    ) -> None:
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

        inward, *middle, outward = [jnp.asarray(weight) for weight in files.weights]
        packed = jnp.stack(middle) if scanned else middle
        self._prepare(predict, (inward, packed, outward), task, files)

    def _prepare(self, function: Any, weights: Any, task: Mapping[str, Any], files: Files) -> None:
        def predict(weights: Any, inputs: jax.Array) -> jax.Array:
            if task["precision"] != BFLOAT16:
                return function(weights, inputs)
            low = jax.tree.map(lambda array: array.astype(jnp.bfloat16), (weights, inputs))
            return function(*low).astype(jnp.float32)

        self.predict, self.weights = jax.jit(predict), weights
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


def _convolve(images: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    padding = [((size - 1) // 2, size // 2) for size in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _plain_network(phi: Any, weights: Any, images: jax.Array) -> jax.Array:
    """A VGG of four stages: pooled where the channels change next, and at the end."""
    *kernels, outward = weights
    activity = images
    for index, kernel in enumerate(kernels):
        activity = _convolve(phi(activity) if index else activity, kernel)
        if index + 1 == len(kernels) or kernels[index + 1].shape[2] != kernels[index + 1].shape[3]:
            window = (1, 2, 2, 1)
            activity = jax.lax.reduce_window(
                activity, -jnp.inf, jax.lax.max, window, window, "VALID"
            )
    return phi(activity).reshape(len(images), -1) @ outward.T


def _residual_network(phi: Any, weights: Any, images: jax.Array) -> jax.Array:
    """A ResNet of two-layer blocks; one that changes the channels halves, with a third kernel."""
    stem, *kernels, outward = weights
    activity = _convolve(images, stem)
    while kernels:
        first, second, *kernels = kernels
        changes = first.shape[2] != first.shape[3]
        skipped = activity
        if changes:
            shortcut, *kernels = kernels
            skipped = _convolve(activity, shortcut, 2)
        inner = _convolve(phi(activity), first, 2 if changes else 1)
        activity = _convolve(phi(inner), second) + skipped
    return phi(activity).mean(axis=(1, 2)) @ outward.T


serve(JaxSession())
