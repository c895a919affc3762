"""`fathomx predict`: what the trained network of a run says of inputs in files."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fathomx import data as data_sets
from fathomx.command_line.imagery import latents
from fathomx.command_line.loaded import Run, ended
from fathomx.command_line.messages import say
from fathomx.command_line.options import check_text
from fathomx.command_line.outcome import target_names
from fathomx.data import DataError, Text
from fathomx.data._encoding import decoded
from fathomx.data._files import read_bytes
from fathomx.evaluation.answers import answer, probabilities
from fathomx.records.errors import RunFolderError
from fathomx.records.writing import atomic
from fathomx.sampling.tokens import generate

_SHOWN = 10
_SUFFIXES = (".csv", ".npz")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="File of the predictions, .csv or .npz, replaced if it is there. [default: "
    "predictions.csv in the run folder]",
)
@click.option(
    "--prepared", is_flag=True, help="The arrays and tables are standardized already, not raw."
)
@click.option(
    "--length",
    type=click.IntRange(0, 10_000),
    default=40,
    show_default=True,
    help="Of networks of text: by how many tokens to continue, each the likeliest.",
)
def predict(
    run: Path, files: tuple[str, ...], out: Path | None, prepared: bool, length: int
) -> None:
    """Predicts from inputs in FILES by the trained network of the run folder RUN.

    Images (.png, .jpg and others), arrays (.npy, .npz), tables (.csv, a row for each input), or
    texts that the network continues. Raw values are standardized as those were that the run was
    trained on.
    """
    out = _checked(run / "predictions.csv" if out is None else out)
    trained = ended(run)
    data = trained.data
    if isinstance(data, Text):
        found = _continued(trained, data, files, length)
    else:
        found = _predicted(trained, data_sets.read_inputs(files, data, prepared=prepared))
    found.write(out)
    console = Console()
    found.show(console)
    say(console, f"predictions: {out}")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A row for each input: the file it is from, what is said of it in words, and numbers.

    **Fields**: `files` and `rows`, where inputs are from; `told`, columns of words or numbers that
    are shown; `numbers`, `(n, len(names))`, all of them, and their `names`.
    """

    files: Sequence[str]
    rows: Sequence[int]
    told: dict[str, Sequence[Any]]
    names: Sequence[str]
    numbers: NDArray[np.floating]

    def write(self, path: Path) -> None:
        """Writes all of it as a table or as arrays, by the suffix of the path."""
        content = io.BytesIO()
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {
                "files": np.asarray(self.files),
                "rows": np.asarray(self.rows),
                **{name: np.asarray(column) for name, column in self.told.items()},
                "names": np.asarray(self.names),
                "values": self.numbers,
            }
            np.savez(content, **arrays)
        else:
            lines = io.StringIO()
            writer = csv.writer(lines, lineterminator="\n")
            writer.writerow(["file", "row", *self.told, *self.names])
            for place, numbers in enumerate(self.numbers.tolist()):
                told = [column[place] for column in self.told.values()]
                writer.writerow([self.files[place], self.rows[place], *told, *numbers])
            content.write(lines.getvalue().encode())
        with atomic(path) as temporary:
            temporary.write_bytes(content.getvalue())

    def show(self, console: Console) -> None:
        """Prints the first rows."""
        table = Table(box=box.SIMPLE_HEAD)
        shown = self.told or dict(zip(self.names[:4], self.numbers.T[:4].tolist(), strict=True))
        for name in ("file", "row", *shown):
            table.add_column(name, justify="left" if name == "file" else "right")
        for place in range(min(_SHOWN, len(self.files))):
            cells = [_cell(column[place]) for column in shown.values()]
            table.add_row(escape(self.files[place]), str(self.rows[place]), *cells)
        console.print(table)
        left = len(self.files) - _SHOWN
        if left > 0:
            say(console, f"and {left:,} more")


def _predicted(run: Run, inputs: data_sets.Inputs) -> Predictions:
    """What the network says of inputs that are no text."""
    network, data = run.network, run.data
    where = (inputs.files, inputs.rows)
    if run.job.generative is not None and not network.feedbacks:
        # A decoder has nothing but what it explains: it is asked for the cause.
        root = network.roots[0].name
        causes = np.asarray(latents(network, jax.numpy.asarray(inputs.values))[root])
        causes = causes.reshape(len(causes), -1)
        return Predictions(*where, {}, [f"{root} {n}" for n in range(causes.shape[1])], causes)
    said = answer(network, {network.roots[0].name: inputs.values})
    if not data.named:
        likely = probabilities(said.expected)
        classes = data.class_names
        told = {
            "class": [classes[n] for n in said.chosen.tolist()],
            "probability": likely.max(axis=-1).tolist(),
        }
        return Predictions(*where, told, classes, likely)
    values = said.expected.reshape(len(said.expected), -1)
    known, output = data.preparation, network.output.name
    if known is not None and output in known.scales:
        values = known.scales[output].raw(values)
    names = () if known is None else known.class_names
    return Predictions(*where, {}, names or target_names(run.job, values.shape[1]), values)


def _continued(run: Run, data: Text, files: Sequence[str], length: int) -> Predictions:
    """The token that comes next after each text, and how the network goes on."""
    network = run.network
    context = network.input_shape[0]
    windows, ends, more = [], [], []
    for path in files:
        tokens = _tokens(path, data)
        last = tokens[-context:]
        ends.append(len(last) - 1)
        windows.append(np.pad(last, (0, context - len(last))))
        if length:
            new = generate(network, tokens, length, jax.random.key(0), 0)
            more.append(data.decode(np.asarray(new)))
    said = answer(network, {network.roots[0].name: np.stack(windows)})
    places = np.arange(len(files))
    likely = probabilities(said.expected[places, ends])
    chosen = said.chosen[places, ends].tolist()
    names = [repr(name)[1:-1] for name in data.class_names]
    told: dict[str, Sequence[Any]] = {
        "next": [names[n] for n in chosen],
        "probability": likely[places, chosen].tolist(),
        **({"continuation": more} if length else {}),
    }
    return Predictions(files, [0] * len(files), told, names, likely)


def _tokens(path: str, data: Text) -> NDArray[np.int32]:
    text = decoded(read_bytes(path), "utf-8", path)
    if not text:
        raise DataError(f"the file {path} is empty: give a text to continue.")
    try:
        return data.encode(text)
    except ValueError as error:
        raise ValueError(f"in the file {path}, {error}") from None


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(repr(value)[1:-1])


def _checked(out: Path) -> Path:
    """Where predictions go; `RunFolderError` where no such file can."""
    check_text(out)
    if out.suffix not in _SUFFIXES:
        raise RunFolderError(f"--out {out} must end with .csv or .npz; choose such a name.")
    if out.is_dir():
        raise RunFolderError(f"--out {out} is a folder; give the name of a file.")
    return out
