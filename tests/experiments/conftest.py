"""Experiments run from the command line, whose programs stay out of the user's cache."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def programs(compiled_once):
    """For all tests here."""
