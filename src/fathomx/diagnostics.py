"""Diagnostics: where the energy sits, and what a learning rule's update is really doing."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fathomx.arrival import NEVER, arrivals
from fathomx.inference import GaussNewton, Solver, infer, trace
from fathomx.learning import Backprop, LearningRule
from fathomx.learning.predictive_coding import per_precision
from fathomx.network import Network, Stack, weights
from fathomx.problem import Problem, Relaxation, weight_gradient
from fathomx.vector_space import Entries

# Leaves the median example a few percent of the gradient at an output precision of 1, and 1e-4 or
# less at a strength of 0.1.
_REFERENCE = GaussNewton(iterations=8, cg_iterations=10)


class Alignment(eqx.Module):
    """How far an update is from backprop's on the same batch.

    **Fields**

    * `cosine`: `(nodes,)`, of each node's weights; 1 is backprop's direction. NaN for a node
      without weights or with a zero update.
    * `ratio`: `(nodes,)`, length of the update over that of backprop's.
    * `overall`: cosine over all weights together.
    """

    cosine: Float[Array, " nodes"]
    ratio: Float[Array, " nodes"]
    overall: Float[Array, ""]


def alignment(problem: Problem, rule: LearningRule, key: PRNGKeyArray) -> Alignment:
    """Compares a rule's weight update with backprop's on one batch.

    ```python
    fx.alignment(problem, fx.Equilibrium(), jax.random.key(0)).overall
    ```
    """
    return compare_to_backprop(problem, rule.gradient(problem, key)[0], key)


def compare_to_backprop(problem: Problem, gradient: Network, key: PRNGKeyArray) -> Alignment:
    """The alignment of a gradient that was computed already on this batch."""
    ours, our_size = _unit_size(gradient)
    theirs, their_size = _unit_size(Backprop().gradient(problem, key)[0])
    between = node_dot(ours, theirs)
    own, other = node_dot(ours, ours), node_dot(theirs, theirs)
    return Alignment(
        cosine=between / jnp.sqrt(own) / jnp.sqrt(other),
        ratio=jnp.sqrt(own / other) * (our_size / their_size),
        overall=between.sum() / jnp.sqrt(own.sum()) / jnp.sqrt(other.sum()),
    )


def node_dot(a: Network, b: Network) -> Float[Array, " nodes"]:
    """Inner product of two gradients, node by node."""
    rows = []
    for one, other in zip(a.nodes, b.nodes, strict=True):
        pairs = zip(jax.tree.leaves(weights(one)), jax.tree.leaves(weights(other)), strict=True)
        lead = 1 if isinstance(one, Stack) else 0
        parts = [jnp.sum(u * v, axis=tuple(range(lead, u.ndim))) for u, v in pairs]
        total = sum(parts[1:], start=parts[0]) if parts else jnp.zeros(())
        rows.append(jnp.atleast_1d(total))
    return jnp.concatenate(rows)


def weight_change(before: Network, after: Network) -> Float[Array, " nodes"]:
    """How far the weights of every node have moved, relative to what they were.

        ||W_after - W_before|| / ||W_before||

    over all weights of a node. Deep networks can score well while most of their nodes stand still:
    a node far below the median does not learn. NaN for a node without weights, infinite for one
    whose weights were all zero.

    ```python
    moved = fx.weight_change(network, result.network)
    print(moved.min() / jnp.median(moved))
    ```
    """
    change = jax.tree.map(jnp.subtract, weights(after), weights(before))
    return jnp.sqrt(node_dot(change, change) / node_dot(before, before))


def _unit_size(gradient: Network) -> tuple[Network, Array]:
    """The gradient with its largest entry scaled to 1, lest the squares of small ones vanish."""
    leaves = jax.tree.leaves(gradient)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]))
    size = jnp.where(largest > 0, largest, 1)
    scaled: Network = jax.tree.map(lambda leaf: leaf / size, gradient)
    return scaled, size


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


def energy_balance(
    network: Network,
    energy: Float[Array, "*steps nodes"],
    activity: float | Float[Array, ""] = 1.0,
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

    * `network`: whose nodes the energies belong to.
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
    count = network.depth
    if energy.shape[-1] != count:
        raise ValueError(
            f"there are {energy.shape[-1]} energies, but the network has {count} nodes; give one "
            "energy per node, in the order of network.labels."
        )
    arrival = np.asarray(arrivals(network))
    from_input = np.lexsort((np.arange(count), -arrival))
    from_input = from_input[arrival[from_input] != NEVER]
    rounding = jnp.finfo(energy.dtype).eps * activity
    floor = 2 * np.asarray(_units(network)) * rounding**2
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


class Diagnosis(eqx.Module):
    """What `diagnose` found on one batch.

    **Fields**

    * `energy`: `(steps + 1, nodes)`, mean over the batch, before the first and after every step.
    * `relaxed`: the `Relaxation` that the solver reached, and `equilibrium`, that of the reference.
    * `error`: `(nodes,)`, root mean square of the errors of `relaxed`, over batch and units.
    * `activity`: root mean square of the hidden activities, one number.
    * `alignment`: the weight update of `Equilibrium` at `relaxed` beside backprop's.
    * `balance`: of the energies of `relaxed`, and `equilibrium_balance`, of the reference.
    """

    energy: Float[Array, "steps nodes"]
    relaxed: Relaxation
    equilibrium: Relaxation
    error: Float[Array, " nodes"]
    activity: Float[Array, ""]
    alignment: Alignment
    balance: EnergyBalance
    equilibrium_balance: EnergyBalance


def diagnose(problem: Problem, solver: Solver, reference: Solver = _REFERENCE) -> Diagnosis:
    """Follows the energy through inference, and compares where it ends with near equilibrium.

    Batch normalization takes the statistics of this batch. `reference` relaxes the same problem as
    far as it can, by default with eight iterations of `GaussNewton`; `equilibrium.unsettled` says
    how far it came.

    ```python
    found = fx.diagnose(problem, fx.StateDescent())
    found.balance.imbalance, found.equilibrium_balance.imbalance
    ```
    """
    problem = eqx.filter_jit(Problem.with_batch_statistics)(problem)
    # Each compiled by itself: in one program, rounding would differ from `trace` called directly.
    relaxed, energies = trace(problem, solver)
    equilibrium = infer(problem, reference)
    found: Diagnosis = _summary(problem, relaxed, energies, equilibrium)
    return found


@eqx.filter_jit
def _summary(
    problem: Problem, relaxed: Relaxation, energies: Array, equilibrium: Relaxation
) -> Diagnosis:
    network = problem.network
    hidden = [relaxed.activities[name] for name in network.hidden]
    squares = jnp.stack([jnp.sum(activity**2) for activity in hidden]).sum()
    activity = jnp.sqrt(squares / sum(activity.size for activity in hidden))
    gradient = per_precision(problem, weight_gradient(problem, relaxed.activities, relaxed.errors))
    return Diagnosis(
        energy=energies.mean(axis=-1),
        relaxed=relaxed,
        equilibrium=equilibrium,
        error=_root_mean_squares(network, relaxed.errors),
        activity=activity,
        alignment=compare_to_backprop(problem, gradient, jax.random.key(0)),
        balance=energy_balance(network, relaxed.energy, activity),
        equilibrium_balance=energy_balance(network, equilibrium.energy, activity),
    )


def _slope(x: Array, energy: Array) -> Array:
    """Slope of the line through `log10(energy)` over `x`; NaN if there is no line."""
    known = energy > 0
    y = jnp.log10(jnp.where(known, energy, 1))
    count = jnp.maximum(known.sum(axis=-1, keepdims=True), 1)
    off = jnp.where(known, x - jnp.sum(x * known, axis=-1, keepdims=True) / count, 0)
    return jnp.sum(off * y, axis=-1) / jnp.sum(off**2, axis=-1)


def _units(network: Network) -> list[int]:
    """Number of units of every node."""
    sizes: list[int] = []
    for entry in network.nodes:
        shape = network.shapes[entry.name]
        inner = shape[1:] if isinstance(entry, Stack) else shape
        sizes += [math.prod(inner)] * entry.depth
    return sizes


def _root_mean_squares(network: Network, entries: Entries) -> Float[Array, " nodes"]:
    rows = []
    for entry in network.nodes:
        squares = entries[entry.name] ** 2
        lead = 1 if isinstance(entry, Stack) else 0
        rows.append(jnp.atleast_1d(squares.mean(axis=tuple(range(lead, squares.ndim)))))
    return jnp.sqrt(jnp.concatenate(rows))
