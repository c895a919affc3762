"""Streams beside data in memory: the same weights, the time of a step, memory, and being killed.

    python benchmarks/streams.py steps            seconds per step, interleaved, and the weights
    python benchmarks/streams.py memory           8 GiB on disk: the memory of the process
    python benchmarks/streams.py kills            SIGKILL at random moments, then continued

`memory` writes a file of 8 GiB to `--folder` and deletes it. Everything is drawn from fixed seeds
but the moments of the signals, which depend on the machine's clock.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from _report import publish

import fathomx as fx
from fathomx.training import Observer, RunFolder, run_folder

BATCH = 64
REPEATS = 7
GIBIBYTE = 2**30
KINDS = ("memory map", "Grain", "iterable")


# Seconds per step.


class Clock(Observer):
    """Seconds of all steps but those of the first dispatch, which compiles."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.counts: list[int] = []

    def stepped(self, record: dict[str, Any], state: Any) -> None:
        self.seconds.append(record["seconds"])
        self.counts.append(len(record["loss"]))

    @property
    def per_step(self) -> float:
        return sum(self.seconds[1:]) / sum(self.counts[1:])


def order_of(size: int, epochs: int) -> np.ndarray:
    """The order in which `fit` visits examples in memory at seed 0, without incomplete batches."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1_000_003), 0)
    whole = size // BATCH * BATCH
    epochs_of = [
        np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), size))[:whole]
        for epoch in range(epochs)
    ]
    return np.concatenate(epochs_of)


def streams(x: np.ndarray, y: np.ndarray, folder: Path, epochs: int) -> dict[str, Any]:
    """The same examples in the same order, in memory and by several ways to stream them."""
    import datasets
    import grain

    np.save(folder / "x.npy", x)
    mapped = np.load(folder / "x.npy", mmap_mode="r")
    stored = folder / "stored"
    if not stored.exists():
        datasets.disable_progress_bars()
        features = datasets.Features(
            {
                "input": datasets.Sequence(datasets.Value("float32"), length=x.shape[1]),
                "output": datasets.Value("int32"),
            }
        )
        columns = {"input": list(x), "output": y}
        datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(stored))
    order, steps = order_of(len(x), epochs), len(x) // BATCH
    rows = grain.MapDataset.range(len(order)).map(
        lambda place: {"input": mapped[order[place]], "output": y[order[place]]}
    )
    batches = order.reshape(-1, BATCH)
    # Batches of rows at once, as for arrays that lie beside each other.
    at_once = grain.MapDataset.range(len(batches)).map(
        lambda place: {"input": mapped[batches[place]], "output": y[batches[place]]}
    )
    return {
        "in memory": fx.data.Dataset("memory", {"input": x, "output": y}),
        "memory map": fx.data.Stream({"input": mapped, "output": y}),
        "Hugging Face, on disk": fx.data.Stream(datasets.load_from_disk(str(stored))),
        "Grain, by example": fx.data.Stream(rows.batch(BATCH), steps=steps),
        "Grain, by batch": fx.data.Stream(at_once, steps=steps),
    }


def steps(folder: Path) -> None:
    """Interleaved, one epoch of each in turn."""
    rows = []
    for depth, width in ((8, 128), (8, 256)):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(128 * BATCH, 784)).astype(np.float32)
        y = rng.integers(0, 10, len(x)).astype(np.int32)
        data = streams(x, y, folder, 1)
        network = fx.models.mlp(784, 10, width=width, depth=depth, key=jax.random.key(0))
        found: dict[str, list[float]] = {name: [] for name in data}
        weights: dict[str, bytes] = {}
        for repeat in range(REPEATS + 1):
            # Each comes first in turn, since the machine is not the same from one to the next.
            names = list(data)
            turn = repeat % len(names)
            for name in names[turn:] + names[:turn]:
                one, clock = data[name], Clock()
                gc.collect()
                result = fx.fit(
                    network, one, optimizer=1e-3, epochs=1, batch_size=BATCH, observers=[clock]
                )
                weights[name] = digest(result.network)
                # The first time, everything is read and compiled.
                if repeat:
                    found[name].append(clock.per_step)
        base = found["in memory"]
        for name, own in found.items():
            ratios = [a / b for a, b in zip(own, base, strict=True)]
            rows.append(
                {
                    "data": name,
                    "network": f"{depth} nodes of {width}",
                    "step, ms": 1e3 * statistics.median(own),
                    "times in memory": statistics.median(ratios),
                    "lowest": min(ratios),
                    "highest": max(ratios),
                    "same weights": weights[name] == weights["in memory"],
                }
            )
    title = f"Streams beside data in memory ({BATCH} x 784 values a step, Equilibrium, {REPEATS}x)"
    publish("streams", title, rows)


def digest(network: fx.Network) -> bytes:
    """All weights, byte by byte."""
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(fx.weights(network)))


# Memory.


def status(name: str) -> float:
    """A line of `/proc/self/status`, in GiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / GIBIBYTE
    return float("nan")


@contextlib.contextmanager
def watched(name: str) -> Iterator[list[float]]:
    """The largest value of a line of `/proc/self/status` while something goes on."""
    most, ended = [status(name)], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            most[0] = max(most[0], status(name))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def memory(folder: Path, gibibytes: int, limit: int) -> None:
    """One epoch on a file larger than the memory that the process may take."""
    path, width = folder / "large.npy", 1024
    size = gibibytes * GIBIBYTE // (4 * width)
    print(f"writing {gibibytes} GiB to {path}", flush=True)
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(width, 10)).astype(np.float32)
    labels = np.empty(size, np.int32)
    made = np.lib.format.open_memmap(path, "w+", np.float32, (size, width))
    made.flush()
    del made
    with open(path, "r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        for begin in range(0, size, 8192):
            rows = rng.standard_normal((min(8192, size - begin), width), np.float32)
            labels[begin : begin + len(rows)] = (rows @ teacher).argmax(1)
            file.write(rows.tobytes())
    np.save(folder / "labels.npy", labels)
    try:
        command = [sys.executable, __file__, "large", "--folder", str(folder)]
        subprocess.run([*command, "--limit", str(limit)], check=True)
    finally:
        path.unlink()


def large(folder: Path, limit: int) -> None:
    """What `memory` runs by itself: private memory is limited by the system."""
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit * GIBIBYTE, limit * GIBIBYTE))
    x = np.load(folder / "large.npy", mmap_mode="r")
    y = np.load(folder / "labels.npy")
    last = len(x) - 4096
    held = {"input": x[last:], "output": y[last:]}
    data = fx.data.Stream({"input": x[:last], "output": y[:last]}, validation=held)
    network = fx.models.mlp(x.shape[1], 10, width=64, depth=3, key=jax.random.key(0))
    clock, begun = Clock(), time.perf_counter()
    with watched("RssAnon") as anonymous, watched("RssFile") as mapped:
        result = fx.fit(network, data, optimizer=1e-3, epochs=1, batch_size=256, observers=[clock])
    row = {
        "on disk, GiB": x.nbytes / GIBIBYTE,
        "limit of private memory, GiB": limit or "none",
        "VmHWM, GiB": status("VmHWM"),
        "RssAnon, GiB": anonymous[0],
        "RssFile, GiB": mapped[0],
        "steps": sum(clock.counts),
        "step, ms": 1e3 * clock.per_step,
        "MB/s read": x.nbytes / (time.perf_counter() - begun) / 1e6,
        "validation accuracy": result.summary["validation_accuracy"],
    }
    publish("streams_memory", "One epoch on a file larger than the limit", [row])


# Being killed.


def killed_data(kind: str, folder: Path) -> fx.data.Stream:
    """Streams whose order is their own, from files."""
    x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")
    if kind == "memory map":
        return fx.data.Stream(fx.data.Rows((x, y), incomplete=True), buffer=1)
    if kind == "Grain":
        import grain
        from grain.experimental import WindowShuffleIterDataset

        rows = grain.MapDataset.range(len(x)).seed(3).shuffle()
        rows = rows.map(lambda place: (x[place], y[place])).repeat()
        mixed = WindowShuffleIterDataset(rows.to_iter_dataset(), window_size=500, seed=5)
        return fx.data.Stream(mixed.batch(16), steps=len(x) // 16, buffer=1)

    def batches(epoch: int) -> Iterator[tuple[Any, Any]]:
        order = np.random.default_rng(epoch).permutation(len(x))
        for begin in range(0, len(x), 16):
            yield x[order[begin : begin + 16]], y[order[begin : begin + 16]]

    return fx.data.Stream(batches, steps=len(x) // 16, buffer=1)


def child(kind: str, folder: Path, run: Path) -> None:
    """A run that begins or goes on, and leaves its weights when it ends."""
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # After every dispatch, so that runs go on from the midst of epochs.
    run_folder._CHECKPOINT_SECONDS = 0.0
    network = fx.models.mlp(32, 4, width=32, depth=4, key=jax.random.key(0))
    watching = RunFolder.resume(run) if run.exists() else RunFolder.create(run, {"kind": kind})
    result = fx.fit(
        network,
        killed_data(kind, folder),
        optimizer=1e-3,
        epochs=4,
        batch_size=None if kind != "memory map" else 16,
        observers=[watching],
    )
    watching.close()
    (run / "weights").write_bytes(digest(result.network))


def kills(folder: Path, kinds: tuple[str, ...], count: int, seed: int) -> None:
    """Every run is killed up to four times, goes on, and must end as one that never was."""
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.normal(size=(16_008, 32)).astype(np.float32))
    np.save(folder / "y.npy", rng.integers(0, 4, 16_008))
    rows = [_killed(kind, folder, count, random.Random(f"{seed} {kind}")) for kind in kinds]
    publish("streams_kills", "Streamed runs, killed by SIGKILL and continued", rows)


def _killed(kind: str, folder: Path, count: int, rng: random.Random) -> dict[str, Any]:
    def begin(run: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "child", "--kind", kind, "--run", str(run)]
        return subprocess.Popen([*command, "--folder", str(folder)])

    def end(run: Path) -> None:
        if begin(run).wait():
            raise SystemExit(f"{run} could not be continued")

    reference = folder / kind / "reference"
    end(reference)
    begun = time.perf_counter()
    end(folder / kind / "again")
    whole = time.perf_counter() - begun
    killed = within = identical = runs = 0
    while killed < count:
        run = folder / kind / str(runs)
        for _ in range(rng.randint(1, 4)):
            process = begin(run)
            time.sleep(rng.uniform(0.2, 1.0) * whole)
            if process.poll() is not None:
                break
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            within += _within_an_epoch(run)
        if not (run / "weights").exists():
            if (run / "summary.json").exists():
                # Killed after its end: nothing is left to train, and the weights are not told.
                runs += 1
                continue
            end(run)
        runs += 1
        identical += (run / "weights").read_bytes() == (reference / "weights").read_bytes()
        print(f"{kind}: {killed} kills, {identical} runs identical", flush=True)
    return {
        "stream": kind,
        "kills": killed,
        "went on within an epoch": within,
        "runs": runs,
        "bit-identical": identical,
    }


def _within_an_epoch(run: Path) -> bool:
    """Whether the newest checkpoint is one from the midst of an epoch."""
    found = [int(path.name) for path in run.glob("checkpoints/[0-9]*") if path.name.isdigit()]
    return bool(found) and max(found) % 1001 != 0 and max(found) % 1000 != 0


def main() -> None:
    """Runs one part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("steps", "memory", "large", "kills", "child"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--gibibytes", type=int, default=8)
    parser.add_argument("--limit", type=int, default=3, help="GiB of private memory; 0 for none")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--run", type=Path)
    given = parser.parse_args()
    parts: dict[str, Callable[[Path], None]] = {
        "steps": steps,
        "memory": lambda folder: memory(folder, given.gibibytes, given.limit),
        "large": lambda folder: large(folder, given.limit),
        "kills": lambda folder: kills(
            folder, KINDS if given.kind is None else (given.kind,), given.count, given.seed
        ),
        "child": lambda folder: child(given.kind, folder, given.run),
    }
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
        parts[given.part](given.folder)
        return
    own = Path(tempfile.mkdtemp())
    try:
        parts[given.part](own)
    finally:
        shutil.rmtree(own, ignore_errors=True)


if __name__ == "__main__":
    main()
