"""What was measured, merged into one file, and its tables and figure."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import figure
import jax
from cases import ACCELERATOR_CASES, BY_NAME, CASES, COMPARISONS, FATHOMX
from rich.console import Console
from rich.table import Table

from fathomx.command_line.runtime import cores

Row = dict[str, Any]

_RESULTS = Path(__file__).parents[1] / "results"
_WIDTH = 170
# Measures of a comparison, and the columns of those that are measured once.
STEP = "step"
_ONCE = {"first step": "first step, s", "peak memory": "peak, MiB"}
# The method of a row that says why nothing of a library was measured.
ALL_METHODS = "all"


def merge(name: str, part: str, rows: Sequence[Row], run: str) -> None:
    """Puts rows in place of those of the same case, library and method; the others stay.

    `name` is that of the file, `run` when they were measured: only rows of one run may be compared
    with each other.
    """
    record = _read(name)
    fresh = [{**row, "run": run, "machine": _machine()} for row in rows]
    replaced = {_key(row) for row in fresh} | {(*_key(row)[:2], ALL_METHODS) for row in fresh}
    kept = [row for row in record[part] if _key(row) not in replaced]
    record[part] = sorted(kept + fresh, key=_order)
    record |= {"date": time.strftime("%Y-%m-%d"), "comparisons": comparisons(record["rows"])}
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def show(name: str) -> None:
    """Prints the tables and draws the figure."""
    record, console = _read(name), Console(width=_WIDTH)
    if record["rows"]:
        console.print(_table("Training step", map(_step_words, record["rows"])))
    if record["comparisons"]:
        words = map(_comparison_words, record["comparisons"])
        console.print(_table("How many times Fathomx's time the other one takes", words))
        print(summary(record["comparisons"]))
    if record["races"]:
        title = "Time until the slowest of 64 examples has a relative gradient norm of 1e-3"
        console.print(_table(title, map(_race_words, record["races"])))
    for library, versions in _versions(record["rows"] + record["races"]).items():
        print(f"{library}:", ", ".join(f"{name} {number}" for name, number in versions.items()))
    print("written:", _RESULTS / f"{name}.json", figure.draw(record, _RESULTS / f"{name}.png"))


def comparisons(rows: Sequence[Row]) -> list[Row]:
    """A row for each measure of each pair: how many times Fathomx's value the other one's is.

    Of steps the median and the quartiles of the ratios, turn by turn; first step and memory are
    measured once.
    """
    found = []
    for case in (*CASES, *ACCELERATOR_CASES):
        timed = [row for row in rows if row["case"] == case.name and "turns, ms" in row]
        for own_method, library, method in COMPARISONS:
            own = _pick(timed, FATHOMX, own_method)
            other = _pick(timed, library, method)
            if own is None or other is None or own["run"] != other["run"]:
                continue
            pair = {
                "case": case.name,
                "fathomx": own["method"],
                "library": library,
                "method": other["method"],
            }
            ratios = [b / a for a, b in zip(own["turns, ms"], other["turns, ms"], strict=True)]
            low, middle, high = _quartiles(ratios)
            found.append({**pair, "measure": STEP, "ratio": middle, "quartiles": [low, high]})
            found += [
                {**pair, "measure": measure, "ratio": other[column] / own[column]}
                for measure, column in _ONCE.items()
            ]
    return found


def summary(found: Sequence[Row]) -> str:
    """On how many of the rows where both run the same algorithm Fathomx is ahead."""
    alike = [row for row in found if row["fathomx"].split(",")[0] == row["method"].split(",")[0]]
    alike = [row for row in alike if row["library"] != FATHOMX]

    def ahead(rows: Sequence[Row]) -> str:
        return f"{sum(row['ratio'] >= 1 for row in rows)} of {len(rows)}"

    parts = [
        f"{measure} {ahead([row for row in alike if row['measure'] == measure])}"
        for measure in (STEP, *_ONCE)
    ]
    return f"rows ahead / all rows with the same algorithm: {ahead(alike)} ({', '.join(parts)})"


def _pick(rows: Sequence[Row], library: str, algorithm: str) -> Row | None:
    """The library's row with the algorithm; the fastest where it is written in several ways."""
    family = [
        row
        for row in rows
        if row["library"] == library
        and (row["algorithm"] == algorithm or row["algorithm"].startswith(f"{algorithm}, "))
    ]
    return min(family, key=lambda row: row["step, ms"], default=None)


def _read(name: str) -> dict[str, Any]:
    empty = {"title": "Fathomx beside its peers", "rows": [], "comparisons": [], "races": []}
    path = _RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else empty


def _versions(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    return {row["library"]: row["versions"] for row in rows if "versions" in row}


def _key(row: Row) -> tuple[str, ...]:
    return row["case"], row["library"], row["method"]


def _order(row: Row) -> tuple[int, int]:
    """Rows in the order of the cases and of their contestants."""
    listed = list(BY_NAME.values())
    place = next((i for i, each in enumerate(listed) if each.name == row["case"]), len(listed))
    keys = [(it.library, it.method.label) for each in listed[place:][:1] for it in each.contestants]
    own = (row["library"], row["method"])
    return place, keys.index(own) if own in keys else len(keys)


def _machine() -> str:
    kind = jax.devices()[0].device_kind
    return f"{platform.machine()}, {'' if kind == 'cpu' else f'{kind}, '}{cores()} cores"


def _table(title: str, rows: Iterator[dict[str, str]]) -> Table:
    table, listed = Table(title=title), list(rows)
    for column in listed[0]:
        table.add_column(column, justify="left" if column in ("case", "library") else "right")
    for row in listed:
        table.add_row(*row.values())
    return table


def _step_words(row: Row) -> dict[str, str]:
    words = {"case": row["case"], "library": row["library"], "method": row["method"]}
    if "turns, ms" not in row:
        reason = row.get("reason", "")
        return {**words, "first step, s": reason, "step, ms": "", "quartiles": "", "peak, MiB": ""}
    low, _, high = _quartiles(row["turns, ms"])
    return {
        **words,
        "first step, s": f"{row['first step, s']:.2f}",
        "step, ms": f"{row['step, ms']:.4g}",
        "quartiles": f"{low:.4g} .. {high:.4g}",
        "peak, MiB": f"{row['peak, MiB']:.0f}",
    }


def _quartiles(values: Sequence[float]) -> Sequence[float]:
    return statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3


def _comparison_words(row: Row) -> dict[str, str]:
    quartiles = row.get("quartiles", ())
    return {
        "case": row["case"],
        "measure": row["measure"],
        "Fathomx": row["fathomx"],
        "library": row["library"],
        "its method": row["method"],
        "ratio": f"{row['ratio']:.2f}",
        "quartiles": " .. ".join(f"{each:.2f}" for each in quartiles),
    }


def _race_words(row: Row) -> dict[str, str]:
    words = {"case": row["case"], "library": row["library"], "method": row["method"]}
    if "seconds" not in row:
        return {
            **words,
            "result": row["reason"],
            "steps": "",
            "seconds": "",
            "of Newton's time": "",
        }
    unsettled = row["unsettled"]
    state = "diverged" if unsettled is None or unsettled > 100 else f"at {unsettled:.1e}"
    return {
        **words,
        "result": "settled" if row["arrived"] else f"not settled, {state}",
        "steps": str(row["steps"] or ""),
        "seconds": f"{row['seconds']:.3g}",
        "of Newton's time": f"{'' if row['arrived'] else '> '}{row['relative']:.1f}",
    }
