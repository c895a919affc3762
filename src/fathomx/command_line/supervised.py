"""A process of several that is watched over by another one, `fathomx_supervision`."""

from __future__ import annotations

import io
import os
import sys
import threading
import time

import jax

from fathomx_supervision import SUPERVISED

_CHANNEL = 0
# Others that make the same mistake say so before they find this process gone.
_GRACE = 3.0


def begin() -> None:
    """Where this process is supervised, it ends with its supervisor, and alone prints to stdout.

    What the runtime's libraries print there, such as how many peers they are connected to, goes
    nowhere.
    """
    if SUPERVISED not in os.environ:
        return
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    own = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    sys.stdout = io.TextIOWrapper(own, line_buffering=own.isatty())


def last_words(text: str) -> None:
    """What is to be said if the runtime ends this process from now on."""
    if SUPERVISED in os.environ:
        os.write(_CHANNEL, f"{text}\n".encode())


def leave(code: int) -> None:
    """Ends a process of several that failed or was stopped, at once, so that others notice.

    One that is through, and one alone, ends as programs do.
    """
    if not jax.distributed.is_initialized():
        return
    if code == 0:
        jax.distributed.shutdown()
        return
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(_GRACE)
    os._exit(code)


def _end_with_supervisor() -> None:
    while os.read(_CHANNEL, 1):
        pass
    os._exit(1)
