"""CIFAR-100 and SVHN: small files of their formats, written here byte by byte."""

import gzip
import hashlib
import io
import tarfile
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.io import savemat

from fathomx import data
from fathomx.data import DataError, _named
from fathomx.data._formats import parse_cifar100, parse_svhn

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
FINE = [99, 0, 5, 7, 5, 42]


def records(pixels, fine, coarse=3):
    """A coarse label, a fine one, then all red values by rows, all green, all blue."""
    rows = []
    for image, label in zip(pixels, fine, strict=True):
        planes = [
            image[row, column, c] for c in range(3) for row in range(32) for column in range(32)
        ]
        rows.append(bytes([coarse, label, *planes]))
    return b"".join(rows)


def packed(**members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-100-binary/{name}.bin")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), mtime=0)


def mat(**arrays):
    stream = io.BytesIO()
    savemat(stream, arrays, do_compression=True)
    return stream.getvalue()


def svhn(pixels, labels):
    return mat(X=np.moveaxis(pixels, 0, -1), y=np.array(labels, np.uint8)[:, None])


def test_cifar100_is_read_in_the_order_of_its_records():
    content = packed(train=records(PIXELS, FINE), test=records(PIXELS[:1], [1]))
    images, labels = parse_cifar100(content, "cifar-100-binary/train.bin", "x.tar.gz")
    assert (images == PIXELS).all() and labels.tolist() == FINE
    assert images.flags.c_contiguous and images.dtype == labels.dtype == np.uint8
    assert len(parse_cifar100(content, "cifar-100-binary/test.bin", "x.tar.gz")[0]) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no tar file", "train.bin cannot be read from it"),
        (b"", "cannot be read from it"),
        (packed(test=records(PIXELS[:1], [1])), "cannot be read from it"),
        (packed(train=records(PIXELS, FINE))[:9000], "cannot be read from it"),
        (packed(train=b""), "has 0 bytes, expected some records of 3074 bytes"),
        (packed(train=records(PIXELS, FINE)[:-1]), "has 18443 bytes"),
        (packed(train=records(PIXELS[:1], [100])), "the fine label 100, expected 0 to 99"),
        (packed(train=records(PIXELS[:1], [1], 20)), "the coarse label 20, expected 0 to 19"),
    ],
)
def test_broken_cifar100(content, words):
    with pytest.raises(DataError, match=words) as caught:
        parse_cifar100(content, "cifar-100-binary/train.bin", "x.tar.gz")
    assert "the file x.tar.gz is corrupted" in str(caught.value)


def test_svhn_counts_examples_along_its_last_axis_and_zero_as_ten():
    images, labels = parse_svhn(svhn(PIXELS, [10, 1, 9, 2, 10, 5]), "x.mat")
    assert (images == PIXELS).all() and labels.tolist() == [0, 1, 9, 2, 0, 5]
    assert images.flags.c_contiguous and images.dtype == labels.dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no mat file", "it cannot be read"),
        (svhn(PIXELS, [1] * 6)[:900], "it cannot be read"),
        (mat(z=1), "its X is float64 of shape"),
        (mat(X=PIXELS, y=[1] * 6), "its X is uint8 of shape"),
        (mat(X=np.moveaxis(PIXELS, 0, -1)), "its y holds 0 labels"),
        (svhn(PIXELS, [1] * 5), "its y holds 5 labels of uint8 for 6 images"),
        (svhn(PIXELS, [0] * 6), "labels from 0 to 0, expected 1 to 10"),
        (svhn(PIXELS, [11] * 6), "labels from 11 to 11, expected 1 to 10"),
    ],
)
def test_broken_svhn(content, words):
    with pytest.raises(DataError, match=words) as caught:
        parse_svhn(content, "x.mat")
    assert "the file x.mat is corrupted" in str(caught.value)


FILES = {
    "cifar100": {
        "cifar-100-binary.tar.gz": packed(
            train=records(PIXELS, FINE), test=records(PIXELS[:2], [1, 98])
        )
    },
    "svhn": {
        "train_32x32.mat": svhn(PIXELS, [10, 1, 9, 2, 10, 5]),
        "test_32x32.mat": svhn(PIXELS[:2], [1, 10]),
    },
}
SOURCES = {"cifar100": _named._CIFAR100, "svhn": _named._SVHN}


@pytest.fixture(params=FILES)
def small(request, tmp_path, monkeypatch):
    """A set by its name, of the small files above, in `FATHOMX_DATA`."""
    name = request.param
    (tmp_path / name).mkdir()
    for file, content in FILES[name].items():
        (tmp_path / name / file).write_bytes(content)
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in FILES[name].items()}
    source = replace(SOURCES[name], sha256=sums, validation=2, home="http://127.0.0.1:9/")
    monkeypatch.setitem(_named._REGISTRY, name, partial(_named._load_packed, source))
    monkeypatch.setattr(_named, "_cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("FATHOMX_DATA", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    return name


def test_load_divides_and_standardizes(small):
    loaded = data.load(small)
    assert loaded.classes == (100 if small == "cifar100" else 10)
    assert loaded.augmentation == (data.CropAndFlip() if small == "cifar100" else None)
    assert loaded.image_shape == loaded.input_shape == (32, 32, 3)
    order = np.random.default_rng(0).permutation(6)
    labels = np.array(FINE if small == "cifar100" else [0, 1, 9, 2, 0, 5])
    assert loaded.train.labels.tolist() == labels[order[:4]].tolist()
    assert loaded.validation.labels.tolist() == labels[order[4:]].tolist()
    assert loaded.test.labels.tolist() == ([1, 98] if small == "cifar100" else [1, 0])
    chosen = PIXELS[order[:4]].astype(np.float64)
    mean, std = chosen.mean(axis=(0, 1, 2)), chosen.std(axis=(0, 1, 2))
    np.testing.assert_allclose(loaded.train.inputs, (chosen - mean) / std, atol=1e-5)
    np.testing.assert_allclose(loaded.test.inputs, (PIXELS[:2] - mean) / std, atol=1e-5)


def test_other_files_are_refused(small, tmp_path):
    file = next(iter(FILES[small]))
    path = tmp_path / small / file
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match="do not have the published sha256"):
        data.load(small)
    path.unlink()
    with pytest.raises(DataError, match=f"set FATHOMX_DATA to a folder that holds {small}/{file}"):
        data.load(small)


def test_published_checksums_are_of_the_files_that_are_read():
    for source in SOURCES.values():
        assert set(source.files.values()) == set(source.sha256)
        assert all(len(each) == 64 and int(each, 16) for each in source.sha256.values())
