"""Networks in files: read by safetensors alone, filled in again, and what does not fit refused."""

import json

import equinox as eqx
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fathomx as fx
from fathomx.records.errors import DamagedFileError, RunFolderError

KEY = jax.random.key(0)
NETWORKS = {
    "mlp": lambda key: fx.models.residual_mlp(4, 3, width=5, depth=6, bias=True, key=key),
    "vgg": lambda key: fx.models.vgg(5, width=1 / 32, normalization="batch", key=key),
    "transformer": lambda key: fx.models.transformer(11, 8, depth=3, width=8, heads=2, key=key),
    "bidirectional": lambda key: fx.models.bidirectional(6, 4, width=5, depth=3, key=key),
    "decoder": lambda key: fx.models.decoder(3, 6, width=5, depth=3, key=key),
}


def arrays(network):
    return jax.tree.leaves(eqx.filter(network, eqx.is_array))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_array_comes_back(name, tmp_path):
    network, other = (NETWORKS[name](jax.random.key(seed)) for seed in (0, 1))
    path = fx.save(network, tmp_path / "new" / "network.safetensors")
    found = fx.load(path, other)
    assert str(found) == str(network)
    for mine, its in zip(arrays(found), arrays(network), strict=True):
        np.testing.assert_array_equal(mine, its)
    # As safetensors sees it, without Fathomx: the same values under distinct names.
    stored = load_file(path)
    assert len(stored) == len(arrays(network))
    assert sum(a.size for a in stored.values()) == sum(a.size for a in arrays(network))


def test_names_say_where_an_array_belongs(tmp_path):
    network = fx.models.residual_mlp(4, 3, width=5, depth=6, bias=True, key=KEY)
    path = fx.save(network, tmp_path / "network.safetensors")
    stored = load_file(path)
    assert sorted(stored) == [
        "first.function.bias.weight",
        "first.function.map.weight",
        "hidden.block.branch.linear.bias.weight",
        "hidden.block.branch.linear.map.weight",
        "output.function.linear.bias.weight",
        "output.function.linear.map.weight",
    ]
    assert stored["hidden.block.branch.linear.map.weight"].shape == (4, 5, 5)
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    entries = json.loads(header["__metadata__"]["network"])
    assert entries[2] == {
        "name": "hidden",
        "kind": "Stack",
        "parents": ["first"],
        "shape": [4, 5],
    }


def test_what_does_not_fit_is_refused(tmp_path):
    path = fx.save(NETWORKS["mlp"](KEY), tmp_path / "network.safetensors")
    plain = fx.models.residual_mlp(4, 3, width=5, depth=6, key=KEY)
    with pytest.raises(ValueError, match=r"has no array 'first.function.weight'"):
        fx.load(path, plain)
    deeper = fx.models.residual_mlp(4, 3, width=5, depth=7, bias=True, key=KEY)
    with pytest.raises(
        ValueError, match=r"'hidden.block.branch.linear.map.weight' in .* \(4, 5, 5\)"
    ):
        fx.load(path, deeper)
    more = tmp_path / "more.safetensors"
    fx.save(plain, more)
    with pytest.raises(ValueError, match="has no array"):
        fx.load(more, NETWORKS["mlp"](KEY))


def test_damage_and_other_files_are_told(tmp_path):
    network = NETWORKS["mlp"](KEY)
    path = fx.save(network, tmp_path / "network.safetensors")
    whole = path.read_bytes()
    for name, content in (
        ("cut", whole[:-7]),
        ("empty", b""),
        ("header", b"\xff" * 40),
        ("text", b"weights, please"),
    ):
        broken = tmp_path / name
        broken.write_bytes(content)
        with pytest.raises(DamagedFileError, match=f"{name} cannot be read as safetensors"):
            fx.load(broken, network)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, foreign)
    with pytest.raises(DamagedFileError, match="not those of a network that fx"):
        fx.load(foreign, network)
    with pytest.raises(RunFolderError, match="there is nothing at"):
        fx.load(tmp_path / "nowhere", network)
    with pytest.raises(ValueError, match=r"give the network to be filled, too"):
        fx.load(path)
    with pytest.raises(RunFolderError, match=r"config\.json is missing"):
        fx.load(tmp_path)
    with pytest.raises(ValueError, match="leave out the network"):
        fx.load(tmp_path, network)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    network = NETWORKS["mlp"](KEY)
    path = fx.save(network, tmp_path / "network.safetensors")
    before = path.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(RunFolderError, match="No space left"):
            fx.save(NETWORKS["mlp"](jax.random.key(1)), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_flipped_bit_is_told_and_files_without_a_digest_are_read(tmp_path):
    from safetensors.numpy import load, save

    network = fx.models.mlp(4, 2, width=3, depth=2, key=jax.random.key(0))
    path = fx.save(network, tmp_path / "own.safetensors")
    whole = path.read_bytes()
    for place in (-1, -7):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"own\.safetensors is damaged: its arrays are not"):
            fx.load(path, network)
    path.write_bytes(save(load(whole), {"format": "fathomx network 1"}))
    assert eqx.tree_equal(fx.load(path, network), network)
