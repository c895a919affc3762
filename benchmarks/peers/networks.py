"""Weights and batches of a task, drawn once and written in a form that every library can read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from cases import Task

import fathomx as fx

_BATCHES = 8
_CHANNELS = (64, 128, 256, 512)


def write(task: Task, path: Path, seed: int = 0) -> None:
    """Writes weights, multipliers and the first batches of the training set to an `.npz`."""
    generator = np.random.default_rng(seed)
    arrays, multipliers = {}, []
    for index, (shape, deviation, multiplier) in enumerate(_layers(task)):
        drawn = deviation * generator.standard_normal(shape)
        arrays[f"weight{index}"] = drawn.astype(np.float32)
        multipliers.append(multiplier)
    data = fx.data.load("cifar10" if task.model == "vgg-5" else "mnist")
    count = _BATCHES * task.batch
    inputs = np.asarray(data.train.inputs[:count], np.float32)
    targets = np.eye(data.classes, dtype=np.float32)[np.asarray(data.train.labels[:count])]
    arrays["inputs"] = inputs.reshape(_BATCHES, task.batch, *inputs.shape[1:])
    arrays["targets"] = targets.reshape(_BATCHES, task.batch, -1)
    np.savez(path, multipliers=np.array(multipliers), **arrays)


def _layers(task: Task) -> Iterator[tuple[tuple[int, ...], float, float]]:
    """Shape, initial standard deviation and multiplier of every weight."""
    if task.model == "residual-mlp":
        width = int(task.width)
        yield (width, 784), 1.0, 784**-0.5
        for _ in range(task.depth - 2):
            yield (width, width), 1.0, (width * task.depth) ** -0.5
        yield (10, width), 1.0, 1 / width
        return
    channels = [3, *(round(task.width * each) for each in _CHANNELS)]
    for inward, outward in pairwise(channels):
        yield (3, 3, inward, outward), math.sqrt(2 / (9 * inward)), 1.0
    size = channels[-1] * (32 // 2 ** len(_CHANNELS)) ** 2
    yield (10, size), math.sqrt(2 / size), 1.0
