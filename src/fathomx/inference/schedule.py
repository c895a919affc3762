"""Schedules: how much a node's error counts at a step of inference."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from fathomx.checks import PartOfOne, Positive, example, gate


@example("fx.Spiking()")
@gate
class Schedule(eqx.Module):
    """A weight for every node and inference step, on top of the nodes' own precisions.

    A first-order solver descends `sum_l w_l(t) F_l` in step `t`. The schedule is told when the
    output's error reaches each node in that solver (`fx.arrivals` for state descent; in error
    descent one reverse pass reaches all nodes in step 0) and may also hold one number per node of
    its own. It weighs inference only: energies are reported, and weights learn, without it.

    A schedule is a subclass with one method:

    ```python
    class Fading(fx.Schedule):
        def weights(self, arrivals, step):
            return 1.0 / (1 + jnp.maximum(step - arrivals, 0))
    ```
    """

    @abc.abstractmethod
    def weights(self, arrivals: Int[Array, " nodes"], step: Int[Array, ""]) -> Array:
        """`(nodes,)` weights in inference step `step` (from 0), in the order of `network.labels`.

        What is returned for nodes that are not reached (`step < arrivals`) is not used: their
        errors are zero.
        """

    def check(self, arrivals: Sequence[int], steps: int) -> None:
        """Raises `ValueError` if so many steps are too few for nodes that are reached then."""


@gate
class Uniform(Schedule):
    """Weight 1 for every node in every step: plain predictive coding."""

    def weights(self, arrivals: Int[Array, " nodes"], step: Int[Array, ""]) -> Array:
        return jnp.ones(arrivals.shape)


@gate
class Spiking(Schedule):
    """Weight 1 in the step in which the signal arrives at a node, `alpha` afterwards.

    A node moves when its children's errors arrive, and in the next step, when its own energy has
    weight 1, back towards its prediction; from then on hardly at all, but for what momentum carries
    on. With a first step of length `r` (plain descent: its rate; Nesterov: `rate * (1 + momentum)`)
    a chain of linear nodes is left, without momentum and for `alpha` to 0, with the errors

        e_l = (1 - r) r^(L - l) (I - r J_l J_l^T) d_l

    where `d_l` is backprop's error and `J_l` the Jacobian of node `l`'s prediction in its parent.
    `fx.Equilibrium` learns from these: they point where backprop's do only as long as
    `r * largest eigenvalue of J_l J_l^T < 1` at every node, so plain descent at a rate of 0.5 suits
    it. `fx.ForwardUpdate` learns from how far activities have moved, `(1 - r) r^(L - l) d_l`, which
    has no such factor; it takes the long first steps of momentum, which hand whole errors on.

    With `alpha` above 0 activities go on. Every further step adds to this, to first order and for
    nodes two and more before the output,

        alpha (1 - r) r^(L - l) ((I - r J^T J) - r (I - r J_l J_l^T)) d_l

    with `J` the Jacobian of the child's prediction. So the forward update turns, too, once
    `alpha r` times the steps left and the largest eigenvalue of `J^T J` is not small (more so with
    momentum), as weights that grow in training make it; a smaller `alpha` costs nothing.

    **Fields**: `alpha`, in `(0, 1]`, 1e-3 unless given, as published; 1e-5 suits the
    forward update better (`experiments/deeper_pcns`). Raises `ValueError` otherwise, and at
    inference if the steps end before the signal has arrived everywhere.

    ```python
    fx.Equilibrium(fx.StateDescent(0.5, steps=12, schedule=fx.Spiking(1e-3)), 1.0)
    momentum = optax.sgd(0.5, momentum=0.9, nesterov=True)
    fx.ForwardUpdate(fx.StateDescent(momentum, steps=12, schedule=fx.Spiking(1e-5)), 1.0)
    ```

    Source: Qi et al. (2025), arXiv 2506.23800; what spiking leaves behind: ours.
    """

    alpha: PartOfOne = eqx.field(static=True, default=1e-3, converter=float)

    def weights(self, arrivals: Int[Array, " nodes"], step: Int[Array, ""]) -> Array:
        return jnp.where(step == arrivals, 1.0, self.alpha)

    def check(self, arrivals: Sequence[int], steps: int) -> None:
        needed = max(arrivals) + 1
        if steps < needed:
            raise ValueError(
                f"a spiking schedule needs at least {needed} inference steps for the signal to "
                f"pass the {len(arrivals)} nodes of this network, but the solver takes {steps}; "
                f"give steps={needed} or more."
            )


@gate
class Decaying(Schedule):
    """Weight 1 in the step in which the signal arrives, then small and falling.

        w_l(a_l) = 1,    w_l(a_l + j) = c exp(-rate j),    c = (1/100) sum_{i>=0} exp(-rate i)

    for `j >= 1`; `c` is about 0.0158 at a rate of 1.

    **Fields**: `rate`, positive and finite, 1 unless given. Raises `ValueError` otherwise.

    Source: Qi et al. (2025), arXiv 2506.23800, with the constant of the released code; its sum
    ends with the inference steps, ours is the whole series.
    """

    rate: Positive = eqx.field(static=True, default=1.0, converter=float)

    def weights(self, arrivals: Int[Array, " nodes"], step: Int[Array, ""]) -> Array:
        constant = 0.01 / -math.expm1(-self.rate)
        age = jnp.maximum(step - arrivals, 0)
        return jnp.where(age == 0, 1.0, constant * jnp.exp(-self.rate * age))
