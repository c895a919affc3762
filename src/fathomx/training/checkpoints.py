"""Checkpoints of a run: everything needed to continue it bit for bit, and nothing executable."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import re
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from fathomx.graph.network import Network
from fathomx.training.observer import TrainingState

_DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EACCES, errno.EROFS)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, is damaged, or belongs to another network."""


class Checkpoints:
    """The checkpoints in one folder, written with Orbax; the newest two are kept.

    A checkpoint holds the arrays of a `TrainingState` by their path in it: weights, optimizer
    state, key data, epoch and step. Orbax writes to a temporary folder and renames it, so a killed
    run leaves the checkpoint before intact.

    Raises `CheckpointError` with one sentence when writing or reading fails.
    """

    def __init__(self, folder: Path) -> None:
        # Orbax takes over a second to import.
        import orbax.checkpoint as orbax

        self._orbax = orbax
        self.folder = folder.absolute()
        with _quiet():
            self._manager = orbax.CheckpointManager(
                self.folder,
                options=orbax.CheckpointManagerOptions(
                    max_to_keep=2, enable_async_checkpointing=False, create=True
                ),
            )

    def save(self, state: TrainingState, position: int) -> None:
        """Writes the state; `position` is the number of training steps taken so far.

        Ctrl-C waits until the checkpoint is complete.
        """
        newest = self._manager.latest_step()
        if newest is not None and position <= newest:
            return
        try:
            with _quiet(), _uninterrupted():
                self._manager.save(position, args=self._orbax.args.StandardSave(_arrays(state)))
                self._manager.wait_until_finished()
        except (OSError, ValueError, RuntimeError) as error:
            for unfinished in self.folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            raise CheckpointError(
                f"the checkpoint at step {position} could not be written to {self.folder}: "
                f"{_reason(error)} Free some space, then resume, or start with another --out."
            ) from None

    def restore(self, fresh: TrainingState) -> TrainingState | None:
        """The newest checkpoint as a state shaped like `fresh`; `None` if there is none."""
        position = self._manager.latest_step()
        if position is None:
            return None
        expected = _arrays(fresh)
        try:
            found = self._manager.restore(position, args=self._orbax.args.StandardRestore(expected))
        except (OSError, ValueError, RuntimeError, KeyError, TypeError):
            raise CheckpointError(
                f"the checkpoint at step {position} in {self.folder} cannot be read: it is "
                "damaged, or belongs to another network. Delete the folder of this step to go "
                "back to the checkpoint before it, or start a new run."
            ) from None
        for name, array in expected.items():
            if np.shape(found[name]) != array.shape or found[name].dtype != array.dtype:
                raise CheckpointError(
                    f"the checkpoint in {self.folder} holds {name} of shape "
                    f"{np.shape(found[name])}, but this network needs {array.shape}; resume with "
                    "the configuration that the run was started with."
                )
        return _with_arrays(fresh, found)

    def close(self) -> None:
        """Ends the manager's threads."""
        self._manager.close()


def _named(state: TrainingState) -> tuple[list[tuple[str, Any]], Any, TrainingState]:
    """The state's arrays by path, their structure, and the rest. Keys count as their data."""
    data = eqx.tree_at(lambda s: s.key, state, jax.random.key_data(state.key))
    arrays, rest = eqx.partition(data, eqx.is_array)
    leaves, structure = jax.tree_util.tree_flatten_with_path(arrays)
    places = _places(state.network)
    named = [(_stored_name(path, places), array) for path, array in leaves]
    return named, structure, rest


def _places(network: Network) -> dict[int, int]:
    """Positions among the parts of a network that are counted: pure inputs hold no arrays."""
    counted = [i for i, part in enumerate(network.predictors()) if part.depth]
    return {index: place for place, index in enumerate(counted)}


def _stored_name(path: Any, places: dict[int, int]) -> str:
    """The path of an array, as version 0.1 wrote it: a network's parts are its `nodes`."""
    name: str = jax.tree_util.keystr(path, simple=True, separator=".")
    return re.sub(r"(^|\.)_predictors\.(\d+)\b", lambda m: f"{m[1]}nodes.{places[int(m[2])]}", name)


def _arrays(state: TrainingState) -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in _named(state)[0]}


def _with_arrays(fresh: TrainingState, found: dict[str, Any]) -> TrainingState:
    named, structure, rest = _named(fresh)
    leaves = [jax.numpy.asarray(found[name]) for name, _ in named]
    data: TrainingState = eqx.combine(jax.tree_util.tree_unflatten(structure, leaves), rest)
    return eqx.tree_at(lambda s: s.key, data, jax.random.wrap_key_data(data.key))


def _reason(error: BaseException) -> str:
    """What the operating system said, out of a message that may be pages long."""
    text = str(error)
    known = next((os.strerror(n) for n in _DISK_ERRORS if os.strerror(n) in text), None)
    first = (text.strip().splitlines() or [type(error).__name__])[0]
    return (known or first[:120]).rstrip(".") + "."


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


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Holds back Ctrl-C until the end; signals can only be handled in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if noted:
        raise KeyboardInterrupt
