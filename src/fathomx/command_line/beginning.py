"""What a run begins with: new weights, or those that another run has learned."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from fathomx.command_line.job import Job
from fathomx.command_line.loaded import ended
from fathomx.command_line.session import stored_job
from fathomx.command_line.settings import option_fields, option_name
from fathomx.data import DataError
from fathomx.data._imagenet import Examples
from fathomx.graph.network import Network
from fathomx.records.errors import DamagedFileError, RunFolderError
from fathomx.records.run_files import read_config
from fathomx.training import CheckpointError
from fathomx.training.saved import save, transferred, weights_sha256

FILE = "source.safetensors"
_SHA256 = "source_sha256"
# What may be another than in the run that weights are from.
_FREE = ("data", "image_size")


def job_of(given: dict[str, Any]) -> Job:
    """The job of what was given, whose other options are those of the run that it begins with.

    Raises `ValueError` for options of the network, which that run says itself.
    """
    source = given.get("source")
    if source is None or not Path(source).is_dir():
        return Job(**given)
    fixed = [
        f"--{option_name(field)}"
        for field in option_fields(training=True)
        if field.metadata["network"] and field.name in given and field.name not in _FREE
    ]
    if fixed:
        raise ValueError(
            f"--from takes the network from the run in {source}; leave out {' and '.join(fixed)}."
        )
    return stored_job(Path(source)).continued(**given)


def keep(source: str, folder: Path) -> dict[str, str]:
    """Writes the weights of a run, or of a file, into a new run folder; returns their SHA-256.

    Raises `RunFolderError` where there are none, and `DamagedFileError` for another file.
    """
    path = Path(source)
    if path.is_file():
        weights_sha256(path)
        shutil.copyfile(path, folder / FILE)
    else:
        save(ended(path).network, folder / FILE)
    return {_SHA256: weights_sha256(folder / FILE)}


def begun(job: Job, data: Examples, folder: Path) -> tuple[Network, tuple[str, ...]]:
    """The network that the run in a folder begins with, and the entries whose weights are new.

    Raises `DamagedFileError` for a copy that is not what the run began with, and `ValueError` for
    weights of another network.
    """
    path = folder / FILE
    if job.source is not None and weights_sha256(path) != read_config(folder).get(_SHA256):
        raise DamagedFileError(
            f"{path} does not hold the weights that the run began with; put a copy back, or start "
            "a new run."
        )
    return filled(job, data, folder)


def filled(job: Job, data: Examples, folder: Path) -> tuple[Network, tuple[str, ...]]:
    """The network of a job with what it begins with, where a folder holds that; what is new."""
    network = job.network(data)
    if job.source is None:
        return network, ()
    path = folder / FILE
    network, anew = transferred(path, network, lambda name: _is_end(network, name))
    for name in anew:
        if name in job.frozen:
            raise ValueError(
                f"{name!r} has another size than in {job.source}, so that its weights are new and "
                "have to learn; leave it out of --freeze."
            )
    return network, anew


def source_has_changed(job: Job, folder: Path) -> bool:
    """Whether what a run began with is still there and holds other weights by now."""
    if job.source is None:
        return False
    with (
        contextlib.suppress(RunFolderError, CheckpointError, DataError, ValueError, ImportError),
        tempfile.TemporaryDirectory() as place,
    ):
        now = keep(job.source, Path(place))
        return now[_SHA256] != read_config(folder).get(_SHA256)
    return False


def _is_end(network: Network, name: str) -> bool:
    """Whether an entry or a feedback is the output, or reads or predicts an end of the network."""
    ends = {network.output.name, *(root.name for root in network.roots)}
    of = getattr(network.predictor(name), "of", name)
    return of in ends or bool(ends & set(network.parents[name]))
