"""Multilayer perceptrons, plain and residual, at any depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import gate
from fathomx.graph.energy import Energy
from fathomx.graph.entries import Entry, Node, Stack
from fathomx.graph.network import Network
from fathomx.layers.activations import Activation, activation_function
from fathomx.layers.parameterization import Parameterization, Role, Standard
from fathomx.layers.scaled import Affine, Linear


class Dense(eqx.Module):
    """`a W phi(z)`: the activation acts on the parent's activity, then the linear map.

    With biases the map is `a W phi(z) + b`.
    """

    linear: Callable[[Array], Array]
    activation: Callable[[Array], Array]

    def __call__(self, activity: Array) -> Array:
        return self.linear(self.activation(activity))


class Residual(eqx.Module):
    """`z + a W phi(z)`: a branch that keeps the shape beside an identity skip."""

    branch: Callable[[Array], Array]

    def __call__(self, activity: Array) -> Array:
        return activity + self.branch(activity)


@gate
def mlp(
    in_size: int,
    out_size: int,
    *,
    width: int | Sequence[int] = 128,
    depth: int | None = None,
    activation: Activation | Sequence[Activation] = "gelu",
    bias: bool = False,
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
    output: Energy | None = None,
) -> Network:
    """A plain multilayer perceptron with `depth` weight layers, each a node.

        mu_1 = a_1 W_1 x,    mu_l = a_l W_l phi(z_{l-1}),    + b_l with biases

    The hidden layers are one `Stack` named `hidden`, between the nodes `first` and `output`; with
    lists of widths or activations, they are nodes `hidden1`, `hidden2` and so on.

    Without biases (the default) a network of odd activations such as tanh is an odd function of its
    input, and fits nothing else; give `bias=True`, or an activation that is not odd.

    **Arguments**: sizes of input and output; `width` of the hidden layers, or the width of each;
    `depth` at least 2, 3 unless given or told by a list; `activation`, a name of
    `fathomx.layers.ACTIVATIONS` (`"linear"` too) or a function, or one for each hidden layer;
    `bias`, whether nodes add a bias, zero at first; `parameterization` (`Standard()` unless given);
    a PRNG `key`; `output`, the output node's energy (`Gaussian()` unless given).

    Raises `ValueError` for sizes below 1, a depth below 2, lists of unlike length and unknown
    activations.

    ```python
    network = fx.models.mlp(784, 10, width=128, depth=20, activation="tanh",
                            parameterization=fx.Standard(), key=jax.random.key(0))
    network = fx.models.mlp(4, 2, width=[64, 32], activation=["tanh", "relu"], bias=True,
                            key=jax.random.key(0))
    ```
    """
    make = Maker((in_size, out_size), width, depth, activation, bias, parameterization)
    return Network(make.plain(output, key), input_shape=(in_size,))


@gate
def residual_mlp(
    in_size: int,
    out_size: int,
    *,
    width: int | Sequence[int] = 128,
    depth: int | None = None,
    activation: Activation | Sequence[Activation] = "gelu",
    bias: bool = False,
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
    output: Energy | None = None,
) -> Network:
    """A multilayer perceptron with identity skips from hidden layer to hidden layer.

        mu_1 = a_1 W_1 x,    mu_l = z_{l-1} + a_l W_l phi(z_{l-1}),    mu_L = a_L W_L phi(z_{L-1})

    Arguments and errors as for `mlp`, with one width and one activation, which skips need; with
    `parameterization=fx.MuPC()` it trains at any depth.

    ```python
    network = fx.models.residual_mlp(784, 10, width=128, depth=128,
                                     parameterization=fx.MuPC(), key=jax.random.key(0))
    ```

    Source: Innocenti et al. (2025), arXiv 2505.13124.
    """
    make = Maker((in_size, out_size), width, depth, activation, bias, parameterization)
    return Network(make.residual(output, key), input_shape=(in_size,))


class Maker:
    """The sizes and choices that all layers of a perceptron share."""

    def __init__(
        self,
        sizes: tuple[int, int],
        width: int | Sequence[int],
        depth: int | None,
        activation: Activation | Sequence[Activation],
        bias: bool,
        parameterization: Parameterization | None,
    ) -> None:
        widths, activations = _each("width", width), _each("activation", activation)
        told = len(widths or activations or (0, 0)) + 1
        self.depth = told if depth is None else depth
        if self.depth < 2:
            raise ValueError(
                f"depth counts weight layers, input and output included, and must be at least 2, "
                f"not {self.depth}."
            )
        hidden = self.depth - 1
        self.uniform = not widths and not activations
        self.widths: list[int] = widths or [width] * hidden
        named = activations or [activation] * hidden
        for name, values in (("widths", self.widths), ("activations", named)):
            if len(values) != hidden:
                raise ValueError(
                    f"there are {len(values)} {name}, but depth={self.depth} has {hidden} hidden "
                    "layers; give one for each, and leave out depth."
                )
        known = {"in_size": sizes[0], "out_size": sizes[1], "width": min(self.widths)}
        for name, value in known.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")
        parameterization = Standard() if parameterization is None else parameterization
        if not isinstance(parameterization, Parameterization):
            raise TypeError(
                f"parameterization must be a Parameterization such as fx.MuPC(), not "
                f"{parameterization!r}."
            )
        self.in_size, self.out_size = sizes
        # What a parameterization takes for the width of all.
        self.width = max(self.widths)
        self.activations = [activation_function(each) for each in named]
        self.bias = bias
        self.parameterization = parameterization

    def linear(self, role: Role, sizes: tuple[int, int], key: PRNGKeyArray) -> Linear | Affine:
        mapped = self.parameterization.linear(role, sizes, self.width, self.depth, key)
        if not self.bias:
            return mapped
        return self.parameterization.affine(mapped, sizes[1], self.width, self.depth)

    def dense(
        self,
        role: Role,
        sizes: tuple[int, int],
        key: PRNGKeyArray,
        activation: Callable[[Array], Array],
    ) -> Dense:
        return Dense(self.linear(role, sizes, key), activation)

    def first(self, key: PRNGKeyArray) -> Node:
        return Node("first", self.linear(Role.INPUT, (self.in_size, self.widths[0]), key))

    def last(self, energy: Energy | None, key: PRNGKeyArray) -> Node:
        sizes = (self.widths[-1], self.out_size)
        last = self.dense(Role.OUTPUT, sizes, key, self.activations[-1])
        return Node("output", last, energy=energy)

    def plain(self, output: Energy | None, key: PRNGKeyArray) -> list[Entry]:
        """The entries without skips: the hidden layers as one stack if they are alike."""
        if self.uniform:
            return self._stacked(Role.HIDDEN, lambda dense: dense, output, key)
        return self._chain(output, key)

    def residual(self, output: Energy | None, key: PRNGKeyArray) -> list[Entry]:
        """The entries with identity skips; `ValueError` for layers that are not alike."""
        if not self.uniform:
            raise ValueError(
                "identity skips need hidden layers of one width and one activation; give numbers, "
                "or use a model without skips."
            )
        return self._stacked(Role.RESIDUAL, Residual, output, key)

    def _stacked(
        self,
        role: Role,
        block: Callable[[Dense], Callable[[Array], Array]],
        output: Energy | None,
        key: PRNGKeyArray,
    ) -> list[Entry]:
        """The hidden layers as one stack."""
        first_key, hidden_key, output_key = jax.random.split(key, 3)
        entries: list[Entry] = [self.first(first_key)]
        if self.depth > 2:
            sizes = (self.width, self.width)

            @eqx.filter_vmap
            def hidden(key: PRNGKeyArray) -> Callable[[Array], Array]:
                return block(self.dense(role, sizes, key, self.activations[0]))

            entries.append(Stack("hidden", hidden(jax.random.split(hidden_key, self.depth - 2))))
        return [*entries, self.last(output, output_key)]

    def _chain(self, output: Energy | None, key: PRNGKeyArray) -> list[Entry]:
        """The hidden layers as nodes, each of its own width and activation."""
        first_key, hidden_key, output_key = jax.random.split(key, 3)
        entries: list[Entry] = [self.first(first_key)]
        keys = jax.random.split(hidden_key, max(1, self.depth - 2))
        for index in range(1, self.depth - 1):
            sizes = (self.widths[index - 1], self.widths[index])
            activation = self.activations[index - 1]
            dense = self.dense(Role.HIDDEN, sizes, keys[index - 1], activation)
            entries.append(Node(f"hidden{index}", dense))
        return [*entries, self.last(output, output_key)]


def _each(name: str, given: Any) -> list[Any]:
    """What a list holds; nothing where one value is meant for all."""
    if not isinstance(given, list | tuple):
        return []
    if not given:
        raise ValueError(f"{name} is an empty list; give one for each hidden layer, or for all.")
    return list(given)
