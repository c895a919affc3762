"""What trains the networks of the comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import optax

from fathomx.inference import ErrorDescent, GaussNewton, StateDescent
from fathomx.inference.schedule import Decaying, Schedule, Spiking, Uniform
from fathomx.learning import (
    Backprop,
    Equilibrium,
    EquilibriumErrors,
    EquilibriumPropagation,
    ForwardUpdate,
    Incremental,
    LearningRule,
)
from fathomx.problem.strength import HoldStrength


@dataclasses.dataclass(frozen=True)
class Steps:
    """How activities descend: at a rate, with Nesterov momentum if there is any."""

    rate: float
    momentum: float = 0.0

    @property
    def first(self) -> float:
        """The length of the first step along a new gradient, which hands the error on."""
        return self.rate * (1 + self.momentum)

    def descent(self, count: int, schedule: Schedule) -> StateDescent:
        """So many of these steps."""
        if not self.momentum:
            return StateDescent(optax.sgd(self.rate), count, schedule)
        optimizer = optax.sgd(self.rate, momentum=self.momentum, nesterov=True)
        return StateDescent(optimizer, count, schedule)


PLAIN, GENTLE = Steps(0.5), Steps(0.1)
# At which long training stays stable: curvature grows with the weights.
GENTLEST = Steps(0.01)
# With a first step of 0.95, which hands nearly whole errors on.
MOMENTUM = Steps(0.5, 0.9)
# In the released configuration, and in the text that goes with it.
CONFIGURED, DESCRIBED = Steps(0.8, 0.1), Steps(0.56, 0.9)


@dataclasses.dataclass(frozen=True)
class Method:
    """How a network is trained.

    **Fields**: `rule` makes the learning rule for a number of inference steps; `auxiliary`: the
    length of the first step that auxiliary neurons of residual networks are to pass on, none
    without; `normalization` of the network; `incremental`: whether the optimizer is stepped once
    per inference step.
    """

    rule: Callable[[int], LearningRule]
    auxiliary: float | None = None
    normalization: str | None = None
    incremental: bool = False


Learn = Callable[[StateDescent, float], LearningRule]


def _equilibrium(steps: Steps) -> Method:
    return Method(lambda count: Equilibrium(steps.descent(count, Uniform()), 1.0))


def _scheduled(
    steps: Steps,
    schedule: Schedule,
    learn: Learn = Equilibrium,
    *,
    normalization: str | None = None,
    incremental: bool = False,
) -> Method:
    return Method(
        lambda count: learn(steps.descent(count, schedule), 1.0),
        auxiliary=steps.first,
        normalization=normalization,
        incremental=incremental,
    )


_SPIKING = Spiking(1e-3)

METHODS = {
    "PC": _equilibrium(PLAIN),
    "PC, rate 0.1": _equilibrium(GENTLE),
    "PC, rate 0.01": _equilibrium(GENTLEST),
    "PC, momentum": _equilibrium(MOMENTUM),
    "PC + spiking": _scheduled(PLAIN, _SPIKING),
    "PC + decaying": _scheduled(PLAIN, Decaying()),
    "PC + spiking, momentum": _scheduled(MOMENTUM, _SPIKING),
    "PC + decaying, momentum": _scheduled(MOMENTUM, Decaying()),
    "PC + spiking + forward update": _scheduled(MOMENTUM, _SPIKING, ForwardUpdate),
    "PC + spiking + forward update, alpha 1e-5": _scheduled(MOMENTUM, Spiking(1e-5), ForwardUpdate),
    "PC + spiking + forward update + BatchNorm": _scheduled(
        MOMENTUM, _SPIKING, ForwardUpdate, normalization="batch"
    ),
    "iPC, rate 0.1": Method(
        lambda count: Incremental(GENTLE.descent(count, Uniform()), 1.0), incremental=True
    ),
    "iPC + spiking": _scheduled(PLAIN, _SPIKING, Incremental, incremental=True),
    "equilibrium propagation": Method(
        lambda count: EquilibriumPropagation(GaussNewton(), HoldStrength(0.1))
    ),
    "equilibrium propagation, strength 0.01": Method(
        lambda count: EquilibriumPropagation(GaussNewton(), HoldStrength(0.01))
    ),
    "error descent": Method(lambda count: Equilibrium(ErrorDescent())),
    "Gauss-Newton": Method(lambda count: Equilibrium(GaussNewton())),
    "Gauss-Newton, strength 0.01": Method(
        lambda count: Equilibrium(GaussNewton(), HoldStrength(0.01))
    ),
    "Gauss-Newton, equilibrium errors": Method(lambda count: EquilibriumErrors(GaussNewton())),
    "backprop": Method(lambda count: Backprop()),
    "backprop + BatchNorm": Method(lambda count: Backprop(), normalization="batch"),
}

# Of the networks in the form of the released code.
RELEASED = {
    "spiking, rate 0.8, momentum 0.1": _scheduled(CONFIGURED, _SPIKING),
    "spiking, rate 0.56, momentum 0.9": _scheduled(DESCRIBED, _SPIKING),
    "forward update, rate 0.8, momentum 0.1": _scheduled(CONFIGURED, _SPIKING, ForwardUpdate),
    "forward update, rate 0.56, momentum 0.9": _scheduled(DESCRIBED, _SPIKING, ForwardUpdate),
}

ALL_METHODS = {**METHODS, **RELEASED}
