"""A training job as plain values: what the command line offers and what `config.json` stores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

from fathomx import data as data_sets
from fathomx.data import Dataset
from fathomx.graph.names import unknown
from fathomx.graph.network import Network
from fathomx.graph.numbers import mixed_precision, rematerialized
from fathomx.inference import (
    Descent,
    ErrorDescent,
    Exact,
    GaussNewton,
    GradientFlow,
    Newton,
    Solver,
    StateDescent,
)
from fathomx.inference.schedule import Decaying, Schedule, Spiking, Uniform
from fathomx.layers.activations import ACTIVATIONS
from fathomx.layers.parameterization import (
    NTK,
    MuPC,
    Parameterization,
    Standard,
    scale_learning_rates,
)
from fathomx.learning import (
    DEFAULT_STRENGTH,
    Backprop,
    Equilibrium,
    EquilibriumPropagation,
    ForwardUpdate,
    Incremental,
    LearningRule,
    PredictiveCoding,
)
from fathomx.models import mlp, residual_cnn, residual_mlp, resnet, transformer, vgg
from fathomx.problem.strength import HoldStrength
from fathomx.training.fit import check_statistics


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a model reads: the view of a data set, and how that says which sizes to build."""

    view: Callable[[Dataset], Dataset]
    sizes: Callable[[Dataset], dict[str, Any]]
    data: str = "digits"


VECTORS = Reading(
    Dataset.flat, lambda data: {"in_size": data.input_shape[0], "out_size": data.classes}
)
IMAGES = Reading(
    Dataset.images, lambda data: {"classes": data.classes, "image_shape": data.input_shape}
)
TOKENS = Reading(
    lambda data: data,
    lambda data: {"vocabulary": data.classes, "context": data.input_shape[0]},
    data="tiny-shakespeare",
)


def _residual_cnn(depth: int, **choices: Any) -> Network:
    blocks, rest = divmod(depth - 2, 3)
    if rest or blocks < 1:
        raise ValueError(
            f"residual-cnn has three stages of equal size between two layers, so depth must be 5, "
            f"8, 11 or another 3 * blocks + 2, not {depth}."
        )
    return residual_cnn(blocks, **choices)


@dataclasses.dataclass(frozen=True)
class Model:
    """A network that a job can build.

    * `make`: its function in `fathomx.models`. `reading`: what it takes as input.
    * `depth`, `width`, `parameterization`: what a job takes unless told otherwise. An integer
      `width` counts units, one with a fraction multiplies channels.
    * `options`: the fields of `Job` that only some models have, with their defaults.
    * `steps`: iterations of Gauss-Newton.
    """

    make: Callable[..., Network]
    reading: Reading
    depth: int
    width: int | float
    parameterization: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = 1


MODELS: dict[str, Model] = {
    "residual-mlp": Model(residual_mlp, VECTORS, 64, 128, "mupc"),
    "mlp": Model(mlp, VECTORS, 64, 128, "mupc"),
    "vgg": Model(vgg, IMAGES, 10, 1.0, "he", {"normalization": "none"}),
    "resnet": Model(resnet, IMAGES, 10, 1.0, "he", {"normalization": "none", "auxiliary": True}),
    "residual-cnn": Model(_residual_cnn, IMAGES, 11, 32, "mupc"),
    "transformer": Model(
        transformer,
        TOKENS,
        4,
        128,
        "mupc",
        {"normalization": "none", "heads": 4, "context": 64},
        # Attention bends what one linearization takes for straight.
        steps=2,
    ),
}
_OPTIONAL = tuple(dict.fromkeys(name for model in MODELS.values() for name in model.options))


class Preset(NamedTuple):
    """A parameterization, and the learning rate of Adam that suits networks that have it."""

    make: Callable[[], Parameterization]
    learning_rate: float


PARAMETERIZATIONS: dict[str, Preset] = {
    "mupc": Preset(MuPC, 0.5),
    "ntk": Preset(NTK, 0.03),
    "standard": Preset(Standard, 3e-3),
    "he": Preset(lambda: Standard(gain=math.sqrt(2)), 3e-3),
}
NORMALIZATIONS = ("none", "batch", "group", "layer")
DESCENTS: dict[str, Callable[..., Solver]] = {
    "error-descent": ErrorDescent,
    "state-descent": StateDescent,
}
SOLVERS: dict[str, Callable[..., Solver]] = {
    "gauss-newton": GaussNewton,
    # Networks are built in float32, which cannot reach Newton's own default of 1e-6.
    "newton": lambda: Newton(tolerance=1e-4),
    **DESCENTS,
    "gradient-flow": GradientFlow,
    "exact": Exact,
}
# Which options of inference each algorithm has.
_OPTIONS_OF: dict[str, tuple[str, ...]] = {
    "gauss-newton": ("steps",),
    **dict.fromkeys(DESCENTS, ("schedule", "steps", "activity_rate")),
}
SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "uniform": Uniform,
    "spiking": Spiking,
    "decaying": Decaying,
}
NUMBERS: dict[str, Callable[[Network], Network]] = {
    "float32": lambda network: network,
    "bfloat16": mixed_precision,
}
RULES: dict[str, Callable[[Solver, HoldStrength | float], PredictiveCoding]] = {
    "equilibrium": Equilibrium,
    "incremental": Incremental,
    "forward-update": ForwardUpdate,
    "equilibrium-propagation": EquilibriumPropagation,
}
# That of `resnet`, whose auxiliary nodes are built for one rate of state descent.
_AUXILIARY_RATE = 0.5
# Fields that configurations of the first version do not have.
_ADDED = (
    "take",
    "normalization",
    "auxiliary",
    "heads",
    "context",
    "schedule",
    "precision",
    "rematerialize",
    "steps",
    "activity_rate",
)
_LEAST = {"depth": 1, "epochs": 1, "batch_size": 1, "steps": 1, "take": 1, "context": 1}
_INCREMENTAL_STEPS = 5
_POSITIVE = ("learning_rate", "output_precision", "strength", "activity_rate")


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


def _option(default: Any, help: str, choices: Any = None, *, training: bool = False) -> Any:
    """A field that is an option; `training` marks what a network's diagnosis does not ask for."""
    chosen = tuple(choices) if choices else None
    metadata = {"help": help, "choices": chosen, "training": training}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that decides the result of `fathomx train`.

    Every field is a command-line option of the same name. What is `None` and has a default is
    filled in, so that the stored configuration says what was run. Raises `ValueError` for unknown
    names (with the nearest valid one), numbers out of range, and options that contradict each
    other.

    ```python
    job = Job(data="mnist", depth=128, epochs=1)
    network = job.network(job.load())
    ```
    """

    data: str | None = _option(
        None,
        f"Data set, one of {', '.join(data_sets.names())}, or the path of a text file. "
        + _per_model(lambda model: model.reading.data),
    )
    take: int | None = _option(
        None, "Train on so many examples only, the first ones.", training=True
    )
    model: str = _option("residual-mlp", "Network.", MODELS)
    depth: int | None = _option(
        None,
        "Number of weight layers, input and output layer included; of a transformer, blocks. "
        + _per_model(lambda model: model.depth),
    )
    width: int | float | None = _option(
        None,
        "Width of the hidden nodes: units of a perceptron or a transformer, channels of a "
        "residual-cnn, a multiplier of the channels of vgg and resnet. "
        + _per_model(lambda model: model.width),
    )
    activation: str = _option("gelu", "Activation function.", ACTIVATIONS)
    parameterization: str | None = _option(
        None,
        "How weights scale with size. " + _per_model(lambda model: model.parameterization),
        PARAMETERIZATIONS,
    )
    normalization: str | None = _option(
        None,
        "Of every convolution (vgg and resnet: none, batch or group) or branch (transformer: none "
        "or layer). [default: none]",
        NORMALIZATIONS,
    )
    auxiliary: bool | None = _option(
        None,
        "Auxiliary nodes on the skips, for equal arrival along all paths, or skips as edges; "
        "resnet only. [default: auxiliary]",
    )
    heads: int | None = _option(
        None, "Heads of attention, which divide the width; transformer only. [default: 4]"
    )
    context: int | None = _option(
        None, "Tokens in a window of text; transformer only. [default: 64]"
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
    )
    rematerialize: bool = _option(
        False, "Compute a node's inner results again for derivatives, to need less memory."
    )
    epochs: int = _option(15, "Passes over the training data.", training=True)
    batch_size: int = _option(64, "Examples in a step.")
    learning_rate: float | None = _option(
        None,
        "Peak learning rate of Adam, times the scales of the parameterization; it decays to 0 by a "
        "cosine. "
        + _by_name({name: each.learning_rate for name, each in PARAMETERIZATIONS.items()}),
        training=True,
    )
    strength: float | None = _option(
        None,
        "How far from backprop: the output precision of every batch is chosen to hold this "
        f"strength. [default: {DEFAULT_STRENGTH}]",
    )
    seed: int = _option(0, "Seed of the weights and of the order of the data.")

    def __post_init__(self) -> None:
        self._check_values()
        self._check_model()
        self._check_inference()
        self._check_learning()
        self._fill_in()

    def _check_values(self) -> None:
        named_sets = (None, *data_sets.names())
        if self.data not in named_sets and not Path(str(self.data)).is_file():
            named = unknown("data", self.data, data_sets.names())
            raise ValueError(f"{named} There is no file of that name either.")
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if choices and value is not None and value not in choices:
                raise ValueError(unknown(field.name, value, choices))
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}.")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive, finite number, not {value}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0..{2**32 - 1}, not {self.seed}.")

    def _check_model(self) -> None:
        chosen = MODELS[self.model]
        for name in _OPTIONAL:
            if getattr(self, name) is not None and name not in chosen.options:
                having = " or ".join(repr(k) for k, m in MODELS.items() if name in m.options)
                raise ValueError(
                    f"model {self.model!r} has no {name}; leave it out, or use model {having}."
                )
        if self.data is not None:
            text = self.data in data_sets.texts() or self.data not in data_sets.names()
            if text and chosen.reading is not TOKENS:
                reader = next(name for name, m in MODELS.items() if m.reading is TOKENS)
                raise ValueError(
                    f"data {self.data!r} is text, which model {self.model!r} does not read; use "
                    f"model {reader!r}."
                )
            if not text and chosen.reading is TOKENS:
                raise ValueError(
                    f"model {self.model!r} reads text, which data {self.data!r} is not; give data "
                    f"{TOKENS.data!r} or the path of a text file."
                )
        width = self.width
        if width is None:
            return
        if not isinstance(chosen.width, int):
            if not (math.isfinite(width) and width > 0):
                raise ValueError(
                    f"width multiplies the channels of model {self.model!r} and must be a "
                    f"positive, finite number, not {width}."
                )
        elif not math.isfinite(width) or width != int(width):
            raise ValueError(f"width must be a whole number for model {self.model!r}, not {width}.")
        elif width < 1:
            raise ValueError(f"width must be at least 1, not {width}.")

    def _check_inference(self) -> None:
        if self.inference == "exact" and self.activation != "linear":
            raise ValueError(
                "inference 'exact' needs a linear network; give activation 'linear', or use "
                "inference 'newton' for the equilibrium of other networks."
            )
        for name in self._inference_options():
            if name not in _OPTIONS_OF.get(self.inference, ()):
                having = " or ".join(repr(k) for k, names in _OPTIONS_OF.items() if name in names)
                raise ValueError(
                    f"inference {self.inference!r} has no {name}; leave it out, or use inference "
                    f"{having}."
                )

    def _check_learning(self) -> None:
        if self.learning == "backprop" and (self.strength or self.output_precision):
            raise ValueError(
                "learning 'backprop' has no inference; leave out strength and output_precision."
            )
        if self.learning == "backprop" and (given := self._inference_options()):
            raise ValueError(
                f"learning 'backprop' has no inference; leave out {' and '.join(given)}."
            )
        able = ("state-descent", "error-descent", "gauss-newton")
        if self.learning == "incremental" and self.inference not in able:
            raise ValueError(
                "learning 'incremental' changes weights in every step of inference, which "
                f"{self.inference!r} does not allow; use inference {', '.join(map(repr, able))}."
            )
        if self.strength is not None and self.output_precision is not None:
            raise ValueError(
                "strength and output_precision exclude each other: either the output precision is "
                "fixed, or it follows the strength; give one of them."
            )

    def _inference_options(self) -> list[str]:
        """Names of the given options that only some algorithms have."""
        given = {
            "schedule": self.schedule != "uniform",
            "steps": self.steps is not None,
            "activity_rate": self.activity_rate is not None,
        }
        return [name for name, is_given in given.items() if is_given]

    def _fill_in(self) -> None:
        chosen = MODELS[self.model]
        names = ("depth", "width", "parameterization")
        options = {"data": chosen.reading.data, **{name: getattr(chosen, name) for name in names}}
        preset = PARAMETERIZATIONS[self.parameterization or chosen.parameterization]
        options["learning_rate"] = preset.learning_rate
        filled = {
            name: value
            for name, value in {**options, **chosen.options}.items()
            if getattr(self, name) is None
        }
        if self.width is not None:
            filled["width"] = type(chosen.width)(self.width)
        if self.learning != "backprop":
            if self.inference == "gauss-newton" and self.steps is None:
                # After a single iteration incremental learning would equal that at equilibrium.
                incremental = self.learning == "incremental"
                filled["steps"] = _INCREMENTAL_STEPS if incremental else chosen.steps
            if self.strength is None and self.output_precision is None:
                filled["strength"] = DEFAULT_STRENGTH
            auxiliary = filled.get("auxiliary", self.auxiliary)
            if auxiliary and self.inference == "state-descent" and self.activity_rate is None:
                filled["activity_rate"] = _AUXILIARY_RATE
        for name, value in filled.items():
            # Frozen fields are set this way; what is stored should say what was run.
            object.__setattr__(self, name, value)

    def load(self) -> Dataset:
        """The data set, in the form that the model takes."""
        assert self.data is not None
        if self.data in data_sets.names():
            found = data_sets.load(self.data, context=self.context)
        else:
            assert self.context is not None
            found = data_sets.text(self.data, self.context)
        data = MODELS[self.model].reading.view(found)
        return data if self.take is None else data.take(self.take)

    def network(self, data: Dataset) -> Network:
        """The network at initialization, built for this data set."""
        chosen = MODELS[self.model]
        options: dict[str, Any] = {}
        if self.normalization is not None:
            options["normalization"] = None if self.normalization == "none" else self.normalization
        if self.auxiliary is not None:
            options["auxiliary"] = self.auxiliary
        if self.auxiliary and self.inference == "state-descent" and self.activity_rate is not None:
            options["activity_rate"] = self.activity_rate
        if self.heads is not None:
            options["heads"] = self.heads
        assert self.parameterization is not None
        network = chosen.make(
            **chosen.reading.sizes(data),
            depth=self.depth,
            width=self.width,
            activation=self.activation,
            parameterization=PARAMETERIZATIONS[self.parameterization].make(),
            key=jax.random.key(self.seed),
            **options,
        )
        network = NUMBERS[self.precision](network)
        return rematerialized(network) if self.rematerialize else network

    def rule(self) -> LearningRule:
        """The learning rule with its solver."""
        if self.learning == "backprop":
            return Backprop()
        precision: HoldStrength | float | None = self.output_precision
        if precision is None:
            assert self.strength is not None
            precision = HoldStrength(self.strength)
        return RULES[self.learning](self.solver(), precision)

    def solver(self) -> Solver:
        """The inference algorithm, with its defaults where nothing else is given."""
        if self.inference == "gauss-newton":
            return GaussNewton(iterations=self.steps or MODELS[self.model].steps)
        if self.inference not in DESCENTS:
            return SOLVERS[self.inference]()
        given: dict[str, Any] = {"schedule": SCHEDULES[self.schedule]()}
        if self.activity_rate is not None:
            given["optimizer"] = optax.sgd(self.activity_rate)
        if self.steps is not None:
            given["steps"] = self.steps
        return DESCENTS[self.inference](**given)

    def check(self, data: Dataset, network: Network) -> None:
        """Raises `ValueError` for what only the data and the network show to be impossible."""
        if self.batch_size > len(data.train.labels):
            raise ValueError(
                f"batch_size is {self.batch_size}, but {data.name!r} has "
                f"{len(data.train.labels)} training examples; choose a smaller --batch-size."
            )
        check_statistics(network, self.batch_size)
        solver = self.solver()
        if isinstance(solver, Descent) and self.learning != "backprop":
            solver.check_arrivals(solver.usual_arrivals(network))

    def by_backprop(self) -> Job:
        """The same job with backprop, and without what belongs to inference."""
        return dataclasses.replace(
            self,
            learning="backprop",
            strength=None,
            output_precision=None,
            schedule="uniform",
            steps=None,
            activity_rate=None,
        )

    def for_diagnosis(self, **changes: Any) -> Job:
        """The job whose equilibrium a diagnosis of this job's network looks at.

        `changes` are fields; what they replace takes its options along: another inference those of
        descents, a strength or an output precision the other one.
        """
        config = {**self.config(), "learning": "equilibrium"}
        if "inference" in changes:
            config |= {"schedule": "uniform", "steps": None, "activity_rate": None}
        if "strength" in changes or "output_precision" in changes:
            config |= {"strength": None, "output_precision": None}
        return Job(**{**config, **changes})

    def optimizer(self, data: Dataset) -> optax.GradientTransformation:
        """Adam with a cosine schedule over all updates of the run and a small epsilon.

        At the learning-rate scales of the parameterization (`fx.scale_learning_rates`).
        """
        assert self.learning_rate is not None
        steps = max(1, len(data.train.labels) // self.batch_size) * self.epochs
        if self.learning == "incremental":
            steps *= self.solver().max_steps
        schedule = optax.cosine_decay_schedule(self.learning_rate, steps)
        return scale_learning_rates(optax.adam(schedule, eps=1e-12))

    def config(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Job:
        """The job that a `config.json` describes; keys that are not fields are left out.

        Raises `ValueError` for missing values and for those of a wrong type. Fields that an older
        version did not have take their defaults, and where a float is expected, an integer will do.
        """
        if config.get("precision") in list(SCHEDULES):
            # Before numbers had a choice, this was the schedule's name. (Looked up in a list, since
            # what is damaged need not be hashable.)
            config = {**config, "schedule": config["precision"], "precision": "float32"}
        known = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        given = {name: value for name, value in config.items() if name in known}
        for name, value in given.items():
            allowed = known[name].split(" | ")
            if type(value) is int and "float" in allowed and "int" not in allowed:
                given[name] = float(value)
            elif type(value).__name__.replace("NoneType", "None") not in allowed:
                raise ValueError(f"config.json is damaged: {name} is {value!r}, not {known[name]}.")
        missing = [name for name in known if name not in given and name not in _ADDED]
        if missing:
            raise ValueError(f"config.json is damaged: it lacks {', '.join(missing)}.")
        return cls(**given)
