"""A virtual environment of its own for every library, made once and kept in the cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cases import FATHOMX, JAX
from protocol import WorkerError

_HERE = Path(__file__).parent
_MARK = "installed-requirements.txt"


def cache() -> Path:
    """The folder for environments, weights and logs of this benchmark."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "fathomx" / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def python_of(library: str) -> Path:
    """The interpreter that has a library; installs it first if its requirements have changed.

    Raises `WorkerError` if that fails. Plain JAX is measured in Fathomx's environment, so that both
    run on the same JAX. With `FATHOMX_PEERS=here` every library is taken from this environment, for
    machines where nothing can be installed.
    """
    if library in (FATHOMX, JAX) or os.environ.get("FATHOMX_PEERS") == "here":
        return Path(sys.executable)
    folder = cache() / library
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    requirements = _HERE / f"requirements-{library}.txt"
    wanted = f"# Python {sys.version.split()[0]}\n{requirements.read_text(encoding='utf-8')}"
    mark = folder / _MARK
    if not (mark.exists() and mark.read_text(encoding="utf-8") == wanted):
        print(f"installing {library} into {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run([python, *install, "-r", requirements], check=True)
        except subprocess.CalledProcessError:
            raise WorkerError(f"{requirements.name} could not be installed") from None
        mark.write_text(wanted, encoding="utf-8")
    return python
