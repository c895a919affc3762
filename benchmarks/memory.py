"""What training needs at once, with steps that take the memory of what they replace and without.

    python benchmarks/memory.py

Residual networks of 128 and 512 nodes, width 128, batch 64, Gauss-Newton and Adam, two epochs of
five steps. Counted are the compiled step's own numbers, and all arrays that live while observers
are told of a step; the peak is that of the process, in which each row is trained alone. Other work
on the machine does not matter.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
from typing import Any

WIDTH, BATCH, STEPS = 128, 64, 5


def trained(depth: int, given_up: bool) -> dict[str, Any]:
    """One row."""
    import jax
    import numpy as np
    import optax

    import fathomx as fx
    from fathomx.training import run

    compiled, live = [], []
    program = run.program

    def noted(function: Any, *arguments: Any, **options: Any) -> Any:
        if not given_up:
            options.pop("given_up", None)
        made = program(function, *arguments, **options)
        compiled.append(made.compiled)
        return made

    class Counts(fx.training.Observer):
        keeps = False

        def stepped(self, record: Any, state: Any) -> None:
            alive = (array for array in jax.live_arrays() if not array.is_deleted())
            live.append(sum(array.nbytes for array in alive))

    run.program = noted
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * STEPS, 784)).astype(np.float32)
    part = fx.data.Part(x, rng.integers(10, size=len(x)))
    data = fx.data.Dataset("random", part, part, part, classes=10)
    network = fx.models.residual_mlp(
        784, 10, width=WIDTH, depth=depth, parameterization=fx.MuPC(), key=jax.random.key(0)
    )
    result = fx.fit(
        network, data, optimizer=optax.adam(1e-3, eps=1e-12), epochs=2, batch_size=BATCH,
        observers=(Counts(),),
    )  # fmt: skip
    memory, mebibyte = compiled[0].memory_analysis(), 2**20
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(fx.weights(result.network)):
        digest.update(np.asarray(leaf).tobytes())
    state = memory.output_size_in_bytes
    return {
        "nodes": depth,
        "replaced in place": given_up,
        "weights and moments, MiB": state / mebibyte,
        "in place of them, MiB": memory.alias_size_in_bytes / mebibyte,
        "beside, MiB": memory.temp_size_in_bytes / mebibyte,
        "step at once, MiB": (
            memory.argument_size_in_bytes
            + state
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
        )
        / mebibyte,
        "arrays alive, MiB": max(live) / mebibyte,
        "peak of the process, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "weights": digest.hexdigest()[:12],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--row", type=int, nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.row:
        print(json.dumps(trained(chosen.row[0], bool(chosen.row[1]))))
        return
    from _report import publish

    rows = []
    for depth in (128, 512):
        for given_up in (0, 1):
            command = [sys.executable, __file__, "--row", str(depth), str(given_up)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(*rows[-1].values(), flush=True)
    publish("memory", "Training with and without memory that is taken over", rows)


if __name__ == "__main__":
    main()
