"""`fathomx generate` and `fathomx complete`: pictures of a trained network."""

from __future__ import annotations

from pathlib import Path

import click
import jax
from rich.console import Console

from fathomx.command_line.imagery import Imagery, canvas_of
from fathomx.command_line.job import Job
from fathomx.command_line.messages import say
from fathomx.command_line.models import MODELS
from fathomx.command_line.options import Decorator, check_text
from fathomx.command_line.session import stored_data, stored_job
from fathomx.command_line.trained import trained_network
from fathomx.data import Dataset
from fathomx.drawing.canvas import seen_part
from fathomx.drawing.gallery import draw_gallery
from fathomx.graph.network import Network
from fathomx.records.errors import RunFolderError
from fathomx.records.pictures import Panel
from fathomx.report import MissingMatplotlibError

_MASKS = ("upper", "left", "random")
_run = click.argument("run", type=click.Path(path_type=Path))
_seed = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
    help="Seed of what is drawn.",
)  # fmt: skip


def _count(default: int, what: str) -> Decorator:
    return click.option(
        "--count", type=click.IntRange(1, 1000), default=default, show_default=True, help=what
    )


def _out(default: str) -> Decorator:
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        default=None,
        help=f"The picture's file, a PNG. [default: {default} in the run folder]",
    )


@click.command()
@_run
@_count(30, "How many pictures; of a bidirectional network at most one for every class.")
@_seed
@_out("generated.png")
def generate(run: Path, count: int, seed: int, out: Path | None) -> None:
    """Draws what the generative network of the run folder RUN makes of nothing.

    Of a decoder these are its predictions from latents that are drawn from their prior, of a
    bidirectional network images of every class.
    """
    out = _file(out, run / "generated.png")
    network, _, data, imagery = _trained(run)
    _write(imagery.generated(network, canvas_of(data), count, jax.random.key(seed)), out)


@click.command()
@_run
@click.option(
    "--mask",
    type=click.Choice(_MASKS),
    default="upper",
    show_default=True,
    help="What is given: the upper or the left part, or pixels at random.",
)
@click.option(
    "--fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="How much is given, between 0 and 1.",
)
@_count(10, "How many images, the first of the validation part.")
@_seed
@_out("completed.png")
def complete(
    run: Path, mask: str, fraction: float, count: int, seed: int, out: Path | None
) -> None:
    """Completes validation images of which the network of the run folder RUN sees a part."""
    out = _file(out, run / "completed.png")
    network, _, data, imagery = _trained(run)
    canvas = canvas_of(data)
    seen = seen_part(mask, fraction, canvas.shape, seed)
    inputs = data.validation.inputs[:count]
    _write([imagery.completion(network, canvas, inputs, seen)], out)


def _trained(run: Path) -> tuple[Network, Job, Dataset, Imagery]:
    """The network of a run, its job and data; `RunFolderError` if it generates nothing."""
    job = stored_job(run)
    if job.generative is None:
        able = ", ".join(name for name, model in MODELS.items() if model.generative)
        raise RunFolderError(
            f"the run in {run} trained a {job.model}, which generates nothing; train one of {able} "
            "with `fathomx train --model`."
        )
    data = stored_data(job, run)
    assert isinstance(data, Dataset)
    return trained_network(job, data, run), job, data, job.generative.imagery


def _file(out: Path | None, usual: Path) -> Path:
    """Where the picture goes; `RunFolderError` where no file can."""
    if out is None:
        return usual
    check_text(out)
    if out.is_dir():
        raise RunFolderError(f"--out {out} is a folder; give the name of a file, such as a.png.")
    if not out.parent.is_dir():
        raise RunFolderError(
            f"--out {out} lies in no folder that exists; make it, or choose another."
        )
    return out


def _write(panels: list[Panel], out: Path) -> None:
    rows = [row for panel in panels for row in panel.rows]
    try:
        draw_gallery(rows, out)
    except MissingMatplotlibError as error:
        raise ImportError(str(error)) from None
    console = Console()
    for panel in panels:
        say(console, panel.caption)
    say(console, f"picture: {out}")
