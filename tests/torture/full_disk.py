"""Disks that are full at any size: one line, nothing is lost, and with room all goes on.

The disks are tmpfs, whose size can be changed while they are mounted; that needs a system that
allows this process to mount.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from runs_outcome import differences, outcome, positions
from runs_world import (
    BACKPROP,
    COMPARE,
    FOLDER,
    MLP,
    REPRODUCE,
    TRANSFORMER,
    Ended,
    Job,
    World,
    Wrong,
)
from tally import Tally

COUNT = 36
# Half of the attempts are the first one.
_JOBS = (MLP, COMPARE, MLP, REPRODUCE, MLP, TRANSFORMER, MLP, BACKPROP)
_DISK = "disk"
_PLACE = f"{_DISK}/{FOLDER}"
_PAGE, _ROOMY = 4096, 2**28
# A checkpoint is written before the one before the last is deleted, and files beside the old ones.
_MOST = 1.3


@dataclasses.dataclass(frozen=True)
class Plan:
    """A job, and how many bytes its disk has: at first, and when it is continued."""

    job: Job
    sizes: tuple[int, ...]

    @property
    def kind(self) -> str:
        return f"tmpfs, {self.job.name}"

    def __str__(self) -> str:
        return f"{self.job.name} with {', then '.join(f'{size} bytes' for size in self.sizes)}"


def run(seed: int, count: int) -> Tally:
    with World("full_disk", seed) as world:
        if not _can_mount(world.folder):
            world.tally.note("tmpfs", "skipped: this process may not mount")
            return world.tally
        plans = _plans(world, random.Random(f"full_disk {seed}"), count)
        return world.attempts(plans, lambda plan, where: _attempt(world, plan, where))


def _plans(world: World, rng: random.Random, count: int) -> list[Plan]:
    """Sizes spread evenly from one page to more than what is needed."""
    plans = []
    jobs = [_JOBS[number % len(_JOBS)] for number in range(count)]
    for job in dict.fromkeys(jobs):
        attempts = jobs.count(job)
        needed = _MOST * _needed(world.reference(job).where / FOLDER)
        for number in range(attempts):
            first = max(_PAGE, int(needed * (number + rng.random()) / attempts))
            again = (int(rng.uniform(first, needed)),) if rng.random() < 0.4 else ()
            plans.append(Plan(job, (first, *again)))
    return plans


def _needed(folder: Path) -> int:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-size // _PAGE) * _PAGE for size in sizes)


def _attempt(world: World, plan: Plan, where: Path) -> str:
    said, failed = "", 0
    with _disk(where / _DISK, plan.sizes[0]) as resize:
        for size in plan.sizes:
            resize(size)
            ended = world.run(plan.job.next(where, said, _PLACE), where)
            if ended.code == 0:
                break
            _judge(ended, where / _PLACE)
            said, failed = ended.out, failed + 1
        else:
            resize(_ROOMY)
            ended = world.run(plan.job.next(where, said, _PLACE), where)
        if ended.code or ended.err:
            raise Wrong(f"could not be continued with room: {ended}")
        wrong = differences(world.reference(plan.job).outcome, outcome(where / _PLACE))
        wrong += [f"{path.name} is left" for path in (where / _DISK).glob(".*")]
        if wrong:
            raise Wrong("; ".join(wrong))
    return f"one line, then bit-identical; full {failed} times" if failed else "it had room"


def _judge(ended: Ended, folder: Path) -> None:
    """One line that says what is full, and no epoch that was recorded is without checkpoint."""
    if ended.code != 1 or len(ended.errors) != 1 or "No space left" not in ended.err:
        raise Wrong(f"no single line on the full disk: {ended}")
    if "free some space" not in ended.err:
        raise Wrong(f"no remedy: {ended}")
    for metrics in folder.rglob("metrics.jsonl"):
        whole = metrics.read_bytes().rpartition(b"\n")[0]
        epochs = sum(b'"kind": "epoch"' in line for line in whole.splitlines())
        kept = positions(metrics.parent / "checkpoints") if epochs > 1 else [0]
        if not kept:
            raise Wrong(f"{epochs} epochs are recorded in {metrics}, and no checkpoint is there")


@contextlib.contextmanager
def _disk(place: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A disk of its own at a place, and a function that changes its size."""
    place.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    try:
        yield lambda size: _mount("-o", f"remount,size={size}", str(place))
    finally:
        # A process that was killed may hold it for a moment.
        subprocess.run(["umount", "--lazy", str(place)], check=True, capture_output=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _can_mount(folder: Path) -> bool:
    try:
        with _disk(folder / "tried", _PAGE):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
