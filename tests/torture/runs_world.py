"""What the campaigns on whole runs share: jobs, and how they are started, stopped, continued."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from runs_outcome import differences, outcome
from tally import Tally

COMMAND = [sys.executable, "-m", "fathomx_command"]
# Where every job of an attempt writes, in the folder of the attempt.
FOLDER = "out"
_LIMIT = 600.0
_POLL = 0.002
_PRINTED = "continue with: fathomx "


class Wrong(Exception):
    """What is wrong about an attempt, in words."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that leaves a folder: its name in the counts, and its words without `--out`."""

    name: str
    words: str

    def begun(self, folder: str = FOLDER) -> list[str]:
        """The command that begins it."""
        return [*shlex.split(self.words), "--out", folder]

    def continued(self, folder: str = FOLDER) -> list[str]:
        """The command that continues it."""
        command = shlex.split(self.words)[0]
        return self.begun(folder) if command == "reproduce" else [command, "--resume", folder]

    def next(self, where: Path, said: str = "", folder: str = FOLDER) -> list[str]:
        """What a user would type now: what was said, what continues the folder, or all again."""
        if _PRINTED in said:
            return shlex.split(said.rpartition(_PRINTED)[2].splitlines()[0])
        return self.continued(folder) if (where / folder).exists() else self.begun(folder)


_SMALL = "--depth 4 --width 8 --take 128 --batch-size 32 --epochs 6"
MLP = Job("train", f"train {_SMALL} --strength 0.5")
BACKPROP = Job("train by backprop", f"train {_SMALL} --learning backprop")
CNN = Job(
    "train a CNN",
    "train --model residual-cnn --depth 5 --width 4 --take 64 --batch-size 32 --epochs 3",
)
TRANSFORMER = Job(
    "train a transformer",
    "train --model transformer --depth 2 --width 16 --context 32 --take 64 --batch-size 32 "
    "--epochs 3",
)
COMPARE = Job("compare", f"compare {_SMALL} --strength 0.5")
REPRODUCE = Job("reproduce", 'reproduce strict-saddles --network "tanh, 4 layers, toy" --seed 0')
JOBS = (MLP, BACKPROP, CNN, TRANSFORMER, COMPARE, REPRODUCE)


class Ended(NamedTuple):
    """How a process ended: its exit code, what it said, and how many seconds it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def errors(self) -> list[str]:
        """The lines on stderr."""
        return self.err.splitlines()

    def __str__(self) -> str:
        return f"exit code {self.code}, stderr {self.err[-1500:]!r}"


def count_of(where: Path, pattern: str) -> int:
    """How many files there are of a pattern; a last part `[0-9]*` means whole checkpoints."""
    if "*" not in pattern:
        return (where / pattern).exists()
    found = where.glob(pattern)
    if pattern.endswith("[0-9]*"):
        return sum(path.name.isdigit() for path in found)
    return len(list(found))


class Process:
    """The command, started in a folder."""

    def __init__(self, arguments: Iterable[str], where: Path, environment: dict[str, str]) -> None:
        self._begun = time.monotonic()
        self._said = Path(tempfile.mkdtemp(prefix="fathomx-said-"))
        with (self._said / "out").open("w") as out, (self._said / "err").open("w") as err:
            self._process = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=where,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._begun

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Waits for a moment; false if the process ends before."""
        while not condition():
            if self._process.poll() is not None or self.age > _LIMIT:
                return False
            time.sleep(_POLL)
        return self._process.poll() is None

    def send(self, number: int) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def end(self) -> Ended:
        """Waits for the end; `Wrong` if it does not come."""
        try:
            code = self._process.wait(max(1.0, _LIMIT - self.age))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise Wrong(f"did not end within {_LIMIT:.0f} s") from None
        out, err = ((self._said / name).read_text(errors="replace") for name in ("out", "err"))
        shutil.rmtree(self._said)
        return Ended(code, out, err.strip(), self.age)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A run that nothing happened to: where it is, what it took, what it came to."""

    where: Path
    seconds: float
    outcome: dict[str, Any]


class Plan(Protocol):
    """An attempt: its kind in the counts; as a text, all that repeats it."""

    @property
    def kind(self) -> str: ...


SomePlan = TypeVar("SomePlan", bound=Plan)


class World:
    """The temporary folder of a campaign, with its own caches; kept if there are faults."""

    def __init__(self, name: str, seed: int) -> None:
        self.tally = Tally(name, seed)
        self.folder = Path(tempfile.mkdtemp(prefix=f"fathomx-{name}-"))
        self._lock = threading.Lock()
        self._references: dict[Job, Reference] = {}
        # A process in the background may have been told to ignore Ctrl-C, and its children too.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *raised: object) -> None:
        shutil.rmtree(self.folder / "caches", ignore_errors=True)
        if not self.tally.faults:
            shutil.rmtree(self.folder)

    @property
    def data(self) -> Path:
        """The folder of the data sets."""
        beside = Path(__file__).parents[3] / "shared" / "data"
        return Path(os.environ.get("FATHOMX_DATA", beside)).resolve()

    @functools.cached_property
    def environment(self) -> dict[str, str]:
        """That of all processes: caches of their own, and no way to fetch data."""
        caches = self.folder / "caches"
        return dict(os.environ) | {
            "FATHOMX_DATA": str(self.data),
            "XDG_CACHE_HOME": str(caches),
            "JAX_COMPILATION_CACHE_DIR": str(caches / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            **dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9"),
        }

    def start(self, arguments: Iterable[str], where: Path, **environment: str) -> Process:
        """Starts the command in a folder."""
        return Process(arguments, where, self.environment | environment)

    def run(self, arguments: Iterable[str], where: Path, **environment: str) -> Ended:
        """Runs the command in a folder to its end."""
        return self.start(arguments, where, **environment).end()

    def reference(self, job: Job) -> Reference:
        """The job, run without anything that happens to it; made when first asked for."""
        with self._lock:
            if job not in self._references:
                self._references[job] = self._run_reference(job)
            return self._references[job]

    def _run_reference(self, job: Job) -> Reference:
        found = []
        # The first one fills the caches; the second one shows how long it takes with them.
        for which in ("cold", "warm"):
            where = self.folder / "references" / which / job.name
            where.mkdir(parents=True)
            ended = self.run(job.begun(), where)
            if ended.code or ended.err:
                raise Wrong(f"the reference of {job.name} failed: {ended}")
            found.append(Reference(where, ended.seconds, outcome(where / FOLDER)))
        cold, warm = found
        if differing := differences(cold.outcome, warm.outcome):
            raise Wrong(f"{job.name} does not repeat itself: {'; '.join(differing)}")
        return warm

    def stopped(self, job: Job, pattern: str, count: int = 2) -> Path:
        """Where a job was stopped as soon as there were `count` files of a pattern."""
        where = self.folder / "stopped" / job.name
        where.mkdir(parents=True)
        self.stop(job, pattern, where, count)
        return where

    def stop(self, job: Job, pattern: str, where: Path, count: int = 2) -> None:
        """Begins a job in a folder, and stops it as soon as there are `count` files."""
        process = self.start(job.begun(), where)
        if process.wait_for(lambda: count_of(where, pattern) >= count):
            process.send(signal.SIGTERM)
        ended = process.end()
        if ended.code != 128 + signal.SIGTERM or ended.err:
            raise Wrong(f"{job.name} could not be stopped: {ended}")

    def attempts(
        self, plans: Iterable[SomePlan], attempt: Callable[[SomePlan, Path], str], workers: int = 2
    ) -> Tally:
        """Makes all attempts, each in a folder of its own, which is kept if it ends wrong.

        `attempt` returns how it ended, in a few words, or raises `Wrong`.
        """

        def made(numbered: tuple[int, SomePlan]) -> tuple[str, str, str]:
            number, plan = numbered
            where = self.folder / f"attempt-{number}"
            where.mkdir()
            try:
                ended = attempt(plan, where)
            except Exception as error:
                what = str(error) if isinstance(error, Wrong) else repr(error)
                return plan.kind, "", f"attempt {number}, {plan}: {what} (kept in {where})"
            shutil.rmtree(where)
            return plan.kind, ended, ""

        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            for kind, ended, fault in pool.map(made, enumerate(plans)):
                if fault:
                    # Campaigns take long: what is wrong is said at once.
                    print(f"{kind}: {fault}", file=sys.stderr, flush=True)
                    self.tally.fault(kind, fault)
                else:
                    self.tally.note(kind, ended)
        return self.tally
