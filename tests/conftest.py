"""For all tests: shapes and types of the package are checked at run time; float64 on request."""

import gc
import os
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

# Before anything imports the package: every annotation in it becomes a check, but for the data
# sets, which answer arguments of a wrong type with their own sentences.
SOURCE = Path(__file__).parents[1] / "src" / "fathomx"
MODULES = sorted({path.stem for path in SOURCE.iterdir()} - {"__init__", "__pycache__", "data"})
install_import_hook([f"fathomx.{name}" for name in MODULES], "beartype.beartype")

# Tests compile far more than they compute. With LLVM's optimizations they took twice as long; XLA's
# newer way to emit fused loops takes longer to compile than the older; and the cores are busy with
# tests, so that dividing a program among threads gains nothing.
FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__ < (0, 11, 1):  # JAX 0.11.1 has no older way, and XLA aborts on its flag.
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
# Where an operation comes from takes time to write into every program, and no test reads it.
jax.config.update("jax_traceback_in_locations_limit", 0)
# Two devices on any processor, so that batches large enough are divided, as the command line does.
jax.config.update("jax_num_cpu_devices", 2)
LARGEST_CACHE = 2**30


def pytest_configure(config):
    """What any test, or a process that it starts, has compiled is not compiled again.

    The programs stay beside what pytest keeps, also for the next run; `--cache-clear` removes them.
    """
    from fathomx.command_line.runtime import trim

    folder = config.cache.mkdir("compiled")
    trim(folder, LARGEST_CACHE)
    for name, value in (
        ("jax_compilation_cache_dir", str(folder)),
        ("jax_persistent_cache_min_compile_time_secs", 0.1),
    ):
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


def pytest_collection_finish():
    """Modules and tests stay to the end: Python need not look through them for garbage again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def compiled_programs():
    """Frees what a file of tests compiled; a process cannot hold the programs of them all."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def float64():
    """JAX computes in float64 during the test; everywhere else in float32."""
    with jax.enable_x64(True):
        yield
