"""Images on disk as a source of batches, decoded in other processes while they are trained on."""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx.data._decoding import pixels_of
from fathomx.data._records import Records
from fathomx.data._scale import PixelScale
from fathomx.data._sources import Arrays, Chunk, ChunkSize, Order, Position, Source

# Of the images with which the field standardizes: means and deviations in 0..255.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
# Pixels of a batch that is scored: 500 images of 32 x 32.
_SCORED = 500 * 32**2
# What a worker holds that has not been taken.
_AHEAD = 2
# Grain counts what it is given, and this is more than is ever trained on.
_ENDLESS = 2**31 - 1


@dataclass(frozen=True)
class Decoding:
    """Which part of encoded images is taken, and how many pixels it is scaled to.

    **Fields**: `records`; `size`, height and width; `smallest`, the least part of the area of an
    image that a random crop covers.
    """

    records: Records
    size: int
    smallest: float

    def centers(self, places: Any) -> NDArray[np.uint8]:
        """The centers of images, `(n, size, size, 3)`."""
        return self._stacked(places, lambda place: None)

    def varied(self, places: Any, seed: int, epoch: int) -> NDArray[np.uint8]:
        """Random parts of images, which seed, epoch and the place of an image decide."""
        return self._stacked(places, lambda place: np.random.default_rng((seed, epoch, place)))

    def _stacked(self, places: Any, random: Any) -> NDArray[np.uint8]:
        found = np.empty((len(places), self.size, self.size, 3), np.uint8)
        for row, place in enumerate(np.asarray(places).tolist()):
            content, what = self.records.read(place), self.records.title(place)
            found[row] = pixels_of(content, self.size, what, random(place), self.smallest)
        return found


class Pictures(Source):
    """Examples that are encoded images: random parts to train on, centers to be scored.

    Where training stands is told by epoch and step alone: the seed of the run decides in which
    order images come and which part of each is taken, whatever the number of workers.

    **Fields**

    * `decoding`: where images are and what is made of them.
    * `places`: the examples of this part, as places in the records.
    * `workers`: processes that decode; 0 for threads of this one.
    * `share`: this process's part of every epoch, as its number and how many there are.
    """

    def __init__(
        self,
        decoding: Decoding,
        places: NDArray[Any],
        workers: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.decoding, self.places, self.workers, self.share = decoding, places, workers, share
        self.size = len(places) // share[1]

    @property
    def labels(self) -> NDArray[np.int32]:
        """The class number of every example."""
        return self.decoding.records.labels[self.places]

    @property
    def inputs(self) -> Centers:
        """The images in their order, standardized when they are taken."""
        return Centers(self.decoding, self.places)

    def first(self, batch_size: int) -> Arrays:
        return _scored(self.decoding, self.places[: min(batch_size, self.size)])

    def steps(self, batch_size: int) -> int | None:
        return self.size // batch_size

    def chunks(self, begin: Position, size: ChunkSize, order: Order) -> Iterator[Chunk]:
        # What the seed of the run says, without the seed.
        seed = int(np.random.SeedSequence(order(0, 64).tolist()).generate_state(1)[0])
        epoch, step, _ = begin
        varied = _Varied(self, seed, size, epoch * size.steps + step)
        batches = iter(_ahead(varied, self.workers))
        try:
            while True:
                count = min(size.most, size.steps - step)
                found = [self._next(batches, size.name) for _ in range(count)]
                joined = {name: np.concatenate([a[name] for a in found]) for name in found[0]}
                nowhere: list[bytes | None] = [None] * count
                yield Chunk(Position(epoch, step), count, joined, nowhere, size.batch)
                step += count
                if step == size.steps:
                    epoch, step = epoch + 1, 0
        finally:
            _close(batches)

    def once(self, most: int) -> Iterator[Arrays]:
        most = min(most, max(1, _SCORED // self.decoding.size**2))
        batches = iter(_ahead(_InOrder(self, most), 0))
        try:
            yield from batches
        finally:
            _close(batches)

    def taken(self, count: int) -> Pictures:
        """The first so many examples."""
        return Pictures(self.decoding, self.places[:count], self.workers, self.share)

    def epoch(self, seed: int, epoch: int) -> NDArray[Any]:
        """The examples of an epoch in their order, those of this process."""
        random = np.random.default_rng((seed, epoch))
        index, count = self.share
        # Of a batch of all processes, each has rows that alternate.
        return self.decoding.records.order(self.places, random)[index : self.size * count : count]

    def _next(self, batches: Any, name: str) -> Arrays:
        try:
            found: Arrays = next(batches)
            return found
        except RuntimeError as error:
            if "Worker process" not in str(error):
                raise
            raise ValueError(
                f"a process that decodes images of stream {name!r} was ended from outside, maybe "
                f"for want of memory; continue the run, with fewer workers than {self.workers}."
            ) from None


class Centers:
    """Images of a part as an array that decodes what is taken of it: `(n, size, size, 3)`."""

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, decoding: Decoding, places: NDArray[Any]) -> None:
        self._decoding, self._places = decoding, places

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), self._decoding.size, self._decoding.size, 3)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, taken: Any) -> NDArray[np.float32]:
        places = self._places[taken]
        pieces = np.array_split(np.atleast_1d(places), cores())
        with concurrent.futures.ThreadPoolExecutor() as threads:
            found = np.concatenate(list(threads.map(self._decoding.centers, pieces)))
        values = pixel_scale()(found)
        return values if np.ndim(places) else values[0]


@functools.cache
def pixel_scale() -> PixelScale:
    """What standardizes the pixels of a stream of images.

    Source: the means and deviations that PyTorch's models standardize ImageNet's images by.
    """
    return PixelScale.of(_MEAN, _STD)


@dataclass(frozen=True)
class _InOrder:
    """The centers of a part in its order, batch by batch."""

    pictures: Pictures
    batch: int

    def __len__(self) -> int:
        return (len(self.pictures.places) + self.batch - 1) // self.batch

    def __getitem__(self, number: int) -> Arrays:
        begin = int(number) * self.batch
        return _scored(self.pictures.decoding, self.pictures.places[begin : begin + self.batch])


class _Varied:
    """Batches of a run from one on, without end."""

    def __init__(self, pictures: Pictures, seed: int, size: ChunkSize, begin: int) -> None:
        self.pictures, self.seed, self.begin = pictures, seed, begin
        # Worker processes are handed this object: numbers alone.
        self.batch, self.steps, self.own = size.batch, size.steps, size.own(size.batch)
        self._now: tuple[int, NDArray[Any]] | None = None

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, number: int) -> Arrays:
        epoch, step = divmod(self.begin + int(number), self.steps)
        now = self._now
        if now is None or now[0] != epoch:
            # Threads may do this twice, with the same result.
            now = self._now = epoch, self.pictures.epoch(self.seed, epoch)
        places = now[1][step * self.batch : (step + 1) * self.batch][self.own]
        decoding = self.pictures.decoding
        pixels = decoding.varied(places, self.seed, epoch)
        return {"input": pixels, "target": decoding.records.labels[places]}


def _scored(decoding: Decoding, places: NDArray[Any]) -> Arrays:
    return {"input": decoding.centers(places), "target": decoding.records.labels[places]}


def _ahead(batches: Any, workers: int) -> Any:
    """An iterator over batches by number that are made ahead, by processes or by threads."""
    import grain
    from absl import flags

    threads = 0 if workers else cores()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_AHEAD * threads)
    found = grain.MapDataset.source(batches).to_iter_dataset(options)
    if not workers:
        return iter(found)
    if not flags.FLAGS.is_parsed():
        # Grain's processes read them, and this program has no others.
        flags.FLAGS.mark_as_parsed()
    ahead = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_AHEAD)
    return iter(found.mp_prefetch(ahead, worker_init_fn=_begun))


def _close(iterator: Any) -> None:
    """Ends the threads or processes of an iterator; older versions end them with it."""
    getattr(iterator, "close", lambda: None)()


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begun(number: int, count: int) -> None:
    """What a worker does first."""
    # Ctrl-C reaches all processes of a terminal; the one that trains ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # What is odd about a file's notes, of which its image is independent.
    warnings.filterwarnings("ignore", module="PIL")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
