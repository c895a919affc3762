"""The transformer: causality, plain numpy, scalings, inference, learning, generation, training."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import erf

import fathomx as fx
from fathomx.data import Part, Text
from fathomx.graph.smoothness import has_kinks, is_linear
from fathomx.layers.normalization import LayerNorm
from fathomx.layers.parameterization import Role, Scaling
from fathomx.layers.scaled import Embedding

VOCABULARY, CONTEXT, WIDTH, DEPTH, HEADS = 7, 5, 8, 3, 2
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, VOCABULARY, (4, CONTEXT))
LABELS = RANDOM.integers(0, VOCABULARY, (4, CONTEXT))


# Compiled once for all tests that take the same kind of network.
predict = eqx.filter_jit(fx.predict)


def exact_gelu(x):
    return jax.nn.gelu(x, approximate=False)


def tiny(seed=0, **changes):
    choices = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "key": jax.random.key(seed)}
    return fx.models.transformer(VOCABULARY, CONTEXT, **{**choices, **changes})


def plain_transformer(network, tokens, normalized, factors):
    """The definition by loops over examples, blocks, heads and positions, in numpy."""

    def values(map):
        return map.multiplier * np.asarray(map.weight)

    def norm(z):
        if not normalized:
            return z
        return np.stack([(row - row.mean()) / np.sqrt(row.var() + 1e-5) for row in z])

    embedding, stack, output = network.entries[1:]
    block, (logit, branch) = stack.block, factors
    size = WIDTH // HEADS
    logits = []
    for row in tokens:
        table, places = values(embedding.function.tokens), values(embedding.function.positions)
        z = np.stack([table[token] + places[t] for t, token in enumerate(row)])
        for layer in range(DEPTH):
            names = ("query", "key", "value", "output")
            q, k, v, o = (values(getattr(block.attention, name))[layer] for name in names)
            seen = norm(z)
            mixed = np.zeros((CONTEXT, WIDTH))
            for h in range(HEADS):
                part = slice(h * size, (h + 1) * size)
                for t in range(CONTEXT):
                    scores = [
                        logit * (q[part] @ seen[t]) @ (k[part] @ seen[s]) for s in range(t + 1)
                    ]
                    weights = np.exp(scores) / np.exp(scores).sum()
                    mixed[t, part] = sum(w * (v[part] @ seen[s]) for s, w in enumerate(weights))
            z = z + branch * mixed @ o.T
            inner = norm(z) @ values(block.feed_forward.expand)[layer].T
            inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
            z = z + branch * inner @ values(block.feed_forward.contract)[layer].T
        logits.append(norm(z) @ values(output.function.linear).T)
    return np.stack(logits)


FACTORS = {
    "Standard": (1 / math.sqrt(WIDTH // HEADS), 1.0),
    "NTK": (1 / math.sqrt(WIDTH // HEADS), 1.0),
    "MuPC": (1 / (WIDTH // HEADS), 1 / DEPTH),
}


@pytest.mark.parametrize("normalization", [None, "layer"])
@pytest.mark.parametrize("name", FACTORS)
def test_the_prediction_against_plain_numpy(name, normalization, float64):
    network = tiny(
        parameterization=getattr(fx, name)(), normalization=normalization, activation=exact_gelu
    )
    expected = plain_transformer(network, TOKENS, normalization == "layer", FACTORS[name])
    found = predict(network, jnp.asarray(TOKENS))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_form():
    network = tiny()
    assert {n: v for n, v in network.shapes.items() if n != "input"} == {
        "embedding": (CONTEXT, WIDTH),
        "blocks": (DEPTH, CONTEXT, WIDTH),
        "output": (CONTEXT, VOCABULARY),
    }
    assert network.depth == DEPTH + 2 and network.input_dtype == jnp.int32
    assert isinstance(network.output.energy, fx.Categorical)
    assert eqx.tree_equal(network, tiny()) and not eqx.tree_equal(network, tiny(1))
    assert not is_linear(network)
    assert not has_kinks(tiny(normalization="layer"))


@pytest.mark.parametrize("normalization", [None, "layer"])
def test_no_output_depends_on_later_tokens(normalization):
    network = tiny(normalization=normalization)
    before = np.asarray(predict(network, jnp.asarray(TOKENS)))
    for t in range(CONTEXT):
        changed = TOKENS.copy()
        changed[:, t] = (changed[:, t] + 1) % VOCABULARY
        after = np.asarray(predict(network, jnp.asarray(changed)))
        assert (after[:, :t] == before[:, :t]).all()
        # And every output from there on does depend on it.
        assert (after[:, t:] != before[:, t:]).any(axis=-1).all()


N, L, H, V, C = 48, 5, 3, 400, 300
# Multiplier, initial standard deviation and learning-rate scale of the embeddings, of a map inside
# a branch with fan-in N, of one with fan-in 4N, and of the output.
TABLE = {
    "Standard": [
        (1, 1 / math.sqrt(2), 1),
        (1, 1 / math.sqrt(N), 1),
        (1, 1 / math.sqrt(4 * N), 1),
        (1, 1 / math.sqrt(N), 1),
    ],
    "NTK": [
        (1 / math.sqrt(2), 1, 1),
        (1 / math.sqrt(N), 1, 1),
        (1 / math.sqrt(4 * N), 1, 1),
        (1 / math.sqrt(N), 1, 1),
    ],
    "MuPC": [
        (1, 0.02, 1 / math.sqrt(N)),
        (1 / math.sqrt(N), 1, 1 / math.sqrt(N)),
        (1 / math.sqrt(4 * N), 1, 1 / math.sqrt(N)),
        (1 / N, 1, 1 / math.sqrt(N)),
    ],
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table(name):
    network = fx.models.transformer(
        V,
        C,
        width=N,
        depth=L,
        heads=H,
        parameterization=getattr(fx, name)(),
        key=jax.random.key(0),
    )
    embedding, stack, output = network.entries[1:]
    attention, feed_forward = stack.block.attention, stack.block.feed_forward
    groups = [
        [embedding.function.tokens, embedding.function.positions],
        [attention.query, attention.key, attention.value, attention.output, feed_forward.expand],
        [feed_forward.contract],
        [output.function.linear],
    ]
    for layers, (multiplier, initial, rate) in zip(groups, TABLE[name], strict=True):
        for layer in layers:
            assert layer.multiplier == pytest.approx(multiplier, rel=1e-12)
            assert layer.learning_rate_scale == pytest.approx(rate, rel=1e-12)
            drawn = np.asarray(layer.weight).ravel()
            # Five standard errors of the standard deviation of a normal sample.
            assert abs(drawn.std() / initial - 1) < 5 / math.sqrt(2 * drawn.size)
    muped = name == "MuPC"
    normalized = fx.models.transformer(
        V,
        C,
        width=N,
        depth=L,
        heads=H,
        normalization="layer",
        parameterization=getattr(fx, name)(),
        key=jax.random.key(0),
    )
    for norm in jax.tree.leaves(normalized, is_leaf=lambda part: isinstance(part, LayerNorm)):
        if isinstance(norm, LayerNorm):
            rate = 1 / math.sqrt(N) if muped else 1
            assert norm.learning_rate_scale == pytest.approx(rate, rel=1e-12)
    assert attention.scale == pytest.approx(H / N if muped else math.sqrt(H / N), rel=1e-12)
    assert stack.block.branch == pytest.approx(1 / L if muped else 1, rel=1e-12)


class Known(fx.Parameterization):
    """A user's own, with a branch for everything that it does not name."""

    def scaling(self, role, fan_in, width, depth):
        return Scaling(1.0, 0.1 if role is Role.OUTPUT else 0.2, 1.0)


class Extended(Known):
    roles = frozenset(Role)


def test_a_parameterization_that_does_not_know_a_role():
    with pytest.raises(ValueError, match=r"Known does not know the role 'attention'.*roles") as e:
        tiny(parameterization=Known())
    assert "only input, hidden, residual, output" in str(e.value)
    assert fx.models.mlp(3, 2, parameterization=Known(), key=jax.random.key(0)).depth == 3
    assert tiny(parameterization=Extended()).entries[2].block.branch == 1.0


def test_learning_rates_of_embeddings_are_scaled():
    network = tiny(parameterization=fx.MuPC())
    optimizer = fx.scale_learning_rates(optax.sgd(1.0))
    ones = jax.tree.map(jnp.ones_like, fx.weights(network))
    updates, _ = optimizer.update(ones, optimizer.init(ones), ones)
    for updated in jax.tree.leaves(updates):
        np.testing.assert_allclose(updated, -1 / math.sqrt(WIDTH), rtol=1e-6)


def test_a_token_without_a_vector_is_not_a_number():
    vectors = Embedding(jnp.arange(6.0).reshape(3, 2))(jnp.asarray([2, 3, -1, 0]))
    np.testing.assert_array_equal(vectors, [[4, 5], [math.nan] * 2, [math.nan] * 2, [0, 1]])


def test_tokens_outside_of_the_vocabulary_are_refused():
    network = tiny()
    good = np.zeros((2, CONTEXT), int)
    for bad, message in (
        (good + VOCABULARY, f"tokens run from {VOCABULARY} to {VOCABULARY}, but .* 0 to 6"),
        (good - 1, "tokens run from -1 to -1"),
        (good + 0.5, "tokens must be integers, not float32"),
    ):
        with pytest.raises(ValueError, match=message):
            fx.Problem(network, bad, good)
        with pytest.raises(ValueError, match=message):
            fx.predict(network, bad)


def test_layer_norm():
    activity = np.random.default_rng(0).normal(3, 2, (5, 16))
    found = np.asarray(LayerNorm(16)(jnp.asarray(activity)))
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=1), 1, rtol=1e-4)
    with pytest.raises(ValueError, match="LayerNorm of 4 channels"):
        LayerNorm(4)(jnp.ones(3))
    with pytest.raises(ValueError, match="at least one channel"):
        LayerNorm(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"heads": 3}, "3 heads cannot divide a width of 8"),
        ({"normalization": "batch"}, "unknown normalization 'batch'"),
        ({"activation": "gelo"}, "Did you mean 'gelu'"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_vocabulary_and_context_are_sizes():
    for vocabulary, context, message in ((1, 4, "vocabulary"), (4, 0, "context")):
        with pytest.raises(ValueError, match=message):
            fx.models.transformer(vocabulary, context, key=jax.random.key(0))


def test_newton_relaxes_and_gauss_newton_lowers_the_energy(float64):
    problem = fx.Problem(tiny(depth=1), TOKENS, LABELS, output_precision=0.1)
    begun = problem.output_precision * problem.loss(predict(problem.network, problem.input)).mean()
    lower = fx.infer(problem, fx.GaussNewton()).energy.sum()
    relaxed = fx.infer(problem, fx.Newton(tolerance=1e-3))
    assert relaxed.unsettled.max() <= 1e-3
    assert relaxed.energy.sum() < lower < begun
    # The certificate, from the gradient of the energy that the activities themselves give.
    hidden = problem.select(relaxed.activities)
    gradient = jax.jit(jax.grad(lambda z: fx.energy(problem, z).sum()))(hidden)
    assert max(float(jnp.abs(g).max()) for g in gradient.values()) < 1e-3


def test_weight_gradients_tend_to_those_of_the_loss(float64):
    weights, rest = fx.split(tiny(depth=1))

    @jax.jit
    @jax.grad
    def gradient(weights):
        logits = fx.predict(eqx.combine(weights, rest), TOKENS)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), LABELS[..., None], axis=-1)
        return -chosen.sum() / len(TOKENS)

    expected = jax.tree.leaves(gradient(weights))
    size = math.sqrt(sum(float((leaf**2).sum()) for leaf in expected))
    solver, off = fx.GaussNewton(), []
    local = eqx.filter_jit(fx.weight_gradient)
    for precision in (1e-6, 1e-7):
        problem = fx.Problem(tiny(depth=1), TOKENS, LABELS, output_precision=precision)
        relaxed = fx.infer(problem, solver)
        found = jax.tree.leaves(local(problem, relaxed.activities, relaxed.errors))
        pairs = zip(found, expected, strict=True)
        squares = sum(float(((f / precision - e) ** 2).sum()) for f, e in pairs)
        off.append(math.sqrt(squares) / size)
    # The distance is of first order in the output precision.
    assert off[1] < 1e-3
    assert off[0] / off[1] == pytest.approx(10, rel=0.1)


def greedy_by_hand(network, tokens, length):
    row = list(tokens)
    for _ in range(length):
        window = row[-CONTEXT:]
        padded = window + [0] * (CONTEXT - len(window))
        logits = np.asarray(predict(network, jnp.asarray([padded])))
        row.append(int(logits[0, len(window) - 1].argmax()))
    return row[len(tokens) :]


@pytest.mark.parametrize("count", [1, 3, 5, 9])
def test_generation_without_temperature_is_the_greedy_loop(count):
    network = tiny()
    given = np.random.default_rng(count).integers(0, VOCABULARY, (2, count))
    expected = [greedy_by_hand(network, row, 8) for row in given]
    found = fx.generate(network, given, 8, jax.random.key(0), temperature=0)
    assert found.tolist() == expected
    one = fx.generate(network, given[1], 8, jax.random.key(1), temperature=0.0)
    assert one.tolist() == expected[1]


def test_generation_draws_from_the_prediction():
    network, count, temperature = tiny(), 4000, 0.7
    given = np.tile(TOKENS[0, :3], (count, 1))
    drawn = fx.generate(network, given, 1, jax.random.key(0), temperature=temperature)
    padded = jnp.asarray([[*TOKENS[0, :3], 0, 0]])
    logits = np.asarray(predict(network, padded))[0, 2] / temperature
    expected = np.exp(logits) / np.exp(logits).sum()
    found = np.bincount(np.asarray(drawn)[:, 0], minlength=VOCABULARY) / count
    # Five standard errors of a frequency.
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / count) + 1e-3).all()
    again = fx.generate(network, given, 1, jax.random.key(0), temperature=temperature)
    other = fx.generate(network, given, 1, jax.random.key(1), temperature=temperature)
    assert (again == drawn).all() and not (other == drawn).all()


def test_what_generation_refuses():
    network, key = tiny(), jax.random.key(0)
    for tokens, message in (
        ([0, 7], "from 0 to 7, but the network's vocabulary has those from 0 to 6"),
        ([-1], "from -1 to -1"),
        ([], "at least one token"),
        ([[[1]]], "at least one token"),
        ([0.5], "must be integers"),
    ):
        with pytest.raises(ValueError, match=message):
            fx.generate(network, tokens, 2, key)
    with pytest.raises(ValueError, match="length must be an integer of at least 1"):
        fx.generate(network, [1], 0, key)
    for temperature in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature"):
            fx.generate(network, [1], 1, key, temperature=temperature)
    with pytest.raises(ValueError, match="generate needs integer tokens"):
        fx.generate(fx.models.mlp(3, 2, key=key), [1], 1, key)


@pytest.fixture(scope="module")
def counting():
    """Windows of the text 0123456 0123456 ...: the next token is the last one plus one."""

    def part(count):
        begins = np.arange(count)[:, None] + np.arange(CONTEXT)
        return Part(begins % VOCABULARY, (begins + 1) % VOCABULARY)

    return Text(
        "counting",
        train=part(256),
        validation=part(20),
        test=part(30),
        classes=VOCABULARY,
        vocabulary="0123456",
    )


RULES = {
    "equilibrium": fx.Equilibrium(fx.GaussNewton(), output_precision=0.1),
    "backprop": fx.Backprop(),
}


@pytest.mark.parametrize("name", RULES)
def test_fit_learns_to_count(name, counting):
    result = fx.fit(
        tiny(depth=1),
        counting,
        RULES[name],
        optimizer=optax.adam(1e-2, eps=1e-12),
        epochs=2,
        batch_size=16,
    )
    first, last = result.history
    uniform = math.log(VOCABULARY)
    assert last["validation_loss"] < first["validation_loss"] < uniform
    assert last["validation_loss"] < 0.3 * uniform
    # Loss and accuracy against their definitions.
    logits = np.asarray(predict(result.network, jnp.asarray(counting.test.inputs)), np.float64)
    chosen = np.take_along_axis(logits, counting.test.labels[..., None], axis=-1)[..., 0]
    loss = (np.log(np.exp(logits).sum(axis=-1)) - chosen).mean()
    assert result.summary["test_loss"] == pytest.approx(loss, rel=1e-5)
    hits = (logits.argmax(axis=-1) == counting.test.labels).mean()
    assert result.summary["test_accuracy"] == pytest.approx(hits, rel=1e-6)
    assert hits > 0.9


def test_fit_names_what_does_not_fit(counting):
    wrong = fx.models.transformer(6, CONTEXT, width=8, depth=1, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"7 classes.*\(5, 6\).*predicts \(5, 7\)"):
        fx.fit(wrong, counting)
    other = fx.models.transformer(7, 4, width=8, depth=1, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"shape \(5,\), but the network's input takes \(4,\)"):
        fx.fit(other, counting)
