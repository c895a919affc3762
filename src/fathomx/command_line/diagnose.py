"""`fathomx diagnose`: one batch relaxed, and where in the network its energy sits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import equinox as eqx
import jax
import jax.numpy as jnp
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fathomx
from fathomx import diagnostics
from fathomx.command_line.job import Job
from fathomx.command_line.messages import say
from fathomx.command_line.options import (
    check_new,
    job_options,
    new_folder,
    only_given,
    out_option,
)
from fathomx.command_line.session import stored_data, stored_job
from fathomx.command_line.settings import option_fields
from fathomx.command_line.trained import trained_network
from fathomx.data._imagenet import Examples
from fathomx.diagnostics.energy_balance import EnergyBalance
from fathomx.graph.arrival import arrivals
from fathomx.graph.network import Network
from fathomx.inference.relaxation import Relaxation
from fathomx.learning import PredictiveCoding
from fathomx.records.writing import appearing, write_json
from fathomx.report import (
    MissingMatplotlibError,
    energy_beside_equilibrium,
    energy_over_inference,
    read_diagnosis,
)
from fathomx.report.diagnosis import COLUMNS, caption, findings, rows


@click.command()
@job_options(training=False)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    default=None,
    help="Diagnose the trained network of this run folder. [default: a network at initialization]",
)
@out_option("diagnosis")
def diagnose(run: Path | None, out: Path | None, **options: Any) -> None:
    """Relaxes one batch and shows where in the network the energy sits."""
    given = only_given(options)
    check_new(out, "diagnose")
    if run is None:
        job = Job(**given)
        data = job.load()
        network = job.network(data)
    else:
        of_network = [f.name for f in option_fields(training=False) if f.metadata["network"]]
        fixed = [f"--{name}" for name in of_network if name in given]
        if fixed:
            raise ValueError(
                f"--run takes the data set and the network from the run; leave out "
                f"{' and '.join(fixed)}."
            )
        trained = stored_job(run)
        job = trained.for_diagnosis(**given)
        data = stored_data(trained, run)
        network = trained_network(trained, data, run)
    if job.inference == "langevin":
        raise ValueError(
            "inference 'langevin' draws samples, which are on their way to no equilibrium; "
            "diagnose with another --inference."
        )
    job.check(data, network)
    content = _diagnosis(job, data, network) | {"run": None if run is None else str(run)}
    folder = new_folder(out, "diagnose")
    said = [f"diagnosis: {folder}"]
    with appearing(folder) as unfinished:
        write_json(unfinished / "diagnosis.json", content)
        try:
            for draw in (energy_over_inference, energy_beside_equilibrium):
                draw(unfinished, unfinished / "figures" / f"{draw.__name__}.png")
        except MissingMatplotlibError as error:
            said.insert(0, str(error))
    console = Console()
    _print_diagnosis(console, read_diagnosis(folder))
    for text in said:
        say(console, text)


def _diagnosis(job: Job, data: Examples, network: Network) -> dict[str, Any]:
    """The numbers of a diagnosis on the first batch of the training data."""
    rule = job.rule()
    assert isinstance(rule, PredictiveCoding)
    problem = job.problem(network, data).with_batch_statistics()
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

    return {
        **{field.name: getattr(job, field.name) for field in option_fields(training=False)},
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
        **found.update.record(),
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
        say(console, sentence)
