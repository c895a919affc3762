"""A network's arrays in a file that anyone can read: safetensors, with names, and no code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
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
# Files of earlier versions have none.
_DIGEST = "sha256"


@gate
def save(network: Network, path: PathLike) -> Path:
    """Writes the weights of a network, and all its other arrays, to a file; returns its path.

    The file is in the format of safetensors, by convention `NAME.safetensors`: arrays by name
    (`hidden.block.weight`: the entry, then the place in it), and beside them what
    each entry is, as JSON, and the SHA-256 of the arrays, by which `fx.load` knows a damaged file.
    It holds no code; it does not say how to build the network. Other
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
        _DIGEST: _sha256(arrays),
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

    Raises `DamagedFileError` for a file that is not in this format or is damaged, and `ValueError`
    for the arrays of another network, naming the first that is missing, more, or of another shape
    or type.
    """
    found, own = read_arrays(Path(path)), _arrays(network)
    for name in [*own, *found]:
        _check_same(path, name, found, own)
    return _filled(network, found)


def transferred(
    path: PathLike, network: Network, among: Callable[[str], bool]
) -> tuple[Network, tuple[str, ...]]:
    """The network with the arrays of a file as far as they fit, and what keeps its own.

    **Arguments**: `path`, a file that `save` has written; `network`; `among`, whether an entry or a
    feedback of a name may keep its own arrays where those of the file are others.

    Raises as `restored` does for arrays of other entries and feedbacks.
    """
    found, own = read_arrays(Path(path)), _arrays(network)
    parts = [part.name for part in network.predictors()]
    anew = []
    for part in parts:
        names = [name for name in dict.fromkeys([*own, *found]) if name.startswith(f"{part}.")]
        try:
            for name in names:
                _check_same(path, name, found, own)
        except ValueError:
            if not among(part):
                raise
            anew.append(part)
    for name in found:
        if not name.startswith(tuple(f"{part}." for part in parts)):
            _check_same(path, name, found, own)
    fitting = tuple(f"{part}." for part in parts if part not in anew)
    taken = {n: found[n] if n.startswith(fitting) else array for n, array in own.items()}
    return _filled(network, taken), tuple(anew)


def weights_sha256(path: PathLike) -> str:
    """The SHA-256 of the arrays in a file of `save`: of their names, types, shapes and bytes."""
    return _sha256(read_arrays(Path(path)))


def _sha256(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _check_same(
    path: PathLike, name: str, found: Mapping[str, np.ndarray], own: Mapping[str, Any]
) -> None:
    """Raises `ValueError` for an array of a name that a file and a network do not have alike."""
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


def _filled(network: Network, found: Mapping[str, Any]) -> Network:
    arrays, rest = eqx.partition(network, eqx.is_array)
    leaves = [jnp.asarray(found[name]) for name in _arrays(network)]
    filled: Network = eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), rest)
    return filled


def read_arrays(path: Path) -> Mapping[str, np.ndarray]:
    """The arrays in a file that `save` has written, by name."""
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
    if about.get(_DIGEST, found := _sha256(arrays)) != found:
        raise DamagedFileError(
            f"{path} is damaged: its arrays are not those that were saved (their SHA-256 differs); "
            "put a copy back, or save the network again."
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
