"""The depth of a stack on two devices (see tests/conftest.py) gives the numbers of one device."""

import re
import shutil
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from tests.battery import kinds

KINDS = {
    "latent root": kinds.latent_root,
    "two outputs": kinds.two_outputs,
    "feedback on a stack": kinds.feedback_on_a_stack,
    "learned precision": kinds.learned_precision,
    "clamped in a stack": kinds.clamped_in_a_stack,
}
SOLVERS = {
    "gauss-newton": fx.GaussNewton(2),
    "state descent": fx.StateDescent(optax.adam(0.05), 9),
}


def found(problem, solver):
    relaxed = fx.infer(problem, solver)
    gradient = fx.weight_gradient(problem, relaxed.activities, relaxed.errors)
    arrays = jax.tree.leaves(fx.weights(gradient))
    return [*relaxed.activities.values(), relaxed.energy, relaxed.unsettled, *arrays]


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=list(SOLVERS))
@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_kind_of_problem_is_that_of_one_device(float64, kind, solver):
    """Four examples, which the devices share outside of stacks, and three, which they cannot."""
    mesh = fx.Mesh(depth=2)
    for batch in (4, 3):
        problem = kind(jnp.tanh, batch)
        divided = problem.with_network(mesh.network(problem.network))
        for ours, one in zip(found(divided, solver), found(problem, solver), strict=True):
            assert ours.dtype == one.dtype == jnp.float64
            np.testing.assert_allclose(ours, one, rtol=1e-10, atol=1e-12)


def chain(depth, **sizes):
    return fx.models.residual_mlp(
        8, 4, depth=depth + 2, parameterization=fx.MuPC(), key=jax.random.key(3), **sizes
    )


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=list(SOLVERS))
def test_divided_weights_give_the_numbers_of_one_device(float64, solver):
    mesh = fx.Mesh(data=2, weights="divided")
    rng = np.random.default_rng(0)
    problem = fx.Problem(chain(4, width=6), rng.normal(size=(4, 8)), rng.integers(4, size=4))
    divided = problem.with_network(mesh.network(mesh.whole(problem.network)))
    for ours, one in zip(found(divided, solver), found(problem, solver), strict=True):
        assert ours.dtype == one.dtype == jnp.float64
        np.testing.assert_allclose(ours, one, rtol=1e-10, atol=1e-12)


def test_weights_moments_and_activities_are_held_in_parts():
    network = chain(6, width=16)
    mesh = fx.Mesh(depth=2)
    state = optax.adam(1e-2).init(fx.weights(network))
    network, state = mesh.whole((network, state))
    block = network.entry("hidden").block
    for tree in (block, state[0].mu.entry("hidden").block):
        leaf = next(leaf for leaf in jax.tree.leaves(tree) if leaf.ndim == 3)
        assert [shard.data.shape for shard in leaf.addressable_shards] == [(3, 16, 16)] * 2
    x, y = mesh.parts((jnp.zeros((32, 8)), jnp.zeros((32, 4))))
    problem = fx.Problem(mesh.network(network), x, y)
    hidden = eqx.filter_jit(fx.infer)(problem, fx.StateDescent(0.1, 3)).activities["hidden"]
    assert [shard.data.shape for shard in hidden.addressable_shards] == [(3, 32, 16)] * 2


def test_of_divided_weights_one_block_at_a_time_is_whole():
    """Held in parts between steps, moments too; in a step no more than a block is gathered."""
    width, depth = 16, 6
    mesh, optimizer, rule = fx.Mesh(data=2, weights="divided"), optax.adam(1e-2), fx.Equilibrium()
    network = chain(depth, width=width)
    held = mesh.whole((network, rule.init_optimizer(optimizer, network)))
    for tree in (held[0], held[1].optimizer_state[0].mu):
        leaf = next(a for a in jax.tree.leaves(tree.entry("hidden").block) if a.ndim == 3)
        assert {shard.data.shape for shard in leaf.addressable_shards} == {(depth, 8, 16)}
        first = next(a for a in jax.tree.leaves(tree.entry("first")) if a.ndim == 2)
        assert {shard.data.shape for shard in first.addressable_shards} == {(8, 8)}
    batch = mesh.parts((jnp.ones((32, 8)), jnp.ones((32, 4))))

    @eqx.filter_jit
    def step(held, batch):
        network, state = mesh.divided(held)
        problem = fx.Problem(network, *batch)
        *updated, _ = rule.update(problem, optimizer, state, jax.random.key(0))
        return mesh.whole(mesh.joined(tuple(updated)))

    text = step.lower(held, batch).compile().compiled.as_text()
    gathered = re.findall(r"= f32\[([\d,]*)\]\S* all-gather(?:-start)?\(", text)
    sizes = [int(np.prod([int(n) for n in shape.split(",")])) for shape in gathered]
    assert sizes and max(sizes) == width * width, gathered
    # What comes out is held as what went in.
    after, before = (
        jax.tree.leaves(eqx.filter(tree, eqx.is_array)) for tree in (step(held, batch), held)
    )
    for one, other in zip(after, before, strict=True):
        assert one.sharding.is_equivalent_to(other.sharding, one.ndim)


def test_a_step_of_state_descent_sends_activities_of_boundaries_only():
    """In the compiled loop: at most 2 x devices x batch x width numbers go over the wires."""
    batch, width, depth, steps = 32, 16, 8, 10
    mesh = fx.Mesh(depth=2)
    network = mesh.whole(chain(depth, width=width))
    x, y = mesh.parts((jnp.ones((batch, 8)), jnp.ones((batch, 4))))

    @eqx.filter_jit
    def relaxed(network, x, y):
        problem = fx.Problem(mesh.network(network), x, y)
        return fx.infer(problem, fx.StateDescent(0.1, steps)).activities

    text = relaxed.lower(network, x, y).compile().compiled.as_text()
    sent = {}
    for name, body in re.findall(r"^%?(\S+) \([^\n]*\{\n(.*?)^\}", text, re.M | re.S):
        for kind, shape, op, pairs in re.findall(
            r"= (\w+)\[([\d,]*)\]\S* (collective-permute|all-\w+|reduce-scatter)(?:-start)?\("
            r"(?:.*source_target_pairs=\{(\S*)\})?",
            body,
        ):
            count = int(np.prod([int(n) for n in shape.split(",") if n])) * (kind != "pred")
            links = pairs.count("{") if op == "collective-permute" else 2 * mesh.depth
            sent[name] = sent.get(name, 0) + count * links
    # The loop of the descent is the one that sends whole boundaries back and forth.
    loop = max(sent, key=sent.get)
    boundaries = 2 * (mesh.depth - 1) * batch * width
    assert boundaries <= sent[loop] <= 2 * mesh.depth * batch * width, sent


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (fx.Equilibrium(), {"depth": 2}),
        (fx.Backprop(), {"depth": 2}),
        (fx.Equilibrium(), {"data": 2, "weights": "divided"}),
    ],
    ids=["equilibrium", "backprop", "weights"],
)
def test_fit_on_a_mesh_trains_the_network_of_one_device(blobs, rule, shape):
    with jax.enable_x64(True):
        network = fx.models.residual_mlp(
            6, 4, width=8, depth=6, parameterization=fx.MuPC(), key=jax.random.key(3)
        )
        train = partial(
            fx.fit, network, blobs, rule, optimizer=optax.sgd(0.1), epochs=2, batch_size=32
        )
        divided = train(mesh=fx.Mesh(**shape))
        alone = train(mesh=fx.Mesh(devices=jax.devices()[:1]))
        before = jax.tree.leaves(fx.weights(network))
        ours, one = (jax.tree.leaves(fx.weights(run.network)) for run in (divided, alone))
        assert not np.allclose(one[0], before[0])
        for a, b in zip(ours, one, strict=True):
            assert len(a.devices()) == 1
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
        for name in ("test_loss", "test_accuracy", "pc_strength", "cosine_to_backprop"):
            np.testing.assert_allclose(divided.summary[name], alone.summary[name], rtol=1e-8)


def test_what_a_mesh_does_not_divide_is_refused():
    mesh = fx.Mesh(depth=2)
    with pytest.raises(ValueError, match=r"does not divide the 3 blocks of stack 'hidden'"):
        mesh.network(chain(3, width=4))
    plain = fx.Network([fx.Node("a", jnp.sin), fx.Node("b", jnp.sin)], (4,))
    with pytest.raises(ValueError, match=r"this network has none; use data=2, or a network"):
        mesh.network(plain)
    with pytest.raises(ValueError, match=r"does not divide a batch of 7 examples"):
        fx.Mesh(data=2).check(plain, 7)
    with pytest.raises(ValueError, match=r"needs 64 devices, not 2"):
        fx.Mesh(data=8, depth=8)
    with pytest.raises(ValueError, match=r"needs 2 devices, not 1"):
        fx.Mesh(data=2, devices=jax.devices()[:1])
    assert repr(mesh) == "Mesh(data=1, depth=2)"
    with pytest.raises(ValueError, match=r"data is 1; choose data of at least 2, or depth"):
        fx.Mesh(depth=2, weights="divided")
    mesh = fx.Mesh(data=2, weights="divided")
    assert repr(mesh) == "Mesh(data=2, depth=1, weights='divided')" and mesh != fx.Mesh(data=2)
    odd = fx.models.mlp(5, 3, width=7, depth=3, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"divides 0% of the weights only.* a multiple of 2"):
        mesh.network(odd)
    with pytest.raises(ValueError, match=r"unknown weights 'divide'.*'divided'"):
        fx.Mesh(data=2, weights="divide")


class Stops(fx.training.Observer):
    """Ends a run after its first epoch, as Ctrl-C does."""

    def epoch_ended(self, record, state):
        raise KeyboardInterrupt


def test_a_run_goes_on_with_another_number_of_devices(blobs, tmp_path):
    """On the same mesh bit for bit; on another up to rounding."""
    with jax.enable_x64(True):
        network = fx.models.residual_mlp(
            6, 4, width=8, depth=6, parameterization=fx.MuPC(), key=jax.random.key(3)
        )

        def train(shape, *observers):
            mesh = fx.Mesh(**shape) if shape else fx.Mesh(devices=jax.devices()[:1])
            return fx.fit(
                network,
                blobs,
                optimizer=optax.sgd(0.1),
                epochs=2,
                batch_size=32,
                mesh=mesh,
                observers=observers,
            )

        depth, weights = {"depth": 2}, {"data": 2, "weights": "divided"}
        for number, (begun, other) in enumerate(((depth, {}), (weights, depth))):
            whole = jax.tree.leaves(fx.weights(train(begun).network))
            stopped = tmp_path / f"{number}"
            with pytest.raises(KeyboardInterrupt):
                train(begun, fx.training.RunFolder.create(stopped, {}), Stops())
            moved = shutil.copytree(stopped, tmp_path / f"{number}-moved")
            for folder, then, equal in (
                (stopped, begun, np.testing.assert_array_equal),
                (moved, other, np.testing.assert_allclose),
            ):
                gone_on = train(then, fx.training.RunFolder.resume(folder, {}))
                for a, b in zip(jax.tree.leaves(fx.weights(gone_on.network)), whole, strict=True):
                    equal(a, b)
