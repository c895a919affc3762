"""Every command makes its programs anew: what a file has compiled is not compiled again."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def programs(compiled_once):
    """For all tests here."""
