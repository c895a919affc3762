"""`fit`: a network, a data set and a rule in, a trained network and its record out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from fathomx.checks import Count, Optimizer, Positive, Seed, gate
from fathomx.data import Dataset, Stream, split
from fathomx.data._forms import described, values
from fathomx.graph.mesh import Mesh
from fathomx.graph.network import Network
from fathomx.graph.statistics import holds_statistics, parameter_count
from fathomx.learning import Equilibrium, Learner, LearningRule, Pose
from fathomx.metrics import chosen
from fathomx.training.choosing import USUAL_CERTIFY, Choices, Decay, EarlyStopping
from fathomx.training.notebook import NotebookBar, in_notebook
from fathomx.training.observer import Observer, Plan
from fathomx.training.run import Run, failed
from fathomx.training.scores import Scores
from fathomx.training.task import Task

_BATCH_SIZE = 64


@gate
@dataclasses.dataclass(frozen=True, repr=False)
class FitResult:
    """What `fit` returns.

    * `network`: trained.
    * `history`: one dictionary per epoch (training and validation loss, the metrics such as
      `validation_accuracy`, of classes `train_accuracy`, `unsettled`, `pc_strength`,
      `cosine_to_backprop` overall, per quarter of the depth and per node, `target_alignment`,
      `weight_change_per_node`).
    * `summary`: the numbers at the end, those of the test set such as `test_accuracy` first.
    """

    network: Network
    history: list[dict[str, Any]]
    summary: dict[str, Any]

    def __repr__(self) -> str:
        kinds = ("validation_accuracy", "validation_loss", "test_accuracy", "test_loss")
        found = [(kind, self.summary.get(kind)) for kind in kinds]
        scores = [f"{kind.replace('_', ' ')} {v:.4g}" for kind, v in found if v is not None]
        epochs = self.summary.get("epochs")
        return f"FitResult({', '.join([f'{epochs} epochs', *scores])})"


@gate
def fit(
    network: Network,
    data: Dataset | Stream | tuple[Any, ...],
    rule: LearningRule | None = None,
    *,
    optimizer: Optimizer | Positive | None = None,
    epochs: Count = 10,
    batch_size: Count | None = None,
    seed: Seed = 0,
    observers: Sequence[Observer] | None = None,
    pose: Pose | None = None,
    scores: Scores | None = None,
    metrics: Sequence[Any] | None = None,
    average: Decay | None = None,
    validate_every: Count | None = None,
    early_stopping: EarlyStopping | None = None,
    certify: Count = USUAL_CERTIFY,
    mesh: Mesh | None = None,
) -> FitResult:
    """Trains a network and scores it: validation after each epoch, the test set once, at the end.

    **Arguments**

    * `network`, `data`: their shapes must fit; the network stays as it is. `data` is a
      `fx.data.Dataset`, a `fx.data.Stream`, or a pair `(x, y)` of arrays or data frames, of which
      random tenths become validation and test (`fx.data.split`), with a third array of weights if
      examples count differently.
    * `rule`: a learning rule; `Equilibrium()` unless given.
    * `optimizer`: any optax optimizer, or a number, the rate of `optax.adam(rate, eps=1e-12)`;
      1e-2 unless given. Gradients of early nodes can be tiny; Adam's usual epsilon of 1e-8 silently
      stops them.
    * `epochs` and `batch_size`: at least 1; 64 examples unless given, or those of a stream of
      batches. Every epoch visits the training examples in a new order; a last, incomplete batch is
      left out, unless a stream keeps it.
    * `data.augmentation`, if there is one, is applied to every training batch, on the device.
    * `seed`: the same seed gives the same run, bit for bit, on the same machine.
    * `observers`: who is told about the run (`fathomx.training.Observer`): run folders, progress.
      One that keeps no states says so (`keeps = False`), and saves the copies of them.
      Unless given, a live bar in a notebook and nobody elsewhere; `()` is nobody.
    * `pose`: `pose(network, batch) -> fx.Problem`, how a batch becomes a problem; `batch` holds
      arrays by name, `input` and `target` of a data set of pairs. Unless given, input and target,
      or of named arrays the entries of these names, are clamped.
    * `scores`: `scores(network, batch) -> dict`, what validation and test are scored by: one number
      per example, or one for the batch, by name. Unless given `loss` and the metrics; with a free
      root or a feedback `loss` and `energy` after inference.
    * `metrics`: names (`fx.metrics.names()`) or objects (`fx.Metric`), which judge the output's
      predictions, in the target's own units where the data set knows them. Unless given, by what
      the batch holds under the output's name (or `target`): `accuracy` for integer labels, else
      what the output's energy says, such as `rmse` for `fx.Gaussian`.
    * `average`: the decay, above 0 and below 1, of an exponential moving average of the weights
      over all steps, which takes the place of the weights in validation, test and the network that
      is returned; none unless given. What is measured of updates is that of the weights themselves.
    * `validate_every`: after how many steps of an epoch validation is scored within it, besides
      that at its end; observers are told (`validated`).
    * `early_stopping`: an `fx.EarlyStopping`, by which training ends when validation gets no
      better, and the weights of the best epoch are returned. What else ends it: an observer's
      `stop`.
    * `certify`: every how many-th step of an epoch is certified, from the first on, and the last
      one always; 16 unless given, 1 is every step. The weights do not depend on it. Steps without
      a certificate report NaN, also as the strength at a fixed output precision.
    * `mesh`: how the batch, and the depth of stacks, are divided among devices (`fx.Mesh`). Unless
      given, the batch among the devices of JAX's default backend. The cores of a processor count as
      devices if JAX is told so before anything is computed, as the command line does; they are then
      used where it was measured to pay: for rules that infer, with at most four million weights.
      The weights that are returned are on one device.

    What the numbers mean: a loss is the output energy at precision 1, the mean over examples and,
    where there is a label at each of several positions (tokens), over these, so that a
    `Categorical` loss is in nats per token; an accuracy likewise. `unsettled` is the median over
    the last epoch's certified steps of the batch's median, and the largest of all, `certified` how
    many of its steps these are; `cosine_to_backprop` (also
    per quarter of the depth, `fx.Alignment.quarters`, and per node), `target_alignment` and that of
    backprop (`fx.TargetAlignment.mean`), `gradient_length_per_node` of the rule and `pc_strength`
    are taken on one fixed batch of training examples with the weights at the end of the epoch, the
    strength at the output precision that the rule uses there (1 for backprop) and with random signs
    of its own; `weight_change_per_node` is `fx.weight_change` since the start; `energy_per_node`
    and `imbalance` (`fx.energy_balance`) are those of the epoch's last batch after inference;
    `step_memory_bytes` is what the compiled training step needs at once beside the data;
    `train_seconds` includes compilation, validation, probes and checkpoints; `epochs` were trained,
    and `ended` says why not more; `average` is the decay of averaged weights. Under early stopping
    `best_epoch` and `best_by` say whose weights are returned, and the numbers that belong to an
    epoch are those of that one.

    Raises `ValueError` for a batch larger than the data, for shapes that do not fit, for metrics
    that do not suit the output, for early stopping by what is not scored and for a mesh that does
    not divide batch, depth or weights, and `DivergenceError`
    when weights or energies stop being finite.

    ```python
    result = fx.fit(network, fx.data.load("digits"), fx.Equilibrium(),
                    optimizer=optax.adam(1e-2, eps=1e-12), epochs=10)
    pictures = fx.data.Dataset("pictures", {"image": x}, {"image": x_val}, {"image": x_test})
    result = fx.fit(decoder, pictures, epochs=10)          # the roots of the decoder are inferred
    ```
    """
    optimizer = 1e-2 if optimizer is None else optimizer
    if observers is None:
        observers = (NotebookBar(),) if in_notebook() else ()
    choices = Choices(average, validate_every, early_stopping, certify)
    task, plan, rule = prepared(
        network, data, rule, epochs, batch_size, choices, pose, scores, metrics
    )
    try:
        run = Run(network, task, Learner(rule, optimizer, task.pose), plan, seed, observers, mesh)
    except BaseException:
        failed(observers)
        raise
    try:
        return FitResult(*run.train())
    except BaseException as error:
        run.tell_end(error)
        raise
    finally:
        run.feed.close()


def prepared(
    network: Network,
    data: Dataset | Stream | tuple[Any, ...],
    rule: LearningRule | None,
    epochs: int,
    batch_size: int | None,
    choices: Choices,
    pose: Pose | None,
    scores: Scores | None,
    metrics: Sequence[Any] | None,
) -> tuple[Task, Plan, LearningRule]:
    """What is learned, for how long and by which rule; raises for what does not fit."""
    if not isinstance(data, Dataset | Stream):
        data = _divided(network, *data)
    task = Task(data, pose, scores, None if metrics is None else chosen(metrics))
    plan = _plan(network, data, epochs, batch_size, choices)
    task.check(network)
    if not parameter_count(network):
        raise ValueError(
            "the network has no weights that learn: all of its entries are frozen, or hold none; "
            "freeze fewer, or use nodes with weights."
        )
    if choices.early_stopping is not None:
        choices.early_stopping.check(task.score(network, "validation"))
    return task, plan, Equilibrium() if rule is None else rule


def _divided(network: Network, *arrays: Any) -> Dataset:
    """A data set of two arrays: labels of classes, or values of any shape by name; and weights."""
    if len(arrays) not in (2, 3):
        raise TypeError(
            f"data must be a fx.data.Dataset, a fx.data.Stream or a pair (x, y), not "
            f"{len(arrays)} arrays; give fx.data.Dataset(name, {{'image': x}}) for others."
        )
    input, target, *weights = arrays
    found = values("the targets", target)
    labels = found.ndim == 1 and found.dtype.kind in "iu" and network.output.energy.takes_labels
    if labels and network.output_shape[0] > 1:
        return split((input, found, *weights), classes=network.output_shape[-1])
    if found.ndim == 1 and network.output_shape == (1,):
        found = found[:, None]
    if found.shape[1:] != network.output_shape:
        raise ValueError(
            f"{described('the targets', target)} have the shape {found.shape[1:]} for each "
            f"example, but node {network.output.name!r} predicts {network.output_shape}; give as "
            "many targets, or build the network for these."
        )
    named = dict(zip(("weights",), weights, strict=False))
    return split({network.roots[0].name: input, network.output.name: found, **named})


def _plan(
    network: Network, data: Dataset | Stream, epochs: int, asked: int | None, choices: Choices
) -> Plan:
    batch_size = _BATCH_SIZE if asked is None else asked
    if isinstance(data, Stream):
        batch_size = _of_stream(data, asked)
        check_statistics(network, batch_size)
        steps = data.steps_per_epoch(batch_size)
        choices.check(steps)
        return Plan(epochs, steps, batch_size, network.labels, choices)
    size = data.size
    if batch_size > size:
        raise ValueError(
            f"batch_size is {batch_size}, but {data.name!r} has {size} training examples; choose "
            f"a batch size from 1 to {size}."
        )
    check_statistics(network, batch_size)
    choices.check(size // batch_size)
    return Plan(epochs, size // batch_size, batch_size, network.labels, choices)


def _of_stream(data: Stream, asked: int | None) -> int:
    """Examples in the batches of a stream."""
    found = data.batch_size(_BATCH_SIZE if asked is None else asked)
    if asked not in (None, found):
        raise ValueError(
            f"batch_size is {asked}, but stream {data.name!r} has batches of {found}; leave out "
            "batch_size, or let the stream give batches of this size."
        )
    if not data.steps_per_epoch(found):
        raise ValueError(
            f"batch_size is {found}, but stream {data.name!r} has fewer examples; choose a smaller "
            "one."
        )
    return found


def check_statistics(network: Network, batch_size: int) -> None:
    """Raises `ValueError` if a batch is too small for the batch normalization of a network."""
    if batch_size < 2 and holds_statistics(network):
        raise ValueError(
            "the network normalizes by statistics of the batch, which one example does not have: "
            "batch_size must be at least 2, or use group normalization or none."
        )
