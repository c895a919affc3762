"""The container of a data set: three checked parts of numpy arrays."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as field_of
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx import checks
from fathomx.checks import example, open_gate
from fathomx.data._images import check_channels_last, checked_image_shape
from fathomx.data._parts import Part, in_part, is_named, labeled_pair, named_arrays, weight_array
from fathomx.data._preparation import Preparation

_TITLES = ("train", "validation", "test")
# Root mean squares between which networks are expected to train as they are: counts and pixels of
# a few bits pass, those of eight bits and physical units do not.
_ORDER_ONE = (0.01, 30.0)


@open_gate
@example('fx.data.load("digits")')
@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A data set in memory: train, validation and test parts.

    Fit on `train`, choose hyperparameters on `validation`, report on `test`; without one of these
    two, nothing is said of it. A part is a pair of inputs and class labels, or arrays by name, of
    any number and shape, as for data without labels, with several targets or real-valued ones.
    Arrays are those of NumPy and JAX, lists, and data frames of pandas and Polars, whose columns
    are what an example holds; a data frame, an Arrow table or a Hugging Face data set by itself is
    arrays by the names of its columns. A third array of a pair, or one called `weights` among
    arrays by name, says how much each example counts, in learning and in the scores of its part
    (`Problem.with_weights`). What is larger than memory is a `Stream`.

    Named floating-point arrays become float32, integers int32 and truth values stay; `fx.fit`
    clamps the entries of these names, unless it is told otherwise (`pose`).

    Of pairs everything is checked on construction. Inputs of any real dtype are converted to
    C-contiguous float32 and integer labels to int32; arrays that have this form already are kept
    without a copy. Labels are integers: floating-point numbers that are whole, and truth values,
    are refused with the advice `labels.astype(int)`, one-hot vectors with `labels.argmax(1)`.

    Inputs are not standardized here; `fathomx.data.load` does that for the named sets. Networks
    expect values of order 1, so where the root mean square of the training inputs (or of a
    floating-point array of the training part, by name) is below 0.01 or above 30, a `UserWarning`
    says so, once for each data set; what `take`, `images` and `flat` make of it stays silent.

    Images have their channels last. Where inputs are taken for images, because of an `image_shape`
    or an `augmentation`, those of shape `(3, h, h)` or `(1, h, h)` with `h` larger than the
    channels are refused with the advice `inputs.transpose(0, 2, 3, 1)`.

    The attribute `weights` holds those of pairs, by part. Two data sets are equal only if they are
    the same object.

    **Fields**

    * `name`: what error messages and reports call the data set.
    * `train`: the part to fit on; a pair `(inputs, labels)` or a mapping from names to arrays is
      accepted for every part, the same in all three.
    * `validation`: the part to choose hyperparameters on, or `None`.
    * `test`: the part to report on, or `None`.
    * `classes`: number of classes, at least 2; labels run from 0 to `classes - 1`. 0 (the default)
      for named arrays, which have none.
    * `image_shape`: the shape that shows one input as an image, such as `(28, 28)`, or `()` (the
      default) where inputs are not images. Inputs are vectors, or have this shape up to axes of
      size 1. Of pairs only.
    * `augmentation`: `None` (the default), or a function that training applies to every batch of
      training images: it takes images `(batch, height, width, channels)` and a PRNG key and returns
      images of the same shape, such as `fathomx.data.CropAndFlip()`. It must be pure, since it is
      compiled. The arrays here are never augmented. Of pairs only.
    * `preparation`: `None` (the default), or what was done to raw values and what numbers stand for
      (`fathomx.data.Preparation`).

    Raises `TypeError` if a part is neither a pair nor arrays by name, an array or a column does not
    hold real numbers or is masked, labels are not integers, or `name`, `classes`, `image_shape` or
    `augmentation` is of another kind; `ValueError` if a part is empty, its arrays differ in
    length, its labels are not in `0..classes - 1`, its inputs hold NaN or infinite values, named
    integers do not fit into 32 bits, the parts differ in shape, or `image_shape` does not show one
    input.

    ```python
    x, y = np.eye(4), np.array([0, 1, 0, 1])
    fx.data.Dataset("toy", (x, y), (x, y), (x, y), classes=2)
    # Dataset('toy': 4 train, 4 validation, 4 test, inputs (4,), 2 classes)
    fx.data.Dataset("pictures", {"image": x}, {"image": x_val}, {"image": x_test})
    ```
    """

    name: str
    train: Any
    validation: Any = None
    test: Any = None
    classes: int = 0
    image_shape: tuple[int, ...] = ()
    augmentation: Callable[[Any, Any], Any] | None = None
    preparation: Preparation | None = None
    weights: Mapping[str, NDArray[Any]] = field_of(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        checks.word("the name of a data set", self.name, "toy")
        if self.preparation is not None:
            kind = "fathomx.data.Preparation()"
            checks.instance("preparation", self.preparation, Preparation, kind)
        with in_part("train", self.name):
            named = is_named(self.train)
        if named:
            self._check_no_fields_of_pairs()
        else:
            self._set("classes", self._checked_classes())
        for title in self.titles:
            with in_part(title, self.name):
                self._set(title, self._checked_part(title, named))
                self._check_shapes(title)
        if not named:
            self._check_images()
        _warn_of_scale(self.name, self.train if named else {"inputs": self.train.inputs})

    @property
    def named(self) -> bool:
        """Whether the parts hold arrays by name instead of inputs and labels."""
        return isinstance(self.train, Mapping)

    @property
    def titles(self) -> tuple[str, ...]:
        """The parts that there are, of `train`, `validation` and `test`."""
        return tuple(t for t in _TITLES if t == "train" or getattr(self, t) is not None)

    def arrays(self, title: str) -> dict[str, NDArray[Any]]:
        """The arrays of a part by name: of a pair, `input` and `target`; none if it is missing.

        **Arguments**: `title`, one of `train`, `validation` and `test`; others raise `ValueError`.
        """
        part = getattr(self, checks.choice("part", title, _TITLES))
        if part is None:
            return {}
        if self.named:
            return dict(part)
        weights = {"weights": self.weights[title]} if title in self.weights else {}
        return {"input": part.inputs, "target": part.labels, **weights}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in their order; their numbers, where no names are known."""
        known = () if self.preparation is None else self.preparation.class_names
        return known or tuple(map(str, range(self.classes)))

    @property
    def size(self) -> int:
        """Number of training examples."""
        return self._size("train")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, such as `(784,)`, the same in all parts.

        Raises `ValueError` if the arrays have names.
        """
        self._check_pairs("input_shape")
        return tuple(self.train.inputs.shape[1:])

    def take(self, n: int) -> Dataset:
        """A smaller data set for a quick run: the first `n` training examples.

        The validation and test parts keep their first `max(1, n // 4)` examples, or all they have
        where that is fewer. The values are those of the full set: nothing is standardized again, so
        the moments of a small part differ a little from 0 and 1. The training order of the named
        sets is a fixed permutation, so the first `n` examples are a fair sample. Arrays are views,
        not copies. Name, classes, image shape and augmentation stay.

        Raises `TypeError` if `n` is not an integer, and `ValueError` if it is not from 1 to the
        number of training examples.

        ```python
        fx.data.load("digits").take(100)
        # Dataset('digits': 100 train, 25 validation, 25 test, inputs (64,), 10 classes)
        ```
        """
        count = checks.count(
            "n",
            n,
            most=self.size,
            remedy=f"data set {self.name!r} has {self.size} training examples",
        )
        few = max(1, count // 4)
        sizes = {"train": count, "validation": few, "test": few}
        weights = {t: array[: sizes[t]] for t, array in self.weights.items()}
        parts = {t: _first(getattr(self, t), sizes[t]) for t in self.titles}
        return self._with(**parts, weights=weights)

    def with_parts(self, name: str, parts: Mapping[str, Any]) -> Dataset:
        """This data set under another name, with other parts of the form that its own have.

        **Arguments**: `name`; `parts`, by their titles, as a data set holds them. They are taken as
        they are: what changes the numbers of a data set and not its form is made by this.
        """
        return self._with(name=name, **parts)

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
        self._check_pairs("images")
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
        set itself. Raises `ValueError` if the arrays have names.

        ```python
        fx.data.load("digits").images().flat()
        # Dataset('digits': 1257 train, 180 validation, 360 test, inputs (64,), 10 classes)
        ```
        """
        self._check_pairs("flat")
        shape = (math.prod(self.input_shape),)
        if self.augmentation is None:
            return self._reshaped(shape)
        return self._with(augmentation=None)._reshaped(shape)

    def __repr__(self) -> str:
        # The generated repr would print the arrays.
        sizes = ", ".join(f"{self._size(title)} {title}" for title in self.titles)
        if self.named:
            held = f"arrays {self._shapes('train')}"
        else:
            held = f"inputs {self.input_shape}, {self.classes} classes"
        return f"Dataset({self.name!r}: {sizes}, {held})"

    def _set(self, field: str, value: Any) -> None:
        # The class is frozen, so normalized values are set past its own __setattr__.
        object.__setattr__(self, field, value)

    def _with(self, **changes: Any) -> Dataset:
        """This data set with other fields, which are right because they are made of its own."""
        made = copy.copy(self)
        for field, value in changes.items():
            made._set(field, value)
        return made

    def _reshaped(self, shape: tuple[int, ...]) -> Dataset:
        if shape == self.input_shape:
            return self
        parts = {title: getattr(self, title) for title in self.titles}
        return self._with(
            **{t: Part(p.inputs.reshape(-1, *shape), p.labels) for t, p in parts.items()}
        )

    def _size(self, title: str) -> int:
        return len(next(iter(self.arrays(title).values())))

    def _shapes(self, title: str) -> dict[str, tuple[int, ...]]:
        return {name: array.shape[1:] for name, array in self.arrays(title).items()}

    def _checked_classes(self) -> int:
        return checks.count(
            f"classes of data set {self.name!r}",
            self.classes,
            least=2,
            remedy="give the number of classes, such as classes=10",
        )

    def _checked_part(self, title: str, named: bool) -> Part | dict[str, NDArray[Any]]:
        part = getattr(self, title)
        if is_named(part) != named:
            expected = "arrays by name such as {'image': x}" if named else "a pair of arrays"
            raise ValueError(
                f"there is a {type(part).__name__}, expected {expected} as in the train part; give "
                "all parts in one form."
            )
        if named:
            return named_arrays(part)
        pair = self._checked_pair(part)
        if len(part) == 3:
            found = weight_array(part[2], len(pair.labels))
            self._set("weights", {**self.weights, title: found})
        return pair

    def _checked_pair(self, part: Any) -> Part:
        return labeled_pair(part, self.classes)

    def _check_shapes(self, title: str) -> None:
        # Each part has weights or none.
        own, train = self._shapes(title), self._shapes("train")
        own, train = ({k: s for k, s in e.items() if k != "weights"} for e in (own, train))
        if own != train:
            raise ValueError(
                f"examples have the shapes {own}, but in the train part {train}; give all parts "
                "the same names and shapes."
            )

    def _check_images(self) -> None:
        shape = checked_image_shape(self.image_shape, self.input_shape, self.name)
        self._set("image_shape", shape)
        if self.augmentation is not None:
            checks.function(
                f"augmentation of data set {self.name!r}",
                self.augmentation,
                "fathomx.data.CropAndFlip()",
                takes=2,
            )
            check_channels_last(f"inputs of data set {self.name!r}", self.input_shape, "inputs")

    def _check_no_fields_of_pairs(self) -> None:
        for field, default in (("classes", 0), ("image_shape", ()), ("augmentation", None)):
            given = getattr(self, field)
            if type(given) is not type(default) or given != default:
                raise ValueError(
                    f"{field} of data set {self.name!r} is for pairs of inputs and labels, but its "
                    "arrays have names; leave it out, and change arrays in the pose of fx.fit."
                )

    def _check_pairs(self, what: str) -> None:
        if self.named:
            raise ValueError(
                f"{what} is for pairs of inputs and labels, but the arrays of data set "
                f"{self.name!r} have names; take them by arrays('train')."
            )


def _first(part: Any, count: int) -> Any:
    if isinstance(part, Part):
        return Part(part.inputs[:count], part.labels[:count])
    return {name: array[:count] for name, array in part.items()}


def _warn_of_scale(data: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Says which floating-point arrays are not of order 1; zeros alone have no order."""
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            continue
        # In float64, where no square overflows, and without an array of them.
        values = array.reshape(-1)
        square = float(np.einsum("i,i->", values, values, dtype=np.float64)) / values.size
        if 0 < square < _ORDER_ONE[0] ** 2 or _ORDER_ONE[1] ** 2 < square < math.inf:
            checks.warn(
                f"the root mean square of {name} in data set {data!r} is {math.sqrt(square):.3g}; "
                "networks here expect values of order 1: standardize them, such as by "
                "(x - mean) / std with the training part's mean and std."
            )
