"""Compiled programs that several runs in one process share."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Generator, Hashable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from fathomx.training.likeness import Unlike, likeness

# Of each run some five: the steps, the scores, the probe, twice where the last batch is smaller.
_MOST_KEPT = 24

Result = TypeVar("Result")

_kept: collections.OrderedDict[Hashable, Program] = collections.OrderedDict()


class Program:
    """A function compiled for arguments of certain shapes; what is no array is part of it.

    The arrays of the arguments at `given_up` are gone after a call: what is returned takes their
    place in memory.

    **Attributes**: `compiled`, JAX's own, which knows what it costs.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Any,
        options: dict[str, Any] | None,
        given_up: tuple[int, ...] = (),
    ) -> None:
        arrays, rest = eqx.partition(arguments, eqx.is_array)
        leaves, structure = jax.tree.flatten(arrays)

        def on_arrays(*leaves: Any) -> Any:
            given = eqx.combine(jax.tree.unflatten(structure, leaves), rest)
            made, self._rest = eqx.partition(function(*given), eqx.is_array)
            return made

        jitted = jax.jit(on_arrays, compiler_options=options, donate_argnums=given_up)
        self.compiled = jitted.lower(*leaves).compile()

    @functools.cached_property
    def memory(self) -> Any:
        """What the backend says of its memory, if it does."""
        return self.compiled.memory_analysis()

    def __call__(self, *arguments: Any) -> Any:
        return eqx.combine(self.compiled(*_arrays(arguments)), self._rest)


def program(
    function: Callable[..., Any],
    *arguments: Any,
    options: dict[str, Any] | None = None,
    given_up: Any = (),
) -> Program:
    """The program of a function for such arguments: compiled now, or before for the like of them.

    `given_up`: what of the arguments is not used any more after a call, a tree of their arrays.

    Arguments are alike if `likeness` says so: arrays of the same shapes, and for the rest the same
    values, also where these were made anew, as an optimizer of the same rates is. The programs
    used last are kept, so that many sizes in one process do not fill its memory.
    """
    gone = {id(array) for array in jax.tree.leaves(eqx.filter(given_up, eqx.is_array))}
    leaves = jax.tree.leaves(eqx.filter(arguments, eqx.is_array))
    places = tuple(place for place, array in enumerate(leaves) if id(array) in gone)
    try:
        key = (likeness(function), likeness(arguments), likeness(options), places)
    except Unlike:
        return Program(function, arguments, options, places)
    found = _kept.pop(key, None) or Program(function, arguments, options, places)
    _kept[key] = found
    if len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)
    return found


def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function, by its program."""
    return program(function, *arguments)(*arguments)


@dataclasses.dataclass(frozen=True)
class Call:
    """A computation that a run asks for; answered for it alone, or for several runs at once.

    **Fields**: `kind`, what it is; `function`; its arguments, those of this run (`own`) and those
    that others have alike (`shared`); `steps`, how many the function is to take at most, if it
    takes any: their number is its last argument; `given_up`, what of its own arguments is not used
    any more after it.

    `form`: calls for steps of one form have one program.
    """

    kind: str
    function: Callable[..., Any]
    own: tuple[Any, ...]
    shared: tuple[Any, ...]
    steps: int = 0
    options: dict[str, Any] | None = None
    given_up: Any = ()

    @property
    def form(self) -> Hashable:
        """What it is, and the shapes of its arguments."""
        return self.kind, tuple(leaf.shape for leaf in _arrays((self.own, self.shared)))

    def counted(self, steps: int) -> tuple[Any, ...]:
        """The shared arguments, with the number of steps."""
        return (*self.shared, jnp.asarray(steps)) if steps else self.shared


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a call computes, once it is asked for (`value`), by which program, in how many steps."""

    value: Callable[[], Any]
    program: Program
    steps: int


# What computes by calls, and returns a result.
Asking = Generator[Call, Answer, Result]


def answered(asking: Asking[Result]) -> Result:
    """The result of what computes by calls, each of them answered for it alone."""
    # Of the steps alone: to look for the like of their program takes as long as some steps.
    steps: dict[Hashable, Program] = {}
    try:
        call = next(asking)
        while True:
            arguments = (*call.own, *call.counted(call.steps))
            form = call.form if call.steps else None
            made = steps.get(form)
            if made is None:
                gone = call.given_up
                made = program(call.function, *arguments, options=call.options, given_up=gone)
            if form is not None:
                steps[form] = made
            call = asking.send(Answer(functools.partial(made, *arguments), made, call.steps))
    except StopIteration as end:
        found: Result = end.value
        return found


def _arrays(tree: Any) -> list[Any]:
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))
