"""Signals that stop a run, held back while something must be written as a whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

# Ctrl-C, and what batch systems send before they take a machine away.
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """What stops a run waits until the end of the body, and acts then as it would have.

    Signals can only be handled in the main thread; elsewhere nothing is held back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []
    before = {
        number: signal.signal(number, lambda received, frame: noted.append(received))
        for number in STOPPING
        # What a program in another language has set up cannot be put back from here.
        if signal.getsignal(number) is not None
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in noted[:1]:
        signal.raise_signal(number)
