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


class Convolution(Map):
    """`multiplier * (W * phi(z))`, with the operations of `ConvNode`."""

    @staticmethod
    def predict(params: Any, inputs: Any, state: Any, node_info: Any) -> tuple[Any, None]:
        (edge, source), config = next(iter(inputs.items())), node_info.node_config
        convolved = _convolve(config["phi"](source), params.weights[edge], config.get("step", 1))
        return config["multiplier"] * convolved, None


class PooledConvolution(Map):
    """The same, then `max_pool`, with the operations of `MaxPool`."""

    @staticmethod
    def predict(params: Any, inputs: Any, state: Any, node_info: Any) -> tuple[Any, None]:
        convolved, _ = Convolution.predict(params, inputs, state, node_info)
        return MaxPool._pool(convolved, node_info), None


class Joined(Map):
    """`W * phi(z_inner) + skipped`: the end of a residual block.

    What is skipped is the block's input, or where channels change its 1x1 convolution.
    """

    @staticmethod
    def get_slots() -> dict[str, SlotSpec]:
        return {name: SlotSpec(name=name, is_multi_input=False) for name in ("branch", "skip")}

    @staticmethod
    def predict(params: Any, inputs: Any, state: Any, node_info: Any) -> tuple[Any, None]:
        config = node_info.node_config
        edge_of = {edge.rpartition(":")[2]: edge for edge in node_info.in_edges}
        branch, skip = edge_of["branch"], edge_of["skip"]
        skipped = inputs[skip]
        if skip in params.weights:
            skipped = _convolve(skipped, params.weights[skip], config["step"])
        return _convolve(config["phi"](inputs[branch]), params.weights[branch]) + skipped, None


class Averaged(Map):
    """`multiplier * mean(phi(z)) W` with the mean of every channel."""

    @staticmethod
    def predict(params: Any, inputs: Any, state: Any, node_info: Any) -> tuple[Any, None]:
        (edge, source), config = next(iter(inputs.items())), node_info.node_config
        means = config["phi"](source).mean(axis=(1, 2))
        return config["multiplier"] * jnp.matmul(means, params.weights[edge]), None


def _convolve(source: jax.Array, kernel: jax.Array, step: int = 1) -> jax.Array:
    return jax.lax.conv_general_dilated(
        lhs=source,
        rhs=kernel,
        window_strides=(step, step),
        padding=[((size - 1) // 2, size // 2) for size in kernel.shape[:2]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


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
    """The structure and its weights; every edge comes with its weight, where it has one."""
    makers = {"residual-mlp": _residual, "resnet-18": _residual_network}
    nodes, edges = makers.get(task["model"], _plain_network)(task, files)
    structure = graph(
        nodes=nodes,
        edges=[edge for edge, _ in edges],
        task_map=TaskMap(x=nodes[0], y=nodes[-1]),
        inference=inference,
    )
    params = {node.name: NodeParams(weights={}, biases={}) for node in nodes}
    for edge, weight in edges:
        if weight is not None:
            array = jnp.asarray(weight.T if weight.ndim == 2 else weight)
            target = edge.target_node.name
            key = f"{edge.source.name}->{target}:{edge.target_slot}"
            assert key in structure.nodes[target].node_info.in_edges
            params[target].weights[key] = array
    return structure, GraphParams(nodes=params)


Edges = list[tuple[Edge, "np.ndarray | None"]]


def _chain(nodes: list[NodeBase], files: Files) -> tuple[list[NodeBase], Edges]:
    edges = [Edge(source=a, target=b.slot("in")) for a, b in pairwise(nodes)]
    return nodes, list(zip(edges, files.weights, strict=True))


def _residual(task: Mapping[str, Any], files: Files) -> tuple[list[NodeBase], Edges]:
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
    return _chain(nodes, files)


def _plain_network(task: Mapping[str, Any], files: Files) -> tuple[list[NodeBase], Edges]:
    """A VGG: pooled where the channels change next, and at the end."""
    *kernels, outward = files.weights
    height, width = files.inputs.shape[2:4]
    nodes: list[NodeBase] = [Linear(shape=files.inputs.shape[2:], name="input")]
    phi, window = _ACTIVATIONS[task["activation"]], (2, 2)
    grows = [inward != wide for *_, inward, wide in (kernel.shape for kernel in kernels)]
    for index, (kernel, pooled) in enumerate(zip(kernels, [*grows[1:], True], strict=True)):
        chosen: dict[str, Any] = {}
        if pooled:
            height, width = height // 2, width // 2
            chosen = {"window_shape": window, "stride": window, "padding": "VALID"}
        nodes.append(
            (PooledConvolution if pooled else Convolution)(
                shape=(height, width, kernel.shape[-1]),
                name=f"layer{index}",
                phi=phi if index else _identity,
                multiplier=files.multipliers[index],
                **chosen,
            )
        )
    shape = outward.shape[:1]
    nodes.append(Map(shape=shape, name="output", phi=phi, multiplier=files.multipliers[-1]))
    return _chain(nodes, files)


def _residual_network(task: Mapping[str, Any], files: Files) -> tuple[list[NodeBase], Edges]:
    """A ResNet of two-layer blocks whose skips are edges."""
    stem, *kernels, outward = files.weights
    phi = _ACTIVATIONS[task["activation"]]
    size = files.inputs.shape[2]

    def convolution(name: str, weight: np.ndarray, phi: Any, step: int = 1) -> NodeBase:
        shape = (size, size, weight.shape[-1])
        return Convolution(shape=shape, name=name, phi=phi, multiplier=1.0, step=step)

    images = Linear(shape=files.inputs.shape[2:], name="input")
    nodes = [images, convolution("stem", stem, _identity)]
    edges: Edges = [(Edge(source=images, target=nodes[1].slot("in")), stem)]
    while kernels:
        first, second, *kernels = kernels
        begun, number, step, shortcut = nodes[-1], len(nodes), 1, None
        if first.shape[2] != first.shape[3]:
            step, (shortcut, *kernels) = 2, kernels
        size //= step
        inner = convolution(f"inner{number}", first, phi, step)
        shape = (size, size, second.shape[-1])
        joined = Joined(shape=shape, name=f"block{number}", phi=phi, step=step)
        nodes += [inner, joined]
        edges += [
            (Edge(source=begun, target=inner.slot("in")), first),
            (Edge(source=inner, target=joined.slot("branch")), second),
            (Edge(source=begun, target=joined.slot("skip")), shortcut),
        ]
    shape = outward.shape[:1]
    output = Averaged(shape=shape, name="output", phi=phi, multiplier=files.multipliers[-1])
    edges.append((Edge(source=nodes[-1], target=output.slot("in")), outward))
    return [*nodes, output], edges


def _identity(source: jax.Array) -> jax.Array:
    return source


def _initial(structure: Any, params: Any, clamps: Any, key: Any) -> Any:
    (size,) = {len(value) for value in clamps.values()}

    @jax.jit
    def initial(params: Any, clamps: Any) -> Any:
        return initialize_graph_state(structure, size, key, clamps=clamps, params=params)

    return initial(params, clamps)


serve(FabricSession())
