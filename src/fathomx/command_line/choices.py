"""What else a job chooses by name: parameterizations, number formats, solvers and rules."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

from fathomx.graph.network import Network
from fathomx.graph.numbers import mixed_precision
from fathomx.inference import (
    ErrorDescent,
    Exact,
    GaussNewton,
    GradientFlow,
    Langevin,
    Newton,
    QuasiNewton,
    Solver,
    StateDescent,
)
from fathomx.inference.schedule import Decaying, Schedule, Spiking, Uniform
from fathomx.layers.parameterization import NTK, MuPC, Parameterization, Standard
from fathomx.learning import (
    Equilibrium,
    EquilibriumErrors,
    EquilibriumPropagation,
    ForwardUpdate,
    Incremental,
    PredictiveCoding,
)
from fathomx.problem.strength import HoldStrength


class Preset(NamedTuple):
    """A parameterization, and the learning rate of Adam that suits networks that have it."""

    make: Callable[[], Parameterization]
    learning_rate: float


PARAMETERIZATIONS: dict[str, Preset] = {
    "mupc": Preset(MuPC, 0.5),
    "ntk": Preset(NTK, 0.03),
    "standard": Preset(Standard, 3e-3),
    "he": Preset(functools.partial(Standard, gain=math.sqrt(2)), 3e-3),
}
NORMALIZATIONS = ("none", "batch", "group", "layer")
DESCENTS: dict[str, Callable[..., Solver]] = {
    "error-descent": ErrorDescent,
    "state-descent": StateDescent,
}
SOLVERS: dict[str, Callable[..., Solver]] = {
    "gauss-newton": GaussNewton,
    # Networks are built in float32, which cannot reach their own default of 1e-6.
    "newton": functools.partial(Newton, tolerance=1e-4),
    "quasi-newton": functools.partial(QuasiNewton, tolerance=1e-4),
    **DESCENTS,
    "gradient-flow": GradientFlow,
    "exact": Exact,
    "langevin": Langevin,
}
SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "uniform": Uniform,
    "spiking": Spiking,
    "decaying": Decaying,
}


def _as_built(network: Network) -> Network:
    """Weights, activities and products in float32."""
    return network


NUMBERS: dict[str, Callable[[Network], Network]] = {
    "float32": _as_built,
    "bfloat16": mixed_precision,
}
RULES: dict[str, type[PredictiveCoding]] = {
    "equilibrium": Equilibrium,
    "equilibrium-errors": EquilibriumErrors,
    "incremental": Incremental,
    "forward-update": ForwardUpdate,
    "equilibrium-propagation": EquilibriumPropagation,
}


def usual_strength(learning: str) -> float:
    """What strength a rule holds unless told otherwise."""
    held = RULES[learning]().output_precision
    assert isinstance(held, HoldStrength)
    return held.strength
