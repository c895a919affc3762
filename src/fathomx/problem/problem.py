"""`Problem`: what is clamped, and the energy that follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fathomx import checks
from fathomx.checks import example, gate
from fathomx.graph.clamp import Clamp
from fathomx.graph.entries import Entry
from fathomx.graph.feedback import Feedback
from fathomx.graph.network import Network
from fathomx.graph.predictor import Predictor
from fathomx.graph.vector_space import Entries
from fathomx.problem.checks import check_clamps, check_precision, fitting
from fathomx.problem.coordinates import Coordinates
from fathomx.problem.entry_energy import EntryEnergy

Scale = float | Array


@example("fx.Problem(network, x, y)")
@gate
class Problem(Coordinates):
    """A network with some of its entries clamped: the energy that inference minimizes.

        z_v = where(clamped_v, value_v, mu_v(z_parents) + e_v)
        F(e) = sum_free (pi_v / 2) ||e_v||^2  +  lambda * sum_observed pi_v E_v(value_v, mu_v)
               +  sum_feedbacks (pi_f / 2) ||z_of - g_f(z_parents)||^2

    per example. Free are the entries, and parts of entries, that are not clamped; their errors `e`
    are the coordinates of inference. Observed are those that are clamped and have a prediction; a
    root that is clamped is given and adds nothing. Examples never interact, so the objective of
    inference is the sum over the batch.

    **Arguments**

    * `network`: a `Network`.
    * `clamps`: values by name, each `(batch, *shape)` (of a `Stack` `(depth, batch, ...)`), integer
      labels `(batch, *shape[:-1])` that are turned into one-hot vectors, or an `fx.Clamp` of a
      part. `Problem(network, x, y)` and `Problem(network, input=x, target=y)` clamp the first root
      and the output. `{}` clamps nothing: the prior.
    * `output_precision`: lambda, 1 unless given; may be traced. With `input` and `target` it is the
      output's precision itself, in place of the one that its energy has.
    * `batch`: number of examples, where nothing is clamped that tells it; 1 unless given.

    Values take the type of the network's weights.

    Raises `ValueError` for unknown names, shapes that do not fit, labels out of range, values that
    are not finite (the values are only looked at outside of `jax.jit`), a free root without a
    prior, a free entry with children whose energy is not Gaussian, and where nothing is left to
    infer or to explain.

    ```python
    problem = fx.Problem(network, input=x, target=y)
    problem = fx.Problem(network, {"image": x})                        # the cause is inferred
    problem = fx.Problem(network, {"image": fx.Clamp(x, mask=seen)})   # and what is not seen
    relaxed = fx.infer(problem, fx.GaussNewton())
    ```
    """

    output_precision: Float[Array, ""]
    reference: float = eqx.field(static=True)

    def __init__(
        self,
        network: Network,
        clamps: Any = None,
        target: Any = None,
        output_precision: Any = None,
        *,
        input: Any = None,
        batch: int = 1,
    ) -> None:
        self.network, self.weights = network, None
        named = isinstance(clamps, Mapping)
        if named and target is not None and output_precision is None and jnp.ndim(target) == 0:
            target, output_precision = None, target
        self.clamps = check_clamps(network, _by_name(network, clamps, input, target))
        output = network.output
        static = output.energy.log_precision is None
        self.reference = 1.0 if named or not static else output.energy.precision
        precision = self.reference if output_precision is None else output_precision
        self.output_precision = check_precision(precision, network)
        if not isinstance(batch, int | np.integer) or batch < 1:
            raise ValueError(f"batch must be an integer of at least 1, not {batch!r}.")
        self._batch = int(batch)
        self._check()
        if batch not in (1, self.batch):
            raise ValueError(
                f"batch is {batch}, but what is clamped holds {self.batch} examples; leave out "
                "batch, which is for problems where nothing clamped tells it."
            )

    def __str__(self) -> str:
        part = tuple(name for name in self.clamps if name not in self.given)
        told = {"clamped": self.given, "clamped in part": part, "free": self.free}
        names = [f"{what}: {', '.join(found)}" for what, found in told.items() if found]
        return f"Problem of {self.batch} examples; {'; '.join(names)}"

    def with_output_precision(self, output_precision: Any) -> Problem:
        """The same problem with another output precision."""
        checked = check_precision(output_precision, self.network)
        return eqx.tree_at(lambda problem: problem.output_precision, self, checked)

    def energy_of(self, part: Predictor) -> EntryEnergy:
        """The whole energy of an entry or a feedback, of what is free and of what is observed."""
        return self._entry_energy(part, 1.0, self.output_precision)

    def free_energy_of(self, part: Predictor) -> EntryEnergy:
        """The energy of what is free in an entry."""
        return self._entry_energy(part, 1.0, None)

    def observed_energy_of(self, part: Predictor, precision: Scale | None = None) -> EntryEnergy:
        """The energy of what is observed in an entry, or of a feedback."""
        precision = self.output_precision if precision is None else precision
        return self._entry_energy(part, None, precision)

    @fitting
    def total(self, errors: Entries) -> Float[Array, " batch"]:
        """The energy F of every example as a function of the errors."""
        return self.free_energy(errors) + self.explained_energy(self.explain(errors)[0])

    @fitting
    def free_energy(self, errors: Entries) -> Float[Array, "*batch"]:
        """`sum_free (pi_v / 2) ||e_v||^2`, and the logarithms of learned precisions."""
        energy = 0.5 * self.network.space.dot(self.weigh(errors), errors)
        for entry in self._free_entries():
            logarithm = self.free_energy_of(entry).logarithm
            if logarithm is not None:
                like = entry.rows(jnp.broadcast_to(logarithm, errors[entry.name].shape))
                energy = energy - like.sum(axis=(0, *range(2, like.ndim)))
        return energy

    @fitting
    def explained_energy(self, explained: Entries) -> Float[Array, "*batch"]:
        """The energy of observed entries and feedbacks, for every example."""
        return self._summed(self._explained_parts(), explained, None)

    @fitting
    def explained_gradient(self, explained: Entries) -> Entries:
        """The gradient of `explained_energy` in what is explained."""
        gradient = {}
        for part in self._explained_parts():
            energy = self.observed_energy_of(part)
            error = energy.weighed(energy.error(*self.compared(part, explained)))
            gradient[part.name] = error if isinstance(part, Feedback) else -error
        return gradient

    @fitting
    def explained_curvature(self, explained: Entries, change: Entries) -> Entries:
        """The curvature of `explained_energy` times a change of what is explained.

        The Hessian, but of energies without one that of a parabola above (`Energy.curvature`).
        """
        product = {}
        for part in self._explained_parts():
            energy = self.observed_energy_of(part)
            pair = self.compared(part, explained)
            product[part.name] = energy.weighed(energy.curvature(*pair, change[part.name]))
        return product

    @fitting
    def explained_errors(self, explained: Entries) -> Entries:
        """The error of every observed entry at precision 1, and the feedbacks' discrepancies."""
        return {
            part.name: self.observed_energy_of(part).error(*self.compared(part, explained))
            for part in self._explained_parts()
        }

    @fitting
    def loss(self, explained: Entries | Array) -> Float[Array, " batch"]:
        """The energy of what is observed at output precision 1, for every example.

        With `input` and `target` it is the output's energy at precision 1: the loss of backprop.
        An array alone is the prediction of the output.
        """
        if not isinstance(explained, dict):
            explained = {self.network.output.name: explained}
        return self._summed(self._observed_entries(), explained, 1.0)

    @fitting
    def all_errors(self, activities: Entries) -> Entries:
        """Errors of free and observed entries and discrepancies, from activities."""
        return self.joined_errors(self.errors_of(activities), self.explained_at(activities))

    @fitting
    def joined_errors(self, errors: Entries, explained: Entries) -> Entries:
        """The errors of free entries with those of what is observed in their place."""
        joined = self.explained_errors(explained)
        for name, error in errors.items():
            mask = self.clamps[name].mask if name in self.clamps else None
            joined[name] = error if mask is None else jnp.where(mask, joined.get(name, 0), error)
        return joined

    @fitting
    def compared(self, part: Predictor, explained: Entries) -> tuple[Array, Array]:
        """Target and prediction; a feedback's discrepancy is compared with zero."""
        found = explained[part.name]
        if isinstance(part, Feedback):
            return found, jnp.zeros_like(found)
        return self.clamps[part.name].value, found

    def constant_energy(self) -> Float[Array, "*batch"]:
        """The energy without any error: the logarithms of learned precisions, 0 without them."""
        none = {f.name: self.network.zeros_of(f.name, self.batch) for f in self.network.feedbacks}
        met = none | {name: self.clamps[name].value for name in self.observed}
        return self.free_energy(self.zeros()) + self.explained_energy(met)

    @fitting
    def weigh(self, errors: Entries) -> Entries:
        """`Pi e`: every free entry times its precision."""
        return {
            entry.name: self.free_energy_of(entry).weighed(errors[entry.name])
            for entry in self._free_entries()
        }

    @fitting
    def unweigh(self, errors: Entries) -> Entries:
        """`Pi^-1 e`: every free entry divided by its precision."""
        shapes = self.network.shapes
        precisions = {e.name: e.precision(shapes[e.name]) for e in self._free_entries()}
        return {
            name: errors[name] if isinstance(pi, float) and pi == 1 else errors[name] / pi
            for name, pi in precisions.items()
        }

    def hidden(self, entries: Entries) -> Entries:
        """The former name of `select`."""
        _renamed("hidden", "select")
        return self.select(entries)

    def predict(self, errors: Entries) -> tuple[Array, Entries]:
        """The output's prediction and the free activities: formerly what `explain` returns."""
        _renamed("predict", "explain")
        explained, activities = self.explain(errors)
        return explained[self.network.output.name], activities

    def _free_entries(self) -> list[Entry]:
        return [self.network.entry(name) for name in self.free]

    def _observed_entries(self) -> list[Predictor]:
        return [self.network.entry(name) for name in self.observed]

    def _explained_parts(self) -> list[Predictor]:
        return [*self._observed_entries(), *self.network.feedbacks]

    def _summed(
        self, parts: list[Predictor], explained: Entries, precision: Scale | None
    ) -> Float[Array, "*batch"]:
        """The energy of some of what is explained, for every example."""
        rows = [
            self.observed_energy_of(part, precision)(*self.compared(part, explained)).sum(axis=0)
            for part in parts
        ]
        return sum(rows[1:], start=rows[0]) if rows else jnp.zeros(self.batch, self.network.dtype)

    def _entry_energy(
        self, part: Predictor, free: Scale | None, observed: Scale | None
    ) -> EntryEnergy:
        """The energy with the factors of what is free and of what is observed; `None` for 0."""
        shape, clamp = self.network.shapes[part.name], self.clamps.get(part.name)
        precision = part.precision(shape)
        if isinstance(part, Feedback):
            free, observed = (None if observed is None else 1.0), None
        elif part.name not in self.observed:
            observed = None
        if not part.energy_is_gaussian:
            free = None
        logarithm = None
        if part.energy.log_precision is not None:
            half = 0.5 * part.aligned(part.energy.log_precision, shape)
            counted = free if self.is_read(part.name) or isinstance(part, Feedback) else None
            logarithm = _of(clamp, counted or 0.0, 0.0 if observed is None else observed) * half
        factor = _of(
            clamp,
            0.0 if free is None else _times(free, precision),
            0.0 if observed is None else _times(observed, precision / self.reference),
        )
        return EntryEnergy(part.energy, factor, logarithm, stacked=part.batch_axis == 1)


def _by_name(network: Network, clamps: Any, input: Any, target: Any) -> dict[str, Any]:
    """All that is clamped, by name."""
    named = isinstance(clamps, Mapping)
    found = dict(clamps) if named else {}
    if not named and clamps is not None:
        if input is not None:
            raise ValueError("the input is given twice, by position and as input=; give it once.")
        input = clamps
    if not named and (input is None or target is None):
        raise ValueError(
            "a problem needs what is clamped: fx.Problem(network, input=x, target=y), or values by "
            f"name such as fx.Problem(network, {{{network.output.name!r}: y}})."
        )
    for entry, value in ((network.roots[0], input), (network.output, target)):
        if value is not None:
            if entry.name in found:
                raise ValueError(f"{entry.name!r} is clamped twice; give its value once.")
            found[entry.name] = value
    return found


def _renamed(old: str, new: str) -> None:
    checks.warn(f"problem.{old} is now problem.{new}.", DeprecationWarning)


def _of(clamp: Clamp | None, free: Scale, observed: Scale) -> Scale:
    """What is free where nothing is clamped, what is observed where something is."""
    if clamp is None:
        return free
    if clamp.whole:
        return observed
    return jnp.where(clamp.mask, observed, free)


def _times(scale: Scale, precision: Scale) -> Scale:
    if isinstance(precision, float) and precision == 1:
        return scale
    return scale * precision
