"""Images in ImageNet's layout as a stream: parts, crops, order, workers, and what is wrong."""

import io
import re
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import fathomx as fx
from fathomx import data
from fathomx.data import DataError
from fathomx.data._decoding import pixels_of
from fathomx.data._sources import Batches, ChunkSize, Position, Rows

# What Grain's threads and Orbax leave open is not ours to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SIZE, TRAIN, TEST = 8, 30, 6
KINDS = ("cat", "dog", "owl")


def encoded(shade, kind="PNG", shape=(10, 12, 3)):
    """An image of one shade."""
    content = io.BytesIO()
    Image.fromarray(np.full(shape, shade, np.uint8)).save(content, kind)
    return content.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def in_folders(folder):
    """Every image of its own shade, of which the class is the rest of a division by three."""
    for shade in range(TRAIN):
        put(folder / "train" / KINDS[shade % 3] / f"{shade}.png", encoded(shade))
    for shade in range(100, 100 + TEST):
        put(folder / "val" / KINDS[shade % 3] / f"{shade}.png", encoded(shade))
    return folder


def as_tiny_imagenet(folder):
    in_folders(folder)
    shutil.rmtree(folder / "val")
    lines = []
    for shade in range(100, 100 + TEST):
        put(folder / "val" / "images" / f"{shade}.png", encoded(shade))
        lines.append(f"{shade}.png\t{KINDS[shade % 3]}\t0\t0\t7\t7\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return folder


def write_shard(path, shades, labels=None, metadata=None, column="image"):
    rows = [{"bytes": None if s is None else encoded(s), "path": f"{s}.png"} for s in shades]
    labels = [s % 3 for s in shades] if labels is None else labels
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({column: pa.array(rows, kind), "label": pa.array(labels, pa.int64())})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=4)


def in_shards(folder):
    names = '{"info": {"features": {"label": {"names": ["cat", "dog", "owl"]}}}}'
    for number in range(2):
        shades = range(15 * number, 15 * number + 15)
        path = folder / "data" / f"train-{number:05}-of-00002.parquet"
        write_shard(path, shades, metadata={"huggingface": names})
    write_shard(folder / "data" / "validation-00000-of-00001.parquet", range(100, 100 + TEST))
    return folder


LAYOUTS = {"folders": in_folders, "Tiny ImageNet": as_tiny_imagenet, "shards": in_shards}


@pytest.fixture(params=LAYOUTS)
def images(request, tmp_path):
    return LAYOUTS[request.param](tmp_path / "images")


def stream(folder, size=SIZE, workers=0, **options):
    return data.imagenet(folder, size, workers=workers, **options)


def order(seed):
    return lambda epoch, size: np.random.default_rng((seed, epoch)).permutation(size)


def batches(found, count, *, begin=(0, 0), batch=5, seed=0, most=2):
    """The first batches from a position on, one by one."""
    source = found.train
    size = ChunkSize(batch, source.steps(batch), most, found.name)
    taken = []
    chunks = source.chunks(Position(*begin), size, order(seed))
    for chunk in chunks:
        for row in range(chunk.steps):
            rows = slice(row * batch, (row + 1) * batch)
            taken.append({name: array[rows] for name, array in chunk.arrays.items()})
        if len(taken) >= count:
            break
    chunks.close()
    return taken[:count]


def shades(arrays):
    return arrays["input"][:, 0, 0, 0].tolist()


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a
    )


# Parts.


def test_every_image_once_with_its_class(images):
    found = stream(images)
    assert found.class_names == KINDS and found.classes == 3
    assert found.input_shape == found.image_shape == (SIZE, SIZE, 3)
    sizes = {title: len(found.arrays(title)["target"]) for title in found.titles}
    assert sizes == {"train": 27, "validation": 3, "test": TEST}
    seen = {}
    for title in found.titles:
        part = {"input": [], "target": []}
        for batch in getattr(found, title).once(4):
            assert batch["input"].dtype == np.uint8 and batch["target"].dtype == np.int32
            assert batch["input"].shape[1:] == (SIZE, SIZE, 3)
            part["input"] += shades(batch)
            part["target"] += batch["target"].tolist()
        assert [shade % 3 for shade in part["input"]] == part["target"]
        assert part["target"] == found.arrays(title)["target"].tolist()
        seen[title] = part["input"]
    assert sorted(seen["train"] + seen["validation"]) == list(range(TRAIN))
    assert sorted(seen["test"]) == list(range(100, 100 + TEST))


def test_the_seed_divides_and_nothing_else(images):
    def held_out(**options):
        part = stream(images, **options).validation
        return np.concatenate([b["input"] for b in part.once(9)])[:, 0, 0, 0].tolist()

    assert held_out() == held_out(workers=1) != held_out(seed=1)


def test_a_few_of_it(images):
    whole, few = stream(images), stream(images).take(8)
    assert few.size == 8 and len(few.test.labels) == 2
    assert np.array_equal(few.train.labels, whole.train.labels[:8])
    assert few.sha256() != whole.sha256() == stream(images, workers=1).sha256()
    with pytest.raises(ValueError, match="n must be an integer of at least 1 and at most 27"):
        whole.take(28)


def test_arrays_decode_what_is_taken_of_them(images):
    found = stream(images)
    inputs = found.arrays("test")["input"]
    assert inputs.shape == (TEST, SIZE, SIZE, 3) and inputs.dtype == np.float32
    raw = next(found.test.once(TEST))["input"]
    wanted = found.preparation.scales["input"](raw)
    assert np.array_equal(inputs[:4], wanted[:4]) and np.array_equal(inputs[[5, 0]], wanted[[5, 0]])
    assert np.array_equal(inputs[2], wanted[2])
    # Black and white, standardized as the moments say by hand.
    mean, std = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
    np.testing.assert_allclose(wanted, (raw - mean) / std, rtol=1e-5, atol=1e-6)
    on_device = found.standardized({"input": jnp.asarray(raw)})["input"]
    np.testing.assert_allclose(on_device, wanted, rtol=1e-5, atol=1e-6)


# What is seen of an image.


def gradient(width=256, height=256):
    """Red tells the column of a pixel, green its row."""
    found = np.zeros((height, width, 3), np.uint8)
    found[..., 0], found[..., 1] = np.arange(width), np.arange(height)[:, None]
    return found


def png(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("sides", "size", "box"),
    [
        ((64, 64), 64, (0, 0, 64, 64)),  # as it is
        ((128, 128), 56, (8, 8, 120, 120)),  # 7/8 of it
        ((192, 128), 56, (40, 8, 152, 120)),
        ((64, 96), 60, (2, 18, 62, 78)),  # no fewer pixels than are wanted
        ((64, 96), 80, (0, 16, 64, 80)),  # as many as there are
    ],
)
def test_the_center(sides, size, box):
    pixels = gradient(*sides)
    wanted = Image.fromarray(pixels).crop(box).resize((size, size), Image.Resampling.BILINEAR)
    found = pixels_of(png(pixels), size, "an image")
    # At its border a pixel also sees those beside the square.
    assert abs(found.astype(int) - np.asarray(wanted)).max() <= 1
    assert np.array_equal(found[1:-1, 1:-1], np.asarray(wanted)[1:-1, 1:-1])


def test_random_parts_have_the_area_and_the_ratio_that_is_said():
    """The box from the colors of two corners: those of the outer pixels, half a pixel inside."""
    content, size, areas, ratios, mirrored = png(gradient()), 32, [], [], 0
    for seed in range(300):
        found = pixels_of(content, size, "an image", np.random.default_rng(seed)).astype(float)
        first, last = found[0, 0], found[-1, -1]
        mirrored += first[0] > last[0]
        across = abs(last[0] - first[0]) * size / (size - 1)
        down = (last[1] - first[1]) * size / (size - 1)
        areas.append(across * down / 256**2)
        ratios.append(across / down)
    assert 0.07 < min(areas) < 0.12 and 0.9 < max(areas) < 1.02
    # Evenly, but that the largest fit less often; and evenly in the logarithm.
    assert 0.4 < np.mean(areas) < 0.56 and abs(np.mean(np.log(ratios))) < 0.03
    assert 0.72 < min(ratios) < 0.8 and 1.26 < max(ratios) < 1.38
    assert 120 < mirrored < 180


def test_an_image_too_long_for_every_part_is_cut_around_its_center():
    pixels = gradient(200, 4)
    found = pixels_of(png(pixels), 4, "an image", np.random.default_rng(0), smallest=1.0)
    row = np.sort(found[0, :, 0].astype(int))
    assert abs(row.mean() - 99.5) < 1.5 and row[-1] - row[0] < 6


def test_large_jpeg_files_are_decoded_smaller_and_look_alike():
    content = io.BytesIO()
    image = Image.fromarray(gradient()).resize((1024, 1024), Image.Resampling.BICUBIC)
    image.save(content, "JPEG", quality=95)
    found = pixels_of(content.getvalue(), 64, "an image").astype(int)
    whole = pixels_of(png(np.asarray(image)), 64, "an image").astype(int)
    assert abs(found - whole).max() <= 6 and abs(found - whole).mean() < 2


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_all_kinds_of_pixels_become_color(mode):
    content, image = io.BytesIO(), Image.new("RGB", (9, 9), (200, 200, 200))
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    image.save(content, "JPEG" if mode == "CMYK" else "PNG")
    found = pixels_of(content.getvalue(), 8, "an image", np.random.default_rng(0))
    assert found.shape == (8, 8, 3)
    # One bit has no such gray.
    assert mode == "1" or abs(found.astype(int) - 200).max() <= 3


def test_images_are_turned_as_their_camera_says():
    content, image = io.BytesIO(), Image.fromarray(gradient(64, 64))
    notes = Image.Exif()
    notes[0x0112] = 6
    image.save(content, "PNG", exif=notes)
    found = pixels_of(content.getvalue(), 64, "an image")
    assert np.array_equal(found, np.rot90(gradient(64, 64), -1))


# Order.


def test_a_run_goes_on_where_it_was(images):
    found = stream(images)
    every = batches(found, 12, most=3)
    for epoch, step in ((0, 3), (1, 0), (1, 4)):
        assert same(batches(found, 2, begin=(epoch, step)), every[5 * epoch + step :][:2])


def test_every_epoch_has_an_order_and_parts_of_its_own(images):
    first, second = (batches(stream(images), 5, begin=(epoch, 0)) for epoch in (0, 1))
    # 27 images, of which 25 are in five batches, each once.
    for epoch in (first, second):
        seen = [shade for batch in epoch for shade in shades(batch)]
        assert len(set(seen)) == 25 and all(shade < TRAIN for shade in seen)
        assert [s % 3 for s in seen] == [k for batch in epoch for k in batch["target"].tolist()]
    assert not same(first, second) and not same(first, batches(stream(images), 5, seed=1))


def test_random_parts_depend_on_the_epoch_and_the_image(tmp_path):
    folder = in_folders(tmp_path / "images")
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(png(gradient(64, 64)))
    found = batches(stream(folder), 10)
    parts = {image.tobytes() for batch in found for image in batch["input"]}
    assert len(parts) == 50


def test_shards_are_read_by_row_groups(tmp_path, monkeypatch):
    from fathomx.data import _records

    monkeypatch.setattr(_records, "_WINDOW", 8)
    records = stream(in_shards(tmp_path / "images")).train.decoding.records
    own = type(records)._read
    for seed in range(5):
        found = records.order(np.arange(TRAIN), np.random.default_rng(seed))
        assert sorted(found.tolist()) == list(range(TRAIN))
        groups = np.searchsorted(records._begins, found, side="right") - 1
        # Two or three of four rows at a time, shuffled among each other.
        for begin in range(0, TRAIN, 10):
            assert len(set(groups[begin : begin + 10].tolist())) <= 6
        read = []

        def counted(group, read=read):
            read.append(group)
            return own(records, group)

        monkeypatch.setattr(records, "_read", counted)
        for place in found:
            records.read(int(place))
        assert len(read) <= len(records.groups)


# Processes.


def test_processes_have_parts_that_are_the_whole_together(images):
    whole = batches(stream(images), 12, batch=6)
    halves = [batches(stream(images).for_process(p, 2), 12, batch=3) for p in range(2)]
    for one, *shares in zip(whole, *halves, strict=True):
        for name in one:
            wanted = np.stack([share[name] for share in shares], axis=1)
            assert np.array_equal(one[name], wanted.reshape(one[name].shape))
    third = stream(images).for_process(2, 3)
    assert third.size == 9 and len(third.test.labels) == TEST
    with pytest.raises(ValueError, match=r"process_count must be .* at most 27, not 28"):
        stream(images).for_process(0, 28)
    with pytest.raises(ValueError, match=r"process_index must be .* at most 1, not 2"):
        stream(images).for_process(2, 2)


def test_of_each_batch_a_process_reads_its_own_rows(images):
    """Of rows, of batches and of images alike."""
    x = np.arange(12, dtype=np.float32)[:, None]
    by_six = [{"input": x[:6], "target": x[:6]}, {"input": x[6:], "target": x[6:]}]
    for source in (Rows((x, x)), Batches(by_six), stream(images).train):
        found = []
        for own in (lambda size: slice(0, size), lambda size: slice(4, size)):
            size = ChunkSize(6, 2, 2, "toy", own)
            found.append(next(source.chunks(Position(0, 0), size, order(3))))
        whole, part = found
        assert part.batch == whole.batch == 6 and part.steps == whole.steps == 2
        for name, array in whole.arrays.items():
            rows = array.reshape(2, 6, *array.shape[1:])[:, 4:]
            assert np.array_equal(part.arrays[name], rows.reshape(4, *array.shape[1:]))


def test_workers_give_the_same_batches_and_name_what_is_broken(tmp_path, monkeypatch):
    """Both in one test, for processes take their time to begin."""
    monkeypatch.setattr("fathomx.data._imagenet.cores", lambda: 2)
    folder = in_shards(tmp_path / "images")
    assert same(batches(stream(folder, workers=2), 7), batches(stream(folder), 7))
    folder = in_folders(tmp_path / "broken")
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:50])
    broken = r"the image train/\w+/\d+.png in .*broken cannot be read \(\w+\): delete it, or put"
    for workers in (0, 1):
        with pytest.raises(DataError, match=broken):
            batches(stream(folder, workers=workers), 7)


# Training.


def test_trained_and_continued(tmp_path):
    """Stopped in its second epoch and continued, to the same weights bit for bit."""
    images = stream(in_folders(tmp_path / "images"))
    keys = jax.random.split(jax.random.key(0))
    ends = eqx.nn.Linear(192, 4, key=keys[0]), eqx.nn.Linear(4, 3, key=keys[1])
    network = fx.wrap([jnp.ravel, ends[0], jnp.tanh, ends[1]], (8, 8, 3))

    class Stop(fx.training.Observer):
        left = 7

        def stepped(self, record, state):
            self.left -= len(record["loss"])
            if self.left < 0:
                raise KeyboardInterrupt

    def fit(*observers):
        return fx.fit(network, images, fx.Backprop(), batch_size=5, epochs=2, observers=observers)

    undisturbed = fit()
    assert undisturbed.history[0]["steps"] == 5
    folder = tmp_path / "run"
    fx.training.RunFolder.prepare(folder, {})
    stopped = fx.training.RunFolder.resume(folder)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, Stop())
    stopped.close()
    resumed = fx.training.RunFolder.resume(folder)
    continued = fit(resumed)
    resumed.close()
    for one, other in zip(
        *(jax.tree.leaves(fx.weights(r.network)) for r in (undisturbed, continued)), strict=True
    ):
        assert np.array_equal(one, other)
    # Scored as arrays in memory are, of the same centers.
    part = images.arrays("test")
    loaded = fx.data.Dataset("test", (part["input"][:], part["target"]), classes=3)
    wanted = fx.evaluate(undisturbed.network, loaded, "train").metrics
    found = fx.evaluate(undisturbed.network, images, "test").metrics
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(found[name].value, wanted[name].value, rtol=1e-4)
        np.testing.assert_allclose(
            undisturbed.summary[f"test_{name}"], wanted[name].value, rtol=1e-4
        )


# What is wrong.


def without_train(folder):
    shutil.rmtree(folder / "train")


def without_val(folder):
    shutil.rmtree(folder / "val")


def with_an_empty_class(folder):
    (folder / "train" / "bat").mkdir()


def with_one_class(folder):
    for kind in KINDS[1:]:
        shutil.rmtree(folder / "train" / kind)


def with_a_strange_class(folder):
    put(folder / "val" / "bat" / "1.png", encoded(1))


def with_val_without_classes(folder):
    shutil.rmtree(folder / "val")
    put(folder / "val" / "1.png", encoded(1))


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def missing(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing, "is not a folder: give the folder that holds train and val"),
        (emptied, "holds neither a folder train with a folder of images for each class"),
        (without_train, "holds neither a folder train with a folder of images for each class"),
        (without_val, r"holds no folder val or validation or valid or test beside train"),
        (with_an_empty_class, r"the folder train/bat in .* holds no images: put those of its"),
        (with_one_class, "holds one class alone, 'cat'"),
        (with_a_strange_class, r"the folder val in .* has the class 'bat', which train has not"),
        (with_val_without_classes, r"the folder val in .* holds no images in folders of classes"),
    ],
)
def test_what_is_wrong_with_a_folder(tmp_path, spoil, message):
    folder = in_folders(tmp_path / "images")
    spoil(folder)
    with pytest.raises(DataError, match=message) as caught:
        stream(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_training_part_of_one_image_for_each_class(tmp_path):
    folder = tmp_path / "images"
    for kind in KINDS[:2]:
        put(folder / "train" / kind / "1.png", encoded(1))
        put(folder / "val" / kind / "1.png", encoded(1))
    found = stream(folder)
    assert (found.size, len(found.validation.labels)) == (1, 1)


def shard(shades=range(6), **options):
    return lambda folder: write_shard(folder / "data" / "train-0.parquet", shades, **options)


def truncated(folder):
    path = folder / "data" / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def with_other_columns(folder):
    path = folder / "data" / "train-00000-of-00002.parquet"
    pq.write_table(pa.table({"image": [1, 2], "kind": [0, 1]}), path)


def with_texts_as_labels(folder):
    path = folder / "data" / "train-00000-of-00002.parquet"
    rows = [{"bytes": encoded(1), "path": ""}]
    pq.write_table(pa.table({"image": rows, "label": ["cat"]}), path)


def without_shards_to_test(folder):
    (folder / "data" / "validation-00000-of-00001.parquet").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, "train-00001-of-00002.parquet is not a whole parquet file"),
        (with_other_columns, r"has no column 'image' of structs .* but image, kind: give images"),
        (with_texts_as_labels, "has no column 'label' of integers, but image, label"),
        (without_shards_to_test, r"no parquet file whose name begins with val or validation or"),
        (shard(labels=[0, 1, 2, -1, 0, 1]), "labels from -1 to 2, expected class numbers"),
        (
            shard(labels=[0, 1, None, 1, 0, 1]),
            r"parquet has rows without a label: leave them out\.$",
        ),
        (shard([]), None),
        (
            lambda folder: write_shard(
                folder / "data" / "validation-00000-of-00001.parquet", range(5), [0, 1, 7, 2, 1]
            ),
            r"the image of row 2 of .*validation.* has the label 7, but .* from 0 to 2 only",
        ),
    ],
)
def test_what_is_wrong_with_shards(tmp_path, spoil, message):
    folder = in_shards(tmp_path / "images")
    spoil(folder)
    if message is None:
        assert len(stream(folder).train.labels) == 27
        return
    with pytest.raises(DataError, match=message) as caught:
        stream(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_row_without_an_image_is_named(tmp_path):
    folder = in_shards(tmp_path / "images")
    path = folder / "data" / "train-0.parquet"
    write_shard(path, [None] * 6, labels=[0, 1, 2, 0, 1, 2])
    found = stream(folder)
    with pytest.raises(DataError, match=re.escape(str(path)) + " is missing: leave out the row"):
        batches(found, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be an integer of at least 1 .* not 0"),
        ({"workers": 10_000}, r"workers is 10000, but this process may use \d+ cores; give at mo"),
        ({"workers": -1}, "workers must be an integer of at least 0, not -1"),
        ({"smallest": 0.0}, "smallest must be"),
        ({"smallest": 1.5}, "smallest must be"),
    ],
)
def test_what_is_wrong_with_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        stream(in_folders(tmp_path / "images"), **options)


def test_parts_are_images_on_disk():
    with pytest.raises(TypeError, match="holds no images on disk; take the parts of what"):
        data.ImageStream((np.zeros((4, 2)), np.zeros(4, int)))


def test_networks_of_vectors_are_told_what_to_use(tmp_path):
    found = stream(in_folders(tmp_path / "images"))
    with pytest.raises(ValueError, match="use a convolutional network"):
        found.flat()
    assert found.images() is found and "27 train, 3 validation, 6 test" in repr(found)
