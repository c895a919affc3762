"""A predictive coding network: entries that predict one another, and feedbacks between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx import checks
from fathomx.checks import Count, DType, example, gate, unknown
from fathomx.graph.clamp import Clamp, clamps_of
from fathomx.graph.description import described
from fathomx.graph.entries import Entry, Root
from fathomx.graph.feedback import Amortized, Feedback
from fathomx.graph.noise import Noise
from fathomx.graph.predictor import Predictor
from fathomx.graph.sharing import check_separate, with_shared
from fathomx.graph.statistics import (
    holds_statistics,
    is_statistics,
    parameter_count,
    weights,
    with_batch_statistics,
    with_fields,
)
from fathomx.graph.vector_space import Entries, VectorSpace
from fathomx.graph.wiring import resolved_feedbacks, resolved_parents

INPUT = "input"
# Clamped values by name, or those of the first root alone.
Given = Any


@example("fx.models.mlp(784, 10, key=key)")
@gate
class Network(eqx.Module):
    """Entries in topological order, who predict one another; the last one is the output.

    Entry `v` has an activity `z_v`, a prediction `mu_v = f_v(z_parents(v))` and an error
    `e_v = z_v - mu_v`. Who of them is clamped belongs to a `Problem`, by name; the network only
    says who predicts whom. It knows how to compute predictions from activities (`predictions`, all
    at once) and activities from errors (`unroll`, in order); energies, inference and learning are
    built on these two.

    **Arguments**

    * `entries`: `Root`s, `Node`s and `Stack`s in an order in which parents come first.
    * `input_shape`: shape of one input, without the batch: short for a first entry
      `fx.Root("input", input_shape, input_dtype, energy=None, vocabulary=vocabulary)`.
    * `input_dtype`: type of the input; by default that of the weights. Integers (tokens) stay.
    * `vocabulary`: number of different tokens, if the input is tokens; others are refused.
    * `feedbacks`: any number of `Feedback`s, further predictions of entries, and of `Amortized`
      ones, which inference starts from.
    * `share`: names of nodes whose function is that of another, `{"second": "first"}`: their
      weights are one, and learn from both. One module in two nodes without it is refused.

    `print(network)` shows a line for every entry.

    **Attributes**: `depth` (number of nodes), `labels` (their names, then the feedbacks'), `shapes`
    (of one example's activity, by entry), `hidden` (names of all entries between inputs and
    output).

    Raises `ValueError` for repeated or unknown names, for a graph that is not in topological order
    and for shapes that do not fit, naming the entry.

    ```python
    network = fx.Network([fx.Node("hidden", f), fx.Node("output", g)], input_shape=(784,))
    decoder = fx.Network([fx.Root("cause", (32,)), fx.Node("image", f)])
    ```
    """

    _predictors: tuple[Predictor, ...]
    _feedback_count: int = eqx.field(static=True)
    share: tuple[tuple[str, str], ...] = eqx.field(static=True)
    _parents: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True)
    _shapes: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)

    def __init__(
        self,
        entries: Sequence[Entry],
        input_shape: Sequence[int] | None = None,
        input_dtype: DType | None = None,
        vocabulary: int | None = None,
        *,
        feedbacks: Sequence[Feedback] = (),
        share: Mapping[str, str] | None = None,
    ) -> None:
        roots = []
        if input_shape is not None:
            roots = [Root(INPUT, input_shape, input_dtype, energy=None, vocabulary=vocabulary)]
        given = (*roots, *entries)
        self._parents = tuple(resolved_parents(given).items())
        by_name = {entry.name: entry for entry in given}
        resolved = resolved_feedbacks(tuple(feedbacks), by_name)
        self._parents += tuple((f.name, f.parents) for f in resolved)
        self.share = tuple((share or {}).items())
        self._feedback_count = len(resolved)
        self._predictors = (*check_separate(given, resolved, self.share), *resolved)
        self._shapes = tuple(self._infer_shapes().items())

    def __str__(self) -> str:
        table = described(self._predictors, self.parents, self.shapes, dict(self.share))
        return f"Network of {self.depth} nodes with {parameter_count(self):,} weights\n{table}"

    @property
    def nodes(self) -> tuple[Entry, ...]:
        """The entries but pure inputs: the former name of `entries`."""
        checks.warn(
            "network.nodes is now network.entries, in which inputs are entries, too.",
            DeprecationWarning,
        )
        return tuple(entry for entry in self.entries if entry.depth)

    @property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """Names of the parents of every entry and feedback."""
        return dict(self._parents)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one example's activity by entry; a stack's begins with its depth.

        Of a feedback, that of its discrepancy.
        """
        return dict(self._shapes)

    @property
    def dtype(self) -> Any:
        """The floating-point type that activities, errors and energies follow: the weights'."""
        learned = jax.tree.leaves(weights(self._predictors))
        if not learned:
            learned = jax.tree.leaves(eqx.filter(self._predictors, eqx.is_inexact_array))
        return jnp.result_type(*learned) if learned else jnp.result_type(float)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Roots, nodes and stacks in topological order."""
        count = len(self._predictors) - self._feedback_count
        entries: Any = self._predictors[:count]
        return entries

    @property
    def feedbacks(self) -> tuple[Feedback, ...]:
        """Further predictions of entries, without those that are only a start of inference."""
        return tuple(f for f in self._further if not isinstance(f, Amortized))

    @property
    def amortized(self) -> tuple[Amortized, ...]:
        """The predictions that inference starts from."""
        return tuple(f for f in self._further if isinstance(f, Amortized))

    @property
    def _further(self) -> tuple[Any, ...]:
        return self._predictors[len(self._predictors) - self._feedback_count :]

    def predictors(self) -> Iterator[Predictor]:
        """Entries and feedbacks, in the order in which nodes are reported."""
        return iter(self._predictors)

    @property
    def roots(self) -> tuple[Root, ...]:
        """The entries without parents, but `noise`."""
        roots = (entry for entry in self.entries if isinstance(entry, Root))
        return tuple(root for root in roots if not isinstance(root, Noise))

    @property
    def noise(self) -> tuple[Noise, ...]:
        """The entries that show keys to random nodes."""
        return tuple(entry for entry in self.entries if isinstance(entry, Noise))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example of the first root."""
        return self.roots[0].shape

    @property
    def input_dtype(self) -> Any:
        """The type that values of the first root are cast to."""
        return self.root_dtype(self.roots[0])

    @property
    def vocabulary(self) -> int | None:
        """Number of different tokens that the first root takes, if it takes tokens."""
        return self.roots[0].vocabulary

    def root_dtype(self, root: Root) -> Any:
        """The type that values of a root are cast to."""
        return self.dtype if root.dtype is None else root.dtype

    @property
    def depth(self) -> int:
        """Number of nodes; pure inputs and feedbacks are not counted."""
        return sum(entry.depth for entry in self.entries)

    @property
    def output(self) -> Entry:
        """The last entry."""
        return self.entries[-1]

    @property
    def hidden(self) -> tuple[str, ...]:
        """Names of the entries but pure inputs and the last one."""
        return tuple(entry.name for entry in self.entries[:-1] if entry.depth)

    @property
    def labels(self) -> tuple[str, ...]:
        """One name per node, then the feedbacks': the order in which energies are reported."""
        return tuple(label for part in self._predictors for label in part.labels)

    @property
    def space(self) -> VectorSpace:
        """Per-example linear algebra on this network's activities and errors."""
        return VectorSpace(tuple((part.name, part.batch_axis) for part in self._predictors))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one prediction of the output."""
        return self.shapes[self.output.name]

    def entry(self, name: str) -> Entry:
        """The entry with a name."""
        return _named(name, self.entries, "entry")

    def predictor(self, name: str) -> Predictor:
        """The entry or the feedback with a name."""
        return _named(name, self._predictors, "entry or feedback")

    def bound(self) -> tuple[Entry, ...]:
        """The entries, those that share a function with that function."""
        return with_shared(self.entries, self.share)

    def zeros(self, batch: Count) -> Entries:
        """Errors of zero for every hidden entry and example."""
        return {name: self.zeros_of(name, batch) for name in self.hidden}

    def zeros_of(self, name: str, batch: Count) -> Array:
        """An activity of zeros."""
        part = self.predictor(name)
        return jnp.zeros(part.whole_shape(self.shapes[name], batch), self.dtype)

    def clamped(self, given: Given) -> dict[str, Clamp]:
        """Values by name as clamps; an array alone is that of the first root."""
        clamps = clamps_of(given if isinstance(given, Mapping) else {self.roots[0].name: given})
        return {
            name: Clamp(
                self._typed(name, checks.array_or_keys(f"the value of {name!r}", c.value)), c.mask
            )
            for name, c in clamps.items()
        }

    def _typed(self, name: str, value: Array) -> Array:
        """Numbers in the type that the network computes with; tokens and keys as they are."""
        entry = self.entry(name)
        wanted = self.root_dtype(entry) if isinstance(entry, Root) else self.dtype
        return (
            value.astype(wanted)
            if jnp.issubdtype(wanted, jnp.floating) and jnp.issubdtype(value.dtype, jnp.floating)
            else value
        )

    def predictions(self, activities: Entries, given: Given | None = None) -> Entries:
        """`mu_v = f_v(z_parents(v))` of every entry from the activities of its parents.

        `activities` (with `given`, the values of roots, if they are kept apart) needs all entries
        that others read, and stacks; entries do not wait for one another. Pure inputs have no
        prediction.
        """
        known = self._joined(activities, given)
        batch = self.batch_of(known)
        self.check_fit(known, batch)
        return {
            entry.name: entry.predict(
                self.sources(entry, known, batch=batch), known.get(entry.name)
            )
            for entry in self.bound()
            if entry.depth
        }

    def feedback_predictions(self, activities: Entries) -> Entries:
        """`g_f(z_parents(f))` of every feedback."""
        if activities:
            self.check_fit(activities, self.batch_of(activities))
        return {f.name: f.predict(self.feedback_sources(f, activities)) for f in self.feedbacks}

    def discrepancies(self, activities: Entries) -> Entries:
        """`z_of - g_f(z_parents(f))` of every feedback."""
        predicted = self.feedback_predictions(activities)
        return {f.name: self.target(f, activities) - predicted[f.name] for f in self.feedbacks}

    def target(self, feedback: Feedback, activities: Entries) -> Array:
        """What a feedback predicts."""
        of = self.entry(feedback.of)
        read = self.sources(of, activities) if not of.is_root else []
        return feedback.target(of, read, activities[of.name])

    def feedback_sources(self, feedback: Feedback, activities: Entries) -> list[Array]:
        """What a feedback predicts from."""
        ends = self.sources(feedback, activities)
        return feedback.sources(ends, activities[feedback.of])

    def unroll(
        self, errors: Entries | None, given: Given | None = None, batch: Count | None = None
    ) -> Entries:
        """Activities `z_v = where(clamped, value, f_v(z_parents(v)) + e_v)`, in order.

        `given` are the clamped values by name, or those of the first root; `batch` is needed where
        there are neither these nor errors. Entries without an error hold their prediction.
        `errors=None` is the feedforward pass. Pure inputs are not among the activities.
        """
        clamps = {} if given is None else self.clamped(given)
        activities, _ = self.passed(errors, clamps, batch)
        return {entry.name: activities[entry.name] for entry in self.entries if entry.depth}

    def passed(
        self, errors: Entries | None, clamps: Mapping[str, Clamp], batch: int | None = None
    ) -> tuple[Entries, Entries]:
        """Activities of all entries, and the predictions of those that are clamped and no roots."""
        activities: Entries = {}
        explained: Entries = {}
        values = {name: clamp.value for name, clamp in clamps.items()}
        batch = self.batch_of({**values, **(errors or {})}) if batch is None else batch
        self.check_fit({**values, **(errors or {})}, batch)
        # A child reads the end of a stack's scan, not a slice of all its activities, whose
        # derivative would be zeros of the size of the stack.
        ends: Entries = {}
        for entry in self.bound():
            name = entry.name
            parents = self.parents[name]
            sources = [ends[p] for p in parents] if parents else [self._nothing(batch)]
            error = None if errors is None else errors.get(name)
            found = entry.unroll(sources, error, clamps.get(name))
            ends[name], activities[name], predicted = found
            if predicted is not None and not entry.is_root:
                explained[name] = predicted
        return activities, explained

    def sources(
        self,
        part: Predictor,
        activities: Entries,
        given: Given | None = None,
        *,
        batch: int | None = None,
    ) -> list[Any]:
        """What the parents of an entry or a feedback show it; a root sees nothing."""
        known = self._joined(activities, given)
        if not self.parents[part.name]:
            return [self._nothing(self.batch_of(known) if batch is None else batch)]
        return [self.entry(p).shown(known) for p in self.parents[part.name]]

    def drawn_noise(
        self, key: PRNGKeyArray, batch: int, clamps: Mapping[str, Clamp]
    ) -> dict[str, Clamp]:
        """Keys for every `Noise` that is not clamped; nothing without one."""
        missing = [noise for noise in self.noise if noise.name not in clamps]
        if not missing:
            return {}
        keys = jax.random.split(key, len(missing))
        return {n.name: n.drawn(own, batch) for n, own in zip(missing, keys, strict=True)}

    def batch_of(self, activities: Mapping[str, Any]) -> int:
        """The number of examples that activities belong to."""
        axes = dict(self.space.batch_axes)
        for name, activity in activities.items():
            if jnp.ndim(activity) <= axes[name]:
                raise ValueError(
                    f"{name!r} is given with the shape {jnp.shape(activity)}, which has no axis of "
                    "examples."
                )
            return int(jnp.shape(activity)[axes[name]])
        raise ValueError("there is nothing that tells the size of the batch; give batch.")

    def _joined(self, activities: Entries, given: Given | None) -> Entries:
        if given is None:
            return activities
        values = {name: clamp.value for name, clamp in self.clamped(given).items()}
        self.check_fit(values, self.batch_of(activities or values))
        return {**activities, **values}

    def check_fit(self, values: Mapping[str, Any], batch: int) -> None:
        """Raises `ValueError` for activities or errors that are not those of a batch."""
        for name, value in values.items():
            part = self.predictor(name)
            wanted = part.whole_shape(self.shapes[name], batch)
            if jnp.shape(value) != wanted:
                raise ValueError(
                    f"{name!r} is given with the shape {jnp.shape(value)}, but here it has "
                    f"{wanted}: a value for each of {batch} examples."
                )

    def _nothing(self, batch: int) -> Array:
        return jnp.zeros((batch, 0), self.dtype)

    def with_batch_statistics(self, given: Given, batch: int | None = None) -> Network:
        """The network that normalizes by the statistics of this batch's feedforward pass.

        `given` is the input, `(batch, *network.input_shape)`, or clamped values by name, of at
        least two examples (`batch` of them, where nothing given tells). Node by node, in order: the
        statistics of a node come from parents that are normalized already. The result is an
        ordinary network with constants in place of the batch, so that its examples do not interact;
        taken before inference, the statistics are frozen while activities relax. Differentiable in
        the weights: taken inside of a loss, the gradient is that of live batch normalization. A
        network without `Statistics` is returned as it is, at no cost.

        Raises `ValueError` for a batch of one example.

        ```python
        frozen = network.with_batch_statistics(x)
        ```

        Source: Ioffe and Szegedy (2015); freezing during inference: Qi et al. (2025), arXiv
        2506.23800.
        """
        holding = [entry for entry in self.entries if holds_statistics(entry)]
        if not holding:
            return self
        clamps = self.clamped(given)
        if batch is None:
            batch = self.batch_of({name: clamp.value for name, clamp in clamps.items()})
        if batch < 2:
            raise ValueError(
                f"node {holding[0].name!r} normalizes by statistics of the batch, but the batch "
                'has one example; use a larger batch, normalization="group" or no normalization.'
            )
        entries: list[Entry] = []
        activities: Entries = {}
        shared = {name for name, _ in self.share}
        for own, entry in zip(self.entries, self.bound(), strict=True):
            sources = self.sources(entry, activities, batch=batch)
            if holds_statistics(own):
                function = with_batch_statistics(entry.learned_function(), *sources)
                entry = entry.with_function(function)
            entries.append(own if own.name in shared else entry)
            activities[entry.name] = entry.unroll(sources, None, clamps.get(entry.name))[1]
        return self.with_entries(tuple(entries))

    def moved_statistics(self, batch: Network, momentum: float = 0.1) -> Network:
        """The network with its statistics moved towards those of `batch`: running averages.

            stored <- (1 - momentum) * stored + momentum * batch

        for means and variances; the weights stay. `batch` is this network
        `with_batch_statistics`, and `momentum` lies in 0..1, or `ValueError` is raised. No
        derivative passes through the averages. A network without `Statistics` is returned as it
        is.

        ```python
        network = network.moved_statistics(network.with_batch_statistics(x))
        ```

        Source: Ioffe and Szegedy (2015). The variance that is averaged is that of the batch
        itself, without their factor `n / (n - 1)`.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(
                f"momentum is the part of the new statistics in the running average and must lie "
                f"in 0..1, not {momentum!r}; 0.1 is usual."
            )
        if not holds_statistics(self):
            return self

        def move(stored: Any, taken: Any) -> Any:
            if not is_statistics(stored):
                return stored
            return jax.tree.map(
                lambda old, new: (1 - momentum) * old + momentum * jax.lax.stop_gradient(new),
                stored,
                taken,
            )

        return self.with_entries(
            jax.tree.map(move, self.entries, batch.entries, is_leaf=is_statistics)
        )

    def with_feedbacks(self, feedbacks: Sequence[Feedback]) -> Network:
        """The network with further feedbacks.

        Raises `ValueError` for names that are taken or unknown, and shapes that do not fit.
        """
        return Network(self.entries, feedbacks=(*self._further, *feedbacks), share=dict(self.share))

    def with_predictors(self, changed: Mapping[str, Any]) -> Network:
        """The network with other entries and feedbacks of the same names and shapes."""
        parts = tuple(changed.get(part.name, part) for part in self._predictors)
        return with_fields(self, _predictors=parts)

    def with_entries(self, entries: tuple[Entry, ...]) -> Network:
        """The network with other entries of the same names and shapes."""
        return self.with_predictors({entry.name: entry for entry in entries})

    def _check_without_noise(self, part: Predictor, sources: list[Any]) -> None:
        """Raises `ValueError` for a random function that cannot do without a key."""
        keys = {noise.name for noise in self.noise}
        parents = self.parents[part.name]
        if keys.isdisjoint(parents):
            return
        quiet = [None if p in keys else s for p, s in zip(parents, sources, strict=True)]
        try:
            part.infer_shape(quiet)
        except Exception as error:
            raise ValueError(
                f"node {part.name!r} reads noise, but cannot predict without it, when its key is "
                f"None: {_reason(error)} Let its function return the prediction without noise then."
            ) from error

    def _infer_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        outputs: dict[str, Any] = {}
        for part in (*self.bound(), *self._further):
            name = part.name
            parents = self.parents[name]
            given = ", ".join(f"{p}: {outputs[p].shape}" for p in parents)
            sources = [outputs[p] for p in parents] or [jax.ShapeDtypeStruct((0,), self.dtype)]
            try:
                shapes[name], outputs[name] = part.infer_shape(sources)
            except (TypeError, ValueError) as error:
                if str(error).startswith(("node ", "stack ", "root ")):
                    raise
                raise ValueError(
                    f"node {name!r} cannot be applied to its parents' shapes ({given}): "
                    f"{_reason(error)} Check the sizes of this node and of its parents."
                ) from error
            part.check_precision(shapes[name])
            self._check_without_noise(part, sources)
        for feedback in self._further:
            found, wanted = outputs[feedback.name].shape, outputs[feedback.of].shape
            if found != wanted:
                raise ValueError(
                    f"feedback {feedback.name!r} predicts {found}, but {feedback.of!r} has the "
                    f"shape {wanted}; a feedback returns one activity of what it predicts."
                )
        return shapes


def _reason(error: Exception) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _named(name: str, parts: Sequence[Any], kind: str) -> Any:
    for part in parts:
        if part.name == name:
            return part
    raise ValueError(unknown(kind, name, [part.name for part in parts]))
