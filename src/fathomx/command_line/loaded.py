"""Trained networks in Python: of a run folder, or of a file of arrays."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from fathomx.checks import gate, warn
from fathomx.command_line.job import Job
from fathomx.command_line.session import stored_data, stored_job
from fathomx.command_line.trained import trained_network
from fathomx.data._imagenet import Examples
from fathomx.graph.network import Network
from fathomx.records.errors import RunFolderError
from fathomx.records.run_files import RunFiles, read_config
from fathomx.records.values import PathLike
from fathomx.training.saved import restored


@gate
@dataclasses.dataclass(frozen=True)
class Run:
    """A run of `fathomx train` that has been loaded.

    **Fields**: `network`, with the weights of its end; `data`, the data set that it was trained
    on, in the form that the network reads; `job`, all settings, with `rule()`, `solver()` and
    `problem(network, data)`; `summary`, what `summary.json` says (empty before the run's end).
    """

    network: Network
    data: Examples
    job: Job
    summary: dict[str, Any]


@gate
def load(path: PathLike, network: Network | None = None) -> Run | Network:
    """A run with its trained network, or a network with the weights of a file.

    **Arguments**

    * `path`: the folder of a run of `fathomx train`, or a file that `fx.save` has written.
    * `network`: for a file: the network whose arrays are replaced, built as the saved one was.

    Returns a `Run` with `network`, `data`, `job` and `summary` for a folder, a network for a file.
    Of a run that has not ended it is the network of the last checkpoint, which a warning says.

    Raises `RunFolderError` where there is no run, `CheckpointError` for a run without whole weights
    of its end, `ValueError` for a file without a network to fill or with the arrays of another, and
    `DamagedFileError` for a file that is not one of `fx.save`.

    ```python
    run = fx.load("runs/digits-mlp")
    fx.predict(run.network, run.data.test.inputs)
    network = fx.load("digits.safetensors", network)
    ```
    """
    path = Path(path)
    if path.is_dir():
        if network is not None:
            raise ValueError(
                f"{path} is the folder of a run, which says itself how its network is built; leave "
                "out the network."
            )
        job = stored_job(path)
        data = stored_data(job, path)
        summary = RunFiles(path).summary
        if not summary:
            warn(
                f"the run in {path} has not ended: its network has the weights of its last "
                f"checkpoint; continue it with `fathomx train --resume {path}`."
            )
        return Run(trained_network(job, data, path), data, job, summary)
    if not path.exists():
        raise RunFolderError(
            f"there is nothing at {path}; give the folder of a run, or a file of fx.save."
        )
    if network is None:
        raise ValueError(
            f"{path} is a file, which holds arrays and not how the network is built; give the "
            "network to be filled, too: fx.load(path, network)."
        )
    return restored(path, network)


def ended(folder: Path) -> Run:
    """A run that has ended; `RunFolderError` for another one, or where there is none."""
    if not folder.is_dir():
        raise RunFolderError(f"there is no run folder {folder}; give the folder of a run.")
    read_config(folder)
    if not RunFiles(folder).summary:
        raise RunFolderError(
            f"the run in {folder} has not ended; continue it first, with `fathomx train --resume "
            f"{folder}`."
        )
    run = load(folder)
    assert isinstance(run, Run)
    return run
