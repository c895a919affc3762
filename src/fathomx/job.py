"""A training job as plain values: what the command line offers and what `config.json` stores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import optax

from fathomx import data as data_sets
from fathomx.data import Dataset
from fathomx.inference import (
    ErrorDescent,
    Exact,
    GaussNewton,
    GradientFlow,
    Newton,
    Solver,
    StateDescent,
)
from fathomx.layers import ACTIVATIONS, unknown
from fathomx.learning import Backprop, Equilibrium, LearningRule
from fathomx.learning.equilibrium import DEFAULT_STRENGTH
from fathomx.models import mlp, residual_mlp
from fathomx.network import Network
from fathomx.parameterization import NTK, MuPC, Parameterization, Standard
from fathomx.strength import HoldStrength

MODELS: dict[str, Callable[..., Network]] = {"residual-mlp": residual_mlp, "mlp": mlp}
PARAMETERIZATIONS: dict[str, type[Parameterization]] = {
    "mupc": MuPC,
    "ntk": NTK,
    "standard": Standard,
}
SOLVERS: dict[str, Callable[[], Solver]] = {
    "gauss-newton": GaussNewton,
    # Networks are built in float32, which cannot reach Newton's own default of 1e-6.
    "newton": lambda: Newton(tolerance=1e-4),
    "error-descent": ErrorDescent,
    "state-descent": StateDescent,
    "gradient-flow": GradientFlow,
    "exact": Exact,
}
RULES = ("equilibrium", "backprop")


def _option(default: Any, help: str, choices: Any = None) -> Any:
    return dataclasses.field(
        default=default, metadata={"help": help, "choices": tuple(choices) if choices else None}
    )


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that decides the result of `fathomx train`.

    Every field is a command-line option of the same name. Raises `ValueError` for unknown names
    (with the nearest valid one), numbers out of range, and options that contradict each other.

    ```python
    job = Job(data="mnist", depth=128, epochs=1)
    network = job.network(job.load())
    ```
    """

    data: str = _option("digits", "Data set.", data_sets.names())
    model: str = _option("residual-mlp", "Network.", MODELS)
    depth: int = _option(64, "Number of nodes (weight layers), input and output layer included.")
    width: int = _option(128, "Width of the hidden nodes.")
    activation: str = _option("gelu", "Activation function.", ACTIVATIONS)
    parameterization: str = _option("mupc", "How weights scale with size.", PARAMETERIZATIONS)
    inference: str = _option("gauss-newton", "How activities relax.", SOLVERS)
    learning: str = _option("equilibrium", "How weights learn.", RULES)
    output_precision: float | None = _option(None, "Fixed output precision, instead of --strength.")
    epochs: int = _option(15, "Passes over the training data.")
    batch_size: int = _option(64, "Examples in a step.")
    learning_rate: float = _option(0.01, "Peak learning rate of Adam; it decays to 0 by a cosine.")
    strength: float | None = _option(
        None,
        "How far from backprop: the output precision of every batch is chosen to hold this "
        f"strength. [default: {DEFAULT_STRENGTH}]",
    )
    seed: int = _option(0, "Seed of the weights and of the order of the data.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if choices and value not in choices:
                raise ValueError(unknown(field.name, value, choices))
        for name, least in (("depth", 2), ("width", 1), ("epochs", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        for name in ("learning_rate", "output_precision", "strength"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive, finite number, not {value}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0..{2**32 - 1}, not {self.seed}.")
        if self.learning == "backprop" and (self.strength or self.output_precision):
            raise ValueError(
                "learning 'backprop' has no inference; leave out strength and output_precision."
            )
        if self.strength is not None and self.output_precision is not None:
            raise ValueError(
                "strength and output_precision exclude each other: either the output precision is "
                "fixed, or it follows the strength; give one of them."
            )
        if self.inference == "exact" and self.activation != "linear":
            raise ValueError(
                "inference 'exact' needs a linear network; give activation 'linear', or use "
                "inference 'newton' for the equilibrium of other networks."
            )

        if self.learning == "equilibrium" and self.strength is None and not self.output_precision:
            # Frozen fields are set this way; what is stored should say what was run.
            object.__setattr__(self, "strength", DEFAULT_STRENGTH)

    def load(self) -> Dataset:
        """The data set."""
        return data_sets.load(self.data)

    def network(self, data: Dataset) -> Network:
        """The network at initialization, built for this data set."""
        make = MODELS[self.model]
        return make(
            math.prod(data.input_shape),
            data.classes,
            width=self.width,
            depth=self.depth,
            activation=self.activation,
            parameterization=PARAMETERIZATIONS[self.parameterization](),
            key=jax.random.key(self.seed),
        )

    def rule(self) -> LearningRule:
        """The learning rule with its solver."""
        if self.learning == "backprop":
            return Backprop()
        precision = self.output_precision
        if precision is None:
            assert self.strength is not None
            return Equilibrium(self.solver(), HoldStrength(self.strength))
        return Equilibrium(self.solver(), precision)

    def solver(self) -> Solver:
        """The inference algorithm with its defaults."""
        return SOLVERS[self.inference]()

    def optimizer(self, data: Dataset) -> optax.GradientTransformation:
        """Adam with a cosine schedule over the whole run and a small epsilon."""
        steps = max(1, len(data.train.labels) // self.batch_size) * self.epochs
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, steps), eps=1e-12)

    def config(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Job:
        """The job that a `config.json` describes; keys that are not fields are left out."""
        known = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        given = {name: value for name, value in config.items() if name in known}
        for name, value in given.items():
            if type(value).__name__.replace("NoneType", "None") not in known[name].split(" | "):
                raise ValueError(f"config.json is damaged: {name} is {value!r}, not {known[name]}.")
        return cls(**given)
