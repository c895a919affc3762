"""Decoders, bidirectional and temporal networks, against closed forms of linear ones."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.layers import Convolution, TransposedConvolution

KEY = jax.random.key(0)


def arrays(part):
    """The arrays of a layer's map and bias, for one example: `W` and `b`."""
    affine = part.linear if hasattr(part, "linear") else part
    return np.asarray(affine.map.weight), np.asarray(affine.bias.weight)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_transposed_convolution_is_the_transpose(float64, stride, kernel):
    rng = np.random.default_rng(0)
    weight = jnp.asarray(rng.normal(size=(kernel, kernel, 3, 2)))
    up = TransposedConvolution(weight, 0.7, stride=stride)
    down = Convolution(weight.swapaxes(2, 3), 0.7, stride=stride)
    small = jnp.asarray(rng.normal(size=(4, 5, 3)))
    large = jnp.asarray(rng.normal(size=(4 * stride, 5 * stride, 2)))
    assert up(small).shape == large.shape
    np.testing.assert_allclose(jnp.vdot(up(small), large), jnp.vdot(small, down(large)), rtol=1e-12)
    # The derivatives, too: that in the weights by finite differences.
    step = jnp.asarray(rng.normal(size=weight.shape))

    def along(t):
        moved = TransposedConvolution(weight + t * step, 0.7, stride=stride)
        return jnp.vdot(moved(small), large)

    exact = jax.jit(jax.grad(along))(0.0)
    np.testing.assert_allclose(exact, (along(1.0) - along(-1.0)) / 2, rtol=1e-10)


def test_transposed_convolution_refuses_other_activities():
    layer = TransposedConvolution(jnp.ones((3, 3, 2, 4)), stride=2)
    with pytest.raises(ValueError, match=r"takes activities \(height, width, 2\), not \(4, 4, 3\)"):
        layer(jnp.ones((4, 4, 3)))
    with pytest.raises(ValueError, match="stride of a convolution must be 1 or 2, not 3"):
        TransposedConvolution(jnp.ones((3, 3, 2, 4)), stride=3)


def linear_decoder(latents=4, size=9, precision=3.0):
    return fx.models.decoder(
        latents, size, width=6, depth=2, activation="linear", key=KEY, output=fx.Gaussian(precision)
    )


def test_a_linear_decoder_is_probabilistic_pca(float64):
    """Posterior mode and equilibrated energy, with a hidden layer that has an error of its own."""
    network = linear_decoder()
    (first, b1), (last, b2) = (arrays(e.function) for e in network.entries[1:])
    b1, b2 = b1 + 0.3, b2 - 0.2
    network = eqx.tree_at(
        lambda n: (n.entries[1].function.bias.weight, n.entries[2].function.linear.bias.weight),
        network,
        (jnp.asarray(b1), jnp.asarray(b2)),
    )
    x = np.random.default_rng(1).normal(size=(5, 9))
    # z ~ N(0, I), h = W1 z + b1 + N(0, I), x = W2 h + b2 + N(0, I / 3): jointly Gaussian.
    mean = last @ b1 + b2
    hidden = np.eye(6) + first @ first.T
    S = np.eye(9) / 3 + last @ hidden @ last.T
    missed = np.linalg.solve(S, (x - mean).T).T
    expected = 0.5 * np.sum((x - mean) * missed, axis=1)
    for solver in (fx.Exact(), fx.GaussNewton(1, 12), fx.Newton(tolerance=1e-13)):
        relaxed = fx.infer(fx.Problem(network, {"output": x}), solver)
        latent = relaxed.activities["latent"]
        np.testing.assert_allclose(latent, missed @ last @ first, rtol=0, atol=1e-10)
        np.testing.assert_allclose(relaxed.energy.sum(), expected.mean(), rtol=1e-10)
    # Completion is the conditional mean.
    seen = np.arange(9) < 5
    half = fx.infer(fx.Problem(network, {"output": fx.Clamp(x, seen)}), fx.Exact())
    known = np.linalg.solve(S[:5, :5], (x[:, :5] - mean[:5]).T)
    np.testing.assert_allclose(
        half.activities["output"][:, 5:],
        # Of what is not seen, the part that the latent and the hidden layer tell.
        mean[5:] + (S[5:, :5] @ known).T,
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize("make", [fx.models.decoder, fx.models.residual_decoder])
@pytest.mark.parametrize("shape", [7, (8, 4, 2)])
def test_decoders_of_any_depth_are_one_program(make, shape):
    short, deep = (make(3, shape, width=4, depth=d, key=KEY) for d in (5, 12))
    whole = (shape,) if isinstance(shape, int) else shape
    assert [network.depth for network in (short, deep)] == [6, 13]
    for network in (short, deep):
        drawn = fx.sample(network, jax.random.key(1), batch=2)
        assert drawn["output"].shape == (2, *whole) and drawn["latent"].shape == (2, 3)
        problem = fx.Problem(network, {"output": drawn["output"]})
        relaxed = fx.infer(problem, fx.Newton(tolerance=1e-3))
        assert relaxed.settled(1e-3).all()
    sizes = [len(str(jax.make_jaxpr(lambda z, n=n: fx.predict(n, z))(jnp.ones((2, 3)))))
             for n in (short, deep)]  # fmt: skip
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_what_a_decoder_cannot_be():
    for given, said in (
        ((0, 8), "latents must be"),
        ((4, 0), "shape"),
        ((4, (8, 8)), r"must be \(size,\) of vectors or \(height, width, channels\)"),
        ((4, (6, 8, 1)), r"multiples of 4, not \(6, 8, 1\)"),
    ):
        with pytest.raises(ValueError, match=said):
            fx.models.decoder(*given, key=KEY)
    with pytest.raises(ValueError, match="at least 3 for images"):
        fx.models.decoder(4, (8, 8, 1), depth=2, key=KEY)


@pytest.mark.parametrize("shape", [6, (8, 8, 1)])
@pytest.mark.parametrize("depth", [3, 5])
def test_the_top_down_pass_leaves_feedbacks_without_an_error(shape, depth):
    network = fx.models.bidirectional(shape, 3, width=4, depth=depth, key=KEY)
    problem = fx.Problem(network, {"output": jnp.eye(3)})
    start = fx.top_down(problem)
    assert set(start) == set(problem.free)
    whole = problem.complete(start)
    for name, missed in network.discrepancies(whole).items():
        np.testing.assert_allclose(missed, 0, atol=1e-5, err_msg=name)
    relaxed = fx.infer(problem, fx.Newton(tolerance=1e-3), at=start)
    assert relaxed.settled(1e-3).all()


def test_bidirectional_networks_classify_and_generate_by_one_energy(float64):
    """Classifying: the label is the mode of both energies, by matrices."""
    network = fx.models.bidirectional(
        5, 2, width=4, depth=2, activation="linear", precisions=(0.3, 2.0), key=KEY
    )
    (up1, _), (up2, _) = (arrays(e.function) for e in network.entries[1:])
    (down1, _), (down2, _) = (arrays(f.function) for f in network.feedbacks)
    x = np.random.default_rng(2).normal(size=(3, 5))

    def energy(x, h, y):
        bottom_up = 0.15 * np.sum((h - up1 @ x) ** 2) + 0.15 * np.sum((y - up2 @ h) ** 2)
        return bottom_up + np.sum((x - down1 @ h) ** 2) + np.sum((h - down2 @ y) ** 2)

    # In (h, y) it is quadratic; its minimum by least squares.
    a, b = np.sqrt(0.15), 1.0
    rows = np.block(
        [
            [a * np.eye(4), np.zeros((4, 2))],
            [-a * up2, a * np.eye(2)],
            [b * down1, np.zeros((5, 2))],
            [b * np.eye(4), -b * down2],
        ]
    )
    relaxed = fx.infer(fx.Problem(network, {"input": x}), fx.Newton(tolerance=1e-12))
    for i, example in enumerate(x):
        wanted = np.concatenate([a * up1 @ example, np.zeros(2), b * example, np.zeros(4)])
        found = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        np.testing.assert_allclose(relaxed.activities["output"][i], found[4:], atol=1e-10)
        np.testing.assert_allclose(relaxed.activities["first"][i], found[:4], atol=1e-10)
    totals = [
        energy(*(np.asarray(relaxed.activities[n][i]) for n in ("input", "first", "output")))
        for i in range(3)
    ]
    np.testing.assert_allclose(relaxed.energy.sum(), np.mean(totals), rtol=1e-10)


def test_top_down_needs_something_to_go_down_from():
    network = fx.models.bidirectional(6, 3, width=4, key=KEY)
    with pytest.raises(ValueError, match="no feedback predicts what is free"):
        fx.top_down(fx.Problem(network, {"input": jnp.ones((2, 6))}))


def test_a_linear_state_space_is_the_filter_of_fixed_covariance(float64):
    network = fx.models.state_space(3, 2, controls=1, precision=4.0, key=KEY)
    state = network.entry("state").function
    A, B = np.asarray(state.dense.linear.weight), np.asarray(state.control.weight)
    C = np.asarray(network.entry("output").function.linear.weight)
    gain = np.linalg.solve(4 * np.eye(3) + C.T @ C, C.T)
    rng = np.random.default_rng(3)
    x, u, z = rng.normal(size=(20, 2, 2)), rng.normal(size=(20, 2, 1)), np.zeros((2, 3))
    found = fx.follow(network, {"output": x, "control": u}, {"before": "state"}, fx.Exact())
    for seen, control, relaxed in zip(x, u, found.activities["state"], strict=True):
        expected = z @ A.T + control @ B.T
        z = expected + (seen - expected @ C.T) @ gain.T
        np.testing.assert_allclose(relaxed, z, rtol=0, atol=1e-10)


def test_state_spaces_may_have_deep_observations_and_no_controls():
    network = fx.models.state_space(3, 6, width=5, depth=4, activation="tanh", bias=True, key=KEY)
    assert [e.name for e in network.entries] == ["before", "state", "first", "hidden", "output"]
    x = jax.random.normal(KEY, (4, 2, 6))
    found = fx.follow(network, {"output": x}, {"before": "state"}, fx.Newton(tolerance=1e-3))
    assert found.activities["state"].shape == (4, 2, 3) and (found.unsettled <= 1e-3).all()


def test_a_recurrent_network_steps_like_its_cell():
    network = fx.models.recurrent(3, 2, states=4, key=KEY)
    x = jax.random.normal(KEY, (6, 3))
    state, cell = jnp.zeros((1, 4)), network.entry("state").function.cell
    for given in x:
        there = network.unroll(None, {"before": state, "input": given[None]})
        np.testing.assert_allclose(there["state"][0], cell(given, state[0]), rtol=1e-5, atol=1e-6)
        state = there["state"]


def images(count=4):
    return jax.random.normal(jax.random.key(5), (count, 8, 8, 1))


def small_cnn():
    key = jax.random.key(6)
    a, b, c = jax.random.split(key, 3)
    pool = fx.layers.max_pool
    return fx.wrap(
        [
            Convolution(0.3 * jax.random.normal(a, (3, 3, 1, 4))),
            jax.nn.relu,
            pool,
            Convolution(0.2 * jax.random.normal(b, (3, 3, 4, 6))),
            jax.nn.relu,
            pool,
            jnp.ravel,
            fx.layers.Linear(0.2 * jax.random.normal(c, (5, 24))),
        ],
        (8, 8, 1),
        ["one", "two", "output"],
        output=fx.Categorical(),
    )


def test_feedbacks_of_a_trained_network_learn_alone():
    plain = small_cnn()
    network = fx.models.with_feedbacks(plain, key=KEY)
    assert [(f.name, f.of, network.parents[f.name]) for f in network.feedbacks] == [
        ("from_one", "input", ("one",)),
        ("from_two", "one", ("two",)),
    ]
    x = images(16)
    np.testing.assert_array_equal(fx.predict(network, x), fx.predict(plain, x))
    learner = fx.Learner(fx.Equilibrium(fx.GaussNewton(0), output_precision=1.0), 1e-2)
    state, trained = learner.begin(network), network
    update = eqx.filter_jit(learner.update)
    for step in range(60):
        trained, state, report = update(trained, state, {"input": x}, jax.random.key(step))
    for before, after in zip(plain.entries, trained.entries, strict=True):
        assert eqx.tree_equal(before, after)
    first = fx.infer(fx.Problem(network, {"input": x}), fx.GaussNewton(0)).energy
    assert report.energy.sum() < 0.5 * first.sum()


def test_feedbacks_are_refused_where_they_have_nothing_to_predict():
    with pytest.raises(ValueError, match="'input' reads nothing"):
        fx.models.with_feedbacks(small_cnn(), names=["input"], key=KEY)
    deep = fx.models.mlp(4, 2, width=3, depth=4, key=KEY)
    with pytest.raises(ValueError, match="'hidden' is a stack"):
        fx.models.with_feedbacks(deep, key=KEY)
    network = fx.models.with_feedbacks(small_cnn(), key=KEY)
    with pytest.raises(ValueError, match="'from_one' of a feedback is used twice"):
        fx.models.with_feedbacks(network, key=KEY)
