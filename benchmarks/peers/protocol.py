"""How the driver talks to a worker: one JSON object per line, a request and its reply.

Standard library and numpy only, since it runs in every library's environment. A worker keeps its
standard output for replies alone; whatever the libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class WorkerError(RuntimeError):
    """A worker failed, died or took too long; the message says which and why."""


class Session:
    """What a worker does with one contestant: subclasses say how their library does it.

    `compared` and `timed` describe, for the table, what was built and which calls are timed.
    """

    compared: str
    timed: str
    versions: Mapping[str, str]

    def build(self, task: Mapping[str, Any], method: Mapping[str, Any], files: Files) -> None:
        """Makes the network with the weights of `files` and gets ready for the method."""
        raise NotImplementedError

    def outputs(self) -> np.ndarray:
        """The feedforward outputs for the first batch, by the library's own means."""
        raise NotImplementedError

    def steps(self, count: int) -> None:
        """So many training steps, dispatched as the library's own training loop does.

        Returns when the results of the last are there.
        """
        raise NotImplementedError

    def begin(self) -> None:
        """Back to the feedforward pass of the first batch, with everything compiled."""
        raise NotImplementedError

    def relax(self, count: int) -> None:
        """So many more inference steps (0: until the solver is done); returns when they are."""
        raise NotImplementedError

    def activities(self) -> Sequence[np.ndarray]:
        """The hidden activities, one array `(batch, ...)` per node."""
        raise NotImplementedError

    def judge(self, activities: Sequence[np.ndarray]) -> float:
        """The largest relative gradient norm over the examples of the first batch."""
        raise NotImplementedError


class Files:
    """The neutral form of a task: weights, multipliers and batches, as numpy arrays.

    A weight is `(out, in)`, or `(3, 3, in, out)` for a convolution.
    """

    def __init__(self, path: str) -> None:
        with np.load(path) as stored:
            count = len(stored["multipliers"])
            self.weights = [stored[f"weight{index}"] for index in range(count)]
            self.multipliers = [float(scale) for scale in stored["multipliers"]]
            self.inputs, self.targets = stored["inputs"], stored["targets"]


def peak_memory() -> float:
    """Peak resident memory of this process in MiB.

    Linux carries the peak of the process that started this one over into `ru_maxrss`, so there the
    process's own high-water mark is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _device_memory() -> float | None:
    """Peak memory taken on the device in MiB; none where JAX does not count it."""
    import jax

    counts = jax.local_devices()[0].memory_stats() or {}
    peak = counts.get("peak_bytes_in_use")
    return None if peak is None else peak / 2**20


def serve(session: Session) -> None:
    """Answers requests until standard input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = _answer(session, request)
        except Exception as error:
            traceback.print_exc()
            words = str(error).strip().splitlines() or [""]
            reply = {"error": f"{type(error).__name__}: {words[0]}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _answer(session: Session, request: Mapping[str, Any]) -> Mapping[str, Any]:
    match request["do"]:
        case "build":
            before = peak_memory()
            session.build(request["task"], request["method"], Files(request["files"]))
            said = {"compared": session.compared, "timed": session.timed}
            return {**said, "versions": dict(session.versions), "imported_mib": before}
        case "outputs":
            return {"outputs": np.asarray(session.outputs(), float).tolist()}
        case "step":
            count = request["count"]
            return {"seconds": _seconds(lambda: session.steps(count)) / count}
        case "memory":
            return {"peak_mib": peak_memory(), "device_mib": _device_memory()}
        case "begin":
            session.begin()
            return {}
        case "relax":
            return {"seconds": _seconds(lambda: session.relax(request["count"]))}
        case "activities":
            np.savez(request["path"], *session.activities())
            return {}
        case "judge":
            with np.load(request["path"]) as stored:
                arrays = [stored[f"arr_{index}"] for index in range(len(stored.files))]
            return {"unsettled": float(session.judge(arrays))}
    raise ValueError(f"unknown request {request['do']!r}")


def _seconds(call: Any) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


class Worker:
    """The driver's end: a worker process in a library's environment."""

    def __init__(self, python: Path, script: Path, log: Path, variables: Mapping[str, str]) -> None:
        self._log = log
        # A first step is only that if nothing was compiled in an earlier run.
        # On an accelerator several processes share its memory.
        own = {
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            **variables,
        }
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [python, script], **pipes, stderr=errors, env={**os.environ, **own}
            )
        self._pending = b""

    def ask(self, do: str, *, timeout: float = 300, **fields: Any) -> Any:
        """The reply to a request; `WorkerError` if it fails or does not come in time."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(f"the worker is gone ({self._last_words()})") from None
        reply = json.loads(self._line(do, timeout))
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def _line(self, do: str, timeout: float) -> bytes:
        assert self._process.stdout is not None
        stream, until = self._process.stdout.fileno(), time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = until - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise WorkerError(f"{do}: not done within {timeout:.0f} s")
            part = os.read(stream, 1 << 16)
            if not part:
                raise WorkerError(f"{do}: the worker died ({self._last_words()})")
            self._pending += part
        line, self._pending = self._pending.split(b"\n", 1)
        return line

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line]
        return lines[-1][:200] if lines else "no message"
