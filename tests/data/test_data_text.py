"""Texts: vocabulary, windows and labels by hand, places of the file, and what is refused."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
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
    with pytest.raises(ValueError, match="tokens must be one row, not of shape"):
        read.decode([[0]])
    for tokens in ([0.0], [True], ["a"], None, "ab", 3, [[0], [1, 2]]):
        with pytest.raises((TypeError, ValueError), match=r"^tokens (must be|has rows of unlike)"):
            read.decode(tokens)
    for text in (None, 3, b"ab", ["a"]):
        with pytest.raises(TypeError, match="text must be a str such as 'to be', not"):
            read.encode(text)
    with pytest.raises(ValueError, match="tokens from 9223372036854775808"):
        read.decode(np.array([2**63], np.uint64))
    rows = np.array([3, 0], np.uint64), np.array([3, 0], ">i2"), jnp.array([3, 0]), iter([3, 0])
    assert [read.decode(row) for row in rows] == ["da"] * 4


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


def test_a_text_of_one_character_alone(tmp_path):
    with pytest.raises(ValueError, match="is the character 'a' alone; give one of at least two"):
        data.text(written(tmp_path, "a" * 100), 1)


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(DataError, match=r"none.txt cannot be read \(No such file.*check that"):
        data.text(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("count", "error"),
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("4", TypeError)],
)
def test_context_and_stride_are_counts(letters, count, error):
    with pytest.raises(error, match=r"^context must be an integer of at least 1, not"):
        data.text(letters, count)
    with pytest.raises(error, match=r"^stride must be an integer of at least 1, not"):
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
        ({"train": Part(tokens, tokens + 1)}, "labels from 1 to 4, but classes=4 takes those"),
        ({"train": Part(tokens, tokens[:, 0])}, r"labels \(2,\), but both must be \(n, context"),
        ({"train": Part(tokens[0], tokens[0])}, r"the shape \(2,\) .* \(n, context\)"),
        ({"train": Part(tokens + 0.5, tokens)}, "inputs must be integers, not float64"),
        ({"train": Part(tokens, tokens + 0.5)}, "labels must be integers, not float64"),
        ({"train": Part(tokens[:0], tokens[:0])}, "are empty"),
        ({"train": Part(tokens + 2**32, tokens)}, "int32 cannot hold"),
        ({"train": Part(tokens, tokens + 2**32)}, "labels from 4294967296 to 4294967299"),
        ({"train": {"tokens": tokens}}, "must be pairs of tokens and labels, not arrays by name"),
        ({"vocabulary": 4}, "vocabulary must be a str such as 'abc', not 4"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
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
