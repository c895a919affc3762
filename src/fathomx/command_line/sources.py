"""What `--data` may be: a data set's name, images in a folder, a table, or a text file."""

from __future__ import annotations

import os

from fathomx import data as data_sets
from fathomx.command_line.settings import Settings
from fathomx.data import ImageStream
from fathomx.data._imagenet import Examples
from fathomx.data._table_files import ENDINGS, target_columns

# Before the folder of images that are read while they are trained on.
IMAGENET = "imagenet:"
_IMAGENET_SIZE = 224


def is_streamed(data: str) -> bool:
    """Whether it is a folder of images that are read while they are trained on."""
    return data.startswith(IMAGENET)


def is_images(data: str) -> bool:
    """Whether it is a folder of images, or a zip file of one."""
    if data in data_sets.names():
        return False
    if is_streamed(data):
        return True
    return os.path.isdir(data) or data.lower().endswith(".zip")


def is_table(data: str) -> bool:
    """Whether it is a table in a file."""
    named = data in data_sets.names() or is_streamed(data)
    return not named and data.lower().endswith(ENDINGS)


def is_text(data: str) -> bool:
    """Whether it is a text, named or in a file."""
    other = data in data_sets.names() or is_images(data) or is_table(data)
    return data in data_sets.texts() or not other


def task_of(data: Examples) -> str:
    """What the targets of a data set are: classes, real values, or labels of which several hold."""
    if not data.named:
        return "classification"
    return "multi-label" if data.arrays("train")["output"].dtype == bool else "regression"


def is_there(data: str) -> bool:
    """Whether there is such a name, folder or file."""
    if is_streamed(data):
        # What is missing there is said when it is read.
        return True
    return data in data_sets.names() or os.path.isfile(data) or os.path.isdir(data)


def load(settings: Settings) -> Examples:
    """The data of settings, as it was read.

    Raises `ValueError` for data of another task than that of the settings.
    """
    found = _read(settings)
    task = task_of(found)
    if settings.task not in (None, task):
        raise ValueError(
            f"data {settings.data!r} is for task {task!r}, not for {settings.task!r}; leave out "
            "task, or use other data."
        )
    return found


def _read(settings: Settings) -> Examples:
    data, context = settings.data, settings.context
    assert data is not None
    if is_table(data):
        assert settings.target is not None
        return data_sets.table(data, target_columns(settings.target), settings.task)
    if is_streamed(data):
        return read_stream(data, settings.image_size or _IMAGENET_SIZE, settings.data_workers)
    if is_images(data):
        return data_sets.images(data, settings.image_size)
    tokens = None if settings.tokens is None else _tokens(settings.tokens)
    if data not in data_sets.names():
        assert context is not None
        return data_sets.text(data, context, tokens=tokens)
    return data_sets.load(data, context=context, tokens=tokens)


def read_stream(data: str, size: int, workers: int | None) -> ImageStream:
    """The images of a folder that are read while they are trained on."""
    return data_sets.imagenet(data.removeprefix(IMAGENET), size, workers=workers)


def _tokens(given: str) -> int | data_sets.Subwords:
    """A number of subwords to learn, or those of a file."""
    return int(given) if given.isdecimal() else data_sets.Subwords.read(given)
