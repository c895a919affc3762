"""What a finished run holds beside the numbers of training: inference, a sample, the page."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from fathomx.command_line.job import Job
from fathomx.command_line.sources import task_of
from fathomx.data import Dataset, Text
from fathomx.data._imagenet import Examples
from fathomx.data._table_files import target_columns
from fathomx.graph.network import Network
from fathomx.inference import trace
from fathomx.learning import PredictiveCoding
from fathomx.problem.energies import predict
from fathomx.problem.problem import Problem
from fathomx.records.errors import DamagedFileError
from fathomx.records.pictures import FILE as PICTURES
from fathomx.records.pictures import write_pictures
from fathomx.records.predictions import FILE as PREDICTIONS
from fathomx.records.predictions import Predictions, write_predictions
from fathomx.records.run_files import RunFiles
from fathomx.records.writing import write_json, write_text
from fathomx.report import wanted_figures, write_page
from fathomx.sampling.tokens import generate

_SAMPLE_LENGTH = 300
_PREDICTED = 2000
_SAMPLE_TEMPERATURE = 0.8
_INFERENCE, _SAMPLE, _PAGE = "inference.json", "sample.txt", "index.html"
# How whole files begin and end.
_ENDS = {
    ".png": (b"\x89PNG\r\n", b"IEND\xaeB`\x82"),
    ".html": (b"<!doctype html>", b"</html>\n"),
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a run in a folder, which is completed at once or after an interruption."""

    folder: Path
    job: Job
    data: Examples

    def lacking(self) -> list[str]:
        """The files that a finished run has and this one has not, or not whole."""
        wanted = [_PAGE]
        if isinstance(self.job.rule(), PredictiveCoding):
            wanted.insert(0, _INFERENCE)
        if isinstance(self.data, Text):
            wanted.insert(0, _SAMPLE)
        if self.job.generative is not None:
            wanted.insert(0, PICTURES)
        if task_of(self.data) == "regression":
            wanted.insert(0, PREDICTIONS)
        lacking = [name for name in wanted if not self._is_whole(name)]
        if not lacking and importlib.util.find_spec("matplotlib"):
            figures = (f"figures/{name}" for name in wanted_figures(self.folder))
            lacking = [name for name in figures if not self._is_whole(name)]
        return lacking

    def complete(self, before: Network, after: Network) -> None:
        """Makes what is lacking, the page last; from the networks before and after training."""
        lacking = self.lacking()
        rule = self.job.rule()
        if _INFERENCE in lacking and isinstance(rule, PredictiveCoding):
            self._record_inference(rule, before, after)
        if _SAMPLE in lacking and isinstance(self.data, Text):
            self._record_sample(self.data, after)
        if PICTURES in lacking and self.job.generative is not None:
            imagery, key = self.job.generative.imagery, jax.random.key(self.job.seed)
            assert isinstance(self.data, Dataset)
            write_pictures(self.folder, imagery.panels(after, self.data, key))
        if PREDICTIONS in lacking:
            self._record_predictions(after)
        if lacking:
            write_page(self.folder)

    def _is_whole(self, name: str) -> bool:
        path = self.folder / name
        if not path.is_file():
            return False
        if name in (_INFERENCE, PICTURES, PREDICTIONS):
            run = RunFiles(self.folder)
            held = {_INFERENCE: "inference", PICTURES: "pictures", PREDICTIONS: "predictions"}
            try:
                return bool(getattr(run, held[name]))
            except DamagedFileError:
                return False
        begin, end = _ENDS.get(path.suffix, (b"", b"\n"))
        content = path.read_bytes()
        return bool(content) and content.startswith(begin) and content.endswith(end)

    def _record_inference(self, rule: PredictiveCoding, before: Network, after: Network) -> None:
        """Energies per node over inference steps on one batch, before and after training."""

        def energies(network: Network) -> Array:
            problem = self.job.problem(network, self.data)
            return _energies_over_inference(problem, rule, jax.random.key(self.job.seed))

        write_json(
            self.folder / _INFERENCE,
            {
                "labels": list(before.labels),
                "solver": repr(rule.solver),
                "before": {"energy": energies(before)},
                "after": {"energy": energies(after)},
            },
        )

    def _record_predictions(self, network: Network) -> None:
        """Predictions of the first validation examples beside their targets, in their units."""
        arrays = {name: a[:_PREDICTED] for name, a in self.data.arrays("validation").items()}
        mean = jax.vmap(network.output.energy.expected)(predict(network, arrays["input"]))
        ends = arrays["output"], np.asarray(mean)
        if self.data.preparation is not None and "output" in self.data.preparation.scales:
            scale = self.data.preparation.scales["output"]
            ends = scale.raw(ends[0]), scale.raw(ends[1])
        names = target_names(self.job, ends[0].shape[1])
        write_predictions(self.folder, Predictions("validation", names, *ends))

    def _record_sample(self, data: Text, network: Network) -> None:
        """Text that the network writes, behind a window that it has not been trained on."""
        begin = data.validation.inputs[0]
        key = jax.random.key(self.job.seed)
        new = generate(network, begin, _SAMPLE_LENGTH, key, _SAMPLE_TEMPERATURE)
        write_text(self.folder / _SAMPLE, data.decode(np.concatenate([begin, new])) + "\n")


def target_names(job: Job, count: int) -> tuple[str, ...]:
    """The names of the real values that a job predicts."""
    names = target_columns(job.target or "")
    if names:
        return tuple(names)
    return ("target",) if count == 1 else tuple(f"target {n}" for n in range(1, count + 1))


@eqx.filter_jit
def _energies_over_inference(problem: Problem, rule: PredictiveCoding, key: PRNGKeyArray) -> Array:
    prepared, _, _ = rule.prepare(problem, key)
    energies: Array = trace(prepared, rule.solver, key=key)[1]
    return energies.mean(axis=-1)
