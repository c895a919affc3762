"""What the command line asks of JAX, each in a process of its own."""

import os
import subprocess
import sys

import pytest

from fathomx.command_line.runtime import trim

SHOW = """
import jax
from fathomx.command_line.runtime import prepare
prepare()
print(len(jax.devices()), jax.config.jax_compilation_cache_dir)
"""


def settings(tmp_path, **variables):
    given = {"XDG_CACHE_HOME": str(tmp_path), **variables}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHOW],
        env={**kept, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    devices, folder = shown.stdout.split()
    return int(devices), folder


def test_every_core_is_a_device_and_programs_are_kept(tmp_path):
    folder = tmp_path / "fathomx" / "compiled"
    assert settings(tmp_path) == (len(os.sched_getaffinity(0)), str(folder))
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("JAX_NUM_CPU_DEVICES", "3", (3, None)),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=3", (3, None)),
        ("JAX_COMPILATION_CACHE_DIR", "elsewhere", (None, "elsewhere")),
        ("XDG_CACHE_HOME", "/dev/null", (None, "None")),
    ],
)
def test_settings_of_jax_come_first(tmp_path, variable, value, expected):
    found = settings(tmp_path, **{variable: value})
    assert all(want in (None, got) for want, got in zip(expected, found, strict=True))


def test_the_oldest_programs_go_first(tmp_path):
    for age, name in enumerate("dcba"):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (0, 1000 - age))
    (tmp_path / "folder").mkdir()
    trim(tmp_path, 250)
    assert {path.name for path in tmp_path.iterdir()} == {"d", "c", "folder"}
    trim(tmp_path, 250)
    assert len(list(tmp_path.iterdir())) == 3
