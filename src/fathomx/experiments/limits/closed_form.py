"""The equilibrated energy and the rescaling matrix of a linear network, in closed form."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fathomx.experiments.examples import drawn, loaded
from fathomx.experiments.limits.linear import Linear
from fathomx.experiments.limits.scales import Scale
from fathomx.models import residual_mlp
from fathomx.problem.problem import Problem
from fathomx.theory import equilibrated_energy

CLOSED_FORM = "closed form"


def closed_form(network: Linear, seed: int, scale: Scale) -> dict[str, Any]:
    """`F* / loss`, and the eigenvalues of `S - I`: their mean, that expected, the largest."""
    # Under the standard parameterization the condition of S grows like 2^L, beyond float32.
    with jax.enable_x64(not network.stable):
        images = loaded("cifar10").flat()
        built = residual_mlp(
            images.input_shape[0],
            images.classes,
            width=network.width,
            depth=network.layers,
            activation="linear",
            parameterization=network.parameterization,
            key=jax.random.key(seed),
        )
        x, y = drawn(images, scale.images, seed)
        found = equilibrated_energy(built, x, y, output_precision=1.0)
        assert found.rescaling is not None
        loss = Problem(built, x, y).loss(found.explained).mean()
        matrix = np.asarray(found.rescaling, np.float64)
        eigenvalues = np.linalg.eigvalsh(matrix - np.eye(len(matrix)))
        return {
            "ratio": float(found.energy / loss),
            "mean_eigenvalue": eigenvalues.mean(),
            "expected_mean": network.expected_mean,
            "largest_eigenvalue": eigenvalues.max(),
        }
