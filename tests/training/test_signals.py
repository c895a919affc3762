"""What stops a run while something must be done as a whole."""

import os
import signal

import pytest

from fathomx.training.signals import held_back


def test_a_signal_waits_for_the_end_of_the_body():
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        done.append(True)
    assert done


def test_a_signal_is_not_lost_where_the_body_fails():
    with pytest.raises(KeyboardInterrupt) as stopped, held_back():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        raise ArithmeticError("diverged")
    assert isinstance(stopped.value.__context__, ArithmeticError)
