"""Byte-order marks, line ends and encodings, against the same text written by Python."""

import codecs

import pytest

from fathomx import data
from fathomx.data import DataError

TEXT = "Äpfel, naïve café: it's\nfine.\n\n" * 4


def read(tmp_path, content, **options):
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    found = data.text(path, 1, stride=1, **options)
    # All characters but the last of each part are inputs of windows of one.
    ends = [len(TEXT) * end // 100 for end in (90, 95, 100)]
    begins = [0, *ends[:-1]]
    for part, begin, end in zip(
        (found.train, found.validation, found.test), begins, ends, strict=True
    ):
        assert found.decode(part.inputs[:, 0]) == TEXT[begin : end - 1]
        assert found.decode(part.labels[:, 0]) == TEXT[begin + 1 : end]
    assert found.vocabulary == "".join(sorted(set(TEXT)))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_marks_and_line_ends_are_no_characters(tmp_path, mark, encoding, end):
    content = mark + TEXT.replace("\n", end).encode(encoding)
    read(tmp_path, content)
    # The mark tells the encoding, whatever the argument says.
    read(tmp_path, content, encoding="latin-1" if mark else "utf-8")


def test_mixed_line_ends(tmp_path):
    read(tmp_path, TEXT.replace("\n\n", "\r\n\r").encode())


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "UTF-16LE", "utf_16_be", "mac-roman"])
def test_other_encodings(tmp_path, encoding):
    read(tmp_path, TEXT.encode(encoding), encoding=encoding)


def test_a_text_as_pythons_text_mode_reads_it(tmp_path):
    path = tmp_path / "own.txt"
    path.write_bytes(("a\r\nb\rc\n\r\n" * 20).encode())
    found = data.text(path, 1)
    assert found.vocabulary == "\nabc"
    assert found.encode(path.read_text()[:5]).tolist() == [1, 0, 2, 0, 3]


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (b"ab\xff" * 50, "utf-8", "is not utf-8 text (byte 2, 0xff, does not decode)"),
        ("é".encode("latin-1") * 50, "utf-8", "is not utf-8 text (byte 0, 0xe9, does"),
        (b"ab\x81", "cp1252", "is not cp1252 text (byte 2, 0x81, does not decode)"),
        (codecs.BOM_UTF16_LE + b"a\0b", "utf-8", "is not utf-16 text (byte 4, 0x62, does"),
        ("é".encode(), "ascii", "is not ascii text (byte 0, 0xc3, does not decode)"),
    ],
)
def test_bytes_that_do_not_decode(tmp_path, content, encoding, said):
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        data.text(path, 1, encoding=encoding)
    message = str(caught.value)
    assert said in message and str(path) in message
    assert 'possibly encoding="latin-1"' in message and "\n" not in message


@pytest.mark.parametrize(
    ("encoding", "near"), [("utf-88", "utf-8"), ("latin_11", "latin"), ("windows-125l", "window")]
)
def test_unknown_encodings_have_a_nearest_name(tmp_path, encoding, near):
    with pytest.raises(ValueError, match=rf"^unknown encoding '{encoding}'\. Did you mean '{near}"):
        data.text(tmp_path / "own.txt", encoding=encoding)


@pytest.mark.parametrize(
    "encoding", ["hex", "rot13", "base64", "zip", "undefined", "a\0b", "\ud800"]
)
def test_what_is_no_encoding_of_texts(tmp_path, encoding):
    with pytest.raises(ValueError, match=r"^unknown encoding .* Give one that Python knows, such"):
        data.text(tmp_path / "own.txt", encoding=encoding)


@pytest.mark.parametrize("encoding", [None, 8, b"utf-8", ["utf-8"], True])
def test_an_encoding_is_a_text(tmp_path, encoding):
    with pytest.raises(TypeError, match="encoding must be a text such as 'utf-8', not"):
        data.text(tmp_path / "own.txt", encoding=encoding)


@pytest.mark.parametrize("path", [None, 3, b"own.txt", ["own.txt"], object()])
def test_a_path_is_a_text_or_a_path(path):
    with pytest.raises(TypeError, match=r"^path must be a path such as 'novel.txt', not"):
        data.text(path)
