"""Multipliers, initial sizes and learning-rate scales against the published table."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.layers.parameterization import Role, Scaling

D, N, L = 784, 64, 20
MODELS = {"plain": fx.models.mlp, "residual": fx.models.residual_mlp}

# Multipliers of the first, a hidden and the last layer, by parameterization and model.
MULTIPLIERS = {
    ("Standard", "plain"): (1, 1, 1),
    ("Standard", "residual"): (1, 1, 1),
    ("NTK", "plain"): (1 / math.sqrt(D), 1 / math.sqrt(N), 1 / math.sqrt(N)),
    ("NTK", "residual"): (1 / math.sqrt(D), 1 / math.sqrt(N), 1 / math.sqrt(N)),
    ("MuPC", "plain"): (1 / math.sqrt(D), 1 / math.sqrt(N), 1 / N),
    ("MuPC", "residual"): (1 / math.sqrt(D), 1 / math.sqrt(N * L), 1 / N),
}
# Learning-rate scales under Adam.
RATES = {
    "Standard": dict.fromkeys(MODELS, (1, 1, 1)),
    "NTK": dict.fromkeys(MODELS, (1, 1, 1)),
    "MuPC": {
        "plain": (1 / math.sqrt(N),) * 3,
        "residual": (1 / math.sqrt(N), 1 / math.sqrt(N * L), 1 / math.sqrt(N)),
    },
}


def layers(network):
    """The linear layers: first, hidden (stacked), last."""
    first, hidden, last = network.entries[1:]
    dense = hidden.block.branch if hasattr(hidden.block, "branch") else hidden.block
    return first.function, dense.linear, last.function.linear


@pytest.mark.parametrize(("name", "model"), MULTIPLIERS)
def test_the_table(name, model):
    network = MODELS[model](
        D, 10, width=N, depth=L, parameterization=getattr(fx, name)(), key=jax.random.key(0)
    )
    assert network.depth == L
    found = layers(network)
    assert [w.weight.shape for w in found] == [(N, D), (L - 2, N, N), (10, N)]
    np.testing.assert_allclose([w.multiplier for w in found], MULTIPLIERS[name, model], rtol=1e-12)
    np.testing.assert_allclose(
        [w.learning_rate_scale for w in found], RATES[name][model], rtol=1e-12
    )
    fan_in = (D, N, N)
    for layer, size in zip(found, fan_in, strict=True):
        expected = 1 / math.sqrt(size) if name == "Standard" else 1.0
        values = np.asarray(layer.weight).ravel()
        # Five standard errors of the mean and of the standard deviation of a normal sample.
        assert abs(values.mean()) < 5 * expected / math.sqrt(values.size)
        assert abs(values.std() / expected - 1) < 5 / math.sqrt(2 * values.size)


def test_gamma_scales_the_readout_alone():
    one, four = (
        fx.models.residual_mlp(
            8, 2, width=4, depth=4, parameterization=fx.MuPC(gamma_0=g), key=jax.random.key(0)
        )
        for g in (1.0, 4.0)
    )
    ratios = [b.multiplier / a.multiplier for a, b in zip(layers(one), layers(four), strict=True)]
    np.testing.assert_allclose(ratios, [1, 1, 0.25], rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.nan, math.inf])
def test_gamma_is_positive(gamma):
    with pytest.raises(ValueError, match="gamma_0"):
        fx.MuPC(gamma_0=gamma)


def test_the_rate_of_the_ends_replaces_theirs_alone():
    published, fixed = (
        {role: given.scaling(role, 27, N, L) for role in Role}
        for given in (fx.MuPC(), fx.MuPC(end_rate=0.25))
    )
    ends = {Role.INPUT, Role.EMBEDDING, Role.NORMALIZATION, Role.OUTPUT}
    for role in Role:
        expected = published[role]._replace(learning_rate=0.25) if role in ends else published[role]
        assert fixed[role] == expected
    with pytest.raises(ValueError, match="end_rate must be a positive, finite number, not 0"):
        fx.MuPC(end_rate=0.0)


def test_layers_of_a_network_are_independent():
    network = fx.models.mlp(6, 6, width=6, depth=5, key=jax.random.key(0))
    first, hidden, last = layers(network)
    drawn = [first.weight, *hidden.weight, last.weight]
    for i, one in enumerate(drawn):
        for other in drawn[i + 1 :]:
            assert not np.allclose(one, other)


def test_the_same_key_gives_the_same_network():
    one, again, other = (
        fx.models.mlp(3, 2, width=4, depth=4, key=jax.random.key(k)) for k in (0, 0, 1)
    )
    assert eqx.tree_equal(one, again)
    assert not eqx.tree_equal(one, other)


class Halved(fx.Parameterization):
    """A user's own (a, b, c)."""

    def scaling(self, role, fan_in, width, depth):
        return Scaling(0.5 if role is Role.HIDDEN else 2.0, 0.0, float(depth))


def test_a_parameterization_of_ones_own():
    network = fx.models.mlp(
        3, 2, width=4, depth=6, parameterization=Halved(), key=jax.random.key(0)
    )
    assert [w.multiplier for w in layers(network)] == [2.0, 0.5, 2.0]
    assert [w.learning_rate_scale for w in layers(network)] == [6.0] * 3
    assert all((np.asarray(w.weight) == 0).all() for w in layers(network))


ROLES = tuple(Role)
SIZES = [(784, 64, 20), (27, 16, 11), (1, 512, 128)]


def half(**exponents):
    return fx.Power(**dict.fromkeys(exponents, -0.5))


@pytest.mark.parametrize("sizes", SIZES)
def test_the_general_form_contains_the_named_ones(sizes):
    """The published tables, written as power laws."""
    inward, rate = fx.Power(fan_in=-0.5), fx.Power(width=-0.5)
    tables = {
        fx.Standard(): {
            **{role: (1, inward, 1) for role in ROLES},
            "attention": (inward, inward, 1),
        },
        fx.NTK(): {role: (inward, 1, 1) for role in ROLES},
        fx.MuPC(gamma_0=4.0): {
            "input": (inward, 1, rate),
            "hidden": (inward, 1, rate),
            "residual": (
                fx.Power(fan_in=-0.5, depth=-0.5),
                1,
                fx.Power(width=-0.5, depth=-0.5),
            ),
            "output": (fx.Power(0.25, fan_in=-1), 1, rate),
            "embedding": (1, 0.02, rate),
            "attention": (fx.Power(fan_in=-1), 1, rate),
            "branch": (fx.Power(depth=-1), 1, rate),
            "normalization": (inward, 1, rate),
        },
    }
    for named, table in tables.items():
        # Roles may be given by name or as themselves, the later entry of a role counting.
        general = fx.ABC({Role(r) if isinstance(r, str) else r: p for r, p in table.items()})
        for role in ROLES:
            np.testing.assert_allclose(
                general.scaling(role, *sizes), named.scaling(role, *sizes), rtol=1e-12
            )


def test_the_general_form_builds_a_network():
    table = {
        "input": (fx.Power(fan_in=-1), 2.0, 0.5),
        "hidden": (3.0, 0, fx.Power(2.0, width=1, depth=-1)),
        "output": (1, 1, 1),
    }
    network = fx.models.mlp(
        8, 2, width=4, depth=10, parameterization=fx.ABC(table), key=jax.random.key(0)
    )
    assert [w.multiplier for w in layers(network)] == [0.125, 3.0, 1.0]
    assert [w.learning_rate_scale for w in layers(network)] == [0.5, 0.8, 1.0]
    assert (np.asarray(layers(network)[1].weight) == 0).all()
    # Immutable and comparable, as networks that are compiled once must be.
    assert fx.ABC(table) == fx.ABC(dict(table)) and hash(fx.ABC(table)) == hash(fx.ABC(table))


def test_the_general_form_refuses_what_it_cannot_mean():
    table = {"input": (1, 1, 1), "hidden": (1, 1, 1), "output": (1, 1, 1)}
    sentence = "ABC does not know the role 'residual', only input, hidden, output: add 'residual'"
    with pytest.raises(ValueError, match=sentence):
        fx.models.residual_mlp(
            3, 2, width=4, depth=4, parameterization=fx.ABC(table), key=jax.random.key(0)
        )
    with pytest.raises(ValueError, match=r"unknown role 'hiden'\. Did you mean 'hidden'"):
        fx.ABC({"hiden": (1, 1, 1)})
    with pytest.raises(ValueError, match="'hidden' has 2 entries, not 3"):
        fx.ABC({"hidden": (1, 1)})
    with pytest.raises(ValueError, match="fan_in must be a finite number, not inf"):
        fx.Power(fan_in=math.inf)
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="'hidden'"):
            fx.ABC({"hidden": (1, wrong, 1)})


def rms(array, axis=None):
    return np.sqrt((np.asarray(array) ** 2).mean(axis))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_activities_keep_their_size_under_mupc(model, activation):
    """Sizes relative to the first layer's, from width 64 to 512 and depth 4 to 64.

    Skips: every block adds at most 1/L of the variance, a factor below e in all; the product of
    signal and branch fluctuates by 2/sqrt(N) in total. Without skips the logarithm of the norm of
    a product of l Gaussian matrices drifts by -l/2N and fluctuates by sqrt(l/2N), and tanh may
    shrink it further. Four standard deviations are allowed.
    """
    unroll = eqx.filter_jit(lambda network, x: network.unroll(None, x))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 64)))
    for width in (64, 512):
        for depth in (4, 64):
            network = MODELS[model](
                64,
                10,
                width=width,
                depth=depth,
                activation=activation,
                parameterization=fx.MuPC(),
                key=jax.random.key(0),
            )
            z = unroll(network, x)
            first = rms(z["first"], axis=-1)
            np.testing.assert_allclose(first, rms(x, axis=-1), rtol=4 / math.sqrt(2 * width))
            logs = np.log(rms(z["hidden"], axis=-1) / first)
            if model == "residual":
                assert logs.min() > -4 / math.sqrt(width)
                assert logs.max() < 0.5 + 4 / math.sqrt(width)
            else:
                layers = np.arange(1, depth - 1)[:, None]
                slack = layers / (2 * width) + 4 * np.sqrt(layers / (2 * width))
                assert (logs < slack).all()
                if activation == "linear":
                    assert (logs > -slack).all()
            # The readout divides by the width once more than is needed for size one.
            last = z["hidden"][-1] if activation == "linear" else np.tanh(z["hidden"][-1])
            assert 0.3 < math.sqrt(width) * rms(z["output"]) / rms(last) < 2
