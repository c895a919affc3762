"""`fathomx evaluate`: the trained network of a run on a part of its data set, or of another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fathomx
from fathomx import data as data_sets
from fathomx import evaluation
from fathomx.command_line import sources
from fathomx.command_line.imagery import canvas_of
from fathomx.command_line.job import Job
from fathomx.command_line.loaded import Run, ended
from fathomx.command_line.messages import say
from fathomx.command_line.options import check_new, new_folder, out_option
from fathomx.command_line.outcome import target_names
from fathomx.data import Dataset, ImageStream, Part, Text
from fathomx.data._imagenet import Examples
from fathomx.evaluation import Evaluation
from fathomx.evaluation.answers import probabilities
from fathomx.evaluation.evaluate import PARTS
from fathomx.graph.energy import Gaussian
from fathomx.graph.network import Network
from fathomx.records.pictures import Panel, PictureRow, write_pictures
from fathomx.records.predictions import Predictions, write_predictions
from fathomx.records.writing import appearing, write_json
from fathomx.report import read_evaluation, write_evaluation
from fathomx.report.evaluation import FILE, METRIC_COLUMNS, judgement, metric_rows

_WORST, _IN_A_ROW = 20, 10
_ALL = "all"
_ROWS = 10
# More make a scatter plot no clearer.
_POINTS = 2000
_LONGEST = 300


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    default=None,
    help="Another data set: a name, or the path of a text file or of a folder of images. Its "
    "inputs are standardized as those were that the run was trained on. [default: the run's]",
)
@click.option(
    "--part",
    type=click.Choice([*PARTS, _ALL]),
    default="test",
    show_default=True,
    help="Which part of it; of a table or a folder that is not divided, test is a fifth.",
)
@out_option("evaluation")
def evaluate(run: Path, data: str | None, part: str, out: Path | None) -> None:
    """Scores the trained network of the run folder RUN, and says how sure that is.

    Metrics with intervals at 95%, the confusion matrix, recall and precision of every class,
    calibration, and the worst examples, as a page and as evaluation.json.
    """
    check_new(out, "evaluate")
    trained = ended(run)
    job = trained.job
    examples = trained.data if data is None else _other(trained, data)
    if part == _ALL:
        examples = _whole(examples)
    found = evaluation.evaluate(
        trained.network,
        examples,
        PARTS[0] if part == _ALL else part,
        pose=job.pose,
        scores=job.scores,
        metrics=job.judged_by,
    )
    content = {
        "fathomx": fathomx.__version__,
        "run": str(run),
        "model": job.model,
        "command": _command(run, data, part),
        **found.record(),
        "part": part,
        **_worst_rows(found, examples),
        "notes": [*_notes(trained.network, found), *_note_on_part(examples, data, part)],
    }
    folder = new_folder(out, "evaluate")
    with appearing(folder) as unfinished:
        write_json(unfinished / FILE, content)
        if _shows_images(examples):
            write_pictures(unfinished, [_worst_pictures(found, examples)])
        values = _values(found, job)
        if values is not None:
            write_predictions(unfinished, values)
        write_evaluation(unfinished)
    _print(Console(), folder)


def _other(trained: Run, data: str) -> Examples:
    """Another data set, in the form that the network of a run reads."""
    if sources.is_streamed(data) or isinstance(trained.data, ImageStream):
        return _other_stream(trained, data)
    job = dataclasses.replace(trained.job, data=data, image_size=None, take=None)
    if sources.is_images(data) and _shows_images(trained.data):
        seen = job.view(data_sets.images(data, trained.data.image_shape[:2]))
        assert isinstance(seen, Dataset)
        return data_sets.adapted(seen, trained.data)
    found = job.load()
    assert isinstance(found, Dataset)
    return data_sets.adapted(found, trained.data)


def _whole(data: Examples) -> Dataset:
    """All parts of a data set as its test part; `ValueError` for images that stay on disk."""
    if isinstance(data, ImageStream):
        raise ValueError(
            f"--part all puts all parts together in memory, and {data.name!r} is read from disk; "
            f"choose one of {', '.join(PARTS)}."
        )
    arrays = [data.arrays(title) for title in data.titles]
    joined = {name: np.concatenate([each[name] for each in arrays]) for name in arrays[0]}
    if data.named:
        return data.with_parts(data.name, {"test": joined})
    weights = {t: joined["weights"] for t in ("test",) if "weights" in joined}
    test = Part(joined["input"], joined["target"])
    return data.with_parts(data.name, {"test": test, "weights": {**data.weights, **weights}})


def _note_on_part(examples: Examples, data: str | None, part: str) -> list[str]:
    """What to know of the part that was chosen."""
    if part == _ALL and data is None:
        return ["Most of these examples are those that the network was trained on."]
    if part == _ALL or data is None or not sources.is_table(data):
        return []
    assert isinstance(examples, Dataset)
    sizes = {title: len(next(iter(examples.arrays(title).values()))) for title in examples.titles}
    return [f"{sizes[part]} of the {sum(sizes.values())} rows of {data}; --part all takes all."]


def _other_stream(trained: Run, data: str) -> ImageStream:
    """Other images that are read from disk, of the classes of those that a run was trained on."""
    own = trained.data
    if not (sources.is_streamed(data) and isinstance(own, ImageStream)):
        raise ValueError(
            f"the run was trained on {trained.job.data!r}, and data is {data!r}, of which one is "
            "standardized by its training part and the other is not; give data of the same kind."
        )
    found = sources.read_stream(data, own.image_shape[0], trained.job.data_workers)
    if found.class_names != own.class_names:
        raise ValueError(
            f"{data!r} has other classes than {trained.job.data!r}, which the run was trained on; "
            "give images of the same classes."
        )
    return found


def _shows_images(data: Examples) -> bool:
    return not data.named and len(data.image_shape) in (2, 3)


def _worst_rows(found: Evaluation, data: Examples) -> dict[str, Any]:
    """What to tell of the worst examples, with their inputs where these can be read."""
    images = _shows_images(data)
    places = found.worst(_WORST if images else _ROWS)
    arrays = data.arrays(found.part)
    known = data.preparation
    rows = []
    for place in places:
        row: dict[str, Any] = {"index": place, "loss": found.loss[place], **_judged(found, place)}
        if isinstance(data, Text):
            row["text"] = data.decode(arrays["input"][place])
        elif not images:
            row["row"] = raw_values(data, arrays, place)
        rows.append(row)
    columns = () if known is None else known.columns
    return {"worst": rows, "columns": list(columns) if columns else _numbered(rows)}


def _judged(found: Evaluation, place: int) -> dict[str, Any]:
    """Target and prediction of an example, where they are one class or one number each."""
    if found.prediction is None or found.target is None:
        return {}
    target, said = found.target[place], found.prediction[place]
    if found.confusion is not None and np.ndim(target) == 0:
        names = [each.name for each in found.classes]
        likely = probabilities(said)
        chosen = int(np.argmax(said))
        return {
            "target": names[int(target)],
            "predicted": names[chosen],
            "probability": likely[chosen],
        }
    return {} if np.size(target) != 1 else {"target": np.ravel(target)[0], "predicted": said.item()}


def _numbered(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [f"value {place}" for place in range(len(rows[0].get("row", [])))] if rows else []


def raw_values(data: Examples, arrays: dict[str, Any], place: int) -> list[float]:
    """The inputs of an example in the units that they had before they were standardized."""
    values = arrays["input"][place : place + 1]
    known = data.preparation
    if known is not None and "input" in known.scales:
        values = known.scales["input"].raw(values)
    return [float(value) for value in np.ravel(values)]


def _worst_pictures(found: Evaluation, data: Examples) -> Panel:
    """The worst examples as images, with what they are and what they were taken for."""
    canvas = canvas_of(data)
    places = found.worst(_WORST)
    inputs = canvas(data.arrays(found.part)["input"][places])
    said = [_judged(found, place) for place in places]
    labels = [_label(each, found.loss[place]) for each, place in zip(said, places, strict=True)]
    rows = [
        PictureRow(
            "worst" if not begin else "",
            inputs[begin : begin + _IN_A_ROW],
            tuple(labels[begin : begin + _IN_A_ROW]),
        )
        for begin in range(0, len(places), _IN_A_ROW)
    ]
    above = "what each is and, behind the arrow, what it was taken for" if said[0] else "their loss"
    caption = (
        f"The {len(places)} examples with the largest loss, the largest first; above, {above}."
    )
    return Panel("worst", caption, rows)


def _label(said: dict[str, Any], loss: float) -> str:
    if "probability" not in said:
        return f"{loss:.3g}"
    return f"{said['target'][:8]} \u2192 {said['predicted'][:8]}"


def _values(found: Evaluation, job: Job) -> Predictions | None:
    """Targets and predictions of some examples, where they are values."""
    if found.prediction is None or found.target is None or found.target.dtype.kind != "f":
        return None
    if found.target.shape != found.prediction.shape or found.confusion is not None:
        return None
    order = np.random.default_rng(0).permutation(found.size)[:_POINTS]
    target, said = (
        np.asarray(each, float).reshape(found.size, -1)[order]
        for each in (found.target, found.prediction)
    )
    return Predictions(found.part, target_names(job, target.shape[1]), target, said)


def _notes(network: Network, found: Evaluation) -> list[str]:
    if found.calibration is None or not isinstance(network.output.energy, Gaussian):
        return []
    return [
        "The output learns one-hot vectors by squared error: its values, without what is negative "
        "and divided by their sum, are taken for probabilities."
    ]


def _command(run: Path, data: str | None, part: str) -> str:
    given = [] if data is None else [f"--data {data}"]
    return " ".join(["fathomx evaluate", str(run), *given, f"--part {part}"])


def _print(console: Console, folder: Path) -> None:
    content = read_evaluation(folder)
    table = Table(box=box.SIMPLE_HEAD)
    for place, name in enumerate(METRIC_COLUMNS):
        table.add_column(name, justify="left" if place in (0, 4) else "right", no_wrap=True)
    for row in metric_rows(content):
        table.add_row(*map(escape, row))
    console.print(table)
    for sentence in judgement(content):
        say(console, sentence)
    say(console, f"evaluation: {folder}/index.html")
