"""Everything that decides the result of a run, as plain values: the fields that are options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
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
    usual_strength,
)
from fathomx.command_line.models import MODELS, Model
from fathomx.layers.activations import ACTIVATIONS
from fathomx.learning import DEFAULT_STRENGTH
from fathomx.learning.optimizer_choice import OPTIMIZERS
from fathomx.learning.optimizer_choice import SCHEDULES as LEARNING_RATE_SCHEDULES
from fathomx.problem.strength import HoldStrength
from fathomx.training.choosing import USUAL_CERTIFY


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


def _as_it_is(value: Any) -> Any:
    return value


@dataclasses.dataclass(frozen=True)
class Option:
    """All that commands, jobs and stored runs have to know of a field: its metadata.

    **Fields**

    * `help`, and the names to choose from, if it is one of these; `called`: the option's name,
      where it is not the field's.
    * `training`: whether a network's diagnosis does not ask for it; `network`: whether a trained
      network cannot be given it anew.
    * `least`: the smallest of its numbers; `positive`: whether they are positive and finite.
    * `models`: those that have it, if not all do, each with its default. `built`: what their
      function takes of its value, under the field's name; `None` if nothing.
    """

    help: str
    choices: Collection[str] | None = None
    called: str | None = None
    training: bool = False
    network: bool = False
    least: int | None = None
    positive: bool = False
    models: Mapping[str, Any] | None = None
    built: Callable[[Any], Any] | None = _as_it_is


def option(default: Any, help: str, choices: Any = None, **known: Any) -> Any:
    """A field that is an option, of which `known` is the rest of `Option`.

    The defaults of its models end the help; what only some models have is of the network.
    """
    models = known.get("models") or {}
    if models and "[default" not in help:
        shared = set(models.values())
        help += f" [default: {shared.pop()}]" if len(shared) == 1 else f" {_by_name(models)}"
    of_network = known.pop("network", False) or bool(models)
    chosen = tuple(choices) if choices else None
    metadata = vars(Option(help, chosen, network=of_network, **known))
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides the result of `fathomx train`, as it was given.

    Every field is a command-line option of the same name. `Job` checks them and fills in what is
    `None` and has a default.
    """

    data: str | None = option(
        None,
        f"Data set, one of {', '.join(data_sets.names())}, or the path of a text file, of a table "
        "(.csv or .parquet, with --target) or of a folder (or zip file) of images, one folder per "
        "class; or imagenet: and a folder that holds train and val, or parquet shards, whose "
        "images are read while they are trained on. "
        + _per_model(lambda model: model.reading.data),
        network=True,
    )
    image_size: int | None = option(
        None,
        "Height and width to which the images of a folder are scaled and cut. [default: those of "
        "the first, of imagenet: 224]",
        network=True,
        least=1,
    )
    data_workers: int | None = option(
        None,
        "Processes that decode the images of imagenet:, which does not change the result; 0 to "
        "decode in this one. [default: one for each core, at most 8]",
        least=0,
    )
    target: str | None = option(
        None, "Columns of a table that are predicted, with commas between.", network=True
    )
    task: str | None = option(
        None,
        "What the targets are: classes, real values, or labels of which several may hold. "
        "[default: what the data suggests]",
        data_sets.TASKS,
        network=True,
    )
    metrics: str | None = option(
        None,
        f"What predictions are judged by, with commas between, of "
        f"{', '.join(metrics.names())}. [default: accuracy for classes, rmse for real values, "
        "label-accuracy for labels]",
        training=True,
    )
    take: int | None = option(
        None, "Train on so many examples only, the first ones.", training=True, least=1
    )
    model: str = option("residual-mlp", "Network.", MODELS, network=True)
    depth: int | None = option(
        None,
        "Number of weight layers, input and output layer included; of a transformer, blocks. "
        + _per_model(lambda model: model.depth),
        network=True,
        least=1,
    )
    width: int | float | None = option(
        None,
        "Width of the hidden nodes: units of a perceptron or a transformer, channels of a "
        "residual-cnn, a multiplier of the channels of vgg and resnet. "
        + _per_model(lambda model: model.width),
        network=True,
    )
    activation: str = option("gelu", "Activation function.", ACTIVATIONS, network=True)
    bias: bool = option(
        False,
        "Give every node a bias, zero at first; without, a network of odd activations such as tanh "
        "is an odd function.",
        network=True,
    )
    parameterization: str | None = option(
        None,
        "How weights scale with size. " + _per_model(lambda model: model.parameterization),
        PARAMETERIZATIONS,
        network=True,
    )
    normalization: str | None = option(
        None,
        "Of every convolution (vgg and resnet: none, batch or group) or branch (transformer: none "
        "or layer).",
        NORMALIZATIONS,
        models=dict.fromkeys(("vgg", "resnet", "transformer"), "none"),
        built=lambda name: None if name == "none" else name,
    )
    auxiliary: bool | None = option(
        None,
        "Auxiliary nodes on the skips, for equal arrival along all paths, or skips as edges; "
        "resnet only. [default: auxiliary]",
        models={"resnet": True},
    )
    stem: str | None = option(
        None,
        "First convolution: 3x3 at every pixel, or 7x7 with stride 2 and pooling; resnet only. "
        "[default: small up to 64 pixels, large above]",
        ("small", "large"),
        models={"resnet": None},
    )
    head: str | None = option(
        None,
        "What is read out of the last image: all of it, or the mean of every channel; vgg only. "
        "[default: flat up to 64 pixels, average above]",
        ("flat", "average"),
        models={"vgg": None},
    )
    heads: int | None = option(
        None,
        "Heads of attention, which divide the width; transformer only.",
        models={"transformer": 4},
    )
    context: int | None = option(
        None,
        "Tokens in a window of text; transformer only.",
        models={"transformer": 64},
        built=None,
        least=1,
    )
    tokens: str | None = option(
        None,
        "What a token of text is: so many subwords, at least 257, learned from the training part, "
        "or those of a tokenizer.json; transformer only. [default: characters]",
        models={"transformer": None},
        built=None,
    )
    latents: int | None = option(
        None,
        "Units of the latent root; decoders only.",
        models=dict.fromkeys(("decoder", "decoder-cnn"), 32),
        least=1,
    )
    inference: str = option("gauss-newton", "How activities relax.", SOLVERS)
    schedule: str = option(
        "uniform", "How errors are weighed from step to step of a descent.", SCHEDULES
    )
    steps: int | None = option(
        None,
        "Inference steps of a descent [default: 100 of states, 5 of errors], or iterations of "
        "Gauss-Newton (5 where learning is incremental). " + _per_model(lambda model: model.steps),
        least=1,
    )
    activity_rate: float | None = option(
        None,
        "Rate of a descent. [default: 0.4 of states, 0.5 with auxiliary nodes, 0.2 of errors]",
        positive=True,
    )
    learning: str = option("equilibrium", "How weights learn.", (*RULES, "backprop"), training=True)
    output_precision: float | None = option(
        None, "Fixed output precision (or nudge), instead of --strength.", positive=True
    )
    precision: str = option(
        "float32",
        "Numbers in which activities and products are computed; weights, errors and energies are "
        "in float32.",
        NUMBERS,
        network=True,
    )
    rematerialize: bool = option(
        False,
        "Compute a node's inner results again for derivatives, to need less memory.",
        network=True,
    )
    offload: bool = option(
        False,
        "Let what nodes are computed again from wait in the memory of the host; with "
        "--rematerialize.",
        network=True,
    )
    epochs: int = option(15, "Passes over the training data.", training=True, least=1)
    batch_size: int = option(64, "Examples in a step.", least=1)
    optimizer: str = option(
        "adam",
        "What makes steps of gradients: adam; adamw, with decay of weights; sgd; or muon, momentum "
        "made orthogonal matrix by matrix, the rest by Adam.",
        OPTIMIZERS,
        training=True,
    )
    learning_rate: float | None = option(
        None,
        "Highest learning rate; but for sgd, which needs one of its own, times the scales of the "
        "parameterization. "
        + _by_name({name: each.learning_rate for name, each in PARAMETERIZATIONS.items()}),
        training=True,
        positive=True,
    )
    learning_rate_schedule: str = option(
        "cosine",
        "How the learning rate falls to 0 at the end of the run, if it does.",
        LEARNING_RATE_SCHEDULES,
        training=True,
    )
    warm_up: int | float | None = option(
        None,
        "Updates in which the learning rate rises to its highest; below 1, their part of all.",
        training=True,
    )
    momentum: float | None = option(
        None, "Momentum of sgd and muon. [default: 0 for sgd, 0.95 for muon]", training=True
    )
    weight_decay: float | None = option(
        None,
        "Decay of weights, times the learning rate; of adamw, sgd and muon. [default: 0.01 for "
        "adamw, else 0; of decoders 2]",
        training=True,
    )
    clip: float | None = option(
        None,
        "Longest gradient, over all weights; a longer one is scaled down to it. [default: none]",
        training=True,
    )
    accumulate: int | None = option(
        None, "Batches whose mean gradient makes one update. [default: 1]", training=True, least=1
    )
    average: float | None = option(
        None,
        "Validate, test and keep averages of the weights over the steps, with this decay, such as "
        "0.99. [default: none]",
        training=True,
    )
    validate_every: int | None = option(
        None,
        "Score validation after so many steps, too. [default: after every epoch only]",
        training=True,
        least=1,
    )
    certify: int = option(
        USUAL_CERTIFY,
        "Certify every so many-th step of an epoch, and its last; 1 is every step.",
        training=True,
        least=1,
    )
    early_stopping: int | None = option(
        None,
        "End training when validation has got no better for so many epochs, and keep the weights "
        "of the best one. [default: never]",
        training=True,
        least=1,
    )
    early_stopping_metric: str | None = option(
        None,
        "The validation score that early stopping looks at, such as accuracy. [default: loss]",
        training=True,
    )
    strength: float | None = option(
        None,
        "How far from backprop: the output precision of every batch is chosen to hold this "
        f"strength. [default: {DEFAULT_STRENGTH}, by equilibrium-propagation "
        f"{usual_strength('equilibrium-propagation')}]",
        positive=True,
    )
    strength_every: int = option(
        HoldStrength(DEFAULT_STRENGTH).every,
        "Measure what holds the strength in every so many-th update; 1 is every update.",
        training=True,
        least=1,
    )
    seed: int = option(0, "Seed of the weights and of the order of the data.")
    source: str | None = option(
        None,
        "Begin with the weights of this run folder, or of this file of fx.save; options default to "
        "those of the run. An end of the network that has another size is drawn anew.",
        training=True,
        called="from",
    )
    freeze: str | None = option(
        None,
        "Entries of the network that do not learn, with commas between their names.",
        training=True,
    )


def option_name(field: dataclasses.Field[Any]) -> str:
    """The name of the option for a field, without its dashes."""
    return str(field.metadata["called"] or field.name.replace("_", "-"))


def option_fields(*, training: bool, of: type[Settings] = Settings) -> list[dataclasses.Field[Any]]:
    """The fields of settings, with or without those that only training asks for."""
    fields = dataclasses.fields(of)
    return [field for field in fields if training or not field.metadata["training"]]


def own_defaults(settings: Settings) -> dict[str, Any]:
    """The fields that only some models have, of those that the chosen one has, by default."""
    return {
        field.name: field.metadata["models"][settings.model]
        for field in dataclasses.fields(settings)
        if settings.model in (field.metadata["models"] or ())
    }


def own_values(settings: Settings) -> dict[str, Any]:
    """What the function of the chosen model takes of these fields."""
    return {
        field.name: field.metadata["built"](getattr(settings, field.name))
        for field in dataclasses.fields(settings)
        if settings.model in (field.metadata["models"] or ()) and field.metadata["built"]
    }
