"""What training steps are fed with: all data at once, or chunks of a stream that are read ahead."""

from __future__ import annotations

import abc
import copy
import dataclasses
import hashlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from fathomx.data import Dataset, Stream
from fathomx.data._sources import Chunk, ChunkSize, Position
from fathomx.graph.mesh import Mesh
from fathomx.graph.network import Network
from fathomx.training.advance import MOST_STEPS
from fathomx.training.observer import Plan, TrainingState
from fathomx.training.task import Task

_MEBIBYTE = 2**20
_PATIENCE = 0.1


@dataclasses.dataclass(frozen=True)
class Load:
    """Examples on the device, and which of them each step takes.

    **Fields**: `arrays` by name; `order`, for each step a row of places in them, or the place of
    its batch where they are batches; `begin`, the first step that is in it, and `end`, the first
    that is not; `places` in the stream after each.
    """

    arrays: dict[str, Array]
    order: Int[Array, "steps *batch"]
    begin: int
    end: int
    places: tuple[bytes | None, ...] = ()

    def place_after(self, step: int) -> bytes | None:
        """The place in the stream before a step, the last that was taken being in this load."""
        return self.places[step - 1 - self.begin] if self.places else None


class Feed(abc.ABC):
    """Gives every step its examples.

    **Attributes**: `first`, the batch that is looked at after every epoch; `place`, where a stream
    begins that keeps its place.
    """

    first: dict[str, Array]
    place: bytes | None = None

    @abc.abstractmethod
    def begin(self, state: TrainingState) -> str | None:
        """Where training begins or goes on; a sentence if something is to be said about it."""

    @abc.abstractmethod
    def load(self, epoch: int, step: int) -> Load:
        """What holds the examples of a step."""

    def again(self) -> Feed:
        """A feed of the same data for another run, which holds no copy of it."""
        raise NotImplementedError(f"a {type(self).__name__} feeds one run")

    def close(self) -> None:
        """Ends what reads ahead, if anything does."""
        return None


def feed(task: Task, network: Network, plan: Plan, mesh: Mesh) -> Feed:
    """The feed that a data set needs; of several processes each puts its own rows on its devices.

    Raises `ProcessError` where these do not begin with the same batch.
    """
    if mesh.processes.count == 1 and not isinstance(task.data, Stream):
        return _InMemory(task, network, plan, mesh)
    found = _Streamed(task, network, plan, mesh)
    mesh.processes.check_alike(
        found.described(), "give all of them the same data, of which each takes its part"
    )
    return found


def _order(key: PRNGKeyArray, epoch: int, size: int) -> Array:
    """The order of the examples in an epoch, the same for a stream of rows as in memory."""
    key = jax.random.fold_in(jax.random.fold_in(key, 0), epoch)
    return jax.random.permutation(key, size)


class _InMemory(Feed):
    """All examples on the device, each epoch in an order of its own."""

    def __init__(self, task: Task, network: Network, plan: Plan, mesh: Mesh) -> None:
        self._arrays = mesh.whole(task.training_arrays(network))
        self._plan = plan
        self._size = len(next(iter(self._arrays.values())))
        self.first = {k: array[: plan.batch_size] for k, array in self._arrays.items()}
        self._state: TrainingState | None = None
        self._now: tuple[int, Load] | None = None

    def again(self) -> Feed:
        found = copy.copy(self)
        found._state = found._now = None
        return found

    def begin(self, state: TrainingState) -> str | None:
        self._state = state
        return None

    def load(self, epoch: int, step: int) -> Load:
        if self._now is None or self._now[0] != epoch:
            assert self._state is not None
            steps, batch = self._plan.steps_per_epoch, self._plan.batch_size
            order = _order(self._state.key, epoch, self._size)[: steps * batch]
            self._now = epoch, Load(self._arrays, order.reshape(steps, batch), 0, steps)
        return self._now[1]


class _Streamed(Feed):
    """Chunks of a stream, the next of which is read while the one before is trained on."""

    def __init__(self, task: Task, network: Network, plan: Plan, mesh: Mesh) -> None:
        self._task, self._network, self._plan, self._mesh = task, network, plan, mesh
        self._stream = data = task.data if isinstance(task.data, Stream) else _rows(task.data)
        first = self._stream.first(plan.batch_size)
        task.check_values(network, first, f"the first batch of stream {data.name!r}")
        self.first = task.on_device(network, first)
        self.place = data.train.begin().place
        size = sum(array.nbytes for array in first.values())
        fitting = data.buffer * _MEBIBYTE // max(1, size)
        batch, steps = plan.batch_size, plan.steps_per_epoch
        most = max(1, min(fitting, MOST_STEPS, steps))
        self._size = ChunkSize(batch, steps, most, data.name, mesh.rows)
        self._ahead: _Ahead | None = None
        self._now: tuple[int, Load] | None = None

    def described(self) -> dict[str, Any]:
        """What tells this data from other data: sizes, and a digest of the first batch."""
        digest = hashlib.sha256()
        for array in self.first.values():
            digest.update(np.asarray(array).tobytes())
        return {
            "training examples": getattr(self._stream.train, "size", None),
            "batches in an epoch": self._plan.steps_per_epoch,
            "the first batch": digest.hexdigest()[:8],
        }

    def begin(self, state: TrainingState) -> str | None:
        place = None if state.place is None else np.asarray(state.place).tobytes()
        position = Position(int(state.epoch), int(state.step), place)
        self._ahead = _Ahead(self._loads(self._mesh.gathered(state.key), position))
        if not position.step or not self._stream.train.replays:
            return None
        return (
            f"stream {self._stream.name!r} keeps no place of its own: the first {position.step} "
            f"batches of epoch {position.epoch + 1} are gone through again, and not trained on."
        )

    def load(self, epoch: int, step: int) -> Load:
        while self._now is None or self._now[0] != epoch or step >= self._now[1].end:
            assert self._ahead is not None
            # What has been used may go before the next comes.
            self._now = None
            self._now = self._ahead.next()
        return self._now[1]

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()

    def _loads(self, key: PRNGKeyArray, begin: Position) -> Iterator[tuple[int, Load]]:
        """What is trained on from a position to the end."""
        if begin.epoch >= self._plan.epochs:
            return

        def order(epoch: int, size: int) -> np.ndarray:
            return np.asarray(_order(key, epoch, size))

        for chunk in self._stream.train.chunks(begin, self._size, order):
            yield chunk.begin.epoch, self._loaded(chunk)
            last = chunk.begin.step + chunk.steps == self._plan.steps_per_epoch
            if last and chunk.begin.epoch + 1 == self._plan.epochs:
                return

    def _loaded(self, chunk: Chunk) -> Load:
        epoch, begin, _ = chunk.begin
        end, name = begin + chunk.steps, self._stream.name
        which = f"batches {begin + 1} to {end} of epoch {epoch + 1} of stream {name!r}"
        self._task.check_values(self._network, chunk.arrays, which)
        # One shape, and one program, for all chunks but an incomplete batch.
        most = self._size.most if chunk.batch == self._size.batch else 1
        rows = self._mesh.rows(chunk.batch)
        own = most * (rows.stop - rows.start)
        arrays = {k: _padded(array, own) for k, array in chunk.arrays.items()}
        found = self._task.on_device(self._network, arrays)
        batches = {k: array.reshape(most, -1, *array.shape[1:]) for k, array in found.items()}
        order = self._mesh.whole(jnp.asarray(np.roll(np.arange(most), begin % most)))
        placed = jax.block_until_ready(self._mesh.batches(batches, chunk.batch))
        kept = tuple(chunk.places) if self.place is not None else ()
        return Load(placed, order, begin, end, kept)


def _rows(data: Dataset) -> Stream:
    """The training examples of a data set in memory as a stream, which visits them alike."""
    return Stream(data.arrays("train"), name=data.name)


class _Ahead:
    """A thread that computes what comes next while it is not asked for yet."""

    def __init__(self, found: Iterator[Any]) -> None:
        self._found: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._stopped = threading.Event()
        # A setting of JAX's that may belong to one thread.
        self._float64 = jnp.result_type(float) == np.float64
        self._thread = threading.Thread(target=self._work, args=(found,), daemon=True)
        self._thread.start()

    def next(self) -> Any:
        """The next of what is found; what the thread raised is raised here."""
        kind, value = self._found.get()
        if kind is BaseException:
            raise value
        return value

    def close(self) -> None:
        """Ends the thread, without waiting for what it reads."""
        self._stopped.set()

    def _work(self, found: Iterator[Any]) -> None:
        try:
            with jax.enable_x64(self._float64):
                for value in found:
                    if not self._put((None, value)):
                        return
        except BaseException as error:
            self._put((BaseException, error))

    def _put(self, value: Any) -> bool:
        while not self._stopped.is_set():
            try:
                self._found.put(value, timeout=_PATIENCE)
                return True
            except queue.Full:
                continue
        return False


def _padded(array: np.ndarray, rows: int) -> np.ndarray:
    if len(array) == rows:
        return array
    found = np.zeros((rows, *array.shape[1:]), array.dtype)
    found[: len(array)] = array
    return found
