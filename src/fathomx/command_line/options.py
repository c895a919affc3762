"""The options of commands: made from the fields of a job, read back, and written as a command."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from fathomx.command_line.job import Job
from fathomx.command_line.settings import Settings, option_fields, option_name
from fathomx.records.errors import RunFolderError
from fathomx.records.writing import unwritable

# What turns a command into one with more options.
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Number(click.ParamType):
    """An integer where it can be one, else a float."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        kind = click.INT if str(value).lstrip("+-").isdigit() else click.FLOAT
        return kind.convert(value, param, ctx)


_KINDS: dict[frozenset[str], Any] = {
    frozenset({"int"}): click.INT,
    frozenset({"float"}): click.FLOAT,
    frozenset({"int", "float"}): _Number(),
}


def job_options(*, training: bool, of: type[Settings] = Settings) -> Decorator:
    """One option for every field of a job, with or without those that only training asks for."""
    return all_of(*(_option_of(field) for field in option_fields(training=training, of=of)))


def all_of(*options: Decorator) -> Decorator:
    """Several options as one, listed in their order."""

    def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return with_options


def _option_of(field: dataclasses.Field[Any]) -> Decorator:
    """The option for a field: of its type, or flags for a choice of two."""
    types = frozenset(str(field.type).split(" | ")) - {"None"}
    choices, name = field.metadata["choices"], option_name(field)
    text = field.metadata["help"]
    if choices:
        listed = f"One of {', '.join(choices)}."
        begun, bracket, default = text.partition("[default")
        text = f"{begun.strip()} {listed} {bracket}{default}".strip()
    if field.default is not None:
        text += f" [default: {field.default}]"
    if field.default is False:
        return click.option(f"--{name}", field.name, is_flag=True, default=None, help=text)
    if types == {"bool"}:
        return click.option(f"--{name}/--no-{name}", field.name, default=None, help=text)
    kind = _KINDS.get(types, click.STRING)
    return click.option(f"--{name}", field.name, type=kind, default=None, help=text)


def converted(field: dataclasses.Field[Any], text: str) -> Any:
    """The value of an option's field from a text; raises `ValueError` for one that it cannot be."""
    types = frozenset(str(field.type).split(" | ")) - {"None"}
    kind = click.BOOL if types == {"bool"} else _KINDS.get(types, click.STRING)
    try:
        return kind.convert(text, None, None)
    except click.BadParameter as error:
        raise ValueError(f"{option_name(field)}: {error.message}") from None


def out_option(what: str) -> Decorator:
    """`--out`, the folder of a run or of a diagnosis."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        default=None,
        help=f"Folder of the {what}; must not exist. [default: a new one under runs/]",
    )


def resume_option(
    help: str = "Continue the run in this folder, to the same weights bit for bit on the same "
    "machine.",
) -> Decorator:
    """`--resume`, the folder of what is continued."""
    return click.option("--resume", type=click.Path(path_type=Path), default=None, help=help)


def only_given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are on the command line."""
    return {name: value for name, value in options.items() if value is not None}


def refuse_out(out: Path | None) -> None:
    """Raises `ValueError` if a run that continues is given another folder."""
    if out is not None:
        raise ValueError("--resume continues in its own folder; leave out --out.")


def check_new(out: Path | None, command: str) -> None:
    """Raises `RunFolderError` for an `--out` that a command cannot begin in.

    `command` is what continues a run; nothing can continue a diagnosis.
    """
    if out is None:
        return
    check_text(out)
    if out.exists():
        further = {
            "train": f", or continue that run with `fathomx train --resume {out}`",
            "compare": f", or continue that comparison with `fathomx compare --resume {out}`",
        }
        raise RunFolderError(
            f"{out} exists already; choose another --out{further.get(command, '')}."
        )


def check_text(out: Path) -> None:
    """Raises `RunFolderError` for an `--out` that files cannot name as text."""
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise RunFolderError(
            f"the name --out {str(out)!r} is no text in UTF-8; choose another --out."
        ) from None


def new_folder(out: Path | None, command: str) -> Path:
    """Where a command begins to write: in `--out`, or in an empty folder that nobody else has."""
    if out is not None:
        return out
    first = Path("runs") / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{command}"
    for number in itertools.count(2):
        folder = first if number == 2 else first.with_name(f"{first.name}-{number - 1}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.parent.is_dir():
                break
        except OSError as error:
            raise RunFolderError(unwritable(folder, error)) from error
    raise RunFolderError(f"{first.parent} is a file, where a folder belongs: choose an --out.")


def written_options(job: Job, made: Callable[..., Job] | None = None) -> list[str]:
    """The options that lead to this job: what is not so by itself, nor by the other options.

    `made` is what makes a job of options, that of the class of the job unless given.
    """
    if made is None:
        made = type(job)
    fields = option_fields(training=True, of=type(job))
    # A model has defaults of its own, with which most options need not be said.
    said = {"model"} if made().model != job.model else set()
    while True:
        values = {name: getattr(job, name) for name in said}
        reached = made(**{name: value for name, value in values.items() if value is not None})
        more = {f.name for f in fields if getattr(job, f.name) != getattr(reached, f.name)}
        if more <= said:
            break
        said |= more
    return typed({option_name(f): values[f.name] for f in fields if f.name in said})


def typed(values: Mapping[str, Any]) -> list[str]:
    """Options by name as they are typed; what is `None` is left out."""
    options = []
    for option, value in values.items():
        if isinstance(value, bool):
            options.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            options.append(f"--{option} {shlex.quote(str(value))}")
    return options
