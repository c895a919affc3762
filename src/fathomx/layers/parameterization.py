"""Parameterizations: how a network's weights scale with width and depth.

A parameterization is applied once, when a network is built: it writes the multiplier, the initial
weights and the learning-rate scale into every `Linear`, `Convolution` and `Embedding`. Nothing else
in the library knows it.
"""

from __future__ import annotations

import abc
import enum
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import Count, Optimizer, Positive, Sizes, example, gate
from fathomx.checks.names import choice
from fathomx.layers.convolution import Convolution, TransposedConvolution
from fathomx.layers.normalization import Normalization
from fathomx.layers.scaled import Affine, Bias, Embedding, Linear, ScaledWeight


class Role(enum.Enum):
    """What a weight or a fixed factor is for.

    Weights: reading the input (`INPUT`), a hidden map (`HIDDEN`), the one map of a residual branch
    (`RESIDUAL`), the readout (`OUTPUT`), a table of vectors (`EMBEDDING`; its `fan_in` is the
    number of vectors that are added up). Factors, of whose scaling only the multiplier counts: of
    the logits of attention (`ATTENTION`; `fan_in` is the size of a head) and of a residual branch
    of several maps (`BRANCH`; `fan_in` is 1, and the maps inside are `HIDDEN`). Of scale and offset
    of a normalization (`NORMALIZATION`; `fan_in` is 1) only the learning rate counts.
    """

    INPUT = "input"
    HIDDEN = "hidden"
    RESIDUAL = "residual"
    OUTPUT = "output"
    EMBEDDING = "embedding"
    ATTENTION = "attention"
    BRANCH = "branch"
    NORMALIZATION = "normalization"


@gate
class Scaling(NamedTuple):
    """Multiplier `a`, initial standard deviation `b` and learning-rate scale `c` of a weight."""

    multiplier: float
    initial: float
    learning_rate: float

    def draw(self, shape: tuple[int, ...], key: PRNGKeyArray) -> Array:
        """Initial weights: normal, with the standard deviation `initial`."""
        return self.initial * jax.random.normal(key, shape, jnp.result_type(float))


@example("fx.MuPC()")
@gate
class Parameterization(eqx.Module):
    """Chooses the `Scaling` of every weight; a new one is a subclass with one method.

    `roles` are the roles that `scaling` knows: those of perceptrons and convolutional networks
    unless a subclass says more. A model that needs another raises `ValueError`. `fx.ABC` is a
    parameterization by a table instead.

    Source of the (a, b, c) form: Yang and Hu (2021).
    """

    roles: ClassVar[frozenset[Role]] = frozenset(
        {Role.INPUT, Role.HIDDEN, Role.RESIDUAL, Role.OUTPUT}
    )

    @abc.abstractmethod
    def scaling(self, role: Role, fan_in: Count, width: Count, depth: Count) -> Scaling:
        """The scaling of a weight with `fan_in` inputs in a network of that width and depth."""

    def knows(self, role: Role) -> bool:
        """Whether there is a scaling for this role."""
        return role in self.roles

    def multiplier(self, role: Role, fan_in: Count, width: Count, depth: Count) -> float:
        """The fixed factor for a role without a weight: `ATTENTION` or `BRANCH`."""
        return self._known_scaling(role, fan_in, width, depth).multiplier

    def normalization(
        self,
        make: Callable[[int, float], Normalization],
        channels: Count,
        width: Count,
        depth: Count,
    ) -> Normalization:
        """A normalization, `make(channels, learning_rate_scale)`, with this scaling."""
        scaling = self._known_scaling(Role.NORMALIZATION, 1, width, depth)
        return make(channels, scaling.learning_rate)

    def linear(
        self, role: Role, sizes: Sizes, width: Count, depth: Count, key: PRNGKeyArray
    ) -> Linear:
        """A `Linear` for `sizes = (in_size, out_size)` with this parameterization's scaling."""
        in_size, out_size = sizes
        scaling = self._known_scaling(role, in_size, width, depth)
        weight = scaling.draw((out_size, in_size), key)
        return Linear(weight, scaling.multiplier, scaling.learning_rate)

    def affine(
        self, layer: Callable[[Array], Array], size: Count, width: Count, depth: Count
    ) -> Affine:
        """A layer with a bias of zeros for each of `size` units, with a normalization's rate."""
        rate = 1.0
        if self.knows(Role.NORMALIZATION):
            rate = self._known_scaling(Role.NORMALIZATION, 1, width, depth).learning_rate
        return Affine(layer, Bias(jnp.zeros(size), learning_rate_scale=rate))

    def convolution(
        self,
        role: Role,
        sizes: Sizes,
        kernel: Count,
        width: Count,
        depth: Count,
        key: PRNGKeyArray,
        *,
        stride: Count = 1,
    ) -> Convolution:
        """A `Convolution` for `sizes = (in_channels, out_channels)` with this scaling.

        Every output sees `fan_in = in_channels * kernel^2` inputs.
        """
        channels, _ = sizes
        scaling = self._known_scaling(role, channels * kernel**2, width, depth)
        weight = scaling.draw((kernel, kernel, *sizes), key)
        return Convolution(weight, scaling.multiplier, scaling.learning_rate, stride)

    def transposed_convolution(
        self,
        role: Role,
        sizes: Sizes,
        kernel: Count,
        width: Count,
        depth: Count,
        key: PRNGKeyArray,
        *,
        stride: Count = 2,
    ) -> TransposedConvolution:
        """A `TransposedConvolution` for `sizes = (in_channels, out_channels)` with this scaling.

        Every output sees `fan_in = in_channels * kernel^2 / stride^2` inputs.
        """
        channels, _ = sizes
        fan_in = max(1, channels * kernel**2 // stride**2)
        scaling = self._known_scaling(role, fan_in, width, depth)
        weight = scaling.draw((kernel, kernel, *sizes), key)
        return TransposedConvolution(weight, scaling.multiplier, scaling.learning_rate, stride)

    def embedding(
        self, count: Count, added: Count, width: Count, depth: Count, key: PRNGKeyArray
    ) -> Embedding:
        """An `Embedding` of `count` vectors of size `width`, one of `added` that are summed."""
        scaling = self._known_scaling(Role.EMBEDDING, added, width, depth)
        weight = scaling.draw((count, width), key)
        return Embedding(weight, scaling.multiplier, scaling.learning_rate)

    def _known_scaling(self, role: Role, fan_in: Count, width: Count, depth: Count) -> Scaling:
        # Asked for by name: a branch of `scaling` that is meant for all other weights would
        # silently scale the logits of attention too.
        if not self.knows(role):
            known = ", ".join(each.value for each in Role if self.knows(each))
            raise ValueError(
                f"the parameterization {type(self).__name__} does not know the role "
                f"{role.value!r}, only {known}: {self._remedy(role)}."
            )
        return self.scaling(role, fan_in, width, depth)

    def _remedy(self, role: Role) -> str:
        return (
            f"handle Role.{role.name} in its method scaling and add it to the class's attribute "
            "roles"
        )


@gate
class Power(NamedTuple):
    """A power law in the sizes: `coefficient * fan_in^p * width^q * depth^r`.

    **Fields**: `coefficient`, and the exponents `fan_in`, `width` and `depth`.

    ```python
    fx.Power(fan_in=-0.5, depth=-0.5)  # 1 / sqrt(fan_in * depth)
    ```
    """

    coefficient: float = 1.0
    fan_in: float = 0.0
    width: float = 0.0
    depth: float = 0.0

    def __call__(self, fan_in: Count, width: Count, depth: Count) -> float:
        """Its value at these sizes."""
        return float(self.coefficient * fan_in**self.fan_in * width**self.width * depth**self.depth)


@gate
class ABC(Parameterization):
    """The general form: for every role a power law for each of multiplier, initial scale and rate.

        weight layer = a W,    W ~ Normal(0, b^2) at the beginning,    learning rate times c

    **Arguments**: `table`, from roles (or their names) to triples `(a, b, c)` of `Power`s; a number
    stands for a constant. Roles that are missing are unknown, and a model that needs one raises
    `ValueError`; so do coefficients that are negative or not finite, and unknown names.

    Neural tangent with the readout of muPC, for perceptrons:

    ```python
    inward = fx.Power(fan_in=-0.5)
    fx.ABC({"input": (inward, 1, 1), "hidden": (inward, 1, 1), "residual": (inward, 1, 1),
            "output": (fx.Power(fan_in=-1), 1, 1)})
    ```

    Source: abc-parameterizations, Yang and Hu (2021), arXiv 2011.14522; the exponents of depth are
    those of arXiv 2505.13124.
    """

    table: tuple[tuple[Role, tuple[Power, Power, Power]], ...] = eqx.field(static=True)

    def __init__(self, table: Mapping[Role | str, tuple[Power | float | int, ...]]) -> None:
        self.table = tuple((_role(key), _triple(key, powers)) for key, powers in table.items())

    def knows(self, role: Role) -> bool:
        return role in dict(self.table)

    def scaling(self, role: Role, fan_in: Count, width: Count, depth: Count) -> Scaling:
        return Scaling(*(power(fan_in, width, depth) for power in dict(self.table)[role]))

    def _remedy(self, role: Role) -> str:
        return f"add {role.value!r} to its table"


def _role(name: Role | str) -> Role:
    names = {role.value: role for role in Role}
    return name if isinstance(name, Role) else names[choice("role", name, names)]


def _triple(
    role: Role | str, powers: tuple[Power | float | int, ...]
) -> tuple[Power, Power, Power]:
    name = _role(role).value
    if len(powers) != 3:
        raise ValueError(
            f"the role {name!r} has {len(powers)} entries, not 3: multiplier, initial standard "
            "deviation and learning-rate scale."
        )
    made = [power if isinstance(power, Power) else Power(float(power)) for power in powers]
    for power in made:
        if not (all(map(math.isfinite, power)) and power.coefficient >= 0):
            raise ValueError(
                f"the role {name!r} has {power}: coefficients must be finite and not negative, "
                "exponents finite."
            )
    multiplier, initial, learning_rate = made
    return multiplier, initial, learning_rate


@gate
class Standard(Parameterization):
    """Multiplier 1, initial standard deviation `gain / sqrt(fan_in)`.

    The logits of attention are multiplied by `1 / sqrt(fan_in)` of a head.

    **Fields**: `gain`, positive and finite, or `ValueError` is raised. 1 keeps the size of linear
    activities; `sqrt(2)` makes up for the half of the variance that a ReLU takes away, and
    approximately for GELU's. It is the same for every weight.

    ```python
    fx.Standard(gain=2**0.5)
    ```

    Source of the gain: He et al. (2015); of the logits' factor: Vaswani et al. (2017).
    """

    roles: ClassVar[frozenset[Role]] = frozenset(Role)
    gain: Positive = eqx.field(static=True, default=1.0, converter=float)

    def scaling(self, role: Role, fan_in: Count, width: Count, depth: Count) -> Scaling:
        multiplier = 1 / math.sqrt(fan_in) if role is Role.ATTENTION else 1.0
        return Scaling(multiplier, self.gain / math.sqrt(fan_in), 1.0)


@gate
class NTK(Parameterization):
    """Neural tangent: multiplier `1 / sqrt(fan_in)`, initial standard deviation 1.

    Source: Jacot et al. (2018).
    """

    roles: ClassVar[frozenset[Role]] = frozenset(Role)

    def scaling(self, role: Role, fan_in: Count, width: Count, depth: Count) -> Scaling:
        return Scaling(1 / math.sqrt(fan_in), 1.0, 1.0)


@gate
class MuPC(Parameterization):
    """muPC (Depth-muP): activities and their updates keep their size at any width and depth.

    Initial standard deviation 1 and the multipliers

    * input `1 / sqrt(fan_in)`,
    * hidden `1 / sqrt(fan_in)`, on a residual branch `1 / sqrt(fan_in * depth)`,
    * output `1 / (gamma_0 * fan_in)`,
    * logits of attention `1 / fan_in`, a residual branch of several maps `1 / depth`.

    Embeddings have the initial standard deviation 0.02 and the multiplier 1: before the readout of
    a transformer without normalization, equilibrium at the strength `c` then moves activities by
    about `c / 0.028` of their size (`fathomx reproduce limits`). `depth` counts weight layers, in a
    transformer its blocks. The `fan_in` of a convolution is `in_channels * kernel^2`, and the width
    of a convolutional network its channels in the first stage. `gamma_0` (positive) moves between
    the lazy (small) and the rich (large) regime. Learning-rate scales are those for Adam,
    `1 / sqrt(width * depth)` on residual branches of one map and `1 / sqrt(width)` elsewhere (see
    `fx.scale_learning_rates`): the factor `1 / depth` of a branch of several maps needs no
    more.

    `end_rate`, positive, is a learning-rate scale for input, embeddings, normalizations and output
    in place of the published `1 / sqrt(width)`. An update of Adam has entries of one size, so that
    only maps that sum over `width` inputs without dividing by it need a rate that falls with the
    width: with the published scales the others move less and less in wide networks, and the best
    rate drifts (`fathomx reproduce coordinate-check` and `transfer` measure both). With
    `fx.MuPC(end_rate=128**-0.5)` networks of width 128 stay as they are, and the best rate of
    perceptrons stays within a factor of 2 over widths 32 to 512.

    Source: Innocenti et al. (2025), arXiv 2505.13124; learning rates arXiv 2602.07697.
    """

    roles: ClassVar[frozenset[Role]] = frozenset(Role)
    gamma_0: Positive = eqx.field(static=True, default=1.0)
    end_rate: Positive | None = eqx.field(static=True, default=None)

    def scaling(self, role: Role, fan_in: Count, width: Count, depth: Count) -> Scaling:
        rate = 1 / math.sqrt(width)
        end = rate if self.end_rate is None else self.end_rate
        if role is Role.RESIDUAL:
            return Scaling(1 / math.sqrt(fan_in * depth), 1.0, rate / math.sqrt(depth))
        if role is Role.OUTPUT:
            return Scaling(1 / (self.gamma_0 * fan_in), 1.0, end)
        if role is Role.EMBEDDING:
            return Scaling(1.0, 0.02, end)
        if role in (Role.INPUT, Role.NORMALIZATION):
            return Scaling(1 / math.sqrt(fan_in), 1.0, end)
        if role is Role.ATTENTION:
            return Scaling(1 / fan_in, 1.0, rate)
        if role is Role.BRANCH:
            return Scaling(1 / depth, 1.0, rate)
        return Scaling(1 / math.sqrt(fan_in), 1.0, rate)


@gate
def scale_learning_rates(
    optimizer: Optimizer,
) -> optax.GradientTransformation:
    """An optimizer whose learning rate on every weight is scaled as its parameterization asks.

    Multiplies the updates of each `Linear`, `Convolution`, `Embedding` and normalization by its
    `learning_rate_scale`; what layers of your own learn stays as it is. Under `MuPC` and Adam this
    keeps one base rate good over widths and depths. `fx.fit` uses the optimizer it is given: wrap
    it first. The scales are read off the updates' own layers.

    ```python
    optimizer = fx.scale_learning_rates(optax.adam(0.5, eps=1e-12))
    ```

    Source: Innocenti et al. (2026), arXiv 2602.07697.
    """

    def has_scale(part: Any) -> bool:
        return isinstance(part, ScaledWeight | Normalization)

    def scale(part: Any) -> Any:
        if not has_scale(part):
            return part
        return jax.tree.map(lambda update: part.learning_rate_scale * update, part)

    def update(updates: object, state: object, params: object = None) -> tuple[object, object]:
        return jax.tree.map(scale, updates, is_leaf=has_scale), state

    scaled: optax.GradientTransformation = optax.chain(
        optimizer, optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    )
    return scaled
