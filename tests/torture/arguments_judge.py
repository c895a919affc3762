"""How a call ended, and whether it should have: messages, results, time."""

from __future__ import annotations

import dataclasses
import dis
import math
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from arguments_kinds import tolerance
from time_limit import TooLong, limited

import fathomx as fx

SECONDS = 60
_SOURCE = Path(fx.__file__).parent
_LONGEST, _QUOTED = 400, 150
_REMEDIES = (
    *(" give ", " choose ", " use ", " must ", " takes ", " needs ", " cannot ", " exists "),
    *(
        "check that",
        "leave out",
        " not ",
        " is given ",
        " names ",
        " has ",
        " have ",
        "; ",
        "there are ",
    ),
)
_USUAL = (TypeError, ValueError, FileNotFoundError)


@dataclasses.dataclass(frozen=True)
class Ending:
    """What a call returned, as plain arrays and texts, or what it raised."""

    result: list[Any] | None = None
    error: BaseException | None = None


def ended(call: Callable[[], Any]) -> Ending:
    """Runs a call to its end, or for so long."""
    try:
        with limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Ending(plain(call()))
    except (Exception, TooLong) as error:
        return Ending(error=error)


def plain(result: Any) -> list[Any]:
    """What can be compared of a result: its arrays and texts, in order."""
    if isinstance(result, fx.data.Dataset):
        parts = [result.arrays(title) for title in ("train", "validation", "test")]
        return plain([result.name, result.classes, list(result.image_shape), parts])
    found: list[Any] = []
    for leaf in jax.tree.leaves(result):
        if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if isinstance(leaf, str):
            found.append(str(leaf))
        elif isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float):
            found.append(np.asarray(leaf))
        else:
            found.append(type(leaf).__name__)
    return found


def wrong_ending(ending: Ending, given: Mapping[str, str], doc: str) -> str | None:
    """What is wrong about the end of a call that has to be refused; `None` if it is all right.

    `given` are the texts of wrong values by parameter; `doc` documents what is called.
    """
    error = ending.error
    if error is None:
        return "accepted"
    if isinstance(error, TooLong):
        return f"took more than {SECONDS} s"
    kind, message = type(error), str(error)
    quoted = f"{kind.__name__}: {_printed(message)}"
    package, raised = _origin(error)
    if package != "fathomx" or not raised:
        return f"message from {package}: {quoted}"
    documented = kind.__module__.startswith("fathomx") or f"`{kind.__name__}`" in doc
    if not isinstance(error, _USUAL) and not documented:
        return f"an error of the wrong kind: {quoted}"
    if not message.strip():
        return f"no message: {kind.__name__}"
    if "\n" in message:
        return f"a message of several lines: {quoted}"
    if len(message) > _LONGEST:
        return f"a message of {len(message)} characters: {quoted}"
    if not any(_told(message, name, text) for name, text in given.items()):
        return f"message does not say what was given: {quoted}"
    return None


def right_ending(ending: Ending, expected: list[Any] | None, text: str) -> str | None:
    """What is wrong about the end of a call that is right; `None` if nothing is.

    `expected` is the result that it must have, if it must have one; `text` is the odd value.
    """
    error = ending.error
    if isinstance(error, TooLong):
        return f"took more than {SECONDS} s"
    if error is not None:
        package, _ = _origin(error)
        return f"right one refused by {package}: {type(error).__name__}: {_printed(str(error))}"
    assert ending.result is not None
    if expected is not None and not _alike(ending.result, expected, tolerance(text)):
        return f"other result: {_shown(ending.result)} in place of {_shown(expected)}"
    return None


def _origin(error: BaseException) -> tuple[str, bool]:
    """The package whose code was running when an error came, and whether it said `raise`."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return "nowhere", False
    frame, _ = frames[-1]
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(_SOURCE):
        return _package(path), False
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    assert last is not None
    running = [i for i in dis.get_instructions(frame.f_code) if i.offset == last.tb_lasti]
    said = bool(running) and running[0].opname in ("RAISE_VARARGS", "RERAISE")
    return "fathomx", said or _is_raise(frame.f_code.co_filename, last.tb_lineno)


def _is_raise(file: str, line: int) -> bool:
    """Whether a line of source begins a `raise`; a traceback may point at a line within it."""
    source = Path(file).read_text(encoding="utf-8").splitlines()
    return source[line - 1].lstrip().startswith("raise")


def _package(path: Path) -> str:
    parts = path.parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1].removesuffix(".py")
    return path.stem if path.suffix == ".py" else "Python"


def _told(message: str, name: str, text: str) -> bool:
    """Whether a message names the parameter or what was given for it, or says what to do."""
    low = message.lower().replace("_", " ")
    spoken = name.lower().replace("_", " ")
    given = text.lower().strip("'\"@.[](){} ").replace("_", " ")
    named = spoken in low or (len(spoken) > 3 and spoken.rstrip("s") in low)
    return named or (len(given) > 1 and given in low) or any(word in low for word in _REMEDIES)


def _alike(found: list[Any], expected: list[Any], apart: float) -> bool:
    if len(found) != len(expected):
        return False
    for one, other in zip(found, expected, strict=True):
        if isinstance(one, str) or isinstance(other, str):
            if type(one) is not type(other) or one != other:
                return False
        elif one.shape != other.shape or not np.allclose(
            _float(one), _float(other), rtol=apart, atol=apart, equal_nan=True
        ):
            return False
    return True


def _float(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind != "O" else np.full(array.shape, math.nan)


def _shown(result: list[Any]) -> str:
    words = [
        each if isinstance(each, str) else f"{each.dtype.name}{list(each.shape)} {each.ravel()[:3]}"
        for each in result[:3]
    ]
    return _printed(", ".join(words))


def _printed(text: str) -> str:
    """The beginning of a text; what cannot be printed is written out."""
    shown = text[:_QUOTED].replace("\n", " / ")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
