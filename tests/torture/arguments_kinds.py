"""Kinds of parameters: for each, values that must be refused and odd ones that are right.

A value is made from the one that the valid call has, so that an array can be the same array in
another byte order, or with one row too many.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from arguments_world import World

import fathomx as fx

HUGE = 10**400


@dataclasses.dataclass(frozen=True)
class Variant:
    """A value in place of the one of the valid call.

    **Fields**: `text`, the value in a few words of Python, with `@` for the parameter's own name;
    `make`, from the value of the valid call; of one that is right, `tolerance` is how far numbers
    of the result may differ, and `compared` whether there is something to compare with.
    """

    text: str
    make: Callable[[Any], Any]
    tolerance: float = 1e-5
    compared: bool = True


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a parameter may be: a name for the tally, wrong values, odd values that are right."""

    name: str
    wrong: tuple[Variant, ...]
    right: tuple[Variant, ...] = ()

    def but(self, *texts: str) -> Kind:
        """The same without some of its values."""
        kept = [
            tuple(v for v in variants if v.text not in texts)
            for variants in (self.wrong, self.right)
        ]
        return Kind(self.name, *kept)

    def also(self, wrong: Iterable[Variant] = (), right: Iterable[Variant] = ()) -> Kind:
        """The same with more values."""
        return Kind(self.name, (*self.wrong, *wrong), (*self.right, *right))


def value(text: str, made: Any) -> Variant:
    """A variant that does not depend on the value of the valid call."""
    return Variant(text, lambda base: made)


def uncompared(text: str, make: Callable[[Any], Any]) -> Variant:
    """A right value whose result is another one, or none."""
    return Variant(text, make, compared=False)


def named(**made: Any) -> tuple[Variant, ...]:
    """Variants whose text is a name, such as `problem`."""
    return tuple(value(text, each) for text, each in made.items())


NOTHING = value("None", None)
OBJECT = value("object()", object())
# What is no number, whatever number is asked for.
_NO_NUMBERS = (
    NOTHING,
    OBJECT,
    value("'three'", "three"),
    value("''", ""),
    value("b'3'", b"3"),
    value("3 + 1j", 3 + 1j),
    value("float('nan')", math.nan),
    value("float('inf')", math.inf),
    value("-float('inf')", -math.inf),
    value("True", True),
    value("np.True_", np.True_),
    value("[]", []),
    value("[3]", [3]),
    value("{3}", {3}),
    value("{3: 3}", {3: 3}),
    value("int", int),
    value("np.array([3, 3])", np.array([3, 3])),
    Variant("jnp.array([3, 3])", lambda base: jnp.array([3, 3])),
    value("np.array('3')", np.array("3")),
    value("np.datetime64('2020-01-01')", np.datetime64("2020-01-01")),
    value("np.ma.masked", np.ma.masked),
    value("np.array(None)", np.array(None)),
    value("np.complex64(3j)", np.complex64(3j)),
)


def count(least: int = 1, most: int | None = None) -> Kind:
    """An integer of at least `least`."""
    wrong = {
        str(each): each
        for each in (least - 1, -1, -(2**40), 1.5, *([] if most is None else [most + 1]))
    }
    return Kind(
        "count",
        (
            *_NO_NUMBERS,
            *(value(text, each) for text, each in wrong.items()),
            value("10**400", HUGE),
            value("np.float64(2.5)", np.float64(2.5)),
        ),
        (
            Variant("np.int8(@)", np.int8),
            Variant("np.int32(@)", np.int32),
            Variant("np.int64(@)", np.int64),
            Variant("np.uint8(@)", np.uint8),
            Variant("np.uint64(@)", np.uint64),
            Variant("np.array(@)", np.array),
            Variant("np.array(@, '>i4')", lambda base: np.array(base, ">i4")),
            Variant("jnp.asarray(@)", jnp.asarray),
        ),
    )


def bytes_count() -> Kind:
    """A number of bytes, which may be larger than 32 bits hold."""
    return (
        count()
        .but("np.int8(@)", "np.int32(@)", "np.uint8(@)", "np.array(@, '>i4')")
        .but("jnp.asarray(@)", "10**400")
    )


def integer() -> Kind:
    """Any integer, such as a seed."""
    return count().but("0", "-1", str(-(2**40)), "10**400")


def number(
    *, above: float | None = None, least: float | None = None, below: float | None = None
) -> Kind:
    """A finite real number; above or from a bound on, and below or up to 1 and the like."""
    wrong = [HUGE]
    if above is not None:
        wrong += [above, above - 1]
    if least is not None:
        wrong += [least - 1]
    if below is not None:
        wrong += [below, below + 1]
    return Kind(
        "number",
        (*_NO_NUMBERS, *(value("10**400" if w is HUGE else str(w), w) for w in wrong)),
        (
            Variant("np.float32(@)", np.float32),
            Variant("np.float64(@)", np.float64),
            Variant("np.array(@)", np.array),
            Variant("np.array(@, '>f4')", lambda base: np.array(base, ">f4")),
            Variant("jnp.asarray(@)", jnp.asarray),
            Variant("int(@)", lambda base: int(base) if int(base) == base else float(base)),
        ),
    )


def flag() -> Kind:
    """True or false."""
    return Kind(
        "truth value",
        (
            NOTHING,
            OBJECT,
            value("'False'", "False"),
            value("'no'", "no"),
            value("b''", b""),
            value("2", 2),
            value("float('nan')", math.nan),
            value("[]", []),
            value("bool", bool),
            value("np.array([True, False])", np.array([True, False])),
        ),
        (Variant("np.bool_(@)", np.bool_),),
    )


_NO_WORDS = (
    OBJECT,
    value("''", ""),
    value("5", 5),
    value("b'name'", b"name"),
    value("True", True),
    value("['name']", ["name"]),
    value("{'name'}", {"name"}),
    value("str", str),
    value("float('nan')", math.nan),
    value("np.array(['a', 'b'])", np.array(["a", "b"])),
)


def choice(*known: str | None) -> Kind:
    """One of some names."""
    first = next(name for name in known if name is not None)
    misspelled = [first[:-1] + "x", first.upper(), first + " ", "nonsense"]
    nothing = () if None in known else (NOTHING,)
    return Kind(
        "name",
        (*nothing, *_NO_WORDS, *(value(repr(name), name) for name in misspelled)),
        (Variant("np.str_(@)", lambda base: base if base is None else np.str_(base)),),
    )


def word() -> Kind:
    """A new name."""
    return Kind("name", (NOTHING, *_NO_WORDS), (Variant("np.str_(@)", np.str_),))


def words(known: Collection[str] = ()) -> Kind:
    """Several names, or one."""
    wrong = [value("5", 5), OBJECT, value("[5]", [5]), value("[None]", [None])]
    wrong += [value("b'name'", b"name"), value("{1: 2}", {1: 2}), value("['']", [""])]
    if known:
        wrong += [value("['nonsense']", ["nonsense"]), value("'nonsense'", "nonsense")]
    return Kind(
        "names",
        tuple(wrong),
        (
            Variant("list(@)", lambda base: base if isinstance(base, str) else list(base)),
            Variant("tuple(@)", lambda base: base if isinstance(base, str) else tuple(base)),
        ),
    )


def shape(*, axes: int) -> Kind:
    """Sizes of one example's axes."""
    rest = ("1, " * (axes - 1)) if axes > 1 else ""
    ones = (1,) * (axes - 1)
    wrong = [NOTHING, OBJECT, value("'4'", "4"), value("b'4'", b"4"), value("{4}", {4})]
    wrong += [value("{4: 4}", {4: 4}), value("float('nan')", math.nan), value("True", True)]
    for text, size in {
        "0": 0,
        "-1": -1,
        "1.5": 1.5,
        "True": True,
        "None": None,
        "'4'": "4",
        "[4]": [4],
        "float('nan')": math.nan,
        "1j": 1j,
        "10**400": HUGE,
    }.items():
        wrong.append(value(f"({rest}{text},)", (*ones, size)))
    wrong.append(Variant("(*@, 1)", lambda base: (*base, 1)))
    wrong.append(value("()", ()))
    wrong.append(Variant("(@ + 1)", lambda base: tuple(size + 1 for size in base)))
    return Kind(
        "shape",
        tuple(wrong),
        (
            Variant("list(@)", list),
            Variant("tuple(map(np.int64, @))", lambda base: tuple(map(np.int64, base))),
            Variant("tuple(map(np.uint8, @))", lambda base: tuple(map(np.uint8, base))),
            Variant("tuple(map(jnp.asarray, @))", lambda base: tuple(map(jnp.asarray, base))),
        ),
    )


def sizes(amount: int) -> Kind:
    """Several numbers of units."""
    return (
        shape(axes=amount)
        .but("(*@, 1)", "()", "(@ + 1)")
        .also([Variant("(*@, 3)", lambda base: (*base, 3)), value("()", ())])
    )


def number_type() -> Kind:
    """A floating-point type."""
    return Kind(
        "type",
        (
            OBJECT,
            value("'flaot32'", "flaot32"),
            value("5", 5),
            value("'complex64'", "complex64"),
            value("'O'", "O"),
            value("'U3'", "U3"),
            value("'datetime64[s]'", "datetime64[s]"),
            value("float('nan')", math.nan),
            value("[]", []),
            value("str", str),
        ),
        (
            Variant("np.dtype(@)", np.dtype),
            Variant("np.dtype(@).name", lambda base: np.dtype(base).name),
            Variant("np.dtype(@).newbyteorder()", lambda base: np.dtype(base).newbyteorder()),
        ),
    )


def array(
    axes: int = 2, *, free: Sequence[int] = (), exact: bool = True, finite: bool = True
) -> Kind:
    """Real numbers with so many axes; the sizes of the axes `free` may be others.

    Not `exact`, the number of axes may be another, too; not `finite`, NaN is a value like others.
    """
    wrong = list(_NO_ARRAYS)
    if finite:
        wrong += [
            Variant("np.where(@ == @.max(), np.nan, @)", _with(math.nan)),
            Variant("np.where(@ == @.max(), np.inf, @)", _with(math.inf)),
            Variant("np.where(@ == @.max(), 1e300, @)", _with(1e300)),
        ]
    if exact:
        wrong += [
            value("0.5", 0.5),
            Variant("@[..., None]", lambda a: a[..., None]),
            Variant("@[0]", lambda a: a[0]),
            Variant("@[:0]", lambda a: a[:0]),
        ]
        wrong += [v for axis in range(axes) if axis not in free for v in _off_by_one(axis)]
    return Kind("array", tuple(wrong), _SAME_NUMBERS)


def _with(strange: float) -> Callable[[np.ndarray], np.ndarray]:
    def made(base: np.ndarray) -> np.ndarray:
        changed = np.array(base, np.float64)
        changed.flat[0] = strange
        return changed

    return made


def _masked(base: np.ndarray) -> Any:
    mask = np.zeros(base.shape, bool)
    mask.flat[0] = True
    return np.ma.masked_array(base, mask)


def _ragged(base: np.ndarray) -> Any:
    rows = np.atleast_1d(base).tolist()
    return [*rows[:-1], [1, 2, [3]]]


def _holding(strange: Any) -> Callable[[np.ndarray], Any]:
    """The array as a list with something strange in its first place."""

    def made(base: np.ndarray) -> Any:
        held = np.array(base, object)
        held.flat[0] = strange
        return held.tolist()

    return made


def _off_by_one(axis: int) -> tuple[Variant, ...]:
    def larger(a: np.ndarray) -> np.ndarray:
        return np.concatenate([a, a.take([0], axis)], axis)

    def smaller(a: np.ndarray) -> np.ndarray:
        return a.take(range(a.shape[axis] - 1), axis)

    return (
        Variant(f"<@ with one more along axis {axis}>", larger),
        Variant(f"<@ with one less along axis {axis}>", smaller),
    )


_NO_ARRAYS = (
    NOTHING,
    OBJECT,
    value("'numbers'", "numbers"),
    value("b'numbers'", b"numbers"),
    value("{}", {}),
    value("{1, 2}", {1, 2}),
    value("[]", []),
    value("np.ndarray", np.ndarray),
    Variant("(row for row in @)", lambda a: (row for row in np.atleast_1d(a))),
    Variant("@ + 1j", lambda a: a + 1j),
    Variant("jnp.asarray(@ + 1j)", lambda a: jnp.asarray(a + 1j, "complex64")),
    Variant("@.astype(str)", lambda a: np.asarray(a).astype(str)),
    Variant("@.astype('S')", lambda a: np.asarray(a).astype("S")),
    Variant("@.astype(object)", lambda a: np.asarray(a).astype(object)),
    Variant("np.full(@.shape, None)", lambda a: np.full(np.shape(a), None)),
    Variant("np.ma.masked_array(@, mask)", _masked),
    Variant("@.astype('datetime64[s]')", lambda a: np.asarray(a).astype("datetime64[s]")),
    Variant("<@ as a list with a row of another length>", _ragged),
    Variant("<@ as a list with a None>", _holding(None)),
    Variant("<@ as a list with a text>", _holding("1")),
    Variant("<@ as a list with 10**400>", _holding(HUGE)),
    Variant("jax.random.split(key, 2)", lambda a: jax.random.split(jax.random.key(0), 2)),
)


def _noncontiguous(base: np.ndarray) -> np.ndarray:
    return np.repeat(base, 2, axis=-1)[..., ::2] if base.ndim else base


def _backward(base: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(base[::-1])[::-1] if base.ndim else base


def _read_only(base: np.ndarray) -> np.ndarray:
    made = base.copy()
    made.flags.writeable = False
    return made


def _tuples(base: Any) -> Any:
    return tuple(map(_tuples, base)) if isinstance(base, list) else base


_SAME_LAYOUTS = (
    Variant("np.asfortranarray(@)", np.asfortranarray),
    Variant("np.repeat(@, 2, axis=-1)[..., ::2]", _noncontiguous),
    Variant("@[::-1].copy()[::-1]", _backward),
    Variant("<@, read-only>", _read_only),
    Variant("@.tolist()", lambda a: a.tolist()),
    Variant("<@ as nested tuples>", lambda a: _tuples(a.tolist())),
    Variant("list(@)", lambda a: list(a)),
    Variant("jnp.asarray(@)", jnp.asarray),
)
_SAME_NUMBERS = (
    *_SAME_LAYOUTS,
    Variant("@.astype('float64')", lambda a: a.astype("float64")),
    Variant("@.astype('>f4')", lambda a: a.astype(">f4")),
    Variant("@.astype('>f8')", lambda a: a.astype(">f8")),
    Variant("@.astype('float16')", lambda a: a.astype("float16"), 1e-3),
    Variant("@.astype(jnp.bfloat16)", lambda a: jnp.asarray(a, jnp.bfloat16), 1e-2),
)
_SAME_INTEGERS = (
    *_SAME_LAYOUTS,
    Variant("@.astype('int8')", lambda a: a.astype("int8")),
    Variant("@.astype('uint8')", lambda a: a.astype("uint8")),
    Variant("@.astype('int64')", lambda a: a.astype("int64")),
    Variant("@.astype('uint64')", lambda a: a.astype("uint64")),
    Variant("@.astype('>i2')", lambda a: a.astype(">i2")),
    Variant("@.astype('>i8')", lambda a: a.astype(">i8")),
)


def labels(classes: int, *, free: Sequence[int] = (), target: bool = True) -> Kind:
    """Integers from 0 to below `classes`; a target may be given as their one-hot vectors, too."""
    wrong = [
        *_NO_ARRAYS,
        Variant("@ + 0.5", lambda a: a + 0.5),
        Variant("@.astype(float)", lambda a: a.astype(float)),
        Variant("@[:0]", lambda a: a[:0]),
        *(
            Variant(f"<@ with {text}>", _replaced(strange, kind))
            for text, strange, kind in (
                ("-1", -1, "int32"),
                (f"{classes}", classes, "int32"),
                ("2**31", 2**31, "int64"),
                ("2**32", 2**32, "int64"),
                ("-2**32", -(2**32), "int64"),
                ("2**63", 2**63, "uint64"),
                ("2**64 - 1", 2**64 - 1, "uint64"),
                ("255", 255, "uint8"),
            )
        ),
        Variant("<@ as a list with 2**70>", _holding(2**70)),
        Variant("<@ as a list with -1>", _holding(-1)),
        *(() if 0 in free else _off_by_one(0)),
    ]
    right = _SAME_INTEGERS
    if target:
        right = (
            *right,
            Variant("np.eye(classes)[@]", lambda a: np.eye(classes)[a]),
            Variant("np.eye(classes, dtype=bool)[@]", lambda a: np.eye(classes, dtype=bool)[a]),
            Variant("np.eye(classes, dtype=int)[@]", lambda a: np.eye(classes, dtype=int)[a]),
        )
    return Kind("labels", tuple(wrong), right)


def _replaced(strange: int, kind: str) -> Callable[[np.ndarray], np.ndarray]:
    def made(base: np.ndarray) -> np.ndarray:
        changed = base.astype(kind)
        changed.flat[0] = strange
        return changed

    return made


def mask() -> Kind:
    """Truth values that broadcast to an array."""
    return Kind(
        "mask",
        (
            OBJECT,
            value("'known'", "known"),
            Variant("@.astype(float)", lambda a: a.astype(float)),
            Variant("@.astype(str)", lambda a: a.astype(str)),
            Variant("@.astype(object)", lambda a: a.astype(object)),
            Variant("np.ma.masked_array(@, mask)", _masked),
            value("5", 5),
            value("{}", {}),
            value("{1, 2}", {1, 2}),
            *_off_by_one(1),
        ),
        _SAME_LAYOUTS,
    )


def function(example: Any = None) -> Kind:
    """Something to be called."""
    wrong = [
        NOTHING,
        OBJECT,
        value("'f'", "f"),
        value("5", 5),
        value("[]", []),
        Variant("jnp.ones((3, 3))", lambda base: jnp.ones((3, 3))),
    ]
    return Kind("function", tuple(wrong))


def node_function() -> Kind:
    """The function of a node."""
    return function().also(
        [
            value("eqx.nn.Linear", eqx.nn.Linear),
            value("lambda: 3", lambda: 3),
            value("lambda *z: None", lambda *z: None),
            value("lambda *z: 'text'", lambda *z: "text"),
            value("lambda *z: (z[0], z[0])", lambda *z: (z[0], z[0])),
        ]
    )


def existing_folder(world: World) -> Kind:
    """A folder that something is read from."""
    return _path().also(
        [
            NOTHING,
            value("'nowhere'", "nowhere"),
            Variant("'file.txt'", lambda base: world.file),
            Variant("Path('file.txt') / 'within'", lambda base: world.file / "within"),
            Variant("<an empty folder>", lambda base: _made(world.place())),
        ],
        _SAME_PATHS,
    )


def existing_file(world: World) -> Kind:
    """A file that something is read from."""
    return _path().also(
        [
            NOTHING,
            value("'nowhere'", "nowhere"),
            Variant("<a folder>", lambda base: world.folder),
            Variant("Path('file.txt') / 'within'", lambda base: world.file / "within"),
        ],
        _SAME_PATHS,
    )


def new_path(world: World) -> Kind:
    """A place for a new folder or file."""
    return _path().also(
        [
            NOTHING,
            Variant("<a folder>", lambda base: world.folder),
            Variant("Path('file.txt') / 'within'", lambda base: world.file / "within"),
        ],
        _SAME_PATHS,
    )


def any_folder() -> Kind:
    """A folder that may be missing."""
    return _path().also(right=_SAME_PATHS)


_SAME_PATHS = (
    Variant("str(@)", lambda base: None if base is None else str(base)),
    Variant("Path(@)", lambda base: None if base is None else Path(base)),
    Variant("PurePosixPath(@)", lambda base: None if base is None else pathlib.PurePosixPath(base)),
)


def _path() -> Kind:
    # No small integers: they would be taken for open files.
    wrong = [
        OBJECT,
        value("987654", 987654),
        value("1.5", 1.5),
        value("b'folder'", b"folder"),
        value("['folder']", ["folder"]),
        value("{}", {}),
        value("Path", Path),
        value("'a\\0b'", "a\0b"),
        value("'x' * 5000", "x" * 5000),
    ]
    return Kind("path", tuple(wrong))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


class Kinds:
    """The kinds of parameters that are objects of the library, whose wrong values are others."""

    def __init__(self, world: World) -> None:
        self.world = world

    def key(self) -> Kind:
        """One random key. Raw key data of the right type is a key, too."""
        return Kind(
            "key",
            (
                NOTHING,
                OBJECT,
                value("0", 0),
                value("1.5", 1.5),
                value("'0'", "0"),
                value("True", True),
                value("[0, 1]", [0, 1]),
                value("jax.random.key", jax.random.key),
                value("np.zeros(2, int)", np.zeros(2, int)),
                value("np.zeros(3, 'uint32')", np.zeros(3, "uint32")),
                Variant("jnp.zeros(2)", lambda base: jnp.zeros(2)),
                Variant("jax.random.split(@, 2)", lambda base: jax.random.split(self._key(base))),
                Variant("@[None]", lambda base: self._key(base)[None]),
                Variant("jax.random.PRNGKey(0)[None]", lambda b: jax.random.PRNGKey(0)[None]),
            ),
            (
                Variant(
                    "jax.random.key_data(@)",
                    lambda base: None if base is None else jax.random.key_data(base),
                ),
            ),
        )

    def _key(self, base: Any) -> Any:
        return self.world.key if base is None else base

    def keys(self) -> Kind:
        """One random key for each of some things."""
        return Kind(
            "keys",
            (
                *self.key().but("jax.random.split(@, 2)", "@[None]", "[0, 1]").wrong,
                Variant("@[0]", lambda base: base[0]),
                Variant("@[:1]", lambda base: base[:1]),
            ),
            (Variant("jax.random.key_data(@)", jax.random.key_data),),
        )

    def network(self) -> Kind:
        """A network."""
        world = self.world
        return self.thing(
            "network",
            value("fx.Network", fx.Network),
            value("eqx.nn.Linear(4, 5, key=key)", eqx.nn.Linear(4, 5, key=world.key)),
            Variant("problem", lambda base: world.problem),
            Variant("network.entries", lambda base: world.network.entries),
            Variant("data", lambda base: world.data),
            Variant("fx.weights(network)", lambda base: fx.weights(world.network)),
        )

    def problem(self) -> Kind:
        """A problem."""
        world = self.world
        return self.thing(
            "problem",
            value("fx.Problem", fx.Problem),
            Variant("network", lambda base: world.network),
            Variant("(network, x, labels)", lambda b: (world.network, world.x, world.labels)),
            Variant("data", lambda base: world.data),
        )

    def network_or_problem(self) -> Kind:
        """Either of them."""
        return self.network().but("problem")

    def solver(self) -> Kind:
        """A solver."""
        world = self.world
        return self.thing(
            "solver",
            value("fx.Newton", fx.Newton),
            value("optax.sgd(0.1)", optax.sgd(0.1)),
            value("diffrax.Tsit5()", diffrax.Tsit5()),
            Variant("rule", lambda base: world.rule),
            Variant("problem", lambda base: world.problem),
        )

    def rule(self) -> Kind:
        """A learning rule."""
        world = self.world
        return self.thing(
            "rule",
            value("fx.Equilibrium", fx.Equilibrium),
            value("optax.sgd(0.1)", optax.sgd(0.1)),
            Variant("solver", lambda base: world.solver),
            Variant("network", lambda base: world.network),
        )

    def optimizer(self) -> Kind:
        """An optax optimizer, or its rate alone."""
        world = self.world
        numbers = number(above=0)
        return Kind(
            "optimizer",
            (
                *numbers.wrong,
                value("optax.adam", optax.adam),
                value("optax.lbfgs()", optax.lbfgs()),
                value("optax.constant_schedule(0.1)", optax.constant_schedule(0.1)),
                Variant("solver", lambda base: world.solver),
                Variant("rule", lambda base: world.rule),
                Variant("network", lambda base: world.network),
            ),
            (
                uncompared("0.1", lambda base: 0.1),
                uncompared("np.float32(0.1)", lambda base: np.float32(0.1)),
                uncompared("np.array(0.1)", lambda base: np.array(0.1)),
                uncompared("jnp.asarray(0.1)", lambda base: jnp.asarray(0.1)),
            ),
        )

    def schedule(self) -> Kind:
        """A schedule."""
        world = self.world
        return self.thing(
            "schedule",
            value("fx.Spiking", fx.Spiking),
            value("0.1", 0.1),
            value("optax.constant_schedule(0.1)", optax.constant_schedule(0.1)),
            Variant("solver", lambda base: world.solver),
        )

    def energy(self) -> Kind:
        """An energy."""
        world = self.world
        return self.thing(
            "energy",
            value("fx.Categorical", fx.Categorical),
            value("1.0", 1.0),
            value("optax.l2_loss", optax.l2_loss),
            Variant("solver", lambda base: world.solver),
        )

    def parameterization(self) -> Kind:
        """A parameterization."""
        return self.thing(
            "parameterization",
            value("fx.MuPC", fx.MuPC),
            value("1.0", 1.0),
            value("fx.Role.INPUT", fx.Role.INPUT),
            value("fx.Scaling(1, 1, 1)", fx.Scaling(1, 1, 1)),
        )

    def activation(self) -> Kind:
        """An activation function or its name."""
        return Kind(
            "activation",
            (
                NOTHING,
                OBJECT,
                value("'gelo'", "gelo"),
                value("'GELU'", "GELU"),
                value("''", ""),
                value("5", 5),
                value("b'gelu'", b"gelu"),
                value("True", True),
                value("{'gelu'}", {"gelu"}),
                value("['gelu', 'gelu', 'gelu']", ["gelu", "gelu", "gelu"]),
                value("[None]", [None]),
                value("eqx.nn.PReLU", eqx.nn.PReLU),
                Variant("jnp.ones(3)", lambda base: jnp.ones(3)),
            ),
            (
                Variant("jax.nn.gelu", lambda base: jax.nn.gelu),
                Variant("np.str_('gelu')", lambda base: np.str_("gelu")),
            ),
        )

    def objective(self) -> Kind:
        """A landscape."""
        world = self.world
        return self.thing(
            "objective",
            value("fx.theory.Loss", fx.theory.Loss),
            value("optax.l2_loss", optax.l2_loss),
            Variant("network", lambda base: world.network),
            Variant("problem", lambda base: world.problem),
        )

    def data(self) -> Kind:
        """A data set, or a pair of arrays."""
        world = self.world
        part = world.part
        return self.thing(
            "data",
            value("fx.data.Dataset", fx.data.Dataset),
            value("(x,)", (part.inputs,)),
            value("(x, y, y)", (part.inputs, part.labels, part.labels)),
            value("(y, x)", (part.labels, part.inputs)),
            value("(x, y[1:])", (part.inputs, part.labels[1:])),
            value("(x, y - 1)", (part.inputs, part.labels - 2)),
            value("(x, y + 2**32)", (part.inputs, part.labels.astype("int64") + 2**32)),
            value("(x * nan, y)", (part.inputs * np.nan, part.labels)),
            value("(x[:0], y[:0])", (part.inputs[:0], part.labels[:0])),
            value("x", part.inputs),
            Variant("network", lambda base: world.network),
        ).also(
            right=(
                uncompared("(x, y)", lambda base: tuple(part)),
                uncompared("[x, y]", lambda base: list(part)),
                uncompared("(jnp.asarray(x), y)", lambda base: (jnp.asarray(part[0]), part[1])),
                uncompared("(x.tolist(), y.tolist())", lambda b: (part[0].tolist(), list(part[1]))),
            )
        )

    def part(self) -> Kind:
        """A part of a data set: inputs and labels."""
        x, y = self.world.part
        return Kind(
            "part",
            (
                NOTHING,
                OBJECT,
                value("5", 5),
                value("'ab'", "ab"),
                value("{}", {}),
                value("{'input': x}", {"input": x}),
                value("x", x),
                value("(x,)", (x,)),
                value("(x, y, y)", (x, y, y)),
                value("(y, x)", (y, x)),
                value("(x, y[1:])", (x, y[1:])),
                value("(x[:0], y[:0])", (x[:0], y[:0])),
                value("(x[:, :3], y)", (x[:, :3], y)),
                value("(x, None)", (x, None)),
                value("(None, y)", (None, y)),
                value("('text', y)", ("text", y)),
                *(
                    Variant(f"({variant.text.replace('@', 'x')}, y)", _first(variant, x, y))
                    for variant in array(free=(0,)).wrong
                    if variant not in (NOTHING, OBJECT)
                ),
                *(
                    Variant(f"(x, {variant.text.replace('@', 'y')})", _second(variant, x, y))
                    for variant in labels(5).wrong
                    if variant not in (NOTHING, OBJECT)
                ),
            ),
            (
                Variant("fx.data.Part(x, y)", lambda base: fx.data.Part(x, y)),
                Variant("[x, y]", lambda base: [x, y]),
                *(
                    Variant(
                        f"({variant.text.replace('@', 'x')}, y)",
                        _first(variant, x, y),
                        variant.tolerance,
                    )
                    for variant in array().right
                ),
                *(
                    Variant(f"(x, {variant.text.replace('@', 'y')})", _second(variant, x, y))
                    for variant in labels(5, target=False).right
                ),
            ),
        )

    def entries(self, name: str, *, partly: bool = False) -> Kind:
        """Activities or errors by name; `partly` if some may be missing."""
        missing = () if partly else (value("{}", {}),)
        return Kind(
            "entries",
            (
                NOTHING,
                OBJECT,
                value("5", 5),
                value("'hidden'", "hidden"),
                value("[]", []),
                Variant(f"@[{name!r}]", lambda base: base[name]),
                *missing,
                *(
                    Variant(
                        f"{{**@, {name!r}: {variant.text.replace('@', 'z')}}}",
                        _entry(variant, name),
                    )
                    for variant in array(finite=False).wrong
                    if variant.text not in ("object()", "np.ndarray")
                ),
            ),
            tuple(
                Variant(
                    f"{{**@, {name!r}: {variant.text.replace('@', 'z')}}}",
                    _entry(variant, name),
                    max(variant.tolerance, 1e-2 if "16" in variant.text else 0),
                )
                for variant in array().right
            ),
        )

    def role(self) -> Kind:
        """What a weight is for."""
        return Kind(
            "role",
            (
                NOTHING,
                OBJECT,
                value("'hiden'", "hiden"),
                value("5", 5),
                value("fx.Role", fx.Role),
                value("[]", []),
            ),
        )

    def strength(self) -> Kind:
        """A positive number, or a `HoldStrength`."""
        return number(above=0).also([value("fx.HoldStrength", fx.HoldStrength)])

    def devices(self) -> Kind:
        """Devices of one platform."""
        return Kind(
            "devices",
            (
                OBJECT,
                value("[]", []),
                value("'cpu'", "cpu"),
                value("['cpu']", ["cpu"]),
                value("[0]", [0]),
                value("2", 2),
                value("[None]", [None]),
                value("jax.devices", jax.devices),
                Variant("jax.devices()[0]", lambda base: jax.devices()[0]),
            ),
            (Variant("tuple(jax.devices())", lambda base: tuple(jax.devices())),),
        )

    def thing(self, name: str, *wrong: Variant) -> Kind:
        """An object of a class; classes, names and other objects are wrong."""
        return Kind(
            name,
            (
                NOTHING,
                OBJECT,
                value(repr(name), name),
                value("5", 5),
                value("[]", []),
                value("{}", {}),
                value("lambda: None", lambda: None),
                *wrong,
            ),
        )


def _first(variant: Variant, x: np.ndarray, y: np.ndarray) -> Callable[[Any], Any]:
    return lambda base: (variant.make(x), y)


def _second(variant: Variant, x: np.ndarray, y: np.ndarray) -> Callable[[Any], Any]:
    return lambda base: (x, variant.make(y))


def _entry(variant: Variant, name: str) -> Callable[[Any], Any]:
    def made(base: Any) -> dict[str, Any]:
        return {**base, name: variant.make(np.asarray(base[name]))}

    return made
