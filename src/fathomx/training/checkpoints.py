"""Checkpoints of a run: everything needed to continue it bit for bit, and nothing executable."""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import logging
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from fathomx.graph.network import Network
from fathomx.graph.processes import ProcessError, Processes
from fathomx.records.writing import remedy
from fathomx.training.observer import TrainingState
from fathomx.training.signals import held_back

_DISK_ERRORS = (
    errno.ENOSPC,
    errno.EFBIG,
    errno.EDQUOT,
    errno.EACCES,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
)
_CHECKSUMS = "checksums"
# What updates carry beside the optimizer's state.
_CARRIED = "optimizer.sensitivity."
# The state of a stream, as many bytes as it needs.
_OF_ANY_SIZE = "place"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, is damaged, or belongs to another network."""


class Found(NamedTuple):
    """A state that was restored, its position, and sentences on newer ones that are damaged."""

    state: TrainingState
    position: int
    notes: tuple[str, ...]


class Checkpoints:
    """The checkpoints in one folder, written with Orbax; the newest two are kept.

    A checkpoint holds the arrays of a `TrainingState` by their path in it: weights, optimizer
    state, key data, epoch and step, and beside them the SHA-256 of each, taken over its name, its
    position, its type, its shape and its bytes. Orbax writes to a temporary folder and renames it,
    so a killed run leaves the checkpoint before intact. (Checkpoints of version 0.1 have no
    checksums, and are read without.)

    Of several processes each writes its part of the arrays that are divided among them, and the
    first the rest. All read whole arrays, so that their number may be another one.

    Raises `CheckpointError` with one sentence when writing or reading fails.
    """

    def __init__(self, folder: Path) -> None:
        # Orbax takes over a second to import.
        import orbax.checkpoint as orbax

        self._orbax = orbax
        self._processes = Processes.here()
        self.folder = folder.absolute()
        try:
            with _quiet():
                self._manager = orbax.CheckpointManager(
                    self.folder,
                    # Else the manager takes the form of the newest folder, whatever that holds.
                    item_handlers=orbax.StandardCheckpointHandler(),
                    options=orbax.CheckpointManagerOptions(
                        max_to_keep=2, enable_async_checkpointing=False, create=True
                    ),
                )
        except (OSError, ValueError, RuntimeError) as error:
            why, what = _reason(error)
            raise CheckpointError(
                f"the checkpoints in {folder} cannot be opened: {why}; {what}."
            ) from None

    def save(self, state: TrainingState, position: int) -> None:
        """Writes the state; `position` is the number of training steps taken so far.

        Ctrl-C and other signals that stop a run wait until the checkpoint is complete.
        """
        newest = self._manager.latest_step()
        if newest is not None and position <= newest:
            return
        arrays = _arrays(state)
        arrays[_CHECKSUMS] = _checksums(arrays, position)
        try:
            with self._processes.watched(), _quiet(), held_back():
                self._manager.save(position, args=self._orbax.args.StandardSave(arrays))
                self._manager.wait_until_finished()
        except ProcessError:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            for unfinished in self.folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            why, what = _reason(error)
            raise CheckpointError(
                f"the checkpoint at step {position} could not be written to {self.folder}: {why}; "
                f"{what}."
            ) from None

    def restore(self, fresh: TrainingState) -> Found | None:
        """The newest checkpoint that is whole, as a state shaped like `fresh`; `None` without any.

        Newer ones that are damaged stay where they are, until `discard_after`.
        """
        damaged: dict[int, CheckpointError] = {}
        for position in self._processes.agreed(sorted(self._manager.all_steps(), reverse=True)):
            lost: str | None = None
            try:
                state = self._read(position, fresh)
            except CheckpointError as error:
                lost = str(error)
            # What one process cannot read, none goes on from.
            lost = next((told for told in self._processes.told(lost) if told is not None), None)
            if lost is not None:
                damaged[position] = CheckpointError(lost)
                continue
            notes = [f"{text}; the run goes on from step {position}." for text in damaged.values()]
            return Found(state, position, tuple(notes))
        for first in damaged.values():
            raise CheckpointError(
                f"{first}, and no other is whole; delete that folder to train from the beginning."
            ) from None
        return None

    def discard_after(self, position: int) -> None:
        """Removes the checkpoints behind a position, so that they can be written again."""

        def remove() -> list[int]:
            later = [found for found in self._manager.all_steps() if found > position]
            for found in later:
                shutil.rmtree(self.folder / str(found), ignore_errors=True)
            return later

        if self._processes.first(remove):
            self._manager.reload()

    def close(self) -> None:
        """Ends the manager's threads."""
        self._manager.close()

    def _read(self, position: int, fresh: TrainingState) -> TrainingState:
        """The state at a position; `CheckpointError`, a sentence without its end, if damaged."""
        which = f"the checkpoint at step {position} in {self.folder}"
        own = _arrays(fresh)
        expected = {name: np.asarray(array) for name, array in own.items()}
        before = {k: a for k, a in expected.items() if not k.startswith(_CARRIED)}
        found = self._stored(position, expected)
        if found is None and len(before) < len(expected):
            # It was written when updates carried nothing, and goes on by measuring it.
            expected, found = before, self._stored(position, before)
        if found is None:
            raise CheckpointError(f"{which} is damaged, or belongs to another network")
        for name, array in expected.items():
            if name == _OF_ANY_SIZE:
                continue
            if np.shape(found[name]) != array.shape or found[name].dtype != array.dtype:
                raise CheckpointError(
                    f"{which} holds {name} of shape {np.shape(found[name])}, but this network "
                    f"needs {array.shape}: it was written with another configuration"
                )
        stored = found.pop(_CHECKSUMS, None)
        if stored is not None:
            wrong = (stored != _checksums(found, position)).any(axis=1)
            if wrong.any():
                name = sorted(found)[int(np.argmax(wrong))]
                raise CheckpointError(f"{which} is damaged: {name} does not have its checksum")
        return _with_arrays(fresh, own | found)

    def _stored(self, position: int, expected: dict[str, np.ndarray]) -> dict[str, Any] | None:
        """The arrays of these names, with checksums or, of version 0.1, without; else `None`."""
        checksums = np.zeros((len(expected), hashlib.sha256().digest_size), np.uint8)
        found = self._exactly(position, {**expected, _CHECKSUMS: checksums})
        return self._exactly(position, expected) if found is None else found

    def _exactly(self, position: int, expected: dict[str, np.ndarray]) -> dict[str, Any] | None:
        """The arrays of these names, `None` if there are others or they cannot be read."""
        arguments = self._orbax.args.StandardRestore(expected)
        # What a damaged file makes of a library that reads it is not foreseeable.
        try:
            with _quiet(), held_back():
                return dict(self._manager.restore(position, args=arguments))
        except Exception:
            return None


def _checksums(arrays: Mapping[str, Any], position: int) -> np.ndarray:
    """The SHA-256 of every array, in the order of their names, as rows of bytes."""
    rows = []
    for name in sorted(arrays):
        array = _whole(arrays[name])
        hashed = hashlib.sha256(f"{position} {name} {array.dtype} {array.shape} ".encode())
        hashed.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
        rows.append(np.frombuffer(hashed.digest(), np.uint8))
    return np.stack(rows)


def _named(state: TrainingState) -> tuple[list[tuple[str, Any]], Any, TrainingState]:
    """The state's arrays by path, their structure, and the rest. Keys count as their data."""
    data = eqx.tree_at(lambda s: s.key, state, jax.random.key_data(state.key))
    arrays, rest = eqx.partition(data, eqx.is_array)
    leaves, structure = jax.tree_util.tree_flatten_with_path(arrays)
    places = _places(state.network)
    named = [(_stored_name(path, places), array) for path, array in leaves]
    return named, structure, rest


def _places(network: Network) -> dict[int, int]:
    """Positions among the parts of a network that are nodes or hold arrays, as inputs do not."""
    parts = enumerate(network.predictors())
    counted = [i for i, p in parts if p.depth or jax.tree.leaves(eqx.filter(p, eqx.is_array))]
    return {index: place for place, index in enumerate(counted)}


def _stored_name(path: Any, places: dict[int, int]) -> str:
    """The path of an array, as version 0.1 wrote it: a network's parts are its `nodes`."""
    name: str = jax.tree_util.keystr(path, simple=True, separator=".")
    name = name.replace("optimizer.optimizer_state.", "optimizer.", 1)
    return re.sub(r"(^|\.)_predictors\.(\d+)\b", lambda m: f"{m[1]}nodes.{places[int(m[2])]}", name)


def _arrays(state: TrainingState) -> dict[str, Any]:
    """The state's arrays by name; those that are divided among processes stay so."""
    return {
        name: array if _is_divided(array) else np.asarray(array) for name, array in _named(state)[0]
    }


def _is_divided(array: Any) -> bool:
    return not (array.is_fully_addressable or array.is_fully_replicated)


def _whole(array: Any) -> np.ndarray:
    """All of an array in each process."""
    if not isinstance(array, jax.Array) or not _is_divided(array):
        return np.asarray(array)
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(array, tiled=True))


def _with_arrays(fresh: TrainingState, found: dict[str, Any]) -> TrainingState:
    named, structure, rest = _named(fresh)
    leaves = [jax.numpy.asarray(found[name]) for name, _ in named]
    data: TrainingState = eqx.combine(jax.tree_util.tree_unflatten(structure, leaves), rest)
    return eqx.tree_at(lambda s: s.key, data, jax.random.wrap_key_data(data.key))


def _reason(error: BaseException) -> tuple[str, str]:
    """What the operating system said, out of a message that may be pages long, and the remedy."""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    number = number or next((n for n in _DISK_ERRORS if os.strerror(n) in text), None)
    if number is not None:
        return os.strerror(number), remedy(number)
    first = (text.strip().splitlines() or [type(error).__name__])[0]
    return first[:120].rstrip("."), remedy(None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what Orbax and its event loop print beside the exception they raise."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    hook = sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda unraisable: None
    try:
        yield
    finally:
        failed = sys.exc_info()[0] is not None
        if failed:
            # Tasks of a failed write complain when they are collected: let them do it now.
            traceback.clear_frames(sys.exc_info()[2])
            gc.collect()
        # Files that were still being written report later, to an event loop that is gone.
        sys.unraisablehook = _but_late_reports(hook) if failed else hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _but_late_reports(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    def said(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return said
