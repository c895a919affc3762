"""Deep residual networks on all training images, as PC-ALM's publication has them.

Seely and Gould (2026), arXiv 2605.31022. What the comparisons in their setting share.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from fathomx.data import Dataset, Part
from fathomx.experiments.examples import vectors
from fathomx.graph.network import Network
from fathomx.inference import infer
from fathomx.layers.parameterization import MuPC
from fathomx.learning import Equilibrium, LearningRule
from fathomx.models import residual_mlp
from fathomx.problem.problem import Problem
from fathomx.theory.activity_hessian import Extremes


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


@dataclasses.dataclass(frozen=True)
class Spectra:
    """The ends of the Hessian's spectrum in activities and in errors."""

    state: Extremes
    error: Extremes


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
