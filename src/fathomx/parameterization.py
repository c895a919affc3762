"""Parameterizations: how a network's weights scale with width and depth.

A parameterization is applied once, when a network is built: it writes the multiplier, the initial
weights and the learning-rate scale into every `Linear` and `Convolution`. Nothing else in the
library knows it.
"""

from __future__ import annotations

import abc
import enum
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from fathomx.layers import Convolution, Linear, ScaledWeight


class Role(enum.Enum):
    """What a weight is for: reading the input, a hidden map, a residual branch, the readout."""

    INPUT = "input"
    HIDDEN = "hidden"
    RESIDUAL = "residual"
    OUTPUT = "output"


class Scaling(NamedTuple):
    """Multiplier `a`, initial standard deviation `b` and learning-rate scale `c` of a weight."""

    multiplier: float
    initial: float
    learning_rate: float

    def draw(self, shape: tuple[int, ...], key: PRNGKeyArray) -> Array:
        """Initial weights: normal, with the standard deviation `initial`."""
        return self.initial * jax.random.normal(key, shape, jnp.result_type(float))


class Parameterization(eqx.Module):
    """Chooses the `Scaling` of every weight; a new one is a subclass with one method.

    Source of the (a, b, c) form: Yang and Hu (2021).
    """

    @abc.abstractmethod
    def scaling(self, role: Role, fan_in: int, width: int, depth: int) -> Scaling:
        """The scaling of a weight with `fan_in` inputs in a network of that width and depth."""

    def linear(
        self, role: Role, sizes: tuple[int, int], width: int, depth: int, key: PRNGKeyArray
    ) -> Linear:
        """A `Linear` for `sizes = (in_size, out_size)` with this parameterization's scaling."""
        in_size, out_size = sizes
        scaling = self.scaling(role, in_size, width, depth)
        weight = scaling.draw((out_size, in_size), key)
        return Linear(weight, scaling.multiplier, scaling.learning_rate)

    def convolution(
        self,
        role: Role,
        sizes: tuple[int, int],
        kernel: int,
        width: int,
        depth: int,
        key: PRNGKeyArray,
        *,
        stride: int = 1,
    ) -> Convolution:
        """A `Convolution` for `sizes = (in_channels, out_channels)` with this scaling.

        Every output sees `fan_in = in_channels * kernel^2` inputs.
        """
        channels, _ = sizes
        scaling = self.scaling(role, channels * kernel**2, width, depth)
        weight = scaling.draw((kernel, kernel, *sizes), key)
        return Convolution(weight, scaling.multiplier, scaling.learning_rate, stride)


class Standard(Parameterization):
    """Multiplier 1, initial standard deviation `gain / sqrt(fan_in)`.

    **Fields**: `gain`, positive and finite, or `ValueError` is raised. 1 keeps the size of linear
    activities; `sqrt(2)` makes up for the half of the variance that a ReLU takes away, and
    approximately for GELU's. It is the same for every weight.

    ```python
    fx.Standard(gain=2**0.5)
    ```

    Source of the gain: He et al. (2015).
    """

    gain: float = eqx.field(static=True, default=1.0, converter=float)

    def __check_init__(self) -> None:
        if not (math.isfinite(self.gain) and self.gain > 0):
            raise ValueError(
                f"gain must be a positive, finite number, not {self.gain!r}; 1 suits linear "
                "activities, 2**0.5 ReLU and GELU."
            )

    def scaling(self, role: Role, fan_in: int, width: int, depth: int) -> Scaling:
        return Scaling(1.0, self.gain / math.sqrt(fan_in), 1.0)


class NTK(Parameterization):
    """Neural tangent: multiplier `1 / sqrt(fan_in)`, initial standard deviation 1.

    Source: Jacot et al. (2018).
    """

    def scaling(self, role: Role, fan_in: int, width: int, depth: int) -> Scaling:
        return Scaling(1 / math.sqrt(fan_in), 1.0, 1.0)


class MuPC(Parameterization):
    """muPC (Depth-muP): activities and their updates keep their size at any width and depth.

    Initial standard deviation 1 and the multipliers

    * input `1 / sqrt(fan_in)`,
    * hidden `1 / sqrt(fan_in)`, on a residual branch `1 / sqrt(fan_in * depth)`,
    * output `1 / (gamma_0 * fan_in)`.

    `depth` counts weight layers. The `fan_in` of a convolution is `in_channels * kernel^2`, and the
    width of a convolutional network its channels in the first stage. `gamma_0` (positive) moves
    between the lazy (small) and the rich (large) regime. Learning-rate scales are those for Adam,
    `1 / sqrt(width * depth)` on residual branches and `1 / sqrt(width)` elsewhere (see
    `fx.scale_learning_rates`).

    Source: Innocenti et al. (2025), arXiv 2505.13124; learning rates arXiv 2602.07697.
    """

    gamma_0: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if not (math.isfinite(self.gamma_0) and self.gamma_0 > 0):
            raise ValueError(f"gamma_0 must be a positive, finite number, not {self.gamma_0!r}.")

    def scaling(self, role: Role, fan_in: int, width: int, depth: int) -> Scaling:
        rate = 1 / math.sqrt(width)
        if role is Role.RESIDUAL:
            return Scaling(1 / math.sqrt(fan_in * depth), 1.0, rate / math.sqrt(depth))
        if role is Role.OUTPUT:
            return Scaling(1 / (self.gamma_0 * fan_in), 1.0, rate)
        return Scaling(1 / math.sqrt(fan_in), 1.0, rate)


def scale_learning_rates(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """An optimizer whose learning rate on every weight is scaled as its parameterization asks.

    Multiplies the updates of the weight of each `Linear` and `Convolution` by its
    `learning_rate_scale`; others (a normalization's scale and offset) stay as they are. Under
    `MuPC` and Adam this keeps one base rate good over widths and depths. `fx.fit` uses the
    optimizer it is given: wrap it first. The scales are read off the updates' own layers.

    ```python
    optimizer = fx.scale_learning_rates(optax.adam(1.0, eps=1e-12))
    ```

    Source: Innocenti et al. (2026), arXiv 2602.07697.
    """

    def scale(part: Any) -> Any:
        if not isinstance(part, ScaledWeight):
            return part
        scaled = part.weight * part.learning_rate_scale
        return eqx.tree_at(lambda layer: layer.weight, part, scaled)

    def update(updates: object, state: object, params: object = None) -> tuple[object, object]:
        layers = jax.tree.map(scale, updates, is_leaf=lambda part: isinstance(part, ScaledWeight))
        return layers, state

    scaled: optax.GradientTransformation = optax.chain(
        optimizer, optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    )
    return scaled
