"""Encoded images with their labels, in files of their own or in parquet shards."""

from __future__ import annotations

import abc
import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fathomx.data._files import DataError, read_bytes

# Examples among which those of shards are shuffled, as whole row groups.
_WINDOW = 1024


@contextlib.contextmanager
def shard(path: str) -> Iterator[Any]:
    """An open parquet file; `DataError` for one that is not whole, also while it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except DataError:
        # What is wrong with rows of a whole file is said by who reads them.
        raise
    except (pa.ArrowException, OSError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"the file {path} is not a whole parquet file ({why}): put a whole copy in its place."
        ) from None


class Records(abc.ABC):
    """Encoded images and the class number of each, which can be read at any place.

    **Attributes**: `labels`, int32 `(n,)`.
    """

    labels: NDArray[np.int32]

    @abc.abstractmethod
    def read(self, place: int) -> bytes:
        """The encoded image at a place."""

    @abc.abstractmethod
    def title(self, place: int) -> str:
        """What messages call the image at a place."""

    @abc.abstractmethod
    def order(self, places: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
        """These places in a random order in which they can be read well."""

    @abc.abstractmethod
    def described(self) -> list[str]:
        """What tells these files from others, without reading all that is in them."""


class FileRecords(Records):
    """Images in files of their own: their paths inside a folder."""

    def __init__(self, folder: str, names: Sequence[str], labels: Sequence[int]) -> None:
        self.folder, self.names = folder, tuple(names)
        self.labels = np.asarray(labels, np.int32)

    def read(self, place: int) -> bytes:
        return read_bytes(os.path.join(self.folder, self.names[place]))

    def title(self, place: int) -> str:
        return f"the image {self.names[place]} in {self.folder}"

    def order(self, places: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
        return random.permutation(places)

    def described(self) -> list[str]:
        return [f"{n} {k}" for n, k in zip(self.names, self.labels.tolist(), strict=True)]


class Group(NamedTuple):
    """A row group of a parquet file, and the place of its first row among all."""

    file: str
    number: int
    begin: int


class ShardRecords(Records):
    """Images in parquet files, in a column of structs with the field `bytes`.

    A row group is read at once, so an order takes some at a time, at random, and shuffles what is
    in them; as many as were taken together are kept.
    """

    def __init__(
        self, folder: str, column: str, groups: Sequence[Group], labels: NDArray[np.int32]
    ) -> None:
        self.folder, self.column, self.labels = folder, column, labels
        self.groups = tuple(groups)
        begins = [group.begin for group in groups]
        self._begins = np.array(begins)
        sizes = np.diff([*begins, len(labels)])
        # Those of a window, however many it takes to fill it, and the first of the next.
        self._kept = 2 + int(np.searchsorted(np.cumsum(np.sort(sizes)), _WINDOW))
        self._recent: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, place: int) -> bytes:
        number = self._group_of(place)
        content = self._group(number)[place - self.groups[number].begin].as_py()
        if content is None:
            raise DataError(f"{self.title(place)} is missing: leave out the row.")
        return bytes(content)

    def title(self, place: int) -> str:
        group = self.groups[self._group_of(place)]
        first = next(g.begin for g in self.groups if g.file == group.file)
        return f"the image of row {place - first} of {os.path.join(self.folder, group.file)}"

    def order(self, places: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
        group = np.searchsorted(self._begins, places, side="right") - 1
        drawn = random.permutation(len(self.groups))
        sizes = np.bincount(group, minlength=len(self.groups))[drawn]
        window = np.empty(len(self.groups), int)
        # A window is full with the group that brings it to its size.
        window[drawn] = (np.cumsum(sizes) - sizes) // _WINDOW
        return places[np.lexsort((random.random(len(places)), window[group]))]

    def described(self) -> list[str]:
        return [*map(str, self.groups), str(self.labels.tolist())]

    def _group_of(self, place: int) -> int:
        return int(np.searchsorted(self._begins, place, side="right")) - 1

    def _group(self, number: int) -> Any:
        """The encoded images of a row group."""
        with self._lock:
            found = self._recent.pop(number, None)
            if found is None:
                found = self._read(self.groups[number])
            self._recent[number] = found
            if len(self._recent) > self._kept:
                self._recent.popitem(last=False)
            return found

    def _read(self, group: Group) -> Any:
        with shard(os.path.join(self.folder, group.file)) as file:
            read = file.read_row_group(group.number, columns=[f"{self.column}.bytes"])
        return read.column(0).combine_chunks().field("bytes")

    def __getstate__(self) -> dict[str, Any]:
        """Without what was read, for another process."""
        return {**self.__dict__, "_recent": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
