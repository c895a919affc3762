"""A network's arrays in a file that anyone can read: safetensors, with names, and no code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from fathomx.checks import gate
from fathomx.graph.network import Network
from fathomx.records.errors import DamagedFileError, RunFolderError
from fathomx.records.values import PathLike
from fathomx.records.writing import atomic

_FORMAT = "fathomx network 1"


@gate
def save(network: Network, path: PathLike) -> Path:
    """Writes the weights of a network, and all its other arrays, to a file; returns its path.

    The file is in the format of safetensors, by convention `NAME.safetensors`: arrays by name
    (`hidden.block.weight`: the entry, then the place in it), and beside them what
    each entry is, as JSON. It holds no code; it does not say how to build the network. Other
    programs open it by `safetensors.numpy.load_file(path)`. A file that is there is replaced, whole
    or not at all.

    **Arguments**: `network`; `path`, whose folders are made.

    Raises `RunFolderError` if the disk does not allow it.

    ```python
    fx.save(network, "digits.safetensors")
    network = fx.load("digits.safetensors", network)
    ```
    """
    # Takes a moment to import.
    from safetensors.numpy import save as packed

    arrays = {name: np.asarray(array) for name, array in _arrays(network).items()}
    about = {
        "format": _FORMAT,
        "fathomx": version("fathomx"),
        "network": json.dumps(_kinds(network)),
    }
    path = Path(path)
    with atomic(path) as temporary:
        temporary.write_bytes(packed(arrays, about))
    return path


@gate
def restored(path: PathLike, network: Network) -> Network:
    """The network with the arrays of a file that `save` has written.

    **Arguments**: `path`, the file; `network`, one that is built as the one that was saved, of
    which the arrays are replaced.

    Raises `DamagedFileError` for a file that is not in this format, and `ValueError` for the arrays
    of another network, naming the first that is missing, more, or of another shape or type.
    """
    found = _read(Path(path))
    own = _arrays(network)
    for name in [*own, *found]:
        if name not in found:
            raise ValueError(
                f"{path} has no array {name!r}, which this network has: it is another network; "
                "build the one that was saved, with the same function and sizes."
            )
        if name not in own:
            raise ValueError(
                f"{path} holds the array {name!r}, which this network does not have: it is another "
                "network; build the one that was saved, with the same function and sizes."
            )
        given, wanted = found[name], own[name]
        if given.shape != wanted.shape or given.dtype != wanted.dtype:
            raise ValueError(
                f"the array {name!r} in {path} has the shape {given.shape} and the type "
                f"{given.dtype}, but that of this network {wanted.shape} and {wanted.dtype}; build "
                "the one that was saved, with the same function and sizes."
            )
    arrays, rest = eqx.partition(network, eqx.is_array)
    leaves = [jnp.asarray(found[name]) for name in own]
    filled: Network = eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), rest)
    return filled


def _read(path: Path) -> Mapping[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RunFolderError(f"there is no file {path}; give one that fx.save has written.")
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise DamagedFileError(
            f"{path} cannot be read as safetensors ({str(error).splitlines()[0].rstrip('.')}); "
            "give a file that fx.save has written, or put a copy back."
        ) from None
    if about.get("format") != _FORMAT:
        raise DamagedFileError(
            f"{path} holds arrays, but not those of a network that fx.save has written: its format "
            f"is {about.get('format')!r}, not {_FORMAT!r}."
        )
    return arrays


def _arrays(network: Network) -> dict[str, Any]:
    """All arrays by name, in the order of the tree."""
    leaves = jax.tree.leaves(eqx.filter(network, eqx.is_array))
    return dict(zip(_named(network), leaves, strict=True))


def _named(network: Network) -> Iterator[str]:
    """Names of all arrays in the order of the tree: entry, then attributes and positions."""
    for part in network.predictors():
        held = eqx.filter(part, eqx.is_array)
        for place, _ in jax.tree_util.tree_flatten_with_path(held)[0]:
            yield f"{part.name}.{jax.tree_util.keystr(place, simple=True, separator='.')}"


def _kinds(network: Network) -> list[dict[str, Any]]:
    return [
        {
            "name": part.name,
            "kind": type(part).__name__,
            "parents": list(network.parents[part.name]),
            "shape": list(network.shapes[part.name]),
        }
        for part in network.predictors()
    ]
