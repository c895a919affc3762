"""The command line: `fathomx train` and `fathomx compare`."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import equinox as eqx
import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fathomx
from fathomx.data import DataError, Dataset
from fathomx.inference import trace
from fathomx.job import Job
from fathomx.learning import Equilibrium
from fathomx.network import Network
from fathomx.problem import Problem
from fathomx.report import verdict, write_comparison, write_page
from fathomx.training import (
    CheckpointError,
    DivergenceError,
    ProgressBar,
    RunFolder,
    RunFolderError,
    fit,
)
from fathomx.training.run_folder import read_config, read_json, read_metrics, write_json

_EXPECTED = (
    ValueError,
    DataError,
    CheckpointError,
    DivergenceError,
    RunFolderError,
    MemoryError,
    ImportError,
)
_LARGEST_MESSAGE = 200


def main() -> None:
    """Runs the command line; whatever goes wrong is one line, without a traceback."""
    try:
        code = commands.main(standalone_mode=False)
    except click.ClickException as error:
        code = _fail(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except _EXPECTED as error:
        code = _fail(str(error))
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).strip().splitlines()[0][:_LARGEST_MESSAGE]
        code = _fail(f"{reason} - if memory ran out, use a smaller width, depth or batch size.")
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        code = _fail(f"{error.strerror or error}{place}.")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int = 1) -> int:
    line = " ".join(message.split())
    Console(stderr=True).print(
        f"[bold red]error:[/] {escape(line)}", highlight=False, soft_wrap=True
    )
    return code


def _job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for every field of `Job`."""
    for field in reversed(dataclasses.fields(Job)):
        kind: Any = {"int": int, "float": float, "float | None": float}.get(str(field.type), str)
        choices = field.metadata["choices"]
        text = field.metadata["help"] + (f" One of {', '.join(choices)}." if choices else "")
        if field.default is not None:
            text += f" [default: {field.default}]"
        name = "--" + field.name.replace("_", "-")
        command = click.option(name, field.name, type=kind, default=None, help=text)(command)
    return command


_out = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of the run; must not exist. [default: a new one under runs/]",
)


@click.group(invoke_without_command=True)
@click.version_option(fathomx.__version__, prog_name="fathomx")
@click.pass_context
def commands(context: click.Context) -> None:
    """Deep predictive coding networks, relaxed to equilibrium and honest about it."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_resume = click.option(
    "--resume",
    type=click.Path(path_type=Path),
    default=None,
    help="Continue the run in this folder, to the same weights bit for bit on the same machine.",
)


@commands.command()
@_job_options
@_out
@_resume
def train(out: Path | None, resume: Path | None, **given: Any) -> None:
    """Trains a network and leaves a run folder with numbers, figures and a page."""
    given = {name: value for name, value in given.items() if value is not None}
    console = Console()
    if resume is not None:
        _refuse_out(out)
        job = Job.from_config(read_config(resume))
        if (resume / "summary.json").exists() and not (resume / "index.html").exists():
            # The run was stopped after its last number and before its page.
            write_page(resume)
            _print_verdict(console, resume)
            return
        run = RunFolder.resume(resume, {**job.config(), **given})
    else:
        job, run = Job(**given), None
    data = job.load()
    network = job.network(data)
    if run is None:
        _check_batch_size(job, data)
        run = RunFolder.create(out or _new_folder("train"), _config(job))
    _train(job, data, network, run, Session(console, "training", f"train --resume {run.folder}"))
    _print_verdict(console, run.folder)


@commands.command()
@_job_options
@_out
@_resume
def compare(out: Path | None, resume: Path | None, **given: Any) -> None:
    """Trains the same network by predictive coding and by backprop, side by side."""
    given = {name: value for name, value in given.items() if value is not None}
    console = Console()
    if resume is None:
        job, folder = Job(**given), out or _new_folder("compare")
    else:
        _refuse_out(out)
        if given:
            raise ValueError("--resume continues a comparison as it was begun; leave out the rest.")
        job, folder = Job.from_config(read_config(resume / "predictive-coding")), resume
    if job.learning == "backprop":
        raise ValueError("compare runs backprop beside another rule; leave out --learning.")
    jobs = {
        "predictive-coding": job,
        "backprop": dataclasses.replace(
            job, learning="backprop", strength=None, output_precision=None
        ),
    }
    data = job.load()
    network = job.network(data)
    _check_batch_size(job, data)
    if resume is None and folder.exists():
        raise RunFolderError(
            f"{folder} exists already; choose another --out, or continue that comparison with "
            f"`fathomx compare --resume {folder}`."
        )
    runs = {name: folder / name for name in jobs}
    for name, each in jobs.items():
        if (runs[name] / "summary.json").exists():
            continue
        begun = (runs[name] / "config.json").exists()
        run = RunFolder.resume(runs[name]) if begun else RunFolder.create(runs[name], _config(each))
        _train(each, data, network, run, Session(console, name, f"compare --resume {folder}"))
    summaries = {name: read_json(each / "summary.json") for name, each in runs.items()}
    write_json(folder / "comparison.json", summaries)
    page = write_comparison(folder, runs)
    console.print(_comparison_table(summaries))
    _print_verdict(console, runs["predictive-coding"])
    console.print(f"side by side: {page}", highlight=False, soft_wrap=True)


def _refuse_out(out: Path | None) -> None:
    if out is not None:
        raise ValueError("--resume continues in its own folder; leave out --out.")


@dataclasses.dataclass(frozen=True)
class Session:
    """Where a run prints, under which name, and the command that continues it."""

    console: Console
    name: str
    command: str


def _train(job: Job, data: Dataset, network: Network, run: RunFolder, session: Session) -> None:
    console, name = session.console, session.name
    bar = ProgressBar(console, name)
    rule = job.rule()
    console.print(
        f"{name}: {job.model}, {network.depth} nodes, {job.data} "
        f"({len(data.train.labels)} training examples), {job.learning}"
        + (f" with {job.solver()!r}" if isinstance(rule, Equilibrium) else ""),
        highlight=False,
        soft_wrap=True,
    )
    try:
        result = fit(
            network,
            data,
            rule,
            optimizer=job.optimizer(data),
            epochs=job.epochs,
            batch_size=job.batch_size,
            seed=job.seed,
            observers=(bar, run),
        )
    except KeyboardInterrupt:
        console.print(
            f"stopped; continue with: fathomx {session.command}",
            highlight=False,
            soft_wrap=True,
        )
        raise
    finally:
        bar.close()
        run.close()
    if isinstance(rule, Equilibrium):
        _record_inference(job, data, network, result.network, rule, run.folder)
    write_page(run.folder)


def _record_inference(
    job: Job, data: Dataset, before: Network, after: Network, rule: Equilibrium, folder: Path
) -> None:
    """Energies per node over inference steps on one batch, before and after training."""
    size = min(job.batch_size, len(data.train.labels))
    input, labels = data.train.inputs[:size], data.train.labels[:size]

    @eqx.filter_jit
    def energies(network: Network) -> Any:
        problem, _ = rule.choose(Problem(network, input, labels), jax.random.key(job.seed))
        _, found = trace(problem, rule.solver)
        return found.mean(axis=-1)

    write_json(
        folder / "inference.json",
        {
            "labels": list(before.labels),
            "solver": repr(rule.solver),
            "before": {"energy": energies(before)},
            "after": {"energy": energies(after)},
        },
    )


def _check_batch_size(job: Job, data: Dataset) -> None:
    if job.batch_size > len(data.train.labels):
        raise ValueError(
            f"batch_size is {job.batch_size}, but {data.name!r} has {len(data.train.labels)} "
            "training examples; choose a smaller --batch-size."
        )


def _config(job: Job) -> dict[str, Any]:
    options = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in job.config().items()
        if value is not None and value != getattr(Job(), name)
    ]
    return {
        **job.config(),
        "fathomx": fathomx.__version__,
        "command": " ".join(["fathomx train", *options]),
    }


def _new_folder(command: str) -> Path:
    return Path("runs") / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{command}"


def _print_verdict(console: Console, folder: Path) -> None:
    summary = read_json(folder / "summary.json")
    for line in verdict(read_config(folder), summary, read_metrics(folder)):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"run folder: {folder}/index.html", highlight=False, soft_wrap=True)


def _comparison_table(summaries: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="predictive coding beside backprop")
    table.add_column("")
    for name in summaries:
        table.add_column(name, justify="right")
    rows: list[tuple[str, Callable[[dict[str, Any]], float | None], str]] = [
        ("test accuracy", lambda s: s["test_accuracy"], ".4f"),
        ("validation accuracy", lambda s: s["validation_accuracy"], ".4f"),
        ("unsettled, median", lambda s: s["unsettled"]["median"], ".2g"),
        ("unsettled, max", lambda s: s["unsettled"]["max"], ".2g"),
        ("strength", lambda s: s["pc_strength"] if s["output_precision"] else None, ".3g"),
        ("cosine to backprop", lambda s: s["cosine_to_backprop"], ".3f"),
        ("first step, seconds", lambda s: s["first_step_seconds"], ".2f"),
        ("step, seconds", lambda s: s["step_seconds_median"], ".4f"),
        ("training, seconds", lambda s: s["train_seconds"], ".1f"),
    ]
    for label, pick, form in rows:
        values = [pick(summary) for summary in summaries.values()]
        table.add_row(label, *["-" if v is None else format(v, form) for v in values])
    return table
