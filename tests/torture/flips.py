"""Bits and bytes of a checkpoint that change: recognized, or without any effect."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from runs_outcome import differences, outcome, positions
from runs_world import FOLDER, MLP, World, Wrong
from tally import Tally

COUNT = 320
_BY_COMMAND = 12 / 320
_MOST_CHANGES = 4
_SENTENCE = "the run goes on from step"


@dataclasses.dataclass(frozen=True)
class Flip:
    """Changes of bytes of a file of a checkpoint: offsets, and what is flipped there."""

    kind: str
    file: str
    changes: tuple[tuple[int, int], ...]
    by_command: bool

    def __str__(self) -> str:
        changed = ", ".join(f"byte {offset} ^ {mask:#04x}" for offset, mask in self.changes)
        return f"{self.file}, {changed}"

    def damage(self, checkpoint: Path) -> None:
        """Changes the file."""
        path = checkpoint / self.file
        content = bytearray(path.read_bytes())
        for offset, mask in self.changes:
            content[offset] ^= mask
        path.write_bytes(content)


@dataclasses.dataclass(frozen=True)
class Restored:
    """What `restore` gave: the position, the arrays' bytes, and the sentences."""

    position: int
    arrays: tuple[bytes, ...]
    notes: tuple[str, ...]


def run(seed: int, count: int) -> Tally:
    with World("flips", seed) as world:
        stopped = world.stopped(MLP, f"{FOLDER}/checkpoints/[0-9]*")
        checkpoints = stopped / FOLDER / "checkpoints"
        older, newest = positions(checkpoints)
        restore = _restoring(stopped / FOLDER)
        whole = _quietly(restore, checkpoints)
        spare = world.folder / "older"
        shutil.copytree(checkpoints / str(older), spare / str(older))
        before = _quietly(restore, spare)

        def attempt(flip: Flip, where: Path) -> str:
            damaged = where / "checkpoints"
            shutil.copytree(checkpoints, damaged)
            flip.damage(damaged / str(newest))
            found = _quietly(restore, damaged)
            recognized = _judge(found, whole, before, damaged / str(newest))
            if flip.by_command:
                shutil.copytree(stopped / FOLDER, where / FOLDER)
                flip.damage(where / FOLDER / "checkpoints" / str(newest))
                _by_command(world, where, recognized)
            return "recognized" if recognized else "spare byte"

        flips = _flips(random.Random(f"flips {seed}"), checkpoints / str(newest), count)
        return world.attempts(flips, attempt, workers=1)


def _flips(rng: random.Random, checkpoint: Path, count: int) -> list[Flip]:
    """By turns in files as likely as they are large, and in files all as likely."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    sizes = {path: path.stat().st_size for path in files if path.stat().st_size}
    by_command = max(1, round(_BY_COMMAND * count))
    found = []
    for number in range(count):
        weights = list(sizes.values()) if number % 2 else [1] * len(sizes)
        path = rng.choices(list(sizes), weights)[0]
        bits = rng.random() < 0.5
        changes = tuple(
            (rng.randrange(sizes[path]), 1 << rng.randrange(8) if bits else rng.randrange(1, 256))
            for _ in range(rng.randint(1, _MOST_CHANGES))
        )
        where = "a byte of all" if number % 2 else "a byte of any file"
        command = number < by_command
        kind = f"{where}, by the command line" if command else where
        found.append(Flip(kind, path.relative_to(checkpoint).as_posix(), changes, command))
    return found


def _restoring(folder: Path) -> Callable[[Path], Restored]:
    """A function that restores the newest checkpoint in a folder into the run's network."""
    from fathomx.command_line.session import stored_job
    from fathomx.training import TrainingState
    from fathomx.training.checkpoints import Checkpoints

    job = stored_job(folder)
    data = job.load()
    network = job.network(data)
    optimizer = job.rule().init_optimizer(job.optimizer_for(data), network)
    fresh = TrainingState.begun(network, optimizer, jax.random.key(job.seed))

    def restore(checkpoints: Path) -> Restored:
        opened = Checkpoints(checkpoints)
        try:
            found = opened.restore(fresh)
            if found is not None:
                opened.discard_after(found.position)
        finally:
            opened.close()
        if found is None:
            raise Wrong("no checkpoint was found")
        return Restored(found.position, _bytes(found.state), found.notes)

    return restore


def _bytes(state: Any) -> tuple[bytes, ...]:
    """The bytes of all arrays of a state, with their types and shapes."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if hasattr(leaf, "dtype")]
    arrays = [
        np.asarray(jax.random.key_data(leaf) if leaf is state.key else leaf) for leaf in leaves
    ]
    return tuple(f"{array.dtype} {array.shape} ".encode() + array.tobytes() for array in arrays)


def _quietly(restore: Callable[[Path], Restored], checkpoints: Path) -> Restored:
    """What `restore` gives; `Wrong` if it fails, or if anything is printed meanwhile."""
    with _printed() as said:
        try:
            found = restore(checkpoints)
        except Exception as error:
            raise Wrong(f"restore raised {type(error).__name__}: {error}") from error
        finally:
            gc.collect()
    if said:
        raise Wrong(f"restore printed {said[0][-500:]!r}")
    return found


@contextlib.contextmanager
def _printed() -> Iterator[list[str]]:
    """What anything in this process prints, C++ included, is in the list in the end."""
    said: list[str] = []
    with tempfile.TemporaryFile() as file:
        kept = {number: os.dup(number) for number in (1, 2)}
        for number in kept:
            os.dup2(file.fileno(), number)
        try:
            yield said
        finally:
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            if text := file.read().decode(errors="replace"):
                said.append(text)


def _judge(found: Restored, whole: Restored, before: Restored, newest: Path) -> bool:
    """Whether the damage was recognized; `Wrong` if it was not and has an effect."""
    if found.position == whole.position:
        if found.arrays != whole.arrays:
            raise Wrong("other arrays were restored, and nothing was said")
        if found.notes:
            raise Wrong(f"the newest checkpoint was restored, but it was said: {found.notes}")
        return False
    if found.position != before.position or found.arrays != before.arrays:
        raise Wrong(f"what was restored, of step {found.position}, is not the checkpoint before")
    named = f"the checkpoint at step {newest.name} in {newest.parent} is damaged"
    said = found.notes[0] if len(found.notes) == 1 else ""
    if not (said.startswith(named) and _SENTENCE in said):
        raise Wrong(f"the checkpoint before was restored, but it was said: {found.notes}")
    if newest.exists():
        raise Wrong("the damaged checkpoint is still there, and would not be written again")
    return True


def _by_command(world: World, where: Path, recognized: bool) -> None:
    """The run is continued to its end, which is the same, and says what was recognized."""
    ended = world.run(MLP.continued(), where)
    if ended.code or ended.err:
        raise Wrong(f"could not be continued: {ended}")
    if (_SENTENCE in ended.out) != recognized:
        raise Wrong(f"recognized: {recognized}, but it was said: {ended.out!r}")
    found, expected = outcome(where / FOLDER), world.reference(MLP).outcome
    notes = found["metrics.jsonl"]["notes"]
    for sentence in [note for note in notes if _SENTENCE in note]:
        notes.remove(sentence)
    if wrong := differences(expected, found):
        raise Wrong("; ".join(wrong))
