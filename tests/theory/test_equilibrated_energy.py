"""The equilibrated energy: closed form, relaxation, finite differences and hand-worked values."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import fathomx as fx
import fathomx.layers
from fathomx.layers.parameterization import Role

pytestmark = pytest.mark.usefixtures("float64")

PARAMETERIZATIONS = {"Standard": fx.Standard(), "NTK": fx.NTK(), "MuPC": fx.MuPC()}


def chain(parameterization, **options):
    options = {"activation": "linear", **options}
    return fx.models.mlp(
        5, 3, width=6, depth=5, parameterization=parameterization, key=jax.random.key(3), **options
    )


def residual(parameterization):
    return fx.models.residual_mlp(
        5,
        3,
        width=6,
        depth=7,
        activation="linear",
        parameterization=parameterization,
        key=jax.random.key(4),
    )


def convolutional(parameterization):
    return fx.models.vgg(
        5,
        width=1 / 32,
        classes=3,
        image_shape=(16, 16, 2),
        activation="linear",
        pool="average",
        parameterization=parameterization,
        key=jax.random.key(5),
    )


class Block(eqx.Module):
    """`z + a W * z`: a convolution beside an identity skip."""

    convolution: fathomx.layers.Convolution

    def __call__(self, image):
        return image + self.convolution(image)


class Readout(eqx.Module):
    """A linear map of the channels' means."""

    linear: fathomx.layers.Linear

    def __call__(self, image):
        return self.linear(image.mean(axis=(0, 1)))


def residual_convolutional(parameterization, size=8, width=4, blocks=3, outputs=3):
    stem, hidden, last = jax.random.split(jax.random.key(6), 3)
    depth = blocks + 2

    @eqx.filter_vmap
    def block(key):
        make = parameterization.convolution
        return Block(make(Role.RESIDUAL, (width, width), 3, width, depth, key))

    first = parameterization.convolution(Role.INPUT, (2, width), 3, width, depth, stem)
    readout = parameterization.linear(Role.OUTPUT, (width, outputs), width, depth, last)
    nodes = [
        fx.Node("stem", first),
        fx.Stack("hidden", block(jax.random.split(hidden, blocks))),
        fx.Node("output", Readout(readout)),
    ]
    return fx.Network(nodes, (size, size, 2))


MODELS = {
    "chain": chain,
    "residual": residual,
    "convolutional": convolutional,
    "residual convolutional": residual_convolutional,
}


def data(network, batch=4):
    x = jax.random.normal(jax.random.key(0), (batch, *network.input_shape))
    return x, jax.random.normal(jax.random.key(1), (batch, *network.output_shape))


def largest(tree):
    return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


def difference(a, b):
    return largest(jax.tree.map(jnp.subtract, a, b)) / largest(b)


@eqx.filter_jit
def gradient(network, x, y, precision):
    learned, rest = fx.split(network)

    def energy(weights):
        whole = eqx.combine(weights, rest)
        found = fx.theory.equilibrated_energy(whole, x, y, output_precision=precision)
        return found.energy

    return jax.grad(energy)(learned)


# One parameterization for each model is enough for every day.
DAILY = {("chain", "NTK"), ("residual", "MuPC"), ("residual convolutional", "Standard")}
CASES = [
    pytest.param(m, p, marks=[] if (m, p) in DAILY else [pytest.mark.slow])
    for m in MODELS
    for p in PARAMETERIZATIONS
]


@pytest.mark.parametrize(("model", "parameterization"), CASES)
def test_it_is_the_relaxed_energy_and_its_gradient_that_of_predictive_coding(
    model, parameterization
):
    network = MODELS[model](PARAMETERIZATIONS[parameterization])
    x, y = data(network)
    for precision in (0.1, 1.0, 10.0):
        problem = fx.Problem(network, x, y, precision)
        relaxed = fx.infer(problem, fx.Newton(tolerance=1e-12))
        found = fx.theory.equilibrated_energy(network, x, y, output_precision=precision)
        assert found.relaxation is None
        np.testing.assert_allclose(found.energy, relaxed.energy.sum(), rtol=1e-9)
        np.testing.assert_allclose(found.energies.mean(), found.energy, rtol=1e-14)
        np.testing.assert_allclose(found.prediction, fx.predict(network, x), rtol=1e-12)
        own = gradient(network, x, y, jnp.asarray(precision))
        learned = fx.weight_gradient(problem, relaxed.activities)
        assert difference(own, learned) < 1e-8


def test_the_worked_example():
    network = fx.models.mlp(1, 1, width=1, depth=2, activation="linear", key=jax.random.key(0))
    network = eqx.tree_at(
        lambda n: (n.entries[1].function.weight, n.entries[2].function.linear.weight),
        network,
        (jnp.array([[2.0]]), jnp.array([[3.0]])),
    )
    found = fx.theory.equilibrated_energy(network, [[1.0]], [[1.0]])
    np.testing.assert_allclose(found.rescaling, [[10.0]])
    np.testing.assert_allclose(found.energy, 1.25)
    np.testing.assert_allclose(found.prediction, [[6.0]])
    assert found.describe() == "equilibrated energy 1.25, in closed form"


def test_the_rescaling_matrix_multiplied_out_with_precisions():
    network = chain(fx.NTK())
    first, hidden, last = network.entries[1:]
    network = fx.Network(
        [
            fx.Node("first", first.function, energy=fx.Gaussian(2.0)),
            fx.Stack("hidden", hidden.block, energy=fx.Gaussian(0.5)),
            fx.Node("output", last.function, energy=fx.Gaussian(4.0)),
        ],
        (5,),
    )
    layers = [np.asarray(w) / np.sqrt(6) for w in hidden.block.linear.weight]
    layers.append(np.asarray(last.function.linear.weight) / np.sqrt(6))
    downstream, expected = np.eye(3), np.eye(3) / 4
    for matrix, precision in zip(reversed(layers), (0.5, 0.5, 0.5, 2.0), strict=True):
        downstream = downstream @ matrix
        expected += downstream @ downstream.T / precision
    found = fx.theory.rescaling(network)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    for chunk in (1, 2, 100):
        np.testing.assert_allclose(fx.theory.rescaling(network, chunk=chunk), expected, rtol=1e-12)
    other = fx.theory.rescaling(network, output_precision=0.1)
    np.testing.assert_allclose(other, expected + np.eye(3) * (10 - 0.25), rtol=1e-12)


def test_nonlinear_networks_are_relaxed_and_their_derivatives_are_those_of_the_minimum():
    network = fx.models.mlp(3, 2, width=4, depth=3, activation="tanh", key=jax.random.key(7))
    x, y = data(network, batch=3)
    problem = fx.Problem(network, x, y)
    relaxed = fx.infer(problem, fx.Newton(tolerance=1e-10))
    found = fx.theory.equilibrated_energy(network, x, y)
    assert found.rescaling is None and float(found.relaxation.unsettled.max()) < 1e-9
    assert "relative gradient norm" in found.describe()
    np.testing.assert_allclose(found.energy, relaxed.energy.sum(), rtol=1e-12)
    own = gradient(network, x, y, 1.0)
    assert difference(own, fx.weight_gradient(problem, relaxed.activities)) < 1e-8

    # The gradient at displaced weights, relaxed anew, against the Hessian at these.
    objective = fx.theory.EquilibratedEnergy(x, y)
    learned, rest = fx.split(network)
    flat, unflatten = ravel_pytree(learned)
    direction = jax.random.normal(jax.random.key(8), flat.shape)
    there = [
        fx.theory.gradient(objective, eqx.combine(unflatten(flat + s * direction), rest))
        for s in (1e-5, -1e-5)
    ]
    bent = fx.theory.hessian(objective, network) @ direction
    np.testing.assert_allclose(bent, (there[0] - there[1]) / 2e-5, rtol=1e-5, atol=1e-6)


def test_a_solver_that_is_given_is_used_and_its_certificate_told():
    network = chain(fx.Standard())
    x, y = data(network)
    found = fx.theory.equilibrated_energy(network, x, y, solver=fx.GaussNewton(1, 2))
    assert found.rescaling is None and found.relaxation is not None
    exact = fx.theory.equilibrated_energy(network, x, y)
    # Whatever is left of the gradient is removed by one Newton step, exact for a quadratic.
    np.testing.assert_allclose(found.energy, exact.energy, rtol=1e-12)


def test_categorical_outputs_are_relaxed():
    network = chain(fx.Standard(), output=fx.Categorical())
    x, _ = data(network)
    labels = jnp.array([0, 2, 1, 1])
    found = fx.theory.equilibrated_energy(network, x, labels)
    relaxed = fx.infer(fx.Problem(network, x, labels), fx.Newton(tolerance=1e-10))
    np.testing.assert_allclose(found.energy, relaxed.energy.sum(), rtol=1e-12)


def test_what_has_no_closed_form_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r"rescaling matrix needs a network that is linear"):
        fx.theory.rescaling(chain(fx.Standard(), activation="tanh"))
    with pytest.raises(ValueError, match=r"needs a Gaussian output, not Categorical"):
        fx.theory.rescaling(chain(fx.Standard(), output=fx.Categorical()))
    huge = jax.tree.map(lambda a: a * 1e100 if eqx.is_array(a) else a, chain(fx.Standard()))
    with pytest.raises(ValueError, match=r"rescaling matrix is not finite: the weights are too"):
        fx.theory.rescaling(huge)
    with pytest.raises(ValueError, match=r"is not finite"):
        fx.theory.equilibrated_energy(huge, *data(huge))
