"""The page of a run: verdict, figures, results and configuration, to be opened from disk."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fathomx.checks import gate
from fathomx.drawing.gallery import draw_gallery
from fathomx.records.pictures import Panel
from fathomx.records.run_files import RunFiles
from fathomx.records.values import PathLike
from fathomx.report.document import escaped, table, write_document
from fathomx.report.figures import (
    alignment_per_node,
    energy_over_training,
    energy_per_node,
    learning_curves,
    predictions,
    strength_and_settledness,
)
from fathomx.report.illustrations import Illustration, illustrated
from fathomx.report.scores import is_part_of_one, label, metric_key, metrics_of
from fathomx.report.verdict import verdict
from fathomx.report.wording import percent, plain, series, short


@gate
def write_page(folder: PathLike) -> Path:
    """Writes `index.html` into a run folder, and its figures into `figures/` beside it.

    Without matplotlib the page has no figures and says so. Returns the path of the page.

    ```python
    write_page("runs/digits")
    ```
    """
    run = RunFiles(folder)
    title = _title(run)
    sentences = verdict(run.config, run.summary, run.records)
    body = [
        f"<h1>{escaped(title)}</h1>",
        '<section class="verdict">',
        *(f"<p>{escaped(sentence)}</p>" for sentence in sentences),
        "</section>",
        "<h2>Figures</h2>",
        *illustrated(run.folder, _wanted_figures(run)),
        *_pictures(run),
        *([] if run.sample is None else ["<h2>A sample</h2>", f"<pre>{escaped(run.sample)}</pre>"]),
        "<h2>Results</h2>",
        table(("", "value"), _summary_rows(run.summary)),
        "<h2>Configuration</h2>",
        table(("", "value"), [(k, plain(v)) for k, v in run.config.items() if k != "command"]),
        "<h2>Repeat this run</h2>",
        f"<pre>{escaped(run.config.get('command') or 'The command was not recorded.')}</pre>",
    ]
    return write_document(run.folder / "index.html", title, body)


@gate
def wanted_figures(folder: PathLike) -> list[str]:
    """The names of the figures that the page of a run folder shows."""
    run = RunFiles(folder)
    return [figure.name for figure in (*_wanted_figures(run), *picture_figures(run.pictures))]


def _pictures(run: RunFiles) -> list[str]:
    """What the network generates, as figures."""
    if not run.pictures:
        return []
    return ["<h2>Pictures</h2>", *illustrated(run.folder, picture_figures(run.pictures))]


def picture_figures(panels: Sequence[Panel]) -> list[Illustration]:
    """The figures of panels of pictures."""
    return [
        Illustration(
            f"{panel.name}.png", functools.partial(draw_gallery, panel.rows), panel.caption
        )
        for panel in panels
    ]


def _wanted_figures(run: RunFiles) -> list[Illustration]:
    """The figures that this run has numbers for."""
    ends = run.epochs[-1] if run.epochs else {}
    metric = label((metrics_of(ends) or ["accuracy"])[0])
    found = [
        Illustration(
            "learning_curves.png",
            lambda path: learning_curves({run.folder.name: run.folder}, path),
            f"Loss and {metric} of the feedforward prediction during training.",
        )
    ]
    if run.predictions is not None:
        found.append(
            Illustration(
                "predictions.png",
                lambda path: predictions(run.folder, path),
                f"What the trained network predicts of {len(run.predictions.target):,} examples of "
                f"the {run.predictions.part} set, in the units of the targets: beside what is "
                "true, and how far it is off.",
            )
        )
    if run.inference is not None:
        found.append(
            Illustration(
                "energy_per_node.png",
                lambda path: energy_per_node(run.folder, path),
                "Where in the network the energy sits during inference, before and after training; "
                "zero energies are left out.",
            )
        )
    if any(record.get("energy_per_node") for record in run.epochs):
        found.append(
            Illustration(
                "energy_over_training.png",
                lambda path: energy_over_training(run.folder, path),
                "Where in the network the energy was after inference at the end of every epoch, "
                "and its imbalance: the energy of the half of the nodes nearer to the output over "
                "that of the other half (1 is balanced; there is none where the other half holds "
                "no more than rounding leaves).",
            )
        )
    if run.config.get("learning") != "backprop":
        # Where causes are inferred there is no backprop, and no picture of nothing.
        if not run.pictures:
            found.append(
                Illustration(
                    "alignment_per_node.png",
                    lambda path: alignment_per_node(run.folder, path),
                    "How much each node's weight update agrees with backprop's, and the nodes of "
                    "each quarter of the depth in the mean: 1 is the same direction, 0 is "
                    "unrelated or no update, -1 is opposite. Target alignment is the cosine "
                    "between what an update does to predictions and their errors.",
                )
            )
        found += [
            Illustration(
                "strength_and_settledness.png",
                lambda path: strength_and_settledness(run.folder, path),
                "How far each batch was from equilibrium (0 is equilibrium, 1 the feedforward "
                "pass), and how strongly inference acted.",
            ),
        ]
    return found


def _title(run: RunFiles) -> str:
    config = run.config
    model = str(config.get("model", "Network"))
    deep = f" of depth {plain(config['depth'])}" if "depth" in config else ""
    data = f" on {plain(config['data'])}" if "data" in config else ""
    learning = f", learning by {plain(config['learning'])}" if "learning" in config else ""
    return f"{model}{deep}{data}{learning}"


_LABELS = {
    "cosine_to_backprop": "cosine to backprop",
    "cosine_to_backprop_per_node": "cosine to backprop per node",
    "length_to_backprop_per_node": "update length relative to backprop's per node",
    "cosine_to_backprop_per_quarter": "cosine to backprop by quarter of the depth, from the input",
    "gradient_length_per_node": "gradient length per node",
    "weight_change_per_node": "weight change since the start, relative, per node",
    "target_alignment_of_backprop": "target alignment of backprop",
    "pc_strength": "strength",
    "train_seconds": "training (seconds)",
    "first_step_seconds": "first step, compilation included (seconds)",
    "step_seconds_median": "step, median (seconds)",
    "unsettled median": "unsettled, median",
    "unsettled max": "unsettled, max",
}


def _summary_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    flat: list[tuple[str, Any]] = []
    for key, value in summary.items():
        if isinstance(value, Mapping):
            flat += [(f"{key} {inner}", content) for inner, content in value.items()]
        else:
            flat.append((key, value))
    return [
        (
            _LABELS.get(key, key.replace("_", " ")),
            _shown(key, value),
        )
        for key, value in flat
    ]


def _shown(key: str, value: Any) -> str:
    if is_part_of_one(metric_key(key)):
        return percent(value)
    return series(value) if key.endswith("per_quarter") and value else short(value)
