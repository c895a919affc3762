"""Samples from the predictions of a network, from its roots to its leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from fathomx.checks import Count, gate
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.problem.checks import check_clamps, check_roots

# Keeps the keys of random nodes apart from those of the samples.
_NOISE = 1_000_003


@gate
def sample(
    network: Network,
    key: PRNGKeyArray,
    clamped: Mapping[str, Any] | None = None,
    batch: Count | None = None,
) -> Entries:
    """Activities of all entries, drawn in order from what their parents predict.

        z_v = mu_v(z_parents) + noise / sqrt(pi_v),    noise ~ N(0, I)

    and what has another energy as that says (`fx.Energy.draw`): classes of `Categorical` as one-hot
    vectors, labels of `Bernoulli` as 0 and 1, counts of `Poisson`, `Laplace` with heavier tails.
    What is clamped is set to its value, as by an intervention: what comes before it is not
    conditioned on it (use `fx.infer` for that).

    **Arguments**: `network`; a PRNG `key`; `clamped`, values by name as for `fx.Problem`; `batch`,
    the number of samples where nothing is clamped that tells it, 1 unless given.

    Raises `ValueError` for names and values that do not fit, for an input without a prior that is
    not clamped, and for networks with feedbacks, which have no order to draw in.

    ```python
    images = fx.sample(network, jax.random.key(0), {"label": labels})["image"]
    ```
    """
    if network.feedbacks:
        raise ValueError(
            f"samples are drawn from parents to children, but {network.feedbacks[0].name!r} is a "
            "feedback; relax fx.Problem(network, {...}) instead."
        )
    clamps = check_clamps(network, clamped or {})
    check_roots(network, clamps)
    values = {name: clamp.value for name, clamp in clamps.items()}
    count = network.batch_of(values) if values else (1 if batch is None else batch)
    if batch is not None and batch != count:
        raise ValueError(
            f"batch is {batch}, but what is clamped holds {count} examples; leave out batch."
        )
    keys = jax.random.split(key, len(network.entries))
    clamps |= network.drawn_noise(jax.random.fold_in(key, _NOISE), count, clamps)
    activities: Entries = {}
    for entry, own in zip(network.bound(), keys, strict=True):
        name, clamp = entry.name, clamps.get(entry.name)
        sources = network.sources(entry, activities, batch=count)
        whole = clamp is not None and clamp.whole
        if entry.energy_is_gaussian or whole:
            error = None
            if entry.depth and not whole:
                shape = network.shapes[name]
                noise = jax.random.normal(own, entry.whole_shape(shape, count), network.dtype)
                error = noise / jnp.sqrt(entry.precision(shape))
            activities[name] = entry.unroll(sources, error, clamp)[1]
        else:
            drawn = entry.energy.draw(own, entry.predict(sources, None))
            if drawn is None:
                raise ValueError(
                    f"{name!r} has the energy {type(entry.energy).__name__}, of which it is not "
                    "known how to draw; clamp it, or define the energy's draw(key, prediction)."
                )
            activities[name] = drawn if clamp is None else clamp.meet(drawn)
    return activities
