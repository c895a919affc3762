"""Wrong and odd calls of the whole public API: refused in one sentence, or the same result."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import arguments_jit
import jax
import numpy as np
from arguments_calls import all_calls
from arguments_judge import ended, right_ending, wrong_ending
from arguments_surface import surface
from arguments_table import Call, Table
from arguments_values import read
from arguments_world import World, quiet
from tally import Tally

COUNT = 3200
# How often to look, and how many pieces of memory a process may hold: each compiled program takes
# some, and Linux allows 65,530 of them.
_EVERY, _MOST_PIECES = 100, 30_000


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A call with other values in place of some valid ones.

    **Fields**: `call`; `values`, their texts by parameter; `right`, whether it must be accepted;
    `compared`, whether with the result of the valid call.
    """

    call: Call
    values: Mapping[str, str]
    right: bool = False
    compared: bool = False

    @property
    def kind(self) -> str:
        """The kind of attempt, for the tally."""
        names = [self.call.kinds[name].name for name in self.values]
        return f"{'odd' if self.right else 'wrong'} {' and '.join(names)}"

    def __str__(self) -> str:
        given = ", ".join(f"{name}={text.replace('@', name)}" for name, text in self.values.items())
        name = self.call.name
        return name.replace("...", given) if "..." in name else f"{name}({given})"


def run(seed: int, count: int) -> Tally:
    """Tries so many calls, chosen by the seed, after the valid ones and those in compiled code."""
    tally = Tally("arguments", seed)
    with _elsewhere() as folder:
        world = World(folder)
        with quiet():
            table = all_calls(world)
        expected = _valid(table, tally)
        attempts = _chosen(_attempts(table, expected), np.random.default_rng(seed), count)
        found: list[tuple[str, str, str]] = []
        for number, attempt in enumerate(attempts):
            if number % _EVERY == 0 and _pieces() > _MOST_PIECES:
                jax.clear_caches()
            with quiet():
                fault = _judged(attempt, expected[id(attempt.call)], world)
            if fault is None:
                tally.note(attempt.kind, "accepted" if attempt.right else "refused")
            else:
                found.append((attempt.call.name, attempt.kind, f"{attempt}: {fault}"))
        for _, kind, text in sorted(found):
            tally.fault(kind, text)
        for call in table.calls:
            if id(call) in expected and call.kinds:
                _misfits(call, tally)
        arguments_jit.run(tally)
    return tally


@contextlib.contextmanager
def _elsewhere() -> Iterator[Path]:
    """A folder of its own, in which the process works: what is given as a path may be written."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "here").mkdir()
        os.chdir(folder / "here")
        try:
            yield folder
        finally:
            os.chdir(before)


def _pieces() -> int:
    """How many pieces of memory this process holds, where the system tells."""
    told = Path("/proc/self/maps")
    return told.read_text(encoding="utf-8").count("\n") if told.exists() else 0


def _valid(table: Table, tally: Tally) -> dict[int, list[Any]]:
    """The results of the valid calls; what has none, or does not work, is a fault."""
    for place, name in sorted(surface().items(), key=lambda item: item[1]):
        if place not in table.covered:
            tally.fault("valid call", f"no base call: {name}")
    for problem in table.broken:
        tally.fault("valid call", f"{problem:.200}")
    for parameter in table.unknown:
        tally.fault("valid call", f"no kind: {parameter}")
    expected: dict[int, list[Any]] = {}
    for call in table.calls:
        with quiet():
            ending = ended(lambda call=call: call.run({}))
        if ending.result is None:
            tally.fault("valid call", f"base call of {call.name} fails: {ending.error!r:.150}")
        else:
            tally.note("valid call", "accepted")
            expected[id(call)] = ending.result
    return expected


def _attempts(table: Table, expected: Mapping[int, Any]) -> list[Attempt]:
    """All single changes of the valid calls that work."""
    found = []
    for call in table.calls:
        if id(call) not in expected:
            continue
        for name, kind in call.kinds.items():
            found += [Attempt(call, {name: text}) for text in kind.wrong]
            if call.base(name) is not None:
                found += [Attempt(call, {name: text}, True, True) for text in kind.right]
                found += [Attempt(call, {name: text}, True) for text in kind.other]
    return found


def _chosen(attempts: list[Attempt], rng: np.random.Generator, count: int) -> list[Attempt]:
    """So many of them: some of every parameter first; beyond all of them, two wrong at once."""
    order = [attempts[i] for i in rng.permutation(len(attempts))]
    seen: dict[tuple[int, str, bool], int] = {}
    turns = []
    for attempt in order:
        place = (id(attempt.call), next(iter(attempt.values)), attempt.right)
        turns.append(seen.get(place, 0))
        seen[place] = turns[-1] + 1
    chosen = [order[i] for i in np.argsort(turns, kind="stable")[:count]]
    chosen += _pairs(order, rng, count - len(chosen))
    # Calls of one function share what is compiled.
    return sorted(chosen, key=lambda attempt: attempt.call.name)


def _pairs(attempts: Sequence[Attempt], rng: np.random.Generator, count: int) -> list[Attempt]:
    wrong: dict[int, list[Attempt]] = {}
    for attempt in attempts:
        if not attempt.right:
            wrong.setdefault(id(attempt.call), []).append(attempt)
    several = [a for a in wrong.values() if len({next(iter(b.values)) for b in a}) > 1]
    pairs = []
    while several and len(pairs) < count:
        of_call = several[rng.integers(len(several))]
        one, other = (of_call[i] for i in rng.integers(len(of_call), size=2))
        values = {**one.values, **other.values}
        if len(values) == 2:
            pairs.append(Attempt(one.call, values))
    return pairs


def _misfits(call: Call, tally: Tally) -> None:
    """Calls with an argument that there is not, with too many, with none where one is needed."""
    parameters = call.parameters.values()
    kinds = {p.kind for p in parameters}
    tried: dict[str, tuple[list[Any], dict[str, Any]]] = {}
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        tried["an unknown argument"] = [], {f"{next(iter(call.parameters), 'value')}q": None}
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        tried["too many arguments"] = [None] * (len(parameters) + 1), {}
    if any(p.default is p.empty and "VAR" not in p.kind.name for p in parameters):
        tried["no argument"] = [], {}
    for kind, (given, options) in tried.items():
        with quiet():
            ending = ended(lambda g=given, o=options: call.function(*g, **o))
        fault = wrong_ending(ending, {"argument": "None"}, call.function.__doc__ or "")
        if fault is None:
            tally.note(kind, "refused")
        else:
            tally.fault(kind, f"{call.name}: {fault}")


def _judged(attempt: Attempt, expected: list[Any], world: World) -> str | None:
    """What is wrong about how an attempt ends; `None` if nothing is."""
    call, values = attempt.call, attempt.values
    try:
        changed = {name: read(text, call.base(name), world) for name, text in values.items()}
    except Exception as error:
        return f"the campaign cannot make the value: {error!r:.150}"
    ending = ended(lambda: call.run(changed))
    if attempt.right:
        wanted = expected if attempt.compared else None
        return right_ending(ending, wanted, next(iter(values.values())))
    return wrong_ending(ending, values, call.function.__doc__ or "")
