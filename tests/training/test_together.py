"""`fit_together`: every network as `fit` trains it alone, also where others end or diverge."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.checks import shown
from fathomx.records.run_files import RunFiles
from fathomx.training import Observer, RunFolder, members, together

# What Orbax leaves open when it fails is not ours to close.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

ALONE = fx.Mesh(devices=jax.devices()[:1])
TIMES = (
    "train_seconds",
    "first_step_seconds",
    "step_seconds_median",
    "step_memory_bytes",
    "together",
)
RATES = (1e-3, 1e-2, 3e-2)
SEEDS = (5, 0, 9)
FIXED = 1.0


def dense(key, **options):
    return fx.models.mlp(6, 4, width=5, depth=3, key=key, **options)


def stacked(key):
    return fx.models.residual_mlp(6, 4, width=5, depth=4, key=key)


def convolutional(key):
    sizes = {"width": 0.07, "normalization": "batch"}
    return fx.models.vgg(5, input_shape=(16, 16, 1), classes=4, **sizes, key=key)


def several(make, count=3):
    return [make(jax.random.key(seed)) for seed in range(count)]


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(1)

    def part(count):
        return fx.data.Part(rng.normal(size=(count, 16, 16, 1)), rng.integers(4, size=count))

    return fx.data.Dataset("pictures", part(12), part(4), part(4), classes=4)


def arrays(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


def untimed(summary):
    return {name: value for name, value in summary.items() if name not in TIMES}


def close(one, other, tolerance):
    """Whether two results hold the same numbers."""
    found, expected = (arrays(each.network) for each in (one, other))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
    assert untimed(one.summary).keys() == untimed(other.summary).keys()
    for a, b in zip(one.history, other.history, strict=True):
        assert a.keys() == b.keys()
        for name in ("train_loss", "validation_loss", "cosine_to_backprop", "pc_strength"):
            np.testing.assert_allclose(a[name], b[name], rtol=1e6 * tolerance, atol=tolerance)


CASES = {
    "Gauss-Newton, its strength measured": (stacked, fx.Equilibrium()),
    "state descent": (stacked, fx.Equilibrium(fx.StateDescent(optax.sgd(0.1), steps=4), FIXED)),
    "error descent": (dense, fx.Equilibrium(fx.ErrorDescent(), FIXED)),
    "incremental": (stacked, fx.Incremental(fx.StateDescent(optax.sgd(0.1), steps=4), FIXED)),
    "Newton, loops until settled": (dense, fx.Equilibrium(fx.Newton(), FIXED)),
    "backprop": (dense, fx.Backprop()),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("form", ["in_turn", "at_once"])
@pytest.mark.parametrize("case", CASES)
def test_every_network_is_as_if_it_were_trained_alone(case, form, blobs, monkeypatch):
    make, rule = CASES[case]
    # On a processor members take turns; the form of accelerators must give the same.
    monkeypatch.setattr(together, "usual_form", lambda device: getattr(members, form))
    networks = several(make)
    options = {"epochs": 2, "batch_size": 16}
    found = fx.fit_together(networks, blobs, rule, optimizer=RATES, seeds=SEEDS, **options)
    each = [0, 2] if form == "in_turn" else [1]
    for at in each:
        alone = fx.fit(
            networks[at],
            blobs,
            rule,
            optimizer=RATES[at],
            seed=SEEDS[at],
            observers=(),
            mesh=ALONE,
            **options,
        )
        close(found[at], alone, 1e-10)
        assert found[at].summary["seed"] == SEEDS[at] and found[at].summary["together"] == 3
