"""Observers that hand a run to TensorBoard, Weights & Biases or MLflow."""

from __future__ import annotations

import abc
import contextlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fathomx import checks
from fathomx.checks import gate
from fathomx.drawing.style import MissingMatplotlibError, line, new_figure
from fathomx.training.observer import Observer, Plan, TrainingState

# One number for each step, by their names in the records.
_OF_STEPS = ("loss", "accuracy", "unsettled_median", "unsettled_max", "strength")
_OF_EPOCHS = ("validation_", "pc_strength", "cosine_to_backprop", "imbalance", "train_")
# What MLflow takes in one call.
_MOST_AT_ONCE = 1000

Row = tuple[int, Mapping[str, float]]


@gate
class Tracker(Observer, abc.ABC):
    """What all trackers share: which numbers and pictures of a run are handed on, and when.

    * every step: `train/loss`, `train/accuracy`, `train/unsettled_median`, `train/unsettled_max`,
      `train/strength`, where there are such;
    * every epoch: the scores of validation as `validation/loss` and so on; `epoch/pc_strength`,
      `epoch/cosine_to_backprop`, `epoch/imbalance`, `epoch/train_loss`, `epoch/train_accuracy`;
      and the energy of every node as a picture, `energy_per_node`, where matplotlib is installed;
    * notes as texts; the configuration at the start; the numbers of the summary at the end.

    Steps are counted over the whole run, so that a resumed run goes on where it was.

    **Arguments**

    * `configuration`: plain values by name that say how the run was configured, such as
      `{"depth": 64}`.
    * `artifacts`: paths of files that are handed on at the end, where they are there by then, such
      as those of a run folder whose observer comes first.
    """

    keeps = False

    def __init__(
        self, configuration: Mapping[str, Any] | None = None, artifacts: Sequence[Any] = ()
    ) -> None:
        self.configuration = dict(configuration or {})
        given = checks.items("artifacts", artifacts, "['summary.json']")
        self.artifacts = [Path(checks.path("artifacts", path, "summary.json")) for path in given]
        self._plan: Plan | None = None

    @abc.abstractmethod
    def begin(self, position: int) -> None:
        """Opens the run; `position` steps of it have been taken, later ones are forgotten."""

    @abc.abstractmethod
    def scalars(self, rows: Sequence[Row]) -> None:
        """Takes finite numbers by name, at steps in their order."""

    @abc.abstractmethod
    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Takes a picture, uint8 `(height, width, 3)`."""

    @abc.abstractmethod
    def text(self, name: str, content: str, step: int) -> None:
        """Takes a sentence."""

    @abc.abstractmethod
    def artifact(self, path: Path) -> None:
        """Takes a file, such as the page or the weights of a run."""

    @abc.abstractmethod
    def end(self, ended: bool) -> None:
        """Closes the run: it has ended, or was stopped or failed."""

    def started(self, plan: Plan, state: TrainingState) -> None:
        self._plan = plan
        self.begin(self._position(state))

    def stepped(self, record: dict[str, Any], state: TrainingState) -> None:
        last = (record["epoch"] - 1) * self._steps + record["step"]
        rows = {name: record[name] for name in _OF_STEPS if name in record}
        count = max((len(values) for values in rows.values()), default=0)
        self._hand(
            [
                (last - count + 1 + at, {f"train/{name}": row[at] for name, row in rows.items()})
                for at in range(count)
            ]
        )

    def noted(self, record: dict[str, Any]) -> None:
        self.text(record["about"], record["text"], (record["epoch"] - 1) * self._steps)

    def epoch_ended(self, record: dict[str, Any], state: TrainingState) -> None:
        step = record["steps"]
        found = {}
        for name, value in record.items():
            kind = next((begin for begin in _OF_EPOCHS if name.startswith(begin)), None)
            if kind == "validation_":
                found[f"validation/{name.removeprefix(kind)}"] = value
            elif kind is not None:
                found[f"epoch/{name}"] = value
        self._hand([(step, found)])
        if record.get("energy_per_node") is not None:
            with contextlib.suppress(MissingMatplotlibError):
                energy = np.asarray(record["energy_per_node"], float)
                self.picture("energy_per_node", _drawn(energy, record["epoch"]), step)

    def finished(self, summary: dict[str, Any], state: TrainingState) -> None:
        found = {f"summary/{name}": value for name, value in summary.items()}
        self._hand([(self._position(state), found)])
        for path in self.artifacts:
            if path.is_file():
                self.artifact(path)
        self.end(True)

    def interrupted(self, state: TrainingState) -> None:
        self.end(False)

    def failed(self) -> None:
        self.end(False)

    @property
    def _steps(self) -> int:
        return self._plan.steps_per_epoch if self._plan is not None else 0

    def _position(self, state: TrainingState) -> int:
        return int(state.epoch) * self._steps + int(state.step)

    def _hand(self, rows: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        """Hands on what is a finite number."""
        finite = [
            (step, {k: float(v) for k, v in row.items() if _is_number(v) and math.isfinite(v)})
            for step, row in rows
        ]
        self.scalars([(step, row) for step, row in finite if row])


class TensorBoard(Tracker):
    """Writes event files that `tensorboard --logdir FOLDER` shows; needs `tensorboardX`.

    A run that goes on from a checkpoint writes to the same folder; what was written after the
    checkpoint is hidden.

    **Arguments**: `folder` of the event files, made if it is not there; `configuration` and
    `artifacts`, as in `Tracker`.

    Raises `ImportError` if `tensorboardX` is not installed.

    ```python
    fx.fit(network, data, observers=[fx.training.TensorBoard("runs/board")])
    ```
    """

    def __init__(
        self,
        folder: Any,
        configuration: Mapping[str, Any] | None = None,
        artifacts: Sequence[Any] = (),
    ) -> None:
        super().__init__(configuration, artifacts)
        self.folder = Path(checks.path("folder", folder, "runs/board"))
        require("tensorboardX", "TensorBoard")
        self._writer: Any = None

    def begin(self, position: int) -> None:
        from tensorboardX import SummaryWriter

        # Files are named after the second they were begun in; the suffix keeps them apart.
        self._writer = SummaryWriter(
            str(self.folder),
            purge_step=position + 1 if position else None,
            filename_suffix=f".{position}",
        )
        if self.configuration and not position:
            rows = "\n".join(f"| {k} | {v} |" for k, v in self.configuration.items())
            self._writer.add_text("configuration", f"| name | value |\n|---|---|\n{rows}", 0)

    def scalars(self, rows: Sequence[Row]) -> None:
        for step, values in rows:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def text(self, name: str, content: str, step: int) -> None:
        self._writer.add_text(f"notes/{name}", content, step)

    def artifact(self, path: Path) -> None:
        """TensorBoard keeps no files: says where it is."""
        self._writer.add_text("artifacts", str(path), 0)

    def end(self, ended: bool) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class WeightsAndBiases(Tracker):
    """Logs to Weights & Biases; needs `wandb`.

    Without a network, `WANDB_MODE=offline` (or `mode="offline"`) keeps the run in `folder`, from
    where `wandb sync` sends it later. To continue a run, give its name as `run` again.

    **Arguments**

    * `project`: of Weights & Biases.
    * `configuration`, `artifacts`: as in `Tracker`.
    * `run`: a name of letters, digits, `-` and `_`, by which the run is continued; one is made up
      unless given.
    * `folder`: where `wandb` keeps its files.
    * `mode`: `"online"`, `"offline"` or `"disabled"`; that of `WANDB_MODE` unless given.

    Raises `ImportError` if `wandb` is not installed.

    ```python
    tracker = fx.training.WeightsAndBiases("pcn", {"depth": 64}, mode="offline")
    fx.fit(network, data, observers=[tracker])
    ```
    """

    def __init__(
        self,
        project: str,
        configuration: Mapping[str, Any] | None = None,
        artifacts: Sequence[Any] = (),
        *,
        run: str | None = None,
        folder: Any = ".",
        mode: str | None = None,
    ) -> None:
        super().__init__(configuration, artifacts)
        self.project = checks.word("project", project, "pcn")
        self.run = run
        self.folder = Path(checks.path("folder", folder, "runs"))
        if mode is not None:
            checks.choice("mode", mode, ("online", "offline", "disabled"))
        self.mode = mode
        require("wandb", "Weights & Biases")
        self._run: Any = None

    def begin(self, position: int) -> None:
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(silent=True, console="off")
        wandb.setup(quiet)
        self._run = wandb.init(
            project=self.project,
            id=self.run,
            dir=str(self.folder),
            mode=self.mode,  # type: ignore[arg-type]
            config=self.configuration,
            resume="allow" if self.run is not None else None,
            settings=quiet,
        )

    def scalars(self, rows: Sequence[Row]) -> None:
        for step, values in rows:
            self._run.log(dict(values), step=step)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        import wandb

        self._run.log({name: wandb.Image(pixels)}, step=step)

    def text(self, name: str, content: str, step: int) -> None:
        self._run.summary[f"notes/{name}"] = content

    def artifact(self, path: Path) -> None:
        self._run.save(str(path), base_path=str(path.parent), policy="now")

    def end(self, ended: bool) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if ended else 1)
            self._run = None


class MLflow(Tracker):
    """Logs to an MLflow store; needs `mlflow` (or `mlflow-skinny` with `sqlalchemy`).

    **Arguments**

    * `store`: address of a tracking server or a database, such as `"sqlite:///mlflow.db"`; that of
      `MLFLOW_TRACKING_URI`, else this one, unless given.
    * `experiment`: its name in the store, made if it is not there.
    * `configuration`, `artifacts`: as in `Tracker`.
    * `run`: the identifier of a run that is continued; a new one unless given. It is `run` of this
      object once training has begun.

    Raises `ImportError` if `mlflow` is not installed, and `ConnectionError` if the store cannot be
    reached.

    ```python
    fx.fit(network, data, observers=[fx.training.MLflow("sqlite:///mlflow.db", "pcn")])
    ```
    """

    def __init__(
        self,
        store: str | None = None,
        experiment: str = "fathomx",
        configuration: Mapping[str, Any] | None = None,
        artifacts: Sequence[Any] = (),
        *,
        run: str | None = None,
    ) -> None:
        super().__init__(configuration, artifacts)
        self.store = store
        self.experiment = checks.word("experiment", experiment, "fathomx")
        self.run = run
        require("mlflow", "MLflow")
        self._client: Any = None

    def begin(self, position: int) -> None:

        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        store = self.store or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        try:
            self._client = MlflowClient(tracking_uri=store)
            found = self._client.get_experiment_by_name(self.experiment)
            if self.run is None:
                place = found.experiment_id if found else None
                place = place or self._client.create_experiment(self.experiment)
                self.run = self._client.create_run(place).info.run_id
            else:
                self._client.update_run(self.run, "RUNNING")
        except (MlflowException, OSError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ConnectionError(
                f"the MLflow store {store} cannot be used ({first.rstrip('.')}); give the address "
                "of a server that runs, or a database such as 'sqlite:///mlflow.db'."
            ) from None
        if not position:
            for name, value in self.configuration.items():
                self._client.log_param(self.run, name, value)

    def scalars(self, rows: Sequence[Row]) -> None:

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        found = [Metric(name, value, now, at) for at, row in rows for name, value in row.items()]
        for begin in range(0, len(found), _MOST_AT_ONCE):
            self._client.log_batch(self.run, metrics=found[begin : begin + _MOST_AT_ONCE])

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        self._client.log_image(self.run, pixels, f"{name}_{step:08d}.png")

    def text(self, name: str, content: str, step: int) -> None:
        self._client.set_tag(self.run, f"note.{name}", content)

    def artifact(self, path: Path) -> None:
        self._client.log_artifact(self.run, str(path))

    def end(self, ended: bool) -> None:
        if self._client is not None:
            self._client.set_terminated(self.run, "FINISHED" if ended else "KILLED")
            self._client = None


def require(module: str, what: str) -> None:
    """Raises `ImportError` if what a tracker hands a run to is not installed."""
    if find_spec(module) is None:
        raise ImportError(f'{what} needs {module}; pip install "fathomx[trackers]".')


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _drawn(energy: np.ndarray, epoch: int) -> np.ndarray:
    """The energy of every node, on a logarithmic axis."""
    figure, (axes,) = new_figure(3.2)
    nodes = np.arange(1, len(energy) + 1)
    line(axes, nodes, np.where(energy > 0, energy, np.nan), marker="o", markersize=3)
    axes.set_yscale("log")
    axes.set_xlabel("node, from input to output")
    axes.set_ylabel("energy, mean over the batch")
    axes.set_title(f"Energy of each node after epoch {epoch}", fontsize=10)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
