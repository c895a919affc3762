"""A search in a folder: what is searched, its trials in Optuna's storage, and who takes which."""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

import filelock
from rich.console import Console

from fathomx.checks.names import unknown
from fathomx.command_line.job import Job
from fathomx.command_line.messages import say
from fathomx.command_line.optimization import check_direction
from fathomx.command_line.session import Session, run_config, stored_job
from fathomx.command_line.storage import opened, without_password
from fathomx.command_line.varied import job_with, varied
from fathomx.data._imagenet import Examples
from fathomx.records.errors import DamagedFileError, RunFolderError
from fathomx.records.reading import read_json
from fathomx.records.run_files import RunFiles
from fathomx.records.values import plain
from fathomx.records.writing import appearing, write_json
from fathomx.report.scores import metrics_of
from fathomx.report.sweep import Trial
from fathomx.training import DivergenceError, Observer, RunFolder, TrainingState
from fathomx.training.choosing import EarlyStopping
from fathomx.training.task import Task

_FILE, _NAME = "sweep.json", "fathomx"
# What a study in a database shared with others says of itself.
_SPACE = "fathomx"
# Trials at random before Optuna models them, and before any is ended early.
_AT_RANDOM, _BEFORE_PRUNING = 6, 4


def judged(job: Job, data: Examples, metric: str | None) -> str:
    """The validation score that trials are judged by.

    Raises `ValueError` if there is none of this name, or none that says which direction is better.
    """
    task = Task(data, job.pose, job.scores, job.judged_by)
    found = task.score(job.network(data), "validation")
    known = [name for name, value in found.items() if value is not None]
    if not known:
        raise ValueError(f"data {job.data!r} has no validation part to judge trials by.")
    if metric is None:
        metric = next(iter(metrics_of({f"validation_{name}": 0 for name in known})), "loss")
    metric = metric.replace("-", "_")
    if metric not in known:
        raise ValueError(unknown("metric", metric, known))
    check_direction("metric", metric)
    return metric


@dataclasses.dataclass(frozen=True)
class Search:
    """What is searched, and how trials are taken, by one worker or by several.

    A trial is asked for, and a trial that a killed worker left is taken on, while a file of the
    folder is locked; whoever works at a trial holds a lock of its own until it has told the result.
    The system releases the locks of a process that dies, so that no trial is lost and none is taken
    twice. Several machines need the folder in common, in a file system whose locks hold for all.

    `storage` is the address of a database, in which the study is `named`; a file of the folder if
    there is none.
    """

    folder: Path
    given: dict[str, Any]
    vary: tuple[str, ...]
    trials: int
    score: str
    prune: bool
    storage: str | None
    named: str | None = None

    @classmethod
    def stored(cls, folder: Path) -> Search:
        """That of a folder; `RunFolderError` if there is none."""
        path = folder / _FILE
        if not path.is_file():
            raise RunFolderError(f"{folder} holds no sweep; give the folder of `fathomx sweep`.")
        found = read_json(path, lambda value: None, "put a copy back, or start a new sweep")
        try:
            return cls(folder, **{**found, "vary": tuple(found["vary"])})
        except (TypeError, KeyError):
            raise DamagedFileError(
                f"{path} is damaged; put a copy back, or start a new sweep."
            ) from None

    def write(self, folder: Path) -> None:
        """Writes what `stored` reads."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del own["folder"]
        write_json(folder / _FILE, {**own, "vary": list(self.vary)})

    @property
    def higher(self) -> bool:
        """Whether the higher score is better."""
        return EarlyStopping(1, self.score).is_better(1.0, 0.0)

    @property
    def name(self) -> str:
        """That of the study."""
        return _NAME if self.storage is None else self.named or str(self.folder)

    def begin(self) -> None:
        """Makes the study in the database that was given; one in the folder is made when needed.

        Raises `ValueError` if the database cannot be reached, or holds a study of this name.
        """
        if self.storage is None:
            return
        study = self._study(opened(self.storage))
        own, found = self._space, study.user_attrs.get(_SPACE)
        # One without trials is what is left where making the folder did not succeed.
        if found in (None, own) and not study.get_trials(deepcopy=False):
            study.set_user_attr(_SPACE, own)
            return
        raise ValueError(
            f"the storage {without_password(self.storage)!r} holds a study {self.name!r} already, "
            f"{_of(found, own)}; give --study another name, or go on with its folder by --resume."
        )

    def study(self) -> Any:
        """Optuna's study of the sweep.

        Raises `RunFolderError` if it is not in the database, or is of another search.
        """
        if self.storage is None:
            path = (self.folder / "sweep.db").absolute()
            with filelock.FileLock(self.folder / ".ask.lock"):
                return self._study(opened(f"sqlite:///{path}"))
        study, own = self._study(opened(self.storage), begun=True), self._space
        found = study.user_attrs.get(_SPACE, own)
        if found != own:
            raise RunFolderError(
                f"the study {self.name!r} in the storage {without_password(self.storage)!r} is not "
                f"that of {self.folder} but {_of(found, own)}; begin a sweep in a new folder."
            )
        return study

    @property
    def _space(self) -> dict[str, Any]:
        """What tells searches apart."""
        return plain({"vary": list(self.vary), "given": self.given, "score": self.score})

    def _study(self, storage: Any, *, begun: bool = False) -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruners = optuna.pruners
        median = pruners.MedianPruner(_BEFORE_PRUNING, n_warmup_steps=1)
        pruner = median if self.prune else pruners.NopPruner()
        if begun:
            try:
                return optuna.load_study(storage=storage, study_name=self.name, pruner=pruner)
            except KeyError:
                raise RunFolderError(
                    f"the storage {without_password(self.storage or '')!r} holds no study "
                    f"{self.name!r}, in which {self.folder} keeps its trials; put it back, or "
                    "begin a sweep in a new folder."
                ) from None
        return optuna.create_study(
            storage=storage,
            study_name=self.name,
            direction="maximize" if self.higher else "minimize",
            pruner=pruner,
            load_if_exists=True,
        )

    def work(self, study: Any, console: Console) -> None:
        """Takes trials until none is left to take."""
        while (taken := self._taken(study)) is not None:
            trial, claim = taken
            try:
                self._run(trial, study, console)
            finally:
                claim.release()

    def rows(self, study: Any) -> list[Trial]:
        """What there is to say of all trials."""
        return [
            Trial(
                trial.number,
                _folder_name(trial.number),
                trial.state.name.lower(),
                None if trial.value is None else float(trial.value),
                dict(trial.params),
            )
            for trial in study.get_trials(deepcopy=False)
        ]

    def best(self, rows: list[Trial]) -> Trial | None:
        """The trial of the best score among those that went to their end."""
        ended = [row for row in rows if row.state == "complete" and row.value is not None]
        sign = 1 if self.higher else -1
        return max(ended, key=lambda row: sign * (row.value or 0.0), default=None)

    def job(self, name: str, values: dict[str, Any]) -> Job:
        """That of a trial: as it was begun, also where defaults have changed since."""
        begun = (self.folder / name / "config.json").exists()
        return stored_job(self.folder / name) if begun else job_with(self.given, values)

    def _taken(self, study: Any) -> tuple[Any, filelock.BaseFileLock] | None:
        """A trial that nobody works at, or a new one; with its claim."""
        import optuna

        with filelock.FileLock(self.folder / ".ask.lock"):
            known = study.get_trials(deepcopy=False)
            for trial in known:
                if trial.state == optuna.trial.TrialState.RUNNING:
                    claim = self._claim(trial.number)
                    if claim is not None:
                        return optuna.trial.Trial(study, trial._trial_id), claim
            if len(known) >= self.trials:
                return None
            # Of its own for every trial, so that a sweep by one worker can be repeated.
            seed = int(self.given.get("seed", 0)) + len(known)
            study.sampler = optuna.samplers.TPESampler(
                n_startup_trials=_AT_RANDOM, seed=seed, constant_liar=True
            )
            asked = study.ask()
            claim = self._claim(asked.number)
            assert claim is not None
            return asked, claim

    def _claim(self, number: int) -> filelock.BaseFileLock | None:
        lock = filelock.FileLock(self.folder / f".{_folder_name(number)}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return None
        return lock

    def _run(self, trial: Any, study: Any, console: Console) -> None:
        """Trains a trial, from where it is, and tells what came out."""
        import optuna

        values = {s.name: s.suggested(trial) for s in (varied(t, ranges=True) for t in self.vary)}
        name = _folder_name(trial.number)
        folder = self.folder / name
        said = ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                         for key, value in values.items())  # fmt: skip
        begun = (folder / "config.json").exists()
        say(console, f"{name}: {'gone on with: ' if begun else ''}{said}")
        job = self.job(name, values)
        whole = job.load()
        # The test part is for the network that is chosen at the end.
        data = whole.with_parts(whole.name, {"test": None})
        if not begun:
            with appearing(folder) as unfinished:
                RunFolder.prepare(unfinished, run_config(job, whole))
        watching = _Reporting(trial, f"validation_{self.score}")
        session = Session(console, name, f"sweep --resume {self.folder}", (watching,))
        try:
            session.go_on(job, data, job.network(data), folder)
        except DivergenceError as error:
            say(console, f"{name}: {error}")
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            return
        summary = RunFiles(folder).summary
        value = summary.get(f"validation_{self.score}")
        if value is None or not math.isfinite(value):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        elif str(summary.get("ended") or "") == _PRUNED:
            study.tell(trial.number, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial.number, float(value))


_PRUNED = "its validation was worse than the median of other trials"


class _Reporting(Observer):
    """Reports validation to Optuna after every epoch, and ends a trial that it gives up."""

    keeps = False

    def __init__(self, trial: Any, score: str) -> None:
        self._trial, self._score = trial, score

    def epoch_ended(self, record: dict[str, Any], state: TrainingState) -> None:
        value = record.get(self._score)
        if value is not None:
            with warnings.catch_warnings():
                # An epoch that a killed worker had reported counts as it was.
                warnings.simplefilter("ignore")
                self._trial.report(float(value), int(record["epoch"]))

    def stop(self, history: list[dict[str, Any]]) -> str | None:
        return _PRUNED if self._trial.should_prune() else None


def _folder_name(number: int) -> str:
    return f"trial-{number:04d}"


def _of(found: dict[str, Any] | None, own: dict[str, Any]) -> str:
    """What there is to say of another study."""
    if found is None:
        return "made by another program"
    if found == own:
        return "of the same search"
    varied = " ".join(f"--vary {text}" for text in found.get("vary", ()))
    return f"of another search ({varied}, by validation {found.get('score')})"
