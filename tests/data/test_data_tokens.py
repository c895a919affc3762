"""Subwords: byte pairs by hand, the library's own files, every text back, and what is refused."""

import json

import numpy as np
import pytest

from fathomx import data
from fathomx.data import DataError, Subwords

LINES = "to be, or not to be: that is the question.\n" * 60


def test_byte_pairs_by_hand():
    """Of "abab abab" a and b are joined (4 times), then ab and ab (twice); more occurs once."""
    pieces = Subwords.learned("abab abab", 300)
    assert pieces.size == 258 and repr(pieces) == "Subwords(258 tokens)"
    (ab,), (abab,) = pieces.encode("ab"), pieces.encode("abab")
    assert (ab, abab) == (256, 257)
    space, end = pieces.encode(" "), pieces.encode("b")
    found = pieces.encode("ababb ab")
    assert found.tolist() == [257, *end, *space, 256] and found.dtype == np.int32


def test_a_text_that_was_not_learned_comes_back():
    pieces = Subwords.learned(LINES, 280)
    assert pieces.size == 280
    for text in ("to be", "Ünïcode € 𝄞\t\r\n  two", "", " "):
        assert pieces.decode(pieces.encode(text)) == text
    assert len(pieces.encode("question")) < len("question")


def test_the_same_text_gives_the_same_tokens():
    assert Subwords.learned(LINES, 280) == Subwords.learned(LINES, 280)


def test_windows_are_those_of_each_part(tmp_path):
    """Learned from the first 90 of 100 characters, and no token crosses a part's end."""
    path = tmp_path / "play.txt"
    path.write_text(LINES)
    read = data.text(path, 5, tokens=280)
    begin, end = len(LINES) * 90 // 100, len(LINES) * 95 // 100
    assert read.vocabulary == Subwords.learned(LINES[:begin], 280)
    assert read.classes == read.vocabulary.size
    pieces = (LINES[:begin], LINES[begin:end], LINES[end:])
    for part, piece in zip((read.train, read.validation, read.test), pieces, strict=True):
        row = read.vocabulary.encode(piece)
        count = (len(row) - 1) // 5
        assert part.inputs.ravel().tolist() == row[: 5 * count].tolist()
        assert part.labels.ravel().tolist() == row[1 : 5 * count + 1].tolist()
    assert read.decode(read.encode("the question")) == "the question"
    assert read.take(3).vocabulary is read.vocabulary


def test_a_file_of_the_library(tmp_path):
    """Made by `tokenizers` alone: words as tokens; it would cut texts off after two."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"be": 0, "not": 1, "or": 2, "to": 3, "?": 4}
    made = Tokenizer(models.WordLevel(words, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(2)
    made.enable_padding(length=8)
    made.save(str(tmp_path / "tokenizer.json"))
    pieces = Subwords.read(tmp_path / "tokenizer.json")
    assert pieces.size == 5
    assert pieces.encode("to be or not to").tolist() == [3, 0, 2, 1, 3]
    (tmp_path / "play.txt").write_text("to be or not " * 100)
    read = data.text(tmp_path / "play.txt", 4, tokens=pieces)
    assert read.train.inputs[0].tolist() == [3, 0, 2, 1]


def test_what_is_refused(tmp_path):
    path = tmp_path / "play.txt"
    path.write_text(LINES)
    with pytest.raises(ValueError, match="size must be an integer of at least 257, not 256"):
        Subwords.learned(LINES, 256)
    for wrong in (256, 0):
        with pytest.raises(ValueError, match=f"tokens must be .* not {wrong}; give that many"):
            data.text(path, 5, tokens=wrong)
    for wrong in (True, 280.0, "280"):
        with pytest.raises(TypeError, match=r"tokens must be .*; give that many, fx.data.Subwords"):
            data.text(path, 5, tokens=wrong)
    with pytest.raises(ValueError, match="tokens was 280, but data set 'digits' is no text"):
        data.load("digits", tokens=280)
    with pytest.raises(ValueError, match=r"characters, of which .* tokens are the validation part"):
        data.text(path, 100, tokens=280)
    with pytest.raises(DataError, match=r"play.txt holds no tokenizer"):
        Subwords.read(path)
    with pytest.raises(DataError, match=r"none.json cannot be read"):
        Subwords.read(tmp_path / "none.json")
    cut = json.loads(Subwords.learned(LINES, 260).json)
    del cut["model"]["vocab"]
    with pytest.raises(ValueError, match="is no tokenizer that the library tokenizers reads"):
        Subwords(json.dumps(cut))
    part = data.text(path, 5, tokens=280).train
    with pytest.raises(ValueError, match=r"has 260 tokens, expected 280: pass classes=260"):
        data.Text("play", part, part, part, classes=280, vocabulary=Subwords.learned(LINES, 260))


def test_it_is_told_that_the_library_is_missing(monkeypatch):
    monkeypatch.setattr("fathomx.data._tokens.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'need tokenizers; pip install "fathomx\[text\]"'):
        Subwords.learned("to be", 300)
