"""The named data sets: places, checksums, fetching, splits and published facts."""

import gzip
import hashlib
import http.server
import logging
import os
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fathomx import data
from fathomx.data import DataError, _named, read_idx

REAL = os.environ.get("FATHOMX_DATA")
CLOSED = "http://127.0.0.1:9/"


def needs(name):
    there = REAL is not None and (Path(REAL) / name / "train-images-idx3-ubyte.gz").is_file()
    return pytest.mark.skipif(not there, reason=f"FATHOMX_DATA has no {name}")


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()
    return gzip.compress(content, mtime=0)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A data set "tiny" of 12 + 4 images of 2x2, in no place yet; no network, empty cache."""
    images = np.arange(48).reshape(12, 2, 2) * 5
    files = {
        "train-images-idx3-ubyte.gz": idx(images),
        "train-labels-idx1-ubyte.gz": idx(np.arange(12) % 3),
        "t10k-images-idx3-ubyte.gz": idx(images[:4] + 1),
        "t10k-labels-idx1-ubyte.gz": idx(np.array([2, 1, 0, 2])),
    }
    source = _named._IdxSource(
        name="tiny",
        home=CLOSED,
        sha256={file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
        unpacked={
            file: hashlib.sha256(gzip.decompress(content)).hexdigest()
            for file, content in files.items()
        },
        validation=3,
        classes=3,
    )
    monkeypatch.setitem(_named._REGISTRY, "tiny", partial(_named._load_idx, source))
    monkeypatch.setattr(_named, "_cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("FATHOMX_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return source, files


def put(folder, files):
    (folder / "tiny").mkdir(parents=True)
    for file, content in files.items():
        (folder / "tiny" / file).write_bytes(content)
    return folder


def all_files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def check_tiny(loaded):
    """The values by the definition, from the same images computed here in float64."""
    images = np.arange(48).reshape(12, 4) * 5 / 255
    x, y = loaded.train
    assert x.shape == (9, 4) and loaded.validation.inputs.shape == (3, 4)
    assert loaded.augmentation is None
    assert loaded.image_shape == (2, 2) and loaded.classes == 3 and loaded.name == "tiny"
    # Rank of the first pixel among all images gives the index, and with it the label.
    first = np.concatenate([x[:, 0], loaded.validation.inputs[:, 0]])
    index = np.argsort(np.argsort(first))
    assert sorted(index.tolist()) == list(range(12))
    assert (np.concatenate([y, loaded.validation.labels]) == index % 3).all()
    chosen = images[index[:9]]
    moments = chosen.mean(), chosen.std()
    np.testing.assert_allclose(x, (chosen - moments[0]) / moments[1], atol=1e-6)
    np.testing.assert_allclose(
        loaded.test.inputs, (images[:4] + 1 / 255 - moments[0]) / moments[1], atol=1e-6
    )
    assert loaded.test.labels.tolist() == [2, 1, 0, 2]


def test_load_from_folder(tiny, tmp_path):
    check_tiny(data.load("tiny", folder=put(tmp_path / "own", tiny[1])))
    check_tiny(data.load("tiny", folder=str(tmp_path / "own")))


def test_load_from_environment_relative(tiny, tmp_path, monkeypatch):
    put(tmp_path / "own", tiny[1])
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("FATHOMX_DATA", "../own")
    check_tiny(data.load("tiny"))


def test_folder_goes_before_environment(tiny, tmp_path, monkeypatch):
    put(tmp_path / "own", tiny[1])
    put(tmp_path / "bad", dict.fromkeys(tiny[1], b"bad"))
    monkeypatch.setenv("FATHOMX_DATA", str(tmp_path / "bad"))
    check_tiny(data.load("tiny", folder=tmp_path / "own"))


@pytest.mark.parametrize("value", ["", "absent"])
def test_cache_where_the_environment_has_no_file(tiny, tmp_path, monkeypatch, value):
    put(tmp_path / "cache", tiny[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FATHOMX_DATA", value)
    check_tiny(data.load("tiny"))


def test_cache_fills_in_single_files(tiny, tmp_path):
    files = dict(tiny[1])
    last = files.popitem()
    put(tmp_path / "own", files)
    put(tmp_path / "cache", dict([last]))
    check_tiny(data.load("tiny", folder=tmp_path / "own"))


WAYS = (
    lambda file, content: (file, content),
    lambda file, content: (file.removesuffix(".gz"), gzip.decompress(content)),
    lambda file, content: (file.replace("-idx", ".idx"), content),
    lambda file, content: (
        file.replace("-idx", ".idx").removesuffix(".gz"),
        gzip.decompress(content),
    ),
    # A browser that unpacks what it saves, and leaves the name; and the other way round.
    lambda file, content: (file, gzip.decompress(content)),
    lambda file, content: (file.removesuffix(".gz"), content),
)


@pytest.mark.parametrize("ways", [*((way,) * 4 for way in range(6)), (0, 1, 2, 3), (3, 2, 1, 0)])
@pytest.mark.parametrize("place", ["own", "cache"])
def test_names_with_a_dot_and_unpacked_files(tiny, tmp_path, ways, place):
    files = dict(
        WAYS[way](file, content) for way, (file, content) in zip(ways, tiny[1].items(), strict=True)
    )
    put(tmp_path / place, files)
    check_tiny(data.load("tiny", folder=tmp_path / "own"))


def test_folders_of_the_names_of_files_are_passed_by(tiny, tmp_path):
    files = dict(WAYS[3](*item) for item in tiny[1].items())
    folder = put(tmp_path / "own", files)
    for file in tiny[1]:
        (folder / "tiny" / file.removesuffix(".gz")).mkdir()
    check_tiny(data.load("tiny", folder=folder))


def test_unpacked_files_without_a_published_checksum_are_passed_by(tiny, tmp_path, monkeypatch):
    source = replace(tiny[0], unpacked={})
    monkeypatch.setitem(_named._REGISTRY, "tiny", partial(_named._load_idx, source))
    packed = put(tmp_path / "packed", dict(WAYS[2](*item) for item in tiny[1].items()))
    check_tiny(data.load("tiny", folder=packed))
    unpacked = put(tmp_path / "unpacked", dict(WAYS[1](*item) for item in tiny[1].items()))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz .* is missing"):
        data.load("tiny", folder=unpacked)


@pytest.mark.parametrize("way", [1, 3])
def test_unpacked_files_have_their_checksum(tiny, tmp_path, way):
    files = dict(WAYS[way](*item) for item in tiny[1].items())
    file = next(iter(files))
    files[file] = files[file][:-1] + b"\xff"
    folder = put(tmp_path / "own", files)
    with pytest.raises(DataError, match=r"corrupted or truncated .*delete it") as caught:
        data.load("tiny", folder=folder)
    assert str(folder / "tiny" / file) in str(caught.value)


@pytest.mark.parametrize("place", ["own", "cache"])
@pytest.mark.parametrize("spoil", ["truncated", "changed"])
def test_local_file_with_another_checksum(tiny, tmp_path, place, spoil):
    files = dict(tiny[1])
    file = "t10k-images-idx3-ubyte.gz"
    # The changed file is a well-formed idx file, so only the checksum can tell.
    files[file] = files[file][:-3] if spoil == "truncated" else idx(np.ones((4, 2, 2)))
    folder = put(tmp_path / place, files)
    with pytest.raises(DataError, match=r"corrupted or truncated .*delete it") as caught:
        data.load("tiny", folder=folder)
    assert str(folder / "tiny" / file) in str(caught.value)


def test_offline_and_absent(tiny, tmp_path, capfd, caplog):
    start = time.perf_counter()
    with caplog.at_level(logging.INFO), pytest.raises(DataError) as caught:
        data.load("tiny", folder=tmp_path / "own")
    assert time.perf_counter() - start < 10
    message = str(caught.value)
    for words in (
        "'tiny'",
        "train-images-idx3-ubyte.gz",
        str(tmp_path / "own" / "tiny"),
        str(tmp_path / "cache" / "tiny"),
        CLOSED,
        "connect to the network",
        "set FATHOMX_DATA",
    ):
        assert words in message
    assert "\n" not in message and message.endswith(".")
    assert caught.value.__suppress_context__
    assert all_files(tmp_path) == []
    assert "".join(capfd.readouterr()) == ""
    assert not [record for record in caplog.records if record.name == "pooch"]


class Handler(http.server.SimpleHTTPRequestHandler):
    requests: list

    def log_message(self, *args):
        self.requests.append(self.path)


@pytest.fixture
def server(tmp_path, tiny, monkeypatch):
    """A public home of "tiny" on this machine: its folder and the paths asked for."""
    asked = []
    handler = type("Logged", (Handler,), {"requests": asked})
    home = tmp_path / "home"
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(handler, directory=str(home))
    ) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        source = replace(tiny[0], home=f"http://127.0.0.1:{running.server_port}/tiny/")
        monkeypatch.setitem(_named._REGISTRY, "tiny", partial(_named._load_idx, source))
        yield home, asked
        running.shutdown()
        thread.join()


def test_fetch_into_the_cache_once(tiny, server, tmp_path, capfd):
    home, asked = server
    put(home, tiny[1])
    check_tiny(data.load("tiny"))
    assert sorted(path.name for path in all_files(tmp_path / "cache")) == sorted(tiny[1])
    assert len(asked) == 4
    check_tiny(data.load("tiny"))
    assert len(asked) == 4
    assert "".join(capfd.readouterr()) == ""


def test_fetch_of_a_corrupted_copy(tiny, server, tmp_path):
    home, asked = server
    put(home, {file: content[:-5] for file, content in tiny[1].items()})
    with pytest.raises(DataError, match=r"'tiny' is missing .*corrupted or truncated"):
        data.load("tiny")
    assert len(asked) == 1
    assert all_files(tmp_path / "cache") == []


def test_fetch_of_an_absent_file(tiny, server, tmp_path):
    with pytest.raises(DataError, match="HTTPError"):
        data.load("tiny")
    assert all_files(tmp_path / "cache") == []


def test_cache_that_cannot_be_made(tiny, server, tmp_path, monkeypatch):
    put(server[0], tiny[1])
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="could not be fetched"):
        data.load("tiny")


def test_cache_folder_is_the_users():
    pooch = pytest.importorskip("pooch")
    assert _named._cache_folder() == Path(pooch.os_cache("fathomx"))


def test_names():
    images = ("digits", "mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "svhn")
    tables = ("wine", "breast-cancer", "diabetes")
    assert data.names() == (*images, "tiny-imagenet", *tables, "tiny-shakespeare")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("mnits", "mnist"),
        ("MNIST", "mnist"),
        ("fashion_mnist", "fashion-mnist"),
        ("digit", "digits"),
        ("cifar-10", "cifar10"),
    ],
)
def test_unknown_name_gives_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"Did you mean '{nearest}'") as caught:
        data.load(name)
    assert repr(name) in str(caught.value)
    assert "digits, mnist, fashion-mnist, kmnist, cifar10" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "error"),
    [("zzzz", ValueError), ("", ValueError), *((n, TypeError) for n in (None, 3, ["mnist"]))],
)
def test_unknown_name_near_to_none(name, error):
    with pytest.raises(error, match="digits, mnist, fashion-mnist, kmnist, cifar10"):
        data.load(name)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"folder": 3}, TypeError, "folder must be a path such as '~/data', not 3"),
        ({"folder": b"data"}, TypeError, "folder must be a path"),
        ({"folder": ""}, ValueError, "folder is empty"),
        ({"context": 1.5}, TypeError, "context must be an integer of at least 1, not 1.5"),
        ({"context": 0}, ValueError, "context must be an integer of at least 1, not 0"),
        ({"context": 8}, ValueError, "data set 'digits' is no text"),
    ],
)
def test_options_of_load(options, error, words):
    with pytest.raises(error, match=words):
        data.load("digits", **options)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_digits_form(digits):
    sizes = [len(part.labels) for part in (digits.train, digits.validation, digits.test)]
    assert sizes == [1257, 180, 360]
    assert (digits.input_shape, digits.image_shape, digits.classes) == ((64,), (8, 8), 10)
    for x, y in (digits.train, digits.validation, digits.test):
        assert x.dtype == np.float32 and x.flags.c_contiguous
        assert y.dtype == np.int32
        assert np.bincount(y, minlength=10).min() >= len(y) / 20


def test_digits_moments(digits):
    x = digits.train.inputs.astype(np.float64)
    assert abs(x.mean()) < 1e-6 and abs(x.std() - 1) < 1e-6
    # The other parts are scaled by the train part's moments, so theirs are only near.
    for part in (digits.validation, digits.test):
        assert abs(part.inputs.mean()) < 0.05 and abs(part.inputs.std() - 1) < 0.05


def test_digits_is_each_original_example_once(digits):
    pixels, labels = load_digits(return_X_y=True)
    where = {row.astype(np.uint8).tobytes(): index for index, row in enumerate(pixels)}
    assert len(where) == 1797
    # The lowest and highest values of the original pixels are 0 and 16 in every large part.
    low, high = digits.train.inputs.min(), digits.train.inputs.max()
    found = []
    for x, y in (digits.train, digits.validation, digits.test):
        restored = np.rint((x - low) / (high - low) * 16).astype(np.uint8)
        index = [where[row.tobytes()] for row in restored]
        assert (labels[index] == y).all()
        found += index
    assert sorted(found) == list(range(1797))


def test_digits_split_is_fixed(digits):
    again = data.load("digits", folder="unused")
    assert (again.train.inputs == digits.train.inputs).all()
    # Pinned: a change here would change every published result on this data set.
    assert digits.train.labels[:8].tolist() == [6, 6, 6, 2, 5, 6, 6, 2]


@pytest.fixture(scope="module", params=["mnist", "fashion-mnist"])
def real(request):
    folder = Path(REAL or "") / request.param
    if REAL is None or not folder.is_dir():
        pytest.skip(f"FATHOMX_DATA has no {request.param}")
    return data.load(request.param), folder


def test_real_form(real):
    loaded, _ = real
    sizes = [len(part.labels) for part in (loaded.train, loaded.validation, loaded.test)]
    assert sizes == [55000, 5000, 10000]
    assert (loaded.input_shape, loaded.image_shape, loaded.classes) == ((784,), (28, 28), 10)
    for x, y in (loaded.train, loaded.validation, loaded.test):
        assert x.dtype == np.float32 and x.flags.c_contiguous
        assert y.dtype == np.int32
    x = loaded.train.inputs
    assert abs(x.mean(dtype=np.float64)) < 1e-6 and abs(x.std(dtype=np.float64) - 1) < 1e-6


def test_real_train_and_validation_are_the_original_train_file(real):
    loaded, folder = real
    images = read_idx(folder / "train-images-idx3-ubyte.gz").reshape(60000, 784)
    labels = read_idx(folder / "train-labels-idx1-ubyte.gz")
    low = loaded.train.inputs.min()
    step = (loaded.train.inputs.max() - low) / 255
    lines = []
    for x, y in (loaded.train, loaded.validation):
        pixels = np.rint((x - low) / step).astype(np.uint8)
        lines += [hash((row.tobytes(), int(label))) for row, label in zip(pixels, y, strict=True)]
    original = [hash((row.tobytes(), int(y))) for row, y in zip(images, labels, strict=True)]
    assert sorted(lines) == sorted(original)
    assert lines != original


def test_real_test_part_is_in_the_original_order(real):
    loaded, folder = real
    assert (loaded.test.labels == read_idx(folder / "t10k-labels-idx1-ubyte.gz")).all()


def test_real_files_unpacked_and_with_dots(real, tmp_path):
    """Half of them packed as published, half not: the same arrays."""
    loaded, folder = real
    own = tmp_path / folder.name
    own.mkdir()
    for path in folder.glob("*.gz"):
        file, content = WAYS[3 if "train" in path.name else 1](path.name, path.read_bytes())
        (own / file).write_bytes(content)
    again = data.load(folder.name, folder=tmp_path)
    for title in ("train", "validation", "test"):
        for one, other in zip(getattr(loaded, title), getattr(again, title), strict=True):
            assert one.tobytes() == other.tobytes()


@needs("mnist")
def test_mnist_published_facts():
    folder = Path(REAL) / "mnist"
    labels = read_idx(folder / "train-labels-idx1-ubyte.gz")
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(labels).tolist() == counts
    images = read_idx(folder / "train-images-idx3-ubyte.gz") / np.float32(255)
    assert abs(images.mean(dtype=np.float64) - 0.1307) < 5e-5
    assert abs(images.std(dtype=np.float64) - 0.3081) < 5e-5


@needs("fashion-mnist")
def test_fashion_mnist_published_facts():
    folder = Path(REAL) / "fashion-mnist"
    for file, count in (("train-labels-idx1-ubyte.gz", 6000), ("t10k-labels-idx1-ubyte.gz", 1000)):
        assert np.bincount(read_idx(folder / file)).tolist() == [count] * 10
