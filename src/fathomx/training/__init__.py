"""Training: the loop, its observers, checkpoints and run folders."""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

from fathomx.graph.processes import ProcessError as ProcessError
from fathomx.records.errors import DamagedFileError as DamagedFileError
from fathomx.records.errors import RunFolderError as RunFolderError
from fathomx.training.checkpoints import CheckpointError as CheckpointError
from fathomx.training.choosing import EarlyStopping as EarlyStopping
from fathomx.training.fit import FitResult as FitResult
from fathomx.training.fit import fit as fit
from fathomx.training.notebook import NotebookBar as NotebookBar
from fathomx.training.observer import Observer as Observer
from fathomx.training.observer import Plan as Plan
from fathomx.training.observer import TrainingState as TrainingState
from fathomx.training.run import DivergenceError as DivergenceError
from fathomx.training.run_folder import RunFolder as RunFolder
from fathomx.training.together import fit_together as fit_together
from fathomx.training.trackers import MLflow as MLflow
from fathomx.training.trackers import TensorBoard as TensorBoard
from fathomx.training.trackers import Tracker as Tracker
from fathomx.training.trackers import WeightsAndBiases as WeightsAndBiases

if _TYPE_CHECKING:
    from fathomx.training.progress import ProgressBar as ProgressBar


def __getattr__(name: str) -> object:
    """`ProgressBar`, whose imports are heavy."""
    if name == "ProgressBar":
        return _importlib.import_module("fathomx.training.progress").ProgressBar
    raise AttributeError(f"module 'fathomx.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "ProgressBar"})
