"""What the command line asks of JAX before anything is computed."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import joblib
import pooch

_SECONDS_WORTH_KEEPING = 0.2
_LARGEST_CACHE = 2**30


def prepare() -> None:
    """Every core of the processor becomes a device, and compiled programs are kept on disk.

    The programs stay in the folder `compiled` of the user's cache, so that the same command starts
    sooner the next time; what goes beyond 1 GiB is deleted, oldest first. JAX's own settings come
    first where they are given: `JAX_NUM_CPU_DEVICES`, `XLA_FLAGS`, `JAX_COMPILATION_CACHE_DIR` and
    `JAX_ENABLE_COMPILATION_CACHE=false`. A cache that cannot be written is not used.
    """
    forced = "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not forced and setting("jax_num_cpu_devices") < 1:
        # Too late in a program that has computed something before it calls the command line.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", cores())
    # On a full disk it is the run that has to say so, once; a damaged program is compiled again.
    warnings.filterwarnings("ignore", "Error .* persistent compilation cache")
    if setting("jax_compilation_cache_dir") is None:
        folder = Path(pooch.os_cache("fathomx")) / "compiled"
        # JAX could limit the size itself, but stops writing for good once a process died at it.
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            trim(folder, _LARGEST_CACHE)
            if os.access(folder, os.W_OK):
                jax.config.update("jax_compilation_cache_dir", str(folder))
                jax.config.update(
                    "jax_persistent_cache_min_compile_time_secs", _SECONDS_WORTH_KEEPING
                )


def trim(folder: Path, largest: int) -> None:
    """Deletes the files of a folder that were written first until the rest has `largest` bytes."""
    files = [(path, path.stat()) for path in folder.iterdir() if path.is_file()]
    total = sum(found.st_size for _, found in files)
    for path, found in sorted(files, key=lambda item: item[1].st_mtime):
        if total <= largest:
            return
        path.unlink(missing_ok=True)
        total -= found.st_size


def setting(name: str) -> Any:
    """One of JAX's settings, of which its types do not know."""
    return getattr(jax.config, name)


def cores() -> int:
    """Cores that this process may use: its affinity and the quota of its container are heeded."""
    return int(joblib.cpu_count())
