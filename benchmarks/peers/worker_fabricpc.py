"""FabricPC in the benchmark against peers.

The layers are nodes of our own on its documented extension point, a subclass of `NodeBase` with
`predict`, because its stock residual node applies the activation after the weight and has no
multiplier (as a chain of 32 nodes it takes the same time); gradients, inference and learning are
FabricPC's.

Timed: the compiled step that `fabricpc.training.train` runs in its loop, made by the function that
`train` calls for it: parameters and optimizer state donated, the settled state not returned. (The
public `make_train_step` returns the state and donates nothing, and `train` compiles anew in every
call.) `setup_jax` is called first, as its examples do. To equilibrium: `inference_step` in a loop,
between `begin_segment` and `finalize_state`, as its `run_inference` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import cycle, pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import BACKPROP, ERROR
from fabricpc import setup_jax
from fabricpc.core.inference import InferenceSGD
from fabricpc.core.inference_epc import EPCInference
from fabricpc.core.topology import Edge
from fabricpc.core.types import GraphParams, NodeParams
from fabricpc.graph_assembly import TaskMap, graph
from fabricpc.graph_initialization.state_initializer import initialize_graph_state
from fabricpc.nodes import Linear, MaxPool
from fabricpc.nodes.base import NodeBase, SlotSpec
from fabricpc.training.trainer import _make_step, build_clamps
from protocol import Files, Session, serve

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": jax.nn.gelu}


class Map(NodeBase):
    """`multiplier * phi(z) W` for one parent `z`."""

    @staticmethod
    def get_slots() -> dict[str, SlotSpec]:
        return {"in": SlotSpec(name="in", is_multi_input=False)}

    @staticmethod
    def initialize_params(*_: Any, **__: Any) -> NodeParams:
        raise NotImplementedError("the weights are given")

    @staticmethod
    def predict(params: Any, inputs: Any, state: Any, node_info: Any) -> tuple[Any, None]:
        (edge, source), config = next(iter(inputs.items())), node_info.node_config
        source = config["phi"](source)
        flat = source.reshape(source.shape[0], -1)
        return config["multiplier"] * jnp.matmul(flat, params.weights[edge]), None


class Residual(Map):
    """`z + multiplier * phi(z) W`."""

    @staticmethod
    def predict(params: Any, inputs: Any, state: Any, node_info: Any) -> tuple[Any, None]:
        (source,) = inputs.values()
        return source + Map.predict(params, inputs, state, node_info)[0], None


class PooledConvolution(Map):
    """`max_pool(multiplier * (W * phi(z)))`, with the operations of `ConvNode` and `MaxPool`."""

    @staticmethod
    def predict(params: Any, inputs: Any, state: Any, node_info: Any) -> tuple[Any, None]:
        (edge, source), config = next(iter(inputs.items())), node_info.node_config
        convolved = jax.lax.conv_general_dilated(
            lhs=config["phi"](source),
            rhs=params.weights[edge],
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return MaxPool._pool(config["multiplier"] * convolved, node_info), None


class FabricSession(Session):
    compared = "subclasses of NodeBase"
    timed = "the step of fabricpc.training.train, parameters and optimizer state donated"

    def __init__(self) -> None:
        setup_jax()
        self.versions = {name: version(name) for name in ("fabricpc", "jax", "jaxlib", "optax")}

    def build(self, task: Mapping[str, Any], method: Mapping[str, Any], files: Files) -> None:
        rate, steps = method["rate"], method["steps"]
        kind = EPCInference if method["name"] == ERROR else InferenceSGD
        self.inference = kind(eta_infer=rate, infer_steps=steps)
        self.structure, self.params = _graph(task, files, self.inference)
        self.batches = [
            {"x": jnp.asarray(x), "y": jnp.asarray(y)}
            for x, y in zip(files.inputs, files.targets, strict=True)
        ]
        self.next_batch, self.key = cycle(self.batches), jax.random.PRNGKey(0)
        optimizer = optax.adam(task["learning_rate"])
        self.optimizer_state = optimizer.init(self.params)
        self.update = _make_step(
            self.structure,
            optimizer,
            algorithm="backprop" if method["name"] == BACKPROP else "pc",
            with_state=False,
            donate=True,
        )

    def outputs(self) -> np.ndarray:
        clamps = build_clamps(self.batches[0], self.structure, clamp_target=False)
        state = _initial(self.structure, self.params, clamps, self.key)
        return np.asarray(state.nodes[self.structure.node_order[-1]].z_mu)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.params, self.optimizer_state, energy = self.update(
                self.params, self.optimizer_state, next(self.next_batch), self.key
            )
        jax.block_until_ready((self.params, self.optimizer_state, energy))

    def begin(self) -> None:
        self.clamps = build_clamps(self.batches[0], self.structure, clamp_target=True)
        self.state = _initial(self.structure, self.params, self.clamps, self.key)
        inference, structure = self.inference, self.structure

        @jax.jit
        def further(params: Any, state: Any, clamps: Any, count: Any) -> Any:
            def one(_: Any, state: Any) -> Any:
                return inference.inference_step(params, state, clamps, structure, inference.config)

            state = inference.begin_segment(params, state, clamps, structure)
            state = jax.lax.fori_loop(0, count, one, state)
            return inference.finalize_state(params, state, clamps, structure)

        self.further = further
        self.relax(0)

    def relax(self, count: int) -> None:
        self.state = self.further(self.params, self.state, self.clamps, count)
        jax.block_until_ready(self.state)

    def activities(self) -> Sequence[np.ndarray]:
        hidden = self.structure.node_order[1:-1]
        return [np.asarray(self.state.nodes[name].z_latent) for name in hidden]


def _graph(task: Mapping[str, Any], files: Files, inference: Any) -> tuple[Any, GraphParams]:
    make = _convolutional if task["model"] == "vgg-5" else _residual
    nodes = make(task, files)
    edges = [Edge(source=a, target=b.slot("in")) for a, b in pairwise(nodes)]
    structure = graph(
        nodes=nodes, edges=edges, task_map=TaskMap(x=nodes[0], y=nodes[-1]), inference=inference
    )
    params = {nodes[0].name: NodeParams(weights={}, biases={})}
    for node, weight in zip(nodes[1:], files.weights, strict=True):
        (edge,) = structure.nodes[node.name].node_info.in_edges
        array = jnp.asarray(weight.T if weight.ndim == 2 else weight)
        params[node.name] = NodeParams(weights={edge: array}, biases={})
    return structure, GraphParams(nodes=params)


def _residual(task: Mapping[str, Any], files: Files) -> list[NodeBase]:
    nodes: list[NodeBase] = [Linear(shape=files.inputs.shape[2:], name="input")]
    phi, last = _ACTIVATIONS[task["activation"]], len(files.weights) - 1
    for index, multiplier in enumerate(files.multipliers):
        nodes.append(
            (Map if index in (0, last) else Residual)(
                shape=files.weights[index].shape[:1],
                name=f"layer{index}",
                phi=phi if index else _identity,
                multiplier=multiplier,
            )
        )
    return nodes


def _convolutional(task: Mapping[str, Any], files: Files) -> list[NodeBase]:
    height, width = files.inputs.shape[2:4]
    nodes: list[NodeBase] = [Linear(shape=files.inputs.shape[2:], name="input")]
    phi, window = _ACTIVATIONS[task["activation"]], (2, 2)
    for index, weight in enumerate(files.weights[:-1]):
        height, width = height // 2, width // 2
        nodes.append(
            PooledConvolution(
                shape=(height, width, weight.shape[-1]),
                name=f"layer{index}",
                phi=phi if index else _identity,
                multiplier=files.multipliers[index],
                window_shape=window,
                stride=window,
                padding="VALID",
            )
        )
    shape = files.weights[-1].shape[:1]
    nodes.append(Map(shape=shape, name="output", phi=phi, multiplier=files.multipliers[-1]))
    return nodes


def _identity(source: jax.Array) -> jax.Array:
    return source


def _initial(structure: Any, params: Any, clamps: Any, key: Any) -> Any:
    (size,) = {len(value) for value in clamps.values()}

    @jax.jit
    def initial(params: Any, clamps: Any) -> Any:
        return initialize_graph_state(structure, size, key, clamps=clamps, params=params)

    return initial(params, clamps)


serve(FabricSession())
