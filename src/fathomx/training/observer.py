"""What a training run tells those who watch it."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import gate
from fathomx.graph.network import Network
from fathomx.training.choosing import Choices

Tree = TypeVar("Tree")


def copied(tree: Tree) -> Tree:
    """The tree with arrays of its own, each where it was."""
    found: Tree = jax.tree.map(lambda leaf: jnp.copy(leaf) if eqx.is_array(leaf) else leaf, tree)
    return found


@gate
class Best(eqx.Module):
    """The best epoch so far: its network, its number (0 before the first) and its score."""

    network: Network
    epoch: Array
    score: Array


@gate
class TrainingState(eqx.Module):
    """All that a run needs to continue bit for bit: weights, optimizer, key and position.

    **Fields**: `network`, `optimizer` (its state), `key` of the run, `epoch` and `step` (within the
    epoch) that come next; `average`, the network of averaged weights, if the run averages them;
    `best`, that of the best epoch, if the run returns it; `place`, the state of a stream that
    keeps one, as bytes (uint8), or `None`.
    """

    network: Network
    optimizer: Any
    key: PRNGKeyArray
    epoch: Array
    step: Array
    average: Network | None = None
    best: Best | None = None
    place: Array | None = None

    @classmethod
    def begun(
        cls,
        network: Network,
        optimizer: Any,
        key: PRNGKeyArray,
        *,
        average: bool = False,
        best: bool = False,
    ) -> TrainingState:
        """That of a run before its first step, which averages weights or keeps the best or not."""
        zero = jnp.zeros((), jnp.int32)
        return cls(
            network,
            optimizer,
            key,
            epoch=zero,
            step=zero,
            average=network if average else None,
            best=Best(network, zero, jnp.asarray(jnp.nan)) if best else None,
        )

    @property
    def scored(self) -> Network:
        """The network that validation scores: that of averaged weights, if there is one."""
        return self.network if self.average is None else self.average

    @property
    def result(self) -> Network:
        """The network that the run would return now: that of the best epoch, if it is kept."""
        return self.scored if self.best is None else self.best.network

    @property
    def replaced(self) -> tuple[Network, Any, Network | None]:
        """What every step replaces, in its place in memory: weights, moments, averages."""
        return self.network, self.optimizer, self.average

    def kept(self) -> TrainingState:
        """The same state with copies of what the next step replaces."""
        network, optimizer, average = copied(self.replaced)
        return dataclasses.replace(self, network=network, optimizer=optimizer, average=average)

    def at_place(self, place: bytes | None) -> TrainingState:
        """The same state with another place in the stream."""
        found = None if place is None else jnp.asarray(np.frombuffer(place, np.uint8))
        return dataclasses.replace(self, place=found)


@gate
@dataclasses.dataclass(frozen=True)
class Plan:
    """The size of a run (epochs, steps in an epoch, batch size, node names) and its `Choices`."""

    epochs: int
    steps_per_epoch: int
    batch_size: int
    labels: tuple[str, ...]
    choices: Choices = dataclasses.field(default_factory=Choices)


@dataclasses.dataclass(frozen=True)
class Restored:
    """Where an earlier session stopped, and what it recorded until there.

    `history` holds its epoch records, `records` the step records of the epoch it was in, `seconds`
    what its steps took, `notes` sentences on what of them is lost, `known` what earlier notes are
    about, `validated` the step of the current epoch at which validation was last recorded.
    """

    state: TrainingState
    history: list[dict[str, Any]]
    records: list[dict[str, Any]]
    seconds: float
    notes: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    validated: int = 0


@gate
class Observer:
    """Watches a run. Every hook does nothing unless overridden; records hold plain numbers.

    One hook also decides: `stop` ends training.

    **Attributes**: `keeps`, whether the observer may look at a state after the hook that was given
    it. The next step takes the memory of what the one before has made; who keeps is given a copy.
    An observer that only reads says `keeps = False`, which saves the copies. What stops a run waits
    for `stepped`, which should not take long.
    """

    keeps: ClassVar[bool] = True

    def restore(self, fresh: TrainingState) -> Restored | None:
        """Where to continue, the state shaped like `fresh`; `None` to start from the beginning."""
        return None

    def started(self, plan: Plan, state: TrainingState) -> None:
        """Before the first step of this session."""

    def stepped(self, record: dict[str, Any], state: TrainingState) -> None:
        """After a few steps: `epoch`, `step` (the last), and one value per step of each metric."""

    def validated(self, record: dict[str, Any], state: TrainingState) -> None:
        """After a validation within an epoch: `epoch`, `step` and the scores, by name."""

    def noted(self, record: dict[str, Any]) -> None:
        """When something is to be said while the run goes on: `epoch`, `step`, `text`, `about`."""

    def epoch_ended(self, record: dict[str, Any], state: TrainingState) -> None:
        """After an epoch's validation and probe."""

    def stop(self, history: list[dict[str, Any]]) -> str | None:
        """Why training should end now, as the end of a sentence; `None` to go on.

        Asked before every epoch but the first, of the records of all epochs so far, and answered
        from these alone, so that a resumed run ends where it would have ended: `"the validation
        accuracy reached 0.9"`.
        """
        return None

    def interrupted(self, state: TrainingState) -> None:
        """When the run is stopped from outside (Ctrl-C)."""

    def failed(self) -> None:
        """When the run ends by an error."""

    def finished(self, summary: dict[str, Any], state: TrainingState) -> None:
        """After the test set has been scored."""
