"""Folders of images: classes, parts, sizes and colors, and what is wrong with them."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from fathomx import data
from fathomx.data import DataError


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def flat(shade, shape=(2, 3)):
    """An image of one shade."""
    return np.full(shape, shade, np.uint8)


@pytest.fixture
def animals(tmp_path):
    """Two classes, cat dark and dog light, ten images each, every image of its own shade."""
    folder = tmp_path / "animals"
    for number in range(10):
        save(folder / "dog" / "more" / f"{number}.png", flat(200 + number))
        save(folder / "cat" / f"{number}.png", flat(number))
    return folder


def shades(loaded, title, mean, std):
    """The shade of every image of a part, from its first value."""
    inputs = getattr(loaded, title).inputs
    return np.rint(inputs.reshape(len(inputs), -1)[:, 0] * std + mean).astype(int)


def test_every_image_once_with_the_class_of_its_folder(animals):
    loaded = data.images(animals)
    assert (loaded.name, loaded.classes, loaded.image_shape) == ("animals", 2, (2, 3))
    assert [len(loaded.arrays(t)["input"]) for t in ("train", "validation", "test")] == [16, 2, 2]
    assert loaded.input_shape == (6,) and loaded.augmentation is None
    # Undone with the moments of the training shades, which are solved for by two known shades.
    x = loaded.train.inputs
    assert abs(x.mean()) < 1e-5 and abs(x.std() - 1) < 1e-5
    every = np.concatenate(
        [loaded.arrays(t)["input"][:, 0] for t in ("train", "validation", "test")]
    )
    std = 209 / (every.max() - every.min())
    mean = -every.min() * std
    found, labels = [], []
    for title in ("train", "validation", "test"):
        found += shades(loaded, title, mean, std).tolist()
        labels += getattr(loaded, title).labels.tolist()
    assert sorted(found) == [*range(10), *range(200, 210)]
    assert [int(shade >= 200) for shade in found] == labels
    train = np.array(found[:16])
    assert abs(train.mean() - mean) < 1e-2 and abs(train.std() - std) < 1e-2


def test_the_seed_divides(animals):
    one, again, other = (data.images(animals, seed=seed) for seed in (0, 0, 1))
    assert (one.train.inputs == again.train.inputs).all()
    assert not (one.train.inputs == other.train.inputs).all()


def test_a_zip_file_of_the_folder_or_of_what_it_holds(animals):
    expected = data.images(animals)
    for name, inside in (("outer.zip", animals.parent), ("inner.zip", animals)):
        with zipfile.ZipFile(animals.parent / name, "w") as archive:
            for path in sorted(animals.rglob("*.png")):
                archive.write(path, path.relative_to(inside))
            archive.writestr("__MACOSX/animals/cat/._0.png", b"left behind")
        loaded = data.images(animals.parent / name)
        assert loaded.name == name.removesuffix(".zip")
        assert (loaded.train.inputs == expected.train.inputs).all()
        assert (loaded.test.labels == expected.test.labels).all()


def test_parts_that_have_folders(tmp_path):
    folder = tmp_path / "parted"
    for number in range(10):
        save(folder / "train" / "a" / f"{number}.png", flat(number))
        save(folder / "train" / "b" / f"{number}.png", flat(100 + number))
    for number in range(3):
        save(folder / "test" / "b" / f"{number}.png", flat(200 + number))
    loaded = data.images(folder)
    sizes = [len(loaded.arrays(t)["input"]) for t in ("train", "validation", "test")]
    assert sizes == [18, 2, 3] and loaded.test.labels.tolist() == [1, 1, 1]
    # All test images are lighter than any other.
    assert loaded.test.inputs.min() > loaded.train.inputs.max()
    save(folder / "val" / "a" / "0.png", flat(50))
    assert len(data.images(folder).validation.labels) == 1
    assert len(data.images(folder).train.labels) == 20
    save(folder / "test" / "c" / "0.png", flat(0))
    with pytest.raises(DataError, match=r"the test part of .*parted has the class 'c'"):
        data.images(folder)


def test_size_of_the_first_and_one_that_is_given(tmp_path):
    """A wide image of three stripes keeps its middle, scaled."""
    folder = tmp_path / "sizes"
    for kind in ("a", "b"):
        for number in range(3):
            save(folder / kind / f"{number}.png", flat(number, (4, 4)))
    stripes = np.repeat([0, 120, 240], 8)[None].repeat(8, axis=0)
    save(folder / "b" / "wide.png", stripes)
    first = data.images(folder)
    assert first.image_shape == (4, 4)
    loaded = data.images(folder, size=(2, 1))
    assert loaded.image_shape == (2, 1) and data.images(folder, 2).image_shape == (2, 2)
    values = np.concatenate([loaded.arrays(t)["input"] for t in ("train", "validation", "test")])
    low, step = values.min(), np.unique(np.round(values, 6))
    # Shades 0, 1, 2, and the 120 of the middle stripe alone.
    np.testing.assert_allclose((step - low) / (step[1] - low), [0, 1, 2, 120], atol=1e-2)


def test_one_color_image_makes_all_of_them_color(tmp_path):
    folder = tmp_path / "colors"
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    for kind in ("a", "b"):
        for number in range(2):
            save(folder / kind / f"{number}.png", flat(30, (2, 2)))
    save(folder / "b" / "red.png", red)
    loaded = data.images(folder)
    assert loaded.image_shape == loaded.input_shape == (2, 2, 3)
    values = np.concatenate([loaded.arrays(t)["input"] for t in ("train", "validation", "test")])
    pixels = values[:, 0, 0]
    reddest = pixels[pixels[:, 0].argmax()]
    darkest = pixels[pixels[:, 0].argmin()]
    assert reddest[0] > darkest[0] and reddest[1] < darkest[1] and reddest[2] < darkest[2]


def test_cameras_marks_animations_and_transparency(tmp_path):
    folder = tmp_path / "kinds"
    tall = np.stack([flat(0, (2, 2)), flat(200, (2, 2))]).reshape(4, 2)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    for number in range(3):
        save(folder / "a" / f"{number}.png", tall)
    save(folder / "b" / "turned.png", tall[::-1], exif=exif)
    save(folder / "b" / "clear.png", np.dstack([tall, flat(0, (4, 2))]))
    frames = [Image.fromarray(np.asarray(f, np.uint8)) for f in (tall, 255 - tall)]
    frames[0].save(folder / "b" / "moving.gif", save_all=True, append_images=frames[1:])
    loaded = data.images(folder)
    assert loaded.image_shape in ((4, 2), (4, 2, 3))
    for title in ("train", "validation", "test"):
        for image in loaded.arrays(title)["input"].reshape(-1, 4, 2, *loaded.image_shape[2:]):
            assert (image[:2] < 0).all() and (image[2:] > 0).all()


def test_what_is_passed_by(animals):
    expected = data.images(animals)
    (animals / ".cache").mkdir()
    save(animals / ".cache" / "0.png", flat(0))
    (animals / "notes").mkdir()
    (animals / "notes" / "about.txt").write_text("no image")
    (animals / "cat" / "Thumbs.db").write_bytes(b"no image")
    (animals / "cat" / ".hidden.png").write_bytes(b"no image")
    save(animals / "overview.png", flat(0))
    loaded = data.images(animals)
    assert loaded.classes == 2 and (loaded.train.inputs == expected.train.inputs).all()


def jpeg(size=64):
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3))
    Image.fromarray(noise.astype(np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"no image", jpeg()[:500]], ids=["empty", "text", "truncated"]
)
def test_an_image_that_cannot_be_read_is_named(animals, content):
    (animals / "dog" / "bad.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"the image dog/bad.jpg in .*animals cannot be read") as e:
        data.images(animals)
    assert "delete it, or put a whole copy in its place." in str(e.value)


def test_a_damaged_zip_file(animals, tmp_path):
    path = tmp_path / "animals.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for image in sorted(animals.rglob("*.png")):
            archive.write(image, image.relative_to(animals))
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF  # within the first image
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"the image cat/0.png in .*animals.zip cannot be read"):
        data.images(path)
    path.write_bytes(content[:200])
    with pytest.raises(DataError, match="neither a folder nor a whole zip file"):
        data.images(path)


def test_sixteen_bits_are_refused(animals):
    deep = Image.fromarray(np.full((2, 3), 40_000, np.uint16))
    deep.save(animals / "cat" / "deep.png")
    with pytest.raises(DataError, match=r"cat/deep.png .* has pixels of the mode 'I;16'"):
        data.images(animals)


def test_folders_without_classes(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    with pytest.raises(DataError, match=r"one holds no folder of images: put"):
        data.images(folder)
    save(folder / "0.png", flat(0))
    with pytest.raises(DataError, match=r"one holds no folder of images, but 1 images: put"):
        data.images(folder)
    save(folder / "cat" / "0.png", flat(0))
    with pytest.raises(DataError, match=r"holds one class alone, 'cat': put .*dog/1.png"):
        data.images(folder)
    save(folder / "dog" / "0.png", flat(0))
    with pytest.raises(ValueError, match="holds 2 images to train on, from which"):
        data.images(folder)
    save(folder / "dog" / "1.png", flat(9))
    assert len(data.images(folder).test.labels) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("nowhere",), DataError, "the folder nowhere cannot be read"),
        ((3,), TypeError, "path must be a path"),
        (("animals", 0), ValueError, "size must be"),
        (("animals", (2, 3, 4)), ValueError, "size must be"),
        (("animals", 2.5), TypeError, "size must be"),
        (("animals", 70_000), ValueError, "size must be"),
    ],
)
def test_arguments(animals, monkeypatch, arguments, error, words):
    monkeypatch.chdir(animals.parent)
    with pytest.raises(error, match=words):
        data.images(*arguments)


# Tiny ImageNet, in its layout.


@pytest.fixture
def tiny_imagenet(tmp_path, monkeypatch):
    """Three classes of four images, two images to test on; five images are for validation."""
    from dataclasses import replace
    from functools import partial

    from fathomx.data import _named

    place = tmp_path / "sets" / "tiny-imagenet" / "tiny-imagenet-200"
    for kind in range(3):
        for number in range(4):
            image = np.full((8, 8, 3), 20 * kind + number, np.uint8)
            name = f"n{kind}"
            save(place / "train" / name / "images" / f"{name}_{number}.JPEG", image)
        (place / "train" / name / f"{name}_boxes.txt").write_text("boxes\n")
    for number in range(2):
        save(place / "val" / "images" / f"val_{number}.JPEG", np.full((8, 8, 3), 90, np.uint8))
        save(place / "test" / "images" / f"test_{number}.JPEG", np.full((8, 8, 3), 90, np.uint8))
    lines = "val_0.JPEG\tn2\t0\t0\t7\t7\nval_1.JPEG\tn1\t0\t0\t7\t7\n"
    (place / "val" / "val_annotations.txt").write_text(lines)
    source = replace(_named._TINY_IMAGENET, validation=5, classes=3)
    loading = partial(_named._load_tiny_imagenet, source)
    monkeypatch.setitem(_named._REGISTRY, "tiny-imagenet", loading)
    monkeypatch.setattr(_named, "_cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("FATHOMX_DATA", str(tmp_path / "sets"))
    return place


def test_tiny_imagenet_unpacked_and_packed(tiny_imagenet):
    loaded = data.load("tiny-imagenet")
    assert loaded.classes == 3 and loaded.input_shape == (8, 8, 3)
    assert loaded.augmentation == data.CropAndFlip(8)
    assert [len(p.labels) for p in (loaded.train, loaded.validation, loaded.test)] == [7, 5, 2]
    assert loaded.test.labels.tolist() == [2, 1]
    both = [np.concatenate(pair) for pair in zip(loaded.train, loaded.validation, strict=True)]
    # Shades are 20 times the class and less than 4 more, a JPEG of one shade keeps it.
    order = np.argsort(both[0][:, 0, 0, 0])
    assert both[1][order].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    packed = tiny_imagenet.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(tiny_imagenet.rglob("*.*")):
            archive.write(path, path.relative_to(tiny_imagenet.parent))
    tiny_imagenet.rename(tiny_imagenet.with_name("elsewhere"))
    again = data.load("tiny-imagenet")
    assert (again.train.inputs == loaded.train.inputs).all()
    assert (again.test.labels == loaded.test.labels).all()


def test_tiny_imagenet_that_is_not_there(tiny_imagenet, monkeypatch, tmp_path):
    monkeypatch.setenv("FATHOMX_DATA", str(tmp_path / "empty"))
    with pytest.raises(DataError) as caught:
        data.load("tiny-imagenet")
    message = str(caught.value)
    for words in ("'tiny-imagenet' is not there", "cs231n.stanford.edu/tiny-imagenet-200.zip"):
        assert words in message
    assert str(tmp_path / "empty" / "tiny-imagenet") in message and "set FATHOMX_DATA" in message


def test_tiny_imagenet_that_is_not_whole(tiny_imagenet):
    listed = tiny_imagenet / "val" / "val_annotations.txt"
    listed.write_text("val_0.JPEG\tn9\t0\n")
    with pytest.raises(DataError, match=r"has the line 'val_0.JPEG\\tn9\\t0', expected an image"):
        data.load("tiny-imagenet")
    listed.write_text("val_7.JPEG\tn1\t0\n")
    with pytest.raises(DataError, match=r"the image val/images/val_7.JPEG in .* cannot be read"):
        data.load("tiny-imagenet")
    listed.unlink()
    with pytest.raises(DataError, match=r"lacks val/val_annotations.txt"):
        data.load("tiny-imagenet")
