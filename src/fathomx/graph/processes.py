"""Processes that compute together, each with devices of its own (`jax.distributed`)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

# Of what a process tells the others, as much as goes out at once; longer texts take a second turn.
_HEAD, _LENGTH = 56, 8
# What collectives and JAX's coordination service say when another process is gone.
_GONE = re.compile(
    r"gloo|nccl|coordination|unavailable|deadline.exceeded|socket closed|heartbeat|barrier"
    r"|connection (reset|closed|refused)",
    re.IGNORECASE,
)


class ProcessError(RuntimeError):
    """Processes that compute together are not alike, or one of them is gone."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes of a run, and which of them this one is.

    All run the same program and call the methods below in the same order; each call waits for the
    others. One process is alone: what it tells it is told.

    **Fields**: `index`, from 0 on; `count`.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Processes:
        """Those that `jax.distributed.initialize` has brought together, or this one alone."""
        if not jax.distributed.is_initialized():
            return cls()
        return cls(jax.process_index(), jax.process_count())

    @classmethod
    def of(cls, devices: Sequence[jax.Device]) -> Processes:
        """Those that devices belong to; `ValueError` for some of several, but not one."""
        found = {device.process_index for device in devices}
        if found <= {jax.process_index()}:
            return cls()
        if found != set(range(jax.process_count())):
            raise ValueError(
                f"the devices belong to processes {sorted(found)} of {jax.process_count()}; take "
                "devices of every process, or of this one alone (jax.local_devices())."
            )
        return cls.here()

    @property
    def writes(self) -> bool:
        """Whether this process prints and writes for all: the first."""
        return self.index == 0

    def told(self, value: Any) -> list[Any]:
        """What each process tells the others, plain values as JSON has them, in their order."""
        if self.count == 1:
            return [value]
        with self.watched():
            return [json.loads(content) for content in _exchanged(json.dumps(value).encode())]

    def agreed(self, value: Any) -> Any:
        """The value of the first process."""
        return self.told(value if self.writes else None)[0]

    def first(self, make: Callable[[], Any]) -> Any:
        """What a function returns that the first process alone calls, a plain value.

        What it raises there is raised there, and a `ProcessError` in the others.
        """
        made, error = None, None
        if self.writes:
            try:
                made = make()
            except Exception as raised:
                error = raised
        told, message = self.agreed((made, error and str(error)))
        if error is not None:
            raise error
        if message is not None:
            raise ProcessError(f"process 0: {message}")
        return told

    def check_alike(self, named: Mapping[str, Any], remedy: str) -> None:
        """Raises `ProcessError`, the same in all, if values by name are not those of the first."""
        first, *others = self.told(dict(named))
        for index, other in enumerate(others, 1):
            differing = sorted(k for k in {**first, **other} if first.get(k) != other.get(k))
            if differing:
                changes = ", ".join(f"{k} {first.get(k)} and {other.get(k)}" for k in differing)
                raise ProcessError(f"processes 0 and {index} differ: {changes}; {remedy}.")

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """What the body raises because another process is gone becomes one `ProcessError`."""
        try:
            yield
        except ProcessError:
            raise
        except (RuntimeError, ValueError) as error:
            if self.count == 1 or not _GONE.search(str(error)):
                raise
            raise ProcessError(gone(self.count)) from error


def gone(count: int | None = None) -> str:
    """That another process is gone, and what to do."""
    of = "" if count is None else f" of {count}"
    return (
        f"another process{of} has ended or does not answer, so that this one has ended, too; see "
        "what that one says, and continue the run with --resume in all of them."
    )


def _exchanged(content: bytes) -> list[bytes]:
    """What every process has to say."""
    # Imports much that one process never needs.
    from jax.experimental.multihost_utils import process_allgather

    head = np.zeros(_LENGTH + _HEAD, np.uint8)
    head[:_LENGTH] = np.frombuffer(np.int64(len(content)).tobytes(), np.uint8)
    begin = content[:_HEAD]
    head[_LENGTH : _LENGTH + len(begin)] = np.frombuffer(begin, np.uint8)
    heads = np.asarray(process_allgather(head))
    lengths = np.ascontiguousarray(heads[:, :_LENGTH]).view(np.int64)[:, 0].tolist()
    rows = heads[:, _LENGTH:]
    if max(lengths) > _HEAD:
        # Few sizes, so that few programs are compiled.
        whole = np.zeros(1 << max(lengths).bit_length(), np.uint8)
        whole[: len(content)] = np.frombuffer(content, np.uint8)
        rows = np.asarray(process_allgather(whole))
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]
