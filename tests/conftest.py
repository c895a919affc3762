"""For all tests: shapes and types of the package are checked at run time; float64 on request."""

import jax
import pytest
from jaxtyping import install_import_hook

# Before anything imports the package: every annotation in it becomes a check.
install_import_hook("fathomx", "beartype.beartype")


@pytest.fixture
def float64():
    """JAX computes in float64 during the test; everywhere else in float32."""
    with jax.enable_x64(True):
        yield
