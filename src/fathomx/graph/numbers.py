"""How a network's functions are computed: in which numbers, and what is kept for derivatives."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

from fathomx.checks import DType, choice, gate
from fathomx.graph.entries import Root
from fathomx.graph.network import Network
from fathomx.graph.statistics import Statistics, with_batch_statistics

# JAX's name of the memory of a device's host, and ours of what waits there.
_HOST, _INPUT = "pinned_host", "input of a node"


@gate
def mixed_precision(network: Network, dtype: DType = jnp.bfloat16) -> Network:
    """The network with activities and products in numbers of less precision.

        mu_l = float32(f_l(dtype(z_parents(l)); dtype(theta_l)))

    Weights, errors, energies, gradients that leave a node and updates stay in the type that the
    weights have; what goes into a node's function and is computed inside it has the type `dtype`.
    Inference then settles no further than these numbers resolve, which `unsettled` shows (on MNIST
    0.06 in bfloat16, 0.014 in float32). It is meant for accelerators, which have units for such
    products, and halves what they read; processors without such units are slower with it.

    **Arguments**: `network`, and `dtype`, a floating-point type such as `jnp.bfloat16` or
    `jnp.float16`; `ValueError` for others.

    ```python
    network = fx.mixed_precision(fx.models.residual_mlp(784, 10, key=jax.random.key(0)))
    ```

    Source: Micikevicius et al. (2018), arXiv 1710.03740, without scaling of the loss: bfloat16 has
    the range of float32.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"dtype must be a floating-point type such as bfloat16, not {dtype}.")
    return _computed(network, lambda function: _InPrecision(function, dtype))


@gate
def rematerialized(network: Network, inputs: str = "device") -> Network:
    """The network whose nodes keep nothing but their inputs for derivatives, and compute the rest
    again when a derivative asks for it.

    Predictions and derivatives are the same. Training needs less memory where a node's function
    has many intermediate results (attention, several convolutions), for about one more evaluation
    of the function per derivative. Single layers gain less: a Gauss-Newton step keeps 16 times the
    activities of a deep multilayer perceptron instead of 24.

    **Arguments**: `network`; `inputs`, where the inputs wait until a derivative asks for them: in
    the memory of the `"device"`, or in that of the `"host"`, which is larger and takes a transfer
    each way. Raises `ValueError` for a backend without such memory. On a processor it is the same
    memory, and the compiler leaves the transfers out.

    ```python
    network = fx.rematerialized(fx.models.transformer(65, key=jax.random.key(0)))
    ```

    Source: Chen et al. (2016), arXiv 1604.06174; `jax.checkpoint`.
    """
    if choice("inputs", inputs, ("device", "host")) == "device":
        return _computed(network, _Rematerialized)
    device = jax.devices()[0]
    if _HOST not in {memory.kind for memory in device.addressable_memories()}:
        raise ValueError(
            f"a {device.platform} device has no memory of its host ({_HOST}) here; leave inputs "
            "out, so that they wait on the device."
        )
    return _computed(network, _Offloaded)


def offloads(function: Any) -> bool:
    """Whether what a node sees waits on the host for its derivative."""
    parts = jax.tree.leaves(function, is_leaf=_is_offloaded)
    return any(map(_is_offloaded, parts))


def _is_offloaded(part: object) -> bool:
    return isinstance(part, _Offloaded)


class _Computed(eqx.Module):
    """A node's function, computed in a way of its own."""

    function: Callable[..., Array]

    @abc.abstractmethod
    def __call__(self, *sources: Array) -> Array:
        """The prediction for one example."""

    def with_batch_statistics(self, *sources: Array) -> _Computed:
        """The function with the statistics of a batch of its sources."""
        taken = with_batch_statistics(self.function, *sources)
        computed: _Computed = eqx.tree_at(lambda own: own.function, self, taken)
        return computed


class _InPrecision(_Computed):
    dtype: Any = eqx.field(static=True)

    def __call__(self, *sources: Array) -> Array:
        full = jnp.result_type(*filter(eqx.is_inexact_array, jax.tree.leaves(self.function)), 0.0)
        predicted: Array = self._low(self.function)(*self._low(sources))
        return predicted.astype(full)

    def _low(self, tree: Any) -> Any:
        def cast(leaf: Any) -> Any:
            # Statistics stay: their layer casts them.
            return leaf.astype(self.dtype) if eqx.is_inexact_array(leaf) else leaf

        return jax.tree.map(cast, tree, is_leaf=lambda part: isinstance(part, Statistics))


class _Rematerialized(_Computed):
    def __call__(self, *sources: Array) -> Array:
        predicted: Array = eqx.filter_checkpoint(self.function)(*sources)
        return predicted


class _Offloaded(_Computed):
    def __call__(self, *sources: Array) -> Array:
        policy = jax.checkpoint_policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[_INPUT],
            offload_src="device",
            offload_dst=_HOST,
        )

        def function(function: Callable[..., Array], *sources: Array) -> Array:
            return function(*(checkpoint_name(source, _INPUT) for source in sources))

        predicted: Array = eqx.filter_checkpoint(function, policy=policy)(self.function, *sources)
        return predicted


def _computed(network: Network, wrap: Callable[[Any], _Computed]) -> Network:
    def computed(part: Any) -> Any:
        shares = part.name in {name for name, _ in network.share}
        keeps = isinstance(part, Root) or shares
        return part if keeps else part.with_function(wrap(part.learned_function()))

    return network.with_predictors({part.name: computed(part) for part in network.predictors()})
