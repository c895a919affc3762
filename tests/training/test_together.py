"""`fit_together`: every network as `fit` trains it alone, also where others end or diverge."""

import math
import time

import equinox as eqx
import jax
import numpy as np
import optax
import pytest

import fathomx as fx
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


class Recording(Observer):
    """Keeps what is recorded of steps."""

    def __init__(self):
        self.records = []

    def stepped(self, record, state):
        self.records.append(record)


def dense(key, **options):
    return fx.models.mlp(6, 4, width=5, depth=3, key=key, **options)


def stacked(key):
    return fx.models.residual_mlp(6, 4, width=5, depth=4, key=key)


def convolutional(key):
    sizes = {"width": 0.07, "normalization": "batch"}
    return fx.models.vgg(5, image_shape=(16, 16, 1), classes=4, **sizes, key=key)


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


def pairs(one, other):
    return zip(arrays(one), arrays(other), strict=True)


def close(one, other, tolerance):
    """Whether two results hold the same numbers."""
    for a, b in pairs(one.network, other.network):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
    assert untimed(one.summary).keys() == untimed(other.summary).keys()
    for a, b in zip(one.history, other.history, strict=True):
        assert a.keys() == b.keys()
        for name in ("train_loss", "validation_loss", "cosine_to_backprop", "pc_strength"):
            # Of convolutions by backprop there is no strength.
            found, expected = (np.asarray(each[name], float) for each in (a, b))
            np.testing.assert_allclose(found, expected, rtol=1e6 * tolerance, atol=tolerance)


FIXED = {"output_precision": 1.0}
CASES = {
    "Gauss-Newton, its strength measured": (stacked, fx.Equilibrium()),
    "incremental": (stacked, fx.Incremental(fx.StateDescent(optax.sgd(0.1), steps=4), **FIXED)),
}
FURTHER = {
    "state descent": (stacked, fx.Equilibrium(fx.StateDescent(optax.sgd(0.1), steps=4), **FIXED)),
    "error descent": (dense, fx.Equilibrium(fx.ErrorDescent(), **FIXED)),
    "Newton, until settled": (dense, fx.Equilibrium(fx.Newton(), **FIXED)),
    "backprop": (dense, fx.Backprop()),
    "convolutions, batch statistics": (convolutional, fx.Backprop()),
    "convolutions, relaxed": (convolutional, fx.Equilibrium(**FIXED)),
}


@pytest.mark.parametrize(
    "case", [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in FURTHER)]
)
def test_at_once_as_on_accelerators_every_network_learns_as_alone(
    case, blobs, pictures, monkeypatch, float64
):
    make, rule = {**CASES, **FURTHER}[case]
    monkeypatch.setattr(together, "usual_form", lambda device: members.at_once)
    data, batch = (pictures, 4) if make is convolutional else (blobs, 16)
    networks = several(make)
    options = {"epochs": 1, "batch_size": batch}
    # Of so few units one may stay off, which is said to who watches.
    watching = [[Recording()] for _ in networks]
    begun = time.perf_counter()
    found = fx.fit_together(
        networks, data, rule, optimizer=RATES, seeds=SEEDS, observers=watching, **options
    )
    # Each has its share of the time, and records and summary mean the same seconds.
    shares = [result.summary["train_seconds"] for result in found]
    assert all(0 < share <= (time.perf_counter() - begun) / 3 for share in shares)
    for (recording,), share in zip(watching, shares, strict=True):
        assert 0 < math.fsum(record["seconds"] for record in recording.records) <= share
    own = {"optimizer": RATES[1], "seed": SEEDS[1], "mesh": ALONE, "observers": ()}
    alone = fx.fit(networks[1], data, rule, **own, **options)
    close(found[1], alone, 1e-10)
    assert not all(np.allclose(*pair) for pair in pairs(found[0].network, found[1].network))


@pytest.fixture(scope="module")
def alone(blobs):
    """What `fit` gives for each network, and what it recorded."""
    return [
        fx.fit(network, blobs, fx.Backprop(), optimizer=rate, seed=seed, mesh=ALONE, **OPTIONS)
        for network, rate, seed in zip(several(dense), RATES, SEEDS, strict=True)
    ]


OPTIONS = {"epochs": 3, "batch_size": 16, "average": 0.9, "validate_every": 2}


def trained(blobs, networks=None, rates=RATES, seeds=SEEDS, **options):
    networks = several(dense) if networks is None else networks
    given = {**OPTIONS, **options}
    return fx.fit_together(
        networks, blobs, fx.Backprop(), optimizer=list(rates), seeds=list(seeds), **given
    )


def same(one, other):
    """Whether two results are those of the same updates, up to a few roundings."""
    for a, b in pairs(one.network, other.network):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    found, expected = (
        jax.tree.leaves((each.history, untimed(each.summary))) for each in (one, other)
    )
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a == (pytest.approx(b, rel=1e-4, abs=1e-5) if isinstance(b, float) else b)


def test_in_turn_as_on_a_processor_every_network_is_as_alone(blobs, alone):
    for one, other in zip(trained(blobs), alone, strict=True):
        same(one, other)


class Calls(Observer):
    def __init__(self):
        self.heard = []

    def failed(self):
        self.heard.append("failed")

    def interrupted(self, state):
        self.heard.append(("interrupted", int(state.epoch)))

    def finished(self, summary, state):
        self.heard.append("finished")


def test_a_network_that_diverges_ends_and_the_others_go_on(blobs, alone):
    networks = several(dense)
    broken = jax.tree.map(lambda a: a * 1e30 if eqx.is_inexact_array(a) else a, networks[1])
    heard = [Calls() for _ in networks]
    found = trained(
        blobs, [networks[0], broken, networks[2]], observers=[(each,) for each in heard]
    )
    same(found[0], alone[0])
    same(found[2], alone[2])
    assert "diverged in epoch 1 at step 1" in found[1].summary["diverged"]
    assert found[1].summary["seed"] == 0 and found[1].history == []
    for a, b in pairs(found[1].network, broken):
        np.testing.assert_array_equal(a, b)
    assert [each.heard for each in heard] == [["finished"], ["failed"], ["finished"]]


def test_early_stopping_ends_each_network_by_itself(blobs):
    networks, rates = several(dense), (3.0, 1e-2, 1.0)
    options = {**OPTIONS, "epochs": 6, "early_stopping": fx.EarlyStopping(1)}
    found = trained(blobs, networks, rates, **options)
    expected = [
        fx.fit(network, blobs, fx.Backprop(), optimizer=rate, seed=seed, mesh=ALONE, **options)
        for network, rate, seed in zip(networks, rates, SEEDS, strict=True)
    ]
    assert len({result.summary["epochs"] for result in expected}) > 1
    for one, other in zip(found, expected, strict=True):
        same(one, other)


class InterruptAt(Observer):
    """Ctrl-C at the end of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def epoch_ended(self, record, state):
        if record["epoch"] == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_run_folders_that_were_stopped_at_different_epochs_go_on_together(blobs, alone, tmp_path):
    folders = [tmp_path / str(seed) for seed in SEEDS]
    watching = [[RunFolder.create(folder, {"seed": 0})] for folder in folders]
    # The first two have recorded their second epoch, the third has not.
    watching[1].insert(0, InterruptAt(2))
    with pytest.raises(KeyboardInterrupt):
        trained(blobs, observers=watching)
    assert [len(epochs(folder)) for folder in folders] == [2, 2, 1]
    found = trained(blobs, observers=[[RunFolder.resume(folder)] for folder in folders])
    for one, other, folder in zip(found, alone, folders, strict=True):
        same(one, other)
        assert [record["epoch"] for record in epochs(folder)] == [1, 2, 3]
        assert RunFiles(folder).summary["test_loss"] == one.summary["test_loss"]


def epochs(folder):
    return [record for record in RunFiles(folder).records if record["kind"] == "epoch"]


def test_rates_that_are_whole_numbers_and_networks_on_other_devices(blobs):
    first = fx.fit(dense(jax.random.key(0)), blobs, fx.Backprop(), epochs=1, observers=()).network
    held, rest = eqx.partition(first, eqx.is_array)
    there = eqx.combine(jax.device_put(held, jax.devices()[-1]), rest)
    networks = [there, dense(jax.random.key(1))]
    rates = [optax.sgd(1), optax.sgd(0.1)]
    found = trained(blobs, networks, rates, (0, 1), epochs=1)
    assert all("test_loss" in result.summary for result in found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"networks": []}, ["networks is empty", "at least one"]),
        ({"rates": RATES[:2]}, ["optimizer holds 2 for 3 networks"]),
        ({"seeds": (1,)}, ["seeds holds 1 for 3 networks"]),
        ({"observers": [()]}, ["observers holds 1 for 3 networks"]),
        ({"rates": (0.1, 0.2, optax.sgd(0.1))}, ["optimizer[2]", "differ in their rates alone"]),
    ],
)
def test_what_does_not_fit_is_told(blobs, changes, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        trained(blobs, **changes)
    assert all(word in str(caught.value) for word in words), caught.value


def test_networks_that_are_not_alike_and_streams_are_told(blobs):
    first, *_ = several(dense)
    wider = fx.models.mlp(6, 4, width=7, depth=3, key=jax.random.key(0))
    deeper = fx.models.mlp(6, 4, width=5, depth=4, key=jax.random.key(0))
    other = dense(jax.random.key(0), activation="relu")
    for network, words in (
        (wider, r"networks\[1\] and networks\[0\] .* weights, not "),
        (deeper, r"4 nodes, not 3"),
        (other, r"differ in more than values; train one network after the other"),
    ):
        with pytest.raises(ValueError, match=words):
            fx.fit_together([first, network], blobs, fx.Backprop())
    stream = fx.data.Stream(blobs.arrays("train"), name="rows")
    with pytest.raises(ValueError, match=r"'rows' is a stream"):
        fx.fit_together([first], stream, fx.Backprop())
