"""Signals that stop a run, held back while something must be written as a whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from fathomx.graph.processes import Processes

# Ctrl-C, and what batch systems send before they take a machine away.
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """What stops a run waits until the end of the body, however it ends, and acts then.

    Signals can only be handled in the main thread; elsewhere nothing is held back.
    """
    noted: list[int] = []
    try:
        with _noted() as noted:
            yield
    finally:
        for number in noted[:1]:
            signal.raise_signal(number)


@contextlib.contextmanager
def stopped_together(processes: Processes) -> Iterator[Callable[[], None]]:
    """What stops one of several processes stops all of them, where they next meet.

    Yields a function that all call at the same step: there a signal to one of them acts on each as
    if it had been sent to it. One process alone is stopped at once, as ever.
    """
    if processes.count == 1:
        yield lambda: None
        return
    with contextlib.ExitStack() as noting:
        noted = noting.enter_context(_noted())

        def meet() -> None:
            number = max(processes.told(noted[0] if noted else 0))
            if number:
                noting.close()
                signal.raise_signal(number)

        yield meet
        meet()


@contextlib.contextmanager
def _noted() -> Iterator[list[int]]:
    """Signals that stop a run are noted in the body, where that is possible."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {
        number: signal.signal(number, lambda received, frame: noted.append(received))
        for number in STOPPING
        # What a program in another language has set up cannot be put back from here.
        if signal.getsignal(number) is not None
    }
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
