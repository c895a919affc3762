"""The picture of the README, from committed results: `python docs/site/picture.py`.

Left: what inference leaves of the energy's gradient, and at what cost
(`benchmarks/equilibrium.py`). Right: accuracy over depth (`fathomx reproduce mupc`).
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from fathomx.drawing.style import COLORS, FAINT, new_figure, save

ROOT = Path(__file__).parents[2]
NETWORK = "residual, muPC, 32 nodes, gelu"
SOLVERS = {
    "Gauss-Newton 1 x 2": ("one Gauss-Newton iteration", COLORS[0], (6, -3)),
    "Gauss-Newton 12 x 3": ("twelve", COLORS[0], (6, -3)),
    "Newton 1e-6": ("Newton", COLORS[0], (6, -3)),
    "state descent, 1,000 steps": ("state descent, 1,000 steps", COLORS[1], (-6, 6)),
    "state descent, 10,000 steps": ("10,000", COLORS[1], (-4, -13)),
}
METHODS = {
    "PC, muPC": ("predictive coding, muPC", COLORS[0], "o-"),
    "backprop, muPC": ("backprop, muPC", COLORS[1], "s--"),
    "PC, SP": ("predictive coding, standard", COLORS[3], "^:"),
}


def main() -> None:
    figure, (left, right) = new_figure(2.9, columns=2)
    draw_inference(left)
    draw_depth(right)
    print(save(figure, ROOT / "docs" / "picture.png"))


def draw_inference(axes) -> None:
    path = ROOT / "benchmarks" / "results" / "equilibrium-residual-32.json"
    rows = {
        row["solver"]: row
        for row in json.loads(path.read_text())["rows"]
        if row["network"] == NETWORK
    }
    for solver, (name, color, offset) in SOLVERS.items():
        x, y = rows[solver]["evaluations, worst"], rows[solver]["unsettled, worst"]
        axes.loglog(x, y, "o", color=color)
        right = offset[0] < 0
        axes.annotate(
            name,
            (x, y),
            offset,
            textcoords="offset points",
            fontsize=8,
            color=color,
            ha="right" if right else "left",
        )
    axes.set(xlim=(2, 3e4), ylim=(1e-7, 3))
    axes.set_xlabel("passes through the network")
    axes.set_ylabel("gradient left, worst of 32 examples")
    axes.set_title("Inference arrives: 32 nodes", fontsize=9)


def draw_depth(axes) -> None:
    with (ROOT / "experiments" / "mupc" / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["network"].startswith("mnist")]
    for method, (name, color, style) in METHODS.items():
        found = sorted(
            (int(re.search(r"(\d+) nodes", row["network"])[1]), 100 * float(row["test_accuracy"]))
            for row in rows
            if row["method"] == method and row["test_accuracy"] not in ("", "nan")
        )
        axes.plot(
            *zip(*found, strict=True),
            style,
            color=color,
            label=name,
            markersize=6,
            markerfacecolor="white",
        )
    axes.axhline(10, color=FAINT, linewidth=0.8, linestyle=":")
    axes.text(8, 11.5, "chance", fontsize=8, color=FAINT)
    axes.set(xscale="log", ylim=(0, 103))
    ticks = (8, 32, 128, 1024)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("nodes")
    axes.set_ylabel("test accuracy, %")
    axes.set_title("Depth trains: MNIST, one epoch, one setting", fontsize=9)
    axes.legend(loc="center right", fontsize=8)


if __name__ == "__main__":
    main()
