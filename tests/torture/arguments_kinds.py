"""Kinds of parameters: for each, values that must be refused and odd ones that are right.

Every value is the text of a Python expression, with `@` in the place of the valid value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

NOTHING, OBJECT = "None", "object()"


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a parameter may be.

    **Fields**: `name`, for the tally; `wrong` values; `right` ones, which give the same result;
    `other` ones that are right, too, but give another result.
    """

    name: str
    wrong: tuple[str, ...]
    right: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    def but(self, *texts: str) -> Kind:
        """The same without some of its values."""
        kept = [tuple(t for t in each if t not in texts) for each in self._values]
        return Kind(self.name, *kept)

    def also(self, *wrong: str, right: Sequence[str] = ()) -> Kind:
        """The same with more values."""
        return Kind(self.name, (*self.wrong, *wrong), (*self.right, *right), self.other)

    def refused(self) -> Kind:
        """The same without what is right."""
        return Kind(self.name, self.wrong)

    def within(self, name: str, form: str, part: str) -> Kind:
        """A kind of things that hold one of this kind.

        `form` is the text of such a thing with `#` for what it holds, and `part` that of what the
        valid one holds.
        """
        kept = [
            tuple(form.replace("#", text.replace("@", part)) for text in each)
            for each in self._values
        ]
        return Kind(name, *kept)

    @property
    def _values(self) -> tuple[tuple[str, ...], ...]:
        return self.wrong, self.right, self.other


def tolerance(text: str) -> float:
    """How far numbers of the result may be from those of the valid value."""
    return 1e-2 if "bfloat16" in text else 1e-3 if "float16" in text else 1e-5


# What is no number, whatever number is asked for.
_NO_NUMBERS = (
    *(NOTHING, OBJECT, "'three'", "''", "b'3'", "3 + 1j", "nan", "inf", "-inf", "True", "np.True_"),
    *("[]", "[3]", "{3}", "{3: 3}", "int", "np.array([3, 3])", "jnp.array([3, 3])"),
    *("np.array('3')", "np.datetime64('2020-01-01')", "np.ma.masked", "np.array(None)"),
    "np.complex64(3j)",
)


def count(least: int = 1, most: int | None = None) -> Kind:
    """An integer of at least `least`."""
    more = () if most is None else (str(most + 1),)
    low = dict.fromkeys((str(least - 1), "-1", "-(2**40)"))
    return Kind(
        "count",
        (*_NO_NUMBERS, *low, *more, "1.5", "10**400", "np.float64(2.5)"),
        (
            *("np.int8(@)", "np.int32(@)", "np.int64(@)", "np.uint8(@)", "np.uint64(@)"),
            *("np.array(@)", "np.array(@, '>i4')", "jnp.asarray(@)"),
        ),
    )


def byte_count() -> Kind:
    """A number of bytes, which may be more than 32 bits hold."""
    return count().but(
        *("np.int8(@)", "np.int32(@)", "np.uint8(@)", "np.array(@, '>i4')", "jnp.asarray(@)"),
        "10**400",
    )


def number(
    *, above: float | None = None, least: float | None = None, below: float | None = None
) -> Kind:
    """A finite real number, above or from a bound on, and below another."""
    wrong = ["10**400"]
    if above is not None:
        wrong += [str(above), str(above - 1)]
    if least is not None:
        wrong += [str(least - 1)]
    if below is not None:
        wrong += [str(below), str(below + 1)]
    return Kind(
        "number",
        (*_NO_NUMBERS, *wrong),
        (
            *("np.float32(@)", "np.float64(@)", "np.array(@)", "np.array(@, '>f4')"),
            *("jnp.asarray(@)", "whole(@)"),
        ),
    )


def unit() -> Kind:
    """A number from 0 to 1."""
    return number(least=0).also("1.5")


def flag() -> Kind:
    """True or false."""
    wrong = (NOTHING, OBJECT, "'False'", "'no'", "b''", "2", "nan", "[]", "bool")
    return Kind("truth value", (*wrong, "np.array([True, False])"), ("np.bool_(@)",))


_NO_WORDS = (
    *(OBJECT, "''", "5", "b'name'", "True", "['name']", "{'name'}", "str", "nan"),
    "np.array(['a', 'b'])",
)


def choice(*known: str | None) -> Kind:
    """One of some names."""
    first = next(name for name in known if name is not None)
    misspelled = (first[:-1] + "q", first.upper(), first + " ", "nonsense")
    nothing = () if None in known else (NOTHING,)
    return Kind("name", (*nothing, *_NO_WORDS, *map(repr, misspelled)), ("np.str_(@)",))


def word() -> Kind:
    """A new name."""
    return Kind("name", (NOTHING, *_NO_WORDS), ("np.str_(@)",))


def words(*, known: bool = False) -> Kind:
    """Several names, or one; `known` if they are those of something."""
    wrong = ("5", OBJECT, "[5]", "[None]", "b'name'", "{1: 2}", "['']")
    unknown = ("['nonsense']", "'nonsense'") if known else ()
    return Kind("names", (*wrong, *unknown), ("list(@)", "tuple(@)"))


def shape(axes: int) -> Kind:
    """Sizes of one example's axes."""
    before = "1, " * (axes - 1)
    sizes = ("0", "-1", "1.5", "True", "None", "'4'", "[4]", "nan", "1j", "10**400")
    return Kind(
        "shape",
        (
            *(NOTHING, OBJECT, "'4'", "b'4'", "{4}", "{4: 4}", "nan", "True"),
            *(f"({before}{size},)" for size in sizes),
            *("(*@, 1)", "()", "tuple(size + 1 for size in @)"),
        ),
        (
            *("list(@)", "tuple(map(np.int64, @))", "tuple(map(np.uint8, @))"),
            "tuple(map(jnp.asarray, @))",
        ),
    )


OTHER_SIZES = "tuple(size + 1 for size in @)"


def number_type() -> Kind:
    """A floating-point type."""
    wrong = (OBJECT, "'flaot32'", "5", "'complex64'", "'O'", "'U3'", "'datetime64[s]'", "nan", "[]")
    right = ("np.dtype(@)", "np.dtype(@).name", "np.dtype(@).newbyteorder()")
    return Kind("type", (*wrong, "str"), right)


_NO_ARRAYS = (
    *(NOTHING, OBJECT, "'numbers'", "b'numbers'", "{}", "{1, 2}", "[]", "np.ndarray", "rows(@)"),
    *("@ + 1j", "jnp.asarray(@ + 1j)", "np.array(@, str)", "np.array(@, 'S')"),
    *("np.array(@, object)", "np.full(np.shape(@), None)", "masked(@)"),
    *("np.array(@).astype('datetime64[s]')", "ragged(@)", "listed(@, None)", "listed(@, '1')"),
    *("listed(@, 10**400)", "jax.random.split(jax.random.key(0), 2)"),
)
AS_LISTS = ("np.array(@).tolist()", "tuples(@)", "list(@)")
_SAME_LAYOUTS = (
    *("np.asfortranarray(@)", "every_other(@)", "backward(@)", "read_only(@)", "jnp.asarray(@)"),
    *AS_LISTS,
)
BFLOAT16 = "jnp.asarray(@, jnp.bfloat16)"
_SAME_NUMBERS = (
    *_SAME_LAYOUTS,
    *("@.astype('float64')", "@.astype('>f4')", "@.astype('>f8')", "@.astype('float16')"),
    BFLOAT16,
)
_SAME_INTEGERS = (
    *_SAME_LAYOUTS,
    *("@.astype('int8')", "@.astype('uint8')", "@.astype('int64')", "@.astype('uint64')"),
    *("@.astype('>i2')", "@.astype('>i8')"),
)
ONE_HOT = tuple(f"np.eye({{}}, dtype={kind})[@]" for kind in ("float", "bool", "int"))


def array(axes: int = 2, *, free: Sequence[int] = (), finite: bool = True) -> Kind:
    """Real numbers with so many axes; the sizes of the axes `free` may be others.

    Not `finite`, NaN is a value like others.
    """
    strange = (
        *("first_is(@, nan)", "first_is(@, inf)", "first_is(@, 1e300)"),
        "listed(@, nan)",
    )
    return Kind(
        "array",
        (
            *_NO_ARRAYS,
            *(strange if finite else ()),
            *("0.5", "@[..., None]", "@[0]", "@[:0]"),
            *_off_by_one(axis for axis in range(axes) if axis not in free),
        ),
        _SAME_NUMBERS,
    )


def labels(classes: int, *, free: Sequence[int] = (), target: bool = True) -> Kind:
    """Integers from 0 to below `classes`; a target may be given as their one-hot vectors, too."""
    strange = (
        *("-1", str(classes), "2**31, 'int64'", "2**32, 'int64'", "-2**32, 'int64'"),
        *("2**63, 'uint64'", "2**64 - 1, 'uint64'", "255, 'uint8'"),
    )
    typed = [text if "," in text else f"{text}, 'int32'" for text in strange]
    one_hot = tuple(text.format(classes) for text in ONE_HOT) if target else ()
    return Kind(
        "labels",
        (
            *_NO_ARRAYS,
            *("@ + 0.5", "@.astype(float)", "@[:0]"),
            *(f"first_is(@, {text})" for text in typed),
            *("listed(@, 2**70)", "listed(@, -1)"),
            *_off_by_one(() if 0 in free else (0,)),
        ),
        (*_SAME_INTEGERS, *one_hot),
    )


def tokens(vocabulary: int, *, free: Sequence[int] = ()) -> Kind:
    """Tokens, which have no one-hot form."""
    return labels(vocabulary, free=free, target=False)


def _off_by_one(axes: Iterable[int]) -> list[str]:
    return [f"{how}(@, {axis})" for axis in axes for how in ("longer", "shorter")]


def mask() -> Kind:
    """Truth values that broadcast to an array."""
    wrong = (OBJECT, "'known'", "@.astype(float)", "@.astype(str)", "@.astype(object)", "masked(@)")
    return Kind("mask", (*wrong, "5", "{}", "{1, 2}", "np.ones(3, bool)"), _SAME_LAYOUTS)


def function() -> Kind:
    """Something to be called."""
    return Kind("function", (NOTHING, OBJECT, "'f'", "5", "[]", "jnp.ones((3, 3))"))


def node_function() -> Kind:
    """The function of a node."""
    return function().also(
        *("eqx.nn.Linear", "lambda: 3", "lambda *z: None", "lambda *z: 'text'"),
        "lambda *z: (z[0], z[0])",
    )


# No small integers: they would be taken for open files.
_NO_PATHS = (
    *(OBJECT, "987654", "1.5", "b'folder'", "['folder']", "{}", "Path", "'a\\0b'", "'x' * 5000"),
)
_SAME_PATHS = ("str(@)", "Path(@)", "pathlib.PurePosixPath(@)")


def existing_folder() -> Kind:
    """A folder that something is read from."""
    wrong = (NOTHING, "'nowhere'", "file", "file / 'within'", "empty_folder()")
    return Kind("path", (*_NO_PATHS, *wrong), _SAME_PATHS)


def existing_file() -> Kind:
    """A file that something is read from."""
    return Kind(
        "path", (*_NO_PATHS, NOTHING, "'nowhere'", "folder", "file / 'within'"), _SAME_PATHS
    )


def new_path() -> Kind:
    """A place for a new folder or file."""
    return Kind("path", (*_NO_PATHS, NOTHING, "folder", "file / 'within'"), _SAME_PATHS)


def any_folder() -> Kind:
    """A folder that may be missing."""
    return Kind("path", _NO_PATHS, _SAME_PATHS)


def key() -> Kind:
    """One random key. Raw key data of the right type is a key, too."""
    return Kind(
        "key",
        (
            *(NOTHING, OBJECT, "0", "1.5", "'0'", "True", "[0, 1]", "jax.random.key"),
            *("np.zeros(2, int)", "np.zeros(3, 'uint32')", "jnp.zeros(2)"),
            *("jax.random.split(jax.random.key(0))", "jax.random.key(0)[None]"),
            "jax.random.PRNGKey(0)[None]",
        ),
        ("jax.random.key_data(@)",),
    )


def keys() -> Kind:
    """One random key for each of some things."""
    wrong = key().but("jax.random.split(jax.random.key(0))", "[0, 1]").wrong
    return Kind("keys", (*wrong, "@[0]"), ("jax.random.key_data(@)",))


def thing(name: str, *wrong: str) -> Kind:
    """An object of a class; classes, names and other objects are wrong."""
    return Kind(name, (NOTHING, OBJECT, repr(name), "5", "[]", "{}", "lambda: None", *wrong))


def network() -> Kind:
    """A network."""
    return thing(
        "network",
        *("fx.Network", "eqx.nn.Linear(4, 5, key=key)", "problem", "network.entries", "data"),
    )


def network_or_problem() -> Kind:
    """Either of them."""
    return network().but("problem")


def problem() -> Kind:
    """A problem."""
    return thing("problem", "fx.Problem", "network", "(network, x, labels)", "data")


def solver() -> Kind:
    """A solver."""
    return thing("solver", "fx.Newton", "optax.sgd(0.1)", "diffrax.Tsit5()", "rule", "problem")


def rule() -> Kind:
    """A learning rule."""
    return thing("rule", "fx.Equilibrium", "optax.sgd(0.1)", "solver", "network")


def optimizer() -> Kind:
    """An optax optimizer."""
    return Kind(
        "optimizer",
        (
            *number(above=0).wrong,
            *("optax.adam", "optax.lbfgs()", "optax.constant_schedule(0.1)"),
            *("solver", "rule", "network"),
        ),
    )


def optimizer_or_rate() -> Kind:
    """An optax optimizer, or a rate alone."""
    rates = ("0.1", "np.float32(0.1)", "np.array(0.1)", "jnp.asarray(0.1)")
    return dataclasses.replace(optimizer(), other=rates)


def optimizer_state() -> Kind:
    """What an optimizer keeps between updates."""
    wrong = (OBJECT, "5", "'state'", "optax.adam(0.1).init(fx.weights(network))", "network")
    return Kind("optimizer's state", wrong)


def schedule() -> Kind:
    """A schedule."""
    return thing("schedule", "fx.Spiking", "0.1", "optax.constant_schedule(0.1)", "solver")


def energy() -> Kind:
    """An energy."""
    return thing("energy", "fx.Categorical", "1.0", "optax.l2_loss", "solver")


def parameterization() -> Kind:
    """A parameterization."""
    return thing("parameterization", "fx.MuPC", "1.0", "fx.Role.INPUT", "fx.Scaling(1, 1, 1)")


def activation() -> Kind:
    """An activation function, or its name."""
    return Kind(
        "activation",
        (
            *(NOTHING, OBJECT, "'gelo'", "'GELU'", "''", "5", "b'gelu'", "True", "{'gelu'}"),
            *("['gelu', 'gelu', 'gelu']", "[None]", "eqx.nn.PReLU", "jnp.ones(3)"),
        ),
        ("jax.nn.gelu", "np.str_('gelu')"),
    )


def objective() -> Kind:
    """A landscape."""
    return thing("objective", "fx.theory.Loss", "optax.l2_loss", "network", "problem")


def linearization() -> Kind:
    """A network linearized at a point."""
    return thing("linearization", "relaxed", "problem")


def strength() -> Kind:
    """A positive number, or a `HoldStrength`."""
    return number(above=0).also("fx.HoldStrength")


def role() -> Kind:
    """What a weight is for."""
    return Kind("role", (NOTHING, OBJECT, "'hiden'", "5", "fx.Role", "[]"))


def devices() -> Kind:
    """Devices of one platform."""
    wrong = (OBJECT, "[]", "'cpu'", "['cpu']", "[0]", "2", "[None]", "jax.devices")
    return Kind("devices", (*wrong, "jax.devices()[0]"), ("tuple(@)",))


def mapping(name: str, each: Kind) -> Kind:
    """Things by name, of which the one of this name is varied as its own kind is."""
    held = each.within(f"mapping of {each.name}s", f"{{**@, {name!r}: #}}", f"@[{name!r}]")
    return held.also(OBJECT, "5", "'name'", "{'nonsense'}")


def entries(name: str) -> Kind:
    """Activities or errors by name."""
    kept = array(finite=False).but(OBJECT, "np.ndarray")
    return dataclasses.replace(mapping(name, kept), name="entries").also(
        NOTHING, "[]", "{}", f"@[{name!r}]"
    )


def part(classes: int) -> Kind:
    """A part of a data set: inputs and labels."""
    inputs = array(free=(0, 1)).but(NOTHING, OBJECT, BFLOAT16)
    of_inputs = inputs.within("part", "(#, @[1])", "@[0]")
    of_labels = labels(classes, target=False).but(NOTHING, OBJECT)
    return of_inputs.also(
        *of_labels.within("part", "(@[0], #)", "@[1]").wrong,
        *(NOTHING, OBJECT, "5", "'ab'", "{}", "{'input': @[0]}", "@[0]", "(@[0],)"),
        *("(*@, @[1])", "(@[1], @[0])", "(@[0], @[1][1:])", "(@[0][:0], @[1][:0])"),
        *("(@[0], None)", "(None, @[1])"),
        right=(
            *("fx.data.Part(*@)", "[*@]"),
            *of_labels.within("part", "(@[0], #)", "@[1]").right,
        ),
    )


def data() -> Kind:
    """A data set, or a pair of arrays."""
    wrong = (
        *("fx.data.Dataset", "(part[0],)", "(*part, part[1], part[1])", "part[::-1]"),
        *("(part[0], part[1][1:])", "(part[0], part[1] - 2)", "(part[0] * nan, part[1])"),
        *("(part[0], part[1].astype('int64') + 2**32)", "(part[0][:0], part[1][:0])"),
        *("part[0]", "network"),
    )
    right = ("tuple(part)", "list(part)", "(jnp.asarray(part[0]), part[1])")
    listed = "(part[0].tolist(), part[1].tolist())"
    return dataclasses.replace(thing("data", *wrong), other=(*right, listed))
