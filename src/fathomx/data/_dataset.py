"""The container of a data set: three checked parts of numpy arrays."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import NDArray

_TITLES = ("train", "validation", "test")


class Part(NamedTuple):
    """One part of a data set: inputs and their labels, in the same order.

    **Fields**

    * `inputs`: float32 `(n, ...)`, C-contiguous once inside a `Dataset`; int32 tokens inside a
      `Text`.
    * `labels`: int32 `(n,)`, each from 0 to `classes - 1`; `(n, context)` inside a `Text`.

    ```python
    x, y = fx.data.load("digits").validation
    len(x) == len(y)    # True
    ```
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int32]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A data set in memory: train, validation and test parts.

    Fit on `train`, choose hyperparameters on `validation`, report on `test`. A part is a pair of
    inputs and class labels, or arrays by name, of any number and shape, as for data without labels,
    with several targets or real-valued ones. Named floating-point arrays become float32, integers
    int32 and truth values stay; `fx.fit` clamps the entries of these names, unless it is told
    otherwise (`pose`).

    Of pairs everything is checked on construction. Inputs of any real dtype are converted to
    C-contiguous float32 and integer labels to int32; arrays that have this form already are kept
    without a copy. Inputs are not standardized here; `fathomx.data.load` does that for the named
    sets. Two data sets are equal only if they are the same object.

    **Fields**

    * `name`: what error messages and reports call the data set.
    * `train`: the part to fit on; a pair `(inputs, labels)` or a mapping from names to arrays is
      accepted for every part, the same in all three.
    * `validation`: the part to choose hyperparameters on.
    * `test`: the part to report on.
    * `classes`: number of classes, at least 1; labels run from 0 to `classes - 1`. 0 (the default)
      for named arrays, which have none.
    * `image_shape`: the shape that shows one input as an image, such as `(28, 28)`, or `()` (the
      default) where inputs are not images.
    * `augmentation`: `None` (the default), or a function that training applies to every batch of
      training images: it takes images `(batch, height, width, channels)` and a PRNG key and returns
      images of the same shape, such as `fathomx.data.CropAndFlip()`. It must be pure, since it is
      compiled. The arrays here are never augmented.

    Raises `ValueError` if a part is empty, its inputs and labels differ in length, its labels are
    not integers in `0..classes - 1`, its inputs hold NaN or infinite values, the parts' inputs
    differ in shape, `image_shape` does not hold one input, or `augmentation` cannot be called.

    ```python
    x, y = np.eye(4), np.array([0, 1, 0, 1])
    fx.data.Dataset("toy", (x, y), (x, y), (x, y), classes=2)
    # Dataset('toy': 4 train, 4 validation, 4 test, inputs (4,), 2 classes)
    fx.data.Dataset("pictures", {"image": x}, {"image": x_val}, {"image": x_test})
    ```
    """

    name: str
    train: Any
    validation: Any
    test: Any
    classes: int = 0
    image_shape: tuple[int, ...] = ()
    augmentation: Callable[[Any, Any], Any] | None = None

    # What inputs are converted to, and how many of their axes have a label at every place.
    _input_type: ClassVar[Any] = np.float32
    _labelled_axes: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(
                f"the name of a data set was {self.name!r}, expected a non-empty string: "
                "pass one, such as name='toy'."
            )
        if self.named:
            self._check_named()
            if self.augmentation is not None:
                raise ValueError(
                    f"augmentation of data set {self.name!r} is for pairs of images and labels, "
                    "but its arrays have names: change them in pose instead."
                )
            return
        classes = _positive(self.classes)
        if classes is None:
            raise ValueError(
                f"classes of data set {self.name!r} was {self.classes!r}, expected an integer "
                "of at least 1: pass the number of classes, such as classes=10."
            )
        # The class is frozen, so normalized values are set past its own __setattr__.
        object.__setattr__(self, "classes", classes)
        for title in _TITLES:
            part = self._checked_part(title)
            object.__setattr__(self, title, part)
            if part.inputs.shape[1:] != self.input_shape:
                raise ValueError(
                    f"the {title} part of data set {self.name!r} has inputs of shape "
                    f"{part.inputs.shape[1:]} each, expected {self.input_shape} as in the train "
                    "part: reshape one of the two."
                )
        object.__setattr__(self, "image_shape", self._checked_image_shape())
        if self.augmentation is not None and not callable(self.augmentation):
            raise ValueError(
                f"augmentation of data set {self.name!r} was {self.augmentation!r}, expected a "
                "function of images and a random key: pass one, such as "
                "fathomx.data.CropAndFlip(), or None."
            )

    @property
    def named(self) -> bool:
        """Whether the parts hold arrays by name instead of inputs and labels."""
        return isinstance(self.train, Mapping)

    def arrays(self, title: str) -> dict[str, NDArray[Any]]:
        """The arrays of a part by name: of a pair, `input` and `target`."""
        part = getattr(self, title)
        return dict(part) if self.named else {"input": part.inputs, "target": part.labels}

    @property
    def size(self) -> int:
        """Number of training examples."""
        return len(next(iter(self.arrays("train").values())))

    def _check_named(self) -> None:
        shapes: dict[str, tuple[int, ...]] = {}
        for title in _TITLES:
            where = f"the {title} part of data set {self.name!r}"
            part = getattr(self, title)
            if not isinstance(part, Mapping) or not part:
                raise ValueError(
                    f"{where} was a {type(part).__name__}, expected arrays by name as in the train "
                    "part: pass a dictionary such as {'image': x}."
                )
            found = {str(k): _named_array(f"{k!r} of {where}", v) for k, v in part.items()}
            sizes = {name: len(array) for name, array in found.items()}
            if len(set(sizes.values())) != 1 or not next(iter(sizes.values())):
                raise ValueError(
                    f"{where} holds unlike or no numbers of examples, {sizes}: give every array "
                    "one row for each example."
                )
            own = {name: array.shape[1:] for name, array in found.items()}
            if shapes and own != shapes:
                raise ValueError(
                    f"{where} holds examples of shapes {own}, expected {shapes} as in the train "
                    "part: give all parts the same names and shapes."
                )
            shapes = own
            object.__setattr__(self, title, found)

    def _checked_part(self, title: str) -> Part:
        where = f"the {title} part of data set {self.name!r}"
        part: Any = getattr(self, title)
        if not isinstance(part, (tuple, list)) or len(part) != 2:
            raise ValueError(
                f"{where} was a {type(part).__name__}, expected a pair of arrays: "
                "pass Part(inputs, labels)."
            )
        inputs, labels = (
            _array(f"{what} of {where}", values)
            for what, values in zip(("inputs", "labels"), part, strict=True)
        )
        _check_shapes(where, inputs, labels, self._labelled_axes)
        return Part(
            _checked_inputs(where, inputs, self._input_type),
            _checked_labels(where, labels, self.classes),
        )

    def _checked_image_shape(self) -> tuple[int, ...]:
        given: Any = self.image_shape
        sizes = [_positive(size) for size in given] if isinstance(given, (tuple, list)) else [None]
        shape = tuple(size for size in sizes if size is not None)
        if len(shape) < len(sizes) or (shape and math.prod(shape) != math.prod(self.input_shape)):
            raise ValueError(
                f"image_shape of data set {self.name!r} was {given!r}, expected a tuple of "
                f"positive integers whose product is {math.prod(self.input_shape)}, the number "
                "of values in one input: pass such a shape, or () if inputs are not images."
            )
        return shape

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, such as `(784,)`, the same in all parts."""
        return tuple(self.train.inputs.shape[1:])

    def take(self, n: int) -> Dataset:
        """A smaller data set for a quick run: the first `n` training examples.

        The validation and test parts keep their first `max(1, n // 4)` examples, or all they have
        where that is fewer. The values are those of the full set: nothing is standardized again, so
        the moments of a small part differ a little from 0 and 1. The training order of the named
        sets is a fixed permutation, so the first `n` examples are a fair sample. Arrays are views,
        not copies. Name, classes, image shape and augmentation stay.

        **Arguments**: `n`, the number of training examples, from 1 to `len(train.inputs)`. Raises
        `ValueError` if it is not an integer in that range.

        ```python
        fx.data.load("digits").take(100)
        # Dataset('digits': 100 train, 25 validation, 25 test, inputs (64,), 10 classes)
        ```
        """
        total = self.size
        count = _positive(n)
        if count is None or count > total:
            raise ValueError(
                f"take was given n={n!r}, expected an integer from 1 to {total}, the number of "
                f"training examples in data set {self.name!r}: pass an n in that range."
            )
        few = max(1, count // 4)
        if self.named:
            sizes = {"train": count, "validation": few, "test": few}
            parts = {t: {k: v[:n] for k, v in self.arrays(t).items()} for t, n in sizes.items()}
            return replace(
                self,
                train=parts["train"],
                validation=parts["validation"],
                test=parts["test"],
            )
        return replace(
            self,
            train=Part(self.train.inputs[:count], self.train.labels[:count]),
            validation=Part(self.validation.inputs[:few], self.validation.labels[:few]),
            test=Part(self.test.inputs[:few], self.test.labels[:few]),
        )

    def images(self) -> Dataset:
        """The same data with every input of shape `(height, width, channels)`.

        That is the form that convolutions take. Where `image_shape` has no channel axis, one of
        size 1 is added. Inputs become `(n, height, width, channels)`, as views and not copies, and
        everything else is kept; where they have that shape already, it is this data set itself.

        Raises `ValueError` if `image_shape` does not have two or three axes, as where the inputs
        are not images.

        ```python
        fx.data.load("digits").images()
        # Dataset('digits': 1257 train, 180 validation, 360 test, inputs (8, 8, 1), 10 classes)
        ```
        """
        if len(self.image_shape) not in (2, 3):
            raise ValueError(
                f"the inputs of data set {self.name!r} have image_shape={self.image_shape}, "
                "expected (height, width) or (height, width, channels) to make images of them: "
                "build the data set with such an image_shape, or use a network for vectors."
            )
        return self._reshaped((*self.image_shape, 1)[:3])

    def flat(self) -> Dataset:
        """The same data with every input as one vector, and without augmentation.

        That is the form that dense layers take. Inputs become `(n, values)`, as views and not
        copies. The augmentation is dropped, to `None`, because it changes images and not vectors.
        `image_shape` is kept, so `images` leads back to the arrays. What is so already is this data
        set itself.

        ```python
        fx.data.load("digits").images().flat()
        # Dataset('digits': 1257 train, 180 validation, 360 test, inputs (64,), 10 classes)
        ```
        """
        shape = (math.prod(self.input_shape),)
        if self.augmentation is None:
            return self._reshaped(shape)
        return replace(self, augmentation=None)._reshaped(shape)

    def _reshaped(self, shape: tuple[int, ...]) -> Dataset:
        if shape == self.input_shape:
            return self
        train, validation, test = (
            Part(part.inputs.reshape(-1, *shape), part.labels)
            for part in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)

    def __repr__(self) -> str:
        # The generated repr would print the arrays.
        train, validation, test = (
            len(next(iter(self.arrays(title).values()))) for title in _TITLES
        )
        if self.named:
            shapes = {name: array.shape[1:] for name, array in self.train.items()}
            return (
                f"Dataset({self.name!r}: {train} train, {validation} validation, {test} test, "
                f"arrays {shapes})"
            )
        return (
            f"Dataset({self.name!r}: {train} train, {validation} validation, {test} test, "
            f"inputs {self.input_shape}, {self.classes} classes)"
        )


def _positive(value: SupportsIndex) -> int | None:
    """`value` as an int of at least 1, or None if it is not one; True is not a count."""
    if isinstance(value, bool):
        return None
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return number if number >= 1 else None


def _checked_labels(where: str, labels: NDArray[Any], classes: int) -> NDArray[np.int32]:
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"{where} has labels of dtype {labels.dtype}, expected integers: "
            "convert them, such as with labels.astype('int32')."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"{where} has labels from {low} to {high}, expected 0 to {classes - 1} for "
            f"classes={classes}: renumber the labels from 0 or pass the true number of classes."
        )
    return np.ascontiguousarray(labels, dtype=np.int32)


def _checked_inputs(where: str, inputs: NDArray[Any], wanted: Any) -> NDArray[Any]:
    name = np.dtype(wanted).name
    whole = np.dtype(wanted).kind == "i"
    if inputs.dtype.kind not in ("iu" if whole else "fiub"):
        expected = "integers" if whole else "real numbers"
        raise ValueError(
            f"{where} has inputs of dtype {inputs.dtype}, expected {expected}: "
            f"convert them, such as with inputs.astype('{name}')."
        )
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(inputs, dtype=wanted)
    # A NaN or an infinity reaches the minimum or the maximum, with no array of flags.
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise ValueError(
            f"{where} has NaN or infinite inputs, expected finite {name} values: "
            "remove or replace those values before building the data set."
        )
    return values


def _named_array(what: str, values: Any) -> NDArray[Any]:
    """An array of a named part: numbers as float32 or int32, truth values as they are."""
    array = _array(what, values)
    if array.ndim == 0:
        raise ValueError(f"{what} was one number, expected an array with a row for each example.")
    if array.dtype == np.bool_:
        return np.ascontiguousarray(array)
    if np.issubdtype(array.dtype, np.integer):
        return np.ascontiguousarray(array, np.int32)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{what} holds {array.dtype}, expected numbers or truth values.")
    return np.ascontiguousarray(array, np.float32)


def _array(what: str, values: Any) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"the {what} are rows of unlike length, expected a full array: "
            "pad or cut the rows to one length."
        ) from error


def _check_shapes(
    where: str, inputs: NDArray[Any], labels: NDArray[Any], labelled_axes: int
) -> None:
    if labelled_axes and (inputs.ndim != 1 + labelled_axes or labels.shape != inputs.shape):
        raise ValueError(
            f"{where} has inputs of shape {inputs.shape} and labels of shape {labels.shape}, "
            "expected (n, context) for both: pass one label for each token."
        )
    if not labelled_axes and (inputs.ndim < 2 or labels.ndim != 1):
        raise ValueError(
            f"{where} has inputs of shape {inputs.shape} and labels of shape {labels.shape}, "
            "expected (n, ...) with at least two axes and (n,): reshape them, such as with "
            "inputs.reshape(n, -1) and labels.reshape(-1)."
        )
    if len(inputs) != len(labels):
        raise ValueError(
            f"{where} has {len(inputs)} inputs and {len(labels)} labels, expected as many of "
            "the one as of the other: pass one label for each input."
        )
    if inputs.size == 0:
        raise ValueError(
            f"{where} is empty (inputs of shape {inputs.shape}), expected at least one example "
            "of at least one value: pass more examples or split the data differently."
        )
