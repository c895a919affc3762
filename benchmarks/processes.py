"""Several processes beside one: the same numbers, and what is left when one of them is gone.

    python benchmarks/processes.py

A residual network of 6 nodes and width 16 is trained on the digits for two epochs (38 updates of 64
examples), with the examples divided among processes of one CPU device each. Told are
the largest differences of trained weights from those of one process. Then, of two processes of
`fathomx train --distributed`, one is killed or stopped: told are how long the other goes on, and
whether the run, continued, has the weights of one that was left alone. Other work on the machine
matters to the seconds only.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import fathomx as fx

SHAPES = ((2, 1), (4, 1))
OPTIMIZERS = {"sgd(0.5)": optax.sgd(0.5), "adam(0.01)": optax.adam(1e-2, eps=1e-12)}
NUMBERS = ("float64", "float32")
COMMAND = [
    *("train", "--data", "digits", "--model", "residual-mlp", "--depth", "6", "--width", "16"),
    *("--batch-size", "64", "--epochs", "100"),
]
ENVIRONMENT = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}


def trained(count: int, depth: int) -> dict[str, list[np.ndarray]]:
    """The weights after training, by numbers and optimizer."""
    found = {}
    for numbers in NUMBERS:
        jax.config.update("jax_enable_x64", numbers == "float64")
        network = fx.models.residual_mlp(
            64, 10, width=16, depth=6, parameterization=fx.MuPC(), key=jax.random.key(0)
        )
        for name, optimizer in OPTIMIZERS.items():
            result = fx.fit(
                network,
                fx.data.load("digits"),
                optimizer=optimizer,
                epochs=2,
                mesh=fx.Mesh(count // depth, depth, jax.devices()[:count]),
                observers=(),
            )
            leaves = jax.tree.leaves(fx.weights(result.network))
            found[f"{numbers} {name}"] = [np.asarray(leaf) for leaf in leaves]
    return found


def work(index: int, count: int, depth: int, port: str, path: str) -> None:
    """One process of several."""
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
    found = trained(count, depth)
    if index == 0:
        np.savez(
            path, **{f"{k} {i}": a for k, leaves in found.items() for i, a in enumerate(leaves)}
        )
    jax.distributed.shutdown()


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def differences(folder: Path) -> list[dict[str, Any]]:
    one, rows = trained(1, 1), []
    for count, depth in SHAPES:
        port, path = free_port(), folder / f"{count}-{depth}.npz"
        words = [sys.executable, __file__, "work"]
        ends = [str(count), str(depth), port, str(path)]
        begun = [
            subprocess.Popen([*words, str(index), *ends], env=ENVIRONMENT) for index in range(count)
        ]
        assert not any([process.wait() for process in begun])
        found = np.load(path)
        for name, leaves in one.items():
            worst = max(
                float(np.abs(found[f"{name} {i}"] - leaf).max()) for i, leaf in enumerate(leaves)
            )
            numbers, optimizer = name.split()
            rows.append(
                {
                    "processes": count,
                    "data x depth": f"{count // depth}x{depth}",
                    "numbers": numbers,
                    "optimizer": optimizer,
                    "largest difference of a weight": worst,
                }
            )
            print(*rows[-1].values(), flush=True)
    return rows


def begun(folder: Path, *words: str) -> list[subprocess.Popen[str]]:
    """Two processes of a command."""
    address = f"127.0.0.1:{free_port()}"
    together = ["--distributed", "--coordinator", address, "--processes", "2", "--process"]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "fathomx_command", *words, *together, str(index)],
            env=ENVIRONMENT,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]


def child_of(process: subprocess.Popen[str]) -> int:
    """The process that works under supervision of this one."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def weights(folder: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(fx.weights(fx.load(folder).network))]


def ends(folder: Path) -> list[dict[str, Any]]:
    for process in begun(folder, *COMMAND, "--out", "alone"):
        process.communicate()
    alone, rows = weights(folder / "alone"), []
    for victim, way in ((0, "killed"), (1, "killed"), (1, "stopped")):
        out = f"{way}{victim}"
        pair = begun(folder, *COMMAND, "--out", out)
        records = folder / out / "metrics.jsonl"
        while not (records.exists() and '"epoch": 3' in records.read_text()):
            time.sleep(0.05)
        number = signal.SIGKILL if way == "killed" else signal.SIGSTOP
        worker = child_of(pair[victim])
        os.kill(worker, number)
        gone = time.monotonic()
        said = pair[1 - victim].communicate()[1].strip()
        seconds = time.monotonic() - gone
        if way == "stopped":
            os.kill(worker, signal.SIGKILL)
        pair[victim].communicate()
        for process in begun(folder, "train", "--resume", out):
            process.communicate()
        rows.append(
            {
                "process": victim,
                "is": way,
                "the other ends after, s": round(seconds, 1),
                "exit code": pair[1 - victim].returncode,
                "it says": said,
                "continued, bit for bit": all(
                    np.array_equal(a, b) for a, b in zip(weights(folder / out), alone, strict=True)
                ),
            }
        )
        print(*rows[-1].values(), flush=True)
    return rows


def main() -> None:
    from _report import publish

    with tempfile.TemporaryDirectory() as place:
        publish("processes", "Largest difference from one process", differences(Path(place)))
        publish("processes-ends", "When one of two processes is gone", ends(Path(place)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(*map(int, sys.argv[2:5]), *sys.argv[5:])
    else:
        main()
