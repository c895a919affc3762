"""Multilayer perceptrons, plain and residual, at any depth."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from fathomx.graph.energy import Energy
from fathomx.graph.entries import Node, Stack
from fathomx.graph.network import Network
from fathomx.layers.activations import Activation, activation_function
from fathomx.layers.parameterization import Parameterization, Role, Standard
from fathomx.layers.scaled import Linear


class Dense(eqx.Module):
    """`a W phi(z)`: the activation acts on the parent's activity, then the linear map."""

    linear: Linear
    activation: Callable[[Array], Array]

    def __call__(self, activity: Array) -> Array:
        return self.linear(self.activation(activity))


class Residual(eqx.Module):
    """`z + a W phi(z)`: a dense branch beside an identity skip."""

    branch: Dense

    def __call__(self, activity: Array) -> Array:
        return activity + self.branch(activity)


def mlp(
    in_size: int,
    out_size: int,
    *,
    width: int = 128,
    depth: int = 3,
    activation: Activation = "gelu",
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
    output: Energy | None = None,
) -> Network:
    """A plain multilayer perceptron with `depth` weight layers, each a node.

        mu_1 = a_1 W_1 x,    mu_l = a_l W_l phi(z_{l-1}),    no biases

    The hidden layers are one `Stack` named `hidden`, between the nodes `first` and `output`.

    **Arguments**: sizes of input and output, `width` of the hidden layers, `depth` at least 2,
    `activation` a name of `fathomx.layers.ACTIVATIONS` (`"linear"` too) or a function,
    `parameterization` (`Standard()` unless given), a PRNG `key`, and `output`, the output node's
    energy (`Gaussian()` unless given).

    Raises `ValueError` for sizes below 1, a depth below 2 and unknown activations.

    ```python
    network = fx.models.mlp(784, 10, width=128, depth=20, activation="tanh",
                            parameterization=fx.Standard(), key=jax.random.key(0))
    ```
    """
    parameterization = Standard() if parameterization is None else parameterization
    make = _Maker(in_size, out_size, width, depth, activation, parameterization)
    return make.network(Role.HIDDEN, lambda dense: dense, output, key)


def residual_mlp(
    in_size: int,
    out_size: int,
    *,
    width: int = 128,
    depth: int = 3,
    activation: Activation = "gelu",
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
    output: Energy | None = None,
) -> Network:
    """A multilayer perceptron with identity skips from hidden layer to hidden layer.

        mu_1 = a_1 W_1 x,    mu_l = z_{l-1} + a_l W_l phi(z_{l-1}),    mu_L = a_L W_L phi(z_{L-1})

    Arguments and errors as for `mlp`; with `parameterization=fx.MuPC()` it trains at any depth.

    ```python
    network = fx.models.residual_mlp(784, 10, width=128, depth=128,
                                     parameterization=fx.MuPC(), key=jax.random.key(0))
    ```

    Source: Innocenti et al. (2025), arXiv 2505.13124.
    """
    parameterization = Standard() if parameterization is None else parameterization
    make = _Maker(in_size, out_size, width, depth, activation, parameterization)
    return make.network(Role.RESIDUAL, Residual, output, key)


class _Maker:
    """The sizes and choices that all layers of a perceptron share."""

    def __init__(
        self,
        in_size: int,
        out_size: int,
        width: int,
        depth: int,
        activation: Activation,
        parameterization: Parameterization,
    ) -> None:
        for name, value in (("in_size", in_size), ("out_size", out_size), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")
        if depth < 2:
            raise ValueError(
                f"depth counts weight layers, input and output included, and must be at least 2, "
                f"not {depth}."
            )
        if not isinstance(parameterization, Parameterization):
            raise TypeError(
                f"parameterization must be a Parameterization such as fx.MuPC(), not "
                f"{parameterization!r}."
            )
        self.in_size, self.out_size, self.width, self.depth = in_size, out_size, width, depth
        self.activation = activation_function(activation)
        self.parameterization = parameterization

    def linear(self, role: Role, sizes: tuple[int, int], key: PRNGKeyArray) -> Linear:
        return self.parameterization.linear(role, sizes, self.width, self.depth, key)

    def network(
        self,
        role: Role,
        block: Callable[[Dense], Callable[[Array], Array]],
        output: Energy | None,
        key: PRNGKeyArray,
    ) -> Network:
        first_key, hidden_key, output_key = jax.random.split(key, 3)
        width = self.width
        nodes: list[Node | Stack] = [
            Node("first", self.linear(Role.INPUT, (self.in_size, width), first_key))
        ]
        if self.depth > 2:

            @eqx.filter_vmap
            def hidden(key: PRNGKeyArray) -> Callable[[Array], Array]:
                return block(Dense(self.linear(role, (width, width), key), self.activation))

            nodes.append(Stack("hidden", hidden(jax.random.split(hidden_key, self.depth - 2))))
        last = self.linear(Role.OUTPUT, (width, self.out_size), output_key)
        nodes.append(Node("output", Dense(last, self.activation), energy=output))
        return Network(nodes, input_shape=(self.in_size,))
