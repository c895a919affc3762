"""What a run folder came to, as values that must be the same however often it was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_TIMES = ("train_seconds", "first_step_seconds", "step_seconds_median", "step_memory_bytes")
_DAMAGED = "damaged"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def outcome(folder: Path) -> dict[str, Any]:
    """What must be the same of every file, by its path in the folder.

    Times and memory are left out, as are the bytes of what shows times, and of older checkpoints.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name == "checkpoints" and path.is_dir():
            found |= _checkpoints(path, name)
        elif "checkpoints" in path.parts or path.name == ".lock":
            continue
        elif path.is_file():
            found[name] = _content(path)
        elif path.name.endswith(".tmp"):
            found[name] = "a temporary folder"
    return found


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Where two outcomes differ, in words; nothing where they are the same."""
    said = [f"{name} is missing" for name in expected if name not in found]
    said += [f"{name} is there" for name in found if name not in expected]
    return said + [
        f"{name} differs at {_place(expected[name], found[name])}"
        for name in expected
        if name in found and expected[name] != found[name]
    ]


def checkpoint(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, read without the package."""
    import orbax.checkpoint

    with orbax.checkpoint.StandardCheckpointer() as reader:
        found = reader.restore((folder / "default").absolute())
    return {name: np.asarray(array) for name, array in found.items()}


def positions(checkpoints: Path) -> list[int]:
    """The positions of the checkpoints in a folder, in order."""
    return sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())


def records(metrics: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`."""
    return [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]


def _checkpoints(folder: Path, name: str) -> dict[str, Any]:
    """The newest checkpoint, its position and its arrays, and whatever is none."""
    found: dict[str, Any] = {
        f"{name}/{path.name}": "no checkpoint"
        for path in folder.iterdir()
        if not path.name.isdigit()
    }
    newest: dict[str, Any] = {}
    for position in positions(folder)[-1:]:
        newest["position"] = position
        # A damaged one can fail in any way.
        try:
            arrays = checkpoint(folder / str(position))
        except Exception:
            newest["arrays"] = _DAMAGED
        else:
            newest |= {key: _digest(array) for key, array in arrays.items()}
    return {**found, name: newest}


def _digest(array: np.ndarray) -> tuple[str, tuple[int, ...], str]:
    return str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()


def _content(path: Path) -> Any:
    content = path.read_bytes()
    if path.suffix == ".html":
        return "whole" if content.rstrip().endswith(b"</html>") else _DAMAGED
    if path.suffix == ".png" and path.parent.name == "figures":
        # Curves show how many steps shared a line.
        whole = content.startswith(_PNG) and content.endswith(_PNG_END)
        return "whole" if whole else _DAMAGED
    try:
        return _read(path, content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return _DAMAGED


def _read(path: Path, content: bytes) -> Any:
    if path.name == "metrics.jsonl":
        return _recorded(records(path))
    if path.suffix != ".json":
        return content
    found = json.loads(content)
    if path.name == "summary.json":
        return _untimed(found)
    if path.name == "comparison.json":
        return {name: _untimed(summary) for name, summary in found.items()}
    return found


def _untimed(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name not in _TIMES}


def _recorded(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All records without seconds, and those of steps by step: lines may hold more or fewer."""
    steps, epochs, energies, notes = [], [], {}, []
    for line in lines:
        if line["kind"] == "note":
            notes.append(line["text"])
            continue
        if line["kind"] == "epoch":
            epochs.append({name: value for name, value in line.items() if name != "seconds"})
            continue
        energies[line["epoch"]] = line["energy_per_node"]
        columns = {
            name: value
            for name, value in line.items()
            if isinstance(value, list) and name != "energy_per_node"
        }
        first = line["step"] - len(columns["loss"])
        for index in range(len(columns["loss"])):
            values = {name: column[index] for name, column in columns.items()}
            steps.append((line["epoch"], first + index + 1, values))
    return {"steps": steps, "epochs": epochs, "energy at their ends": energies, "notes": notes}


def _place(expected: Any, found: Any) -> str:
    """The first place where two values differ, and what is there."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in [*expected, *found]:
            if expected.get(name) != found.get(name):
                return f"{name}: {_place(expected.get(name), found.get(name))}"
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            if one != other:
                return f"number {index}: {_place(one, other)}"
    return f"{str(expected)[:200]} -> {str(found)[:200]}"
