"""Two processes in one folder: one goes on, the other says why not; and no crash keeps a lock."""

from __future__ import annotations

import dataclasses
import random
import shlex
import shutil
import signal
from pathlib import Path

from runs_outcome import differences, outcome
from runs_world import FOLDER, MLP, Ended, Process, World, Wrong
from tally import Tally

COUNT = 20
_KINDS = (
    "two resume",
    "two resume near the end",
    "two resume after a kill",
    "two begin",
    "two resume",
    "two resume after a kill",
)
_LATEST = 3.0
_REFUSALS = {"is in use": "in use", "has ended already": "has ended already"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Two processes, the second one some seconds, or a share of a run's time, after the first."""

    kind: str
    offset: float
    killed_at: float

    def __str__(self) -> str:
        killed = f", a first one killed at {self.killed_at:.3f} of its time"
        when = f"{self.kind}, the second {self.offset:.3f} after the first"
        return when + (killed if "kill" in self.kind else "")


def run(seed: int, count: int) -> Tally:
    with World("locks", seed) as world:
        expected, rng = world.reference(MLP), random.Random(f"locks {seed}")
        stopped = world.stopped(MLP, f"{FOLDER}/checkpoints/[0-9]*")

        def attempt(plan: Plan, where: Path) -> str:
            if plan.kind == "two begin":
                return _two_begin(world, plan, where)
            shutil.copytree(stopped, where, dirs_exist_ok=True)
            if "kill" in plan.kind:
                _kill(world, where, plan.killed_at * expected.seconds)
            return _two_resume(world, plan, where)

        return world.attempts(_plans(rng, count, expected.seconds), attempt, workers=1)


def _plans(rng: random.Random, count: int, seconds: float) -> list[Plan]:
    kinds = [_KINDS[number % len(_KINDS)] for number in range(count)]
    return [Plan(kind, _offset(rng, kind, seconds), rng.uniform(0.2, 0.7)) for kind in kinds]


def _offset(rng: random.Random, kind: str, seconds: float) -> float:
    """Seconds between two processes that may meet at the beginning or at the end."""
    if kind == "two begin":
        return rng.uniform(0, 0.2)
    return rng.uniform(0.3, 1) * seconds if "end" in kind else rng.uniform(0, _LATEST)


def _kill(world: World, where: Path, seconds: float) -> None:
    process = world.start(MLP.continued(), where)
    if process.wait_for(lambda: process.age > seconds):
        process.send(signal.SIGKILL)
    process.end()


def _both(first: Process, second: Process) -> tuple[Ended, Ended]:
    return first.end(), second.end()


def _two_resume(world: World, plan: Plan, where: Path) -> str:
    first = world.start(MLP.continued(), where)
    first.wait_for(lambda: first.age > plan.offset)
    ended = sorted(_both(first, world.start(MLP.continued(), where)))
    if [each.code for each in ended] != [0, 1]:
        raise Wrong(f"not one went on and one was refused: {ended[0]}; {ended[1]}")
    went_on, refused = ended
    if went_on.err or len(refused.errors) != 1:
        raise Wrong(f"said too much or too little: {went_on}; {refused}")
    endings = [ending for words, ending in _REFUSALS.items() if words in refused.err]
    if not endings:
        raise Wrong(f"says another reason: {refused}")
    _judge(world, where / FOLDER)
    return f"one went on, the other: {endings[0]}"


def _two_begin(world: World, plan: Plan, where: Path) -> str:
    first = world.start(shlex.split(MLP.words), where)
    first.wait_for(lambda: first.age > plan.offset)
    ended = _both(first, world.start(shlex.split(MLP.words), where))
    for each in ended:
        if each.code or each.err:
            raise Wrong(f"did not go on: {each}")
    folders = sorted((where / "runs").iterdir())
    if len(folders) != 2:
        raise Wrong(f"left {[path.name for path in folders]}")
    for folder in folders:
        _judge(world, folder)
    shared = folders[1].name.startswith(folders[0].name)
    return f"two folders, of {'the same second' if shared else 'different seconds'}"


def _judge(world: World, folder: Path) -> None:
    if wrong := differences(world.reference(MLP).outcome, outcome(folder)):
        raise Wrong(f"{folder.name}: {'; '.join(wrong)}")
