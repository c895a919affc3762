"""Images in the layout of ImageNet, read while they are trained on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import CountOrZero, PartOfOne, Seed, example, open_gate
from fathomx.data._dataset import Dataset
from fathomx.data._files import DataError
from fathomx.data._folder import ANNOTATIONS, Files, annotated, labeled_by, of_classes, opened
from fathomx.data._parquet import require_decoders
from fathomx.data._pictures import Decoding, Pictures, cores, pixel_scale
from fathomx.data._preparation import Preparation
from fathomx.data._records import FileRecords, Group, Records, ShardRecords, shard
from fathomx.data._stream import Stream

# The names that folders and shards of the part that is tested have.
_TESTED = ("val", "validation", "valid", "test")
_SUFFIX = ".parquet"
# Columns that images may be in, and labels.
_IMAGES, _LABEL = ("image", "img"), "label"
_LARGEST = 4096
_TENTH = 10
# As float32 on the device, four times as much.
_BUFFER = 16
# More are seldom needed to keep up with what trains.
_MOST_WORKERS = 8


@open_gate
@example('fx.data.imagenet("imagenet", 64)')
@dataclass(frozen=True, eq=False, repr=False)
class ImageStream(Stream):
    """A stream of images in classes, which are decoded while they are trained on.

    What `fx.data.imagenet` makes. Its parts also have `inputs` and `labels`, as those of a
    `Dataset`: labels are an array, inputs decode what is taken of them, the centers of images.
    Batches are bytes of pixels until they are on the device, and there become numbers of order 1:

        (pixel - mean) / std

    with the moments of ImageNet's images, of each channel by itself.

    **Fields**: those of `Stream`; `class_names`, in the order of their numbers.

    Raises `TypeError` for parts that are no images on disk.
    """

    class_names: tuple[str, ...] = ()
    buffer: int = _BUFFER

    def __post_init__(self) -> None:
        super().__post_init__()
        for title in self.titles:
            if not isinstance(getattr(self, title), Pictures):
                raise TypeError(
                    f"the {title} part of stream {self.name!r} holds no images on disk; take the "
                    "parts of what fx.data.imagenet makes."
                )
        names = checks.items("class_names", self.class_names, '("cat", "dog")')
        for name in names:
            checks.word("the name of a class", name, "cat")
        object.__setattr__(self, "class_names", names)

    @property
    def named(self) -> bool:
        """False: a batch is inputs and labels."""
        return False

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def size(self) -> int:
        """Number of training examples, of this process if they are shared."""
        return self._pictures("train").size

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of one input, `(size, size, 3)`."""
        size = self._pictures("train").decoding.size
        return (size, size, 3)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of one image, that of an input."""
        return self.input_shape

    @property
    def preparation(self) -> Preparation:
        """What standardizes pixels, and the names of the classes."""
        return Preparation({"input": pixel_scale()}, class_names=self.class_names)

    def arrays(self, title: str) -> dict[str, Any]:
        """`input` and `target` of a part; inputs decode what is taken of them."""
        if getattr(self, checks.choice("part", title, ("train", "validation", "test"))) is None:
            return {}
        part = self._pictures(title)
        return {"input": part.inputs, "target": part.labels}

    def images(self) -> ImageStream:
        """This stream, as a data set of images is asked for them."""
        return self

    def flat(self) -> ImageStream:
        """Raises `ValueError`: what are images on disk are no vectors."""
        raise ValueError(
            f"{self.name!r} holds images that are read while they are trained on, which networks "
            "of vectors do not take; use a convolutional network, such as fx.models.resnet."
        )

    def take(self, n: int) -> ImageStream:
        """The first `n` training images, and at most `max(1, n // 4)` of each other part.

        The order is random and always the same, so that they are a fair sample. Raises `TypeError`
        and `ValueError` as that of `Dataset`.
        """
        remedy = f"stream {self.name!r} has {self.size} training images"
        count = checks.count("n", n, most=self.size, remedy=remedy)
        sizes = {"train": count, "validation": max(1, count // 4), "test": max(1, count // 4)}
        parts: dict[str, Any] = {t: self._pictures(t).taken(sizes[t]) for t in self.titles}
        return replace(self, **parts)

    def with_parts(self, name: str, parts: Mapping[str, Any]) -> ImageStream:
        """This stream under another name, with other parts, of which some may be `None`."""
        changes: dict[str, Any] = {"name": name, **parts}
        return replace(self, **changes)

    def for_process(self, process_index: int, process_count: int) -> ImageStream:
        """The same stream for one of several processes, each of which trains on its own part.

        All draw the same order for an epoch, of which each takes every `process_count`th image, so
        that batches of `b` in each are together those of `b * process_count` in one process. The
        other parts are whole in every process.

        **Arguments**: those of `jax.process_index()` and `jax.process_count()`. Raises `ValueError`
        for more processes than images, and for an index that is not below the count.
        """
        count = checks.count("process_count", process_count, most=self.size)
        index = checks.count("process_index", process_index, least=0, most=count - 1)
        train = self._pictures("train")
        return replace(
            self, train=Pictures(train.decoding, train.places, train.workers, (index, count))
        )

    def standardized(self, arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """A batch as it is computed with: pixels as numbers of order 1."""
        scale = pixel_scale()
        mean, std = (jnp.asarray(each, jnp.float32) for each in (scale.mean, scale.std))
        return {**arrays, "input": (arrays["input"].astype(jnp.float32) - mean) / std}

    def sha256(self) -> str:
        """A digest of what is read: names and labels of all images, how they are divided, size."""
        found = hashlib.sha256()
        for title in self.titles:
            part = self._pictures(title)
            found.update(f"{title} {part.decoding.size} {self.class_names}\n".encode())
            found.update("\n".join(part.decoding.records.described()).encode())
            found.update(part.places.astype("<i8").tobytes())
        return found.hexdigest()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(self._pictures(t).places)} {t}" for t in self.titles)
        shape = self.input_shape
        return f"ImageStream({self.name!r}: {sizes}, inputs {shape}, {self.classes} classes)"

    def _pictures(self, title: str) -> Pictures:
        found: Pictures = getattr(self, title)
        return found


@open_gate
def imagenet(
    path: str | os.PathLike[str],
    size: int = 224,
    *,
    workers: CountOrZero | None = None,
    smallest: PartOfOne = 0.08,
    seed: Seed = 0,
) -> ImageStream:
    """Images in the layout of ImageNet, as a stream whose images are decoded in worker processes.

    The folder holds one of

        train/CLASS/*.jpg   val/CLASS/*.jpg
        train/CLASS/*.jpg   val/images/*.jpg   val/val_annotations.txt      (as Tiny ImageNet)
        train*.parquet      val*.parquet                                    (as hubs store it)

    with images of any kind that `images` reads, at any depth below the folder of a class. Parquet
    files, which may lie in a folder `data`, have a column `image` (or `img`) of structs with the
    field `bytes`, and integers in `label`; the names of the classes are taken from what the library
    `datasets` writes beside the columns, else classes are called by their numbers.

    What is in `val` (or `validation`, `valid`, `test`) is for test. Validation is a random part of
    the training images, as many as for test, but at most a tenth.

    To train on, a random part of each image is scaled to `size` by `size` pixels, and every second
    one is mirrored: from `smallest` to all of the area, with a ratio of width to height from 3/4 to
    4/3. To be scored, and as the first batch, images are seen as they are: of each the central
    square, of 7/8 of its shorter side (all of it, if that leaves less than `size`). All are in
    color, standardized by the moments of ImageNet.

    The seed of the run decides the order of every epoch and each random part, so that a run which
    is killed goes on bit for bit, with any number of workers. Parquet files are read by row groups:
    their order is random, and images among about a thousand.

    **Arguments**

    * `path`: the folder; `~` is allowed.
    * `size`: height and width, in pixels.
    * `workers`: processes that decode, at most one for each core; 0 to decode by threads of this
      process. All cores but at most 8 unless given. They are started anew by every run; a script
      needs `if __name__ == "__main__":` around what it does.
    * `smallest`: the least part of the area of an image that is trained on, above 0; at 1, and with
      square images, they are only mirrored.
    * `seed`: the same one divides alike.

    Needs `pip install "fathomx[images,streams]"`. Raises `DataError` if the folder cannot be read
    or does not hold that, a class has no images or is in `val` alone, or, while training, an image
    cannot be read (naming it); `ValueError` for a size or workers that are not possible;
    `ImportError` if Grain, Pillow or pyarrow are not installed.

    ```python
    data = fx.data.imagenet("imagenet", 64, workers=2)
    network = fx.models.resnet(18, classes=data.classes, image_shape=data.input_shape, key=key)
    fx.fit(network, data, epochs=10)
    ```
    """
    given = os.path.expanduser(checks.path("path", path, "imagenet"))
    size = checks.count("size", size, most=_LARGEST)
    smallest = checks.number("smallest", smallest, above=0, most=1)
    seed = checks.count("seed", seed, least=0, most=2**32 - 1)
    workers = _checked_workers(workers)
    _require_libraries()
    if not os.path.isdir(given):
        raise DataError(
            f"{given} is not a folder: give the folder that holds train and val, or parquet files "
            "whose names begin so."
        )
    name = os.path.basename(os.path.normpath(given)) or "imagenet"
    with opened(given) as files:
        found = _of_shards(files) if _holds_shards(files) else _of_folders(files)
    random = np.random.default_rng(seed)
    order = found.train.order(np.arange(len(found.train.labels)), random)
    tested = found.test.order(np.arange(len(found.test.labels)), random)
    held_out = min(len(tested), len(order) // _TENTH) or 1
    if len(order) <= held_out:
        raise DataError(
            f"{given} holds {len(order)} training images, of which {held_out} is for validation: "
            "put more into train."
        )
    # Spread over all that is read together, so that order and what is held out are independent.
    validation = np.sort(random.permutation(len(order))[:held_out])
    train, test = (Decoding(r, size, smallest) for r in (found.train, found.test))
    return ImageStream(
        Pictures(train, np.delete(order, validation), workers),
        Pictures(train, order[validation], workers),
        Pictures(test, tested, workers),
        name=name,
        class_names=found.class_names,
    )


# What a run of the command line may train on.
Examples = Dataset | ImageStream


class _Found(NamedTuple):
    """The images of a folder, and what their classes are called."""

    train: Records
    test: Records
    class_names: tuple[str, ...]


def _checked_workers(workers: Any) -> int:
    most = cores()
    if workers is None:
        return min(most, _MOST_WORKERS)
    count = checks.count("workers", workers, least=0)
    if count > most:
        raise ValueError(
            f"workers is {count}, but this process may use {most} cores; give at most {most}, or 0 "
            "to decode in this process."
        )
    return count


def _require_libraries() -> None:
    require_decoders()
    if find_spec("grain") is None:
        raise ImportError(
            "images that are read while they are trained on need Grain, which is not installed: "
            'run `pip install "fathomx[images,streams]"`.'
        )


# Folders.


def _of_folders(files: Files) -> _Found:
    train = of_classes(files, "train")
    if not train:
        raise DataError(
            f"{files.place} holds neither a folder train with a folder of images for each class, "
            "nor files train*.parquet: give the folder around them (`fx.data.images` reads a "
            "folder of classes alone)."
        )
    classes = list(train)
    _check_filled(files.place, classes)
    tested = next((n for n in _TESTED if any(f.startswith(f"{n}/") for f in files.names)), None)
    if tested is None:
        raise DataError(
            f"{files.place} holds no folder {' or '.join(_TESTED)} beside train: put the images "
            "to test on there, in one folder for each class."
        )
    if ANNOTATIONS in files.names:
        labeled = annotated(files, classes)
    else:
        labeled = _tested(files, tested, classes)
    names, labels = zip(*labeled_by(train, classes), strict=True)
    test_names, test_labels = zip(*labeled, strict=True)
    return _Found(
        FileRecords(files.place, names, labels),
        FileRecords(files.place, test_names, test_labels),
        tuple(classes),
    )


def _check_filled(place: str, classes: Sequence[str]) -> None:
    with os.scandir(os.path.join(place, "train")) as entries:
        folders = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    empty = [name for name in folders if name not in set(classes)]
    if empty:
        raise DataError(
            f"the folder train/{empty[0]} in {place} holds no images: put those of its class "
            "there, or delete it."
        )
    if len(classes) < 2:
        raise DataError(
            f"the folder train in {place} holds one class alone, {classes[0]!r}: put the images "
            "of each class into a folder of its own."
        )


def _tested(files: Files, folder: str, classes: list[str]) -> list[tuple[str, int]]:
    found = of_classes(files, folder)
    strange = [name for name in found if name not in set(classes)]
    if strange:
        raise DataError(
            f"the folder {folder} in {files.place} has the class {strange[0]!r}, which train has "
            "not: give both the same folders."
        )
    if not found:
        raise DataError(
            f"the folder {folder} in {files.place} holds no images in folders of classes: put "
            f"those of each class into a folder of its own, or add {ANNOTATIONS}."
        )
    return labeled_by(found, classes)


# Parquet files.


class _Shards(NamedTuple):
    records: ShardRecords
    class_names: tuple[str, ...]


def _holds_shards(files: Files) -> bool:
    return any(name.endswith(_SUFFIX) for name in files.names)


def _of_shards(files: Files) -> _Found:
    found: list[_Shards] = []
    for titles in (("train",), _TESTED):
        named = (
            [f for f in files.names if f.endswith(_SUFFIX) and _base(f).startswith(title)]
            for title in titles
        )
        shards = next((names for names in named if names), None)
        if shards is None:
            raise DataError(
                f"{files.place} holds no parquet file whose name begins with "
                f"{' or '.join(titles)}: put the images of that part there."
            )
        found.append(_shards(files.place, shards))
    train, test = found
    count = int(train.records.labels.max(initial=-1)) + 1
    names = train.class_names or tuple(map(str, range(count)))
    for part in found:
        _check_labels(part.records, len(names))
    if len(names) < 2:
        raise DataError(
            f"the parquet files in {files.place} hold one class alone: give images of at least two."
        )
    return _Found(train.records, test.records, names)


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _shards(place: str, names: Sequence[str]) -> _Shards:
    groups: list[Group] = []
    labels: list[NDArray[Any]] = []
    called: tuple[str, ...] = ()
    begin, column = 0, ""
    for name in names:
        path = os.path.join(place, name)
        with shard(path) as file:
            column = _checked_column(path, file.schema_arrow)
            called = called or _class_names(file.schema_arrow)
            for number in range(file.num_row_groups):
                groups.append(Group(name, number, begin))
                read = file.read_row_group(number, columns=[_LABEL]).column(0)
                if read.null_count:
                    raise DataError(f"the file {path} has rows without a label: leave them out.")
                labels.append(read.to_numpy())
                begin += len(read)
    if not begin:
        raise DataError(f"the file {os.path.join(place, names[0])} holds no rows: give images.")
    groups = [g for g, part in zip(groups, labels, strict=True) if len(part)]
    joined = np.concatenate(labels).astype(np.int64)
    low, high = int(joined.min()), int(joined.max())
    if low < 0 or high >= 2**31 - 1:
        raise DataError(
            f"the parquet files {names[0]} and those beside it in {place} have labels from {low} "
            f"to {high}, expected class numbers from 0 on: leave out images without a class."
        )
    return _Shards(ShardRecords(place, column, groups, joined.astype(np.int32)), called)


def _checked_column(path: str, schema: Any) -> str:
    """The column that images are in."""
    from pyarrow import types

    known = {name: schema.field(name).type for name in dict.fromkeys(schema.names)}
    for name in _IMAGES:
        fields = list(known[name]) if name in known and types.is_struct(known[name]) else []
        encoded = [field.type for field in fields if field.name == "bytes"]
        if any(types.is_binary(kind) or types.is_large_binary(kind) for kind in encoded):
            break
    else:
        raise DataError(
            f"the file {path} has no column {_IMAGES[0]!r} of structs with the binary field "
            f"'bytes', but {', '.join(schema.names)}: give images as hubs store them."
        )
    if _LABEL not in known or not types.is_integer(known[_LABEL]):
        raise DataError(
            f"the file {path} has no column {_LABEL!r} of integers, but "
            f"{', '.join(schema.names)}: give the class number of every image there."
        )
    return name


def _class_names(schema: Any) -> tuple[str, ...]:
    """What the library `datasets` says that classes are called, if it does."""
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])
        names = told["info"]["features"][_LABEL]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if known and len(set(names)) == len(names) else ()


def _check_labels(records: ShardRecords, classes: int) -> None:
    if int(records.labels.max()) >= classes:
        place = int(np.argmax(records.labels))
        raise DataError(
            f"{records.title(place)} has the label {records.labels[place]}, but the training part "
            f"has classes from 0 to {classes - 1} only: renumber the labels."
        )
