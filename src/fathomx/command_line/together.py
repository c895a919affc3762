"""`--distributed`: several processes that train one network."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
import importlib.metadata
import os
import socket
import time

import click
import jax

from fathomx.command_line.options import all_of, typed
from fathomx.command_line.supervised import last_words
from fathomx.graph.processes import ProcessError, Processes, gone

# Seconds: until all have come; without a sign of life of a process; at the end.
_JOINING, _SILENT, _ENDING = 60, 30, 60
_VERSIONS = ("fathomx", "jax", "jaxlib")

# The four options, under their names.
distributed_options = all_of(
    click.option(
        "--distributed",
        is_flag=True,
        help="Train in several processes, of which this is one: those of a Slurm, MPI or "
        "Kubernetes job, or of the three options that follow.",
    ),
    click.option(
        "--coordinator",
        metavar="HOST:PORT",
        default=None,
        help="Where process 0 runs, and a port that is free there.",
    ),
    click.option("--processes", type=int, default=None, help="How many processes there are."),
    click.option("--process", type=int, default=None, help="Which one this is, from 0 on."),
)


@dataclasses.dataclass(frozen=True)
class Together:
    """What was given of the options; `ValueError` for what does not go together."""

    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None

    def __post_init__(self) -> None:
        given = {
            f"--{name}": getattr(self, name) for name in ("coordinator", "processes", "process")
        }
        lacking = [name for name, value in given.items() if value is None]
        if len(lacking) == len(given):
            return
        if not self.distributed:
            name = next(name for name, value in given.items() if value is not None)
            raise ValueError(
                f"{name} is for several processes; add --distributed, or leave it out."
            )
        if lacking:
            raise ValueError(
                "--coordinator, --processes and --process belong together; give "
                f"{' and '.join(lacking)}, too."
            )
        assert self.processes is not None and self.process is not None
        if self.processes < 1:
            raise ValueError(f"--processes must be at least 1, not {self.processes}.")
        if not 0 <= self.process < self.processes:
            raise ValueError(
                f"--process is {self.process}, but {self.processes} processes are numbered from 0 "
                f"to {self.processes - 1}."
            )
        self._address()

    @property
    def written(self) -> str:
        """The options as they are typed, after a space each."""
        values = {
            "distributed": self.distributed or None,
            "coordinator": self.coordinator,
            "processes": self.processes,
            "process": self.process,
        }
        return "".join(f" {option}" for option in typed(values))

    def join(self) -> Processes:
        """Waits for the other processes, and returns them; this one alone without `--distributed`.

        Raises `ConnectionError` where they do not find each other, and `ProcessError` where they
        have other versions or other numbers of devices.
        """
        if not self.distributed:
            return Processes()
        if self.coordinator is not None:
            host, port = self._address()
            if self.process == 0:
                check_free(port)
            else:
                reach(host, port, _JOINING)
        last_words(
            f"not all processes had come after {_JOINING} s; start all of them, with the same "
            "--coordinator and --processes."
        )
        # On processors, programs that are computed beside each other would meet those of other
        # processes in another order, and wait for ever.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        try:
            jax.distributed.initialize(
                self.coordinator,
                self.processes,
                self.process,
                cluster_detection_method="deactivate" if self.coordinator else None,
                initialization_timeout=_JOINING,
                heartbeat_timeout_seconds=_SILENT,
                shutdown_timeout_seconds=_ENDING,
            )
        except ValueError:
            if self.coordinator is not None:
                raise
            raise ValueError(
                "--distributed finds no Slurm, MPI or Kubernetes job around this process; start it "
                "from one, or give --coordinator HOST:PORT --processes N --process I."
            ) from None
        except RuntimeError as error:
            why = str(error).strip().splitlines()[0]
            raise ConnectionError(
                f"the processes do not find each other ({why[:120].rstrip('.')}); start all of "
                "them, with the same --coordinator and --processes."
            ) from None
        processes = Processes.here()
        last_words(gone(processes.count))
        devices = collections.Counter(device.process_index for device in jax.devices())
        if len(set(devices.values())) > 1:
            raise ProcessError(
                "processes must have as many devices each, not "
                f"{' and '.join(str(devices[n]) for n in sorted(devices))}; on processors set "
                "JAX_NUM_CPU_DEVICES alike in all."
            )
        versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
        processes.check_alike(versions, "install the same version everywhere")
        return processes

    def _address(self) -> tuple[str, int]:
        assert self.coordinator is not None
        host, colon, port = self.coordinator.rpartition(":")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ValueError(
                f"--coordinator must be a host and a port such as node1:12345, not "
                f"{self.coordinator!r}."
            )
        return host.strip("[]"), int(port)


def check_free(port: int) -> None:
    """Raises `ConnectionError` if processes cannot be listened to at a port of this machine."""
    with socket.socket() as listening:
        # What has just ended is no obstacle.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("", port))
        except OSError as error:
            why = os.strerror(error.errno or errno.EADDRINUSE).lower()
            raise ConnectionError(
                f"port {port} of this machine is not free ({why}); give another one in "
                "--coordinator, the same in all processes."
            ) from None


def reach(host: str, port: int, seconds: float) -> None:
    """Waits until somebody answers; `ConnectionError` if nobody does within so many seconds."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=max(1.0, seconds / 10)).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                why = (error.strerror or str(error)).lower()
                raise ConnectionError(
                    f"the coordinator {host}:{port} does not answer ({why}); start process 0 "
                    "there, and give its address as --coordinator in all processes."
                ) from None
        with contextlib.suppress(InterruptedError):
            time.sleep(min(0.2, seconds))
