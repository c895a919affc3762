"""The command line: `fathomx train`, `compare`, `diagnose` and `reproduce`."""

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
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fathomx
from fathomx import diagnostics
from fathomx.command_line.job import Job
from fathomx.command_line.runtime import prepare
from fathomx.data import DataError, Dataset, Text
from fathomx.diagnostics.energy_balance import EnergyBalance
from fathomx.experiments import EXPERIMENTS, Selection, reproduction
from fathomx.graph.arrival import arrivals
from fathomx.graph.network import Network
from fathomx.inference import trace
from fathomx.inference.relaxation import Relaxation
from fathomx.learning import PredictiveCoding
from fathomx.problem.problem import Problem
from fathomx.report import (
    MissingMatplotlibError,
    energy_beside_equilibrium,
    energy_over_inference,
    read_diagnosis,
    verdict,
    write_comparison,
    write_page,
)
from fathomx.report.diagnosis import COLUMNS, caption, findings, rows
from fathomx.sampling.tokens import generate
from fathomx.training import (
    CheckpointError,
    DivergenceError,
    ProgressBar,
    RunFolder,
    RunFolderError,
    fit,
)
from fathomx.training.checkpoints import Checkpoints
from fathomx.training.observer import TrainingState
from fathomx.training.run_folder import (
    read_config,
    read_json,
    read_metrics,
    write_json,
    write_text,
)

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
_SAMPLE_LENGTH = 300
_SAMPLE_TEMPERATURE = 0.8


def main() -> None:
    """Runs the command line; whatever goes wrong is one line, without a traceback."""
    prepare()
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


def _option_of(field: dataclasses.Field[Any]) -> Callable[..., Any]:
    """The option for a field of `Job`: of its type, or flags for a choice of two."""
    types = frozenset(str(field.type).split(" | ")) - {"None"}
    choices, name = field.metadata["choices"], field.name.replace("_", "-")
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


def _job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for every field of `Job`."""
    for field in reversed(dataclasses.fields(Job)):
        command = _option_of(field)(command)
    return command


def _diagnosis_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for every field of `Job` but those of training."""
    for field in reversed(dataclasses.fields(Job)):
        if not field.metadata["training"]:
            command = _option_of(field)(command)
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
        stored = job.config()
        run = RunFolder.resume(resume, {k: v for k, v in given.items() if v != stored[k]})
    else:
        job, run = Job(**given), None
    data = job.load()
    network = job.network(data)
    if run is None:
        job.check(data, network)
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
        "backprop": job.by_backprop(),
    }
    data = job.load()
    network = job.network(data)
    job.check(data, network)
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


# What a trained network cannot be given anew.
_OF_THE_NETWORK = (
    "data",
    "model",
    "depth",
    "width",
    "activation",
    "parameterization",
    "normalization",
    "auxiliary",
    "heads",
    "context",
)


@commands.command()
@_diagnosis_options
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    default=None,
    help="Diagnose the trained network of this run folder. [default: a network at initialization]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of the diagnosis; must not exist. [default: a new one under runs/]",
)
def diagnose(run: Path | None, out: Path | None, **given: Any) -> None:
    """Relaxes one batch and shows where in the network the energy sits."""
    given = {name: value for name, value in given.items() if value is not None}
    folder = out or _new_folder("diagnose")
    if folder.exists():
        raise RunFolderError(f"{folder} exists already; choose another --out.")
    if run is None:
        job = Job(**given)
        data = job.load()
        network = job.network(data)
    else:
        fixed = [f"--{name}" for name in _OF_THE_NETWORK if name in given]
        if fixed:
            raise ValueError(
                f"--run takes the data set and the network from the run; leave out "
                f"{' and '.join(fixed)}."
            )
        trained = Job.from_config(read_config(run))
        job = trained.for_diagnosis(**given)
        data = trained.load()
        network = _trained(trained, data, run)
    job.check(data, network)
    content = _diagnosis(job, data, network) | {"run": None if run is None else str(run)}
    folder.mkdir(parents=True)
    write_json(folder / "diagnosis.json", content)
    console = Console()
    _print_diagnosis(console, read_diagnosis(folder))
    try:
        for draw in (energy_over_inference, energy_beside_equilibrium):
            draw(folder, folder / "figures" / f"{draw.__name__}.png")
    except MissingMatplotlibError as error:
        console.print(escape(str(error)), highlight=False, soft_wrap=True)
    console.print(f"diagnosis: {folder}", highlight=False, soft_wrap=True)


@commands.command(
    help=f"""Runs a published comparison, NAME, and leaves its tables and figures.

    NAME is one of: {", ".join(EXPERIMENTS)}. Stopped with Ctrl-C, the same command continues where
    it was.
    """
)
@click.argument("name")
@click.option(
    "--scale",
    default="laptop",
    help="How large: laptop (two cores; deeper-pcns takes most of an hour, the others minutes) or, "
    "for deeper-pcns, mupc, transfer, coordinate-check, limits and strength, paper (for an "
    "accelerator). [default: laptop]",
)
@click.option("--network", "networks", multiple=True, help="Only this network; may be repeated.")
@click.option("--method", "methods", multiple=True, help="Only this method; may be repeated.")
@click.option("--seed", "seeds", type=int, multiple=True, help="Only this seed; may be repeated.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of tables and figures; what it has already is not run again. "
    "[default: runs/NAME-SCALE]",
)
def reproduce(
    name: str,
    scale: str,
    networks: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    out: Path | None,
) -> None:
    console = Console()

    def say(text: str) -> None:
        console.print(escape(text), highlight=False, soft_wrap=True)

    run = reproduction(name)
    table = run(
        scale, out or Path("runs") / f"{name}-{scale}", Selection(networks, methods, seeds), say
    )
    say(table.read_text(encoding="utf-8"))
    say(f"table: {table}")


def _trained(job: Job, data: Dataset, folder: Path) -> Network:
    """The network of a run, with the weights of its newest checkpoint."""
    network = job.network(data)
    fresh = TrainingState(
        network=network,
        optimizer=job.rule().init_optimizer(job.optimizer(data), network),
        key=jax.random.key(job.seed),
        epoch=jnp.zeros((), jnp.int32),
        step=jnp.zeros((), jnp.int32),
    )
    state = None
    if (folder / "checkpoints").is_dir():
        checkpoints = Checkpoints(folder / "checkpoints")
        try:
            state = checkpoints.restore(fresh)
        finally:
            checkpoints.close()
    if state is None:
        raise CheckpointError(f"{folder} holds no checkpoint, so there are no trained weights.")
    return state.network


def _diagnosis(job: Job, data: Dataset, network: Network) -> dict[str, Any]:
    """The numbers of a diagnosis on the first batch of the training data."""
    rule = job.rule()
    assert isinstance(rule, PredictiveCoding)
    input, labels = data.train.inputs[: job.batch_size], data.train.labels[: job.batch_size]
    problem = Problem(network, input, labels).with_batch_statistics()
    problem, strength = eqx.filter_jit(rule.choose)(problem, jax.random.key(job.seed))
    found = diagnostics.diagnose(problem, rule.solver)

    def state(relaxed: Relaxation, balance: EnergyBalance) -> dict[str, Any]:
        unsettled = {
            "median": jnp.median(relaxed.unsettled),
            "max": jnp.max(relaxed.unsettled),
        }
        return {
            "energy": relaxed.energy,
            "imbalance": balance.imbalance,
            "decay": balance.decay,
            "reached": balance.reached,
            "unsettled": unsettled,
        }

    options = {
        field.name: getattr(job, field.name)
        for field in dataclasses.fields(Job)
        if not field.metadata["training"]
    }
    return {
        **options,
        "fathomx": fathomx.__version__,
        "solver": repr(rule.solver),
        # The options of the same names say how these were chosen.
        "output_precision": problem.output_precision,
        "strength": strength,
        "labels": list(network.labels),
        "arrivals": list(arrivals(network)),
        **state(found.relaxed, found.balance),
        "error_rms": found.error,
        "activity_rms": found.activity,
        "cosine_to_backprop": found.alignment.overall,
        "cosine_to_backprop_per_node": found.alignment.cosine,
        "length_to_backprop_per_node": found.alignment.ratio,
        "equilibrium": state(found.equilibrium, found.equilibrium_balance),
        "energy_per_step": found.energy,
    }


def _print_diagnosis(console: Console, content: dict[str, Any]) -> None:
    table = Table(caption=caption(content), caption_justify="left", box=box.SIMPLE_HEAD)
    for index, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows(content):
        table.add_row(*map(escape, row))
    console.print(table)
    for sentence in findings(content):
        console.print(sentence, highlight=False, soft_wrap=True)


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
        + (f" with {job.solver()!r}" if isinstance(rule, PredictiveCoding) else ""),
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
    if isinstance(rule, PredictiveCoding):
        _record_inference(job, data, network, result.network, rule, run.folder)
    if isinstance(data, Text):
        sample = _sample(data, result.network, job.seed)
        write_text(run.folder / "sample.txt", sample)
        console.print(
            f"a sample, begun by {job.context} characters of the validation text:\n{sample}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    write_page(run.folder)


def _sample(data: Text, network: Network, seed: int) -> str:
    """Text that the network writes, behind a window that it has not been trained on."""
    begin = data.decode(data.validation.inputs[0])
    new = generate(
        network, data.encode(begin), _SAMPLE_LENGTH, jax.random.key(seed), _SAMPLE_TEMPERATURE
    )
    return begin + data.decode(new) + "\n"


def _record_inference(
    job: Job, data: Dataset, before: Network, after: Network, rule: PredictiveCoding, folder: Path
) -> None:
    """Energies per node over inference steps on one batch, before and after training."""
    size = min(job.batch_size, len(data.train.labels))
    input, labels = data.train.inputs[:size], data.train.labels[:size]

    def energies(network: Network) -> Array:
        problem = Problem(network, input, labels)
        return _energies_over_inference(problem, rule, jax.random.key(job.seed))

    write_json(
        folder / "inference.json",
        {
            "labels": list(before.labels),
            "solver": repr(rule.solver),
            "before": {"energy": energies(before)},
            "after": {"energy": energies(after)},
        },
    )


@eqx.filter_jit
def _energies_over_inference(problem: Problem, rule: PredictiveCoding, key: PRNGKeyArray) -> Array:
    prepared, _, _ = rule.prepare(problem, key)
    energies: Array = trace(prepared, rule.solver)[1]
    return energies.mean(axis=-1)


def _config(job: Job) -> dict[str, Any]:
    return {
        **job.config(),
        "fathomx": fathomx.__version__,
        "command": " ".join(["fathomx train", *_as_options(job)]),
    }


def _as_options(job: Job) -> list[str]:
    """The options that lead to this job, where they are not the defaults."""
    options = []
    for name, value in job.config().items():
        option = name.replace("_", "-")
        if value is None or value == getattr(Job(model=job.model), name):
            continue
        if isinstance(value, bool):
            options.append(f"--{option}" if value else f"--no-{option}")
        else:
            options.append(f"--{option} {value}")
    return options


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
        ("validation loss", lambda s: s["validation_loss"], ".4f"),
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
