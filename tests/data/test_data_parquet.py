"""Images in parquet files: reading, the cache of decoded arrays, every error, CIFAR-10."""

import hashlib
import http.server
import io
import os
import pickle
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fathomx import data
from fathomx.data import CropAndFlip, DataError, _named, _parquet
from fathomx.data._parquet import ImageFile, read_images
from fathomx.data._scale import PixelScale

REAL = os.environ.get("FATHOMX_DATA")
TRAIN, TEST = "train-00000-of-00001.parquet", "test-00000-of-00001.parquet"
# Not square, so that height and width cannot be mistaken for each other.
SHAPE = (4, 6, 3)


def pictures(n, seed=0):
    """Random images whose channels have unlike moments; the first pixel tells the row."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, [256, 128, 32], size=(n, *SHAPE)).astype(np.uint8)
    images[:, 0, 0, 0] = 20 * np.arange(n)
    return images


def encoded(image, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return stream.getvalue()


def cells(images, kind="PNG"):
    return [{"bytes": encoded(image, kind), "path": f"{i}"} for i, image in enumerate(images)]


IMG = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def write(path, img, label, img_type=IMG, label_type=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"img": pa.array(img, img_type), "label": pa.array(label, label_type or pa.int64())}
    pq.write_table(pa.table(columns), path, row_group_size=5)
    return path


def expects(images, labels, classes=3):
    content = images.tobytes() + bytes(labels)
    return ImageFile(
        rows=len(images),
        shape=images.shape[1:],
        classes=classes,
        sha256=hashlib.sha256(content).hexdigest(),
    )


IMAGES, LABELS = pictures(12), [0, 1, 2] * 4
EXPECTED = expects(IMAGES, LABELS)


def check(result):
    images, labels = result
    assert images.dtype == labels.dtype == np.uint8
    assert images.shape == IMAGES.shape and (images == IMAGES).all()
    assert labels.tolist() == LABELS


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def on_disk(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("batch", [2, 5, 1000])
def test_images_of_either_format(tmp_path, monkeypatch, kind, batch):
    monkeypatch.setattr(_parquet, "_BATCH", batch)
    path = write(tmp_path / "some.parquet", cells(IMAGES, kind), LABELS)
    check(read_images(path, EXPECTED, tmp_path / "cache"))


@pytest.mark.parametrize("binary", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("whole", [pa.int64(), pa.uint8(), pa.int32()])
def test_other_widths_of_the_columns(tmp_path, binary, whole):
    img = pa.struct({"path": pa.string(), "bytes": binary})
    path = write(tmp_path / "some.parquet", cells(IMAGES), LABELS, img, whole)
    check(read_images(path, EXPECTED, tmp_path / "cache"))


# The cache of decoded arrays.


@pytest.fixture
def stored(tmp_path):
    """A parquet file that has been read once: its path, the cache, the two arrays in it."""
    path, cache = write(tmp_path / "some.parquet", cells(IMAGES), LABELS), tmp_path / "cache"
    check(read_images(path, EXPECTED, cache))
    images, labels = sorted(cache.iterdir())
    return path, cache, images, labels


def never(*args):
    raise AssertionError("decoded again")


def test_second_reading_maps_the_decoded_arrays(stored, monkeypatch):
    path, cache, images, labels = stored
    assert np.load(images).tolist() == IMAGES.tolist() and np.load(labels).tolist() == LABELS
    monkeypatch.setattr(_parquet, "_decode", never)
    monkeypatch.setattr(Image, "open", never)
    result = read_images(path, EXPECTED, cache)
    check(result)
    for array in result:
        assert on_disk(array) and not array.flags.writeable


def test_first_reading_maps_them_too(tmp_path):
    path = write(tmp_path / "some.parquet", cells(IMAGES), LABELS)
    assert all(on_disk(array) for array in read_images(path, EXPECTED, tmp_path / "cache"))


class Trap:
    def __reduce__(self):
        return (sys.exit, ("unpickled",))


def save(array):
    return lambda path: np.save(path, array)


def cut(bytes_off):
    return lambda path: path.write_bytes(path.read_bytes()[:-bytes_off])


def flip_one_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def trap_in_npy(path):
    np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)


SPOILED = {
    "truncated": cut(1),
    "header-only": lambda path: path.write_bytes(path.read_bytes()[:128]),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00" + b"{'(" * 50),
    "zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(400)),
    "dtype": save(IMAGES.astype(np.int16)),
    "signed": save(IMAGES.view(np.int8)),
    "shape": save(IMAGES.reshape(12, -1)),
    "rows": save(IMAGES[:11]),
    "order": save(np.asfortranarray(IMAGES)),
    "pixel": flip_one_bit,
    "object": trap_in_npy,
    "pickle": lambda path: path.write_bytes(pickle.dumps(Trap())),
    "absent": lambda path: path.unlink(),
}


@pytest.mark.parametrize("which", [2, 3], ids=["images", "labels"])
@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_array_is_decoded_again(stored, monkeypatch, which, spoil):
    path, cache = stored[:2]
    spoil(stored[which])
    check(read_images(path, EXPECTED, cache))
    assert len(files_in(cache)) == 2
    # It has been put right, so the next reading decodes no more.
    monkeypatch.setattr(_parquet, "_decode", never)
    check(read_images(path, EXPECTED, cache))


def test_another_file_in_the_same_place_is_not_mistaken(stored):
    path, cache, *_ = stored
    write(path, cells(IMAGES[::-1]), LABELS)
    with pytest.raises(DataError, match="differ from the published ones"):
        read_images(path, EXPECTED, cache)


def test_a_file_that_was_only_copied_is_not_decoded_again(stored, tmp_path, monkeypatch):
    path, cache, *_ = stored
    (tmp_path / "other").mkdir()
    copy = tmp_path / "other" / path.name
    copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(_parquet, "_decode", never)
    check(read_images(copy, EXPECTED, cache))


def test_cache_that_cannot_be_made(tmp_path):
    path = write(tmp_path / "some.parquet", cells(IMAGES), LABELS)
    (tmp_path / "cache").write_text("a file where the folder should be")
    result = read_images(path, EXPECTED, tmp_path / "cache")
    check(result)
    assert not any(on_disk(array) for array in result)


@pytest.mark.parametrize("step", ["save", "replace"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, step):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((np, "save") if step == "save" else (os, "replace")), full)
    path = write(tmp_path / "some.parquet", cells(IMAGES), LABELS)
    check(read_images(path, EXPECTED, tmp_path / "cache"))
    assert files_in(tmp_path / "cache") == []


def test_several_at_once(tmp_path):
    path = write(tmp_path / "some.parquet", cells(IMAGES), LABELS)
    with ThreadPoolExecutor(8) as pool:
        tasks = [pool.submit(read_images, path, EXPECTED, tmp_path / "cache") for _ in range(24)]
    for task in tasks:
        check(task.result())
    assert len(files_in(tmp_path / "cache")) == 2


# Errors.


def refused(path, cache, expected=EXPECTED):
    with pytest.raises(DataError) as caught:
        read_images(path, expected, cache)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and message.endswith(".")
    assert files_in(cache) == []
    return message


def changed_cell(content):
    img = cells(IMAGES)
    img[7] = content
    return img


GRAY, ALPHA = np.zeros((4, 6), np.uint8), np.full((4, 6, 4), 255, np.uint8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "row 7 has no image"),
        ({"bytes": None, "path": "x"}, "row 7 has no image"),
        ({"bytes": b""}, "image of row 7 cannot be decoded (UnidentifiedImageError)"),
        ({"bytes": b"<html>"}, "image of row 7 cannot be decoded (UnidentifiedImageError)"),
        ({"bytes": encoded(IMAGES[7])[:60]}, "image of row 7 cannot be decoded"),
        ({"bytes": encoded(IMAGES[7], "WEBP")[:-9]}, "image of row 7 cannot be decoded"),
        ({"bytes": encoded(IMAGES[7], "JPEG")}, "image of row 7 cannot be decoded"),
        ({"bytes": encoded(IMAGES[7, :3])}, "row 7 is 6x3 RGB, expected 6x4 RGB pixels"),
        ({"bytes": encoded(IMAGES[7].swapaxes(0, 1))}, "row 7 is 4x6 RGB, expected 6x4"),
        ({"bytes": encoded(GRAY)}, "row 7 is 6x4 L, expected 6x4 RGB pixels"),
        ({"bytes": encoded(ALPHA)}, "row 7 is 6x4 RGBA, expected 6x4 RGB pixels"),
    ],
)
def test_a_bad_image_is_named(tmp_path, content, words):
    path = write(tmp_path / "some.parquet", changed_cell(content), LABELS)
    message = refused(path, tmp_path / "cache")
    assert words in message and "delete it and load the data set again" in message


@pytest.mark.parametrize("label", [-1, 3, 256, 2**40, None])
def test_a_bad_label_is_named(tmp_path, label):
    path = write(tmp_path / "some.parquet", cells(IMAGES), [*LABELS[:6], label, *LABELS[7:]])
    message = refused(path, tmp_path / "cache")
    assert f"row 6 has the label {label}, expected 0 to 2" in message
    assert "delete it and load the data set again" in message


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": LABELS}, "does not have one column 'img'"),
        ({"img": cells(IMAGES)}, "does not have one column 'label'"),
        ({"img": LABELS, "label": LABELS}, "'img' is int64, expected a struct"),
        ({"img": [{"path": "x"}] * 12, "label": LABELS}, "expected a struct with the binary"),
        ({"img": [{"bytes": "x"}] * 12, "label": LABELS}, "expected a struct with the binary"),
        ({"img": cells(IMAGES), "label": ["cat"] * 12}, "'label' is string, expected integers"),
        ({"img": cells(IMAGES), "label": [0.5] * 12}, "'label' is double, expected integers"),
        ({"img": cells(IMAGES)[:9], "label": LABELS[:9]}, "has 9 rows, expected 12"),
        ({"img": cells(IMAGES) * 2, "label": LABELS * 2}, "has 24 rows, expected 12"),
    ],
)
def test_other_columns_and_rows(tmp_path, columns, words):
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table(columns), path)
    message = refused(path, tmp_path / "cache")
    assert words in message and "delete it" in message


def test_a_column_that_occurs_twice(tmp_path):
    path = tmp_path / "some.parquet"
    columns = [pa.array(cells(IMAGES), IMG), pa.array(LABELS), pa.array(LABELS)]
    pq.write_table(pa.Table.from_arrays(columns, ["img", "label", "label"]), path)
    assert "does not have one column 'label'" in refused(path, tmp_path / "cache")


def test_other_pixels_or_labels_than_the_published(tmp_path):
    other = IMAGES.copy()
    other[11, 3, 5, 2] ^= 1
    path = write(tmp_path / "a.parquet", cells(other), LABELS)
    assert "differ from the published ones" in refused(path, tmp_path / "cache")
    path = write(tmp_path / "b.parquet", cells(IMAGES), [*LABELS[:11], 1])
    assert "differ from the published ones" in refused(path, tmp_path / "cache")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole[1:],
        lambda whole: b"<html>Not found</html>" * 20,
        lambda whole: whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :],
    ],
    ids=["empty", "half", "one-byte-short", "first-byte-lost", "html", "zeros"],
)
def test_a_damaged_file(tmp_path, spoil):
    path = write(tmp_path / "some.parquet", cells(IMAGES), LABELS)
    path.write_bytes(spoil(path.read_bytes()))
    assert "is corrupted or truncated" in refused(path, tmp_path / "cache")


def test_every_sixteenth_truncation_is_refused(tmp_path):
    path = write(tmp_path / "some.parquet", cells(IMAGES), LABELS)
    whole = path.read_bytes()
    for length in range(0, len(whole), 16):
        path.write_bytes(whole[:length])
        assert "not a whole parquet file" in refused(path, tmp_path / "cache")


def test_an_absent_file(tmp_path):
    message = refused(tmp_path / "absent.parquet", tmp_path / "cache")
    assert "cannot be read (No such file" in message and "check that it exists" in message


# A whole data set: "tiny" of 12 + 4 images, 3 classes.

TEST_IMAGES, TEST_LABELS = pictures(4, seed=1), [2, 1, 0, 2]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Registered, in no place yet; no network, empty cache."""
    source = _named._ParquetSource(
        name="tiny",
        home="http://127.0.0.1:9/",
        train=EXPECTED,
        test=expects(TEST_IMAGES, TEST_LABELS),
        validation=3,
        classes=3,
    )
    register = partial(monkeypatch.setitem, _named._REGISTRY, "tiny")
    register(partial(_named._load_parquet, source))
    monkeypatch.setattr(_named, "_cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("FATHOMX_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return source, register


def put(folder):
    write(folder / "tiny" / TRAIN, cells(IMAGES), LABELS)
    write(folder / "tiny" / TEST, cells(TEST_IMAGES, "WEBP"), TEST_LABELS)
    return folder


def check_tiny(loaded):
    """The values by the definition, from the same images computed here in float64."""
    x, y = loaded.train
    assert x.shape == (9, *SHAPE) and loaded.validation.inputs.shape == (3, *SHAPE)
    assert loaded.test.inputs.shape == (4, *SHAPE)
    assert (loaded.name, loaded.image_shape, loaded.classes) == ("tiny", SHAPE, 3)
    assert loaded.augmentation == CropAndFlip(padding=4)
    # Rank of the first pixel among all images gives the index, and with it the label.
    first = np.concatenate([x[:, 0, 0, 0], loaded.validation.inputs[:, 0, 0, 0]])
    index = np.argsort(np.argsort(first))
    assert sorted(index.tolist()) == list(range(12))
    assert (np.concatenate([y, loaded.validation.labels]) == index % 3).all()
    chosen = IMAGES[index].astype(np.float64)
    mean, std = chosen[:9].mean(axis=(0, 1, 2)), chosen[:9].std(axis=(0, 1, 2))
    assert mean.max() > 2 * mean.min()
    np.testing.assert_allclose(x, (chosen[:9] - mean) / std, atol=1e-6)
    np.testing.assert_allclose(loaded.validation.inputs, (chosen[9:] - mean) / std, atol=1e-6)
    np.testing.assert_allclose(loaded.test.inputs, (TEST_IMAGES - mean) / std, atol=1e-6)
    assert loaded.test.labels.tolist() == TEST_LABELS
    for part in (loaded.train, loaded.validation, loaded.test):
        assert part.inputs.dtype == np.float32 and part.inputs.flags.c_contiguous


def test_load_from_folder_and_from_environment(tiny, tmp_path, monkeypatch):
    folder = put(tmp_path / "own")
    check_tiny(data.load("tiny", folder=folder))
    assert len(files_in(tmp_path / "cache" / "tiny")) == 4
    monkeypatch.setenv("FATHOMX_DATA", str(folder))
    monkeypatch.setattr(_parquet, "_decode", never)
    check_tiny(data.load("tiny"))
    assert files_in(folder) == [TEST, TRAIN]


def test_load_from_the_cache(tiny, tmp_path):
    put(tmp_path / "cache")
    check_tiny(data.load("tiny"))


def test_damaged_file_of_a_data_set(tiny, tmp_path):
    folder = put(tmp_path / "own")
    (folder / "tiny" / TEST).write_bytes(b"")
    with pytest.raises(DataError, match=r"corrupted or truncated.*load the data set again"):
        data.load("tiny", folder=folder)


def test_offline_and_absent(tiny, tmp_path):
    with pytest.raises(DataError, match=f"{TRAIN} of data set 'tiny' is missing .*set FATHOMX_"):
        data.load("tiny")
    assert files_in(tmp_path) == []


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_fetch_into_the_cache_once(tiny, tmp_path, monkeypatch, capfd):
    source, register = tiny
    handler = partial(Handler, directory=str(put(tmp_path / "home")))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        fields = {**vars(source), "home": f"http://127.0.0.1:{running.server_port}/tiny/"}
        register(partial(_named._load_parquet, _named._ParquetSource(**fields)))
        check_tiny(data.load("tiny"))
        running.shutdown()
        thread.join()
    # The home is gone; the cache has all.
    check_tiny(data.load("tiny"))
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        (["pyarrow"], "needs pyarrow, which is not installed"),
        (["PIL"], "needs Pillow, which is not installed"),
        (["pyarrow", "PIL"], "needs pyarrow and Pillow, which are not installed"),
    ],
)
def test_decoders_not_installed(tiny, tmp_path, monkeypatch, absent, words):
    for module in absent:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=words) as caught:
        data.load("tiny", folder=tmp_path / "absent")
    assert str(caught.value).endswith('run `pip install "fathomx[images]"`.')


def test_public_home():
    assert _named._CIFAR10.home + TRAIN == (
        "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/main/plain_text/"
        "train-00000-of-00001.parquet"
    )
    assert _named._CIFAR10.file_sha256(TRAIN) is None


def test_standardizer_is_exact_where_products_exceed_64_bits():
    # Of 20 million pixels a channel, the first has one 254 among 255s, the second 0s and 2s.
    pixels = np.full((20000, 1000, 2), 255, np.uint8)
    pixels[0, 0, 0] = 254
    pixels[:10000, :, 1], pixels[10000:, :, 1] = 0, 2
    assert (255 * 20_000_000) ** 2 > 2**64
    scale = PixelScale(pixels, channels=2)
    # Two values 1 apart, the rarer with probability p, have the variance p (1 - p).
    p = 1 / 20_000_000
    np.testing.assert_allclose(scale.mean, [255 - p, 1.0], rtol=1e-15)
    np.testing.assert_allclose(scale.std, [np.sqrt(p * (1 - p)), 1.0], rtol=1e-13)


# CIFAR-10 itself.


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    if REAL is None or not (Path(REAL) / "cifar10" / TRAIN).is_file():
        pytest.skip("FATHOMX_DATA has no cifar10")
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_named, "_cache_folder", lambda: cache)
        return data.load("cifar10"), cache


def decoded(cache, part):
    images, labels = sorted((cache / "cifar10").glob(f"{part}-*.npy"))
    return np.load(images, mmap_mode="r"), np.load(labels)


def test_cifar10_published_facts(cifar10):
    images, labels = decoded(cifar10[1], "train")
    assert images.shape == (50000, 32, 32, 3) and images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [5000] * 10
    # data_batch_1 begins with a frog, two trucks, a deer and an automobile.
    assert labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert images[0, 0, 0].tolist() == [59, 62, 63]
    pixels = images.reshape(-1, 3)
    for channel, (mean, std) in enumerate(
        [(0.49139968, 0.24703223), (0.48215841, 0.24348513), (0.44653091, 0.26158784)]
    ):
        counts = np.bincount(pixels[:, channel], minlength=256) / len(pixels)
        levels = np.arange(256) / 255
        assert abs(counts @ levels - mean) < 1e-8
        assert abs(np.sqrt(counts @ levels**2 - (counts @ levels) ** 2) - std) < 1e-8
    _, labels = decoded(cifar10[1], "test")
    assert np.bincount(labels).tolist() == [1000] * 10
    # test_batch begins with a cat, two ships, an airplane and two frogs.
    assert labels[:6].tolist() == [3, 8, 8, 0, 6, 6]


def test_cifar10_form(cifar10):
    loaded, _ = cifar10
    parts = (loaded.train, loaded.validation, loaded.test)
    assert [len(part.labels) for part in parts] == [45000, 5000, 10000]
    assert loaded.input_shape == loaded.image_shape == (32, 32, 3)
    assert (loaded.classes, loaded.augmentation) == (10, CropAndFlip(padding=4))
    for x, y in parts:
        assert x.dtype == np.float32 and x.flags.c_contiguous and y.dtype == np.int32
    x = loaded.train.inputs.reshape(-1, 3)
    for channel in range(3):
        values = x[:, channel].astype(np.float64)
        assert abs(values.mean()) < 1e-6 and abs(values.std() - 1) < 1e-6


def test_cifar10_parts_are_the_original_examples(cifar10):
    loaded, cache = cifar10
    images, labels = decoded(cache, "train")
    # The darkest and brightest values of every channel are the original 0 and 255.
    rows = loaded.train.inputs.reshape(45000, -1)
    low = np.tile(rows.min(axis=0).reshape(-1, 3).min(axis=0), 1024)
    step = np.tile(rows.max(axis=0).reshape(-1, 3).max(axis=0), 1024) / 255 - low / 255

    def lines(part):
        pixels = part.inputs.reshape(-1, 3072) - low
        pixels /= step
        return original(np.rint(pixels, out=pixels).astype(np.uint8), part.labels)

    def original(images, labels):
        return [hash((i.tobytes(), int(y))) for i, y in zip(images, labels, strict=True)]

    train, validation = lines(loaded.train), lines(loaded.validation)
    everything = original(images, labels)
    assert Counter(train + validation) == Counter(everything)
    assert train != everything[:45000]
    assert lines(loaded.test) == original(*decoded(cache, "test"))
    # Pinned: a change here would change every published result on this data set.
    assert loaded.train.labels[:8].tolist() == [9, 2, 1, 2, 1, 3, 1, 4]


def test_cifar10_second_load_decodes_nothing(cifar10, monkeypatch):
    loaded, cache = cifar10
    monkeypatch.setattr(_named, "_cache_folder", lambda: cache)
    monkeypatch.setattr(_parquet, "_decode", never)
    again = data.load("cifar10")
    assert (again.test.inputs == loaded.test.inputs).all()
    assert (again.train.labels == loaded.train.labels).all()
