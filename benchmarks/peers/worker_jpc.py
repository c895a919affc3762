"""JPC in the benchmark against peers.

The residual perceptron is its `make_mlp` with its muPC multipliers and its `make_skip_model`. Of
the decoder the first layer is an identity of a clamped zero, whose activities are the latents:
their prior, which JPC's energy without an input leaves out.

Timed: what its scripts do with a batch: activities from a feedforward pass, `T` calls of
`update_pc_activities`, one of `update_pc_params`, each compiled by JPC itself. Its energy is a mean
over the batch, so that its rate is ours times the batch's size. Its error descent is not timed,
since it is another algorithm: the errors that it moves include one at the output, which its energy
does not count, and which takes up the target's error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import cycle
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jpc
import numpy as np
import optax
from protocol import Files, Session, serve


class JpcSession(Session):
    compared = "jpc.make_mlp"
    timed = "update_pc_activities T times and update_pc_params, as in its scripts"

    def __init__(self) -> None:
        self.versions = {name: version(name) for name in ("jpc", "jax", "jaxlib", "optax")}

    def build(self, task: Mapping[str, Any], method: Mapping[str, Any], files: Files) -> None:
        self.inference_steps = method["steps"]
        self.generates = task["model"] == "decoder"
        self.skips = None if self.generates else jpc.make_skip_model(task["depth"])
        self.chosen = {"param_type": "sp" if self.generates else "mupc"}
        self.model = self._layers(task, files)
        self.inputs = [jnp.asarray(x) for x in files.inputs]
        targets = [jnp.asarray(y) for y in files.targets]
        clamped = [jnp.zeros_like(x) for x in self.inputs] if self.generates else self.inputs
        self.next_batch = cycle(zip(clamped, targets, strict=True))
        self.optimizer = optax.sgd(method["rate"] * task["batch"])
        self.weight_optimizer = optax.adam(task["learning_rate"])
        learned = (eqx.filter(self.model, eqx.is_array), self.skips)
        self.weight_state = self.weight_optimizer.init(learned)

    def _layers(self, task: Mapping[str, Any], files: Files) -> Sequence[Any]:
        layers = jpc.make_mlp(
            jax.random.PRNGKey(0),
            input_dim=files.weights[0].shape[1],
            width=int(task["width"]),
            depth=task["depth"],
            output_dim=files.weights[-1].shape[0],
            act_fn=task["activation"],
            **self.chosen,
        )
        given = [jnp.asarray(weight) for weight in files.weights]
        layers = eqx.tree_at(lambda them: [each[1].weight for each in them], layers, given)
        return [eqx.nn.Identity(), *layers] if self.generates else layers

    def _unrolled(self, inputs: jax.Array) -> Sequence[jax.Array]:
        activities: Sequence[jax.Array] = jpc.init_activities_with_ffwd(
            self.model, inputs, skip_model=self.skips, **self.chosen
        )
        return activities

    def outputs(self) -> np.ndarray:
        return np.asarray(self._unrolled(self.inputs[0])[-1])

    def steps(self, count: int) -> None:
        for _ in range(count):
            self._step(*next(self.next_batch))
        jax.block_until_ready(eqx.filter(self.model, eqx.is_array))

    def _step(self, inputs: jax.Array, targets: jax.Array) -> None:
        activities = self._unrolled(inputs)
        state = self.optimizer.init(activities)
        known = {"output": targets, "input": inputs, **self.chosen}
        for _ in range(self.inference_steps):
            found = jpc.update_pc_activities(
                (self.model, self.skips), activities, self.optimizer, state, **known
            )
            activities, state = found["activities"], found["opt_state"]
        learned = jpc.update_pc_params(
            (self.model, self.skips), activities, self.weight_optimizer, self.weight_state, **known
        )
        self.model, self.weight_state = learned["model"], learned["opt_state"]


serve(JpcSession())
