"""What is wrong with settings by themselves: unknown names, numbers, and contradictions."""

from __future__ import annotations

import dataclasses
import math
import os

from fathomx import data as data_sets
from fathomx.checks.names import unknown
from fathomx.command_line import sources
from fathomx.command_line.choices import DESCENTS
from fathomx.command_line.models import MODELS, TOKENS
from fathomx.command_line.optimization import early_stopping, optimizer_choice
from fathomx.command_line.settings import Settings
from fathomx.data import Subwords
from fathomx.data._table_files import ENDINGS, target_columns
from fathomx.metrics import chosen

# Which options of inference each algorithm has.
_OPTIONS_OF: dict[str, tuple[str, ...]] = {
    "gauss-newton": ("steps",),
    "langevin": ("steps", "activity_rate"),
    **dict.fromkeys(DESCENTS, ("schedule", "steps", "activity_rate")),
}


def validate(settings: Settings) -> None:
    """Raises `ValueError` for the first thing that is wrong with them.

    Unknown names (with the nearest valid one), numbers out of range, and options that contradict
    each other.
    """
    _check_values(settings)
    _check_model(settings)
    if settings.offload and not settings.rematerialize:
        raise ValueError(
            "offload is about what rematerialize keeps of a node; give rematerialize, too."
        )
    _check_inference(settings)
    _check_learning(settings)
    _check_optimizer(settings)


def _check_values(settings: Settings) -> None:
    if settings.data is not None and not sources.is_there(settings.data):
        named = unknown("data", settings.data, data_sets.names())
        raise ValueError(f"{named} There is no file or folder of that name either.")
    given = [
        field for field in dataclasses.fields(settings) if getattr(settings, field.name) is not None
    ]
    for field in given:
        value, choices = getattr(settings, field.name), field.metadata["choices"]
        if choices and value not in choices:
            raise ValueError(unknown(field.name, value, choices))
    for field in given:
        value, least = getattr(settings, field.name), field.metadata["least"]
        if least is not None and value < least:
            raise ValueError(f"{field.name} must be at least {least}, not {value}.")
        if field.metadata["positive"] and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{field.name} must be a positive, finite number, not {value}.")
    if not 0 <= settings.seed < 2**32:
        raise ValueError(f"seed must lie in 0..{2**32 - 1}, not {settings.seed}.")


def _check_model(settings: Settings) -> None:
    chosen = MODELS[settings.model]
    for field in dataclasses.fields(settings):
        models, given = field.metadata["models"], getattr(settings, field.name) is not None
        if models and given and settings.model not in models:
            raise ValueError(
                f"model {settings.model!r} has no {field.name}; leave it out, or use model "
                f"{' or '.join(map(repr, models))}."
            )
    if settings.data is not None:
        _check_reading(settings.data, settings.model)
    data = settings.data or chosen.reading.data
    _check_tokens(settings.tokens)
    if settings.image_size is not None and not sources.is_images(data):
        raise ValueError(
            f"image_size is for a folder of images, which data {data!r} is not; leave it "
            "out, or give the folder as data."
        )
    if settings.data_workers is not None and not sources.is_streamed(data):
        raise ValueError(
            f"data_workers is for imagenet: and a folder, which data {data!r} is not; leave it out."
        )
    if sources.is_streamed(data) and chosen.generative is not None:
        raise ValueError(
            f"model {settings.model!r} needs its images in memory, and those of data {data!r} are "
            "read while they are trained on; use model 'resnet', 'vgg' or 'residual-cnn'."
        )
    _check_targets(settings, data)
    if settings.width is not None:
        _check_width(settings.width, settings.model)


def _check_targets(settings: Settings, data: str) -> None:
    given = settings.target is not None and target_columns(settings.target)
    if sources.is_table(data) and not given:
        raise ValueError(
            f"data {data!r} is a table, of which --target says what is predicted; give --target "
            "and a column, or several with commas between."
        )
    if settings.target is not None and not sources.is_table(data):
        raise ValueError(
            f"--target is for tables, which data {data!r} is not; leave it out, or give a file "
            f"that ends in {' or '.join(ENDINGS)}."
        )
    if settings.metrics is not None:
        if MODELS[settings.model].generative:
            raise ValueError(
                f"model {settings.model!r} is scored by what it generates; leave out metrics."
            )
        chosen(target_columns(settings.metrics))


def _check_reading(data: str, model: str) -> None:
    chosen = MODELS[model]
    text = sources.is_text(data)
    if text and chosen.reading is not TOKENS:
        reader = next(name for name, m in MODELS.items() if m.reading is TOKENS)
        raise ValueError(
            f"data {data!r} is text, which model {model!r} does not read; use model {reader!r}."
        )
    if not text and chosen.reading is TOKENS:
        raise ValueError(
            f"model {model!r} reads text, which data {data!r} is not; give data {TOKENS.data!r} or "
            "the path of a text file."
        )


def _check_tokens(tokens: str | None) -> None:
    if tokens is None or os.path.isfile(tokens):
        return
    if not tokens.isdecimal() or int(tokens) < Subwords.LEAST:
        raise ValueError(
            f"tokens must be a number of subwords of at least {Subwords.LEAST}, or the "
            f"path of a tokenizer.json, not {tokens!r}; leave it out for characters."
        )


def _check_width(width: int | float, model: str) -> None:
    if not isinstance(MODELS[model].width, int):
        if not (math.isfinite(width) and width > 0):
            raise ValueError(
                f"width multiplies the channels of model {model!r} and must be a positive, finite "
                f"number, not {width}."
            )
    elif not math.isfinite(width) or width != int(width):
        raise ValueError(f"width must be a whole number for model {model!r}, not {width}.")
    elif width < 1:
        raise ValueError(f"width must be at least 1, not {width}.")


def _check_inference(settings: Settings) -> None:
    if settings.inference == "exact" and settings.activation != "linear":
        raise ValueError(
            "inference 'exact' needs a linear network; give activation 'linear', or use "
            "inference 'newton' for the equilibrium of other networks."
        )
    for name in _inference_options(settings):
        if name not in _OPTIONS_OF.get(settings.inference, ()):
            having = " or ".join(repr(k) for k, names in _OPTIONS_OF.items() if name in names)
            raise ValueError(
                f"inference {settings.inference!r} has no {name}; leave it out, or use inference "
                f"{having}."
            )


def _check_learning(settings: Settings) -> None:
    if MODELS[settings.model].generative and settings.learning != "equilibrium":
        raise ValueError(
            f"model {settings.model!r} infers what it generates from, which learning "
            f"{settings.learning!r} does not; use learning 'equilibrium'."
        )
    averaging = ("equilibrium", "equilibrium-errors", "backprop")
    if settings.inference == "langevin" and settings.learning not in averaging:
        raise ValueError(
            f"learning {settings.learning!r} needs one result of inference, and inference "
            "'langevin' draws samples; use learning 'equilibrium', or another inference."
        )
    backprop = settings.learning == "backprop"
    if backprop and (settings.strength or settings.output_precision):
        raise ValueError(
            "learning 'backprop' has no inference; leave out strength and output_precision."
        )
    if backprop and (given := _inference_options(settings)):
        raise ValueError(f"learning 'backprop' has no inference; leave out {' and '.join(given)}.")
    able = ("state-descent", "error-descent", "gauss-newton")
    if settings.learning == "incremental" and settings.inference not in able:
        raise ValueError(
            "learning 'incremental' changes weights in every step of inference, which "
            f"{settings.inference!r} does not allow; use inference {', '.join(map(repr, able))}."
        )
    if settings.strength is not None and settings.output_precision is not None:
        raise ValueError(
            "strength and output_precision exclude each other: either the output precision is "
            "fixed, or it follows the strength; give one of them."
        )


def _check_optimizer(settings: Settings) -> None:
    # Says what is wrong by itself.
    optimizer_choice(settings, settings.learning_rate or 1.0)
    if settings.optimizer == "sgd" and settings.learning_rate is None:
        raise ValueError(
            "optimizer 'sgd' needs a learning rate of its own, for the defaults are those of Adam; "
            "give learning_rate, such as 0.1."
        )
    if settings.accumulate not in (None, 1) and settings.learning == "incremental":
        raise ValueError(
            "learning 'incremental' updates weights within a batch, so that no gradient of several "
            "batches can be accumulated; leave out accumulate, or use learning 'equilibrium'."
        )
    if settings.average is not None and not 0 < settings.average < 1:
        raise ValueError(
            f"average must be a number above 0 and below 1, such as 0.99, not {settings.average}."
        )
    if settings.early_stopping_metric is not None and settings.early_stopping is None:
        raise ValueError(
            "early_stopping_metric is for early stopping; give early_stopping, too, the epochs "
            "without a better one after which training ends."
        )
    early_stopping(settings)


def _inference_options(settings: Settings) -> list[str]:
    """Names of the given options that only some algorithms have."""
    given = {
        "schedule": settings.schedule != "uniform",
        "steps": settings.steps is not None,
        "activity_rate": settings.activity_rate is not None,
    }
    return [name for name, is_given in given.items() if is_given]
