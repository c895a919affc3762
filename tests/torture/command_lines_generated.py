"""Command lines of all kinds, drawn at random, and whether each has to succeed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from command_lines_place import SHORT, SIZES, STORED

from fathomx.command_line.choices import (
    NORMALIZATIONS,
    NUMBERS,
    PARAMETERIZATIONS,
    RULES,
    SCHEDULES,
    SOLVERS,
)
from fathomx.command_line.models import MODELS
from fathomx.experiments import EXPERIMENTS
from fathomx.layers.activations import ACTIVATIONS
from fathomx.learning.optimizer_choice import OPTIMIZERS
from fathomx.learning.optimizer_choice import SCHEDULES as LEARNING_RATE_SCHEDULES

SUCCEED, FAIL, END = "succeed", "fail", "end"
_NAMES = {
    "--model": MODELS,
    "--activation": ACTIVATIONS,
    "--parameterization": PARAMETERIZATIONS,
    "--normalization": NORMALIZATIONS,
    "--inference": SOLVERS,
    "--schedule": SCHEDULES,
    "--learning": RULES,
    "--precision": NUMBERS,
    "--optimizer": OPTIMIZERS,
    "--learning-rate-schedule": LEARNING_RATE_SCHEDULES,
}
_CHOSEN_COUNTS = ("--accumulate", "--validate-every", "--early-stopping")
_CHOSEN_NUMBERS = ("--clip", "--average")
_COUNTS = (
    *("--take", "--depth", "--heads", "--context", "--steps", "--epochs", "--batch-size"),
    *_CHOSEN_COUNTS,
)
_NUMBERS = (
    *("--activity-rate", "--output-precision", "--learning-rate", "--strength", "--width"),
    *_CHOSEN_NUMBERS,
)
_FLAGS = ("--bias", "--rematerialize", "--auxiliary", "--no-auxiliary")
_TRAINING = (
    *("--take", "--learning", "--epochs", "--learning-rate", "--optimizer"),
    *("--learning-rate-schedule", *_CHOSEN_COUNTS, *_CHOSEN_NUMBERS),
)
_STRANGE = ("", " ", "abc", "é", "文", "\x07", "\x1b[31m", "a\nb", "--", "None", "[3]", "½", "1,5")
_NO_COUNTS = (*_STRANGE, "1.5", "0", "-1", "1e3", "nan", "inf", "0x10", "3j", "1" + "0" * 30)
_NO_NUMBERS = (*_STRANGE, "0", "-1", "-0.0", "nan", "inf", "-inf", "1e400", "0x10", "3j")
_RAW = os.fsdecode(b"raw\xff")


@dataclasses.dataclass(frozen=True)
class Line:
    """A command line without the program's name.

    **Fields**: `kind`, for the tally; `words`; `must`, how it has to end: `SUCCEED`, `FAIL`, or
    `END` if either is all right.
    """

    kind: str
    words: tuple[str, ...]
    must: str


def lines(rng: np.random.Generator, count: int) -> list[Line]:
    """So many command lines; kinds that take long are rare."""
    kinds: dict[Callable[[Any], Line], float] = {
        _valid: 0.06,
        _wrong_value: 0.34,
        _misspelled: 0.12,
        _contradiction: 0.1,
        _data: 0.07,
        _out: 0.08,
        _stored: 0.08,
        _reproduce: 0.1,
        _bare: 0.05,
    }
    weights = np.array(list(kinds.values()))
    chosen = rng.choice(len(kinds), size=count, p=weights / weights.sum())
    makers = list(kinds)
    return [makers[index](rng) for index in chosen]


def _pick(rng: np.random.Generator, several: Sequence[Any]) -> Any:
    return several[rng.integers(len(several))]


def _command(rng: np.random.Generator) -> str:
    return str(_pick(rng, ("train", "train", "compare", "diagnose")))


def _sized(command: str, *more: str) -> tuple[str, ...]:
    """A command line of a tiny run; of an option that is given twice the last one counts."""
    return (command, *SIZES, *(() if command == "diagnose" else SHORT), *more)


def _valid(rng: np.random.Generator) -> Line:
    command = str(_pick(rng, ("train",) * 4 + ("diagnose",) * 2 + ("compare",)))
    words = list(_sized(command))
    text = rng.random() < 0.15
    if text:
        file = _pick(rng, ("files/book.txt", "files/tëxt 文.txt"))
        words += ["--model", "transformer", "--data", file, "--context", "8", "--heads", "2"]
    elif rng.random() < 0.3:
        words += ["--model", "mlp"]
    backprop = command == "train" and rng.random() < 0.2
    if backprop:
        words += ["--learning", "backprop"]
    else:
        words += _inference(rng, command, linear=not text)
        words += _pick(rng, ([], ["--strength", "0.3"], ["--output-precision", "1"]))
    for option in (
        ["--bias"],
        ["--rematerialize"],
        ["--rematerialize", "--offload"],
        ["--seed", "7"],
        ["--parameterization", str(_pick(rng, list(PARAMETERIZATIONS)))],
        *([] if command == "diagnose" else [["--learning-rate", "0.01"]]),
    ):
        words += option if rng.random() < 0.25 else []
    return Line("valid", tuple(words), SUCCEED)


def _inference(rng: np.random.Generator, command: str, *, linear: bool) -> list[str]:
    """Options of inference and learning; `linear` if the network may be linear."""
    inference = [
        [],
        ["--inference", "newton"],
        ["--inference", "gauss-newton", "--steps", "2"],
        ["--inference", "error-descent", "--steps", "3"],
        ["--inference", "state-descent", "--steps", "5", "--activity-rate", "0.1"],
        ["--inference", "state-descent", "--steps", "10", "--schedule", "spiking"],
        ["--inference", "state-descent", "--steps", "5", "--schedule", "decaying"],
        ["--inference", "gradient-flow"],
        *([["--inference", "exact", "--activation", "linear"]] if linear else []),
    ]
    chosen = list(_pick(rng, inference))
    able = not chosen or chosen[1] in ("gauss-newton", "error-descent", "state-descent")
    if command != "diagnose" and rng.random() < 0.4:
        learning = [
            "forward-update",
            "equilibrium-errors",
            "equilibrium-propagation",
            *(["incremental"] if able else []),
        ]
        chosen += ["--learning", str(_pick(rng, learning))]
    return chosen


def _wrong_value(rng: np.random.Generator) -> Line:
    command = _command(rng)
    options = [
        option
        for option in (*_NAMES, *_COUNTS, *_NUMBERS, *_FLAGS, "--seed")
        if command != "diagnose" or option not in _TRAINING
    ]
    option = str(_pick(rng, options))
    return Line("wrong value", _sized(command, *_given(rng, option)), FAIL)


def _given(rng: np.random.Generator, option: str) -> tuple[str, ...]:
    """An option with a value that it cannot have."""
    if option in _FLAGS:
        return (f"{option}={_pick(rng, ('yes', '1', '', 'True'))}",)
    if option in _NAMES:
        known = str(_pick(rng, list(_NAMES[option])))
        near = (known[:-1], known.upper(), known + " ", f"{known}x", known[::-1], "5")
        values = (*_STRANGE, *(each for each in near if each not in _NAMES[option]))
    elif option == "--seed":
        values = (*(v for v in _NO_COUNTS if v != "0"), "4294967296")
    elif option in _COUNTS:
        values = _NO_COUNTS
    else:
        values = _NO_NUMBERS
    wrong = str(_pick(rng, values))
    return (f"{option}={wrong}",) if rng.random() < 0.5 else (option, wrong)


def _misspelled(rng: np.random.Generator) -> Line:
    command = _command(rng)
    option = str(_pick(rng, (*_NAMES, *_COUNTS, *_NUMBERS, "--seed", "--out", "--data")))
    place = int(rng.integers(2, len(option)))
    wrong = (
        option[:place] + option[place + 1 :],
        option[:place] + "x" + option[place:],
        option[:place] + option[place:].upper(),
        option[1:],
        option.replace("-", "_"),
        f"{option}é",
        f"-{option}",
        option.replace("--", "—"),
    )
    known = (*_NAMES, *_COUNTS, *_NUMBERS, "--seed", "--out", "--data")
    words = [
        ("--" + "-".join(option[2:].split("-")) + "x", "3"),
        *((each, "3") for each in wrong if each not in known),
        (option,),
        ("extra",),
        ("--nonsense",),
        ("--nonsense", "3"),
        ("-h",),
        ("--run", "nowhere") if command != "diagnose" else ("--resume", "nowhere"),
        *((("--epochs", "3"), ("--take", "8")) if command == "diagnose" else ()),
    ]
    return Line("misspelled option", _sized(command, *_pick(rng, words)), FAIL)


def _contradiction(rng: np.random.Generator) -> Line:
    both = ("--strength", "0.1", "--output-precision", "1")
    train = [
        ("--learning", "backprop", "--steps", "3"),
        ("--learning", "backprop", "--strength", "0.1"),
        ("--learning", "backprop", "--output-precision", "1"),
        ("--learning", "backprop", "--schedule", "spiking"),
        ("--learning", "backprop", "--activity-rate", "0.1"),
        ("--learning", "incremental", "--inference", "newton"),
        ("--learning", "incremental", "--inference", "gradient-flow"),
        ("--take", "16"),
        ("--take", "100000"),
        ("--batch-size", "65"),
    ]
    any_command = [
        both,
        ("--inference", "exact"),
        ("--inference", "exact", "--activation", "tanh"),
        ("--inference", "newton", "--steps", "3"),
        ("--inference", "newton", "--schedule", "spiking"),
        ("--inference", "gauss-newton", "--activity-rate", "0.1"),
        ("--inference", "gauss-newton", "--schedule", "decaying"),
        ("--inference", "gradient-flow", "--steps", "3"),
        ("--inference", "state-descent", "--schedule", "spiking", "--steps", "1"),
        ("--model", "mlp", "--heads", "2"),
        ("--model", "mlp", "--context", "8"),
        ("--model", "mlp", "--normalization", "batch"),
        ("--model", "mlp", "--auxiliary"),
        ("--model", "mlp", "--no-auxiliary"),
        ("--model", "vgg", "--auxiliary"),
        ("--model", "vgg", "--depth", "6"),
        ("--model", "vgg", "--depth", "5"),
        ("--model", "resnet", "--depth", "11"),
        ("--model", "residual-cnn", "--depth", "6"),
        ("--model", "transformer"),
        ("--model", "transformer", "--data", "digits"),
        ("--data", "tiny-shakespeare"),
        ("--model", "vgg", "--normalization", "layer"),
        ("--width", "4.5"),
        ("--depth", "1"),
        ("--batch-size", "100000"),
        _book("--heads", "3"),
        _book("--context", "500"),
        _book("--normalization", "batch"),
        _book("--inference", "exact"),
    ]
    command = _command(rng)
    known = any_command if command == "diagnose" else [*train, *any_command]
    if command == "compare":
        known = [*known, ("--learning", "backprop")]
    return Line("contradiction", _sized(command, *_pick(rng, known)), FAIL)


def _book(*more: str) -> tuple[str, ...]:
    text = ("--model", "transformer", "--data", "files/book.txt", "--context", "8", "--heads", "2")
    return (*text, *more)


def _data(rng: np.random.Generator) -> Line:
    command = _command(rng)
    wrong = (
        *("digit", "DIGITS", "nowhere.txt", "files", "files/folder", "files/empty.txt"),
        *("files/short.txt", "files/latin1.txt", "files/binary.bin", "files/picture.png"),
        *("files/numbers.npz", "/dev/null", "files/book.txt/within", "x" * 5000, _RAW),
        *(value for value in _STRANGE if value != "--"),
    )
    data = str(_pick(rng, wrong))
    if rng.random() < 0.25:
        # A text, for a model that reads none.
        return Line("data", _sized(command, "--data", "files/book.txt"), FAIL)
    model = ("--model", "transformer", "--context", "8", "--heads", "2")
    model = model if rng.random() < 0.6 else ()
    return Line("data", _sized(command, *model, f"--data={data}"), FAIL)


def _out(rng: np.random.Generator) -> Line:
    command = _command(rng)
    wrong = (
        *("files", "files/book.txt", "files/book.txt/within", "/proc/run", "/dev/null/run", ""),
        *(".", "..", "/", "x" * 5000, "files/" + "x" * 300, _RAW, f"{_RAW}/run", "files/folder"),
    )
    right = (
        *("run", "a run", "läuft-文", "deep/er/run", "./run/", "files/../run", "-run", "[run]"),
        *("run'", 'run"', "$(run)", "run;", "*", "run.json", "%s", "{}", "<b>"),
    )
    either = ("a\nb", "\x07", "\x1b[31m", " ", "~", "files/locked/run")
    draw = rng.random()
    if draw < 0.2:
        return Line("out", _sized(command, f"--out={_pick(rng, right)}"), SUCCEED)
    if draw < 0.3:
        return Line("out", _sized(command, f"--out={_pick(rng, either)}"), END)
    return Line("out", _sized(command, f"--out={_pick(rng, wrong)}"), FAIL)


def _stored(rng: np.random.Generator) -> Line:
    """`--resume` and `--run` of everything."""
    command = str(_pick(rng, ("train", "train", "compare", "diagnose")))
    option = "--run" if command == "diagnose" else "--resume"
    kind = "compare" if command == "compare" else "train"
    draw = rng.random()
    if draw < 0.35:
        nothing = (
            *("nowhere", "files", "files/folder", "files/book.txt", "", "files/book.txt/within"),
            *(".", "/", "/proc", "/dev/null", "x" * 5000, _RAW, "é", "\x07", "a\nb"),
        )
        return Line("stored run", (command, f"{option}={_pick(rng, nothing)}"), FAIL)
    if draw < 0.5:
        # What does not fit to a run that is stored.
        other = "{train:done}" if command == "compare" else "{compare:done}"
        run = f"{{{kind}:begun}}"
        mixed = [
            (option, other),
            (option, run, "--depth", "5"),
            (option, run, "--data", "mnist"),
            (option, run, "--activation", "tanh"),
            (option, run, "--width", "abc"),
            (option, run, "--bias"),
            *(() if command == "diagnose" else ((option, run, "--out", "elsewhere"),)),
            *(() if command == "diagnose" else ((option, f"{{{kind}:done}}", "--seed", "3"),)),
        ]
        return Line("stored run", (command, *_pick(rng, mixed)), FAIL)
    state = str(_pick(rng, list(STORED)))
    must = FAIL if "config" in state and state != "config without depth" else END
    if state == "done":
        must = FAIL if command == "train" else SUCCEED
    if state == "begun" and command != "diagnose":
        must = SUCCEED
    return Line("stored run", (command, option, f"{{{kind}:{state}}}"), must)


def _reproduce(rng: np.random.Generator) -> Line:
    name = str(_pick(rng, list(EXPERIMENTS)))
    wrong = [
        (),
        (name[:-1],),
        (name.upper(),),
        (name + " ",),
        ("",),
        ("é",),
        ("\x07",),
        ("a\nb",),
        (name, name),
        (name, "--scale", "papier"),
        (name, "--scale", ""),
        (name, "--scale"),
        (name, "--network", "nonsense"),
        (name, "--network", ""),
        (name, "--network", "文"),
        (name, "--method", "nonsense"),
        (name, "--method", ""),
        (name, "--seed", "-1"),
        (name, "--seed", "1.5"),
        (name, "--seed", "abc"),
        (name, "--seed", "1" + "0" * 30),
        (name, "--network", "nonsense", "--method", "nonsense"),
        (name, "--netwrok", "nonsense"),
        (name, "--depth", "3"),
        (name, "--network", "nonsense", "--out", "files/book.txt"),
        (name, "--method", "nonsense", "--out", "files"),
        (name, "--out", "files/book.txt"),
        (name, "--out", "files"),
        (name, "--out", "files/book.txt/within"),
        (name, "--out", "/proc/run"),
        (name, "--out", _RAW),
    ]
    return Line("reproduce", ("reproduce", *_pick(rng, wrong)), FAIL)


def _bare(rng: np.random.Generator) -> Line:
    commands = ("train", "compare", "diagnose", "reproduce")
    right = [(), ("--help",), ("--version",), *((each, "--help") for each in commands)]
    wrong = [
        ("trian",),
        ("TRAIN",),
        ("",),
        ("-",),
        ("help",),
        ("--nonsense",),
        ("--depth", "3"),
        ("é",),
        ("\x07",),
        ("a\nb", "train"),
        (_RAW,),
        ("x" * 5000,),
        ("trian", "--help"),
        ("--train",),
        ("train", "compare"),
        ("train", "train"),
        ("-v",),
        ("--versoin",),
    ]
    if rng.random() < 0.3:
        return Line("no command", _pick(rng, right), SUCCEED)
    return Line("no command", _pick(rng, wrong), FAIL)
