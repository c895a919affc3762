"""Two processes train the network of one, stop together and go on; what they must agree on."""

import os
import socket
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.graph.processes import ProcessError, Processes
from fathomx.training.checkpoints import Checkpoints

# Run in each of two processes, and the first half of it here.
TRAINING = """
import equinox as eqx, jax, numpy as np, optax
import fathomx as fx

def data():
    rng = np.random.default_rng(0)
    def part(size):
        labels = rng.integers(4, size=size)
        return fx.data.Part(rng.normal(size=(size, 6)) + 2 * np.eye(6)[labels], labels)
    return fx.data.Dataset("blobs", part(70), part(24), part(24), classes=4)

def rows():
    x, y = data().train.inputs, data().train.labels
    return fx.data.Stream(fx.data.Rows((x, y), incomplete=True), (x[:8], y[:8]), (x[:8], y[:8]))

def trained(mesh, data, *observers):
    network = fx.models.residual_mlp(
        6, 4, width=8, depth=6, parameterization=fx.MuPC(), key=jax.random.key(3)
    )
    return fx.fit(
        network, data, fx.Equilibrium(fx.StateDescent(0.3, 10), output_precision=1.0),
        optimizer=optax.sgd(0.5), epochs=2, batch_size=32, mesh=mesh,
        observers=(fx.training.Observer(), *observers),
        early_stopping=fx.training.EarlyStopping(5),
    )

def arrays(result):
    return [np.asarray(a) for a in jax.tree.leaves(fx.weights(result.network))]

def state(place):
    # With the moments of Adam, its stacks and all else where they are put.
    from fathomx.training.observer import TrainingState
    network = fx.models.residual_mlp(6, 4, width=8, depth=6, key=jax.random.key(5))
    weights, rest = fx.split(network)
    moments = optax.adam(1e-3).init(jax.tree.map(lambda a: a + 1, weights))
    placed = jax.tree.map(place, (weights, moments))
    return TrainingState.begun(eqx.combine(placed[0], rest), placed[1], jax.random.key(6))
"""
TOGETHER = """
import pathlib, signal, sys
port, index, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
jax.config.update("jax_cpu_enable_async_dispatch", False)
jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)

class Stops(fx.training.Observer):
    def epoch_ended(self, record, state):
        if index == 1 and record["epoch"] == 1:
            signal.raise_signal(signal.SIGINT)

try:
    fx.Mesh(depth=2)
except ValueError as error:
    print(error)
name, mesh = "data", fx.Mesh(data=2)
whole = trained(mesh, data())
run = fx.training.RunFolder.create(folder / name, {})
try:
    trained(mesh, data(), run, Stops())
except KeyboardInterrupt:
    print(name, "stopped")
print(sorted(p.name for p in (folder / name / "checkpoints").iterdir()))
if index == 0:
    import shutil
    shutil.copytree(folder / name, folder / f"{name} of one")
run = fx.training.RunFolder.resume(folder / name)
gone_on = trained(mesh, data(), run)
run.close()
same = all(np.array_equal(a, b) for a, b in zip(arrays(whole), arrays(gone_on), strict=True))
print(name, "bit for bit", same, whole.summary["test_loss"] == gone_on.summary["test_loss"])
np.savez(folder / f"{name}{index}.npz", *arrays(whole))
np.savez(folder / f"rows{index}.npz", *arrays(trained(fx.Mesh(data=2), rows())))
axis = jax.sharding.Mesh(np.array(jax.devices()), ("depth",))

def divided(array):
    where = jax.sharding.PartitionSpec(*(("depth",) if array.ndim == 3 else ()))
    sharding = jax.sharding.NamedSharding(axis, where)
    return jax.make_array_from_callback(array.shape, sharding, lambda i: np.asarray(array)[i])

from fathomx.training.checkpoints import Checkpoints
checkpoints = Checkpoints(folder / "divided")
checkpoints.save(state(divided), 7)
checkpoints.close()
try:
    trained(fx.Mesh(data=2), data().take(32 + index))
except fx.training.ProcessError as error:
    print(error)
jax.distributed.shutdown()
"""


@pytest.fixture(scope="module")
def here():
    """What the processes run, in this one."""
    names = {}
    exec(TRAINING, names)
    return names


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder that two processes of one device each have left, and what they said."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = {"JAX_NUM_CPU_DEVICES": "1", "JAX_ENABLE_X64": "true", "JAX_PLATFORMS": "cpu"}
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING + TOGETHER, port, str(index), str(folder)],
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    ended = [process.communicate() for process in begun]
    said = []
    for process, (out, err) in zip(begun, ended, strict=True):
        assert process.returncode == 0, err
        said.append([line for line in out.splitlines() if not line.startswith("[Gloo]")])
    return folder, said


def stored(path):
    with np.load(path) as found:
        return list(found.values())


@pytest.mark.parametrize("what", ["data", "rows"])
def test_two_processes_train_the_network_of_one(here, together, what):
    """Examples divided between them, the last batch incomplete or left out."""
    folder, _ = together
    with jax.enable_x64(True):
        data = here["rows" if what == "rows" else "data"]()
        alone = here["trained"](fx.Mesh(devices=jax.devices()[:1]), data)
        for index in range(2):
            found = stored(folder / f"{what}{index}.npz")
            for ours, one in zip(found, here["arrays"](alone), strict=True):
                np.testing.assert_allclose(ours, one, rtol=1e-9, atol=1e-11)


def test_a_signal_to_one_stops_both_and_they_go_on_bit_for_bit(together):
    _, said = together
    for lines in said:
        begin = lines.index("data stopped")
        assert lines[begin + 1 : begin + 3] == ["['2']", "data bit for bit True True"]


def test_a_depth_across_processes_is_refused_on_processors(together):
    for lines in together[1]:
        assert lines[0].startswith("Mesh(data=1, depth=2) divides the depth among processes")


def test_one_process_goes_on_where_two_stopped(here, together):
    folder, _ = together
    with jax.enable_x64(True):
        run = fx.training.RunFolder.resume(folder / "data of one")
        gone_on = here["trained"](fx.Mesh(devices=jax.devices()[:1]), here["data"](), run)
        run.close()
    assert gone_on.summary["epochs"] == 2 and len(gone_on.history) == 2
    found = stored(folder / "data0.npz")
    for ours, one in zip(found, here["arrays"](gone_on), strict=True):
        np.testing.assert_allclose(ours, one, rtol=1e-9, atol=1e-11)


def test_of_arrays_that_are_divided_each_process_writes_its_part(here, together):
    """And one process reads them whole."""
    folder, _ = together
    written = folder / "divided" / "7"
    assert {path.name for path in written.rglob("ocdbt.process_*")} == {
        "ocdbt.process_0",
        "ocdbt.process_1",
    }
    with jax.enable_x64(True):
        expected = here["state"](lambda array: array)
        checkpoints = Checkpoints(folder / "divided")
        found = checkpoints.restore(here["state"](jnp.zeros_like))
        checkpoints.close()
    assert found.position == 7 and not found.notes
    assert any(array.shape == (4, 8, 8) for array in jax.tree.leaves(found.state.optimizer))
    for ours, theirs in zip(*map(jax.tree.leaves, (expected, found.state)), strict=True):
        if eqx.is_array(ours) and not jnp.issubdtype(ours.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(ours, theirs)


def test_other_data_in_one_of_them_is_refused(together):
    for lines in together[1]:
        assert "processes 0 and 1 differ: training examples 32 and 33; give all" in lines[-1]


class Two(Processes):
    """Two processes, the other of which tells something else."""

    other: object = None

    def told(self, value):
        return [value, self.other] if self.index == 0 else [self.other, value]


def test_what_differs_between_processes_is_named():
    Two.other = {"depth": 6, "jax": "0.10"}
    Two(0, 2).check_alike({"depth": 6, "jax": "0.10"}, "do so")
    for index, text in ((0, "depth 8 and 6"), (1, "depth 6 and 8")):
        with pytest.raises(ProcessError, match=f"processes 0 and 1 differ: {text}; do so"):
            Two(index, 2).check_alike({"depth": 8, "jax": "0.10"}, "do so")


def test_what_the_first_raises_ends_the_others():
    def fails():
        raise OSError("no room")

    Two.other = None
    with pytest.raises(OSError, match="no room"):
        Two(0, 2).first(fails)
    Two.other = (None, "no room")
    with pytest.raises(ProcessError, match="process 0: no room"):
        Two(1, 2).first(fails)
    assert Processes().first(lambda: 3) == 3


def test_a_broken_connection_is_another_process_that_is_gone():
    with pytest.raises(ProcessError, match="another process of 2 has ended"), Two(0, 2).watched():
        raise ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer")
    with pytest.raises(ValueError, match="a shape"), Two(0, 2).watched():
        raise ValueError("a shape")
    with pytest.raises(ValueError, match="Gloo"), Processes().watched():
        raise ValueError("Gloo")


def test_a_batch_that_is_not_divided_is_whole_in_its_rows():
    mesh = fx.Mesh(data=2)
    assert mesh.rows(8) == mesh.rows(7).__class__(0, 8) and mesh.rows(7) == slice(0, 7)
    batches = mesh.batches({"x": jax.numpy.arange(24.0).reshape(3, 8)}, 8)["x"]
    assert [part.data.shape for part in batches.addressable_shards] == [(3, 4)] * 2
    np.testing.assert_array_equal(batches, np.arange(24.0).reshape(3, 8))
    assert mesh.processes == Processes(0, 1)
