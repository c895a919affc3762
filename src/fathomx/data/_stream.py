"""A data set that is read while it is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

from fathomx import checks
from fathomx.checks import example, open_gate
from fathomx.data._sources import Arrays, Batches, Source, source

_MEBIBYTES = 64


@open_gate
@example("fx.data.Stream((x, y))")
@dataclass(frozen=True, eq=False, repr=False)
class Stream:
    """A data set that is read while it is trained on, such as one larger than memory.

    `fx.fit` takes it in the place of a `Dataset`: a thread reads the batches that come next and
    puts them on the device, in chunks of bounded size, while those before are trained on. A run
    that is killed goes on bit for bit: of what can be taken in any order (`Rows`) epoch and step
    tell where it was; the state of a Grain iterator is part of the checkpoint; of other iterables
    the batches of the epoch so far are gone through again.

    A part is

    * arrays, memory maps, a Hugging Face data set: `Rows(part)`, with a batch size of `fx.fit`'s
      and a new order in every epoch;
    * a Grain data set or data loader that ends with `.batch(...)`, or whatever else iterates over
      batches: pairs, or arrays by name. Size and order of these are theirs. A finite one begins
      anew in the next epoch; what cannot begin anew is refused.

    Every batch has the names, shapes and types of the first, and its size, but for the last of an
    epoch, which may be smaller; its mean is over the examples that it holds. Arrays by name clamp
    the entries of these names, unless `fx.fit` is told otherwise (`pose`); of a pair, `input` and
    `target`.

    **Fields**

    * `train`, `validation`, `test`: the parts; `None` for one that there is not. The last two are
      gone through once, in order, whenever they are scored, and must end.
    * `steps`: batches in an epoch, for what does not know its length; `None` where it does, or to
      use all.
    * `name`: what messages call the stream.
    * `buffer`: mebibytes of examples in a chunk, at most; up to three are in memory at a time.

    Raises `TypeError` for a part that is nothing of this, and `ValueError` for one without
    examples, or without a number of steps.

    ```python
    x = np.load("inputs.npy", mmap_mode="r")
    fx.fit(network, fx.data.Stream((x, y), validation=(x_val, y_val)))
    batches = grain.MapDataset.source(examples).seed(0).shuffle().batch(64, drop_remainder=True)
    fx.fit(network, fx.data.Stream(batches))
    ```
    """

    train: Any
    validation: Any = None
    test: Any = None
    steps: int | None = None
    name: str = "stream"
    buffer: int = _MEBIBYTES

    def __post_init__(self) -> None:
        checks.word("the name of a stream", self.name, "toy")
        checks.count("buffer", self.buffer)
        if self.steps is not None:
            checks.count("steps", self.steps)
        for title in self.titles:
            try:
                object.__setattr__(self, title, source(getattr(self, title)))
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"in the {title} part of stream {self.name!r}, {error}") from None

    @property
    def titles(self) -> tuple[str, ...]:
        """The parts that there are, of `train`, `validation` and `test`."""
        titles = ("train", "validation", "test")
        return tuple(t for t in titles if t == "train" or getattr(self, t) is not None)

    @property
    def augmentation(self) -> None:
        """None: a stream varies its own batches."""
        return None

    @property
    def named(self) -> bool:
        """Whether examples are arrays by name instead of inputs and targets."""
        return not {"input", "target"} <= set(self.first(1))

    def first(self, batch_size: int) -> Arrays:
        """The first batch of the training part, by name: of a pair, `input` and `target`."""
        return self._train.first(batch_size)

    def batch_size(self, asked: int) -> int:
        """Examples in a batch: as many as asked for, or as the batches have."""
        return len(next(iter(self.first(asked).values()))) if self._in_batches else asked

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches in an epoch; `ValueError` if neither the stream nor its source says."""
        known = self._train.steps(batch_size)
        found = known if self.steps is None else self.steps
        if found is None or found >= 2**31:
            raise ValueError(
                f"stream {self.name!r} does not know how many batches an epoch has; give "
                "fx.data.Stream(..., steps=1000)."
            )
        ends = not self._in_batches or self._train.replays
        if ends and known is not None and found > known:
            raise ValueError(
                f"steps is {found}, but stream {self.name!r} has {known} batches of {batch_size} "
                "in an epoch; give at most so many."
            )
        return found

    def standardized(self, arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """A batch on the device as it is computed with: as it is, unless a stream says more."""
        return arrays

    def scored(self, title: str, most: int) -> Iterator[Arrays]:
        """A part in order, in batches of at most so many examples where that can be chosen."""
        part: Source = getattr(self, title)
        return part.once(most)

    def __repr__(self) -> str:
        shapes = {name: array.shape[1:] for name, array in self.first(1).items()}
        return f"Stream({self.name!r}: {', '.join(self.titles)}, arrays {shapes})"

    @property
    def _train(self) -> Source:
        part: Source = self.train
        return part

    @property
    def _in_batches(self) -> bool:
        return isinstance(self.train, Batches)
