"""read_idx, against files built by hand from the published format."""

import gzip

import numpy as np
import pytest

from fathomx.data import DataError, read_idx

# Two images of 2x3 and three labels, byte for byte.
IMAGES = bytes.fromhex("00000803 00000002 00000002 00000003") + bytes(
    [0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255]
)
LABELS = bytes.fromhex("00000801 00000003 050009")


def write(folder, content, compress=True):
    path = folder / "some-idx.gz"
    path.write_bytes(gzip.compress(content, mtime=0) if compress else content)
    return path


def refused(path):
    with pytest.raises(DataError) as caught:
        read_idx(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_images(tmp_path):
    images = read_idx(write(tmp_path, IMAGES))
    assert images.dtype == np.uint8 and images.flags.c_contiguous
    assert images.tolist() == [[[0, 1, 2], [3, 4, 5]], [[250, 251, 252], [253, 254, 255]]]


def test_labels_by_path_as_text(tmp_path):
    labels = read_idx(str(write(tmp_path, LABELS)))
    assert labels.shape == (3,)
    assert labels.tolist() == [5, 0, 9]


@pytest.mark.parametrize("name", ["a-idx.gz", "a-idx", "a.idx3-ubyte", "a"])
def test_packed_and_unpacked_files_of_any_name(tmp_path, name):
    for compress in (True, False):
        path = write(tmp_path, IMAGES, compress).rename(tmp_path / name)
        assert read_idx(path).ravel().tolist() == list(IMAGES[16:])


@pytest.mark.parametrize("path", [None, 3, b"a.gz", ["a.gz"], True])
def test_a_path_is_a_text_or_a_path(path):
    with pytest.raises(TypeError, match=r"^path must be a path such as '.*', not .*\.$"):
        read_idx(path)


def test_paths_that_no_system_takes():
    with pytest.raises(ValueError, match="path is empty"):
        read_idx("")
    with pytest.raises(ValueError, match="path without null characters"):
        read_idx("a\0b")


def test_sizes_are_big_endian(tmp_path):
    content = bytes.fromhex("00000801 00000102") + bytes(258)
    assert read_idx(write(tmp_path, content)).shape == (258,)


def test_data_longer_than_one_chunk(tmp_path):
    count = (1 << 20) + 7
    body = np.arange(count, dtype=np.uint32).astype(np.uint8)
    content = b"\0\0\x08\x01" + count.to_bytes(4, "big") + body.tobytes()
    assert (read_idx(write(tmp_path, content)) == body).all()
    assert f"more than {count} bytes" in refused(write(tmp_path, content + b"\0"))


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "(none)"),
        (b"<html>Not found</html>", "3c 68 74 6d"),
        (b"\0\0", "00 00"),
        (b"\x89PNG" + IMAGES[4:], "89 50 4e 47"),
        (b"\0\0\x08\x00", "number of axes"),
        (b"\0\0\x08\x05" + bytes(20), "number of axes"),
        (b"\0\0\x0d\x01" + LABELS[4:], "type 0x0d, expected 0x08"),
        (IMAGES[:9], "header has 9 bytes, expected 16"),
        (bytes.fromhex("00000801 00000000"), "no size of zero"),
        (IMAGES[:-1], "holds 11 bytes of data, expected 12"),
        (IMAGES + b"\0", "holds more than 12 bytes of data, expected 12"),
        (b"\0\0\x08\x04" + b"\xff" * 16 + b"abc", "holds 3 bytes of data"),
    ],
)
def test_broken_content(tmp_path, content, words, compress):
    message = refused(write(tmp_path, content, compress))
    assert words in message
    assert "corrupted or truncated" in message and "fresh copy" in message


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole[:-8] + b"\0\0\0\0" + whole[-4:],
        lambda whole: whole[:10] + b"\xff" * (len(whole) - 10),
        lambda whole: whole + b"garbage",
    ],
    ids=["half", "one-byte-short", "checksum", "deflate", "trailing"],
)
def test_broken_gzip(tmp_path, spoil):
    path = write(tmp_path, spoil(gzip.compress(IMAGES, mtime=0)), compress=False)
    assert "not a whole gzip file" in refused(path)


def test_every_truncation_is_refused(tmp_path):
    whole = gzip.compress(IMAGES, mtime=0)
    for length in range(len(whole)):
        assert "corrupted or truncated" in refused(write(tmp_path, whole[:length], False))


def test_missing_file_and_folder(tmp_path):
    assert "cannot be read" in refused(tmp_path / "absent.gz")
    assert "cannot be read" in refused(tmp_path)


def test_data_error_is_an_os_error():
    assert issubclass(DataError, OSError)
