"""What stops a command, and what must not: signals do, a console that takes no more does not."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fathomx.training.signals import STOPPING


class Stopped(KeyboardInterrupt):
    """A run is to stop as at Ctrl-C, because of another signal; `code` is the exit code."""

    code = 128 + signal.SIGTERM


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """What batch systems send before they take a machine away stops a run as Ctrl-C does.

    SIGTERM and, where it exists, SIGUSR1: the run is saved, says how to continue it, and the exit
    code is 143.
    """

    def stop(number: int, frame: object) -> None:
        raise Stopped

    numbers = [number for number in STOPPING if number != signal.SIGINT]
    before = {number: signal.signal(number, stop) for number in numbers}
    hook = sys.unraisablehook
    sys.unraisablehook = _again_when_lost(hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _again_when_lost(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """A signal that met a callback of the interpreter, which drops exceptions, comes again."""

    def drop(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)
            return
        number = signal.SIGTERM if isinstance(unraisable.exc_value, Stopped) else signal.SIGINT
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    return drop


def never_ended_by_printing() -> None:
    """From now on, what cannot be printed does not end the program.

    Characters that the console does not have are replaced. Where the output is full or gone, the
    program says so once, on stderr, and goes on without it.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")
            setattr(sys, name, _Forgiving(stream))


class _Forgiving:
    """A stream that is written to while that is possible."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """What is written from now on, and what waits to be written, goes nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if self._stream is sys.__stdout__ and not isinstance(error, BrokenPipeError):
            print(f"stdout cannot be written ({error.strerror}); going on.", file=sys.stderr)
