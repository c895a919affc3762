"""A training run as its user follows it: begun or continued, printed, recorded and drawn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console

import fathomx
from fathomx.command_line.job import Job
from fathomx.command_line.messages import say
from fathomx.command_line.options import written_options
from fathomx.command_line.records import record_inference, record_sample
from fathomx.data import Dataset, Text
from fathomx.graph.network import Network
from fathomx.learning import PredictiveCoding
from fathomx.report import write_page
from fathomx.training import ProgressBar, RunFolder, fit


def begin_run(folder: Path, job: Job) -> RunFolder:
    """A new run folder with the job, the version and the command that would repeat it."""
    config = {
        **job.config(),
        "fathomx": fathomx.__version__,
        "command": " ".join(["fathomx train", *written_options(job)]),
    }
    return RunFolder.create(folder, config)


@dataclasses.dataclass(frozen=True)
class Session:
    """Where a run prints, under which name, and the command that continues it."""

    console: Console
    name: str
    command: str

    def train(self, job: Job, data: Dataset, network: Network, run: RunFolder) -> None:
        """Trains the network and leaves all of a run folder; Ctrl-C says how to continue."""
        bar = ProgressBar(self.console, self.name)
        rule = job.rule()
        say(
            self.console,
            f"{self.name}: {job.model}, {network.depth} nodes, {job.data} "
            f"({len(data.train.labels)} training examples), {job.learning}"
            + (f" with {job.solver()!r}" if isinstance(rule, PredictiveCoding) else ""),
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
            say(self.console, f"stopped; continue with: fathomx {self.command}")
            raise
        finally:
            bar.close()
            run.close()
        if isinstance(rule, PredictiveCoding):
            record_inference(run.folder, job, data, rule, network, result.network)
        if isinstance(data, Text):
            sample = record_sample(run.folder, data, result.network, job.seed)
            self.console.print(
                f"a sample, begun by {job.context} characters of the validation text:\n{sample}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        write_page(run.folder)
