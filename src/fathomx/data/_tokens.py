"""Vocabularies: what a token of a text stands for."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import open_gate
from fathomx.data._files import DataError, read_bytes


class Vocabulary(Protocol):
    """What turns a text into tokens from 0 to `size - 1`, and back."""

    @property
    def size(self) -> int: ...
    def encode(self, text: str) -> NDArray[np.int32]: ...
    def decode(self, tokens: Any) -> str: ...


@dataclass(frozen=True)
class Characters:
    """Every character is a token, its place in `characters`; those of the data set `data`."""

    characters: str
    data: str

    @property
    def size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> NDArray[np.int32]:
        strange = sorted(set(text) - set(self.characters))
        if strange:
            raise ValueError(
                f"the character {strange[0]!r} is not in the vocabulary of data set "
                f"{self.data!r}: use its {self.size} characters alone."
            )
        codes = np.array([ord(character) for character in self.characters], dtype=np.uint32)
        order = np.argsort(codes)
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        return order[np.searchsorted(codes[order], points)].astype(np.int32)

    def decode(self, tokens: Any) -> str:
        return "".join(self.characters[int(token)] for token in tokens)


@open_gate
@dataclass(frozen=True, repr=False)
class Subwords:
    """Pieces of words as tokens, by a tokenizer of the library `tokenizers`.

    Frequent sequences of characters are one token each, so that a window of as many tokens reaches
    further back. `Subwords.learned` makes one by byte-pair encoding, with which every text has
    tokens and comes back as it was; `Subwords.read` takes any `tokenizer.json`.

    Losses in nats per token of different vocabularies cannot be compared; divide them by the
    characters that a token has in the mean.

    **Fields**: `json`, the tokenizer as `tokenizers` writes it. `LEAST`, of the class, is how few
    can be learned: one for every byte, so that there is no text without tokens, and one pair.

    Raises `ValueError` for a text that is no tokenizer, and `ImportError` if `tokenizers` is not
    installed.

    Source: R. Sennrich, B. Haddow, A. Birch, "Neural Machine Translation of Rare Words with Subword
    Units", ACL 2016; of bytes, A. Radford et al., "Language Models are Unsupervised Multitask
    Learners", 2019.

    ```python
    pieces = fx.data.Subwords.learned("to be, or not to be, to be", 260)
    pieces.decode(pieces.encode("not to be"))    # 'not to be'
    ```
    """

    LEAST: ClassVar[int] = 257

    json: str

    def __post_init__(self) -> None:
        checks.instance("json", self.json, str, "that of a tokenizer.json")
        _require_tokenizers()
        try:
            size = self._tokenizer.get_vocab_size()
        # The library raises Exception itself, with the place of what it cannot read.
        except Exception as error:
            raise ValueError(
                f"this is no tokenizer that the library tokenizers reads ({error}); give the "
                "content of a tokenizer.json."
            ) from None
        if size < 2:
            raise ValueError(f"a tokenizer must have at least 2 tokens, and this one has {size}.")

    @classmethod
    def learned(cls, text: str, size: int) -> Subwords:
        """Byte-pair encoding: the most frequent pair of tokens becomes one, until there are `size`.

        It begins with the 256 bytes and never joins what stands on both sides of a space. The same
        text gives the same tokens.

        **Arguments**: `text` to learn from; `size`, at least 257. Where the text has no more pairs
        that occur twice, there are fewer.

        ```python
        fx.data.Subwords.learned("to be, or not to be, to be", 260).size    # 260
        ```
        """
        checks.instance("text", text, str, "'to be'")
        remedy = "a token for each of the 256 bytes is among them"
        count = checks.count("size", size, least=cls.LEAST, remedy=remedy)
        _require_tokenizers()
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=count, min_frequency=2, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator([text], trainer)
        return cls(tokenizer.to_str())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Subwords:
        """That of a `tokenizer.json`, as `tokenizers` and `transformers` write it.

        Raises `DataError` if the file is missing, cannot be read or holds no tokenizer.

        ```python
        fx.data.text("novel.txt", context=128, tokens=fx.data.Subwords.read("tokenizer.json"))
        ```
        """
        file = checks.path("path", path, "tokenizer.json")
        content = read_bytes(file)
        try:
            return cls(content.decode())
        except ValueError as error:
            raise DataError(f"{file} holds no tokenizer: {error}") from None

    @property
    def size(self) -> int:
        """Number of tokens."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> NDArray[np.int32]:
        """The tokens of a text, int32 `(tokens,)`, without marks of beginning and end."""
        checks.instance("text", text, str, "'to be'")
        found = self._tokenizer.encode(text, add_special_tokens=False).ids
        return np.array(found, np.int32)

    def decode(self, tokens: Any) -> str:
        """The text of a row of tokens; what is cut out of a character becomes `\\ufffd`.

        Raises `TypeError` if the tokens are not integers, and `ValueError` if they are not one row,
        or not from 0 to `size - 1`.
        """
        row = token_row(tokens)
        if row.size and not (row.min() >= 0 and row.max() < self.size):
            raise ValueError(
                f"there are tokens from {row.min()} to {row.max()}, but these subwords are those "
                f"from 0 to {self.size - 1}: encode the text with them."
            )
        return str(self._tokenizer.decode(row.tolist(), False))

    def __repr__(self) -> str:
        return f"Subwords({self.size} tokens)"

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.json)
        # Made for other uses, it may cut texts off or fill them up.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def token_row(tokens: Any) -> NDArray[Any]:
    """Tokens as one row of integers, or `TypeError` or `ValueError`."""
    if not hasattr(tokens, "__array__"):
        tokens = checks.items("tokens", tokens, "[58, 53]")
    row = checks.values("tokens", tokens)
    if row.size and row.dtype.kind not in "iu":
        raise TypeError(f"tokens must be integers, not {row.dtype}.")
    if row.ndim != 1:
        raise ValueError(f"tokens must be one row, not of shape {row.shape}; give one text's.")
    return row


def _require_tokenizers() -> None:
    if find_spec("tokenizers") is None:
        raise ImportError('subwords need tokenizers; pip install "fathomx[text]".')
