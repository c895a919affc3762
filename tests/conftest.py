"""For all tests: shapes and types of the package are checked at run time; float64 on request."""

import os
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from jaxtyping import install_import_hook

# Before anything imports the package: every annotation in it becomes a check, but for the data
# sets, which answer arguments of a wrong type with their own sentences.
SOURCE = Path(__file__).parents[1] / "src" / "fathomx"
MODULES = sorted({path.stem for path in SOURCE.iterdir()} - {"__init__", "__pycache__", "data"})
install_import_hook([f"fathomx.{name}" for name in MODULES], "beartype.beartype")

# Tests compile far more than they compute: with LLVM's optimizations they took twice as long.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
# Two devices on any processor, so that batches large enough are divided, as the command line does.
jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture(autouse=True, scope="module")
def compiled_programs():
    """Frees what a file of tests compiled; a process cannot hold the programs of them all."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """A cache of compiled programs, of a file of tests alone; another for processes it starts."""
    folder = tmp_path_factory.mktemp("compiled")
    options = {
        "jax_compilation_cache_dir": str(folder / "here"),
        "jax_persistent_cache_min_compile_time_secs": 0.2,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    reset_cache()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "processes"))
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


@pytest.fixture
def float64():
    """JAX computes in float64 during the test; everywhere else in float32."""
    with jax.enable_x64(True):
        yield
