"""Newton in float32 beside float64: trained networks, and layer normalization.

Run with `python benchmarks/newton.py`. Chains of 32 and 128 GELU nodes of width 128 (muPC) before
and after 200 updates by Gauss-Newton on MNIST, transformers of four blocks of width 64 with layer
normalization before and after 100 updates on Tiny Shakespeare; then `fx.Newton(1e-3)` on the
examples of a batch, with the same weights in both types. The output precision is given or that of
the usual strength.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _report import of_type, publish

import fathomx as fx

jax.config.update("jax_enable_x64", True)

TOLERANCE = 1e-3
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A network, what it learns, and from how many examples Newton is judged.

    `precisions` of the output; `None` holds the usual strength.
    """

    name: str
    network: fx.Network
    inputs: np.ndarray
    targets: np.ndarray
    rate: float
    batch: int
    updates: int
    judged: int
    precisions: tuple[float | None, ...]


def settings() -> Iterator[Setting]:
    """All that is measured."""
    digits = fx.data.load("mnist").train
    for depth in (32, 128):
        network = fx.models.residual_mlp(
            784, 10, width=128, depth=depth, parameterization=fx.MuPC(), key=KEY
        )
        images = np.asarray(digits.inputs[:6400], np.float32).reshape(6400, -1)
        targets = np.eye(10, dtype=np.float32)[np.asarray(digits.labels[:6400])]
        precisions = (1.0, 10.0)
        yield Setting(f"{depth} nodes", network, images, targets, 0.01, 64, 200, 32, precisions)
    text = fx.data.load("tiny-shakespeare", context=32)
    tokens, following = (np.asarray(a[:1600]) for a in (text.train.inputs, text.train.labels))
    for name, parameterization, rate in (
        ("transformer, muPC", fx.MuPC(), 0.03),
        ("transformer, standard", None, 3e-3),
    ):
        network = fx.models.transformer(
            text.classes,
            32,
            width=64,
            normalization="layer",
            parameterization=parameterization,
            key=KEY,
        )
        yield Setting(name, network, tokens, following, rate, 16, 100, 4, (None, 1.0))


def trained(setting: Setting) -> fx.Network:
    """The network after its updates, in float32."""
    rule, optimizer = fx.Equilibrium(output_precision=1.0), optax.adam(setting.rate)
    network = of_type(setting.network, jnp.float32)
    state = rule.init_optimizer(optimizer, network)

    @eqx.filter_jit
    def update(network: fx.Network, state: Any, x: Any, y: Any) -> Any:
        return rule.update(fx.Problem(network, x, y), optimizer, state, KEY)[:2]

    for step in range(setting.updates):
        first = step * setting.batch % len(setting.inputs)
        rows = slice(first, first + setting.batch)
        network, state = update(network, state, setting.inputs[rows], setting.targets[rows])
    return network


def measured(setting: Setting, network: fx.Network, state: str) -> Iterator[dict[str, Any]]:
    """Newton's certificate and evaluations in both types, for every precision."""
    for precision in setting.precisions:
        for dtype in (jnp.float32, jnp.float64):
            x, y = (jnp.asarray(a[: setting.judged]) for a in (setting.inputs, setting.targets))
            problem = fx.Problem(of_type(network, dtype), *of_type((x, y), dtype))
            rule = fx.Equilibrium(output_precision=precision or fx.HoldStrength(0.1))
            problem = eqx.filter_jit(rule.prepare)(problem, KEY)[0]
            relaxed = fx.infer(problem, fx.Newton(TOLERANCE))
            yield {
                "network": f"{setting.name}, {state}",
                "output precision": float(problem.output_precision),
                "type": jnp.dtype(dtype).name,
                "unsettled, median": float(jnp.median(relaxed.unsettled)),
                "unsettled, worst": float(relaxed.unsettled.max()),
                "evaluations, median": float(jnp.median(relaxed.evaluations)),
                "evaluations, worst": int(relaxed.evaluations.max()),
                "energy": float(relaxed.energy.sum()),
            }
            print(".", end="", flush=True)


rows: list[dict[str, Any]] = []
for setting in settings():
    rows += measured(setting, of_type(setting.network, jnp.float32), "drawn")
    rows += measured(setting, trained(setting), "trained")
publish("newton", f"Newton to a relative gradient norm of {TOLERANCE:g}", rows)
