"""What stands over one process of `fathomx train --distributed` and says why it ended.

When another process is gone, JAX's runtime ends this one from within, with a trace of addresses
and no word of Python's. So the work is done in a process of its own, and this one, which imports
nothing of the package, hands on signals and what is printed, and has the last word.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading

# Set where the work is done; its standard input is the way to this process.
SUPERVISED = "FATHOMX_SUPERVISED"
_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
# How the runtime begins to say that it ends the process.
_FATAL = re.compile(rb"F\d{4} \d\d:")


def supervise(command: list[str]) -> int:
    """Runs a command in a process of its own; the exit code to end with."""
    here, there = socket.socketpair()
    worker = subprocess.Popen(
        command,
        stdin=there.fileno(),
        stderr=subprocess.PIPE,
        env={**os.environ, SUPERVISED: "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        # Ctrl-C in a terminal reaches this process alone, which hands it on.
        start_new_session=True,
    )
    there.close()
    for name in _SIGNALS:
        if hasattr(signal, name):
            number = getattr(signal, name)
            signal.signal(number, lambda received, frame: worker.send_signal(received))
    said: list[bytes] = []
    listening = threading.Thread(target=_listen, args=(here, said), daemon=True)
    listening.start()
    mistaken = _hand_on(worker)
    code = worker.wait()
    listening.join()
    if code >= 0:
        return code
    if not mistaken:
        print(f"error: {_last_words(code, said)}", file=sys.stderr, flush=True)
    return 1 if -code == signal.SIGABRT else 128 - code


def _listen(here: socket.socket, said: list[bytes]) -> None:
    """What the worker would have said if it is ended, the latest last."""
    with here.makefile("rb") as lines:
        said.extend(lines)


def _hand_on(worker: subprocess.Popen[bytes]) -> bool:
    """What the worker prints on stderr, but for the runtime's end; whether it told a mistake."""
    assert worker.stderr is not None
    mistaken = fatal = False
    for line in worker.stderr:
        fatal = fatal or bool(_FATAL.match(line))
        if not fatal:
            mistaken = mistaken or line.startswith(b"error: ")
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
    return mistaken


def _last_words(code: int, said: list[bytes]) -> str:
    if -code == signal.SIGABRT and said:
        return said[-1].decode().strip()
    return (
        f"this process was ended by {signal.Signals(-code).name}; continue the run with --resume."
    )
