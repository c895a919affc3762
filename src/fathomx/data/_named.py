"""The named data sets: where their files are, how they are split and standardized."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import open_gate
from fathomx.data._augmentation import CropAndFlip
from fathomx.data._dataset import Dataset
from fathomx.data._encoding import decoded
from fathomx.data._files import DataError, read_bytes
from fathomx.data._folder import load_tiny_imagenet, require_pillow
from fathomx.data._formats import Labeled, parse_cifar100, parse_svhn
from fathomx.data._idx import parse_idx
from fathomx.data._parquet import ImageFile, read_images, require_decoders
from fathomx.data._parts import Part
from fathomx.data._preparation import Preparation
from fathomx.data._scale import PixelScale
from fathomx.data._tables import load_classes, load_values
from fathomx.data._text import Text, windows_of
from fathomx.data._tokens import Subwords

_ENVIRONMENT = "FATHOMX_DATA"
# Seconds to connect, and seconds without a byte: an offline machine must hear of it soon.
_TIMEOUT = (5.0, 20.0)
# Splits are the permutations of numpy's default generator with this seed.
_SEED = 0

# Tokens in a window of a text, unless `load` is told.
_CONTEXT = 64

_TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
_TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
_TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
_TEST_LABELS = "t10k-labels-idx1-ubyte.gz"


_CIFAR100_FILE = "cifar-100-binary.tar.gz"
_TINY_IMAGENET_NAMES = ("tiny-imagenet-200", "tiny-imagenet-200.zip")

_TRAIN_TABLE = "train-00000-of-00001.parquet"
_TEST_TABLE = "test-00000-of-00001.parquet"


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A published data set: its home, and how many training examples are for validation."""

    name: str
    home: str
    validation: int = 5000
    classes: int = 10
    class_names: tuple[str, ...] = ()

    def file_sha256(self, file: str) -> str | None:
        """The published sha256 of a file, or `None` where only its content is known."""
        return None

    def names(self, file: str) -> tuple[str, ...]:
        """The names that a file may have in a folder, its published one first."""
        return (file,)


@dataclass(frozen=True, kw_only=True)
class _HashedSource(_Source):
    """A data set of which the sha256 of every file is published."""

    sha256: Mapping[str, str]

    def file_sha256(self, file: str) -> str | None:
        return self.sha256[file]

    def known_sha256(self, file: str) -> tuple[str, ...]:
        """What the sha256 of a file may be."""
        return (self.sha256[file],)


@dataclass(frozen=True, kw_only=True)
class _IdxSource(_HashedSource):
    """A data set published as four packed idx files, with the sha256 of each file.

    In a folder they may be named with a dot, and unpacked where the sha256 of that is known, too.
    """

    unpacked: Mapping[str, str] = field(default_factory=dict)

    def names(self, file: str) -> tuple[str, ...]:
        plain = file.removesuffix(".gz")
        dotted = plain.replace("-idx", ".idx")
        packed, unpacked = (file, f"{dotted}.gz"), (plain, dotted)
        return (*packed, *unpacked) if file in self.unpacked else packed

    def known_sha256(self, file: str) -> tuple[str, ...]:
        known = (self.sha256[file], self.unpacked.get(file))
        return tuple(each for each in known if each is not None)


@dataclass(frozen=True, kw_only=True)
class _TextSource(_HashedSource):
    """A data set published as one text file, with its sha256."""

    file: str


@dataclass(frozen=True, kw_only=True)
class _PackedSource(_HashedSource):
    """A data set of color images in files of a format of their own, with the sha256 of each.

    * `read`: from the bytes of a file, the part that is wanted (`train` or `test`), and the path
      for messages, to its images and labels.
    * `files`: those of the two parts. `augmentation`: of training images.
    """

    read: Callable[[bytes, str, str], Labeled]
    files: Mapping[str, str]
    augmentation: CropAndFlip | None = None


@dataclass(frozen=True, kw_only=True)
class _ParquetSource(_Source):
    """A data set published as two parquet files of images, with what each must hold."""

    train: ImageFile
    test: ImageFile


_MNIST = _IdxSource(
    name="mnist",
    home="https://ossci-datasets.s3.amazonaws.com/mnist/",
    sha256={
        _TRAIN_IMAGES: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        _TRAIN_LABELS: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        _TEST_IMAGES: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        _TEST_LABELS: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    unpacked={
        _TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        _TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        _TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        _TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)

_FASHION_MNIST = _IdxSource(
    name="fashion-mnist",
    class_names=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    home="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    sha256={
        _TRAIN_IMAGES: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        _TRAIN_LABELS: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        _TEST_IMAGES: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        _TEST_LABELS: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    unpacked={
        _TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        _TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        _TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        _TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
)

# The sums of this set and of the two below are those that TensorFlow Datasets published for them,
# in tensorflow_datasets/url_checksums of github.com/tensorflow/datasets.
_KMNIST = _IdxSource(
    name="kmnist",
    class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    home="http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    sha256={
        _TRAIN_IMAGES: "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        _TRAIN_LABELS: "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        _TEST_IMAGES: "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        _TEST_LABELS: "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    },
)

_SVHN = _PackedSource(
    name="svhn",
    home="http://ufldl.stanford.edu/housenumbers/",
    sha256={
        "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    },
    files={"train": "train_32x32.mat", "test": "test_32x32.mat"},
    read=lambda content, part, path: parse_svhn(content, path),
)

_CIFAR100 = _PackedSource(
    name="cifar100",
    home="https://www.cs.toronto.edu/~kriz/",
    sha256={_CIFAR100_FILE: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"},
    files=dict.fromkeys(("train", "test"), _CIFAR100_FILE),
    read=lambda content, part, path: parse_cifar100(content, f"cifar-100-binary/{part}.bin", path),
    classes=100,
    augmentation=CropAndFlip(),
)

# Of this one no sums are published, so that it is not fetched.
_TINY_IMAGENET = _Source(
    name="tiny-imagenet",
    home="http://cs231n.stanford.edu/",
    validation=10000,
    classes=200,
)

_CIFAR10 = _ParquetSource(
    name="cifar10",
    class_names=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    home="https://huggingface.co/datasets/uoft-cs/cifar10/resolve/main/plain_text/",
    train=ImageFile(
        rows=50000,
        shape=(32, 32, 3),
        classes=10,
        sha256="f912919bdea371136f1aa4feed6beeca728015a5f08b1899a29c932a7e30be2b",
    ),
    test=ImageFile(
        rows=10000,
        shape=(32, 32, 3),
        classes=10,
        sha256="8193b3fbce55bec361cd1b8fd4880cb1649832dc4d6de6da1e7a21847a4843aa",
    ),
)

_TINY_SHAKESPEARE = _TextSource(
    name="tiny-shakespeare",
    home="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
    file="input.txt",
    sha256={"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
)


@open_gate
def load(
    name: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    context: int | None = None,
    tokens: Subwords | int | None = None,
) -> Dataset:
    """Loads a named data set, split into train, validation and test and standardized.

    Inputs of gray images are flat float32 vectors, `(n, 64)` or `(n, 784)`, those of color images
    `(n, 32, 32, 3)`, C-contiguous, with int32 labels `(n,)`; a `Text` has int32 inputs and labels
    `(n, context)`; a table with real targets has arrays by name, `input` and `output`.
    `Dataset.images` and `Dataset.flat` turn vectors and images into each other, and `image_shape`
    of the result says how to show one. Pixels are scaled to 0..1 and standardized by the training
    part, with its mean and its standard deviation over all pixels, of each channel by itself for
    color images, in all three parts:

        (pixel - mean) / std

    Splits and training order are fixed permutations, the same on every call.

    * `digits`: 1,797 images, 8x8, pixels 0..16, 10 classes; permuted, then split into 1,257 train,
      180 validation and 360 test. Part of scikit-learn, so no file is needed and `folder` is not
      used. Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
      Learning Repository, 1998, its test set; CC BY 4.0.
    * `mnist`: 28x28, pixels 0..255, 10 classes; the 60,000 original training examples, permuted and
      split into 55,000 train and 5,000 validation, and the 10,000 original test examples in their
      order. Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to
      document recognition", Proc. IEEE 86(11), 1998; copyright Y. LeCun and C. Cortes, its page
      states no license, commonly redistributed as CC BY-SA 3.0.
    * `fashion-mnist`: as `mnist`, with clothing: 0 T-shirt/top, 1 Trouser, 2 Pullover, 3 Dress, 4
      Coat, 5 Sandal, 6 Shirt, 7 Sneaker, 8 Bag, 9 Ankle boot. Source: H. Xiao, K. Rasul, R.
      Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
      arXiv:1708.07747, 2017; MIT, copyright 2017 Zalando SE.
    * `kmnist`: as `mnist`, with ten letters of cursive Japanese: 0 o, 1 ki, 2 su, 3 tsu, 4 na, 5
      ha, 6 ma, 7 ya, 8 re, 9 wo. Source: T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K.
      Yamamoto, D. Ha, "Deep Learning for Classical Japanese Literature", arXiv:1812.01718, 2018;
      CC BY-SA 4.0.
    * `cifar10`: 32x32 color photographs, pixels 0..255, channels red, green, blue, 10 classes: 0
      airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 truck; the
      50,000 original training examples, permuted and split into 45,000 train and 5,000 validation,
      and the 10,000 original test examples in their order. Its `augmentation` is `CropAndFlip()`.
      Needs `pip install "fathomx[images]"`. Source: A. Krizhevsky, "Learning Multiple Layers of
      Features from Tiny Images", technical report, University of Toronto, 2009; its page states no
      license and asks for a citation of the report.
    * `cifar100`: as `cifar10`, with the 100 fine classes, of which the file
      `cifar100/cifar-100-binary.tar.gz` lists the names; it is read as it is, and needs nothing
      more installed. Source: as `cifar10`.
    * `svhn`: 32x32 color photographs of the digits of house numbers, pixels 0..255, 10 classes;
      the 73,257 original training examples, permuted and split into 68,257 train and 5,000
      validation, and the 26,032 original test examples in their order, from `svhn/train_32x32.mat`
      and `svhn/test_32x32.mat`; without augmentation, since a mirrored digit is none. Source: Y.
      Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", NIPS
      Workshop on Deep Learning and Unsupervised Feature Learning, 2011; for non-commercial use.
    * `tiny-imagenet`: 64x64 color photographs, 200 classes, numbered in the order of their names
      such as n01443537; the 100,000 original training examples, permuted and split into 90,000
      train and 10,000 validation, and as the test part the 10,000 original validation examples,
      since those for test have no labels. Its `augmentation` is `CropAndFlip(8)`. It takes 5.4 GB
      of memory in float32 and is decoded on every call. Needs `pip install "fathomx[images]"`.
      Source: Stanford's course CS231n, cs231n.stanford.edu; a part of ImageNet, whose terms allow
      non-commercial research.
    * `wine`: 178 wines, 13 measured values, 3 growers; permuted, then split into 126 train, 17
      validation and 35 test, every column standardized by itself. Part of scikit-learn. Source: S.
      Aeberhard, M. Forina, UCI Machine Learning Repository, 1992; CC BY 4.0.
    * `breast-cancer`: 569 tumors, 30 measured values, 0 malignant and 1 benign; 400 train, 56
      validation and 113 test, else as `wine`. Source: W. Wolberg, O. Mangasarian, N. Street, W.
      Street, UCI Machine Learning Repository, 1993; CC BY 4.0.
    * `diabetes`: 442 patients, 10 values (age, sex, body mass index, blood pressure, six blood
      serum measurements) and a real target, the disease a year later; 310 train, 44 validation and
      88 test, named arrays `input` `(n, 10)` and `output` `(n, 1)`, which are the names of the
      ends of `fx.models.mlp`. Columns and target are standardized by the training part, whose
      targets have the mean 152.46 and the standard deviation 78.56. Part of scikit-learn. Source:
      B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, "Least Angle Regression", Annals of
      Statistics 32(2), 2004.
    * `tiny-shakespeare`: 1,115,394 characters of plays, 65 different ones, as a `Text`: windows of
      `context` tokens with the next token as the label at every position, one after the other; the
      first 90 of 100 characters are for training, the next 5 for validation, the last 5 for test.
      Public domain. Source: compiled by A. Karpathy for char-rnn, github.com/karpathy/char-rnn.

    Each file, such as `mnist/train-images-idx3-ubyte.gz`, is taken from the first of these that has
    it: `folder`, or the folder that the environment variable `FATHOMX_DATA` names if `folder` is
    `None`; the user's cache, `pooch.os_cache("fathomx")`; the public home of the data set, from
    where it is fetched into the cache. Every file is checked against its published sha256, wherever
    it came from; those of `cifar10`, published in more than one image format, by the sha256 of
    their decoded pixels and labels. The files of `mnist` and `fashion-mnist` may be unpacked, and
    those of `kmnist` too may be named with a dot as in `train-images.idx3-ubyte`, each as it comes.
    Of `tiny-imagenet` no sha256 is published: it is not fetched, but read from
    `tiny-imagenet/tiny-imagenet-200.zip` or the folder `tiny-imagenet/tiny-imagenet-200` unpacked
    from it. The sha256 of `kmnist`, `cifar100` and `svhn` are those of TensorFlow Datasets.

    The images of `cifar10/train-00000-of-00001.parquet` and `cifar10/test-00000-of-00001.parquet`
    are decoded on the first call (seconds) and kept in the user's cache as plain arrays (185 MB),
    which later calls map from disk; deleting them is safe, and where the cache cannot be written
    they are decoded on every call.

    **Arguments**

    * `name`: one of `names()`.
    * `folder`: a folder that holds `mnist/` and the like; relative paths and `~` are allowed.
    * `context`: of texts only, the number of tokens in a window; 64 if it is `None`.
    * `tokens`: of texts only, what a token is, as in `text`; characters if it is `None`.

    Raises `ValueError` if `name` is none of `names()`, if `context` or `tokens` is given for what
    is no text, is too small or does not fit into the text; `TypeError` if an argument is of the
    wrong kind; `DataError` if a file is corrupted or truncated, or is missing and cannot be
    fetched; `ImportError` for `cifar10` and `tiny-imagenet`, if pyarrow or Pillow is not installed,
    and for subwords, if tokenizers is not.

    ```python
    fx.data.load("digits")
    # Dataset('digits': 1257 train, 180 validation, 360 test, inputs (64,), 10 classes)
    ```
    """
    checks.choice("data set", name, names())
    place = None if folder is None else checks.path("folder", folder, "~/data")
    if context is not None:
        checks.count("context", context)
    if name in _TEXTS:
        return _load_text(_TEXTS[name], place, context or _CONTEXT, tokens)
    for option, value in (("context", context), ("tokens", tokens)):
        if value is not None:
            raise ValueError(
                f"{option} was {checks.shown(value)}, but data set {name!r} is no text: leave it "
                f"out, or load {' or '.join(_TEXTS)}."
            )
    return _REGISTRY[name](place)


@open_gate
def texts() -> tuple[str, ...]:
    """The names of the data sets that are texts, a `Text` each.

    ```python
    fx.data.texts()    # ('tiny-shakespeare',)
    ```
    """
    return tuple(_TEXTS)


@open_gate
def names() -> tuple[str, ...]:
    """The names that `load` knows: images, smallest data set first, tables, then texts.

    ```python
    fx.data.names()    # ('digits', 'mnist', 'fashion-mnist', 'kmnist', 'cifar10', ...)
    ```
    """
    return tuple(_REGISTRY)


@open_gate
def descriptions() -> dict[str, str]:
    """What each of the named sets is, in a line.

    ```python
    fx.data.descriptions()["wine"]    # '178 wines, 13 measured values, 3 growers'
    ```
    """
    return dict(_DESCRIPTIONS)


@open_gate
def whereabouts() -> dict[str, Path | None]:
    """The folder in which each named set that is kept in files was found, `None` if in none.

    It is looked for, without a look into its files, in the folder that `FATHOMX_DATA` names, then
    in the cache. What comes with scikit-learn has no files.

    ```python
    fx.data.whereabouts()    # {'mnist': PosixPath('data/mnist'), 'fashion-mnist': None, ...}
    ```
    """
    looked = {name: _places(name, None) for name in names() if name not in _BUILT_IN}
    return {
        name: next((place for place in places if place.is_dir() and any(place.iterdir())), None)
        for name, places in looked.items()
    }


def _load_digits(folder: str | None) -> Dataset:
    # Imported here because scikit-learn is slow to import and no other set needs it; by
    # name because it has no type hints.
    datasets: Any = import_module("sklearn.datasets")
    pixels, labels = datasets.load_digits(return_X_y=True)
    pixels = pixels.astype(np.uint8)
    order = np.random.default_rng(_SEED).permutation(len(pixels))
    train, validation, test = np.split(order, [1257, 1257 + 180])
    scale = PixelScale(pixels[train], brightest=16)
    return Dataset(
        "digits",
        train=Part(scale(pixels[train]), labels[train]),
        validation=Part(scale(pixels[validation]), labels[validation]),
        test=Part(scale(pixels[test]), labels[test]),
        classes=10,
        image_shape=(8, 8),
        preparation=Preparation({"input": scale}),
    )


def _load_idx(source: _IdxSource, folder: str | None) -> Dataset:
    images = _read(source, _TRAIN_IMAGES, folder)
    labels = _read(source, _TRAIN_LABELS, folder)
    test_images = _read(source, _TEST_IMAGES, folder)
    test_labels = _read(source, _TEST_LABELS, folder)
    return _split(
        source,
        (images.reshape(len(images), -1), labels),
        (test_images.reshape(len(test_images), -1), test_labels),
        image_shape=images.shape[1:],
    )


def _load_parquet(source: _ParquetSource, folder: str | None) -> Dataset:
    # First, so that nobody fetches a file only to learn that it cannot be read.
    require_decoders()
    cache = _cache_folder() / source.name
    train = read_images(_locate(source, _TRAIN_TABLE, folder), source.train, cache)
    test = read_images(_locate(source, _TEST_TABLE, folder), source.test, cache)
    shape = source.train.shape
    return _split(
        source, train, test, image_shape=shape, channels=shape[-1], augmentation=CropAndFlip()
    )


def _load_packed(source: _PackedSource, folder: str | None) -> Dataset:
    # One file may hold both parts, and is read once.
    files = dict.fromkeys(source.files.values())
    contents = {file: _read_checked(source, file, folder) for file in files}
    parts = []
    for part, file in source.files.items():
        path, content = contents[file]
        parts.append(source.read(content, part, str(path)))
    del contents
    shape = parts[0][0].shape[1:]
    return _split(
        source,
        *parts,
        image_shape=shape,
        channels=shape[-1],
        augmentation=source.augmentation,
    )


def _load_tiny_imagenet(source: _Source, folder: str | None) -> Dataset:
    require_pillow()
    places = _places(source.name, folder)
    for place in (place / name for place in places for name in _TINY_IMAGENET_NAMES):
        if os.path.exists(place):
            return load_tiny_imagenet(source.name, str(place), source.validation, _SEED)
    packed = _TINY_IMAGENET_NAMES[-1]
    raise DataError(
        f"data set {source.name!r} is not there (looked in {' and in '.join(map(str, places))}): "
        f"get {source.home}{packed} and set {_ENVIRONMENT} to a folder that holds it as "
        f"{source.name}/{packed}, packed or unpacked."
    )


def _load_text(
    source: _TextSource,
    folder: str | None,
    context: int = _CONTEXT,
    tokens: Subwords | int | None = None,
) -> Text:
    path, content = _read_checked(source, source.file, folder)
    characters = decoded(content, "utf-8", str(path))
    return windows_of(source.name, characters, context, tokens=tokens)


def _split(
    source: _Source,
    original: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    test: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    *,
    image_shape: tuple[int, ...],
    channels: int = 1,
    augmentation: CropAndFlip | None = None,
) -> Dataset:
    """The data set of the original training examples, permuted and split, and the test ones."""
    images, labels = original
    order = np.random.default_rng(_SEED).permutation(len(images))
    train, validation = np.split(order, [len(order) - source.validation])
    train_images = images[train]
    scale = PixelScale(train_images, channels)
    return Dataset(
        source.name,
        train=Part(scale(train_images), labels[train].astype(np.int32)),
        validation=Part(scale(images[validation]), labels[validation].astype(np.int32)),
        test=Part(scale(test[0]), test[1].astype(np.int32)),
        classes=source.classes,
        image_shape=image_shape,
        augmentation=augmentation,
        preparation=Preparation({"input": scale}, class_names=source.class_names),
    )


def _read(source: _IdxSource, file: str, folder: str | None) -> NDArray[np.uint8]:
    """One idx file of a data set, found or fetched, checked, parsed."""
    path, content = _read_checked(source, file, folder)
    return parse_idx(content, str(path))


def _read_checked(source: _HashedSource, file: str, folder: str | None) -> tuple[Path, bytes]:
    """One file of a data set, found or fetched, and its bytes, which have a known sha256."""
    path = _locate(source, file, folder)
    content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() not in source.known_sha256(file):
        raise DataError(
            f"the file {path} of data set {source.name!r} is corrupted or truncated (its "
            f"{len(content)} bytes do not have the published sha256): delete it and load the "
            "data set again, or put a fresh copy in its place."
        )
    return path, content


def _places(name: str, folder: str | None) -> list[Path]:
    """The folders in which the files of a data set are looked for."""
    given = os.environ.get(_ENVIRONMENT) if folder is None else folder
    cache = _cache_folder()
    places = [Path(given).expanduser(), cache] if given else [cache]
    return [place / name for place in places]


def _locate(source: _Source, file: str, folder: str | None) -> Path:
    places = _places(source.name, folder)
    for path in (place / name for place in places for name in source.names(file)):
        # Unlike Path.is_file, this is False too for a folder that may not be entered.
        if os.path.isfile(path):
            return path
    return _fetch(source, file, " and in ".join(map(str, places)))


def _cache_folder() -> Path:
    pooch: Any = import_module("pooch")
    return Path(pooch.os_cache("fathomx"))


def _fetch(source: _Source, file: str, looked: str) -> Path:
    """Fetches one file into the cache; a failed try leaves no file there."""
    pooch: Any = import_module("pooch")
    url = source.home + file
    sha256 = source.file_sha256(file)
    missing = f"the file {file} of data set {source.name!r} is missing (looked in {looked})"
    remedy = f"set {_ENVIRONMENT} to a folder that holds {source.name}/{file}."
    try:
        with _quiet(pooch.get_logger()):
            path = pooch.retrieve(
                url,
                known_hash=None if sha256 is None else f"sha256:{sha256}",
                fname=file,
                path=_cache_folder() / source.name,
                downloader=pooch.HTTPDownloader(timeout=_TIMEOUT, chunk_size=1 << 16),
            )
    except OSError as error:
        # Without its cause: a chain of three network tracebacks would hide the sentence.
        raise DataError(
            f"{missing} and could not be fetched from {url} ({type(error).__name__}): "
            f"connect to the network and load it again, or {remedy}"
        ) from None
    except ValueError:
        # pooch raises this where the sha256 differs.
        raise DataError(
            f"{missing} and the copy fetched from {url} is corrupted or truncated (it does not "
            f"have the published sha256): load it again later, or {remedy}"
        ) from None
    return Path(path)


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


_TEXTS = {_TINY_SHAKESPEARE.name: _TINY_SHAKESPEARE}
# One more data set is one more entry: a name and a function from a folder to a Dataset.
_BUILT_IN = ("digits", "wine", "breast-cancer", "diabetes")
_DESCRIPTIONS = {
    "digits": "1,797 handwritten digits of 8x8 pixels; comes with scikit-learn",
    "mnist": "70,000 handwritten digits of 28x28 pixels",
    "fashion-mnist": "70,000 pictures of clothing of 28x28 pixels, 10 classes",
    "kmnist": "70,000 letters of cursive Japanese of 28x28 pixels, 10 classes",
    "cifar10": "60,000 color photographs of 32x32 pixels, 10 classes",
    "cifar100": "60,000 color photographs of 32x32 pixels, 100 classes",
    "svhn": "99,289 color photographs of house numbers' digits, 32x32 pixels",
    "tiny-imagenet": "110,000 color photographs of 64x64 pixels, 200 classes; not fetched",
    "wine": "178 wines, 13 measured values, 3 growers",
    "breast-cancer": "569 tumors, 30 measured values, malignant or benign",
    "diabetes": "442 patients, 10 measured values, the progression of the disease as a real target",
    "tiny-shakespeare": "1,115,394 characters of plays, as windows of tokens",
}
_REGISTRY: dict[str, Callable[[str | None], Dataset]] = {
    "digits": _load_digits,
    "mnist": partial(_load_idx, _MNIST),
    "fashion-mnist": partial(_load_idx, _FASHION_MNIST),
    "kmnist": partial(_load_idx, _KMNIST),
    "cifar10": partial(_load_parquet, _CIFAR10),
    "cifar100": partial(_load_packed, _CIFAR100),
    "svhn": partial(_load_packed, _SVHN),
    "tiny-imagenet": partial(_load_tiny_imagenet, _TINY_IMAGENET),
    "wine": lambda folder: load_classes("wine", "load_wine"),
    "breast-cancer": lambda folder: load_classes("breast-cancer", "load_breast_cancer"),
    "diabetes": lambda folder: load_values("diabetes", "load_diabetes", scaled=False),
    **{name: partial(_load_text, source) for name, source in _TEXTS.items()},
}
