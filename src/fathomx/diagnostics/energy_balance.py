"""Where the energy sits."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from fathomx.checks import Positive, gate
from fathomx.graph.arrival import NEVER, arrivals
from fathomx.graph.network import Network
from fathomx.problem.problem import Problem


@gate
class EnergyBalance(eqx.Module):
    """How evenly the energy is spread from the output to the input.

    **Fields**, of the shape of `energy` without its last axis

    * `imbalance`: mean energy of the half of the nodes nearer to the output over that of the half
      nearer to the input; 1 is balanced, infinite means that no energy is in the half nearer to
      the input. NaN where there is no energy at all, or a single node.
    * `decay`: factor by which the energy changes with every step of arrival toward the input; 1 is
      balanced, 0.1 is ten times less from node to node of a chain. NaN where fewer than two nodes
      of different arrival have energy.
    * `reached`: number of nodes whose energy exceeds what rounding can cause.
    """

    imbalance: Float[Array, "*steps"]
    decay: Float[Array, "*steps"]
    reached: Int[Array, "*steps"]


@gate
def energy_balance(
    network: Network | Problem,
    energy: Num[Array, "*steps nodes"],
    activity: Positive | Float[Array, ""] = 1.0,
) -> EnergyBalance:
    """Where the energy sits: the imbalance that keeps the early layers of deep networks from
    learning.

    A node counts as reached if the root mean square of its errors exceeds two roundings of an
    activity of size `activity`:

        F_l > 2 n_l (eps * activity)^2,    n_l units, eps the machine epsilon of the energy's type

    Smaller energies count as zero, so that what feedforward rounding leaves is not taken for a
    signal. (A hidden precision of 1 is assumed; solvers in error coordinates, such as
    `GaussNewton`, resolve smaller energies than this.)

    Nodes are ordered by `fx.arrivals`, ties by the order of the graph, and cut in the middle; the
    middle one of an odd number belongs to neither half. The output's own energy, which is the loss
    that is left, belongs to its half. `decay` is `10^s` with the slope `s` of the least-squares
    line through `log10` of the energies of nodes reached, against arrival.

    **Arguments**

    * `network`: whose nodes the energies belong to, with inputs and output clamped; or a problem.
    * `energy`: `(nodes,)`, or `(steps, nodes)` as from `trace`: the mean over a batch.
    * `activity`: root mean square of the activities, of order 1 in networks that are initialized
      well.

    Raises `ValueError` if the number of energies is not that of the nodes. May be compiled.

    ```python
    fx.energy_balance(network, relaxed.energy).decay
    ```

    Source: the imbalance is that of Qi et al. (2025), arXiv 2506.23800; the numbers for it are
    ours.
    """
    if isinstance(network, Problem):
        arrival, network = np.asarray(network.arrivals), network.network
    else:
        arrival = np.asarray(arrivals(network))
    count = len(network.labels)
    energy = energy.astype(jnp.result_type(energy, float))
    if not energy.ndim:
        raise ValueError(
            f"energy must hold a number for each of {count} nodes, not one number; give "
            "relaxed.energy of the network's nodes, or a trace."
        )
    if energy.shape[-1] != count:
        raise ValueError(
            f"there are {energy.shape[-1]} energies, but the network has {count} nodes; give one "
            "energy per node, in the order of network.labels."
        )
    from_input = np.lexsort((np.arange(count), -arrival))
    from_input = from_input[arrival[from_input] != NEVER]
    rounding = jnp.finfo(energy.dtype).eps * activity
    units = [n for part in network.predictors() for n in part.units(network.shapes[part.name])]
    floor = 2 * np.asarray(units) * rounding**2
    # Written so that what is not a number stays one.
    energy = jnp.where(energy <= floor.astype(energy.dtype), 0, energy)
    half = len(from_input) // 2
    low = energy[..., from_input[:half]].sum(axis=-1)
    high = energy[..., from_input[len(from_input) - half :]].sum(axis=-1)
    return EnergyBalance(
        imbalance=high / low,
        decay=10 ** _slope(jnp.asarray(arrival, energy.dtype), energy),
        reached=jnp.sum(energy > 0, axis=-1),
    )


def _slope(x: Array, energy: Array) -> Array:
    """Slope of the line through `log10(energy)` over `x`; NaN if there is no line."""
    known = energy > 0
    y = jnp.log10(jnp.where(known, energy, 1))
    count = jnp.maximum(known.sum(axis=-1, keepdims=True), 1)
    off = jnp.where(known, x - jnp.sum(x * known, axis=-1, keepdims=True) / count, 0)
    return jnp.sum(off * y, axis=-1) / jnp.sum(off**2, axis=-1)
