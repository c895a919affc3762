"""What can be read off a network's program: linear in its activities? any kinks?

Both questions are answered from the traced program of the network's derivative, not from names of
activation functions, so they hold for a user's own nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jax_core
from jax.interpreters import partial_eval
from jaxtyping import Array

from fathomx.graph.energy import Energy
from fathomx.graph.entries import Entry, Root
from fathomx.graph.network import Network
from fathomx.graph.predictor import first_block

_COMPARISONS = {
    *("gt", "ge", "lt", "le", "sign", "argmax", "argmin", "round", "floor"),
    *("select_and_gather_add", "sort", "top_k", "cummax", "cummin"),
}


def is_linear(network: Network) -> bool:
    """Whether every prediction is an affine function of the parents' activities.

    True exactly when the traced derivative of every node in its parents' activities uses none of
    its parents, so that it is the same for all examples. Integer inputs (tokens) are constants.
    """
    return all(not any(_used_sources(jaxpr, count)) for jaxpr, count, _ in _derivatives(network))


def has_kinks(network: Network, observed: Iterable[str] = ()) -> bool:
    """Whether a derivative of the network jumps, as with ReLU, leaky ReLU or max pooling.

    Or that of the energy of an entry that is `observed`, as with `Laplace`. Where it does, the
    energy is not smooth and its minima may sit on kinks at which no gradient vanishes, so that the
    relative gradient norm need not reach zero at equilibrium.

    Read off the traced derivative: it has kinks if it compares values that depend on activities.
    A function that compares without a jump in its derivative (ELU, a clamped variance) is reported
    as kinked too.
    """
    for traced, _, moving in _derivatives(network):
        jaxpr, used = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
        if _compares(jaxpr, [index in moving for index, kept in enumerate(used) if kept])[0]:
            return True
    return any(_energy_has_kinks(network, name) for name in observed)


def has_curvature(network: Network, name: str) -> bool:
    """Whether the energy of an entry or feedback bends anywhere (`Energy.curvature`).

    Read off its traced program: without curvature, the product with a change does not use it.
    """
    energy, like = _of_one(network, name)
    traced = jax.make_jaxpr(energy.curvature)(like, like, like)
    _, used = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
    return bool(used[-1])


def _energy_has_kinks(network: Network, name: str) -> bool:
    energy, like = _of_one(network, name)
    traced = jax.make_jaxpr(energy.error)(like, like)
    return _compares(traced.jaxpr, [False] * (len(traced.jaxpr.invars) - 1) + [True])[0]


def _of_one(network: Network, name: str) -> tuple[Energy, jax.ShapeDtypeStruct]:
    """The energy of an entry, and what the activity of one of its nodes is like."""
    part = network.predictor(name)
    shape = network.shapes[name][part.batch_axis :]
    return part.energy, jax.ShapeDtypeStruct(shape, network.dtype)


def has_smoothed_form(network: Network) -> bool:
    """Whether `smoothed` changes the network: whether it holds a ReLU, leaky ReLU or Laplace."""
    if any(callable(leaf) and leaf in SMOOTHED for leaf in jax.tree.leaves(network)):
        return True
    return any(_rounded(entry, jnp.ones(())) is not entry for entry in network.entries)


def smoothed(network: Network, temperature: Array) -> Network:
    """The network with its ReLU and leaky ReLU activations rounded off at their kinks.

        relu(x)  ->  temperature * log(1 + exp(x / temperature))

    which is within `0.7 * temperature` of it. Functions that are not known stay as they are.
    Energies are rounded off as they say (`Energy.smoothed`).
    """

    def smooth(leaf: Any) -> Any:
        family = SMOOTHED.get(leaf) if callable(leaf) else None
        return leaf if family is None else family(temperature)

    changed: Network = jax.tree.map(smooth, network)
    return changed.with_entries(tuple(_rounded(entry, temperature) for entry in changed.entries))


def _rounded(entry: Entry, temperature: Array) -> Entry:
    energy = entry.energy.smoothed(temperature)
    return entry if energy is entry.energy else entry.with_energy(energy)


def _derivatives(network: Network) -> list[tuple[Any, int, list[int]]]:
    """For every entry and feedback the traced map (sources, tangents) -> tangent of the prediction.

    With it the number of sources and the positions of those that are not integers.
    """
    ends = {
        entry.name: jax.ShapeDtypeStruct(
            network.shapes[entry.name][entry.batch_axis :],
            network.root_dtype(entry) if isinstance(entry, Root) else network.dtype,
        )
        for entry in network.entries
    }
    found = []
    for part in (*network.bound(), *network.feedbacks):
        sources = [ends[parent] for parent in network.parents[part.name]]
        moving = [i for i, s in enumerate(sources) if jnp.issubdtype(s.dtype, jnp.inexact)]
        if moving:
            function = part.learned_function()
            one = first_block(function) if part.batch_axis else function
            found.append((_derivative(one, sources, moving), len(sources), moving))
    return found


def _derivative(function: Any, sources: list[Any], moving: list[int]) -> Any:
    def tangent(given: list[Array], tangents: list[Array]) -> Array:
        def of_moving(*chosen: Array) -> Array:
            every = list(given)
            for index, value in zip(moving, chosen, strict=True):
                every[index] = value
            result: Array = function(*every)
            return result

        primals = tuple(given[index] for index in moving)
        return jax.jvp(of_moving, primals, tuple(tangents))[1]

    return jax.make_jaxpr(tangent)(sources, [sources[index] for index in moving])


def _used_sources(jaxpr: Any, count: int) -> list[bool]:
    _, used = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    return list(used[:count])


def _compares(jaxpr: Any, tainted: list[bool]) -> tuple[bool, list[bool]]:
    """Whether a comparison depends on tainted inputs, and which outputs are tainted."""
    depends = {var for var, flag in zip(jaxpr.invars, tainted, strict=True) if flag}

    def is_tainted(var: Any) -> bool:
        return not isinstance(var, jax_core.Literal) and var in depends

    found = False
    for equation in jaxpr.eqns:
        flags = [is_tainted(var) for var in equation.invars]
        if not any(flags):
            continue
        name = equation.primitive.name
        # `maximum` differentiates by comparing its result with an operand; `x == inf` and the test
        # for NaN, `x != x`, are no kinks.
        equals = name in ("eq", "ne") and all(flags) and len(set(equation.invars)) > 1
        found = found or equals or name in _COMPARISONS
        outputs = [True] * len(equation.outvars)
        for body in _inner_programs(equation):
            same = len(body.invars) == len(flags)
            inner_found, inner_out = _compares(body, flags if same else [True] * len(body.invars))
            found = found or inner_found
            if same and len(inner_out) == len(outputs):
                outputs = inner_out
        depends.update(var for var, flag in zip(equation.outvars, outputs, strict=True) if flag)
    return found, [is_tainted(var) for var in jaxpr.outvars]


def _inner_programs(equation: Any) -> Iterator[Any]:
    """The bodies of what an equation calls: a jitted function, a loop, the branches of a choice."""
    for value in equation.params.values():
        for held in value if isinstance(value, tuple) else (value,):
            if isinstance(held, (jax_core.Jaxpr, jax_core.ClosedJaxpr)):
                yield getattr(held, "jaxpr", held)


def _smooth_relu(temperature: Array) -> Callable[[Array], Array]:
    return lambda x: temperature * jax.nn.softplus(x / temperature)


def _smooth_leaky_relu(temperature: Array) -> Callable[[Array], Array]:
    relu = _smooth_relu(temperature)
    return lambda x: 0.01 * x + 0.99 * relu(x)


# Smooth families that tend to a piecewise-linear activation as the temperature tends to 0.
SMOOTHED: dict[Callable[[Array], Array], Callable[[Array], Callable[[Array], Array]]] = {
    jax.nn.relu: _smooth_relu,
    jax.nn.leaky_relu: _smooth_leaky_relu,
}
