"""Optimizers chosen by name, composed from optax."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array
from optax.contrib import MuonDimensionNumbers, muon

from fathomx.checks import Count, NotNegative, Positive, choice, count, gate, number
from fathomx.graph.energy import Energy
from fathomx.graph.entries import Root
from fathomx.graph.predictor import Predictor
from fathomx.layers.convolution import Convolution, TransposedConvolution
from fathomx.layers.normalization import Normalization
from fathomx.layers.parameterization import scale_learning_rates
from fathomx.layers.scaled import Embedding, Linear, ScaledWeight

# Gradients of early nodes can be tiny.
_EPSILON = 1e-12
# The root mean square of an update of Adam, by which rates for Adam suit Muon.
_SIZE_OF_ADAM = 0.2
_MUON_MOMENTUM = 0.95

_ROWS = MuonDimensionNumbers(reduction_axis=-1, output_axis=-2)
_CHANNELS = MuonDimensionNumbers(reduction_axis=(-4, -3, -2), output_axis=-1)

SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "cosine": optax.cosine_decay_schedule,
    "linear": lambda rate, updates: optax.linear_schedule(rate, 0.0, updates),
    "constant": lambda rate, updates: optax.constant_schedule(rate),
}


@gate
def matrix_axes(weights: Any) -> Any:
    """Which axes of which weights Muon takes for a matrix, for `optax.contrib.muon`.

    Every matrix of a network is one for itself: the blocks of a `Stack` are made orthogonal one by
    one, though their arrays have the depth as their first axis, which Optax alone would take for
    tensors and leave to Adam. A convolution is the matrix from the values under its kernel to its
    output channels. Embeddings, biases, normalizations, learned precisions and prior means are left
    to Adam, as are arrays of layers of one's own that have not two axes.

    **Arguments**: `weights`, such as `fx.weights(network)`, or those of a part of it.

    Returns the same tree with `optax.contrib.MuonDimensionNumbers` where there is a matrix, `None`
    elsewhere.

    ```python
    optimizer = optax.contrib.muon(
        0.5, eps=1e-12, consistent_rms=0.2, muon_weight_dimension_numbers=fx.matrix_axes
    )
    ```

    Source: Jordan et al. (2024), https://kellerjordan.github.io/posts/muon, where the readout is
    left to Adam, too.
    """
    return _each(weights, _axes_for_muon)


def matrices(weights: Any) -> Any:
    """Which weights decay: matrices, convolutions and embeddings, but no biases."""
    return _each(
        weights,
        lambda layer, axes: isinstance(layer, Embedding) or _axes_for_muon(layer, axes) is not None,
    )


def _axes_for_muon(layer: Any, axes: int) -> MuonDimensionNumbers | None:
    if isinstance(layer, Convolution | TransposedConvolution):
        return _CHANNELS
    matrix = isinstance(layer, Linear) if layer is not None else axes == 2
    return _ROWS if matrix else None


def _each(tree: Any, judge: Callable[[Any, int], Any], front: int = 0) -> Any:
    """What is said of every array: of its layer, if that is known, and of its number of axes.

    `front` of them, which count blocks, are left out.
    """

    def of(part: Any) -> Any:
        if part is not tree and isinstance(part, Predictor) and not isinstance(part, Root):
            return _each(part, judge, part.batch_axis)
        known = isinstance(part, _KNOWN)
        return jax.tree.map(lambda array: judge(part if known else None, array.ndim - front), part)

    return jax.tree.map(
        of, tree, is_leaf=lambda part: part is not tree and isinstance(part, (Predictor, *_KNOWN))
    )


_KNOWN = (ScaledWeight, Normalization, Energy, Root)


class _Accumulated(NamedTuple):
    """The optimizer's state, the sum of gradients since its update, and of how many batches."""

    inner: Any
    total: Any
    waited: Array


def _accumulating(
    optimizer: optax.GradientTransformation, batches: int
) -> optax.GradientTransformation:
    """An optimizer that waits for the mean gradient of so many batches.

    `optax.MultiSteps` sums in float32 whatever the weights are in.
    """

    def init(params: Any) -> _Accumulated:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return _Accumulated(optimizer.init(params), zeros, jnp.zeros((), jnp.int32))

    def update(updates: Any, state: _Accumulated, params: Any = None) -> tuple[Any, _Accumulated]:
        total = jax.tree.map(jnp.add, state.total, updates)
        zeros = jax.tree.map(jnp.zeros_like, total)

        def take(inner: Any, total: Any) -> tuple[Any, Any, Any]:
            mean = jax.tree.map(lambda gradient: gradient / batches, total)
            return *optimizer.update(mean, inner, params), zeros

        def wait(inner: Any, total: Any) -> tuple[Any, Any, Any]:
            return zeros, inner, total

        waited = state.waited + 1
        due = waited == batches
        step, inner, total = jax.lax.cond(due, take, wait, state.inner, total)
        return step, _Accumulated(inner, total, jnp.where(due, 0, waited))

    return optax.GradientTransformation(init, update)


class _Kind(NamedTuple):
    """How an optimizer is made, which options it has, and whether scales for Adam are for it."""

    make: Callable[[OptimizerChoice, optax.Schedule], optax.GradientTransformation]
    options: tuple[str, ...] = ()
    scaled: bool = True


def _adam(chosen: OptimizerChoice, rate: optax.Schedule) -> optax.GradientTransformation:
    """Adam, with an epsilon of 1e-12."""
    return optax.adam(rate, eps=_EPSILON)


def _adamw(chosen: OptimizerChoice, rate: optax.Schedule) -> optax.GradientTransformation:
    """Adam with decay of weights, apart from the gradient."""
    decay = chosen.weight_decay or 0.0
    return optax.adamw(rate, eps=_EPSILON, weight_decay=decay, mask=matrices)


def _sgd(chosen: OptimizerChoice, rate: optax.Schedule) -> optax.GradientTransformation:
    """Gradient descent, with or without momentum and decay of weights."""
    parts = [optax.trace(chosen.momentum)] if chosen.momentum else []
    if chosen.weight_decay:
        parts.append(optax.add_decayed_weights(chosen.weight_decay, matrices))
    return optax.chain(*parts, optax.scale_by_learning_rate(rate))


def _muon(chosen: OptimizerChoice, rate: optax.Schedule) -> optax.GradientTransformation:
    """Momentum made orthogonal, matrix by matrix; the rest by Adam."""
    return muon(
        rate,
        beta=_MUON_MOMENTUM if chosen.momentum is None else chosen.momentum,
        eps=_EPSILON,
        weight_decay=chosen.weight_decay or 0.0,
        consistent_rms=_SIZE_OF_ADAM,
        muon_weight_dimension_numbers=matrix_axes,
    )


OPTIMIZERS: dict[str, _Kind] = {
    "adam": _Kind(_adam),
    "adamw": _Kind(_adamw, ("weight_decay",)),
    "sgd": _Kind(_sgd, ("momentum", "weight_decay"), scaled=False),
    "muon": _Kind(_muon, ("momentum", "weight_decay")),
}


@gate
@dataclasses.dataclass(frozen=True)
class OptimizerChoice:
    """An optimizer by name, with what goes around it.

        theta <- theta - rate_t (direction_t + weight_decay theta)

    The direction is that of Adam (`adam`, `adamw`: with an epsilon of 1e-12), of the gradient or of
    its running sum under `momentum` (`sgd`), or the momentum made orthogonal, matrix by matrix, of
    the size of an update of Adam (`muon`, the rest by Adam; `matrix_axes`).

    **Fields**

    * `learning_rate`: the highest; times the scales of a network's parameterization, which are
      for Adam and do not apply to `sgd`.
    * `optimizer`: `adam`, `adamw`, `sgd` or `muon`.
    * `learning_rate_schedule`: `cosine` or `linear`, down to 0 with the last update, or `constant`.
    * `warm_up`: updates in which the rate rises to its highest, in equal steps; below 1, their
      part of all updates.
    * `momentum`, at least 0 and below 1, of `sgd` (0 unless given) and `muon` (0.95).
    * `weight_decay`, not of `adam`: of matrices, convolutions and embeddings, not of biases.
    * `clip`: the largest norm of the gradient, over all weights; a longer one is scaled down to it.
    * `accumulate`: batches whose mean gradient makes an update.

    Raises `ValueError` for unknown names, numbers out of range, and options that an optimizer does
    not have.

    ```python
    optimizer = OptimizerChoice(0.5, "muon", warm_up=0.1, clip=1.0).make(updates=1000)
    ```
    """

    learning_rate: Positive
    optimizer: str = "adam"
    learning_rate_schedule: str = "cosine"
    warm_up: float = 0
    momentum: NotNegative | None = None
    weight_decay: NotNegative | None = None
    clip: Positive | None = None
    accumulate: Count = 1

    def __post_init__(self) -> None:
        choice("optimizer", self.optimizer, OPTIMIZERS)
        choice("learning_rate_schedule", self.learning_rate_schedule, SCHEDULES)
        having = OPTIMIZERS[self.optimizer].options
        for name in ("momentum", "weight_decay"):
            if getattr(self, name) is not None and name not in having:
                others = [repr(k) for k, kind in OPTIMIZERS.items() if name in kind.options]
                raise ValueError(
                    f"optimizer {self.optimizer!r} has no {name}; leave it out, or use optimizer "
                    f"{' or '.join(others)}."
                )
        if self.momentum is not None:
            number("momentum", self.momentum, least=0, below=1)
        if isinstance(self.warm_up, int):
            count("warm_up", self.warm_up, least=0)
        else:
            number(
                "warm_up", self.warm_up, least=0, below=1, remedy="give an integer to count updates"
            )

    def make(self, updates: Count) -> optax.GradientTransformation:
        """The optimizer for a run that takes so many batches (or updates, if none accumulate).

        Raises `ValueError` for a warm-up that takes all updates, and for more batches in an update
        than there are.
        """
        if self.accumulate > updates:
            raise ValueError(
                f"accumulate is {self.accumulate}, but there are {updates} batches; give at most "
                f"{updates}."
            )
        kind = OPTIMIZERS[self.optimizer]
        made = kind.make(self, self._rate(updates // self.accumulate))
        if self.clip is not None:
            made = optax.chain(optax.clip_by_global_norm(self.clip), made)
        if kind.scaled:
            made = scale_learning_rates(made)
        if self.accumulate > 1:
            made = _accumulating(made, self.accumulate)
        return made

    def _rate(self, updates: int) -> optax.Schedule:
        peak, after = self.learning_rate, SCHEDULES[self.learning_rate_schedule]
        rising = self.warm_up if isinstance(self.warm_up, int) else round(self.warm_up * updates)
        if not rising:
            return after(peak, updates)
        if rising >= updates:
            raise ValueError(
                f"warm_up takes {rising} of {updates} updates; give fewer, or their part as a "
                "number below 1."
            )
        # The first update has the rate peak / rising: with 0 its batch would be wasted.
        rise = optax.linear_schedule(peak / rising, peak, max(1, rising - 1))
        return optax.join_schedules([rise, after(peak, updates - rising)], [rising])
