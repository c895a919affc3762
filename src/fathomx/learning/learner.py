"""Weight updates, one or many in one program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from fathomx import checks
from fathomx.checks import OfTwo, Optimizer, Positive, gate, shown
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.inference import Solver, infer
from fathomx.inference.follow import Frames
from fathomx.learning.base import LearningRule, StepReport
from fathomx.learning.predictive_coding import PredictiveCoding
from fathomx.problem.problem import Problem

# Keeps the keys of random nodes apart from those of the rule.
_NOISE = 1_000_003
# The name of the array that says how much each example counts.
WEIGHTS = "weights"

Pose = OfTwo


@gate
def pose(network: Network, batch: Any) -> Problem:
    """How a batch becomes a problem unless told otherwise.

    Arrays by name clamp the entries of these names; a pair `(x, y)` input and output. `weights`
    among the names, unless an entry is called so, or a third array say how much each example counts
    (`Problem.with_weights`).

    ```python
    fx.Learner(fx.Equilibrium(), optimizer, pose=lambda network, batch: fx.Problem(
        network, {"image": batch["image"] / 255}))
    ```
    """
    if isinstance(batch, Mapping):
        if not has_weights(network, batch):
            return Problem(network, batch)
        named = {name: array for name, array in batch.items() if name != WEIGHTS}
        return Problem(network, named).with_weights(batch[WEIGHTS])
    if isinstance(batch, tuple | list) and len(batch) == 3:
        return Problem(network, *batch[:2]).with_weights(batch[2])
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise TypeError(
            "a batch must be a pair (x, y) or arrays by name such as {'image': x}, not "
            f"{shown(batch)}; give fx.Learner(pose=...) for others."
        )
    return Problem(network, *batch)


def has_weights(network: Network, batch: Mapping[str, Any]) -> bool:
    """Whether arrays by name say how much each example counts."""
    return WEIGHTS in batch and all(entry.name != WEIGHTS for entry in network.entries)


def usual_optimizer(given: optax.GradientTransformation | float) -> Any:
    """An optimizer as it is, and a number as the rate of `optax.adam(rate, eps=1e-12)`.

    Gradients of early nodes can be tiny; Adam's usual epsilon of 1e-8 silently stops them.
    """
    return optax.adam(given, eps=1e-12) if isinstance(given, int | float) else given


def cosine_adam(rate: float, updates: int, decay: float = 0.0) -> optax.GradientTransformation:
    """Adam whose rate falls to 0 by a cosine over so many updates, with a small epsilon.

    `decay` of weights is relative to the rate and leaves biases alone.
    """
    schedule = optax.cosine_decay_schedule(rate, max(1, updates))
    if not decay:
        return optax.adam(schedule, eps=1e-12)
    return optax.adamw(schedule, eps=1e-12, weight_decay=decay, mask=_matrices)


def _matrices(weights: Any) -> Any:
    return jax.tree.map(lambda weight: weight.ndim >= 2, weights)


@gate
class Learner(eqx.Module):
    """A rule, an optimizer, and how a batch becomes a problem: all that an update needs.

    **Fields**

    * `rule`: any `LearningRule`.
    * `optimizer`: any optax optimizer, or a number, the rate of `optax.adam(rate, eps=1e-12)`.
    * `pose`: `pose(network, batch) -> Problem`; arrays by name, or a pair of input and target,
      unless given.

    ```python
    learner = fx.Learner(fx.Equilibrium(), optax.adam(1e-2, eps=1e-12))
    state = learner.begin(network)
    batches = x.reshape(-1, 64, 784), y.reshape(-1, 64)
    keys = jax.random.split(jax.random.key(0), len(batches[0]))
    network, state, reports = eqx.filter_jit(learner.updates)(network, state, batches, keys)
    ```
    """

    rule: LearningRule
    optimizer: Optimizer | Positive = eqx.field(static=True, converter=usual_optimizer)
    pose: Pose = eqx.field(static=True, default=pose)

    def begin(self, network: Network) -> Any:
        """The optimizer's state before the first update."""
        return self.rule.init_optimizer(self.optimizer, network)

    def update(
        self, network: Network, state: Any, batch: Any, key: PRNGKeyArray
    ) -> tuple[Network, Any, StepReport]:
        """The network and the optimizer's state after learning from a batch."""
        problem = self.pose(network, batch)
        if not isinstance(problem, Problem):
            raise TypeError(f"pose must return an fx.Problem, not {shown(problem)}.")
        problem = problem.with_noise(jax.random.fold_in(key, _NOISE))
        return self.rule.update(problem, self.optimizer, state, key)

    def updates(
        self,
        network: Network,
        state: Any,
        batches: Any,
        keys: Array,
        observe: OfTwo = lambda network, report: report,
    ) -> tuple[Network, Any, Any]:
        """One update after another, in one program: a `jax.lax.scan`.

        **Arguments**: `network`; `state`, from `begin`; `batches`, as one batch with an axis of
        updates in front; `keys`, one for each update; `observe(network, report)`, what is kept of
        an update, the report unless given.

        Returns the network, the optimizer's state and what was observed, stacked.
        """
        batches = jax.tree.map(lambda array: checks.array("batches", array), batches)
        _check_updates(batches, checks.keys("keys", keys))
        arrays, rest = eqx.partition((network, state), eqx.is_array)

        def one(arrays: Any, given: tuple[Any, PRNGKeyArray]) -> tuple[Any, Any]:
            now, state = eqx.combine(arrays, rest)
            after, state, report = self.update(now, state, *given)
            return eqx.filter((after, state), eqx.is_array), observe(after, report)

        arrays, seen = jax.lax.scan(one, arrays, (batches, keys))
        network, state = eqx.combine(arrays, rest)
        return network, state, seen

    def follow(
        self,
        network: Network,
        state: Any,
        clamps: Mapping[str, Any],
        carry: Mapping[str, str],
        key: PRNGKeyArray,
        *,
        initial: Mapping[str, Any] | None = None,
        solver: Solver | None = None,
    ) -> tuple[Network, Any, tuple[StepReport, Entries]]:
        """One update for every frame of a sequence, while it is followed: learning online.

            z_t = argmin_z F(z; observed_t, before = z_{t-1}),    then weights learn from frame t

        The next frame is expected with the weights that this one left behind.

        **Arguments**: `network`; `state`, from `begin`; `clamps`, `carry` and `initial`, as for
        `fx.follow`; `key`. The rule must infer, as `fx.Equilibrium` does; the learner's pose is not
        used. `solver` infers what is carried over, that of the rule unless given: with a rule that
        learns from samples (`fx.Langevin`), one that finds their mode carries no noise over.

        Returns the network, the optimizer's state, and the reports and inferred activities of all
        frames, stacked. The losses in the reports are those of what was predicted before the frame
        was seen.

        ```python
        network, state, (reports, activities) = learner.follow(
            network, state, {"output": frames}, {"before": "state"}, key
        )
        ```

        Source: Millidge et al. (2024), doi 10.1371/journal.pcbi.1011183.
        """
        rule = self.rule
        if not isinstance(rule, PredictiveCoding):
            raise TypeError(
                f"{type(rule).__name__} infers no state that the next frame could read; use a rule "
                "such as fx.Equilibrium()."
            )
        carrying = rule.solver if solver is None else solver
        sequence = Frames(network, clamps, carry, initial, None)
        keys = jax.random.split(key, sequence.count)
        arrays, rest = eqx.partition((network, state), eqx.is_array)

        def one(now: Any, given: tuple[Any, PRNGKeyArray]) -> tuple[Any, Any]:
            arrays, before = now
            network, state = eqx.combine(arrays, rest)
            frame, key = given
            problem = sequence.problem(network, frame, before)
            problem = problem.with_noise(jax.random.fold_in(key, _NOISE))
            prepared, start, _ = rule.prepare(problem, key)
            relaxed = infer(prepared, carrying, start=start, key=key)
            after, state, report = rule.update(problem, self.optimizer, state, key)
            arrays = eqx.filter((after, state), eqx.is_array)
            return (arrays, sequence.carried(relaxed)), (report, relaxed.activities)

        (arrays, _), seen = jax.lax.scan(one, (arrays, sequence.start), (sequence.clamps, keys))
        network, state = eqx.combine(arrays, rest)
        return network, state, seen


def _check_updates(batches: Any, keys: Array) -> None:
    """Raises `ValueError` unless there is one batch for every key."""
    counts = {jnp.shape(array)[:1] for array in jax.tree.leaves(batches)}
    if not keys.ndim or counts != {keys.shape[:1]}:
        raise ValueError(
            f"there are {keys.shape[0] if keys.ndim else 'no'} keys for batches with first axes "
            f"{sorted(counts)}; give as many batches, along the first axis, as keys."
        )
