"""`fathomx train --distributed`: what is refused, who speaks last, and what a kill leaves."""

import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import fathomx as fx
from fathomx.command_line.together import check_free, reach

BY_HAND = ["--coordinator", "localhost:1", "--processes", "2", "--process"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([*BY_HAND, "0"], "--coordinator is for several processes; add --distributed"),
        (["--distributed", *BY_HAND[:2]], "give --processes and --process, too"),
        (["--distributed", *BY_HAND, "2"], "2 processes are numbered from 0 to 1"),
        (["--distributed", *BY_HAND, "-1"], "2 processes are numbered from 0 to 1"),
        (["--distributed", "--processes", "0", *BY_HAND[:2], "--process", "0"], "at least 1"),
        (["--distributed", "--coordinator", "localhost", *BY_HAND[2:], "0"], "a host and a port"),
        (["--distributed", "--coordinator", "here:99999", *BY_HAND[2:], "0"], "a host and a port"),
    ],
)
def test_what_does_not_belong_together_is_refused(run, given, text, tmp_path):
    code, _, err = run("train", *given)
    assert code == 1 and err.count("\n") == 1 and text in err
    assert not any(tmp_path.iterdir())


def test_outside_of_a_job_processes_have_to_be_told(run, monkeypatch):
    def initialize(*arguments, **options):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    code, _, err = run("train", "--distributed")
    assert code == 1 and err.count("\n") == 1 and "finds no Slurm, MPI or Kubernetes job" in err


def test_a_port_that_is_taken_and_one_where_nobody_answers():
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        taken.listen()
        with pytest.raises(ConnectionError, match=f"port {port} of this machine is not free"):
            check_free(port)
        reach("localhost", port, 0.0)
    check_free(port)
    with pytest.raises(ConnectionError, match=f"localhost:{port} does not answer"):
        reach("localhost", port, 0.1)


ENDED = """
import os, sys
print("seen", file=sys.stderr, flush=True)
if {aborts}:
    os.write(0, b"early\\nanother process has ended\\n")
    print("F1126 23:03:51.9 client.h:80] fatal\\n    @ 0x7f trace", file=sys.stderr, flush=True)
    os.abort()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    ("aborts", "code", "text"),
    [(True, 1, "another process has ended"), (False, 137, "was ended by SIGKILL; continue")],
)
def test_who_is_ended_from_within_has_a_last_word(aborts, code, text):
    script = (
        f"import fathomx_supervision as s, sys; sys.exit(s.supervise({[sys.executable, '-c']!r}"
    )
    script += f" + [{ENDED.format(aborts=aborts)!r}]))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == code
    seen, said = found.stderr.splitlines()
    assert seen == "seen" and said.startswith("error: ") and text in said


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_other_and_the_run_goes_on_bit_for_bit(tmp_path):
    options = ["--model", "residual-mlp", "--depth", "4", "--width", "8", "--batch-size", "64"]

    def begin(*arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        common = ["train", *arguments, "--distributed", "--coordinator", address]
        worker = [sys.executable, "-m", "fathomx_command", *common, "--processes", "2", "--process"]
        return [
            subprocess.Popen(
                [*worker, str(index)],
                env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(2)
        ]

    begun = begin("--epochs", "60", *options, "--out", "killed")
    records = tmp_path / "killed" / "metrics.jsonl"
    while not (records.exists() and '"epoch": 3' in records.read_text()):
        assert begun[0].poll() is None, begun[0].communicate()
        time.sleep(0.05)
    begun[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    _, err = begun[0].communicate()
    begun[1].communicate()
    assert time.monotonic() - killed < 60
    assert begun[0].returncode == 1 and err.count("\n") == 1 and "another process of 2 has" in err
    for arguments in (["--resume", "killed"], ["--epochs", "60", *options, "--out", "whole"]):
        for process in begin(*arguments):
            out, err = process.communicate()
            assert process.returncode == 0, (out, err)
    found = [fx.load(tmp_path / name).network for name in ("killed", "whole")]
    for ours, wanted in zip(*(jax.tree.leaves(fx.weights(each)) for each in found), strict=True):
        np.testing.assert_array_equal(ours, wanted)
