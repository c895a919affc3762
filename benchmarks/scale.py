"""What a mesh costs: counted in compiled programs, beside the cost model of docs/scale.md.

    python benchmarks/scale.py               # bytes and memory, on eight logical devices
    python benchmarks/scale.py --model       # the model: large machines, break-even with backprop
    python benchmarks/scale.py --weights     # weights divided among devices that share the batch
    python benchmarks/scale.py --seconds     # two devices beside one, state descent, interleaved

Counts do not depend on the machine, or on what else it does; seconds do.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import statistics
from functools import partial
from typing import Any

import jax

BATCH, WIDTH, FLOAT = 64, 128, 4


@dataclasses.dataclass(frozen=True)
class Cost:
    """Layer-parallel state descent on a chain of `depth` blocks, per device.

    **Fields**: `depth`, `width`, `batch` (of one group of devices), `devices` along the depth.
    """

    depth: int
    width: int
    batch: int
    devices: int

    @property
    def operations(self) -> float:
        """Of a step: each block is predicted from, and its error sent back."""
        return 4 * self.batch * self.width**2 * self.depth / self.devices

    @property
    def sent(self) -> float:
        """Bytes of a step, by all devices: both ways over every boundary, and what stands before
        the stack, whose examples all devices share, to the first device and back."""
        return FLOAT * 2 * self.batch * self.width * (self.devices**2 - 1) / self.devices

    @property
    def held(self) -> float:
        """Bytes of weights and of Adam's two moments."""
        return FLOAT * 3 * self.width**2 * self.depth / self.devices

    @property
    def activities(self) -> float:
        """Bytes of one set of activities."""
        return FLOAT * self.batch * self.width * self.depth / self.devices

    def seconds(self, rate: float, bandwidth: float, latency: float) -> float:
        """Of a step: products, then a boundary's bytes; nothing else is waited for."""
        wire = 2 * FLOAT * self.batch * self.width / bandwidth + 2 * latency
        return self.operations / rate + (wire if self.devices > 1 else 0)


def sent_in_loop(text: str, devices: int) -> int:
    """The most bytes that a computation of a compiled program sends, by all devices."""
    sent: dict[str, int] = {}
    sizes = {"f32": 4, "f64": 8, "bf16": 2, "s32": 4, "pred": 1}
    for name, body in re.findall(r"^%?(\S+) \([^\n]*\{\n(.*?)^\}", text, re.M | re.S):
        for kind, shape, op, pairs in re.findall(
            r"= (\w+)\[([\d,]*)\]\S* (collective-permute|all-\w+|reduce-scatter)(?:-start)?\("
            r"(?:.*source_target_pairs=\{(\S*)\})?",
            body,
        ):
            count = sizes[kind]
            for size in filter(None, shape.split(",")):
                count *= int(size)
            # A ring brings everything around twice.
            links = pairs.count("{") if op == "collective-permute" else 2 * devices
            sent[name] = sent.get(name, 0) + count * links
    return max(sent.values(), default=0)


def step_of(depth: int, mesh: Any, solver: Any = None) -> Any:
    """One learning step on a mesh, compiled; by as many steps of state descent as blocks."""
    import equinox as eqx
    import optax
    from _report import random_problem

    import fathomx as fx

    network = fx.models.residual_mlp(
        64,
        10,
        width=WIDTH,
        depth=depth + 2,
        parameterization=fx.MuPC(),
        key=jax.random.key(0),
    )
    solver = fx.StateDescent(0.1, depth) if solver is None else solver
    rule = fx.Equilibrium(solver, output_precision=1.0)
    optimizer = optax.adam(1e-2, eps=1e-12)
    problem = random_problem(network, BATCH)
    batch = mesh.parts((problem.input, problem.target))
    held = mesh.whole((network, rule.init_optimizer(optimizer, network)))

    def step(held: Any, batch: Any, key: Any) -> Any:
        network, state = mesh.divided(held)
        *updated, report = rule.update(fx.Problem(network, *batch), optimizer, state, key)
        return mesh.whole(mesh.joined(tuple(updated))), report

    return eqx.filter_jit(step).lower(held, batch, jax.random.key(0)).compile().compiled


def counted(depth: int, devices: int) -> dict[str, Any]:
    """Layer-parallel state descent: what is counted beside what the model says."""
    import fathomx as fx

    compiled = step_of(depth, fx.Mesh(1, devices, jax.devices()[:devices]))
    memory, model = compiled.memory_analysis(), Cost(depth, WIDTH, BATCH, devices)
    return {
        "nodes": depth + 2,
        "devices": devices,
        "sent per step, KiB": sent_in_loop(compiled.as_text(), devices) / 2**10,
        "model": model.sent / 2**10 if devices > 1 else 0.0,
        "bound 2 D B W": FLOAT * 2 * devices * BATCH * WIDTH / 2**10,
        "held per device, MiB": memory.argument_size_in_bytes / 2**20,
        "model ": model.held / 2**20,
        "needed beside, MiB": memory.temp_size_in_bytes / 2**20,
        "in activities": memory.temp_size_in_bytes / model.activities,
    }


def gathered(text: str) -> float:
    """The bytes of the largest array that a compiled program gathers."""
    sizes = [0]
    for shape in re.findall(r"= f32\[([\d,]*)\]\S* all-gather(?:-start)?\(", text):
        count = FLOAT
        for size in shape.split(","):
            count *= int(size)
        sizes.append(count)
    return max(sizes)


def divided_weights(depth: int, devices: int, weights: str, solver: str) -> dict[str, Any]:
    """Devices that share the batch: what each holds, and what it gathers at once."""
    import fathomx as fx

    mesh = fx.Mesh(devices, 1, jax.devices()[:devices], weights)
    compiled = step_of(depth, mesh, fx.GaussNewton() if solver == "Gauss-Newton" else None)
    memory, model = compiled.memory_analysis(), Cost(depth, WIDTH, BATCH, 1)
    return {
        "solver": solver,
        "nodes": depth + 2,
        "devices": devices,
        "weights": weights,
        "held per device, MiB": memory.argument_size_in_bytes / 2**20,
        "model": model.held / (devices if weights == "divided" else 1) / 2**20,
        "needed beside, MiB": memory.temp_size_in_bytes / 2**20,
        "gathered at once, KiB": gathered(compiled.as_text()) / 2**10,
        "of a block, KiB": FLOAT * WIDTH**2 / 2**10 if weights == "divided" else 0.0,
    }


def pipelined(devices: int, parts: int, forward: float, back: float, wire: float) -> float:
    """Seconds of an update by backprop whose batch goes through the devices in parts.

    Simulated, event by event: a device does one part at a time, backward before forward, and a part
    goes on when the device before (behind) is done with it and its bytes are there.
    """
    ready: list[tuple[float, int, int, str]] = [(0.0, 0, part, "f") for part in range(parts)]
    free, end = [0.0] * devices, 0.0
    while ready:
        # What can begin first; backward goes first where both can.
        begin, place, part, kind = min(
            ((max(t, free[p]), p, m, k) for t, p, m, k in ready),
            key=lambda item: (item[0], item[3] == "f", item[2]),
        )
        ready = [item for item in ready if item[1:] != (place, part, kind)]
        done = begin + (forward if kind == "f" else back)
        free[place], end = done, max(end, done)
        if kind == "f":
            following = (place + 1, "f") if place + 1 < devices else (place, "b")
        else:
            following = (place - 1, "b")
        if 0 <= following[0] < devices:
            arrives = done + (wire if following[0] != place else 0.0)
            ready.append((arrives, following[0], part, following[1]))
    return end


def break_even() -> list[dict[str, Any]]:
    """How many steps of inference cost as much as an update by pipelined backprop."""
    rows = []
    for devices in (2, 8, 32):
        for parts in (1, devices, 4 * devices):
            # In units of a block's forward products for the whole batch, a block per device.
            update = pipelined(devices, parts, 1 / parts, 2 / parts, 0.0)
            # Inference, and the weights' products in the end: no device waits.
            steps = (update - 1) / 2
            rows.append(
                {
                    "devices": devices,
                    "parts of the batch": parts,
                    "busy": 3 / update,
                    "formula": parts / (parts + devices - 1),
                    "steps at break-even": steps,
                }
            )
    return rows


def large() -> list[dict[str, Any]]:
    """On paper: 400 TFLOP/s, 200 GB/s between neighbors and 5 microseconds each way."""
    rows = []
    for depth, width, batch, devices in (
        (128, 1024, 64, 8),
        (1024, 1024, 64, 64),
        (100_000, 1024, 64, 1024),
        (100_000, 4096, 64, 1024),
        (100_000, 1024, 1024, 1024),
    ):
        cost, one = Cost(depth, width, batch, devices), Cost(depth, width, batch, 1)
        at = partial(Cost.seconds, rate=4e14, bandwidth=2e11, latency=5e-6)
        rows.append(
            {
                "nodes": depth,
                "width": width,
                "batch": batch,
                "devices": devices,
                "held per device, GiB": cost.held / 2**30,
                "activities, GiB": cost.activities / 2**30,
                "step, microseconds": 1e6 * at(cost),
                "busy": at(one) / devices / at(cost),
            }
        )
    return rows


def timed(rounds: int) -> list[dict[str, Any]]:
    """A learning step by state descent, 128 nodes of width 256, on two devices beside one."""
    import equinox as eqx
    import optax
    from _report import random_problem, seconds

    import fathomx as fx

    network = fx.models.residual_mlp(
        784, 10, width=256, depth=128, parameterization=fx.MuPC(), key=jax.random.key(0)
    )
    rule = fx.Equilibrium(fx.StateDescent(0.1, 128), output_precision=1.0)
    optimizer = optax.adam(1e-3, eps=1e-12)
    problem = random_problem(network, BATCH)
    steps = {}
    for data, depth in ((1, 1), (1, 2), (2, 1)):
        mesh = fx.Mesh(data, depth, jax.devices()[: data * depth])
        held = mesh.whole((network, rule.init_optimizer(optimizer, network)))
        batch = mesh.parts((problem.input, problem.target))

        @eqx.filter_jit(compiler_options=mesh.compiler_options)
        def step(held: Any, batch: Any, key: Any, mesh: Any = mesh) -> Any:
            network, state = mesh.divided(held)
            *updated, report = rule.update(fx.Problem(network, *batch), optimizer, state, key)
            return mesh.whole(mesh.joined(tuple(updated))), report

        steps[str(mesh)] = partial(step, held, batch, jax.random.key(0))
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for run in steps.values():
        seconds(run)
    for _ in range(rounds):
        for name, run in steps.items():
            taken[name].append(seconds(run))
    one = taken["Mesh(data=1, depth=1)"]
    return [
        {
            "mesh": name,
            "seconds, median": statistics.median(found),
            "faster than one device": statistics.median(
                a / b for a, b in zip(one, found, strict=True)
            ),
            "rounds": rounds,
        }
        for name, found in taken.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", action="store_true", help="the model and the simulation alone")
    parser.add_argument("--weights", action="store_true", help="weights divided, counted")
    parser.add_argument("--seconds", action="store_true", help="two devices beside one")
    parser.add_argument("--rounds", type=int, default=11)
    chosen = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2 if chosen.seconds else 8)
    from _report import publish

    if chosen.seconds:
        publish("scale-seconds", "A learning step by state descent", timed(chosen.rounds))
        return
    if chosen.weights:
        rows = [
            divided_weights(depth, devices, weights, solver)
            for solver in ("state descent", "Gauss-Newton")
            for depth in (64, 512)
            for devices, weights in (
                (1, "whole"),
                (4, "whole"),
                (4, "divided"),
                (8, "whole"),
                (8, "divided"),
            )
        ]
        publish("scale-weights", "Weights divided among devices that share the batch", rows)
        return
    if not chosen.model:
        rows = [counted(depth, n) for depth in (64, 512) for n in (1, 2, 4, 8)]
        publish("scale", "Layer-parallel state descent, counted", rows)
    publish("scale-large", "Layer-parallel state descent, on paper", large())
    publish("scale-break-even", "Steps of inference for one pipelined update", break_even())


if __name__ == "__main__":
    main()
