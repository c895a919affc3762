"""`Coordinates`: errors and activities of one problem, each from the other."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from fathomx.checks import gate
from fathomx.graph.vector_space import Entries
from fathomx.problem.checks import fitting
from fathomx.problem.clamped import Clamped


@gate
class Coordinates(Clamped):
    """The two sets of coordinates in which inference moves, and what they say of the rest.

        z_v = where(clamped_v, value_v, mu_v(z_parents) + e_v)

    in topological order: a bijection between the errors `e` and the activities `z` of what is free,
    with unit determinant. Both tell all that has to be explained: the predictions of observed
    entries and the discrepancies `z_of - g_f(z_parents)` of feedbacks.
    """

    def zeros(self) -> Entries:
        """Errors of zero: the feedforward pass."""
        return {name: self.network.zeros_of(name, self.batch) for name in self.free}

    @fitting
    def complete(self, activities: Entries) -> Entries:
        """Activities of all entries, from those of the free ones."""
        whole = {name: clamp.value for name, clamp in self.clamps.items() if clamp.whole}
        whole |= {name: self._met(name, activities[name]) for name in self.free}
        for entry in self.network.bound():
            if entry.name not in whole and entry.depth:
                # What is neither clamped whole nor inferred is a leaf, and stands for a prediction.
                sources = self.network.sources(entry, whole, batch=self.batch)
                predicted = entry.energy.expected(entry.predict(sources, None))
                whole[entry.name] = self._met(entry.name, predicted)
        return {
            entry.name: whole[entry.name] for entry in self.network.entries if entry.name in whole
        }

    def feedforward(self) -> Entries:
        """What is explained at the feedforward pass."""
        return self.explain({})[0]

    @fitting
    def inferred(self, activities: Entries) -> Entries:
        """Activities with what is clamped in its place, but for leaves that are only predicted."""
        known = {name: self._met(name, activities[name]) for name in self.free}
        return {name: clamp.value for name, clamp in self.clamps.items()} | known

    @fitting
    def explain(self, errors: Entries) -> tuple[Entries, Entries]:
        """What is explained, from the errors: predictions of what is observed, discrepancies.

        And the activities of the free entries.
        """
        network = self.network
        activities, predicted = network.passed(errors, self.clamps, self.batch)
        explained = {name: predicted[name] for name in self.observed}
        if network.feedbacks:
            explained |= network.discrepancies(activities)
        return explained, {name: activities[name] for name in self.free}

    @fitting
    def explained_at(self, activities: Entries) -> Entries:
        """What is explained, from activities: all predictions at once."""
        known = self.inferred(activities)
        predicted = self.network.predictions(known)
        explained = {name: predicted[name] for name in self.observed}
        return explained | self.network.discrepancies(known)

    @fitting
    def errors_of(self, activities: Entries) -> Entries:
        """Errors `z_v - mu_v` of the free entries from their activities; 0 where clamped."""
        known = self.inferred(activities)
        return self.errors_from(known, self.network.predictions(known))

    @fitting
    def errors_from(
        self, activities: Entries, predicted: Entries, names: tuple[str, ...] | None = None
    ) -> Entries:
        """Errors of the free entries from their activities and predictions; 0 where clamped."""
        names = self.free if names is None else names
        return self._masked({name: activities[name] - predicted[name] for name in names})

    @fitting
    def errors_from_start(self, at: Entries) -> Entries:
        """Errors of the free entries from some activities; 0 of those that are not named."""
        network, errors = self.network, self.zeros()
        ends: Entries = {}
        for entry in network.bound():
            name, parents = entry.name, network.parents[entry.name]
            sources = [ends[p] for p in parents] or network.sources(entry, {}, batch=self.batch)
            if name in at:
                activity = self._met(name, at[name])
                errors |= self.errors_from(
                    {name: activity}, {name: entry.predict(sources, activity)}, (name,)
                )
                ends[name] = entry.end(activity)
            else:
                ends[name] = entry.unroll(sources, None, self.clamps.get(name))[0]
        return errors

    @fitting
    def select(self, entries: Entries) -> Entries:
        """The free entries alone."""
        return {name: entries[name] for name in self.free}

    @fitting
    def free_errors(self, errors: Entries) -> Entries:
        """The coordinates of inference from the errors of a relaxation: 0 where clamped."""
        return self._masked({name: errors[name] for name in self.free})

    def _masked(self, errors: Entries) -> Entries:
        return {
            name: jnp.where(self.clamps[name].mask, 0, error) if name in self.clamps else error
            for name, error in errors.items()
        }

    def _met(self, name: str, activity: Array) -> Array:
        return self.clamps[name].meet(activity) if name in self.clamps else activity
