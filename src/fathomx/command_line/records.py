"""What a run folder holds beside the numbers of training: energies over inference, and a sample."""

from __future__ import annotations

from pathlib import Path

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from fathomx.command_line.job import Job
from fathomx.data import Dataset, Text
from fathomx.graph.network import Network
from fathomx.inference import trace
from fathomx.learning import PredictiveCoding
from fathomx.problem.problem import Problem
from fathomx.sampling.tokens import generate
from fathomx.training.run_folder import write_json, write_text

_SAMPLE_LENGTH = 300
_SAMPLE_TEMPERATURE = 0.8


def record_inference(
    folder: Path, job: Job, data: Dataset, rule: PredictiveCoding, before: Network, after: Network
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


def record_sample(folder: Path, data: Text, network: Network, seed: int) -> str:
    """Text that the network writes, behind a window that it has not been trained on."""
    begin = data.decode(data.validation.inputs[0])
    new = generate(
        network, data.encode(begin), _SAMPLE_LENGTH, jax.random.key(seed), _SAMPLE_TEMPERATURE
    )
    sample = begin + data.decode(new) + "\n"
    write_text(folder / "sample.txt", sample)
    return sample
