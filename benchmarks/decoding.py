"""Images decoded in worker processes: how many per second, and how long training waits for them.

    python benchmarks/decoding.py write FOLDER    60,000 JPEG files of 64 x 64 pixels from CIFAR-10
    python benchmarks/decoding.py decode FOLDER   images per second by themselves
    python benchmarks/decoding.py train FOLDER    the part of the time that training waits

`FOLDER` is in ImageNet's layout. What is waited for is the time inside of `Feed.load` after the
first chunk, over that of all steps after it; the first chunk, for which workers have to begin, is
told by itself. What is busy is read from /proc/stat, of all that the machine does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from _report import publish

import fathomx as fx
from fathomx.data._sources import ChunkSize, Position
from fathomx.training import Observer, feed

SIZE, BATCH, QUALITY = 64, 64, 90
WORKERS = (0, 1, 2)


def write(folder: Path, repeats: int = 1) -> None:
    """50,000 images in train, 10,000 in val, in a folder for each class."""
    from PIL import Image

    data = fx.data.load("cifar10")
    scale = data.preparation.scales["input"]
    whole = [("train", data.train), ("train", data.validation), ("val", data.test)]
    count = 0
    for title, part in whole:
        for name in data.class_names:
            (folder / title / name).mkdir(parents=True, exist_ok=True)
        for pixels, label in zip(scale.raw(part.inputs), part.labels, strict=True):
            image = Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))
            large = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            path = folder / title / data.class_names[label] / f"{count:05}.jpg"
            large.save(path, quality=QUALITY)
            count += 1


class Busy:
    """Seconds of the machine's cores, and those in which they did something."""

    def __init__(self) -> None:
        self.begun = self._read()

    def part(self) -> float:
        """Which part of all cores' time was used since."""
        (busy, total), (before, total_before) = self._read(), self.begun
        return (busy - before) / max(1, total - total_before)

    @staticmethod
    def _read() -> tuple[int, int]:
        fields = [int(f) for f in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields) - fields[3] - fields[4], sum(fields)


def medians(found: dict[Any, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """The median of every number over repetitions, and the lowest and highest of the first."""
    rows = []
    for workers, runs in found.items():
        row: dict[str, Any] = {"workers": workers}
        for name in runs[0]:
            values = [run[name] for run in runs]
            row[name] = statistics.median(values)
            if name == next(iter(runs[0])):
                row |= {"lowest": min(values), "highest": max(values)}
        rows.append(row)
    return rows


def interleaved(
    run: Callable[[Any], dict[str, float]], kinds: tuple[Any, ...], repeats: int
) -> dict[Any, list[dict[str, float]]]:
    found: dict[Any, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(repeats):
        for kind in kinds:
            found[kind].append(run(kind))
            print(kind, found[kind][-1], flush=True)
    return found


def decode(folder: Path, repeats: int) -> None:
    """Nothing but decoding, of random parts as for training."""
    load = _load()

    def run(workers: int) -> dict[str, float]:
        source = fx.data.imagenet(folder, SIZE, workers=workers).train
        size = ChunkSize(BATCH, source.steps(BATCH), 10, "images")

        def order(epoch: int, count: int) -> np.ndarray:
            return np.random.default_rng(epoch).permutation(count)

        chunks = source.chunks(Position(0, 0), size, order)
        begun = time.perf_counter()
        next(chunks)
        first, busy, count = time.perf_counter() - begun, Busy(), 0
        begun = time.perf_counter()
        while count < 12_800:
            count += len(next(chunks).arrays["target"])
        seconds = time.perf_counter() - begun
        chunks.close()
        return {"images/s": count / seconds, "busy": busy.part(), "first chunk, s": first}

    title = f"Decoding JPEG files of {SIZE} x {SIZE} pixels, {repeats} times; load {load}"
    publish("decoding", title, medians(interleaved(run, WORKERS, repeats)))


class Steps(Observer):
    """Seconds of all dispatches but the first, which compiles."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.seconds: list[float] = []

    def stepped(self, record: dict[str, Any], state: Any) -> None:
        self.counts.append(len(record["loss"]))
        self.seconds.append(record["seconds"])


class Waiting:
    """Seconds inside of `Feed.load`, call by call."""

    def __init__(self) -> None:
        self.calls: list[float] = []
        self._own = feed._Streamed.load

    def __enter__(self) -> Waiting:
        def load(streamed: Any, epoch: int, step: int) -> Any:
            begun = time.perf_counter()
            found = self._own(streamed, epoch, step)
            self.calls.append(time.perf_counter() - begun)
            return found

        feed._Streamed.load = load
        return self

    def __exit__(self, *error: object) -> None:
        feed._Streamed.load = self._own


def train(folder: Path, repeats: int) -> None:
    """ResNet-10 of an eighth of the width, by `Equilibrium`, on a stream and on data in memory."""
    load, few = _load(), 10 * BATCH
    whole = fx.data.imagenet(folder, SIZE, workers=0)
    shape = whole.input_shape
    arrays = whole.take(few).arrays("train")
    in_memory = fx.data.Dataset("memory", (arrays["input"][:], arrays["target"]), classes=10)
    network = fx.models.resnet(
        10, width=0.125, classes=10, image_shape=shape, key=jax.random.key(0)
    )

    def run(workers: int | str) -> dict[str, float]:
        data: Any = in_memory
        if workers != "in memory":
            stream = fx.data.imagenet(folder, SIZE, workers=int(workers)).take(few)
            # Small chunks, so that there are many of them.
            data = fx.data.ImageStream(
                stream.train, name="images", class_names=stream.class_names, buffer=3
            )
        steps, busy = Steps(), Busy()
        with Waiting() as waiting:
            fx.fit(network, data, optimizer=1e-3, epochs=2, batch_size=BATCH, observers=[steps])
        seconds, count = sum(steps.seconds[1:]), sum(steps.counts[1:])
        waited = sum(waiting.calls[1:])
        return {
            # Of a dispatch's seconds, which begin before it is given its examples.
            "waits": waited / seconds,
            "step, ms": 1e3 * seconds / count,
            "images/s": count * BATCH / seconds,
            "busy": busy.part(),
            "first chunk, s": waiting.calls[0] if waiting.calls else 0.0,
        }

    run("in memory")  # Compiles.
    title = f"Training from JPEG files of {SIZE} x {SIZE} pixels, {repeats} times; load {load}"
    publish("decoding_training", title, medians(interleaved(run, ("in memory", *WORKERS), repeats)))


def _load() -> str:
    """How many processes wanted a core before this one began."""
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("write", "decode", "train"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    {"write": write, "decode": decode, "train": train}[given.what](given.folder, given.repeats)
