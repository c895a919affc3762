"""`fit_together`: networks of one structure in one program, each as `fit` trains it alone."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Hashable, Sequence
from typing import Any

import equinox as eqx
import jax
import optax

from fathomx.checks import Count, Optimizer, Positive, Seed, gate
from fathomx.data import Dataset, Stream
from fathomx.graph.network import Network
from fathomx.graph.statistics import parameter_count
from fathomx.learning import Learner, LearningRule, Pose
from fathomx.training.choosing import USUAL_CERTIFY, Choices, Decay, EarlyStopping
from fathomx.training.fit import FitResult, prepared
from fathomx.training.likeness import Unlike, likeness, rates_of, without_rates
from fathomx.training.members import ForMembers, Members, usual_form
from fathomx.training.observer import Observer
from fathomx.training.programs import Answer, Asking, Call, Program, program
from fathomx.training.run import DivergenceError, Run, failed
from fathomx.training.scores import Scores


@gate
def fit_together(
    networks: Sequence[Network],
    data: Dataset | Stream | tuple[Any, ...],
    rule: LearningRule | None = None,
    *,
    optimizer: Optimizer | Positive | Sequence[Optimizer | Positive] | None = None,
    seeds: Sequence[Seed] | None = None,
    observers: Sequence[Sequence[Observer]] | None = None,
    epochs: Count = 10,
    batch_size: Count | None = None,
    pose: Pose | None = None,
    scores: Scores | None = None,
    metrics: Sequence[Any] | None = None,
    average: Decay | None = None,
    validate_every: Count | None = None,
    early_stopping: EarlyStopping | None = None,
    certify: Count = USUAL_CERTIFY,
) -> list[FitResult]:
    """Trains networks that differ in weights, seeds or rates in one program: a result for each.

    Each result is what `fx.fit(network, data, rule, optimizer=..., seed=...)` gives for this
    network alone, up to rounding: it has its own random keys and its own order of the examples.

    All devices of the process share the networks, without a word between them. The cores
    of a processor train theirs one after the other within the program (they count as devices if
    JAX is told so before anything is computed, as the command line does); an accelerator trains its
    own at once. What is not part of the program, such as observers and records, is done for one
    network after another.

    **Arguments**

    * `networks`: at least one, alike but for the values of their weights; they stay as they are.
    * `data`: in memory, for all of them.
    * `optimizer`: one for all, or one (or a rate) for each. These may differ in their rates, the
      first values of schedules included, and in nothing else.
    * `seeds`: of each, 0, 1, 2 and so on unless given.
    * `observers`: of each, a sequence; nobody unless given.
    * the rest: as in `fx.fit`, for all. Early stopping ends each network by itself.

    A network that diverges ends there, and the others go on: its result holds the last weights that
    were known of it (before the steps that diverged; after them where only the end of the epoch
    shows it; under early stopping those of the best epoch), its history so far, and in place of
    the scores the sentence `summary["diverged"]`. `summary["together"]` says how many networks
    there were: `train_seconds`, `first_step_seconds`, `step_seconds_median` and the seconds of
    records are a network's share, the time of all over their number; `step_memory_bytes` is that
    of all of them.

    Raises `ValueError` without networks, for networks that are not alike, for a stream, for seeds
    or optimizers of another number, with several processes, and for what `fx.fit` refuses.

    ```python
    keys = jax.random.split(jax.random.key(0), 8)
    networks = [fx.models.residual_mlp(64, 10, width=32, depth=32, key=key) for key in keys]
    results = fx.fit_together(networks, fx.data.load("digits"), epochs=5)
    rates = fx.fit_together(networks[:1] * 3, fx.data.load("digits"), optimizer=[1e-3, 3e-3, 1e-2])
    ```
    """
    count = len(networks)
    if not count:
        raise ValueError("networks is empty; give at least one network.")
    seeds = range(count) if seeds is None else seeds
    watching: Sequence[Sequence[Observer]] = [()] * count if observers is None else observers
    optimizers = _of_each(count, optimizer)
    for name, given in (
        ("seeds", len(seeds)),
        ("optimizer", len(optimizers)),
        ("observers", len(watching)),
    ):
        if given != count:
            raise ValueError(
                f"{name} holds {given} for {count} networks; give one for each of them."
            )
    if jax.process_count() > 1:
        raise ValueError(
            f"fit_together trains in one process, not in {jax.process_count()}; train one network "
            "after the other with fx.fit, or others in each process without jax.distributed."
        )
    why = apart(networks, data)
    if why is not None:
        raise ValueError(f"{why}; train one network after the other with fx.fit.")
    choices = Choices(average, validate_every, early_stopping, certify)
    task, plan, rule = prepared(
        networks[0], data, rule, epochs, batch_size, choices, pose, scores, metrics
    )
    learners = [Learner(rule, each, task.pose) for each in optimizers]
    why = _unlike(
        "optimizer", [(without_rates(o), len(rates_of(o))) for o in (r.optimizer for r in learners)]
    )
    if why is not None:
        raise ValueError(f"{why}; give optimizers that differ in their rates alone.")
    members = Members(jax.local_devices()[:count])
    try:
        runs: list[Run] = []
        for each in zip(networks, learners, seeds, watching, strict=True):
            network, learner, seed, own = each
            feed = runs[0].feed.again() if runs else None
            runs.append(Run(network, task, learner, plan, seed, own, members, feed))
        together = Together(runs, members)
    except BaseException:
        failed([one for own in watching for one in own])
        raise
    return together.train()


def _of_each(count: int, optimizer: Any) -> Sequence[Any]:
    """The optimizer, or its rate, of each network."""
    if optimizer is None:
        optimizer = 1e-2
    for_all = isinstance(optimizer, optax.GradientTransformation | float | int)
    found: Sequence[Any] = [optimizer] * count if for_all else optimizer
    return found


def apart(networks: Sequence[Network], data: Any) -> str | None:
    """Why networks cannot be trained together, the beginning of a sentence; `None` if they can."""
    if isinstance(data, Stream):
        return f"{data.name!r} is a stream, of which every network needs batches of its own"
    return _unlike("networks", networks)


def _unlike(name: str, given: Sequence[Any]) -> str | None:
    """Why one program does not serve several things, if it does not."""
    try:
        kinds = [likeness(jax.tree.map(_shape, each)) for each in given]
    except Unlike:
        return f"{name} holds functions of which nobody can tell whether they are alike"
    other = next((at for at, kind in enumerate(kinds) if kind != kinds[0]), None)
    if other is None:
        return None
    return f"{name}[{other}] and {name}[0] differ in more than values{_sizes(given, other)}"


def _shape(leaf: Any) -> Any:
    """Of an array what counts, wherever it is."""
    return (leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf


def _sizes(given: Sequence[Any], at: int) -> str:
    """Of networks, in which size they differ, if they do."""
    if not isinstance(given[0], Network):
        return ""
    for what, count in (("nodes", lambda n: n.depth), ("weights", parameter_count)):
        own, first = count(given[at]), count(given[0])
        if own != first:
            return f" ({own} {what}, not {first})"
    return ""


class Together:
    """Runs in progress whose calls are answered by one program for all that ask for the same."""

    def __init__(self, runs: Sequence[Run], members: Members) -> None:
        self._runs, self._members = runs, members
        for run in runs:
            run.together = len(runs)
        self._form = usual_form(members.devices[0])
        self._slots = members.slots(len(runs))
        self._programs: dict[Hashable, Program] = {}
        self._going: dict[int, tuple[Asking[Any], Call]] = {}
        self._results: dict[int, FitResult] = {}

    def train(self) -> list[FitResult]:
        """What every run returns, in order."""
        try:
            for at, run in enumerate(self._runs):
                self._go_on(at, run.training(), None)
            while self._going:
                self._answer(self._next())
        except BaseException as error:
            # All are told, also where telling one fails.
            with contextlib.ExitStack() as telling:
                for at, run in reversed(list(enumerate(self._runs))):
                    if at not in self._results:
                        telling.callback(run.tell_end, error)
            raise
        return [self._results[at] for at in range(len(self._runs))]

    def _next(self) -> list[int]:
        """Runs that ask for the same: of those that are furthest behind, so that others wait.

        Runs of a folder that was killed may be at different steps; they meet at the next epoch.
        """
        places = {at: self._place(at) for at in self._going}
        behind = [at for at in self._going if places[at] == min(places.values())]
        form = self._going[behind[0]][1].form
        return [at for at in behind if self._going[at][1].form == form]

    def _place(self, at: int) -> tuple[int, int]:
        state = self._runs[at].state
        return int(state.epoch), int(state.step)

    def _answer(self, which: list[int]) -> None:
        """Computes what some runs ask for, and lets each go on."""
        calls = [self._going[at][1] for at in which]
        first = calls[0]
        steps = min(call.steps for call in calls)
        own, busy, places = self._members.dealt([call.own for call in calls], self._slots)
        arguments = self._members.whole((own, busy, *first.counted(steps)))
        if first.form not in self._programs:
            function = ForMembers(first.function, self._members, self._form)
            self._programs[first.form] = program(function, *arguments, options=first.options)
        made = self._programs[first.form]
        found = made(*arguments)
        for at, place in zip(which, places, strict=True):
            value = functools.partial(operator.itemgetter(place), found)
            self._go_on(at, self._going.pop(at)[0], Answer(value, made, steps))

    def _go_on(self, at: int, asking: Asking[Any], answer: Answer | None) -> None:
        """Runs until the next call, or the end."""
        run = self._runs[at]
        try:
            call = next(asking) if answer is None else asking.send(answer)
        except StopIteration as end:
            self._results[at] = FitResult(*end.value)
        except DivergenceError as error:
            run.tell_end(error)
            self._results[at] = FitResult(*run.diverged(error))
        else:
            self._going[at] = asking, call
