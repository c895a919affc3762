"""Several training steps in one dispatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import shown
from fathomx.graph.mesh import Mesh
from fathomx.learning import Learner, StepReport
from fathomx.training.averaging import averaged
from fathomx.training.choosing import certified
from fathomx.training.likeness import with_rates
from fathomx.training.observer import TrainingState
from fathomx.training.programs import Program

MOST_STEPS = 128

Augmentation = Callable[[Array, PRNGKeyArray], Array]


class Advance(eqx.Module):
    """Some training steps in one dispatch; how many is traced, so that it compiles once.

    So are the learning rates, `rates`, which take the place of those in the learner's optimizer, so
    that these may be any (`without_rates`). `average` is the decay of averaged weights; `certify`,
    every how many-th step of an epoch is certified.
    """

    learner: Learner
    steps_per_epoch: int = eqx.field(static=True)
    augmentation: Augmentation | None = eqx.field(static=True)
    mesh: Mesh = eqx.field(static=True)
    average: float | None = eqx.field(static=True, default=None)
    certify: int = eqx.field(static=True, default=1)

    def __call__(
        self,
        rates: list[Array],
        state: TrainingState,
        order: Array,
        data: dict[str, Array],
        count: Array,
    ) -> tuple[TrainingState, StepReport]:
        optimizer = with_rates(self.learner.optimizer, rates)
        arrays, rest = eqx.partition(state, eqx.is_array)

        # Compiled by itself only so that it is traced once, for its shapes and for the loop.
        @jax.jit
        def one(arrays: Any, step: Array) -> tuple[Any, StepReport]:
            now: TrainingState = eqx.combine(arrays, rest)
            chosen = order[step % len(order)]
            whole = now.epoch * self.steps_per_epoch + step
            key = jax.random.fold_in(jax.random.fold_in(now.key, 1), whole)
            batch = self.mesh.parts({name: array[chosen] for name, array in data.items()})
            if self.augmentation is not None:
                batch["input"] = self._varied(batch["input"], jax.random.fold_in(key, 1))
            divided = self.mesh.divided((now.network, now.optimizer))
            rule = self.learner.rule
            if self.certify > 1:
                rule = rule.certifying(certified(step, self.steps_per_epoch, self.certify))
            learner = Learner(rule, optimizer, self.learner.pose)
            *updated, report = learner.update(*divided, batch, key)
            network, moments = self.mesh.joined(tuple(updated))
            average = now.average
            if average is not None and self.average is not None:
                average = averaged(average, network, self.average, whole + 1)
            after = TrainingState(network, moments, now.key, now.epoch, step + 1, average=average)
            return self.mesh.whole((eqx.filter(after, eqx.is_array), report))

        shapes = jax.eval_shape(one, arrays, state.step)[1]
        reports = jax.tree.map(lambda s: jnp.zeros((MOST_STEPS, *s.shape), s.dtype), shapes)

        def body(index: Array, carry: tuple[Any, StepReport]) -> tuple[Any, StepReport]:
            arrays, reports = carry
            arrays, report = one(arrays, state.step + index)
            return arrays, jax.tree.map(lambda all, new: all.at[index].set(new), reports, report)

        arrays, reports = jax.lax.fori_loop(
            jnp.zeros((), jnp.int32), count.astype(jnp.int32), body, (arrays, reports)
        )
        return eqx.combine(arrays, rest), reports

    def _varied(self, input: Array, key: PRNGKeyArray) -> Array:
        assert self.augmentation is not None
        found = self.augmentation(input, key)
        if getattr(found, "dtype", None) != input.dtype or found.shape != input.shape:
            raise ValueError(
                f"augmentation must return an array of shape {input.shape} and type "
                f"{input.dtype}, as it was given, not {shown(found)}."
            )
        return found


def step_memory(program: Program, data: tuple[Array, ...]) -> int | None:
    """Bytes that the compiled training step needs at once beside the data, if the backend tells."""
    found = program.memory
    if found is None:
        return None
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return int(kept + found.temp_size_in_bytes - sum(array.nbytes for array in data))
