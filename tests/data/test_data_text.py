"""Texts: vocabulary, windows and labels by hand, places of the file, and what is refused."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fathomx import data
from fathomx.data import DataError, Part, Text, _named

REAL = os.environ.get("FATHOMX_DATA")
FILE = Path(REAL or "none") / "tiny-shakespeare" / "input.txt"


def written(folder, content, name="own.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.fixture
def letters(tmp_path):
    """40 characters, "abcd" ten times: 36 to train on, 2 to validate, 2 to test."""
    return written(tmp_path, "dcba" * 10)


def test_windows_and_labels_by_hand(letters):
    read = data.text(letters, context=1, stride=7)
    assert read.vocabulary == "abcd" and read.classes == 4 and read.name == "own.txt"
    # Of the text d c b a d c b ..., tokens 3 2 1 0 3 2 1 ...; windows at 0, 7, 14, 21, 28.
    assert read.train.inputs.tolist() == [[3], [0], [1], [2], [3]]
    assert read.train.labels.tolist() == [[2], [3], [0], [1], [2]]
    # Characters 36 and 37, then 38 and 39.
    assert (read.validation.inputs.tolist(), read.validation.labels.tolist()) == ([[3]], [[2]])
    assert (read.test.inputs.tolist(), read.test.labels.tolist()) == ([[1]], [[0]])
    assert repr(read) == (
        "Dataset('own.txt': 5 train, 1 validation, 1 test, inputs (1,), 4 classes)"
    )


@pytest.mark.parametrize("stride", [None, 1, 3, 5, 11])
def test_windows_against_slices_of_the_text(tmp_path, stride):
    text = "".join(np.random.default_rng(0).choice(list("xyzé\n€ 𝄞"), 200))
    read = data.text(written(tmp_path, text), 5, stride=stride)
    assert list(read.vocabulary) == sorted(set(text))
    pieces = (read.train, text[:180]), (read.validation, text[180:190]), (read.test, text[190:])
    for part, piece in pieces:
        begins = range(0, len(piece) - 5, stride or 5)
        assert [read.decode(row) for row in part.inputs] == [piece[i : i + 5] for i in begins]
        assert [read.decode(row) for row in part.labels] == [piece[i + 1 : i + 6] for i in begins]
        for array in part:
            assert array.dtype == np.int32 and array.flags.c_contiguous


def test_line_ends_are_characters(tmp_path):
    assert data.text(written(tmp_path, "a\r\nb" * 20), 1).vocabulary == "\n\rab"


def test_encode_and_decode(letters):
    read = data.text(letters, context=1)
    assert read.encode("abba").tolist() == [0, 1, 1, 0]
    assert read.encode("abba").dtype == np.int32
    assert read.encode("").tolist() == []
    assert read.decode([3, 0]) == "da" and read.decode(np.array([], int)) == ""
    assert read.decode(read.encode("cabbadcab")) == "cabbadcab"
    with pytest.raises(ValueError, match=r"character 'x' is not in the vocabulary of .*'own.txt'"):
        read.encode("abxy")
    for tokens in ([0, 4], [-1]):
        with pytest.raises(ValueError, match=r"tokens from .* has those from 0 to 3: encode"):
            read.decode(tokens)
    for tokens in ([[0]], [0.0]):
        with pytest.raises(ValueError, match="one row of integers: pass"):
            read.decode(tokens)


def test_take_keeps_the_kind(letters):
    few = data.text(letters, context=1).take(2)
    assert isinstance(few, Text) and few.vocabulary == "abcd"
    assert few.train.inputs.tolist() == [[3], [2]]


def test_tokens_are_neither_vectors_nor_images(letters):
    read = data.text(letters, context=1)
    with pytest.raises(ValueError, match=r"'own.txt' are tokens, not numbers .*transformer"):
        read.flat()
    with pytest.raises(ValueError, match="image_shape"):
        read.images()


@pytest.mark.parametrize(("size", "context"), [(0, 1), (20, 1), (40, 2), (400, 20)])
def test_a_text_shorter_than_its_windows(tmp_path, size, context):
    path = written(tmp_path, "a" * size)
    with pytest.raises(
        ValueError, match=rf"'own.txt' has {size} characters.*take {context + 1}: use a longer"
    ):
        data.text(path, context)


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(DataError, match=r"none.txt cannot be read \(No such file.*check that"):
        data.text(tmp_path / "none.txt")
    with pytest.raises(DataError, match=r"own.txt is not UTF-8 text \(byte 2 does not decode\)"):
        data.text(written(tmp_path, b"ab\xff"))


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "4"])
def test_context_and_stride_are_counts(letters, count):
    with pytest.raises(ValueError, match=r"context was .*at least 1: pass"):
        data.text(letters, count)
    with pytest.raises(ValueError, match=r"stride was .*at least 1: pass"):
        data.text(letters, 1, stride=count)


def test_a_text_of_ones_own_arrays_is_checked(letters):
    read = data.text(letters, context=1)
    tokens = np.array([[0, 1], [2, 3]])
    whole = Part(tokens, tokens)
    parts = {"train": whole, "validation": whole, "test": whole}
    assert replace(read, **parts).input_shape == (2,)
    for changes, message in (
        ({"vocabulary": "abc"}, "expected 4 different characters: pass"),
        ({"vocabulary": "abca"}, "expected 4 different characters: pass"),
        ({"train": Part(tokens + 1, tokens)}, "tokens from 1 to 4, .* from 0 to 3"),
        ({"train": Part(tokens, tokens + 1)}, "labels from 1 to 4, expected 0 to 3"),
        ({"train": Part(tokens, tokens[:, 0])}, r"labels of shape \(2,\), expected \(n, context"),
        ({"train": Part(tokens[0], tokens[0])}, r"inputs of shape \(2,\) .* \(n, context\)"),
        ({"train": Part(tokens + 0.5, tokens)}, "dtype float64, expected integers: convert"),
        ({"train": Part(tokens[:0], tokens[:0])}, "is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(read, **{**parts, **changes})


@pytest.fixture
def tiny(monkeypatch):
    """A text "tiny" of 100 characters, in no place yet."""
    content = b"0123456789" * 100
    sha256 = hashlib.sha256(content).hexdigest()
    source = _named._TextSource(
        name="tiny", home="http://127.0.0.1:9/", file="all.txt", sha256={"all.txt": sha256}
    )
    monkeypatch.setitem(_named._TEXTS, "tiny", source)
    monkeypatch.setitem(_named._REGISTRY, "tiny", lambda folder: _named._load_text(source, folder))
    return content


def test_a_named_text(tiny, tmp_path):
    (tmp_path / "tiny").mkdir()
    path = written(tmp_path / "tiny", tiny, "all.txt")
    for context in (3, 10):
        named = data.load("tiny", folder=tmp_path, context=context)
        read = data.text(path, context)
        assert named.name == "tiny" and named.vocabulary == read.vocabulary == "0123456789"
        assert (named.train.inputs == read.train.inputs).all()
        assert (named.test.labels == read.test.labels).all()
    with pytest.raises(ValueError, match=r"50 are the validation part.*context=64"):
        data.load("tiny", folder=tmp_path)
    path.write_bytes(tiny[1:])
    with pytest.raises(DataError, match="is corrupted or truncated"):
        data.load("tiny", folder=tmp_path, context=3)


def test_images_have_no_context():
    with pytest.raises(ValueError, match="context was 8, but data set 'digits' is no text"):
        data.load("digits", context=8)


@pytest.mark.skipif(not FILE.is_file(), reason="FATHOMX_DATA has no tiny-shakespeare")
def test_tiny_shakespeare():
    """Published facts: 1,115,394 characters, 65 different ones, and how it begins."""
    text = data.load("tiny-shakespeare")
    assert text.classes == 65 and text.input_shape == (64,)
    sizes = [len(part.labels) for part in (text.train, text.validation, text.test)]
    # Windows in 1,003,854, 55,770 and 55,770 characters.
    assert sizes == [15685, 871, 871]
    assert text.vocabulary.startswith("\n !$&',-.3:;?ABC") and text.vocabulary.endswith("xyz")
    assert text.decode(text.train.inputs[0]).startswith("First Citizen:\nBefore we proceed any")
    assert text.decode(text.train.labels[0]).startswith("irst Citizen:\nBefore we proceed any")
    again = "".join(text.decode(row) for row in text.train.inputs)
    assert again == FILE.read_text()[: len(again)]
