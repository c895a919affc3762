"""Where an update of the weights takes the prediction: towards the target, and how fast."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fathomx.checks import example, gate
from fathomx.diagnostics.alignment import check_alike, unit_size
from fathomx.graph.network import Network
from fathomx.graph.statistics import split, weights
from fathomx.graph.vector_space import Entries
from fathomx.problem.problem import Problem


@example("fx.target_alignment(problem, gradient)")
@gate
class TargetAlignment(eqx.Module):
    """What an update of the weights does to predictions.

    **Fields**

    * `cosine`: `(batch,)`, between the change of the feedforward prediction of what is observed and
      its error; 1 is straight at the target. NaN where the prediction does not change or has no
      error.
    * `decrease`: how fast the mean loss falls per unit of length of the update.

    **Attributes**: `mean`, the mean cosine of the examples that have one.
    """

    cosine: Float[Array, " batch"]
    decrease: Float[Array, ""]

    @property
    def mean(self) -> Float[Array, ""]:
        return jnp.nanmean(self.cosine)

    @classmethod
    def unknown(cls, problem: Problem) -> TargetAlignment:
        """Where there is no update of a feedforward pass to look at: NaN everywhere."""
        nothing = jnp.full(problem.batch, jnp.nan, problem.network.dtype)
        return cls(nothing, nothing[0])


@gate
def target_alignment(problem: Problem, gradient: Network) -> TargetAlignment:
    """Whether a step against a gradient moves predictions towards their targets.

        d mu = (d mu / d theta) (-gradient),    cos(d mu, y - mu),    decrease = -dL / ||gradient||

    to first order in a small step, by one forward-mode product. Backprop's gradient has the largest
    `decrease` there is, but not the largest cosine: the update that is steepest in the weights is
    not the one that moves predictions straight. The error is the negative derivative of the loss in
    the prediction, `y - mu` for a `Gaussian` output.

    **Arguments**: `problem`, whose predictions at the feedforward pass are looked at; `gradient`,
    as a rule returns it, or any network of the same weights.

    Raises `ValueError` for a gradient of another network and where nothing is observed.

    ```python
    gradient, _ = fx.Equilibrium().gradient(problem, jax.random.key(0))
    fx.target_alignment(problem, gradient).mean
    ```

    Source: arXiv 2605.11911.
    """
    if not problem.observed:
        raise ValueError(
            "nothing is observed, so that there is no target to move to; clamp an entry that the "
            "network predicts."
        )
    check_alike(problem.network, gradient)
    learned, rest = split(problem.network)
    # Of unit size, lest the squares of what a tiny update does vanish.
    downhill = jax.tree.map(lambda leaf: -leaf, unit_size(weights(gradient))[0])

    def explained(learned: Network) -> Entries:
        there = problem.with_network(eqx.combine(learned, rest))
        return there.explain(there.zeros())[0]

    found, changes = jax.jvp(explained, (learned,), (downhill,))
    # Discrepancies of feedbacks are no predictions of what is observed.
    moved, errors, slopes = (
        {name: each[name] for name in problem.observed}
        for each in (
            changes,
            problem.explained_errors(found),
            problem.with_output_precision(1.0).explained_gradient(found),
        )
    )
    space = problem.network.space
    along, far, missed = (
        space.dot(a, b) for a, b in ((moved, errors), (moved, moved), (errors, errors))
    )
    falls = -space.dot(slopes, moved).mean()
    square = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(downhill))
    return TargetAlignment(along / jnp.sqrt(far * missed), falls / jnp.sqrt(square))
