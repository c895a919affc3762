"""Known critical points of the loss of deep networks: the origin, rank zero and rank r."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import NotNegative, gate
from fathomx.checks.names import unknown
from fathomx.graph.entries import Entry
from fathomx.graph.network import Network
from fathomx.graph.predictor import Predictor
from fathomx.graph.smoothness import is_linear
from fathomx.graph.statistics import split
from fathomx.layers.scaled import Linear
from fathomx.problem.energies import predict
from fathomx.problem.problem import Problem


@gate
def origin(network: Network) -> Network:
    """The network with all weights zero: a critical point of every chain without biases.

    ```python
    fx.theory.spectrum(fx.theory.Loss(x, y), fx.theory.origin(network)).verdict
    ```
    """
    learned, rest = split(network)
    zero: Network = eqx.combine(jax.tree.map(jnp.zeros_like, learned), rest)
    return zero


@gate
def rank_zero(network: Network, label: str) -> Network:
    """The network with all weights zero but those of one node, a name of `network.labels`.

    A critical point of the loss of a chain without biases if at least two other nodes have weights,
    and of the equilibrated energy if one of them is the output.

    Raises `ValueError` for an unknown name.

    ```python
    fx.theory.rank_zero(network, "hidden[0]")
    ```

    Source: Achour, Malgouyres and Gerchinovitz (2024); Innocenti et al. (2024), arXiv 2408.11979.
    """
    if label not in network.labels:
        raise ValueError(unknown("node", label, network.labels))
    changed = {}
    for part in network.predictors():
        kept = jnp.asarray([own == label for own in part.labels])
        learned, rest = split(part)

        def masked(array: Array, part: Predictor = part, kept: Array = kept) -> Array:
            return array * part.spread(kept, array.ndim).astype(array.dtype)

        moved = jax.tree.map(masked, learned) if part.depth else learned
        changed[part.name] = eqx.combine(moved, rest)
    return network.with_predictors(changed)


@gate
def rank_r(network: Network, x: Any, y: Any, rank: int) -> Network:
    """A critical point of the loss of a linear chain at which it predicts with rank `rank`.

        W_L ... W_1 = U_r U_r^T Sigma_yx Sigma_xx^+,
        W_1 = [U_r^T Sigma_yx Sigma_xx^+; 0],  W_l = diag(I_r, 0),  W_L = [U_r, 0]

    with `U_r` the first eigenvectors of `Sigma_yx Sigma_xx^+ Sigma_xy`: the best predictions of
    that rank, a saddle wherever more rank would fit better. Multipliers are divided out. It is in
    general no critical point of the equilibrated energy, which depends on the size of each weight.

    Raises `ValueError` for networks that are no linear chain of dense layers, and for a rank that
    does not lie in 0 to the narrowest layer.

    ```python
    fx.theory.rank_r(network, x, y, rank=2)
    ```

    Source: Baldi and Hornik (1989); Achour, Malgouyres and Gerchinovitz (2024).
    """
    problem = Problem(network, x, y)
    maps = _chain(network)
    sizes = [maps[0].shape[1], *(m.shape[0] for m in maps)]
    if not 0 <= rank <= min(sizes):
        raise ValueError(f"rank must lie in 0..{min(sizes)}, the narrowest layer, not {rank}.")
    inputs = np.asarray(problem.input).reshape(problem.batch, -1)
    targets = np.asarray(problem.target).reshape(problem.batch, -1)
    best = np.linalg.lstsq(inputs, targets, rcond=None)[0].T
    # The left singular vectors of the best prediction are the eigenvectors asked for.
    left = np.linalg.svd(best @ inputs.T, full_matrices=False)[0][:, :rank]
    factors = [np.zeros(m.shape) for m in maps]
    factors[0][:rank] = left.T @ best
    for factor in factors[1:-1]:
        factor[:rank, :rank] = np.eye(rank)
    factors[-1][:, :rank] = left
    saddle = _with_chain(network, factors)
    wanted = inputs @ (left @ left.T @ best).T
    found = np.asarray(predict(saddle, problem.input)).reshape(wanted.shape)
    if not np.allclose(found, wanted, atol=1e-3 * np.abs(wanted).max(initial=1e-6)):
        raise ValueError(_NO_CHAIN)
    return saddle


@gate
def nearby(network: Network, distance: NotNegative, key: PRNGKeyArray) -> Network:
    """The network with normal noise of standard deviation `distance` added to every weight.

    Training starts there instead of on a saddle itself; and where a network has kinks at the saddle
    (ReLU at the origin), second derivatives exist there.

    ```python
    start = fx.theory.nearby(fx.theory.origin(network), 5e-3, key)
    ```
    """
    learned, rest = split(network)
    leaves, structure = jax.tree.flatten(learned)
    keys = jax.random.split(key, len(leaves))
    moved = [
        leaf + distance * jax.random.normal(k, leaf.shape, leaf.dtype)
        for leaf, k in zip(leaves, keys, strict=True)
    ]
    beside: Network = eqx.combine(jax.tree.unflatten(structure, moved), rest)
    return beside


_NO_CHAIN = (
    "rank-r saddles are known for linear chains of dense layers without skips, and this network is "
    "none; build it with fx.models.mlp(..., activation='linear')."
)


def _dense(network: Network) -> list[Entry]:
    return [entry for entry in network.entries if not entry.is_root]


def _layers(entry: Any) -> list[Linear]:
    parts = jax.tree.leaves(entry, is_leaf=lambda part: isinstance(part, Linear))
    return [part for part in parts if isinstance(part, Linear)]


def _chain(network: Network) -> list[np.ndarray]:
    """The weights of a chain of dense layers, one matrix for each node."""
    if not is_linear(network) or any(len(_layers(entry)) != 1 for entry in _dense(network)):
        raise ValueError(_NO_CHAIN)
    maps: list[np.ndarray] = []
    for entry in _dense(network):
        weight = np.asarray(_layers(entry)[0].weight)
        maps += [weight] if weight.ndim == 2 else list(weight)
    return maps


def _with_chain(network: Network, factors: list[np.ndarray]) -> Network:
    remaining = list(factors)
    changed = {}
    for entry in _dense(network):
        layer = _layers(entry)[0]
        own = [remaining.pop(0) for _ in range(entry.depth)]
        stacked = np.stack(own) if layer.weight.ndim == 3 else own[0]
        multiplier = np.asarray(layer.multiplier)
        multiplier = multiplier.reshape(*multiplier.shape, *[1] * (stacked.ndim - multiplier.ndim))
        weight = jnp.asarray(stacked / multiplier, layer.weight.dtype)
        changed[entry.name] = eqx.tree_at(lambda e: _layers(e)[0].weight, entry, weight)
    return network.with_predictors(changed)
