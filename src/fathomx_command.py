"""Where the command `fathomx` begins: what can be stopped quietly before the package is there."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Imports the package, which takes seconds, and runs its command line."""
    # Ctrl-C in the middle of an import would print where that import was.
    before = signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    from fathomx.command_line.commands import main as run

    signal.signal(signal.SIGINT, before)
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # What is left is to end, and a second signal would only print where.
        for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)


if __name__ == "__main__":
    main()
