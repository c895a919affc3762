"""`--track`: to whom a run is handed while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fathomx.command_line.options import Decorator
from fathomx.training import MLflow, TensorBoard, Tracker, WeightsAndBiases

_ARTIFACTS = ("config.json", "summary.json", "metrics.jsonl")
_Configuration = dict[str, Any]

_TRACKERS: dict[str, Callable[[Path, _Configuration, list[Path]], Tracker]] = {
    "tensorboard": lambda folder, configuration, files: TensorBoard(
        folder / "tensorboard", configuration, files
    ),
    "wandb": lambda folder, configuration, files: WeightsAndBiases(
        "fathomx", configuration, files, run=_word(folder), folder=folder
    ),
    "mlflow": lambda folder, configuration, files: MLflow(None, "fathomx", configuration, files),
}

track_option: Decorator = click.option(
    "--track",
    "trackers",
    type=click.Choice(tuple(_TRACKERS)),
    multiple=True,
    help="Hand the run to TensorBoard (in the run folder), Weights & Biases (project fathomx; "
    "WANDB_MODE=offline without a network) or MLflow (MLFLOW_TRACKING_URI, else mlflow.db); may be "
    'repeated. Needs `pip install "fathomx[trackers]"`.',
)


def tracked(
    names: tuple[str, ...], folder: Path, configuration: _Configuration
) -> tuple[Tracker, ...]:
    """The trackers of these names, of the run in a folder."""
    files = [folder / name for name in _ARTIFACTS]
    return tuple(_TRACKERS[name](folder, configuration, files) for name in dict.fromkeys(names))


def _word(folder: Path) -> str:
    """A name for Weights & Biases, the same whenever the run in this folder goes on."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in folder.name)
