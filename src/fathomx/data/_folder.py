"""Images in folders, one folder per class, in a folder or in a zip file."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import Seed, open_gate
from fathomx.data._augmentation import CropAndFlip
from fathomx.data._dataset import Dataset
from fathomx.data._decoding import COLOR, FORMATS, GRAY
from fathomx.data._files import DataError, read_bytes
from fathomx.data._parts import Part
from fathomx.data._preparation import Preparation
from fathomx.data._scale import PixelScale

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"),
)
# What packing leaves behind beside the files that were packed.
_LEFT = "__MACOSX"
# The folders that parts may have, if there is one of the first name.
_PARTS = {
    "train": ("train",),
    "validation": ("validation", "val", "valid"),
    "test": ("test",),
}
_TENTH = 10
# Where Tiny ImageNet says which class the images of its validation part are of.
ANNOTATIONS = "val/val_annotations.txt"
# Pixels of a side, of a JPEG file.
_LARGEST = 65535


@open_gate
def images(
    path: str | os.PathLike[str], size: int | Sequence[int] | None = None, *, seed: Seed = 0
) -> Dataset:
    """Reads a folder of images, one folder per class, as a data set named after it.

        animals/cat/1.png   animals/cat/2.jpg   animals/dog/a/7.png

    Every image below the folder of a class is of this class, and classes are numbered in the order
    of their folders' names. A tenth of the images, drawn at random, is for validation, a tenth for
    test and the rest to train on. If there are folders `train`, and beside it no others than
    `validation` (or `val`, `valid`) and `test`, classes are looked for in each of these, and only
    the parts that have no folder are taken from the training images.

    Images are brought to one size: scaled until they cover it, and cut to it around their center.
    They are turned as their camera's mark says, and transparency is dropped. Where all are gray,
    inputs are flat, `(n, height * width)`, as those of `mnist`; otherwise `(n, height, width, 3)`
    with channels red, green and blue, as those of `cifar10`. Pixels are standardized by the
    training part, of each channel by itself:

        (pixel - mean) / std

    All of it is in memory, as float32. Files that begin with a dot or do not end as an image does
    (.png, .jpg, .jpeg, .webp, .bmp, .gif, .tif, .tiff, .ppm, .pgm, .pbm) are passed by, and so are
    folders without images; of an animation the first picture is taken.

    **Arguments**

    * `path`: a folder, or a zip file of it or of what it holds; `~` is allowed.
    * `size`: height and width in pixels, or one number for both; those of the first image if it is
      `None`.
    * `seed`: the same one divides alike.

    Needs `pip install "fathomx[images]"`. Raises `DataError` if the folder cannot be read, does not
    hold at least two classes, a part has a class that the training part has not, or an image cannot
    be read (naming it); `ValueError` for fewer than three images to divide and for sizes below 1;
    `TypeError` if an argument is of the wrong kind; `ImportError` if Pillow is not installed.

    ```python
    animals = fx.data.images("animals", size=32)
    network = fx.models.vgg(animals.classes, animals.images().input_shape, key=key)
    ```
    """
    given = os.path.expanduser(checks.path("path", path, "animals"))
    sides = None if size is None else _sides(size)
    seed = checks.count("seed", seed, least=0, most=2**32 - 1)
    require_pillow()
    with opened(given) as files:
        parts = _parts(files)
        classes = _classes(files, parts["train"])
        drawn = _divided(files, parts, classes, seed)
        name = os.path.basename(os.path.normpath(given)).removesuffix(".zip") or "images"
        return _assembled(name, files, drawn, classes, sides)


def load_tiny_imagenet(name: str, path: str, validation: int, seed: int) -> Dataset:
    """Tiny ImageNet from its folder or zip file; its validation part, which has labels, is tested.

    The layout: `train/CLASS/images/*.JPEG`, and `val/images/*.JPEG` with a line for each of them in
    `val/val_annotations.txt`: its name, its class, and four numbers of its box, between tabs.
    """
    require_pillow()
    with opened(path) as files:
        train = of_classes(files, "train")
        classes = _classes(files, train)
        labeled = labeled_by(train, classes)
        if len(labeled) <= validation:
            raise DataError(
                f"{path} holds {len(labeled)} training images of data set {name!r}, of which "
                f"{validation} are for validation: put a whole copy in its place."
            )
        order = np.random.default_rng(seed).permutation(len(labeled))
        cut = len(order) - validation
        drawn = {
            "train": [labeled[place] for place in order[:cut]],
            "validation": [labeled[place] for place in order[cut:]],
            "test": annotated(files, classes),
        }
        return _assembled(name, files, drawn, classes, None, CropAndFlip(8))


def require_pillow() -> None:
    """Raises `ImportError`, with the remedy, if Pillow is not installed."""
    if find_spec("PIL") is None:
        raise ImportError(
            "reading images needs Pillow, which is not installed: run `pip install "
            '"fathomx[images]"`.'
        )


@dataclass(frozen=True)
class Files:
    """The files of a folder or of a zip file: where it is, and how one is read.

    **Fields**: `place`, for messages; `names`, paths inside it with slashes, sorted; `read`, from
    such a name to the bytes.
    """

    place: str
    names: tuple[str, ...]
    read: Callable[[str], bytes]


@contextmanager
def opened(path: str) -> Iterator[Files]:
    """The visible files of a folder or of a zip file, here without a folder around them all."""
    if os.path.isdir(path):
        names = sorted(name for name in _below(path) if not _hidden(name))
        yield Files(path, tuple(names), lambda name: read_bytes(os.path.join(path, name)))
        return
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise DataError(
            f"the file {path} is neither a folder nor a whole zip file: give a folder that holds "
            "one folder of images for each class."
        ) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(
            f"the folder {path} cannot be read ({why}): check that it exists and that you may read "
            "it."
        ) from None
    with archive:
        yield _unwrapped(archive, path)


def _below(path: str) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise DataError(
            f"the folder {error.filename} cannot be read ({error.strerror}): check that you may "
            "read it."
        )

    for folder, _, files in os.walk(path, onerror=fail, followlinks=True):
        inside = os.path.relpath(folder, path).replace(os.sep, "/")
        yield from (name if inside == "." else f"{inside}/{name}" for name in files)


def _unwrapped(archive: zipfile.ZipFile, path: str) -> Files:
    listed = (name for name in archive.namelist() if not name.endswith("/"))
    names = sorted(name for name in listed if not _hidden(name))
    around = {name.partition("/")[0] for name in names}
    below = {name.split("/")[1] for name in names if name.count("/") > 1}
    # One folder around several others is no class.
    if len(around) == 1 and len(below) > 1:
        outer = around.pop() + "/"
        inner = tuple(name.removeprefix(outer) for name in names)
        return Files(path, inner, lambda name: archive.read(outer + name))
    return Files(path, tuple(names), archive.read)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == _LEFT for part in name.split("/"))


# The names of images by the class that they are of.
Images = dict[str, list[str]]


def of_classes(files: Files, *within: str) -> Images:
    """The images of the folders of a folder, by the names of these folders."""
    found: Images = {}
    for name in files.names:
        folders = name.split("/")[:-1]
        if not name.lower().endswith(IMAGE_SUFFIXES) or tuple(folders[: len(within)]) != within:
            continue
        if len(folders) > len(within):
            found.setdefault(folders[len(within)], []).append(name)
    return dict(sorted(found.items()))


def _parts(files: Files) -> dict[str, Images]:
    """The images of the training part, and of those that have a folder of their own."""
    whole = of_classes(files)
    named = {name: title for title, names in _PARTS.items() for name in names}
    if "train" not in whole or not set(whole) <= set(named):
        return {"train": whole}
    return {named[folder]: of_classes(files, folder) for folder in whole}


def _classes(files: Files, train: Images) -> list[str]:
    if len(train) < 2:
        loose = sum(name.lower().endswith(IMAGE_SUFFIXES) for name in files.names)
        holds = f"one class alone, {next(iter(train))!r}" if train else "no folder of images"
        held = f", but {loose} images" if loose and not train else ""
        kind = "folder" if os.path.isdir(files.place) else "zip file"
        raise DataError(
            f"the {kind} {files.place} holds {holds}{held}: put the images of each class into "
            "a folder of its own, such as cat/1.png and dog/1.png."
        )
    return list(train)


Labeled = list[tuple[str, int]]


def labeled_by(found: Images, classes: list[str]) -> Labeled:
    """Every image with the number of its class."""
    numbers = {kind: number for number, kind in enumerate(classes)}
    return [(name, numbers[kind]) for kind, names in found.items() for name in names]


def _divided(
    files: Files, parts: dict[str, Images], classes: list[str], seed: int
) -> dict[str, Labeled]:
    """Images and their classes, part by part, in random order."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, Labeled] = {}
    for title, found in parts.items():
        strange = sorted(set(found) - set(classes))
        if strange:
            raise DataError(
                f"the {title} part of {files.place} has the class {strange[0]!r}, which its train "
                "part has not: give both the same folders."
            )
        labeled = labeled_by(found, classes)
        drawn[title] = [labeled[place] for place in rng.permutation(len(labeled))]
    missing = [title for title in _PARTS if not drawn.get(title)]
    rest = drawn["train"]
    if len(rest) <= len(missing):
        raise ValueError(
            f"{files.place} holds {len(rest)} images to train on, from which the parts "
            f"{' and '.join(missing)} cannot be taken; give at least {len(missing) + 1}."
        )
    tenth = max(1, len(rest) // _TENTH)
    for title in missing:
        drawn[title], rest = rest[-tenth:], rest[:-tenth]
    return {**drawn, "train": rest}


def annotated(files: Files, classes: list[str]) -> Labeled:
    listed = ANNOTATIONS
    if listed not in files.names:
        raise DataError(f"{files.place} lacks {listed}: put a whole copy in its place.")
    labeled = []
    for line in files.read(listed).decode("utf-8", "replace").splitlines():
        image, _, rest = line.partition("\t")
        kind = rest.partition("\t")[0]
        if kind not in classes:
            raise DataError(
                f"{listed} in {files.place} has the line {checks.shown(line)}, expected an image "
                "and its class: put a whole copy in its place."
            )
        labeled.append((f"val/images/{image}", classes.index(kind)))
    return labeled


def _assembled(
    name: str,
    files: Files,
    drawn: dict[str, Labeled],
    classes: list[str],
    size: tuple[int, int] | None,
    augmentation: CropAndFlip | None = None,
) -> Dataset:
    """The data set of images that are decoded and standardized."""
    if size is None:
        size = _pixels(files, min(drawn["train"])[0], None).shape[:2]
    pixels = {title: _decoded(files, images, size) for title, images in drawn.items()}
    color = any(array[1] for array in pixels.values())
    channels = 3 if color else 1
    shape = (*size, 3) if color else size
    held = {title: array if color else array[..., 0] for title, (array, _) in pixels.items()}
    scale = PixelScale(held["train"], channels)
    parts: dict[str, Any] = {}
    for title in _PARTS:
        inputs = scale(held.pop(title))
        labels = np.array([label for _, label in drawn[title]], np.int32)
        parts[title] = Part(inputs if color else inputs.reshape(len(inputs), -1), labels)
    return Dataset(
        name,
        **parts,
        classes=len(classes),
        image_shape=shape,
        augmentation=augmentation,
        preparation=Preparation({"input": scale}, class_names=tuple(classes)),
    )


def _decoded(
    files: Files, labeled: Labeled, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], bool]:
    """The pixels of images, gray ones in all three channels, and whether one is in color."""
    pixels = np.empty((len(labeled), *size, 3), np.uint8)
    color = False
    for place, (name, _) in enumerate(labeled):
        found = _pixels(files, name, size)
        color = color or found.ndim == 3
        pixels[place] = found if found.ndim == 3 else found[..., None]
    return pixels, color


def read_image(path: str, size: tuple[int, int], *, gray: bool) -> NDArray[np.uint8]:
    """The pixels of an image in a file of its own, as those of a folder of gray or color images.

    `(height, width)`, or `(height, width, 3)`. Raises as `images` does.
    """
    require_pillow()
    folder, name = os.path.split(path)
    content = read_bytes(path)
    files = Files(folder or ".", (name,), lambda name: content)
    found = _pixels(files, name, size, gray=gray)
    return found if gray or found.ndim == 3 else np.repeat(found[..., None], 3, axis=-1)


def _pixels(
    files: Files, name: str, size: tuple[int, int] | None, *, gray: bool = False
) -> NDArray[np.uint8]:
    """One image, `(height, width)` if it is or shall be gray, else `(height, width, 3)`."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(files.read(name)), formats=FORMATS) as image:
            mode = image.mode
            if mode in (*GRAY, *COLOR):
                turned = ImageOps.exif_transpose(image).convert(
                    "L" if gray or mode in GRAY else "RGB"
                )
                if size is not None and turned.size != size[::-1]:
                    turned = ImageOps.fit(turned, size[::-1])
                return np.asarray(turned)
    except Exception as error:
        # Pillow's decoders, and a damaged zip file, raise errors of many kinds.
        raise DataError(
            f"the image {name} in {files.place} cannot be read ({type(error).__name__}): delete "
            "it, or put a whole copy in its place."
        ) from None
    raise DataError(
        f"the image {name} in {files.place} has pixels of the mode {mode!r}: convert it to gray or "
        "color of 8 bits."
    )


def _sides(size: Any) -> tuple[int, int]:
    given = size if isinstance(size, list | tuple) else (size, size)
    height, width = checks.shape("size", given, axes=2)
    for side in (height, width):
        checks.count("size", side, most=_LARGEST)
    return height, width
