"""PCX in the benchmark against peers.

The network is an `EnergyModule` of its `Linear` layers (without bias) and value nodes (`Vode`).

Timed: one compiled training step as in its tutorials: a forward pass that initializes the value
nodes, `T` times `value_and_grad` of the energy in them and a step of its optimizer, then the
gradient in the weights and a step of Adam; the loop over `T` is a Python loop, which is unrolled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pcx
import pcx.functional as pxf
import pcx.nn as pxnn
import pcx.predictive_coding as pxc
import pcx.utils as pxu
from protocol import Files, Session, serve

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}
_VALUES = pxu.M_hasnot(pxc.VodeParam, frozen=True)
_BATCHED = pxu.M(pxc.VodeParam | pxc.VodeParam.Cache).to((None, 0))


class Perceptron(pxc.EnergyModule):
    """One value node per layer, the last clamped to the target; subclasses say what layers do."""

    def __init__(self, phi: Callable[[jax.Array], jax.Array], files: Files) -> None:
        super().__init__()
        self.phi = pcx.static(phi)
        self.multipliers = pcx.static(tuple(files.multipliers))
        self.layers = []
        for weight in files.weights:
            layer = pxnn.Linear(*weight.shape[::-1], bias=False)
            layer.nn.weight.set(jnp.asarray(weight))
            self.layers.append(layer)
        self.vodes = [pxc.Vode() for _ in files.weights]
        self.vodes[-1].h.frozen = True


class ResidualPerceptron(Perceptron):
    """The residual perceptron."""

    def __call__(self, inputs: jax.Array, target: jax.Array | None) -> jax.Array:
        first, *middle, last = zip(self.multipliers.get(), self.layers, self.vodes, strict=True)
        scale, layer, vode = first
        activity = vode(scale * layer(inputs))
        for scale, layer, vode in middle:
            activity = vode(activity + scale * layer(self.phi(activity)))
        scale, layer, vode = last
        vode(scale * layer(self.phi(activity)))
        if target is not None:
            vode.set("h", target)
        return vode.get("u")


class Decoder(Perceptron):
    """The decoder, with a further value node for the latent, which `inputs` predict: zero."""

    def __init__(self, phi: Callable[[jax.Array], jax.Array], files: Files) -> None:
        super().__init__(phi, files)
        self.latent = pxc.Vode()

    def __call__(self, inputs: jax.Array, target: jax.Array | None) -> jax.Array:
        activity, apply = self.latent(inputs), lambda latent: latent
        for layer, vode in zip(self.layers, self.vodes, strict=True):
            activity, apply = vode(layer(apply(activity))), self.phi.get()
        if target is not None:
            vode.set("h", target)
        return vode.get("u")


@pxf.vmap(_BATCHED, in_axes=(0, 0), out_axes=0)
def forward(inputs: Any, target: Any, *, model: Perceptron) -> Any:
    return model(inputs, target)


@pxf.vmap(_BATCHED, in_axes=(0,), out_axes=(None, 0), axis_name="batch")
def energy(inputs: Any, *, model: Perceptron) -> Any:
    output = model(inputs, None)
    return jax.lax.psum(model.energy(), "batch"), output


@pxf.jit(static_argnums=0)
def train_on_batch(
    steps: int, inputs: Any, targets: Any, *, model: Any, weight_optimizer: Any, optimizer: Any
) -> None:
    """One training step, in place."""
    with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
        forward(inputs, targets, model=model)
    optimizer.init(_VALUES(model))
    in_values = pxf.value_and_grad(
        pxu.M_hasnot(pxc.VodeParam, frozen=True).to([False, True]), has_aux=True
    )(energy)
    for _ in range(steps):
        with pxu.step(model, clear_params=pxc.VodeParam.Cache):
            _, gradient = in_values(inputs, model=model)
        optimizer.step(model, gradient["model"])
    optimizer.clear()
    in_weights = pxf.value_and_grad(pxu.M(pxnn.LayerParam).to([False, True]), has_aux=True)(energy)
    with pxu.step(model, clear_params=pxc.VodeParam.Cache):
        _, gradient = in_weights(inputs, model=model)
    weight_optimizer.step(model, gradient["model"], scale_by=1.0 / inputs.shape[0])


def feedforward(inputs: Any, *, model: Any) -> Any:
    # Not compiled: for the decoder jaxlib 0.4.38 chooses a layout that its own products refuse.
    with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
        return forward(inputs, None, model=model)


class PcxSession(Session):
    compared = "an EnergyModule of Linear layers and Vodes"
    timed = "the training step of its tutorials in one pxf.jit"

    def __init__(self) -> None:
        self.versions = {name: version(name) for name in ("pcx", "jax", "jaxlib", "optax")}

    def build(self, task: Mapping[str, Any], method: Mapping[str, Any], files: Files) -> None:
        self.inference_steps, rate = method["steps"], method["rate"]
        generates = task["model"] == "decoder"
        make = Decoder if generates else ResidualPerceptron
        self.model = make(_ACTIVATIONS[task["activation"]], files)
        self.inputs = jnp.asarray(files.inputs)
        clamped = jnp.zeros_like(self.inputs) if generates else self.inputs
        self.next_batch = cycle(zip(clamped, jnp.asarray(files.targets), strict=True))
        feedforward(self.inputs[0], model=self.model)
        self.optimizer = pxu.Optim(lambda: optax.sgd(rate))
        self.weight_optimizer = pxu.Optim(
            lambda: optax.adam(task["learning_rate"]), pxu.M(pxnn.LayerParam)(self.model)
        )

    def outputs(self) -> np.ndarray:
        return np.asarray(feedforward(self.inputs[0], model=self.model))

    def steps(self, count: int) -> None:
        for _ in range(count):
            train_on_batch(
                self.inference_steps,
                *next(self.next_batch),
                model=self.model,
                weight_optimizer=self.weight_optimizer,
                optimizer=self.optimizer,
            )
        jax.block_until_ready([layer.nn.weight.get() for layer in self.model.layers])


serve(PcxSession())
