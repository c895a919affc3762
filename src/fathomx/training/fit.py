"""The training loop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from fathomx.data import Dataset
from fathomx.diagnostics.alignment import Alignment, compare_to_backprop, node_dot
from fathomx.diagnostics.energy_balance import energy_balance
from fathomx.graph.network import Network
from fathomx.graph.statistics import holds_statistics, weights
from fathomx.learning import Backprop, Equilibrium, Learner, LearningRule, Pose, StepReport
from fathomx.learning.backprop import is_feedforward
from fathomx.learning.learner import pose as by_name
from fathomx.problem.problem import Problem
from fathomx.problem.strength import strength
from fathomx.training.devices import Division
from fathomx.training.observer import Observer, Plan, TrainingState, plain
from fathomx.training.scores import Scores, UsualScores, evaluate_part, score

# Keeps the run's random numbers apart from those of weights that were drawn from the same seed.
_RUN = 1_000_003
_MOST_STEPS = 128
_SECONDS_PER_DISPATCH = 0.5
_STRENGTH_PROBES = 8
# Every device updates all weights; with more of them the cores of a processor gain nothing.
_MOST_PARAMETERS_DIVIDED = 4_000_000

Augmentation = Callable[[Array, PRNGKeyArray], Array]


class DivergenceError(ArithmeticError):
    """Training left the finite numbers; the message names the node, the step and a remedy."""


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    * `network`: trained.
    * `history`: one dictionary per epoch (training and validation loss and accuracy, `unsettled`,
      `pc_strength`, `cosine_to_backprop` overall and per node).
    * `summary`: the numbers at the end, `test_accuracy` among them.
    """

    network: Network
    history: list[dict[str, Any]]
    summary: dict[str, Any]


def fit(
    network: Network,
    data: Dataset,
    rule: LearningRule | None = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 10,
    batch_size: int = 64,
    seed: int = 0,
    observers: Sequence[Observer] = (),
    pose: Pose | None = None,
    scores: Scores | None = None,
) -> FitResult:
    """Trains a network and scores it: validation after each epoch, the test set once, at the end.

    **Arguments**

    * `network`, `data`: their shapes must fit; `data` is a `fx.data.Dataset`.
    * `rule`: a learning rule; `Equilibrium()` unless given.
    * `optimizer`: any optax optimizer; `optax.adam(1e-2, eps=1e-12)` unless given. Gradients of
      early nodes can be tiny; Adam's usual epsilon of 1e-8 silently stops them.
    * `epochs` and `batch_size`: at least 1. Every epoch visits the training examples in a new
      order; a last, incomplete batch is left out.
    * `data.augmentation`, if there is one, is applied to every training batch, on the device.
    * `seed`: the same seed gives the same run, bit for bit, on the same machine.
    * `observers`: who is told about the run (`fathomx.training.Observer`): run folders, progress.
    * `pose`: `pose(network, batch) -> fx.Problem`, how a batch becomes a problem; `batch` holds
      arrays by name, `input` and `target` of a data set of pairs. Unless given, input and target,
      or of named arrays the entries of these names, are clamped.
    * `scores`: `scores(network, batch) -> dict`, what validation and test are scored by: one number
      per example, or one for the batch, by name. Unless given `loss`, and `accuracy` where the
      target is a class; with a free root or a feedback `loss` and `energy` after inference.

    Each batch is divided among the devices of JAX's default backend (`fx.Division`). The cores of a
    processor count as devices if JAX is told so before anything is computed, as the command line
    does; they are used where it was measured to pay: for rules that infer, with at most four
    million weights. The weights that are returned are on one device.

    What the numbers mean: a loss is the output energy at precision 1, the mean over examples and,
    where there is a label at each of several positions (tokens), over these, so that a
    `Categorical` loss is in nats per token; an accuracy likewise. `unsettled` is the median over
    the last epoch's steps of the batch's median, and the largest of all; `cosine_to_backprop` and
    `pc_strength` are taken on one fixed batch of training examples with the weights at the end of
    the epoch, the strength at the output precision that the rule uses there (1 for backprop) and
    with random signs of its own; `energy_per_node` and `imbalance` (`fx.energy_balance`) are those
    of the epoch's last batch after inference; `step_memory_bytes` is what the compiled training
    step needs at once beside the data; `train_seconds` includes compilation, validation, probes
    and checkpoints.

    Raises `ValueError` for a batch larger than the data and for shapes that do not fit, and
    `DivergenceError` when weights or energies stop being finite.

    ```python
    result = fx.fit(network, fx.data.load("digits"), fx.Equilibrium(),
                    optimizer=optax.adam(1e-2, eps=1e-12), epochs=10)
    pictures = fx.data.Dataset("pictures", {"image": x}, {"image": x_val}, {"image": x_test})
    result = fx.fit(decoder, pictures, epochs=10)          # the roots of the decoder are inferred
    ```
    """
    rule = Equilibrium() if rule is None else rule
    if not isinstance(rule, LearningRule):
        raise TypeError(
            f"rule must be a learning rule such as fx.Equilibrium() or fx.Backprop(), not {rule!r}."
        )
    optimizer = optax.adam(1e-2, eps=1e-12) if optimizer is None else optimizer
    plan = _plan(network, data, epochs, batch_size, pose)
    task = _Task(data, _usual_pose(data) if pose is None else pose, scores)
    run = _Run(network, task, rule, optimizer, plan, seed, observers)
    try:
        return run.train()
    except KeyboardInterrupt:
        for observer in observers:
            observer.interrupted(run.state)
        raise


def _pair(network: Network, batch: Any) -> Problem:
    return Problem(network, batch["input"], batch["target"])


def _usual_pose(data: Dataset) -> Pose:
    """How the batches of a data set become problems unless told otherwise."""
    return by_name if data.named else _pair


@dataclasses.dataclass(frozen=True)
class _Task:
    """A data set, how its batches become problems, and what they are scored by."""

    data: Dataset
    pose: Pose
    scores: Scores | None

    def score(self, network: Network, title: str) -> dict[str, float | None]:
        """The scores of a part; `loss` and `accuracy` are among them, `None` if there are none."""
        if self.scores is None and self.pose is _pair:
            loss, accuracy = score(network, getattr(self.data, title))
            return {"loss": loss, "accuracy": accuracy}
        scores = UsualScores(self.pose) if self.scores is None else self.scores
        found = evaluate_part(network, self.data.arrays(title), scores)
        return {"loss": None, "accuracy": None, **found}


def _plan(network: Network, data: Dataset, epochs: int, batch_size: int, pose: Pose | None) -> Plan:
    size = data.size
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, not {epochs}.")
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"batch_size is {batch_size}, but {data.name!r} has {size} training examples; choose "
            f"a batch size from 1 to {size}."
        )
    check_statistics(network, batch_size)
    plan = Plan(epochs, size // batch_size, batch_size, network.labels)
    if pose is not None or data.named:
        if pose is None:
            _check_finite_arrays(data)
        first = {name: jnp.asarray(array[:2]) for name, array in data.arrays("train").items()}
        posed = (_usual_pose(data) if pose is None else pose)(network, first)
        if not isinstance(posed, Problem):
            raise TypeError(f"pose must return an fx.Problem, not {type(posed).__name__}.")
        return plan
    if data.train.inputs.shape[1:] != network.input_shape:
        raise ValueError(
            f"the examples of {data.name!r} have shape {data.train.inputs.shape[1:]}, but the "
            f"network's input takes {network.input_shape}; build the network for this data set."
        )
    predicted = (*data.train.labels.shape[1:], data.classes)
    if network.output_shape != predicted:
        raise ValueError(
            f"{data.name!r} has {data.classes} classes, but node {network.output.name!r} predicts "
            f"{network.output_shape}; build the network so that it predicts {predicted}."
        )
    return plan


def _check_finite_arrays(data: Dataset) -> None:
    for title in ("train", "validation", "test"):
        for name, array in data.arrays(title).items():
            bad = int((~np.isfinite(array)).sum())
            if bad:
                raise ValueError(
                    f"{name!r} of {data.name!r} holds {bad} values in its {title} part that are "
                    "NaN or infinite; remove them, or mark them as missing by a pose that clamps "
                    "fx.Clamp.observed(batch[name])."
                )


def check_statistics(network: Network, batch_size: int) -> None:
    """Raises `ValueError` if a batch is too small for the batch normalization of a network."""
    if batch_size < 2 and holds_statistics(network):
        raise ValueError(
            "the network normalizes by statistics of the batch, which one example does not have: "
            "batch_size must be at least 2, or use group normalization or none."
        )


class _Run:
    """One run in progress."""

    def __init__(
        self,
        network: Network,
        task: _Task,
        rule: LearningRule,
        optimizer: optax.GradientTransformation,
        plan: Plan,
        seed: int,
        observers: Sequence[Observer],
    ) -> None:
        self.task, self.rule, self.plan, self.observers = task, rule, plan, observers
        self.seed = seed
        self.division = division_for(network, rule, plan.batch_size)
        arrays = {name: jnp.asarray(a) for name, a in task.data.arrays("train").items()}
        if task.pose is _pair:
            arrays["input"] = arrays["input"].astype(network.input_dtype)
        self.arrays = self.division.whole(arrays)
        probe = slice(0, min(plan.batch_size, task.data.size))
        self.probe = self.division.parts({k: array[probe] for k, array in self.arrays.items()})
        self.posed = task.pose(network, self.probe)
        fresh = TrainingState(
            network=network,
            optimizer=rule.init_optimizer(optimizer, network),
            key=jax.random.fold_in(jax.random.key(seed), _RUN),
            epoch=jnp.zeros((), jnp.int32),
            step=jnp.zeros((), jnp.int32),
        )
        self.state = fresh
        self.earlier_seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = []
        for observer in observers:
            restored = observer.restore(fresh)
            if restored is not None:
                self.state = restored.state
                self.history, self.records = restored.history, restored.records
                self.earlier_seconds = restored.seconds
        self.state = self.division.whole(self.state)
        learner = Learner(rule, optimizer, task.pose)
        self._advance = _Advance(learner, plan, task.data.augmentation, self.division)
        self._compiled: Any = None
        self.memory: int | None = None
        self.step_seconds: list[float] = []
        self.first_step_seconds: float | None = None

    def train(self) -> FitResult:
        begun = time.perf_counter()
        for observer in self.observers:
            observer.started(self.plan, self.state)
        while int(self.state.epoch) < self.plan.epochs:
            self._epoch()
        train_seconds = self.earlier_seconds + time.perf_counter() - begun
        self.state = self.division.gathered(self.state)
        scores = self.task.score(self.state.network, "test")
        summary = plain(
            {
                "test_accuracy": scores.pop("accuracy"),
                "test_loss": scores.pop("loss"),
                **{f"test_{name}": value for name, value in scores.items()},
                **{k: v for k, v in self.history[-1].items() if k not in ("epoch", "steps")},
                "train_seconds": train_seconds,
                "first_step_seconds": self.first_step_seconds,
                "step_seconds_median": float(np.median(self.step_seconds))
                if self.step_seconds
                else None,
                "step_memory_bytes": self.memory,
                "depth": self.state.network.depth,
                "parameters": parameter_count(self.state.network),
                "epochs": self.plan.epochs,
                "seed": self.seed,
            }
        )
        for observer in self.observers:
            observer.finished(summary, self.state)
        return FitResult(self.state.network, self.history, summary)

    def _epoch(self) -> None:
        epoch = int(self.state.epoch)
        order_key = jax.random.fold_in(jax.random.fold_in(self.state.key, 0), epoch)
        order = jax.random.permutation(order_key, self.task.data.size)
        order = order[: self.plan.steps_per_epoch * self.plan.batch_size]
        order = order.reshape(self.plan.steps_per_epoch, self.plan.batch_size)
        while (step := int(self.state.step)) < self.plan.steps_per_epoch:
            count = min(self._next_count(), self.plan.steps_per_epoch - step)
            begun = time.perf_counter()
            arguments = (self.state, self.arrays, order, jnp.asarray(count))
            if self._compiled is None:
                filter_jit: Any = eqx.filter_jit
                jitted = filter_jit(self._advance, compiler_options=self.division.compiler_options)
                self._compiled = jitted.lower(*arguments).compile()
                per_device = _memory(self._compiled, tuple(self.arrays.values()))
                self.memory = per_device and per_device * len(self.division.devices)
            state, reports = self._compiled(*arguments)
            reports = jax.tree.map(lambda a, n=count: np.asarray(a)[:n], reports)
            seconds = time.perf_counter() - begun
            self._check_finite(reports, epoch, step)
            if self.first_step_seconds is None:
                self.first_step_seconds = seconds
            else:
                self.step_seconds += [seconds / count] * count
            record = {"epoch": epoch + 1, "step": step + count, "seconds": seconds}
            record.update(
                {
                    name: getattr(reports, name).tolist()
                    for name in (
                        "loss",
                        "accuracy",
                        "unsettled_median",
                        "unsettled_max",
                        "strength",
                        "output_precision",
                    )
                }
            )
            record["energy_per_node"] = reports.energy[-1]
            record = plain(record)
            for observer in self.observers:
                observer.stepped(record, state)
            # Only now: a run that is stopped in between must not know more than its observers.
            self.records.append(record)
            self.state = state
        self._end_of_epoch(epoch)

    def _end_of_epoch(self, epoch: int) -> None:
        def gather(name: str) -> np.ndarray:
            return np.asarray([value for record in self.records for value in record[name]], float)

        network = self.state.network
        scores = self.task.score(network, "validation")
        loss, accuracy = scores.pop("loss"), scores.pop("accuracy")
        self._check_weights(epoch, loss)
        key = jax.random.fold_in(jax.random.fold_in(self.state.key, 2), epoch)
        aligned, probed_strength, own = _probe(network, self._advance.learner, self.probe, key)
        inferred = np.isfinite(gather("strength")).any()
        energy = jnp.asarray(self.records[-1]["energy_per_node"])
        record = plain(
            {
                "epoch": epoch + 1,
                "steps": (epoch + 1) * self.plan.steps_per_epoch,
                "train_loss": gather("loss").mean(),
                "train_accuracy": gather("accuracy").mean(),
                "validation_loss": loss,
                "validation_accuracy": accuracy,
                **{f"validation_{name}": value for name, value in scores.items()},
                "unsettled": {
                    "median": np.median(gather("unsettled_median")) if inferred else None,
                    "max": gather("unsettled_max").max() if inferred else None,
                },
                "pc_strength": probed_strength,
                "output_precision": gather("output_precision")[-1] if inferred else None,
                "cosine_to_backprop": aligned.overall,
                "cosine_to_backprop_per_node": aligned.cosine,
                "length_to_backprop_per_node": aligned.ratio,
                "energy_per_node": energy if inferred else None,
                "imbalance": energy_balance(self.posed, energy).imbalance if inferred else None,
                **own,
            }
        )
        state = eqx.tree_at(
            lambda s: (s.epoch, s.step), self.state, (self.state.epoch + 1, self.state.step * 0)
        )
        for observer in self.observers:
            observer.epoch_ended(record, state)
        self.history.append(record)
        self.records = []
        self.state = state

    def _next_count(self) -> int:
        """Steps per dispatch: one first, to time it; then as many as take about half a second."""
        if self.first_step_seconds is None or not self.step_seconds:
            return 1
        return int(np.clip(_SECONDS_PER_DISPATCH / self.step_seconds[-1], 1, _MOST_STEPS))

    def _check_finite(self, reports: StepReport, epoch: int, step: int) -> None:
        bad_nodes = ~np.isfinite(reports.energy)
        if not bad_nodes.any():
            return
        first = int(np.argmax(bad_nodes.any(axis=1)))
        node = self.plan.labels[int(np.argmax(bad_nodes[first]))]
        raise _diverged(epoch, step + first, f"the energy of node {node!r}")

    def _check_weights(self, epoch: int, loss: float | None) -> None:
        """The last update of an epoch shows in no energy yet."""
        finite = np.isfinite(np.asarray(node_dot(self.state.network, self.state.network)))
        if not finite.all() or not (loss is None or np.isfinite(loss)):
            worst = int(np.argmin(finite)) if not finite.all() else -1
            what = "the size of the weights" if not finite.all() else "the loss"
            last = self.plan.steps_per_epoch - 1
            raise _diverged(epoch, last, f"{what} of node {self.plan.labels[worst]!r}")


def _diverged(epoch: int, step: int, what: str) -> DivergenceError:
    return DivergenceError(
        f"training diverged in epoch {epoch + 1} at step {step + 1}: {what} is no longer finite. "
        "Lower the learning rate first; if the network is deep, use the muPC parameterization, or "
        "hold a smaller strength."
    )


class _Advance(eqx.Module):
    """Some training steps in one dispatch; how many is traced, so that it compiles once."""

    learner: Learner
    plan: Plan = eqx.field(static=True)
    augmentation: Augmentation | None = eqx.field(static=True)
    division: Division = eqx.field(static=True)

    def __call__(
        self, state: TrainingState, data: dict[str, Array], order: Array, count: Array
    ) -> tuple[TrainingState, StepReport]:
        arrays, rest = eqx.partition(state, eqx.is_array)

        # Compiled by itself only so that it is traced once, for its shapes and for the loop.
        @jax.jit
        def one(arrays: Any, step: Array) -> tuple[Any, StepReport]:
            now: TrainingState = eqx.combine(arrays, rest)
            chosen = order[step]
            whole = now.epoch * self.plan.steps_per_epoch + step
            key = jax.random.fold_in(jax.random.fold_in(now.key, 1), whole)
            batch = self.division.parts({name: array[chosen] for name, array in data.items()})
            if self.augmentation is not None:
                batch["input"] = self.augmentation(batch["input"], jax.random.fold_in(key, 1))
            network, optimizer, report = self.learner.update(now.network, now.optimizer, batch, key)
            after = TrainingState(network, optimizer, now.key, now.epoch, step + 1)
            return self.division.whole((eqx.filter(after, eqx.is_array), report))

        shapes = jax.eval_shape(one, arrays, state.step)[1]
        reports = jax.tree.map(lambda s: jnp.zeros((_MOST_STEPS, *s.shape), s.dtype), shapes)

        def body(index: Array, carry: tuple[Any, StepReport]) -> tuple[Any, StepReport]:
            arrays, reports = carry
            arrays, report = one(arrays, state.step + index)
            return arrays, jax.tree.map(lambda all, new: all.at[index].set(new), reports, report)

        arrays, reports = jax.lax.fori_loop(
            jnp.zeros((), jnp.int32), count.astype(jnp.int32), body, (arrays, reports)
        )
        return eqx.combine(arrays, rest), reports


def division_for(network: Network, rule: LearningRule, batch_size: int) -> Division:
    """How `fit` divides a batch: among all devices; among cores only where it pays."""
    devices = jax.devices()
    if devices[0].platform == "cpu" and (
        isinstance(rule, Backprop) or parameter_count(network) > _MOST_PARAMETERS_DIVIDED
    ):
        devices = devices[:1]
    return Division.of(batch_size, devices)


def _memory(compiled: Any, data: tuple[Array, ...]) -> int | None:
    """Bytes that the compiled training step needs at once beside the data, if the backend tells."""
    found = compiled.compiled.memory_analysis()
    if found is None:
        return None
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return int(kept + found.temp_size_in_bytes - sum(array.nbytes for array in data))


@eqx.filter_jit
def _probe(network: Network, learner: Learner, batch: dict[str, Array], key: PRNGKeyArray) -> Any:
    rule = learner.rule
    problem = learner.pose(network, batch).with_output_precision(1.0)
    gradient, report = rule.gradient(problem, key)
    aligned = Alignment.unknown(network)
    if is_feedforward(problem):
        aligned = compare_to_backprop(problem, gradient, key)
    own = rule.probe(problem, jax.random.fold_in(key, 2))
    problem = problem.with_batch_statistics()
    # Signs of its own: the precision that a rule chose by its own estimate would confirm itself.
    keys = jax.random.split(jax.random.fold_in(key, 1), _STRENGTH_PROBES)
    sensitivity = jnp.full((), jnp.nan)
    if problem.observed:
        sensitivity = jnp.mean(jax.lax.map(lambda probe: strength(problem, probe), keys))
    precision = jnp.where(jnp.isfinite(report.output_precision), report.output_precision, 1)
    return aligned, sensitivity * precision, own


def parameter_count(network: Network) -> int:
    """Number of trained numbers."""
    return sum(leaf.size for leaf in jax.tree.leaves(weights(network)))
