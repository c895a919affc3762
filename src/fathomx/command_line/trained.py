"""The trained network of a run folder, with the weights of its newest checkpoint."""

from __future__ import annotations

from pathlib import Path

import jax

from fathomx.command_line.job import Job
from fathomx.data._imagenet import Examples
from fathomx.graph.network import Network
from fathomx.records.run_files import RunFiles
from fathomx.training import CheckpointError, TrainingState
from fathomx.training.checkpoints import Checkpoints


def trained_network(job: Job, data: Examples, folder: Path) -> Network:
    """The network of the job that a run folder holds.

    Raises `CheckpointError` without weights, and where the newest are damaged or gone: older ones
    are not those of the run's end.
    """
    network = job.network(data)
    optimizer = job.rule().init_optimizer(job.optimizer_for(data), network)
    fresh = TrainingState.begun(
        network,
        optimizer,
        jax.random.key(job.seed),
        average=job.average is not None,
        best=job.stopping is not None,
    )
    found = None
    if (folder / "checkpoints").is_dir():
        checkpoints = Checkpoints(folder / "checkpoints")
        try:
            found = checkpoints.restore(fresh)
        finally:
            checkpoints.close()
    if found is None:
        raise CheckpointError(
            f"{folder} holds no checkpoint, so there are no trained weights; give the "
            "folder of a run that was trained, or train it again."
        )
    trained = RunFiles(folder).summary.get("epochs") or 0
    gone = int(found.state.epoch) < trained
    if found.notes or gone:
        last = f"the last checkpoint in {folder} is gone"
        damage = found.notes[0].partition("; ")[0] if found.notes else last
        raise CheckpointError(
            f"{damage}; delete summary.json there, if there is one, and continue with `fathomx "
            f"train --resume {folder}` to train its last steps again."
        )
    return found.state.result
