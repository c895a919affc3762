"""Where the batches of a stream come from."""

from __future__ import annotations

import abc
import concurrent.futures
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import Count, gate
from fathomx.data import _forms as forms
from fathomx.data._mapped import row_reader
from fathomx.data._parts import named_array, named_arrays

Arrays = dict[str, NDArray[Any]]
# Batches beyond which a data set repeats without end.
_ENDLESS = 2**31
# The arrays of a pair, and of a pair with weights.
_OF_TUPLES = ("input", "target", "weights")


class Position(NamedTuple):
    """Where in a stream training stands: the next epoch and step, and what the source said there.

    `place` is what a source that keeps a place of its own needs to go on; `None` for others.
    """

    epoch: int
    step: int
    place: bytes | None = None


class Chunk(NamedTuple):
    """Some batches in a row: how many, their examples, and the places after each.

    `batch` examples are in each of them, of which `arrays` hold those of this process.
    """

    begin: Position
    steps: int
    arrays: Arrays
    places: list[bytes | None]
    batch: int


class Source(abc.ABC):
    """Batches of a part of the data, from any position on.

    **Attributes**: `replays`, whether to go on within an epoch means to go through its beginning.
    """

    replays = False

    @abc.abstractmethod
    def first(self, batch_size: int) -> Arrays:
        """The batch that is looked at before training, and after every epoch."""

    @abc.abstractmethod
    def steps(self, batch_size: int) -> int | None:
        """Batches in an epoch, `None` if the source does not know."""

    @abc.abstractmethod
    def chunks(self, begin: Position, size: ChunkSize, order: Order) -> Iterator[Chunk]:
        """Batches from a position on, for ever."""

    @abc.abstractmethod
    def once(self, most: int) -> Iterator[Arrays]:
        """All examples in order, in batches of at most so many where the source lets choose."""

    def begin(self) -> Position:
        """Where training begins."""
        return Position(0, 0)


def _all_rows(size: int) -> slice:
    return slice(0, size)


class ChunkSize(NamedTuple):
    """Examples in a batch, batches in an epoch, most batches in a chunk; for messages, of what.

    `own(size)` are the rows of a batch of `size` examples that this process takes: all, unless
    several processes share the batches.
    """

    batch: int
    steps: int
    most: int
    name: str
    own: Callable[[int], slice] = _all_rows


Order = Callable[[int, int], NDArray[Any]]


@gate
class Rows(Source):
    """Examples that can be taken in any order: arrays, memory maps, Hugging Face data sets.

    Of memory maps and of data sets on disk, only the rows of the batches that come next are read.
    Where training stands is told by epoch and step alone: the order of an epoch is drawn from the
    seed of the run, the same that a `Dataset` is visited in.

    **Arguments**

    * `part`: a pair, a pair with weights, arrays by name, a data frame or a Hugging Face data set,
      as for a `Dataset`.
    * `shuffle`: a new order in every epoch, or always that of the rows.
    * `incomplete`: whether an epoch ends with a smaller batch where the batch size leaves a rest,
      which is left out otherwise. Its mean is over the examples that it holds, and a step of
      another size is one more program to compile.
    * `workers`: threads that read rows at the same time, at least 1.

    Raises `TypeError` and `ValueError` for what is not such a part.

    ```python
    x = np.load("inputs.npy", mmap_mode="r")
    data = fx.data.Stream(fx.data.Rows((x, y), incomplete=True, workers=4))
    ```
    """

    def __init__(
        self, part: Any, *, shuffle: bool = True, incomplete: bool = False, workers: Count = 1
    ) -> None:
        self._table = part if forms.is_on_disk(part) else None
        self._arrays = {} if self._table is not None else _arrays_of(part)
        self.shuffle, self.incomplete, self.workers = shuffle, incomplete, workers
        sizes = {name: len(array) for name, array in self._arrays.items()}
        if self._table is not None:
            sizes = {"the data set": len(self._table)}
        if len(set(sizes.values())) != 1 or 0 in sizes.values():
            raise ValueError(
                f"there are unlike or no numbers of examples, {sizes}; give every array one row "
                "for each example."
            )
        self.size = next(iter(sizes.values()))

    def take(self, places: Any) -> Arrays:
        """The examples at these places, by name: floating-point numbers as float32."""
        places = np.asarray(places)
        if self.workers == 1 or len(places) < self.workers:
            return self._taken(places)
        pieces = np.array_split(places, self.workers)
        with concurrent.futures.ThreadPoolExecutor(self.workers) as threads:
            found = list(threads.map(self._taken, pieces))
        return {name: np.concatenate([piece[name] for piece in found]) for name in found[0]}

    def first(self, batch_size: int) -> Arrays:
        return self.take(np.arange(min(batch_size, self.size)))

    def steps(self, batch_size: int) -> int | None:
        whole, rest = divmod(self.size, batch_size)
        return whole + bool(rest and self.incomplete)

    def chunks(self, begin: Position, size: ChunkSize, order: Order) -> Iterator[Chunk]:
        epoch, step = begin.epoch, begin.step
        while True:
            places = order(epoch, self.size) if self.shuffle else np.arange(self.size)
            whole = min(size.steps, self.size // size.batch)
            while step < size.steps:
                # An incomplete batch has a shape of its own.
                count = min(size.most, whole - step) if step < whole else 1
                rows = places[step * size.batch : (step + count) * size.batch]
                batch = len(rows) // count
                own = rows.reshape(count, batch)[:, size.own(batch)].ravel()
                nowhere: list[bytes | None] = [None] * count
                yield Chunk(Position(epoch, step), count, self.take(own), nowhere, batch)
                step += count
            epoch, step = epoch + 1, 0

    def once(self, most: int) -> Iterator[Arrays]:
        for begin in range(0, self.size, most):
            yield self.take(np.arange(begin, min(begin + most, self.size)))

    def _taken(self, places: NDArray[Any]) -> Arrays:
        if self._table is not None:
            return named_arrays(forms.rows(self._table, places))
        return {name: named_array(name, array[places]) for name, array in self._arrays.items()}


class Batches(Source):
    """Whatever iterates over batches: pairs, pairs with weights, or arrays by name.

    An iterator that can tell its state (`get_state`, `set_state`, as Grain's) goes through epochs
    without beginning anew, and is set to its state where training goes on. Others begin anew in
    every epoch, and go through the beginning of the epoch again.

    **Arguments**: `batches`, an iterable, or a function from the number of an epoch to one.
    """

    def __init__(self, batches: Any) -> None:
        if not callable(batches) and iter(batches) is batches:
            raise ValueError(
                f"{checks.shown(batches)} can be gone through only once; give what begins anew "
                "with every iter(...), or a function from the number of the epoch to batches, such "
                "as lambda epoch: read(epoch)."
            )
        self._batches = batches
        self._is_function = callable(batches) and not hasattr(batches, "__iter__")
        self._length = None if self._is_function else _length(batches)
        iterator = self._iterator(0)
        self._keeps_place = hasattr(iterator, "get_state") and hasattr(iterator, "set_state")
        self._begun = self._place(iterator)
        self.replays = not self._keeps_place
        try:
            self._first = _batch_arrays(next(iterator))
        except StopIteration:
            raise ValueError("there are no batches; give at least one.") from None
        # Grain's has threads or processes of its own.
        getattr(iterator, "close", lambda: None)()
        self.form = _Form.of(self._first)

    def first(self, batch_size: int) -> Arrays:
        return self._first

    def steps(self, batch_size: int) -> int | None:
        return self._length

    def begin(self) -> Position:
        return Position(0, 0, self._begun)

    def chunks(self, begin: Position, size: ChunkSize, order: Order) -> Iterator[Chunk]:
        found: list[tuple[Position, Arrays, bytes | None]] = []

        def chunk() -> Chunk:
            places, arrays = [place for _, _, place in found], [arrays for _, arrays, _ in found]
            batch = _size(arrays[0])
            own = size.own(batch)
            joined = {name: np.concatenate([a[name][own] for a in arrays]) for name in arrays[0]}
            return Chunk(found[0][0], len(found), joined, places, batch)

        for position, arrays, place in self._from(begin, size):
            incomplete = _size(arrays) < size.batch
            if found and (incomplete or position.step == 0 or len(found) == size.most):
                yield chunk()
                found.clear()
            found.append((position, arrays, place))
            if incomplete or position.step == size.steps - 1:
                yield chunk()
                found.clear()

    def once(self, most: int) -> Iterator[Arrays]:
        if self._endless:
            raise ValueError(
                "a part that is scored must end, but this one repeats without end; leave out its "
                "repeat()."
            )
        for batch in self._batches(0) if self._is_function else self._batches:
            yield _batch_arrays(batch)

    @property
    def _endless(self) -> bool:
        return self._length is not None and self._length >= _ENDLESS

    def _iterator(self, epoch: int) -> Iterator[Any]:
        if self._is_function:
            return iter(self._batches(epoch))
        # A Grain data set with random access: its iterator tells its state.
        if hasattr(self._batches, "to_iter_dataset"):
            endless = self._batches if self._endless else self._batches.repeat()
            return iter(endless.to_iter_dataset())
        return iter(self._batches)

    def _place(self, iterator: Any) -> bytes | None:
        if not self._keeps_place:
            return None
        state = iterator.get_state()
        if isinstance(state, bytes):
            return state
        return json.dumps(state, default=lambda value: value.tolist()).encode()

    def _restored(self, begin: Position, name: str) -> Iterator[Any]:
        iterator: Any = self._iterator(begin.epoch)
        if not self._keeps_place:
            return iterator
        assert begin.place is not None
        as_bytes = isinstance(iterator.get_state(), bytes)
        # What a library makes of the state of another pipeline is not foreseeable.
        try:
            iterator.set_state(begin.place if as_bytes else json.loads(begin.place))
        except Exception as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ValueError(
                f"stream {name!r} cannot go on where the run was stopped ({why}); give the stream "
                "that the run was begun with, of a data source whose repr() is always the same."
            ) from None
        return iterator

    def _from(
        self, begin: Position, size: ChunkSize
    ) -> Iterator[tuple[Position, Arrays, bytes | None]]:
        iterator, (epoch, step, _) = self._restored(begin, size.name), begin
        if not self._keeps_place:
            for skipped in range(step):
                self._next(iterator, epoch, skipped, size)
        while True:
            while step < size.steps:
                batch = self._next(iterator, epoch, step, size)
                if batch is None:
                    iterator = self._iterator(epoch)
                    batch = self._next(iterator, epoch, step, size, begun=True)
                arrays = self.form.checked(batch, epoch, step, size)
                yield Position(epoch, step), arrays, self._place(iterator)
                step += 1
            epoch, step = epoch + 1, 0
            if not self._keeps_place:
                iterator = self._iterator(epoch)

    def _next(
        self, iterator: Iterator[Any], epoch: int, step: int, size: ChunkSize, begun: bool = False
    ) -> Any:
        """The next batch; `None` at the end of an iterator that may begin anew here."""
        try:
            return next(iterator)
        except StopIteration:
            if step == 0 and self._keeps_place and not begun:
                return None
            raise ValueError(
                f"stream {size.name!r} ended early: there is no batch for step {step + 1} of "
                f"{size.steps} in epoch {epoch + 1}; give steps={max(1, step)}, or more batches."
            ) from None


class _Form(NamedTuple):
    """What all batches of a stream must look like: shapes and kinds by name, and their size."""

    size: int
    kinds: dict[str, tuple[tuple[int, ...], str]]

    @classmethod
    def of(cls, arrays: Arrays) -> _Form:
        kinds = {name: (array.shape[1:], array.dtype.name) for name, array in arrays.items()}
        return cls(_size(arrays), kinds)

    def checked(self, batch: Any, epoch: int, step: int, size: ChunkSize) -> Arrays:
        where = f"step {step + 1} of epoch {epoch + 1} of stream {size.name!r}"
        try:
            arrays = _batch_arrays(batch)
        except (TypeError, ValueError) as error:
            raise type(error)(f"in {where}, {error}") from None
        found, last = _Form.of(arrays), step == size.steps - 1
        if found.kinds != self.kinds:
            raise ValueError(
                f"{where} was given {found}, but the first batch held {self}; give all batches "
                "the names, shapes and types of the first."
            )
        if found.size != self.size and not (last and found.size < self.size):
            raise ValueError(
                f"{where} was given {found.size} examples, but the first batch held {self.size}; "
                "give all batches one size, as with drop_remainder=True (only the last batch of an "
                "epoch may be smaller)."
            )
        return arrays

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {kind}{list(shape)}" for name, (shape, kind) in self.kinds.items()
        )


def source(part: Any) -> Source:
    """The source that a part of a stream is: as it is, of rows, or of batches."""
    if isinstance(part, Source):
        return part
    if isinstance(part, Mapping | tuple) or forms.is_on_disk(part) or forms.is_table(part):
        return Rows(part)
    if callable(part) or hasattr(part, "__iter__"):
        return Batches(part)
    raise TypeError(
        "a part of a stream must be arrays (a pair, or by name), a Hugging Face data set, a Grain "
        f"data set or whatever iterates over batches, not {checks.shown(part)}."
    )


def _arrays_of(part: Any) -> dict[str, Any]:
    """What rows are taken from, by name."""
    if forms.is_table(part):
        return forms.columns(part)
    if isinstance(part, Mapping):
        named = checks.mapping("the arrays", part, "{'image': x}")
    elif isinstance(part, tuple | list) and len(part) in (2, 3):
        named = dict(zip(_OF_TUPLES, part, strict=False))
    else:
        raise TypeError(
            "the rows must be a pair such as (x, y), arrays by name such as {'image': x}, or a "
            f"Hugging Face data set, not {checks.shown(part)}."
        )
    return {name: row_reader(_array(name, value)) for name, value in named.items()}


def _array(name: str, value: Any) -> NDArray[Any]:
    found: NDArray[Any] = forms.values(name, value)
    if not found.ndim:
        raise ValueError(f"{name} is one number; give an array with a row for each example.")
    return found


def _batch_arrays(batch: Any) -> Arrays:
    """One batch by name."""
    if isinstance(batch, tuple | list) and len(batch) in (2, 3):
        batch = dict(zip(_OF_TUPLES, batch, strict=False))
    if not isinstance(batch, Mapping) and not forms.is_table(batch):
        raise TypeError(
            "a batch must be a pair such as (x, y) or arrays by name such as {'image': x}, not "
            f"{checks.shown(batch)}; end a Grain data set with .batch(64)."
        )
    return named_arrays(batch)


def _size(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def _length(batches: Any) -> int | None:
    try:
        return len(batches)
    except TypeError:
        return None
