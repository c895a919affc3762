"""A limit of time for what runs in this process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TooLong(BaseException):
    """What has not ended in time. No `Exception`, so that nothing but a campaign catches it."""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raises `TooLong` in what is still running after so long."""

    def stop(number: int, frame: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
