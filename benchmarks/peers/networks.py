"""Weights and batches of a task, drawn once and written in a form that every library can read."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cases import Task

import fathomx as fx

_BATCHES = 8
_CHANNELS = (64, 128, 256, 512)
# Convolutions in every stage, blocks in every stage.
_STAGES = {"vgg-5": (1, 1, 1, 1), "vgg-10": (2, 2, 2, 3)}
_BLOCKS = 2
_IMAGES = (*_STAGES, "resnet-18")
_SIZE = 32
_LATENTS = 64


@dataclasses.dataclass(frozen=True)
class Layer:
    """A weight: its shape, initial standard deviation and multiplier, and at how many positions of
    an image it is applied.
    """

    shape: tuple[int, ...]
    deviation: float
    multiplier: float = 1.0
    positions: int = 1


def write(task: Task, path: Path, seed: int = 0) -> None:
    """Writes weights, multipliers and the first batches of the training set to an `.npz`.

    The targets of a decoder are images; its inputs are latents drawn from their prior, by which
    libraries are compared, and which no one sees in training.
    """
    generator = np.random.default_rng(seed)
    arrays, multipliers = {}, []
    for index, layer in enumerate(_layers(task)):
        drawn = layer.deviation * generator.standard_normal(layer.shape)
        arrays[f"weight{index}"] = drawn.astype(np.float32)
        multipliers.append(layer.multiplier)
    data = fx.data.load("cifar10" if task.model in _IMAGES else "mnist")
    count = _BATCHES * task.batch
    inputs = np.asarray(data.train.inputs[:count], np.float32)
    targets = np.eye(data.classes, dtype=np.float32)[np.asarray(data.train.labels[:count])]
    if task.model == "decoder":
        drawn = generator.standard_normal((count, _LATENTS)).astype(np.float32)
        inputs, targets = drawn, inputs.reshape(count, -1)
    arrays["inputs"] = inputs.reshape(_BATCHES, task.batch, *inputs.shape[1:])
    arrays["targets"] = targets.reshape(_BATCHES, task.batch, -1)
    np.savez(path, multipliers=np.array(multipliers), **arrays)


def operations(task: Task) -> float:
    """Floating-point operations of a batch's forward pass, of products and convolutions alone."""
    once = sum(2 * math.prod(layer.shape) * layer.positions for layer in _layers(task))
    return float(once * task.batch)


def _layers(task: Task) -> Iterator[Layer]:
    if task.model == "residual-mlp":
        width = int(task.width)
        yield Layer((width, 784), 1.0, 784**-0.5)
        for _ in range(task.depth - 2):
            yield Layer((width, width), 1.0, (width * task.depth) ** -0.5)
        yield Layer((10, width), 1.0, 1 / width)
        return
    if task.model == "decoder":
        width = int(task.width)
        sizes = [_LATENTS, *[width] * (task.depth - 1), 784]
        yield from (Layer((out, size), size**-0.5) for size, out in itertools.pairwise(sizes))
        return
    wide = [round(task.width * each) for each in _CHANNELS]
    averaged = task.model == "resnet-18"
    yield from _residual_blocks(wide) if averaged else _plain(wide, task.model)
    size = wide[-1] * (1 if averaged else (_SIZE // 2 ** len(wide)) ** 2)
    yield Layer((10, size), math.sqrt(2 / size))


def _convolution(kernel: int, inward: int, outward: int, size: int) -> Layer:
    shape = (kernel, kernel, inward, outward)
    return Layer(shape, math.sqrt(2 / (kernel**2 * inward)), positions=size**2)


def _plain(wide: list[int], model: str) -> Iterator[Layer]:
    """The convolutions of a chain, pooled after every stage."""
    inward, size = 3, _SIZE
    for count, outward in zip(_STAGES[model], wide, strict=True):
        for _ in range(count):
            yield _convolution(3, inward, outward, size)
            inward = outward
        size //= 2


def _residual_blocks(wide: list[int]) -> Iterator[Layer]:
    """Of a ResNet the stem, then of every block both and the skip's, where it has one."""
    inward, size = wide[0], _SIZE
    yield _convolution(3, 3, inward, size)
    for outward in wide:
        for _ in range(_BLOCKS):
            size //= 1 if inward == outward else 2
            yield _convolution(3, inward, outward, size)
            yield _convolution(3, outward, outward, size)
            if inward != outward:
                yield _convolution(1, inward, outward, size)
            inward = outward
