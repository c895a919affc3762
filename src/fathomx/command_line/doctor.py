"""`fathomx doctor`: what is installed and found, and whether it works here."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path

import click
import equinox as eqx
import jax
import optax
from jaxtyping import Array
from rich.console import Console

import fathomx as fx
from fathomx.command_line.messages import say
from fathomx.command_line.runtime import cores, setting
from fathomx.training.run_folder import versions

# What each extra needs, as it is imported.
_EXTRAS = {
    "figures": ("matplotlib",),
    "images": ("pyarrow", "PIL"),
    "text": ("tokenizers",),
    "trackers": ("tensorboardX", "wandb", "mlflow"),
}
_NODES, _WIDTH, _BATCH, _STRENGTH, _UPDATES = 16, 32, 64, 0.1, 3
# Of the gradient at the start, what may be left of the largest of an example.
_SETTLED = 1e-2


@click.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """Says what is installed and found, and tests it in seconds.

    A network of 32 nodes is relaxed to its equilibrium, with the certificate, and a few updates by
    predictive coding are taken. The exit code is 1 if any of this does not come out as it must.
    """
    console = Console()
    found = versions()
    for name in ("python", "fathomx", *sorted(set(found) - {"python", "fathomx"})):
        say(console, f"{name:<12} {found[name]}")
    kinds = sorted({device.device_kind for device in jax.devices()})
    say(
        console,
        f"{'devices':<12} {len(jax.devices())} of JAX's backend {jax.default_backend()!r} "
        f"({', '.join(kinds)}); {cores()} cores of the processor may be used",
    )
    say(console, f"{'cache':<12} {_cache(setting('jax_compilation_cache_dir'))}")
    for extra, modules in _EXTRAS.items():
        there = all(find_spec(module) for module in modules)
        what = "installed" if there else f'not installed: pip install "fathomx[{extra}]"'
        say(console, f"{extra:<12} {what}")
    say(console, f"{'data':<12} {_data()}")
    if not _works(console):
        context.exit(1)


def _cache(folder: str | None) -> str:
    if not folder:
        return "compiled programs are not kept"
    sizes = [path.stat().st_size for path in Path(folder).glob("*") if path.is_file()]
    return f"{len(sizes)} files of compiled programs, {sum(sizes) / 2**20:.0f} MiB, in {folder}"


def _data() -> str:
    places = fx.data.whereabouts()
    here = [name for name, place in places.items() if place is not None]
    lacking = [name for name, place in places.items() if place is None]
    given = os.environ.get("FATHOMX_DATA")
    asked = f"FATHOMX_DATA is {given}" if given else "FATHOMX_DATA is not set"
    return (
        f"found: {', '.join(here) or 'none'}; not found: {', '.join(lacking) or 'none'}; the rest "
        f"comes with scikit-learn; {asked}"
    )


def _works(console: Console) -> bool:
    """Relaxes and trains a network, says how that went, and whether as it must."""
    begun = time.perf_counter()
    data = fx.data.load("digits").take(_BATCH)
    keys = jax.random.split(jax.random.key(0), 3)
    scaling = fx.MuPC()
    network = fx.models.residual_mlp(
        64, 10, depth=_NODES, width=_WIDTH, parameterization=scaling, key=keys[0]
    )
    unsettled, losses = _trained(network, data.train.inputs, data.train.labels, keys[1:])
    settled, learned = float(unsettled) <= _SETTLED, float(losses[-1]) < float(losses[0])
    say(
        console,
        f"{'self-test':<12} {_NODES} nodes: {float(unsettled):.1e} of the gradient is left at "
        f"equilibrium (at most {_SETTLED}), {_UPDATES} updates bring the loss from "
        f"{float(losses[0]):.3f} to {float(losses[-1]):.3f}, {time.perf_counter() - begun:.1f} s: "
        + ("all is well" if settled and learned else "NOT as it must be"),
    )
    return settled and learned


@eqx.filter_jit
def _trained(network: fx.Network, x: Array, y: Array, keys: Array) -> tuple[Array, list[Array]]:
    """What is unsettled after inference, and the loss before each of some updates."""
    problem = fx.Problem(network, x, y)
    problem = problem.with_output_precision(_STRENGTH / fx.strength(problem, keys[0]))
    relaxed = fx.infer(problem, fx.GaussNewton(iterations=8, cg_iterations=10))
    learner = fx.Learner(fx.Equilibrium(), fx.scale_learning_rates(optax.adam(0.5)))
    state, losses = learner.begin(network), []
    for step in range(_UPDATES):
        key = jax.random.fold_in(keys[1], step)
        network, state, report = learner.update(network, state, {"input": x, "output": y}, key)
        losses.append(report.loss)
    return relaxed.unsettled.max(), losses
