"""Runs that are stopped by signals at any moment, and continued: they end as if never stopped."""

from __future__ import annotations

import dataclasses
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from runs_outcome import differences, outcome
from runs_world import FOLDER, JOBS, Ended, Job, Process, Reference, World, Wrong, count_of
from tally import Tally

COUNT = 160
SIGNALS = {
    "SIGKILL": (signal.SIGKILL,),
    "SIGTERM": (signal.SIGTERM,),
    "SIGUSR1": (signal.SIGUSR1,),
    "SIGINT": (signal.SIGINT,),
    "SIGINT twice": (signal.SIGINT, signal.SIGINT),
}
_MOST_STOPS = 3
# What is on its way when a signal comes: a program that is compiled, a figure that is drawn.
_PATIENCE = 20.0
_LAST_WORDS = ("run folder: ", "side by side: ", "table: ")


@dataclasses.dataclass(frozen=True)
class Stop:
    """Signals at a moment: after a share of the reference's time, or when a file appears."""

    signals: str
    pause: float
    share: float = 0.0
    pattern: str = ""
    count: int = 1

    def __str__(self) -> str:
        if not self.pattern:
            return f"{self.signals} after {self.share:.3f} of its time"
        which = f"{self.count} of " if self.count > 1 else ""
        return f"{self.signals} when there is {which}{self.pattern}"

    def wait(self, process: Process, where: Path, seconds: float) -> bool:
        """Waits for the moment; false if the process ended before."""
        # A file that is there from the beginning would stop every process at its first breath.
        if not self.pattern or self._is_there(where):
            return process.wait_for(lambda: process.age > self.share * seconds)
        return process.wait_for(lambda: self._is_there(where))

    def _is_there(self, where: Path) -> bool:
        return count_of(where, self.pattern) >= self.count

    def send(self, process: Process) -> None:
        """Sends the signals."""
        first, *further = SIGNALS[self.signals]
        process.send(first)
        for number in further:
            time.sleep(self.pause)
            process.send(number)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A job, and when it is stopped."""

    job: Job
    stops: tuple[Stop, ...]

    @property
    def kind(self) -> str:
        return f"{self.job.name}, {self.stops[0].signals}"

    def __str__(self) -> str:
        return f"{self.job.name}: {'; again '.join(map(str, self.stops))}"


def run(seed: int, count: int) -> Tally:
    with World("kills", seed) as world:
        plans = _plans(world, random.Random(f"kills {seed}"), count)
        return world.attempts(plans, lambda plan, where: _attempt(world, plan, where))


def _plans(world: World, rng: random.Random, count: int) -> list[Plan]:
    """By turns at a random moment and at the moment of a file; each file of each job once."""
    jobs = JOBS[: max(1, count)]
    files = [(job, which) for job in jobs for which in _files(world.reference(job))]
    rng.shuffle(files)
    plans = []
    for number in range(count):
        job, (pattern, at_least) = jobs[number // 2 % len(jobs)], ("", 1)
        if number % 2 and files:
            job, (pattern, at_least) = files[number // 2 % len(files)]
        stops = [_stop(rng, pattern, at_least)]
        while len(stops) < _MOST_STOPS and rng.random() < 0.5:
            stops.append(_stop(rng))
        plans.append(Plan(job, tuple(stops)))
    return plans


def _stop(rng: random.Random, pattern: str = "", count: int = 1) -> Stop:
    # Beside another attempt, everything takes longer than the reference.
    return Stop(rng.choice(list(SIGNALS)), rng.uniform(0, 0.3), rng.uniform(0, 1.3), pattern, count)


def _files(reference: Reference) -> Iterator[tuple[str, int]]:
    """Patterns of all that a job writes, and how many there must be."""
    yield f".{FOLDER}.*.tmp", 1
    for name in reference.outcome:
        if not name.endswith("checkpoints"):
            yield f"{FOLDER}/{name}", 1
            continue
        yield f"{FOLDER}/{name}/[0-9]*", 1
        yield f"{FOLDER}/{name}/*tmp*", 1
        yield f"{FOLDER}/{name}/[0-9]*", 2


def _attempt(world: World, plan: Plan, where: Path) -> str:
    reference = world.reference(plan.job)
    said, stopped = "", 0
    for stop in plan.stops:
        process = world.start(plan.job.next(where, said), where)
        came = stop.wait(process, where, reference.seconds)
        at = process.age
        if came:
            stop.send(process)
        ended = process.end()
        _judge(ended, stop, ended.seconds - at if came else None, stopped)
        if ended.code == 0 or _had_ended(ended):
            break
        said, stopped = ended.out, stopped + 1
    else:
        ended = world.run(plan.job.next(where, said), where)
        if (ended.code and not _had_ended(ended)) or (ended.code == 0 and ended.err):
            raise Wrong(f"could not be continued: {ended}")
    wrong = differences(reference.outcome, outcome(where / FOLDER))
    wrong += [f"{path.name} is left" for path in where.glob(".*.tmp")]
    if wrong:
        raise Wrong("; ".join(wrong))
    return f"bit-identical after {stopped} stops" if stopped else "ended before it was stopped"


def _had_ended(ended: Ended) -> bool:
    return ended.code == 1 and "has ended already" in ended.err and len(ended.errors) == 1


def _judge(ended: Ended, stop: Stop, seconds_after: float | None, stopped: int) -> None:
    """What a process that was stopped may leave on stderr and as its exit code."""
    number = SIGNALS[stop.signals][0]
    if seconds_after is None:
        if ended.code and not (stopped and _had_ended(ended)):
            raise Wrong(f"failed by itself: {ended}")
        return
    if number == signal.SIGINT and _before_the_program(ended):
        return
    if "Traceback" in ended.err or "Exception ignored" in ended.err or len(ended.errors) > 1:
        raise Wrong(f"{stop} left more than one line: {ended}")
    if ended.code == 0 and seconds_after > _PATIENCE:
        raise Wrong(f"{stop} was not heeded: ended {seconds_after:.0f} s after it by itself")
    if ended.code not in _codes(number, ended) and not (stopped and _had_ended(ended)):
        raise Wrong(f"{stop} has another exit code: {ended}, stdout {ended.out[-300:]!r}")


def _codes(number: int, ended: Ended) -> set[int]:
    """Exit codes that a signal may lead to; before and after its work, the program may just die."""
    if number == signal.SIGKILL:
        return {0, -number}
    handled = 130 if number == signal.SIGINT else 143
    at_work = ended.out and not any(words in ended.out for words in _LAST_WORDS)
    return {0, handled} if at_work else {0, handled, -number}


def _before_the_program(ended: Ended) -> bool:
    """Whether Ctrl-C came while Python itself was starting, which no program can prevent."""
    return not ended.out and not re.search(r'File "[^"]*fathomx[^"]*\.py"', ended.err)
