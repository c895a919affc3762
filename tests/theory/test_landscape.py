"""Hessians in the weights and known saddles, against closed forms and dense decompositions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import fathomx as fx
from fathomx import theory

pytestmark = pytest.mark.usefixtures("float64")

D, WIDTH, OUT, BATCH = 4, 3, 2, 9


def data():
    x = jax.random.normal(jax.random.key(0), (BATCH, D))
    return x, jax.random.normal(jax.random.key(1), (BATCH, OUT))


def network(depth, activation="linear", **options):
    options = {"width": WIDTH, "key": jax.random.key(depth), **options}
    return fx.models.mlp(D, OUT, depth=depth, activation=activation, **options)


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_the_origin_is_degenerate_for_the_loss_and_strict_at_equilibrium(depth):
    x, y = data()
    origin = theory.origin(network(depth))
    loss = theory.spectrum(theory.Loss(x, y), origin)
    assert np.abs(theory.hessian(theory.Loss(x, y), origin)).max() <= 1e-12
    assert loss.verdict == "non-strict" and loss.gradient_norm <= 1e-12
    assert loss.negative_count == 0 == loss.negative_mass

    found = theory.spectrum(theory.EquilibratedEnergy(x, y), origin)
    second_moments = np.linalg.eigvalsh(np.asarray(y.T @ y / BATCH))
    np.testing.assert_allclose(found.smallest, -second_moments[-1], rtol=1e-9)
    assert np.sum(np.abs(found.eigenvalues - found.smallest) < 1e-9) == WIDTH
    assert found.verdict == "strict"
    # The last layer's block is -(mean y y^T) (x) I, everything else is zero.
    np.testing.assert_allclose(found.negative_mass, WIDTH * second_moments.sum(), rtol=1e-9)
    assert found.negative_count == WIDTH * OUT


def test_the_origin_of_two_layers_is_strict_for_both():
    """With `W_1 = W_2 = 0` the only second derivatives are

        d2L / dW_2[a, j] dW_1[j, b] = -(mean y x^T)[a, b],    and for F* also
        d2F* / dW_2[a, j] dW_2[b, j] = -lambda^2 (mean y y^T)[a, b]

    for every hidden unit `j`; the former is scaled with lambda for both.
    """
    x, y = data()
    precision = 0.7
    origin = theory.origin(network(2))
    cross = -precision * np.asarray(y.T @ x / BATCH)
    corner = -(precision**2) * np.asarray(y.T @ y / BATCH)
    for objective, block in (
        (theory.Loss(x, y, precision), np.zeros((OUT, OUT))),
        (theory.EquilibratedEnergy(x, y, precision), corner),
    ):
        unit = np.block([[np.zeros((D, D)), cross.T], [cross, block]])
        expected = np.sort(np.tile(np.linalg.eigvalsh(unit), WIDTH))
        found = theory.spectrum(objective, origin)
        np.testing.assert_allclose(found.eigenvalues, expected, atol=1e-12)
        assert found.verdict == "strict"


@pytest.mark.parametrize("activation", ["linear", "tanh"])
@pytest.mark.parametrize("seed", range(3))
def test_rank_zero_saddles(activation, seed):
    x, y = data()
    for kept in ("first", "hidden[0]", "hidden[1]"):
        drawn = network(4, activation, key=jax.random.key(seed))
        saddle = theory.rank_zero(drawn, kept)
        learned = jax.tree.leaves(fx.weights(saddle))
        # All weights but those of one node, D x WIDTH or WIDTH x WIDTH, are zero.
        size = WIDTH * (D if kept == "first" else WIDTH)
        assert sum(int((leaf != 0).sum()) for leaf in learned) == size
        loss = theory.spectrum(theory.Loss(x, y), saddle)
        found = theory.spectrum(theory.EquilibratedEnergy(x, y), saddle)
        assert (loss.verdict, found.verdict) == ("non-strict", "strict")


def test_with_two_layers_of_zeros_the_loss_is_strict_too():
    """A counter-example to "rank-zero saddles are not strict": three layers, one of them kept."""
    x, y = data()
    saddle = theory.rank_zero(network(3), "hidden[0]")
    middle = np.asarray(network(3).entries[2].block.linear.weight[0])
    cross = np.asarray(-(y.T @ x) / BATCH)
    # d2L / dW_3[a, i] dW_1[j, b] = -(mean y x^T)[a, b] W_2[i, j]: singular values multiply.
    size = np.outer(np.linalg.svd(cross)[1], np.linalg.svd(middle)[1]).max()
    found = theory.spectrum(theory.Loss(x, y), saddle)
    np.testing.assert_allclose([found.smallest, found.largest], [-size, size], rtol=1e-9)
    assert found.verdict == "strict"


@pytest.mark.parametrize("parameterization", [fx.Standard(), fx.NTK()])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_rank_r_saddles_predict_best_at_their_rank(parameterization, rank):
    x, y = data()
    drawn = network(4, parameterization=parameterization)
    saddle = theory.rank_r(drawn, x, y, rank)
    best = np.asarray(x) @ np.linalg.lstsq(np.asarray(x), np.asarray(y), rcond=None)[0]
    u, s, v = np.linalg.svd(best, full_matrices=False)
    np.testing.assert_allclose(
        fx.predict(saddle, x), (u[:, :rank] * s[:rank]) @ v[:rank], atol=1e-10
    )
    loss = theory.Loss(x, y)
    assert np.abs(theory.gradient(loss, saddle)).max() < 1e-12
    # Four layers: what could raise the rank is a product of at least three zero blocks.
    assert theory.spectrum(loss, saddle).verdict == "non-strict"


def test_a_point_that_is_not_critical_is_said_to_be_none():
    x, y = data()
    assert theory.spectrum(theory.Loss(x, y), network(3)).verdict == "not critical"


def test_lanczos_finds_the_extremes_of_the_dense_hessian():
    x = jax.random.normal(jax.random.key(2), (3, 25))
    y = jax.random.normal(jax.random.key(3), (3, 5))
    for objective, activation in (
        (theory.Loss(x, y), "tanh"),
        (theory.EquilibratedEnergy(x, y), "linear"),
    ):
        drawn = fx.models.mlp(
            25, 5, width=25, depth=4, activation=activation, key=jax.random.key(0)
        )
        dense = theory.spectrum(objective, drawn)
        free = theory.spectrum(objective, drawn, dense_up_to=0)
        assert dense.size == 2000 and free.eigenvalues is None
        np.testing.assert_allclose(
            [free.smallest, free.largest], [dense.smallest, dense.largest], rtol=1e-6
        )
        np.testing.assert_allclose(abs(free.direction @ dense.direction), 1, rtol=1e-5)
        negative = dense.eigenvalues[dense.eigenvalues < -free.threshold]
        np.testing.assert_allclose(free.negative_mass, -negative.sum(), rtol=0.2)
        np.testing.assert_allclose(free.negative_count, negative.size, rtol=0.2)


def test_the_matrix_free_spectrum_of_nothing_is_zero():
    x, y = data()
    found = theory.spectrum(theory.Loss(x, y), theory.origin(network(4)), dense_up_to=0)
    assert (found.smallest, found.largest, found.negative_count) == (0, 0, 0)
    assert found.verdict == "non-strict"


def test_lanczos_is_the_tridiagonal_matrix_of_the_krylov_space():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(6, 6))
    matrix = matrix + matrix.T
    start = rng.normal(size=6)
    diagonal, beside = theory.lanczos(lambda v: matrix @ v, jnp.asarray(start), 6)
    ritz, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    values, own = np.linalg.eigh(matrix)
    np.testing.assert_allclose(ritz, values, atol=1e-12)
    np.testing.assert_allclose(vectors[0] ** 2, (own.T @ start) ** 2 / (start @ start), atol=1e-12)
    # A start within an invariant subspace ends early.
    diagonal, beside = theory.lanczos(lambda v: matrix @ v, jnp.asarray(own[:, 2]), 6)
    np.testing.assert_allclose(diagonal, values[2:3])
    assert beside.size == 0


def test_products_are_those_of_the_dense_hessian():
    x, y = data()
    drawn = network(3, "tanh")
    for objective in (theory.Loss(x, y), theory.EquilibratedEnergy(x, y)):
        product, size = theory.hessian_product(objective, drawn)
        vector = jax.random.normal(jax.random.key(5), (size,))
        dense = theory.hessian(objective, drawn)
        np.testing.assert_allclose(product(vector), dense @ vector, atol=1e-12)


def test_the_hessian_of_the_loss_is_that_of_jax():
    x, y = data()
    drawn = network(3, "tanh")
    learned, rest = fx.split(drawn)
    flat, unflatten = ravel_pytree(learned)

    def loss(vector):
        residual = y - fx.predict(eqx.combine(unflatten(vector), rest), x)
        return 0.5 * jnp.mean(jnp.sum(residual**2, axis=1))

    found = theory.hessian(theory.Loss(x, y), drawn)
    np.testing.assert_allclose(found, jax.hessian(loss)(flat), atol=1e-12)
    np.testing.assert_allclose(
        theory.gradient(theory.Loss(x, y), drawn), jax.grad(loss)(flat), atol=1e-12
    )


def test_a_plane_of_a_chain_of_two_units_by_hand():
    """`x = y = 1`: L = (1 - b a)^2 / 2 and F* = (1 - b a)^2 / (2 (1 + b^2))."""
    chain = fx.models.mlp(1, 1, width=1, depth=2, activation="linear", key=jax.random.key(0))
    origin, one = theory.origin(chain), jnp.ones((1, 1))
    axes = (jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))
    a, b = np.meshgrid(np.linspace(-2, 2, 5), np.linspace(-2, 2, 5))
    loss = theory.plane(theory.Loss(one, one), origin, axes, radius=2.0, points=5)
    np.testing.assert_allclose(loss.first, a[0])
    np.testing.assert_allclose(loss.values, (1 - a * b) ** 2 / 2)
    found = theory.plane(theory.EquilibratedEnergy(one, one), origin, axes, radius=2.0, points=5)
    np.testing.assert_allclose(found.values, (1 - a * b) ** 2 / 2 / (1 + b**2))


def test_nearby_is_noise_of_that_size():
    big = network(3, width=200)
    beside = theory.nearby(theory.origin(big), 5e-3, jax.random.key(0))
    flat, _ = ravel_pytree(fx.weights(beside))
    np.testing.assert_allclose(np.asarray(flat).std(), 5e-3, rtol=0.02)
    same = theory.nearby(big, 0.0, jax.random.key(0))
    assert jnp.array_equal(ravel_pytree(fx.weights(same))[0], ravel_pytree(fx.weights(big))[0])


def test_mistakes_are_one_sentence():
    x, y = data()
    drawn = network(4)
    with pytest.raises(ValueError, match=r"unknown node 'hiden\[0\]'. Did you mean 'hidden\[0\]'"):
        theory.rank_zero(drawn, "hiden[0]")
    with pytest.raises(ValueError, match=r"rank must lie in 0\.\.2"):
        theory.rank_r(drawn, x, y, 3)
    for other in (
        network(4, "tanh"),
        fx.models.residual_mlp(
            D, OUT, width=WIDTH, depth=4, activation="linear", key=jax.random.key(0)
        ),
    ):
        with pytest.raises(ValueError, match="rank-r saddles are known for linear chains"):
            theory.rank_r(other, x, y, 1)
    with pytest.raises(ValueError, match=r"the Hessian of 36 weights"):
        theory.hessian(theory.Loss(x, y), drawn, most_bytes=100)
    with pytest.raises(ValueError, match="tolerance must lie between 0 and 1"):
        theory.spectrum(theory.Loss(x, y), drawn, tolerance=1.5)
    with pytest.raises(ValueError, match="the directions have shapes"):
        theory.plane(theory.Loss(x, y), drawn, (jnp.ones(2), jnp.ones(2)))
    huge = jax.tree.map(lambda a: a * 1e200 if eqx.is_array(a) else a, drawn)
    for dense_up_to in (0, 100):
        with pytest.raises(ValueError, match="the Hessian is not finite here"):
            theory.spectrum(theory.Loss(x, y), huge, dense_up_to=dense_up_to)
