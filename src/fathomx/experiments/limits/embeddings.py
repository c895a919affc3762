"""What the scale of a transformer's embeddings does to its readout, expected over the weights."""

from __future__ import annotations

import math

import numpy as np

from fathomx.layers.parameterization import ABC, Parameterization, Power, Role


def with_embeddings(deviation: float) -> ABC:
    """muPC's table for transformers, with embeddings of this standard deviation."""
    rate = Power(width=-0.5)
    return ABC(
        {
            Role.EMBEDDING: (1.0, deviation, rate),
            Role.HIDDEN: (Power(fan_in=-0.5), 1.0, rate),
            Role.ATTENTION: (Power(fan_in=-1.0), 1.0, rate),
            Role.BRANCH: (Power(depth=-1.0), 1.0, rate),
            Role.OUTPUT: (Power(fan_in=-1.0), 1.0, rate),
        }
    )


def embedding_scale(parameterization: Parameterization) -> float:
    """The standard deviation of embeddings under a parameterization; 2 vectors are added up."""
    return parameterization.scaling(Role.EMBEDDING, 2, 1, 1).initial


def expected_motion(
    tokens: np.ndarray,
    labels: np.ndarray,
    *,
    vocabulary: int,
    width: int,
    blocks: int,
    deviation: float,
) -> dict[str, float]:
    """How far equilibrium moves what a transformer's readout reads, and the readout's cosine.

    Under muPC the logits `W z / N` are small at first, so that at every position `t` the derivative
    of the loss in them is `g_t = 1 / vocabulary - onehot(label_t)`, and stays so, since the softmax
    has a curvature of about `1 / vocabulary` there. Along the skips it reaches all `L + 1` nodes
    before the readout as `W^T g_t / N`, each of them answers with an error of minus that, and
    together they move what the readout reads by

        dz_t = -c W^T g_t,     c = (L + 1) / N,    which is the strength

    What is read is the sum of a token's and a position's vector of standard deviation `S`, of size
    `S sqrt(2)` a unit, and `W` has entries of size 1. Hence

        moved^2 = sum_t ||dz_t||^2 / sum_t ||z_t||^2 = c^2 (1 - 1 / vocabulary) / (2 S^2)

    The readout's gradient is `sum_t g_t (z_t + dz_t)^T` instead of `sum_t g_t z_t^T`. Over weights
    and embeddings the two sums are orthogonal, and the cosine is `1 / sqrt(1 + rho^2)` with

        rho^2 = c^2 sum_ts (g_t . g_s)^2 / (S^2 sum_ts (g_t . g_s) (same token + same position))

    This leaves out what the branches do.

    **Arguments**: `tokens` and `labels`, `(windows, context)`; sizes; `deviation`, S.

    Returns `expected_moved` and `expected_output_cosine`.
    """
    windows, context = tokens.shape
    positions = np.tile(np.arange(context), windows)
    products = _same(labels.reshape(-1)) - 1 / vocabulary
    shared = _same(tokens.reshape(-1)) + _same(positions)
    moving = (blocks + 1) / width
    turned = moving**2 * np.sum(products**2) / (deviation**2 * np.sum(products * shared))
    return {
        "expected_moved": moving / deviation * math.sqrt((1 - 1 / vocabulary) / 2),
        "expected_output_cosine": 1 / math.sqrt(1 + turned),
    }


def _same(values: np.ndarray) -> np.ndarray:
    """Which pairs are equal, as a matrix of zeros and ones."""
    return (values[:, None] == values[None]).astype(float)
