"""What a training run tells those who watch it."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import gate
from fathomx.graph.network import Network


@gate
class TrainingState(eqx.Module):
    """All that a run needs to continue bit for bit: weights, optimizer, key and position.

    **Fields**: `network`, `optimizer` (its state), `key` of the run, `epoch` and `step` (within the
    epoch) that come next; `place`, the state of a stream that keeps one, as bytes (uint8), or
    `None`.
    """

    network: Network
    optimizer: Any
    key: PRNGKeyArray
    epoch: Array
    step: Array
    place: Array | None = None

    @classmethod
    def begun(cls, network: Network, optimizer: Any, key: PRNGKeyArray) -> TrainingState:
        """That of a run before its first step."""
        zero = jnp.zeros((), jnp.int32)
        return cls(network, optimizer, key, epoch=zero, step=zero)

    def at_place(self, place: bytes | None) -> TrainingState:
        """The same state with another place in the stream."""
        found = None if place is None else jnp.asarray(np.frombuffer(place, np.uint8))
        return dataclasses.replace(self, place=found)


@gate
@dataclasses.dataclass(frozen=True)
class Plan:
    """The size of a run: epochs, steps in an epoch, batch size, node names."""

    epochs: int
    steps_per_epoch: int
    batch_size: int
    labels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Restored:
    """Where an earlier session stopped, and what it recorded until there.

    `history` holds its epoch records, `records` the step records of the epoch it was in, `seconds`
    what its steps took, `notes` sentences on what of them is lost, `known` what earlier notes are
    about.
    """

    state: TrainingState
    history: list[dict[str, Any]]
    records: list[dict[str, Any]]
    seconds: float
    notes: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


@gate
class Observer:
    """Watches a run. Every hook does nothing unless overridden; records hold plain numbers."""

    def restore(self, fresh: TrainingState) -> Restored | None:
        """Where to continue, the state shaped like `fresh`; `None` to start from the beginning."""
        return None

    def started(self, plan: Plan, state: TrainingState) -> None:
        """Before the first step of this session."""

    def stepped(self, record: dict[str, Any], state: TrainingState) -> None:
        """After a few steps: `epoch`, `step` (the last), and one value per step of each metric."""

    def noted(self, record: dict[str, Any]) -> None:
        """When something is to be said while the run goes on: `epoch`, `step`, `text`, `about`."""

    def epoch_ended(self, record: dict[str, Any], state: TrainingState) -> None:
        """After an epoch's validation and probe."""

    def interrupted(self, state: TrainingState) -> None:
        """When the run is stopped from outside (Ctrl-C)."""

    def failed(self) -> None:
        """When the run ends by an error."""

    def finished(self, summary: dict[str, Any], state: TrainingState) -> None:
        """After the test set has been scored."""
