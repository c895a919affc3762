"""One run: a learning rate chosen by validation, and the test part scored with it."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fathomx.experiments.examples import first
from fathomx.experiments.strength.examples import dataset, training_examples
from fathomx.experiments.strength.probe import probe
from fathomx.experiments.strength.scales import Scale
from fathomx.experiments.strength.setting import Setting
from fathomx.experiments.strength.training import Course, batches, train
from fathomx.graph.network import Network
from fathomx.training.scores import score

_PROBED = 64


class Trained(NamedTuple):
    """A network trained at one learning rate, and what validation says of it."""

    rate: float
    network: Network
    course: Course
    accuracy: float

    @property
    def finite(self) -> bool:
        """Whether neither training nor validation left the finite numbers."""
        return self.accuracy >= 0


def run(setting: Setting, method: str, seed: int, scale: Scale) -> dict[str, Any]:
    """Trains at every learning rate, chooses by validation accuracy, scores the test part once."""
    begun = time.perf_counter()
    data, rule = dataset(setting.model.data), setting.rule(method)
    network = setting.model.network(jax.random.key(seed))
    count = min(scale.examples, len(data.train.labels))
    examples = training_examples(setting.model.data, count)
    chosen = batches(count, setting, seed)
    validation = first(data.validation, scale.validation)

    def trained(rate: float) -> Trained:
        schedule, key = setting.schedule(rate), jax.random.key(seed)
        after, course = train(network, rule, setting.optimizer, examples, chosen, schedule, key)
        loss, accuracy = score(after, validation)
        finite = math.isfinite(loss) and bool(jnp.isfinite(course.loss).all())
        return Trained(rate, after, course, accuracy if finite else -1.0)

    tried = [trained(rate) for rate in setting.rates]
    best = max(tried, key=lambda one: one.accuracy)
    row: dict[str, Any] = {
        "tried": {f"{one.rate:g}": one.accuracy if one.finite else None for one in tried},
        "test_accuracy": None,
    }
    if not best.finite:
        return row
    inputs, labels = (each[:_PROBED] for each in examples)
    before, after = (
        probe(each, rule, inputs, labels, jax.random.key(seed)) for each in (network, best.network)
    )
    test_loss, test_accuracy = score(best.network, first(data.test, scale.test))
    row.update(
        test_accuracy=test_accuracy,
        test_loss=test_loss,
        validation_accuracy=best.accuracy,
        rate=best.rate,
        at_edge=float(len(tried) > 1 and best.rate in (setting.rates[0], setting.rates[-1])),
        sensitivity_first=float(before[0]),
        sensitivity_last=float(after[0]),
        cosine_first=float(before[1]),
        cosine_last=float(after[1]),
        seconds=time.perf_counter() - begun,
    )
    if method != "backprop":
        row.update(
            strength=float(jnp.median(best.course.strength)),
            unsettled=float(jnp.median(best.course.unsettled_median)),
            unsettled_largest=float(best.course.unsettled_max.max()),
        )
    return row
