"""Deep residual networks on all training images, as PC-ALM's publication has them.

Seely and Gould (2026), arXiv 2605.31022. What the comparisons in their setting share.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from fathomx.data import Dataset, Part
from fathomx.experiments.examples import vectors
from fathomx.graph.network import Network
from fathomx.inference import infer
from fathomx.layers.parameterization import MuPC
from fathomx.learning import Equilibrium, LearningRule
from fathomx.models import residual_mlp
from fathomx.problem.problem import Problem
from fathomx.theory.activity_hessian import ErrorHessian, Extremes, StateHessian


@dataclasses.dataclass(frozen=True)
class Residual:
    """A residual MLP under muPC, without biases."""

    activation: str
    width: int
    depth: int

    @property
    def name(self) -> str:
        """As in tables."""
        return f"{self.activation}, width {self.width}, depth {self.depth}"

    def network(self, data: Dataset, seed: int) -> Network:
        """The network, its weights drawn from the seed."""
        return residual_mlp(
            data.train.inputs.shape[1],
            data.classes,
            width=self.width,
            depth=self.depth,
            activation=self.activation,
            parameterization=MuPC(),
            key=jax.random.key(seed),
        )

    def adam(self, rate: float) -> optax.GradientTransformation:
        """Plain Adam at a rate times the root of width over depth."""
        return optax.adam(rate * math.sqrt(self.width / self.depth))


@dataclasses.dataclass(frozen=True)
class Spectra:
    """The ends of the Hessian's spectrum in activities and in errors."""

    state: Extremes
    error: Extremes

    @classmethod
    def of(cls, posed: Problem, products: int | None = None) -> Spectra:
        """Those of a problem of one example, from so many products if a number is given."""
        # Their constructor is that of the class above, which mypy does not see.
        return cls(
            StateHessian(posed).extremes(products=products),  # type: ignore[call-arg]
            ErrorHessian(posed).extremes(products=products),  # type: ignore[call-arg]
        )


def usual_spectra(setting: Residual, data: Dataset, products: int | None = None) -> Spectra:
    """Those at the start, every end the median over three seeds and three examples each."""
    found = [
        Spectra.of(problem(network, data, slice(example, example + 1)), products)
        for network in (setting.network(data, seed) for seed in range(3))
        for example in range(3)
    ]
    return Spectra(_median([s.state for s in found]), _median([s.error for s in found]))


def _median(found: Sequence[Extremes]) -> Extremes:
    return Extremes(
        statistics.median(each.smallest for each in found),
        statistics.median(each.largest for each in found),
    )


@functools.lru_cache(maxsize=1)
def whole(name: str, examples: int) -> Dataset:
    """All training images, standardized, as published; nothing is selected by any of them.

    What is called validation is part of what is trained on.
    """
    data = vectors(name)
    joined = [
        np.concatenate([getattr(part, field) for part in (data.train, data.validation)])
        for field in ("inputs", "labels")
    ]
    count = examples or len(joined[1])
    return dataclasses.replace(data, train=Part(*(array[:count] for array in joined)))


def problem(network: Network, data: Dataset, rows: slice) -> Problem:
    """Some training images and their labels, at an output precision of 1."""
    target = jax.nn.one_hot(data.train.labels[rows], data.classes)
    return Problem(network, data.train.inputs[rows], target, output_precision=1.0)


def evaluations(problem: Problem, rule: LearningRule, key: PRNGKeyArray) -> float:
    """Gradients and products with the Hessian that inference takes, in the median; backprop's 1."""
    if not isinstance(rule, Equilibrium):
        return 1.0
    prepared, start, _ = rule.prepare(problem, key)
    return float(jnp.median(infer(prepared, rule.solver, start=start).evaluations))
