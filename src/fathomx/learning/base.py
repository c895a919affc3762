"""What every learning rule has in common."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from fathomx.checks import Optimizer, Truth, example, gate, shown
from fathomx.graph.network import Network
from fathomx.graph.statistics import weights
from fathomx.graph.vector_space import Entries
from fathomx.problem.problem import Problem


@gate
class StepReport(eqx.Module):
    """What one learning step saw, all scalars or one number per node.

    **Fields**

    * `loss`: the output energy at precision 1 at the feedforward pass, mean over the batch and,
      where there is a prediction at each of several positions, over these.
    * `accuracy`: how often the largest output is the target's largest.
    * `unsettled_median`, `unsettled_max`: of the certificate over the batch; NaN without inference,
      and in updates that are not certified (`LearningRule.certifying`).
    * `strength`, `output_precision`: NaN where there is no inference. A held strength is the value
      held, by construction; `fit` reports an independent estimate after every epoch. That of a
      fixed precision is measured in updates that are certified, and NaN in others.
    * `energy`: `(nodes,)` after inference, mean over the batch; where there is none, that of the
      output alone at the feedforward pass.
    """

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]
    unsettled_median: Float[Array, ""]
    unsettled_max: Float[Array, ""]
    strength: Float[Array, ""]
    output_precision: Float[Array, ""]
    energy: Float[Array, " nodes"]


@example("fx.Equilibrium()")
@gate
class LearningRule(eqx.Module):
    """Turns a batch, as a `Problem`, into a weight update.

    A rule with one weight update per batch defines `gradient`; one that updates weights during
    inference overrides `update` and, if its optimizer's state has another shape, `init_optimizer`.
    """

    @abc.abstractmethod
    def gradient(self, problem: Problem, key: PRNGKeyArray) -> tuple[Network, StepReport]:
        """The direction to descend, a pytree like the network's weights.

        Networks with batch normalization come with running statistics; a rule takes those of the
        batch by `problem.with_batch_statistics()`.
        """

    def certifying(self, when: Truth) -> LearningRule:
        """The same rule, whose reports have a certificate only where `when` holds.

        That saves a reverse pass and changes nothing else. `when` may be traced. A rule that has
        none to leave out stays as it is.

        ```python
        rule = fx.Equilibrium().certifying(step % 16 == 0)
        ```
        """
        return self

    def init_optimizer(self, optimizer: Optimizer, network: Network) -> Any:
        """The optimizer's state before the first update."""
        return optimizer.init(weights(network))

    def update(
        self,
        problem: Problem,
        optimizer: optax.GradientTransformation,
        optimizer_state: Any,
        key: PRNGKeyArray,
    ) -> tuple[Network, Any, StepReport]:
        """The network and the optimizer's state after learning from this batch.

        Running statistics of batch normalization move once.
        """
        self.check_state(optimizer, optimizer_state, problem.network)
        gradient, report = self._checked(self.gradient(problem, key), problem.network)
        updates, optimizer_state = optimizer.update(
            gradient, optimizer_state, weights(problem.network)
        )
        network: Network = eqx.apply_updates(problem.network, updates)
        batch = problem.with_batch_statistics().network
        return network.moved_statistics(batch), optimizer_state, report

    def _checked(self, found: Any, network: Network) -> tuple[Network, StepReport]:
        """What `gradient` returned; `TypeError` or `ValueError` if it is not what it must be."""
        name = f"{type(self).__name__}.gradient"
        pair = isinstance(found, tuple) and len(found) == 2
        if not pair or not isinstance(found[1], StepReport):
            raise TypeError(
                f"{name} must return a gradient and a StepReport, not {shown(found)}; see "
                "docs/add-a-rule.md."
            )
        given, wanted = weights(found[0]), weights(network)
        pairs = zip(jax.tree.leaves(given), jax.tree.leaves(wanted), strict=False)
        typed = all(jnp.result_type(one) == jnp.result_type(other) for one, other in pairs)
        if not typed or _form(given) != _form(wanted):
            raise ValueError(
                f"{name} must return a gradient with an array for every weight, of its shape and "
                "type, as fx.weights(problem.network) has them; return such as "
                "fx.weight_gradient(problem, activities, errors)."
            )
        return found

    def check_state(
        self, optimizer: optax.GradientTransformation, state: Any, network: Network
    ) -> None:
        """Raises `ValueError` for a state that `init_optimizer` would not give."""
        wanted = eqx.filter_eval_shape(self.init_optimizer, optimizer, network)
        if _form(state) not in [_form(one) for one in self._accepted(wanted)]:
            raise ValueError(
                f"the optimizer's state, {shown(state)}, is not that of this rule, optimizer and "
                "network; give learner.begin(network), or rule.init_optimizer(optimizer, network)."
            )

    def _accepted(self, state: Any) -> tuple[Any, ...]:
        """The forms that the state of an update may have, one like `init_optimizer`'s first."""
        return (state,)

    def probe(self, problem: Problem, key: PRNGKeyArray) -> dict[str, Array]:
        """Scalars of this rule's own that `fit` reports after every epoch, from a fixed batch."""
        return {}


def _form(state: Any) -> Any:
    """How a state is built, and the shapes of its arrays."""
    return jax.tree.structure(state), [jnp.shape(leaf) for leaf in jax.tree.leaves(state)]


def feedforward_scores(problem: Problem, explained: Entries) -> tuple[Array, Array]:
    """Loss at precision 1 and accuracy of what is predicted, means over examples and positions.

    The accuracy is that of the output, if it is observed whole and predicted from what is given;
    NaN otherwise, as where a latent root explains it or its energy does not compare classes.
    """
    output = problem.network.output.name
    classes = problem.network.output.energy.takes_labels
    loss = problem.mean(problem.loss(explained))
    scalar = not problem.network.output_shape
    latent = any(root.name in problem.free for root in problem.network.roots)
    whole = output in problem.observed and problem.clamps[output].whole
    if latent or scalar or not classes or not whole:
        return loss, jnp.full_like(loss, jnp.nan)
    hits = jnp.argmax(explained[output], axis=-1) == jnp.argmax(problem.target, axis=-1)
    met = hits.astype(loss.dtype).reshape(problem.batch, -1).mean(axis=1)
    return loss / problem.positions, problem.mean(met)
