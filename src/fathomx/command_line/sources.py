"""What `--data` may be: the name of a data set, a folder of images, or a text file."""

from __future__ import annotations

import os

from fathomx import data as data_sets
from fathomx.command_line.settings import Settings
from fathomx.data import Dataset


def is_images(data: str) -> bool:
    """Whether it is a folder of images, or a zip file of one."""
    if data in data_sets.names():
        return False
    return os.path.isdir(data) or data.lower().endswith(".zip")


def is_text(data: str) -> bool:
    """Whether it is a text, named or in a file."""
    return data in data_sets.texts() or not (data in data_sets.names() or is_images(data))


def is_there(data: str) -> bool:
    """Whether there is such a name, folder or file."""
    return data in data_sets.names() or os.path.isfile(data) or os.path.isdir(data)


def load(settings: Settings) -> Dataset:
    """The data of settings, as it was read.

    Raises `ValueError` for data whose targets are no classes, which the command line does not
    train on.
    """
    data, context = settings.data, settings.context
    assert data is not None
    if is_images(data):
        return data_sets.images(data, settings.image_size)
    tokens = None if settings.tokens is None else _tokens(settings.tokens)
    if data not in data_sets.names():
        assert context is not None
        return data_sets.text(data, context, tokens=tokens)
    found = data_sets.load(data, context=context, tokens=tokens)
    if found.named:
        raise ValueError(
            f"data {data!r} has real targets, and the command line trains on classes alone; use "
            f"fx.fit(network, fx.data.load({data!r})) in Python."
        )
    return found


def _tokens(given: str) -> int | data_sets.Subwords:
    """A number of subwords to learn, or those of a file."""
    return int(given) if given.isdecimal() else data_sets.Subwords.read(given)
