"""One run of training in progress: its epochs, its records, what stops it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from fathomx.checks import warn
from fathomx.graph.mesh import Mesh
from fathomx.graph.network import Network
from fathomx.graph.statistics import parameter_count
from fathomx.learning import Learner, StepReport
from fathomx.records.values import numbers, plain
from fathomx.training.advance import MOST_STEPS, Advance, step_memory
from fathomx.training.choosing import certified
from fathomx.training.devices import mesh_for
from fathomx.training.feed import Feed, Load, feed
from fathomx.training.likeness import rates_of, without_rates
from fathomx.training.observer import Best, Observer, Plan, TrainingState, copied
from fathomx.training.parts import squared_lengths
from fathomx.training.probe import probe
from fathomx.training.programs import Asking, Call, Program, answered
from fathomx.training.signals import held_back, stopped_together
from fathomx.training.task import Task
from fathomx.training.watch import Watch, expected

# Keeps the run's random numbers apart from those of weights that were drawn from the same seed.
_RUN = 1_000_003
_SECONDS_PER_DISPATCH = 0.5


class DivergenceError(ArithmeticError):
    """Training left the finite numbers; the message names the node, the step and a remedy."""


class Run:
    """One run in progress."""

    def __init__(
        self,
        network: Network,
        task: Task,
        learner: Learner,
        plan: Plan,
        seed: int,
        observers: Sequence[Observer],
        mesh: Mesh | None = None,
        shared: Feed | None = None,
    ) -> None:
        self.task, self.plan, self.observers = task, plan, observers
        self.seed = seed
        self.mesh = mesh_for(network, learner.rule, plan.batch_size) if mesh is None else mesh
        self.mesh.check(network, plan.batch_size)
        self.processes = self.mesh.processes
        key = jax.random.fold_in(jax.random.key(seed), _RUN)
        self.feed = feed(task, network, plan, self.mesh) if shared is None else shared
        self.together = 1
        self._meet: Callable[[], None] = lambda: None
        self.probe = self.mesh.parts(self.feed.first)
        self.posed = task.pose(network, self.feed.first)
        choices = plan.choices
        fresh = TrainingState.begun(
            network,
            learner.begin(network),
            key,
            average=choices.average is not None,
            best=choices.early_stopping is not None,
        )
        fresh = fresh.at_place(self.feed.place)
        self.state = fresh
        self.earlier_seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = []
        self.lost: tuple[str, ...] = ()
        self.validated = 0
        known: tuple[str, ...] = ()
        for observer in observers:
            restored = observer.restore(fresh)
            if restored is not None:
                self.state = restored.state
                self.history, self.records = restored.history, restored.records
                self.earlier_seconds = restored.seconds
                self.lost, known = restored.notes, restored.known
                self.validated = restored.validated
        self.watch = Watch(self.posed, (*known, *expected(self.posed, learner.rule)))
        # Steps take the memory of what they replace, which may be the caller's until here.
        self.state = self.mesh.whole(self.state).kept()
        self.begun = self.mesh.whole(fresh.network)
        augmentation = task.data.augmentation
        self._rates = self.mesh.whole([jnp.asarray(r) for r in rates_of(learner.optimizer)])
        # The step takes its rates as an input; those of solvers inside of rules are part of it.
        learner = Learner(learner.rule, without_rates(learner.optimizer), learner.pose)
        self._advance = Advance(
            learner,
            plan.steps_per_epoch,
            augmentation,
            self.mesh,
            choices.average,
            choices.certify,
        )
        # Which of a step's scores say something.
        self.scored = ("loss", "accuracy") if task.by_classes(network) else ("loss",)
        self.memory: int | None = None
        self.step_seconds: list[float] = []
        self.first_step_seconds: float | None = None

    def train(self) -> tuple[Network, list[dict[str, Any]], dict[str, Any]]:
        """The network, the record of every epoch and the summary."""
        with self.processes.watched(), stopped_together(self.processes) as self._meet:
            return answered(self.training())

    def training(self) -> Asking[tuple[Network, list[dict[str, Any]], dict[str, Any]]]:
        """`train`, by calls, which may be answered for several runs at once."""
        begun = time.perf_counter()
        self._tell("started", self.plan, self.state)
        for text in self.lost:
            self._note(text, "files")
        replayed = self.feed.begin(self.state)
        if replayed is not None:
            self._note(replayed, "stream")
        while int(self.state.epoch) < self.plan.epochs and self._ending() is None:
            yield from self._epoch()
        train_seconds = self.earlier_seconds + self._share(begun)
        # A network whose weights are divided may be too large for one device.
        result = self.mesh.divided(self.state.result)
        held = result if self.mesh.divides_weights else self.mesh.gathered(result)
        scores = self.processes.agreed((yield from self.task.scoring(held, "test")))
        self.state = self.mesh.gathered(self.state)
        last = self._record_of_result()
        summary = plain(
            {
                **{f"test_{name}": value for name, value in scores.items()},
                **{k: v for k, v in last.items() if k not in ("epoch", "steps")},
                "train_seconds": train_seconds,
                "first_step_seconds": self.first_step_seconds,
                "step_seconds_median": float(np.median(self.step_seconds))
                if self.step_seconds
                else None,
                "step_memory_bytes": self.memory,
                "depth": self.state.network.depth,
                "parameters": parameter_count(self.state.network),
                "epochs": int(self.state.epoch),
                **self._choice_of_result(),
                **({"together": self.together} if self.together > 1 else {}),
                "seed": self.seed,
            }
        )
        for observer in self.observers:
            observer.finished(summary, self.state)
        return self.state.result, self.history, summary

    def tell_end(self, error: BaseException) -> None:
        """Tells the observers what has ended the run before its end."""
        if not isinstance(error, KeyboardInterrupt):
            failed(self.observers)
            return
        for observer in self.observers:
            observer.interrupted(self.state)

    def diverged(
        self, error: DivergenceError
    ) -> tuple[Network, list[dict[str, Any]], dict[str, Any]]:
        """What `train` returns, of a run that has ended by an error: where it was before."""
        summary = {"diverged": str(error), "epochs": int(self.state.epoch), "seed": self.seed}
        return self.mesh.gathered(self.state.result), self.history, summary

    def _scoring(self, title: str) -> Asking[dict[str, float | None]]:
        """The scores of a part of the data."""
        found = yield from self.task.scoring(self.mesh.divided(self.state.scored), title)
        agreed: dict[str, float | None] = self.processes.agreed(found)
        return agreed

    def _ending(self) -> str | None:
        """Why training ends before its last epoch; `None` if it goes on."""
        epoch, best, stopping = self.state.epoch, self.state.best, self.plan.choices.early_stopping
        if not int(epoch):
            return None
        if best is not None and stopping is not None:
            why = stopping.ending(int(epoch), int(best.epoch))
            if why is not None:
                return why
        answers = (observer.stop(self.history) for observer in self.observers)
        why = next((why for why in answers if why is not None), None)
        return next((why for why in self.processes.told(why) if why is not None), None)

    def _record_of_result(self) -> dict[str, Any]:
        """That of the epoch whose weights are returned.

        Nothing, when the metrics of a run that was resumed at its end are lost.
        """
        best = self.state.best
        epoch = int(self.state.epoch if best is None else best.epoch)
        return next((record for record in self.history if record["epoch"] == epoch), {})

    def _choice_of_result(self) -> dict[str, Any]:
        """Which weights are returned, where they are not simply the last, and why it ended."""
        choices, best = self.plan.choices, self.state.best
        # Who did all epochs was not ended, whatever is said after the last one.
        why = self._ending() if int(self.state.epoch) < self.plan.epochs else None
        found: dict[str, Any] = {}
        if best is not None and choices.early_stopping is not None:
            found |= {"best_epoch": int(best.epoch), "best_by": choices.early_stopping.metric}
        if choices.average is not None:
            found["average"] = choices.average
        return found if why is None else {**found, "ended": why}

    def _note(self, text: str, about: str) -> None:
        """Says something about the run while it goes on, to whoever watches it."""
        place = {"epoch": int(self.state.epoch) + 1, "step": int(self.state.step)}
        for observer in self.observers:
            observer.noted({**place, "about": about, "text": text})
        if not self.observers:
            warn(text)

    def _epoch(self) -> Asking[None]:
        epoch = int(self.state.epoch)
        while (step := int(self.state.step)) < self.plan.steps_per_epoch:
            yield from self._validate(epoch, step)
            self._meet()
            begun = time.perf_counter()
            load = self.feed.load(epoch, step)
            most = self.processes.agreed(self._next_count())
            count = min(most, self._stretch(step), load.end - step)
            before = dataclasses.replace(self.state, place=None, best=None)
            own, options = (self._rates, before, load.order), self.mesh.compiler_options
            answer = yield Call(
                "steps", self._advance, own, (load.arrays,), count, options, before.replaced
            )
            count = answer.steps
            self._note_memory(answer.program, load)
            # From the call on there is no state but the one that comes out of it: what stops the
            # run waits until that is known to all.
            with held_back():
                state, reports = answer.value()
                state = state.at_place(load.place_after(step + count))
                state = dataclasses.replace(state, best=self.state.best)
                reports = jax.tree.map(lambda a, n=count: np.asarray(a)[:n], reports)
                seconds = self._share(begun)
                self._check_finite(reports, epoch, step)
                record = self._record(reports, epoch, step + count, seconds)
                self.records.append(record)
                self.state = state
                self._tell("stepped", record, state)
            if self.first_step_seconds is None:
                self.first_step_seconds = seconds
            else:
                self.step_seconds += [seconds / count] * count
            for about, text in self.watch.of_steps(record).items():
                self._note(text, about)
        yield from self._end_of_epoch(epoch)

    def _record(self, reports: StepReport, epoch: int, step: int, seconds: float) -> dict[str, Any]:
        """What is kept of some steps."""
        names = (
            *self.scored,
            "unsettled_median",
            "unsettled_max",
            "strength",
            "output_precision",
        )
        found: dict[str, Any] = {"epoch": epoch + 1, "step": step, "seconds": seconds}
        found.update({name: getattr(reports, name).tolist() for name in names})
        found["energy_per_node"] = reports.energy[-1]
        record: dict[str, Any] = plain(found)
        return record

    def _tell(self, hook: str, said: Any, state: TrainingState) -> None:
        """Tells all observers, also where one of them stops the run."""
        stopped, copy = None, None
        for observer in self.observers:
            given = state
            if observer.keeps and getattr(type(observer), hook) is not getattr(Observer, hook):
                given = copy = copy or state.kept()
            try:
                getattr(observer, hook)(said, given)
            except KeyboardInterrupt as error:
                stopped = error
        if stopped is not None:
            raise stopped

    def _note_memory(self, made: Program, load: Load) -> None:
        """What the first program of the steps needs."""
        if self.memory is None:
            per_device = step_memory(made, tuple(load.arrays.values()))
            self.memory = per_device and per_device * len(self.mesh.devices)

    def _end_of_epoch(self, epoch: int) -> Asking[None]:
        def gather(name: str) -> np.ndarray:
            return np.asarray([value for record in self.records for value in record[name]], float)

        network = self.state.network
        chosen = self._certified()
        scores = yield from self._scoring("validation")
        self._check_weights(epoch, scores["loss"])
        key = jax.random.fold_in(jax.random.fold_in(self.state.key, 2), epoch)
        learner = self._advance.learner
        divided = self.mesh.divided((self.begun, network))
        energy = jnp.asarray(numbers(self.records[-1]["energy_per_node"]))
        shared = (learner.rule, learner.pose, self.probe)
        answer = yield Call("probe", probe, (*divided, key, energy), shared)
        probed = self.mesh.gathered(answer.value())
        inferred = np.isfinite(gather("strength")).any()
        record = plain(
            {
                "epoch": epoch + 1,
                "steps": (epoch + 1) * self.plan.steps_per_epoch,
                **{f"train_{name}": gather(name).mean() for name in self.scored},
                **{f"validation_{name}": value for name, value in scores.items()},
                "unsettled": {
                    "median": np.median(gather("unsettled_median")[chosen]) if inferred else None,
                    "max": gather("unsettled_max")[chosen].max() if inferred else None,
                },
                "certified": {"steps": chosen.sum(), "of": len(chosen)} if inferred else None,
                "output_precision": gather("output_precision")[-1] if inferred else None,
                "energy_per_node": self.records[-1]["energy_per_node"] if inferred else None,
                **probed,
                "imbalance": probed["imbalance"] if inferred else None,
            }
        )
        state = eqx.tree_at(
            lambda s: (s.epoch, s.step), self.state, (self.state.epoch + 1, self.state.step * 0)
        )
        state = self._with_best(state, record)
        for about, text in self.watch.of_epoch(record).items():
            self._note(text, about)
        self._tell("epoch_ended", record, state)
        self.history.append(record)
        self.records, self.validated = [], 0
        self.state = state

    def _certified(self) -> np.ndarray:
        """Which of the steps that are recorded of this epoch were certified."""
        steps = [
            np.arange(record["step"] - len(record["loss"]), record["step"])
            for record in self.records
        ]
        of, certify = self.plan.steps_per_epoch, self.plan.choices.certify
        found: np.ndarray = certified(np.concatenate(steps), of, certify)
        return found

    def _with_best(self, state: TrainingState, record: dict[str, Any]) -> TrainingState:
        """The state after an epoch, which may have been the best."""
        best, stopping = state.best, self.plan.choices.early_stopping
        if best is None or stopping is None:
            return state
        value = record.get(f"validation_{stopping.metric}")
        # Compared in the numbers that a checkpoint holds.
        score = np.asarray(np.nan if value is None else value, best.score.dtype)
        if int(best.epoch) and not stopping.is_better(float(score), float(best.score)):
            return state
        held = self.mesh.whole(jnp.asarray(score))
        best = Best(copied(state.scored), state.epoch, held)
        return dataclasses.replace(state, best=best)

    def _validate(self, epoch: int, step: int) -> Asking[None]:
        """Scores validation within an epoch, if it is time and not done yet."""
        every = self.plan.choices.validate_every
        if every is None or not step or step % every or step == self.validated:
            return
        scores = yield from self._scoring("validation")
        record: dict[str, Any] = {"epoch": epoch + 1, "step": step}
        record.update({f"validation_{name}": value for name, value in scores.items()})
        record = plain(record)
        self._tell("validated", record, self.state)
        self.validated = step

    def _stretch(self, step: int) -> int:
        """Steps until the next validation."""
        every, left = self.plan.choices.validate_every, self.plan.steps_per_epoch - step
        return left if every is None else min(left, every - step % every)

    def _next_count(self) -> int:
        """Steps per dispatch: one first, to time it; then as many as take about half a second.

        Of several networks that are trained together, half a second for the share of each.
        """
        if self.first_step_seconds is None or not self.step_seconds:
            return 1
        return int(np.clip(_SECONDS_PER_DISPATCH / self.step_seconds[-1], 1, MOST_STEPS))

    def _share(self, begun: float) -> float:
        """This network's share of the seconds since then, of which several may have made use."""
        return (time.perf_counter() - begun) / self.together

    def _check_finite(self, reports: StepReport, epoch: int, step: int) -> None:
        bad_nodes = ~np.isfinite(reports.energy)
        if not bad_nodes.any():
            return
        first = int(np.argmax(bad_nodes.any(axis=1)))
        node = self.plan.labels[int(np.argmax(bad_nodes[first]))]
        if np.isfinite(reports.loss[first]):
            raise DivergenceError(
                f"inference diverged in epoch {epoch + 1} at step {step + first + 1}: the energy "
                f"of node {node!r} is no longer finite, though the loss of the feedforward pass "
                "is. Lower the activity rate, hold a smaller strength, or use fx.GaussNewton."
            )
        raise _diverged(epoch, step + first, f"the energy of node {node!r}")

    def _check_weights(self, epoch: int, loss: float | None) -> None:
        """The last update of an epoch shows in no energy yet."""
        finite = np.isfinite(self.mesh.gathered(squared_lengths(self.state.network)))
        if not finite.all() or not (loss is None or np.isfinite(loss)):
            worst = int(np.argmin(finite)) if not finite.all() else -1
            what = "the size of the weights" if not finite.all() else "the loss"
            last = self.plan.steps_per_epoch - 1
            raise _diverged(epoch, last, f"{what} of node {self.plan.labels[worst]!r}")


def failed(observers: Sequence[Observer]) -> None:
    """Tells observers that a run, also one that could not begin, has ended by an error."""
    for observer in observers:
        observer.failed()


def _diverged(epoch: int, step: int, what: str) -> DivergenceError:
    return DivergenceError(
        f"training diverged in epoch {epoch + 1} at step {step + 1}: {what} is no longer finite. "
        "Lower the learning rate first; if the network is deep, use the muPC parameterization, or "
        "hold a smaller strength."
    )
