"""A batch divided among two devices (see tests/conftest.py) gives the run of one device."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.graph.mesh import equal_parts

LOOP = importlib.import_module("fathomx.training.run")
DEVICES = importlib.import_module("fathomx.training.devices")
RULES = {
    "gauss-newton": fx.Equilibrium(),
    "error descent": fx.Equilibrium(fx.ErrorDescent(), output_precision=1.0),
    "state descent": fx.Equilibrium(fx.StateDescent(optax.adam(0.1), 7), output_precision=1.0),
}
MORE = {
    "incremental": fx.Incremental(fx.StateDescent(steps=3), output_precision=1.0),
    "equilibrium propagation": fx.EquilibriumPropagation(),
}


def places(tree):
    return {
        tuple(sorted(device.id for device in leaf.devices()))
        for leaf in jax.tree.leaves(tree)
        if isinstance(leaf, jax.Array)
    }


@pytest.mark.parametrize(
    "rule",
    [
        *(pytest.param(rule, id=name) for name, rule in RULES.items()),
        *(pytest.param(rule, id=name, marks=pytest.mark.slow) for name, rule in MORE.items()),
    ],
)
def test_two_devices_train_the_network_of_one(blobs, monkeypatch, rule):
    with jax.enable_x64(True):
        network = fx.models.residual_mlp(
            6, 4, width=8, depth=4, parameterization=fx.MuPC(), key=jax.random.key(3)
        )

        def train():
            return fx.fit(network, blobs, rule, optimizer=optax.sgd(0.1), epochs=2, batch_size=32)

        used = []
        whole = fx.Mesh.whole
        monkeypatch.setattr(
            fx.Mesh,
            "whole",
            lambda self, tree: used.append(len(self.devices)) or whole(self, tree),
        )
        divided = train()
        assert set(used) == {2}
        one = fx.Mesh(devices=jax.devices()[:1])
        monkeypatch.setattr(LOOP, "mesh_for", lambda *_: one)
        alone = train()
    assert places(divided.network) == {(0,)}
    for ours, theirs in zip(
        jax.tree.leaves(fx.weights(divided.network)),
        jax.tree.leaves(fx.weights(alone.network)),
        strict=True,
    ):
        assert ours.dtype == jnp.float64
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    # Weights did move, so that the comparison says something.
    assert not np.allclose(
        jax.tree.leaves(fx.weights(alone.network))[0], jax.tree.leaves(fx.weights(network))[0]
    )
    for name in ("test_loss", "pc_strength", "cosine_to_backprop"):
        np.testing.assert_allclose(divided.summary[name], alone.summary[name], rtol=1e-8)


def test_backprop_and_many_weights_stay_on_one_device_of_a_processor(network, monkeypatch):
    rule = fx.Equilibrium()
    assert len(DEVICES.mesh_for(network, rule, 32).devices) == 2
    assert len(DEVICES.mesh_for(network, fx.Backprop(), 32).devices) == 1
    monkeypatch.setattr(DEVICES, "_MOST_PARAMETERS_DIVIDED", 10)
    assert len(DEVICES.mesh_for(network, rule, 32).devices) == 1


@pytest.mark.parametrize(
    ("size", "most", "least", "parts"),
    [(64, 8, 16, 4), (63, 8, 16, 3), (48, 4, 16, 3), (31, 8, 16, 1), (64, 8, 1, 8), (6, 8, 1, 6)],
)
def test_how_many_devices_share_a_batch(size, most, least, parts):
    """By hand: all parts alike, none too small."""
    assert equal_parts(size, most, least) == parts


def test_parts_and_whole_say_where_arrays_are():
    mesh = fx.Mesh.of(32)
    tree = {"x": jnp.arange(64.0).reshape(32, 2), "name": "kept"}
    parts, whole = mesh.parts(tree), mesh.whole(tree)
    assert [shard.data.shape for shard in parts["x"].addressable_shards] == [(16, 2), (16, 2)]
    assert [shard.data.shape for shard in whole["x"].addressable_shards] == [(32, 2), (32, 2)]
    assert parts["name"] == whole["name"] == "kept"
    # Inside of compiled functions too, where it is the compiler that divides.
    twice = jax.jit(lambda x: 2 * mesh.parts(x))(whole["x"])
    assert [shard.data.shape for shard in twice.addressable_shards] == [(16, 2), (16, 2)]
    back = mesh.gathered(parts)
    assert places(back) == {(0,)}
    np.testing.assert_array_equal(back["x"], tree["x"])


def test_with_one_device_nothing_is_moved():
    mesh = fx.Mesh.of(7)
    tree = {"x": jnp.arange(7)}
    assert mesh.parts(tree) is tree
    assert mesh.whole(tree) is tree
    assert mesh.gathered(tree) is tree


def test_the_former_name_divides_batches_and_says_the_new_one():
    with pytest.warns(DeprecationWarning, match=r"fx.Division is now fx.Mesh: fx.Mesh\(data=2\)"):
        division = fx.Division.of(32)
    assert (division.data, division.depth) == (2, 1)
    parts = division.parts({"x": jnp.zeros((32, 2))})["x"]
    assert [shard.data.shape for shard in parts.addressable_shards] == [(16, 2), (16, 2)]
