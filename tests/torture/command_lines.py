"""Generated command lines: each ends with what it promised, or with one line and nothing left."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from command_lines_generated import Line, lines
from command_lines_judge import judged, outside, within
from command_lines_place import Place, elsewhere
from tally import Tally

COUNT = 1600
# Command lines that run in processes of their own.
_OUTSIDE = 60
_EVERY = 200


def run(seed: int, count: int) -> Tally:
    """Tries so many command lines, most of them in this process."""
    tally = Tally("command_lines", seed)
    rng = np.random.default_rng(seed)
    program = Path(sys.executable).with_name("fathomx")
    with elsewhere() as folder, tempfile.TemporaryDirectory() as compiled:
        # What one run has compiled, the next one takes.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        jax.config.update("jax_compilation_cache_dir", compiled)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        place = Place(folder, _begin)
        generated = lines(rng, count)
        others = set(rng.choice(count, size=min(_OUTSIDE, count), replace=False).tolist())
        faults = []
        for number, line in enumerate(generated):
            if number % _EVERY == _EVERY - 1:
                jax.clear_caches()
            found = _try(place, line, program if number in others else None)
            if found.fault is None:
                tally.note(found.kind, found.outcome)
            else:
                faults.append((found.kind, found.fault))
        for kind, fault in sorted(faults):
            tally.fault(kind, fault)
    return tally


def _begin(words: Sequence[str]) -> None:
    ending = within(words)
    if ending.code != 0:
        raise RuntimeError(f"{shlex.join(words)} must succeed: {ending.raised or ending.err}")


@dataclasses.dataclass(frozen=True)
class _Found:
    """How an attempt ended, and what is wrong about that."""

    kind: str
    outcome: str
    fault: str | None


def _try(place: Place, line: Line, program: Path | None) -> _Found:
    words = tuple(place.copied(word) for word in line.words)
    before = place.tree()
    ending = within(words) if program is None else outside(program, words)
    fault = judged(dataclasses.replace(line, words=words), ending, place, before)
    place.clear()
    return _Found(
        kind=line.kind if program is None else f"{line.kind}, in its own process",
        outcome="succeeded" if ending.code == 0 else "refused",
        fault=None if fault is None else f"fathomx {_written(line.words)}: {fault}",
    )


def _written(words: Sequence[str]) -> str:
    """A command line as it is typed; what cannot be printed is written out."""
    short = [
        word if len(word) < 100 else f"{word[:20]}...({len(word)} characters)" for word in words
    ]
    joined = shlex.join(short)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in joined)
