"""Text as tokens: characters, windows of them, and the token that comes next at every position."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fathomx.data._dataset import Dataset, Part, _positive
from fathomx.data._idx import DataError, read_bytes

# Of a hundred characters, where the training part and the validation part end.
_ENDS = (90, 95)


@dataclass(frozen=True, eq=False, repr=False)
class Text(Dataset):
    """A text as a data set for next-token prediction, as `fathomx.data.text` makes it.

    Every character is a token, its place in the sorted `vocabulary`. An input is a window of
    tokens; its label at a position is the token that follows there. Inputs and labels of a part are
    int32 of the same shape, `(windows, context)`, and `classes` is the size of the vocabulary. The
    three parts are contiguous pieces of the text, in its order.

    **Fields**: those of `Dataset`, and `vocabulary`, the different characters of the text, sorted.

    Raises `ValueError` as `Dataset` does, and if `vocabulary` does not hold `classes` different
    characters or there are tokens outside of it.

    ```python
    shakespeare = fx.data.load("tiny-shakespeare")
    shakespeare.decode(shakespeare.train.inputs[0, :13])    # 'First Citizen'
    ```
    """

    vocabulary: str = ""

    _input_type: ClassVar[Any] = np.int32
    _labelled_axes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.vocabulary)) != len(self.vocabulary) or len(self.vocabulary) != (
            self.classes
        ):
            raise ValueError(
                f"the vocabulary of data set {self.name!r} was {self.vocabulary!r}, expected "
                f"{self.classes} different characters: pass one for every class."
            )
        for part in (self.train, self.validation, self.test):
            self._check_tokens(part.inputs)

    def encode(self, text: str) -> NDArray[np.int32]:
        """The tokens of a text, int32 `(characters,)`.

        Raises `ValueError` if a character is not in the vocabulary, naming it.

        ```python
        shakespeare.encode("to be")    # array([58, 53,  1, 40, 43], dtype=int32)
        ```
        """
        strange = sorted(set(text) - set(self.vocabulary))
        if strange:
            raise ValueError(
                f"the character {strange[0]!r} is not in the vocabulary of data set "
                f"{self.name!r}: use its {self.classes} characters alone."
            )
        return _encoded(text, self.vocabulary)

    def decode(self, tokens: Iterable[Any] | NDArray[Any]) -> str:
        """The text of a row of tokens: the inverse of `encode`.

        Raises `ValueError` if the tokens are not one row of integers of the vocabulary.

        ```python
        shakespeare.decode([58, 53])    # 'to'
        ```
        """
        row = np.asarray(tokens if hasattr(tokens, "__array__") else list(tokens))
        if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
            raise ValueError(
                f"decode was given an array of shape {row.shape} and dtype {row.dtype}, expected "
                "one row of integers: pass the tokens of one text."
            )
        self._check_tokens(row)
        return "".join(self.vocabulary[int(token)] for token in row)

    def flat(self) -> Dataset:
        """Tokens are no vector of numbers: raises `ValueError`."""
        raise ValueError(
            f"the inputs of data set {self.name!r} are tokens, not numbers that a dense layer "
            "takes: use a network of tokens, such as fathomx.models.transformer."
        )

    def _check_tokens(self, tokens: NDArray[Any]) -> None:
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < self.classes):
            raise ValueError(
                f"there are tokens from {tokens.min()} to {tokens.max()}, but the vocabulary of "
                f"data set {self.name!r} has those from 0 to {self.classes - 1}: encode the text "
                "with this data set."
            )


def text(path: str | os.PathLike[str], context: int = 64, *, stride: int | None = None) -> Text:
    """Reads a text file as a data set of windows of characters, a `Text` named after the file.

    The first 90 of 100 characters are for training, the next 5 for validation, the last 5 for test.
    In each part a window of `context` tokens begins every `stride` characters, and its labels are
    the tokens one further; at the end, characters that do not fill a window are left out. The
    vocabulary is made of all characters of the file, sorted by code point.

    **Arguments**

    * `path`: a file of UTF-8 text; relative paths are allowed.
    * `context`: number of tokens in a window, at least 1.
    * `stride`: characters from the beginning of one window to that of the next, at least 1. `None`,
      the default, is `context`: every character is in one window. 1 gives all windows there are,
      and takes `context` times the memory.

    Raises `DataError` if the file is missing, cannot be read or is not UTF-8, and `ValueError` if
    `context` or `stride` is no count, or a part of the text is shorter than a window and the token
    after it.

    ```python
    novel = fx.data.text("novel.txt", context=128)
    network = fx.models.transformer(novel.classes, 128, key=key)
    ```
    """
    return read_text(os.path.basename(os.fspath(path)), path, read_bytes(path), context, stride)


def read_text(
    name: str,
    path: str | os.PathLike[str],
    content: bytes,
    context: int,
    stride: int | None = None,
) -> Text:
    """`text` of bytes that are in memory already; `path` is for messages only."""
    for title, count in (("context", context), ("stride", context if stride is None else stride)):
        if _positive(count) is None:
            raise ValueError(
                f"{title} was {count!r}, expected an integer of at least 1: pass a number of "
                "characters."
            )
    try:
        characters = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"the file {os.fspath(path)} is not UTF-8 text (byte {error.start} does not decode): "
            "convert it first."
        ) from None
    vocabulary = "".join(sorted(set(characters)))
    cuts = [len(characters) * end // 100 for end in _ENDS]
    pieces = np.split(_encoded(characters, vocabulary), cuts)
    parts = []
    for title, piece in zip(("train", "validation", "test"), pieces, strict=True):
        if len(piece) <= context:
            raise ValueError(
                f"the text {name!r} has {len(characters)} characters, of which {len(piece)} are "
                f"the {title} part, but a window of context={context} and the token after it take "
                f"{context + 1}: use a longer text or a smaller context."
            )
        parts.append(_windows(piece, context, stride or context))
    train, validation, test = parts
    return Text(name, train, validation, test, classes=len(vocabulary), vocabulary=vocabulary)


def _encoded(text: str, vocabulary: str) -> NDArray[np.int32]:
    codes = np.array([ord(character) for character in vocabulary], dtype=np.uint32)
    order = np.argsort(codes)
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    return order[np.searchsorted(codes[order], points)].astype(np.int32)


def _windows(tokens: NDArray[np.int32], context: int, stride: int) -> Part:
    views = np.lib.stride_tricks.sliding_window_view(tokens, context + 1)[::stride]
    return Part(np.ascontiguousarray(views[:, :-1]), np.ascontiguousarray(views[:, 1:]))
