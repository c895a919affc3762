"""A diagnosis in sentences, in a table and in figures, all from its `diagnosis.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fathomx.checks import gate
from fathomx.checks.names import spans
from fathomx.drawing.style import (
    COLORS,
    FAINT,
    GRAY,
    color_bar,
    count_steps,
    decades,
    heat_map,
    integers,
    legend,
    legend_key,
    line,
    log10,
    log_axes,
    new_figure,
    node_axis,
    note,
    number_table,
    save,
    set_title,
)
from fathomx.records.forms import listed, named, number, optional, table, text
from fathomx.records.reading import read_json
from fathomx.records.values import PathLike, finite, numbers
from fathomx.report.thresholds import DISGUISE, FAR, SETTLED
from fathomx.report.wording import quarter_sentences, target_sentences

_MOST_ROWS = 24
_MOST_MARKERS = 40
# Below, single precision has lost the error that an energy stands for.
_DRAWN_DECADES = 16
# Over the whole depth of a network.
_BALANCED_WITHIN = 10.0
# Of the root mean square error near equilibrium.
_LACKING = 1e-3
_UNKNOWN = "-"

COLUMNS = (
    "node",
    "arrives",
    "energy",
    "share",
    "settled",
    "error",
    "cosine",
)


_NUMBERS = optional(listed(number))
_STATE = {
    "energy": _NUMBERS,
    "imbalance": number,
    "decay": number,
    "reached": number,
    "unsettled": optional(named({}, {"median": number, "max": number})),
}
_DIAGNOSIS = named(
    {},
    {
        **_STATE,
        "labels": optional(listed(text)),
        "arrivals": _NUMBERS,
        "error_rms": _NUMBERS,
        "activity_rms": number,
        "cosine_to_backprop": number,
        "cosine_to_backprop_per_quarter": _NUMBERS,
        "target_alignment": number,
        "target_alignment_of_backprop": number,
        "cosine_to_backprop_per_node": _NUMBERS,
        "length_to_backprop_per_node": _NUMBERS,
        "equilibrium": optional(named({}, _STATE)),
        "energy_per_step": optional(table),
    },
)


@gate
def read_diagnosis(folder: PathLike) -> dict[str, Any]:
    """The numbers of a diagnosis. Raises `FileNotFoundError` and `ValueError` in one sentence."""
    path = Path(folder) / "diagnosis.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no diagnosis.json; give a diagnosis' folder.")
    return read_json(path, _DIAGNOSIS, "repeat the diagnosis")


@gate
def findings(content: Mapping[str, Any]) -> list[str]:
    """What a diagnosis shows, in plain sentences; what is null is called unknown.

    ```python
    for sentence in findings(read_diagnosis("runs/diagnosis")):
        print(sentence)
    ```
    """
    energy = numbers(list(content.get("energy") or []))
    if not np.isfinite(energy).all() or not energy.size:
        labels = content.get("labels") or []
        lost = [str(label) for label, e in zip(labels, energy, strict=False) if not np.isfinite(e)]
        where = f" of {len(lost)} nodes, the first {lost[0]!r}," if lost else ""
        return [
            f"Inference diverged: the energy{where} is no longer finite. Lower the activity rate, "
            "or hold a smaller strength."
        ]
    return [
        *_balance_sentences(content, energy),
        *_lacking_sentences(content, energy),
        _settled_sentence(content),
        _cosine_sentence(content),
        *quarter_sentences(content),
        *target_sentences(content),
        _equilibrium_sentence(content),
    ]


def _balance_sentences(content: Mapping[str, Any], energy: np.ndarray) -> list[str]:
    imbalance, decay = finite(content.get("imbalance")), finite(content.get("decay"))
    if imbalance is None:
        said = ["No energy reached the half of the nodes nearer to the input."]
    else:
        said = [
            f"The half of the nodes nearer to the output holds {imbalance:.3g} times the energy "
            "of the half nearer to the input."
        ]
    if decay is not None:
        said.append(
            "From step to step of arrival toward the input the energy changes by a factor of "
            f"{decay:.3g} (1 is balanced)."
        )
    reached, count = content.get("reached"), len(energy)
    if reached == count:
        said.append(f"The signal reached all {count} nodes.")
    else:
        said.append(
            f"The signal reached {reached} of {count} nodes; the others hold no more energy than "
            "rounding leaves."
        )
    return said


def _lacking_sentences(content: Mapping[str, Any], energy: np.ndarray) -> list[str]:
    """Which nodes have next to nothing of the error that they have near equilibrium."""
    there = _column((content.get("equilibrium") or {}).get("energy"), len(energy))
    lacking = np.flatnonzero((there > 0) & (energy < _LACKING**2 * there)).tolist()
    if not lacking:
        return []
    labels = [str(label) for label in content.get("labels") or []]
    few = len(lacking) == 1
    nodes = "1 node has" if few else f"{len(lacking)} nodes have"
    return [
        f"{nodes} less than a thousandth of the error that {'it has' if few else 'they have'} near "
        f"equilibrium ({spans(labels, lacking)}), so that by plain gradient descent "
        f"{'its' if few else 'their'} weights stand still; take more inference steps, or use "
        "Gauss-Newton."
    ]


def _settled_sentence(content: Mapping[str, Any]) -> str:
    unsettled = content.get("unsettled") or {}
    median, worst = finite(unsettled.get("median")), finite(unsettled.get("max"))
    if median is None:
        return "How settled inference is, is unknown."
    if median > 1:
        meaning = (
            "further from equilibrium than it began; lower the activity rate, hold a smaller "
            "strength, or use Gauss-Newton or Newton"
        )
    elif median > FAR:
        meaning = "far from equilibrium"
    elif median > SETTLED:
        meaning = "on the way to equilibrium, not there"
    else:
        meaning = "at equilibrium"
    aside = "" if worst is None else f" (the worst: {worst:.2g})"
    return (
        f"Inference left the median example with {median:.2g}{aside} of the energy gradient it "
        f"started from: {meaning}."
    )


def _cosine_sentence(content: Mapping[str, Any]) -> str:
    overall = finite(content.get("cosine_to_backprop"))
    if overall is None:
        return "How close the weight update is to backprop's is unknown."
    meaning = " (backprop in disguise)" if overall > DISGUISE else ""
    said = f"The cosine of the weight update to backprop's is {overall:.3g}{meaning}"
    per_node = numbers(list(content.get("cosine_to_backprop_per_node") or []))
    known = np.isfinite(per_node)
    without = int((~known).sum())
    if known.any():
        lowest = int(np.nanargmin(per_node))
        label = (content.get("labels") or [])[lowest]
        said += f"; of a single node {per_node[lowest]:.3g} or more (node {label!r})"
    if without:
        nodes = "1 node has" if without == 1 else f"{without} nodes have"
        said += f"; {nodes} no weights or no update"
    return said + "."


def _equilibrium_sentence(content: Mapping[str, Any]) -> str:
    there = content.get("equilibrium") or {}
    imbalance, decay = finite(there.get("imbalance")), finite(there.get("decay"))
    left = finite((there.get("unsettled") or {}).get("median"))
    if imbalance is None or decay is None:
        return "The imbalance near equilibrium is unknown."
    kept = "" if left is None else f" (Gauss-Newton, {left:.2g} of the gradient left)"
    said = (
        f"Near equilibrium{kept} the same batch has an imbalance of {imbalance:.3g} and a factor "
        f"of {decay:.3g}"
    )
    if not _is_balanced(content, decay):
        return said + ": the energies of this network are imbalanced even there."
    own = finite(content.get("decay"))
    if own is not None and not _is_balanced(content, own):
        return said + ": it is inference that leaves the energy near the output."
    return said + "."


def _is_balanced(content: Mapping[str, Any], decay: float) -> bool:
    """Whether a line through the energies stays within a decade over the whole network."""
    steps = max(content.get("arrivals") or [0])
    return abs(math.log10(decay)) * steps <= math.log10(_BALANCED_WITHIN) if decay > 0 else False


def rows(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table of the nodes under `COLUMNS`, input first: all of them, or every k-th.

    Of more than 24 nodes every k-th is shown, counted back from the output.
    """
    labels = [str(label) for label in content.get("labels") or []]
    count = len(labels)
    energy = _column(content.get("energy"), count)
    there = _column((content.get("equilibrium") or {}).get("energy"), count)
    error = _column(content.get("error_rms"), count)
    cosine = _column(content.get("cosine_to_backprop_per_node"), count)
    arrival = _column(content.get("arrivals"), count)
    total = float(energy.sum())
    shares = energy / total if total > 0 else np.full(count, np.nan)
    return [
        (
            labels[node],
            _said(arrival[node], ".0f"),
            _said(energy[node], ".1e"),
            _share(shares[node]),
            _said(there[node], ".1e"),
            _said(error[node], ".1e"),
            _said(cosine[node], ".3f"),
        )
        for node in _shown(count)
    ]


def caption(content: Mapping[str, Any]) -> str:
    """What the table shows: all nodes, or which."""
    count = len(content.get("labels") or [])
    step = _stride(count)
    chosen = f"{count} nodes" if step == 1 else f"every {_ordinal(step)} of {count} nodes"
    return (
        f"{chosen}, from input to output\n"
        "arrives: step in which the signal of state descent does\n"
        "settled: energy near equilibrium\n"
        "error: root mean square of the errors\n"
        "cosine: of the weight update to backprop's"
    )


def _stride(count: int) -> int:
    return max(1, math.ceil(count / _MOST_ROWS))


def _shown(count: int) -> list[int]:
    return sorted(range(count - 1, -1, -_stride(count)))


def _ordinal(number: int) -> str:
    known = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if number % 100 in (11, 12, 13) else known.get(number % 10, "th")
    return f"{number}{ending}"


def _column(values: Any, count: int) -> np.ndarray:
    found = numbers(list(values or []))[:count]
    return np.concatenate([found, np.full(count - len(found), np.nan)])


def _said(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else _UNKNOWN


def _share(value: float) -> str:
    if not np.isfinite(value):
        return _UNKNOWN
    if 0 < value < 5e-4:
        return "<0.1%"
    return f"{100 * value:.1f}%"


@gate
def energy_over_inference(folder: PathLike, path: PathLike) -> Path:
    """Heat map of a diagnosis: `log10` of every node's energy after every step of inference.

    A line shows when the signal of state descent can arrive at a node at the earliest. Raises
    `FileNotFoundError` where there is no diagnosis.

    ```python
    energy_over_inference("runs/diagnosis", "heat.png")
    ```
    """
    from matplotlib.patches import Patch

    content = read_diagnosis(folder)
    energy = number_table(content.get("energy_per_step"))
    logs = log10(energy)
    figure, (axes,) = new_figure(4.9)
    axes.set_xlabel("inference step (0: feedforward pass)")
    keys = [Patch(color=GRAY, label="zero energy, or not finite")]
    if np.isfinite(logs).any():
        low, high, cut = decades(logs)
        image = heat_map(axes, logs.T, "viridis", (low, high), (0, len(logs) - 1))
        integers(axes.xaxis)
        label = "energy, log10 of the mean over the batch"
        color_bar(figure, image, label, ax=axes, extend="min" if cut else "neither")
        arrival = numbers(list(content.get("arrivals") or []))
        if content.get("inference") == "state-descent" and len(arrival) == logs.shape[1]:
            nodes = np.arange(1, len(arrival) + 1)
            style = {"color": COLORS[1], "linestyle": "--", "linewidth": 1.4}
            axes.plot(np.where(arrival < len(logs), arrival, np.nan), nodes, **style)
            keys.append(legend_key("earliest step in which the signal arrives", **style))
    else:
        note(axes, "no energy above zero was recorded")
    reached, count = content.get("reached"), energy.shape[1]
    steps = count_steps(max(len(energy) - 1, 0))
    set_title(
        axes,
        f"Energy of each node over {steps} of {_inference(content)}: "
        f"{reached} of {count} nodes reached",
    )
    legend(figure, keys)
    return save(figure, path)


@gate
def energy_beside_equilibrium(folder: PathLike, path: PathLike) -> Path:
    """Energy of each node where inference ended, beside the same batch near equilibrium.

    Zero energies, and those sixteen decades below the largest, are left out. Raises
    `FileNotFoundError` where there is no diagnosis.

    ```python
    energy_beside_equilibrium("runs/diagnosis", "balance.png")
    ```
    """
    content = read_diagnosis(folder)
    there = content.get("equilibrium") or {}
    inference = _inference(content)
    taken = max(len(content.get("energy_per_step") or []) - 1, 0)
    lines = {
        f"after {count_steps(taken)} of {inference}": (content.get("energy"), COLORS[1], "-"),
        "near equilibrium, by Gauss-Newton": (there.get("energy"), COLORS[0], "--"),
    }
    values = [numbers(list(energy or [])) for energy, _, _ in lines.values()]
    largest = max((float(v[np.isfinite(v)].max(initial=0)) for v in values), default=0.0)
    floor = largest * 10.0**-_DRAWN_DECADES
    figure, (axes,) = new_figure(4.6)
    keys, hidden = [], 0
    for energy, (label, (_, color, dash)) in zip(values, lines.items(), strict=True):
        nodes = np.arange(1, len(energy) + 1)
        marked = {"marker": "o", "markersize": 3} if len(nodes) <= _MOST_MARKERS else {}
        style = {"color": color, "linestyle": dash, "linewidth": 1.6, **marked}
        shown = energy > floor
        hidden = max(hidden, int((~shown).sum()))
        line(axes, nodes, np.where(shown, energy, np.nan), **style)
        keys.append(legend_key(label, **style))
    node_axis(axes, max(map(len, values)))
    axes.set_ylabel("energy, mean over the batch")
    log_axes("no energy above zero was recorded", axes)
    if hidden:
        named = f"not drawn: no energy, or 16 decades below the largest ({hidden} nodes)"
        keys.append(legend_key(named, color=FAINT, linestyle=""))
    set_title(
        axes,
        "Energy of each node where inference ended, and near equilibrium\n"
        f"factor per step of arrival toward the input: {_factor(content)} and {_factor(there)} "
        "(1 is balanced)",
    )
    legend(figure, keys)
    return save(figure, path)


def _factor(content: Mapping[str, Any]) -> str:
    value = finite(content.get("decay"))
    return "unknown" if value is None else f"{value:.3g}"


def _inference(content: Mapping[str, Any]) -> str:
    name = str(content.get("inference", "inference")).replace("-", " ")
    schedule = content.get("schedule") or "uniform"
    return name if schedule == "uniform" else f"{name} with {schedule} precision"
