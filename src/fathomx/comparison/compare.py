"""`compare`: rules and optimizers on the same network, data and seeds, as a table."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from fathomx.checks import Count, OfOne, Optimizer, Positive, Seed, gate, instance
from fathomx.data import Dataset, Stream
from fathomx.graph.network import Network
from fathomx.learning import LearningRule
from fathomx.report.seeds import Method, methods_of, tables_of_seeds, text_of_seeds
from fathomx.training.fit import FitResult, fit
from fathomx.training.notebook import NotebookBar, Place, in_notebook
from fathomx.training.run import DivergenceError

_OWN = {
    "seed": "give seeds=, a number or a list",
    "rule": "every method has its own",
    "observers": "they watch a single run; call fx.fit for it",
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What `compare` found; as text and in notebooks a table.

    **Fields**

    * `methods`: of each, in order, its `name`, `scores` (by name and seed: those of the test part,
      and the validation loss), `differences` to the first method (an `fx.Paired` for every score)
      and `seconds` of training by seed.
    * `results`: what `fx.fit` returned, by the name of the method and the seed.
    """

    methods: tuple[Method, ...]
    results: dict[str, dict[int, FitResult]]

    def __repr__(self) -> str:
        seeds = len(next(iter(self.results.values())))
        return f"Comparison({', '.join(self.results)}; {seeds} seed{'s' if seeds > 1 else ''})"

    def __str__(self) -> str:
        return text_of_seeds(self.methods)

    def _repr_html_(self) -> str:
        return "\n".join(tables_of_seeds(self.methods))


@gate
def compare(
    methods: Mapping[str, LearningRule | tuple[LearningRule, Optimizer | Positive]],
    network: Network | OfOne,
    data: Dataset | Stream | tuple[Any, ...],
    *,
    seeds: Count | Sequence[Seed] = 5,
    **options: Any,
) -> Comparison:
    """Trains by several methods, each with the same seeds, and says how sure differences are.

    All methods begin a seed with the same weights and see the same batches, so that they are
    compared seed by seed: means, standard deviations, and the paired differences to the first
    method with their interval at 95% and the exact sign-flip test (`fx.paired`). `fathomx seeds`
    does the same in folders, and goes on after a kill.

    **Arguments**

    * `methods`: by name, a learning rule, or a pair of a rule and its optimizer (or rate).
    * `network`: one network, so that seeds differ in the order of the examples alone; or a function
      that builds it from a random key, so that they differ in the first weights as well.
    * `data`: as that of `fx.fit`.
    * `seeds`: how many, from 0; or which.
    * `options`: those of `fx.fit`, for all methods: `epochs`, `batch_size`, `metrics`, `optimizer`
      for methods without one of their own, and so on.

    The seconds that are shown are the median over the seeds: the first compiles for all.

    Raises `ValueError` without methods or seeds, for a seed that is given twice and for what
    `fx.fit` refuses; `DivergenceError`, with method and seed, where training diverges.

    ```python
    found = fx.compare(
        {"Gauss-Newton": fx.Equilibrium(), "backprop": (fx.Backprop(), optax.sgd(0.1))},
        lambda key: fx.models.mlp(64, 10, width=32, depth=4, key=key),
        fx.data.load("digits"), seeds=3, epochs=5,
    )
    print(found)
    found.methods[1].differences["test_accuracy"].p
    ```
    """
    for name, why in _OWN.items():
        if name in options:
            raise ValueError(f"{name} cannot be given to fx.compare: {why}.")
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not methods or not numbers:
        raise ValueError(
            f"{'seeds' if methods else 'methods'} is empty; give at least one"
            + ("." if methods else ", such as {'PC': fx.Equilibrium()}.")
        )
    if len(set(numbers)) < len(numbers):
        raise ValueError("seeds holds a seed twice; leave one out.")
    place, begun = Place(), time.perf_counter()
    results: dict[str, dict[int, FitResult]] = {name: {} for name in methods}
    for seed in numbers:
        built = _built(network, seed)
        for name, method in methods.items():
            rule, own = (method, {}) if isinstance(method, LearningRule) else _parts(method)
            # Nobody else watches, so that what is noted is warned of.
            bars = [NotebookBar(f"{name}, seed {seed}", place)] if in_notebook() else []
            try:
                results[name][seed] = fit(
                    built, data, rule, seed=seed, observers=bars, **{**options, **own}
                )
            except DivergenceError as error:
                raise DivergenceError(f"{name}, seed {seed}: {error}") from None
    runs = len(methods) * len(numbers)
    place.show(f"{runs} runs, {time.perf_counter() - begun:.0f} s")
    found = {name: {s: each.summary for s, each in of.items()} for name, of in results.items()}
    return Comparison(tuple(methods_of(found)), results)


def _built(network: Any, seed: int) -> Network:
    if isinstance(network, Network):
        return network
    return instance("what network(key) returns", network(jax.random.key(seed)), Network)


def _parts(method: tuple[LearningRule, Any]) -> tuple[LearningRule, dict[str, Any]]:
    rule, optimizer = method
    return rule, {"optimizer": optimizer}
