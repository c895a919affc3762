"""Text as tokens: windows of them, and the token that comes next at every position."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import open_gate
from fathomx.data._dataset import Dataset
from fathomx.data._encoding import checked_encoding, decoded
from fathomx.data._files import read_bytes
from fathomx.data._parts import Part, token_pair
from fathomx.data._tokens import Characters, Subwords, Vocabulary, token_row

# Of a hundred characters, where the training part and the validation part end.
_ENDS = (90, 95)


@open_gate
@dataclass(frozen=True, eq=False, repr=False)
class Text(Dataset):
    """A text as a data set for next-token prediction, as `fathomx.data.text` makes it.

    Every character is a token, its place in the sorted `vocabulary`, unless the vocabulary is one
    of `Subwords`. An input is a window of tokens; its label at a position is the token that follows
    there. Inputs and labels of a part are int32 of the same shape, `(windows, context)`, and
    `classes` is the size of the vocabulary. The three parts are contiguous pieces of the text, in
    its order.

    **Fields**: those of `Dataset`, and `vocabulary`, the different characters of the text, sorted,
    or its `Subwords`.

    Raises `ValueError` as `Dataset` does, and if `vocabulary` does not hold `classes` different
    tokens or there are others.

    ```python
    shakespeare = fx.data.load("tiny-shakespeare")
    shakespeare.decode(shakespeare.train.inputs[0, :13])    # 'First Citizen'
    ```
    """

    vocabulary: str | Subwords = ""

    def __post_init__(self) -> None:
        if self.named:
            raise ValueError(
                f"the parts of text {self.name!r} must be pairs of tokens and labels, not arrays "
                "by name; make a Dataset of those."
            )
        super().__post_init__()
        if not isinstance(self.vocabulary, Subwords):
            characters = checks.instance("vocabulary", self.vocabulary, str, "'abc'")
            if len(set(characters)) != len(characters) or len(characters) != self.classes:
                raise ValueError(
                    f"the vocabulary of data set {self.name!r} was {characters!r}, expected "
                    f"{self.classes} different characters: pass one for every class."
                )
        elif self.vocabulary.size != self.classes:
            raise ValueError(
                f"the vocabulary of data set {self.name!r} has {self.vocabulary.size} tokens, "
                f"expected {self.classes}: pass classes={self.vocabulary.size}."
            )
        for part in (getattr(self, title) for title in self.titles):
            self._check_tokens(part.inputs)

    @property
    def vocabulary_text(self) -> str:
        """The characters, or the subwords as `tokenizers` writes them."""
        return self.vocabulary if isinstance(self.vocabulary, str) else self.vocabulary.json

    @property
    def _tokens(self) -> Vocabulary:
        if isinstance(self.vocabulary, str):
            return Characters(self.vocabulary, self.name)
        return self.vocabulary

    def encode(self, text: str) -> NDArray[np.int32]:
        """The tokens of a text, int32 `(tokens,)`.

        Raises `ValueError` if a character is not in the vocabulary of characters, naming it, and
        `TypeError` if `text` is no text.

        ```python
        shakespeare.encode("to be")    # array([58, 53,  1, 40, 43], dtype=int32)
        ```
        """
        checks.instance("text", text, str, "'to be'")
        return self._tokens.encode(text)

    def decode(self, tokens: Iterable[Any] | NDArray[Any]) -> str:
        """The text of a row of tokens: the inverse of `encode`.

        Raises `TypeError` if the tokens are not integers, and `ValueError` if they are not one row,
        or not of the vocabulary.

        ```python
        shakespeare.decode([58, 53])    # 'to'
        ```
        """
        row = token_row(tokens)
        self._check_tokens(row)
        return self._tokens.decode(row)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The tokens."""
        return tuple(self.decode([token]) for token in range(self.classes))

    def flat(self) -> Dataset:
        """Tokens are no vector of numbers: raises `ValueError`."""
        raise ValueError(
            f"the inputs of data set {self.name!r} are tokens, not numbers that a dense layer "
            "takes: use a network of tokens, such as fathomx.models.transformer."
        )

    def _checked_pair(self, part: Any) -> Part:
        return token_pair(part, self.classes)

    def _check_tokens(self, tokens: NDArray[Any]) -> None:
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < self.classes):
            raise ValueError(
                f"there are tokens from {tokens.min()} to {tokens.max()}, but the vocabulary of "
                f"data set {self.name!r} has those from 0 to {self.classes - 1}: encode the text "
                "with this data set."
            )


@open_gate
def text(
    path: str | os.PathLike[str],
    context: int = 64,
    *,
    stride: int | None = None,
    encoding: str = "utf-8",
    tokens: Subwords | int | None = None,
) -> Text:
    """Reads a text file as a data set of windows of tokens, a `Text` named after the file.

    The first 90 of 100 characters are for training, the next 5 for validation, the last 5 for test.
    In each part a window of `context` tokens begins every `stride` tokens, and its labels are the
    tokens one further; at the end, tokens that do not fill a window are left out. The vocabulary is
    made of all characters of the file, sorted by code point, unless `tokens` says otherwise.

    Line ends are read as in Python's text mode, `\\r\\n` and `\\r` as `\\n`. A byte-order mark at
    the beginning (of UTF-8, UTF-16 or UTF-32) tells the encoding, whatever `encoding` says, and
    is dropped.

    **Arguments**

    * `path`: a file of text; relative paths are allowed.
    * `context`: number of tokens in a window, at least 1.
    * `stride`: tokens from the beginning of one window to that of the next, at least 1. `None`, the
      default, is `context`: every token is in one window. 1 gives all windows there are, and takes
      `context` times the memory.
    * `encoding`: how the file without a mark is encoded, any that Python knows, such as
      `"latin-1"`.
    * `tokens`: `None`, the default, for characters; `Subwords` for theirs; or a number of at least
      257, for as many that are learned from the training part (`Subwords.learned`).

    Raises `DataError` if the file is missing, cannot be read or is not text of its encoding;
    `TypeError` if an argument is of the wrong kind; `ValueError` if `context` or `stride` is below
    1, `tokens` below 257, `encoding` is unknown, a part of the text is shorter than a window and
    the token after it, or all characters are the same; `ImportError` for subwords if `tokenizers`
    is not installed.

    ```python
    novel = fx.data.text("novel.txt", context=128)
    network = fx.models.transformer(novel.classes, 128, key=key)
    ```
    """
    file = checks.path("path", path, "novel.txt")
    encoding = checked_encoding(encoding)
    characters = decoded(read_bytes(file), encoding, file)
    return windows_of(os.path.basename(file), characters, context, stride, tokens)


def windows_of(
    name: str,
    characters: str,
    context: int,
    stride: int | None = None,
    tokens: Subwords | int | None = None,
) -> Text:
    """`text` of characters that are in memory already."""
    context = checks.count("context", context)
    stride = context if stride is None else checks.count("stride", stride)
    begin, end = (len(characters) * cut // 100 for cut in _ENDS)
    pieces = (characters[:begin], characters[begin:end], characters[end:])
    vocabulary = _vocabulary(characters, pieces[0], tokens)
    coded = Characters(vocabulary, name) if isinstance(vocabulary, str) else vocabulary
    parts = []
    for title, piece in zip(("train", "validation", "test"), pieces, strict=True):
        row = coded.encode(piece)
        if len(row) <= context:
            kind = "" if tokens is None else " tokens"
            raise ValueError(
                f"the text {name!r} has {len(characters)} characters, of which {len(row)}{kind} "
                f"are the {title} part, but a window of context={context} and the token after it "
                f"take {context + 1}: use a longer text or a smaller context."
            )
        parts.append(_windows(row, context, stride))
    if coded.size < 2:
        raise ValueError(
            f"the text {name!r} is the character {characters[0]!r} alone; give one of at least two "
            "different characters."
        )
    train, validation, test = parts
    return Text(name, train, validation, test, classes=coded.size, vocabulary=vocabulary)


def _vocabulary(characters: str, train: str, tokens: Subwords | int | None) -> str | Subwords:
    if tokens is None:
        return "".join(sorted(set(characters)))
    if isinstance(tokens, Subwords):
        return tokens
    remedy = "give that many, fx.data.Subwords, or None for characters"
    return Subwords.learned(
        train, checks.count("tokens", tokens, least=Subwords.LEAST, remedy=remedy)
    )


def _windows(tokens: NDArray[np.int32], context: int, stride: int) -> Part:
    views = np.lib.stride_tricks.sliding_window_view(tokens, context + 1)[::stride]
    return Part(np.ascontiguousarray(views[:, :-1]), np.ascontiguousarray(views[:, 1:]))
