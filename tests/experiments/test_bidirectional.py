"""`fathomx reproduce bidirectional`: the poses, what is recognized, and a whole small run."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import bidirectional
from fathomx.experiments.bidirectional import METHODS, RATIOS, Scale
from fathomx.experiments.grid import Selection
from fathomx.experiments.imaging import classifier, pixels
from fathomx.models import with_precisions

TINY = Scale(
    "tiny", {"digits": (0,)}, epochs=4, batch=32, short=20, short_batch=32, width=24, parts=40
)


def test_other_precisions_are_those_of_a_network_that_was_built_with_them(float64):
    built = fx.models.bidirectional(
        6, 3, width=4, depth=4, precisions=(1e-2, 1.0), key=jax.random.key(0)
    )
    other = fx.models.bidirectional(
        6, 3, width=4, depth=4, precisions=(1.0, 0.5), key=jax.random.key(0)
    )
    problem = {"input": jnp.ones((2, 6)), "output": jnp.eye(3)[:2]}
    turned = with_precisions(other, (1e-2, 1.0))
    one, two = (
        fx.infer(fx.Problem(n, problem), fx.Newton(tolerance=1e-10)) for n in (built, turned)
    )
    np.testing.assert_allclose(one.energy, two.energy, rtol=1e-8)
    assert not np.allclose(one.energy, fx.infer(fx.Problem(other, problem), fx.Newton()).energy)


def test_images_of_every_class_are_recognized_as_such():
    judge, test = classifier("digits"), pixels("digits")["test"]
    first = np.stack([test.images[np.flatnonzero(test.labels == c)[0]] for c in range(10)])
    assert bidirectional.recognized(judge, first) >= 0.9
    # In another order hardly any is what it should be.
    assert bidirectional.recognized(judge, np.roll(first, 1, axis=0)) <= 0.2


@pytest.mark.parametrize("method", ["top-down 1e-2", "backprop", "generative"])
def test_a_small_run_is_judged(tmp_path, monkeypatch, method):
    assert method in METHODS
    monkeypatch.setitem(bidirectional.SCALES, "tiny", dataclasses.replace(TINY))
    chosen = Selection(methods=(method,))
    bidirectional.reproduce("tiny", tmp_path / "found", chosen, lambda text: None)
    with (tmp_path / "found" / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert 0.1 <= float(row["accuracy"]) <= 1 and 0 <= float(row["half_accuracy"]) <= 1
    if method == "backprop":
        assert row["recognized"] == "" and float(row["accuracy"]) > 0.8
        return
    assert 0 <= float(row["recognized"]) <= 1
    assert (tmp_path / "found" / "imagined-digits.png").stat().st_size > 5000
    if method in RATIOS:
        assert 0 <= float(row["half_later"]) <= 1 and float(row["accuracy"]) > 0.5
