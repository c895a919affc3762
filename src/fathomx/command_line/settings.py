"""Everything that decides the result of a run, as plain values: the fields that are options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from fathomx import data as data_sets
from fathomx import metrics
from fathomx.command_line.choices import (
    NORMALIZATIONS,
    NUMBERS,
    PARAMETERIZATIONS,
    RULES,
    SCHEDULES,
    SOLVERS,
)
from fathomx.command_line.models import MODELS, Model
from fathomx.layers.activations import ACTIVATIONS
from fathomx.learning import DEFAULT_STRENGTH
from fathomx.learning.optimizer_choice import OPTIMIZERS
from fathomx.learning.optimizer_choice import SCHEDULES as LEARNING_RATE_SCHEDULES


def _per_model(pick: Callable[[Model], Any]) -> str:
    """A default that depends on the model, in words."""
    return _by_name({name: pick(model) for name, model in MODELS.items()})


def _by_name(defaults: Mapping[str, Any]) -> str:
    """Defaults that depend on a name, in words: the names of each default together."""
    names: dict[Any, list[str]] = {}
    for name, default in defaults.items():
        names.setdefault(default, []).append(name)
    said = [f"{value} for {' and '.join(group)}" for value, group in names.items()]
    return f"[default: {', '.join(said)}]"


def _option(
    default: Any,
    help: str,
    choices: Any = None,
    *,
    training: bool = False,
    network: bool = False,
    called: str | None = None,
) -> Any:
    """A field that is an option.

    `training` marks what a network's diagnosis does not ask for, `network` what a trained network
    cannot be given anew. `called` is the option's name, where it is not the field's.
    """
    chosen = tuple(choices) if choices else None
    metadata = {"help": help, "choices": chosen, "training": training, "network": network}
    metadata["called"] = called
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides the result of `fathomx train`, as it was given.

    Every field is a command-line option of the same name. `Job` checks them and fills in what is
    `None` and has a default.
    """

    data: str | None = _option(
        None,
        f"Data set, one of {', '.join(data_sets.names())}, or the path of a text file, of a table "
        "(.csv or .parquet, with --target) or of a folder (or zip file) of images, one folder per "
        "class; or imagenet: and a folder that holds train and val, or parquet shards, whose "
        "images are read while they are trained on. "
        + _per_model(lambda model: model.reading.data),
        network=True,
    )
    image_size: int | None = _option(
        None,
        "Height and width to which the images of a folder are scaled and cut. [default: those of "
        "the first, of imagenet: 224]",
        network=True,
    )
    workers: int | None = _option(
        None,
        "Processes that decode the images of imagenet:, which does not change the result; 0 to "
        "decode in this one. [default: one for each core, at most 8]",
    )
    target: str | None = _option(
        None, "Columns of a table that are predicted, with commas between.", network=True
    )
    task: str | None = _option(
        None,
        "What the targets are: classes, real values, or labels of which several may hold. "
        "[default: what the data suggests]",
        data_sets.TASKS,
        network=True,
    )
    metrics: str | None = _option(
        None,
        f"What predictions are judged by, with commas between, of "
        f"{', '.join(metrics.names())}. [default: accuracy for classes, rmse for real values, "
        "label-accuracy for labels]",
        training=True,
    )
    take: int | None = _option(
        None, "Train on so many examples only, the first ones.", training=True
    )
    model: str = _option("residual-mlp", "Network.", MODELS, network=True)
    depth: int | None = _option(
        None,
        "Number of weight layers, input and output layer included; of a transformer, blocks. "
        + _per_model(lambda model: model.depth),
        network=True,
    )
    width: int | float | None = _option(
        None,
        "Width of the hidden nodes: units of a perceptron or a transformer, channels of a "
        "residual-cnn, a multiplier of the channels of vgg and resnet. "
        + _per_model(lambda model: model.width),
        network=True,
    )
    activation: str = _option("gelu", "Activation function.", ACTIVATIONS, network=True)
    bias: bool = _option(
        False,
        "Give every node a bias, zero at first; without, a network of odd activations such as tanh "
        "is an odd function.",
        network=True,
    )
    parameterization: str | None = _option(
        None,
        "How weights scale with size. " + _per_model(lambda model: model.parameterization),
        PARAMETERIZATIONS,
        network=True,
    )
    normalization: str | None = _option(
        None,
        "Of every convolution (vgg and resnet: none, batch or group) or branch (transformer: none "
        "or layer). [default: none]",
        NORMALIZATIONS,
        network=True,
    )
    auxiliary: bool | None = _option(
        None,
        "Auxiliary nodes on the skips, for equal arrival along all paths, or skips as edges; "
        "resnet only. [default: auxiliary]",
        network=True,
    )
    stem: str | None = _option(
        None,
        "First convolution: 3x3 at every pixel, or 7x7 with stride 2 and pooling; resnet only. "
        "[default: small up to 64 pixels, large above]",
        ("small", "large"),
        network=True,
    )
    head: str | None = _option(
        None,
        "What is read out of the last image: all of it, or the mean of every channel; vgg only. "
        "[default: flat up to 64 pixels, average above]",
        ("flat", "average"),
        network=True,
    )
    heads: int | None = _option(
        None,
        "Heads of attention, which divide the width; transformer only. [default: 4]",
        network=True,
    )
    context: int | None = _option(
        None, "Tokens in a window of text; transformer only. [default: 64]", network=True
    )
    tokens: str | None = _option(
        None,
        "What a token of text is: so many subwords, at least 257, learned from the training part, "
        "or those of a tokenizer.json; transformer only. [default: characters]",
        network=True,
    )
    latents: int | None = _option(
        None, "Units of the latent root; decoders only. [default: 32]", network=True
    )
    inference: str = _option("gauss-newton", "How activities relax.", SOLVERS)
    schedule: str = _option(
        "uniform", "How errors are weighed from step to step of a descent.", SCHEDULES
    )
    steps: int | None = _option(
        None,
        "Inference steps of a descent [default: 100 of states, 5 of errors], or iterations of "
        "Gauss-Newton (5 where learning is incremental). " + _per_model(lambda model: model.steps),
    )
    activity_rate: float | None = _option(
        None,
        "Rate of a descent. [default: 0.4 of states, 0.5 with auxiliary nodes, 0.2 of errors]",
    )
    learning: str = _option(
        "equilibrium", "How weights learn.", (*RULES, "backprop"), training=True
    )
    output_precision: float | None = _option(
        None, "Fixed output precision (or nudge), instead of --strength."
    )
    precision: str = _option(
        "float32",
        "Numbers in which activities and products are computed; weights, errors and energies are "
        "in float32.",
        NUMBERS,
        network=True,
    )
    rematerialize: bool = _option(
        False,
        "Compute a node's inner results again for derivatives, to need less memory.",
        network=True,
    )
    epochs: int = _option(15, "Passes over the training data.", training=True)
    batch_size: int = _option(64, "Examples in a step.")
    optimizer: str = _option(
        "adam",
        "What makes steps of gradients: adam; adamw, with decay of weights; sgd; or muon, momentum "
        "made orthogonal matrix by matrix, the rest by Adam.",
        OPTIMIZERS,
        training=True,
    )
    learning_rate: float | None = _option(
        None,
        "Highest learning rate; but for sgd, which needs one of its own, times the scales of the "
        "parameterization. "
        + _by_name({name: each.learning_rate for name, each in PARAMETERIZATIONS.items()}),
        training=True,
    )
    learning_rate_schedule: str = _option(
        "cosine",
        "How the learning rate falls to 0 at the end of the run, if it does.",
        LEARNING_RATE_SCHEDULES,
        training=True,
    )
    warm_up: int | float | None = _option(
        None,
        "Updates in which the learning rate rises to its highest; below 1, their part of all.",
        training=True,
    )
    momentum: float | None = _option(
        None, "Momentum of sgd and muon. [default: 0 for sgd, 0.95 for muon]", training=True
    )
    weight_decay: float | None = _option(
        None,
        "Decay of weights, times the learning rate; of adamw, sgd and muon. [default: 0.01 for "
        "adamw, else 0; of decoders 2]",
        training=True,
    )
    clip: float | None = _option(
        None,
        "Longest gradient, over all weights; a longer one is scaled down to it. [default: none]",
        training=True,
    )
    accumulate: int | None = _option(
        None, "Batches whose mean gradient makes one update. [default: 1]", training=True
    )
    average: float | None = _option(
        None,
        "Validate, test and keep averages of the weights over the steps, with this decay, such as "
        "0.99. [default: none]",
        training=True,
    )
    validate_every: int | None = _option(
        None,
        "Score validation after so many steps, too. [default: after every epoch only]",
        training=True,
    )
    early_stopping: int | None = _option(
        None,
        "End training when validation has got no better for so many epochs, and keep the weights "
        "of the best one. [default: never]",
        training=True,
    )
    early_stopping_metric: str | None = _option(
        None,
        "The validation score that early stopping looks at, such as accuracy. [default: loss]",
        training=True,
    )
    strength: float | None = _option(
        None,
        "How far from backprop: the output precision of every batch is chosen to hold this "
        f"strength. [default: {DEFAULT_STRENGTH}]",
    )
    seed: int = _option(0, "Seed of the weights and of the order of the data.")
    source: str | None = _option(
        None,
        "Begin with the weights of this run folder, or of this file of fx.save; options default to "
        "those of the run. An end of the network that has another size is drawn anew.",
        training=True,
        called="from",
    )
    freeze: str | None = _option(
        None,
        "Entries of the network that do not learn, with commas between their names.",
        training=True,
    )


def option_name(field: dataclasses.Field[Any]) -> str:
    """The name of the option for a field, without its dashes."""
    return str(field.metadata["called"] or field.name.replace("_", "-"))


def option_fields(*, training: bool) -> list[dataclasses.Field[Any]]:
    """The fields of `Settings`, with or without those that only training asks for."""
    fields = dataclasses.fields(Settings)
    return [field for field in fields if training or not field.metadata["training"]]
