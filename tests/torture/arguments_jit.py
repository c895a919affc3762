"""Labels and tokens out of range in compiled code, which cannot raise: they must give NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tally import Tally

import fathomx as fx

_CLASSES, _CONTEXT = 5, 3
_KIND = "inside jit"
# Each at the first or at the last place.
_BAD = ((-1, 0), (-(2**31), -1), (_CLASSES, -1), (2**31 - 1, 0))


def run(tally: Tally) -> None:
    """Tries labels and tokens of several networks, in what is computed of each."""
    key = jax.random.key(0)
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    squared = fx.models.mlp(4, _CLASSES, width=3, depth=3, key=key)
    entropy = fx.models.mlp(4, _CLASSES, width=3, depth=3, key=key, output=fx.Categorical())
    residual = fx.models.residual_mlp(4, _CLASSES, width=3, depth=4, key=key)
    tokens = fx.models.transformer(_CLASSES, _CONTEXT, width=4, depth=1, heads=2, key=key)
    labels = np.array([0, 4, 2], np.int32)
    words = np.array([[0, 4, 2], [3, 3, 1], [1, 0, 4]], np.int32)
    for name, network in (("mlp", squared), ("categorical mlp", entropy), ("stack", residual)):
        _try(tally, f"labels of a {name}", labels, lambda y, n=network: fx.Problem(n, x, y))
    _try(tally, "labels of a transformer", words, lambda y: fx.Problem(tokens, words, y))
    _try(tally, "tokens of a transformer", words, lambda t: fx.Problem(tokens, t, words))
    for bad, place in _BAD:
        predicted = np.asarray(jax.jit(lambda t: fx.predict(tokens, t))(_with(words, bad, place)))
        _note(tally, f"fx.predict(transformer, tokens with {bad})", predicted, _example(place))


def _try(tally: Tally, what: str, valid: np.ndarray, pose: Callable[[Any], Any]) -> None:
    for name, measure in _MEASURES.items():
        compiled = jax.jit(lambda values, m=measure: m(pose(values)))
        right = np.asarray(compiled(valid))
        if np.isfinite(right).all():
            tally.note(_KIND, "finite where all are valid")
        else:
            tally.fault(_KIND, f"{name} of valid {what} holds NaN")
        for bad, place in _BAD:
            found = np.asarray(compiled(_with(valid, bad, place)))
            _note(tally, f"{name} of {what} with {bad}", found, _example(place))


def _with(valid: np.ndarray, bad: int, place: int) -> np.ndarray:
    changed = valid.copy()
    changed.flat[place] = bad
    return changed


def _example(place: int) -> int:
    return 0 if place == 0 else 2


def _note(tally: Tally, what: str, found: np.ndarray, example: int) -> None:
    """A mean must be NaN; of one number per example that of the wrong one alone."""
    if found.shape[:1] != (3,) or found.ndim == 0:
        if np.isnan(found).any():
            tally.note(_KIND, "NaN")
        else:
            tally.fault(_KIND, f"{what}: {found.ravel()[:3]}, not NaN")
        return
    per_example = found.reshape(3, -1)
    others = np.delete(per_example, example, axis=0)
    if not np.isnan(per_example[example]).any():
        tally.fault(_KIND, f"{what}: {per_example[example][:3]} for that example, not NaN")
    elif not np.isfinite(others).all():
        tally.fault(_KIND, f"{what}: the other examples are not finite: {others.ravel()[:3]}")
    else:
        tally.note(_KIND, "NaN for that example")


def _relaxed(problem: Any, solver: Any) -> Any:
    return fx.infer(problem, solver)


_DESCENT = fx.StateDescent(optax.sgd(0.1), steps=3)
_MEASURES: dict[str, Callable[[Any], Any]] = {
    "the loss": lambda problem: problem.loss(problem.feedforward()),
    "unsettled by GaussNewton": lambda p: _relaxed(p, fx.GaussNewton()).unsettled,
    "unsettled by Newton": lambda p: _relaxed(p, fx.Newton(max_iterations=3)).unsettled,
    "unsettled by StateDescent": lambda p: _relaxed(p, _DESCENT).unsettled,
    "unsettled by ErrorDescent": lambda p: _relaxed(p, fx.ErrorDescent(optax.sgd(0.1))).unsettled,
    "the energy": lambda p: _relaxed(p, fx.GaussNewton()).energy.sum(),
    "the total energy": lambda problem: problem.total(problem.zeros()),
    "the report's loss": lambda p: fx.Equilibrium().gradient(p, jax.random.key(0))[1].loss,
    "backprop's loss": lambda p: fx.Backprop().gradient(p, jax.random.key(0))[1].loss,
    "the largest unsettled": lambda p: jnp.max(
        fx.Equilibrium().gradient(p, jax.random.key(0))[1].unsettled_max
    ),
}
