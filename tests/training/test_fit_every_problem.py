"""`fit` on every problem: named arrays, own poses and scores, checkpoints, pages."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.report import write_page
from fathomx.training import Observer, RunFolder
from fathomx.training.programs import answered
from fathomx.training.scores import scoring_batches, unweighted

RNG = np.random.default_rng(0)
CAUSES = RNG.normal(size=(260, 2))
IMAGES = np.tanh(CAUSES @ RNG.normal(size=(2, 8))) + 0.05 * RNG.normal(size=(260, 8))


def parts(**arrays):
    cuts = {"train": slice(0, 160), "validation": slice(160, 200), "test": slice(200, 260)}
    return {title: {k: v[cut] for k, v in arrays.items()} for title, cut in cuts.items()}


def decoder():
    return fx.Network(
        [
            fx.Root("cause", (2,)),
            fx.Node("h", eqx.nn.Linear(2, 12, key=jax.random.key(0))),
            fx.Node("image", Tanh(eqx.nn.Linear(12, 8, key=jax.random.key(1)))),
        ]
    )


class Tanh(eqx.Module):
    linear: eqx.nn.Linear

    def __call__(self, z):
        return self.linear(jnp.tanh(z))


PICTURES = fx.data.Dataset("pictures", **parts(image=IMAGES))
OPTIONS = {"optimizer": optax.adam(1e-2, eps=1e-12), "epochs": 4, "batch_size": 32}


def test_unlabeled_data_train_a_decoder(tmp_path):
    folder = tmp_path / "run"
    watched = RunFolder.create(folder, {"model": "decoder", "learning": "equilibrium"})
    result = fx.fit(
        decoder(), PICTURES, fx.Equilibrium(fx.GaussNewton(2, 4)), **OPTIONS, observers=[watched]
    )
    losses = [epoch["validation_loss"] for epoch in result.history]
    assert losses[-1] < 0.7 * losses[0]
    summary = result.summary
    assert not any("accuracy" in name for name in [*summary, *result.history[-1]])
    assert summary["test_energy"] >= summary["test_loss"]
    assert summary["cosine_to_backprop"] is None and summary["unsettled"]["median"] < 0.5
    problem = fx.Problem(result.network, {"image": PICTURES.test["image"]})
    relaxed = fx.infer(problem, fx.GaussNewton(8, 10))
    np.testing.assert_allclose(summary["test_energy"], relaxed.energy.sum(), rtol=1e-3)
    page = write_page(folder).read_text()
    assert "est loss" in page and "accuracy is unknown" not in page


class Stop(Observer):
    def stepped(self, record, state):
        if record["epoch"] == 3 and record["step"] >= 2:
            raise KeyboardInterrupt


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    rule = fx.Equilibrium(fx.GaussNewton(2, 4))
    whole = fx.fit(decoder(), PICTURES, rule, **OPTIONS)
    folder = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(KeyboardInterrupt):
        fx.fit(decoder(), PICTURES, rule, **OPTIONS, observers=[folder, Stop()])
    resumed = fx.fit(
        decoder(), PICTURES, rule, **OPTIONS, observers=[RunFolder.resume(tmp_path / "run")]
    )
    assert eqx.tree_equal(fx.weights(whole.network), fx.weights(resumed.network))
    assert resumed.history[-1]["validation_loss"] == whole.history[-1]["validation_loss"]


def test_several_targets_own_pose_and_own_scores():
    data = fx.data.Dataset(
        "both",
        **parts(x=IMAGES, kind=(CAUSES[:, 0] > 0).astype(int), value=CAUSES[:, 1:] ** 2),
    )
    network = fx.Network(
        [
            fx.Root("x", (8,), energy=None),
            fx.Node("h", eqx.nn.Linear(8, 16, key=jax.random.key(2))),
            fx.Node("value", Tanh(eqx.nn.Linear(16, 1, key=jax.random.key(3))), ("h",)),
            fx.Node(
                "kind", Tanh(eqx.nn.Linear(16, 2, key=jax.random.key(4))), ("h",), fx.Categorical()
            ),
        ]
    )
    usual = fx.fit(network, data, **OPTIONS)
    assert usual.summary["test_accuracy"] > 0.9

    def pose(network, batch):
        return fx.Problem(network, {"x": 2 * batch["x"], "value": batch["value"]})

    def scores(network, batch):
        found = network.unroll(None, {"x": 2 * batch["x"]})["value"]
        return {"error": ((found - batch["value"]) ** 2).mean(axis=1), "loss": jnp.ones(())}

    own = fx.fit(network, data, **{**OPTIONS, "epochs": 12}, pose=pose, scores=scores)
    assert own.history[-1]["validation_error"] < own.history[0]["validation_error"]
    found = own.network.unroll(None, {"x": 2 * data.test["x"]})["value"]
    expected = ((np.asarray(found) - data.test["value"]) ** 2).mean()
    np.testing.assert_allclose(own.summary["test_error"], expected, rtol=1e-5)
    # What a batch is not asked for is not touched.
    kept = own.network.entry("kind").function.linear.weight
    np.testing.assert_array_equal(kept, network.entry("kind").function.linear.weight)


TAGS = np.stack([CAUSES[:, 0] > 0, CAUSES[:, 1] > 0], axis=1).astype(np.float32)
COUNTS = np.random.default_rng(8).poisson(np.exp(CAUSES))


@pytest.mark.parametrize(
    ("energy", "target", "mean_loss"),
    [
        (
            fx.Bernoulli(),
            TAGS,
            lambda y, a: (np.log1p(np.exp(a)) - y * a).sum(axis=1).mean(),
        ),
        (
            fx.Poisson(),
            COUNTS,
            lambda y, a: (np.exp(a) - y - y * (a - np.log(np.maximum(y, 1)))).sum(axis=1).mean(),
        ),
        (fx.Laplace(), CAUSES, lambda y, a: np.abs(y - a).sum(axis=1).mean()),
    ],
    ids=["Bernoulli", "Poisson", "Laplace"],
)
def test_other_targets_train_and_their_loss_is_that_of_the_network(energy, target, mean_loss):
    network = fx.models.mlp(8, 2, width=8, depth=3, output=energy, key=jax.random.key(1))
    data = fx.data.Dataset("own", **parts(input=IMAGES, output=target))
    result = fx.fit(network, data, **{**OPTIONS, "epochs": 12})
    assert not any(name.endswith("_accuracy") for name in result.summary) or TAGS is target
    predicted = np.asarray(fx.predict(result.network, data.test["input"]), float)
    expected = mean_loss(data.test["output"].astype(float), predicted)
    np.testing.assert_allclose(result.summary["test_loss"], expected, rtol=1e-4)
    before = np.asarray(fx.predict(network, data.test["input"]), float)
    assert expected < 0.8 * mean_loss(data.test["output"].astype(float), before)


def test_targets_that_an_energy_cannot_compare_are_said_before_training():
    network = fx.models.mlp(8, 2, width=8, depth=3, output=fx.Poisson(), key=jax.random.key(1))
    data = fx.data.Dataset("own", **parts(input=IMAGES, output=CAUSES))
    with pytest.raises(ValueError, match=r"in the train part of 'own', .* counts of at least 0"):
        fx.fit(network, data, **OPTIONS)
    with pytest.raises(ValueError, match="give as many targets, or build the network for these"):
        fx.fit(network, (IMAGES, COUNTS[:, 0]), **OPTIONS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"validation": {"picture": IMAGES}}, "the same names"),
        ({"test": {"image": IMAGES[:0]}}, "numbers of examples"),
        ({"train": {"image": IMAGES, "label": CAUSES[:9]}}, "unlike or no numbers"),
        ({"test": (IMAGES, IMAGES)}, "expected arrays by name"),
    ],
)
def test_mistakes_in_named_data_are_said(change, words):
    with pytest.raises(ValueError, match=words):
        fx.data.Dataset("pictures", **{**parts(image=IMAGES), **change})


def test_names_that_the_network_does_not_have_are_said():
    data = fx.data.Dataset("pictures", **parts(picture=IMAGES))
    with pytest.raises(ValueError, match="'picture' is clamped"):
        fx.fit(decoder(), data)
    holes = fx.data.Dataset("holes", **parts(image=np.where(IMAGES > 1, np.nan, IMAGES)))
    with pytest.raises(ValueError, match=r"'image' of 'holes' holds .* fx.Clamp.observed"):
        fx.fit(decoder(), holes)

    def pose(network, batch):
        return fx.Problem(network, {"image": fx.Clamp.observed(batch["image"])})

    found = fx.fit(decoder(), holes, **{**OPTIONS, "epochs": 1}, pose=pose)
    assert np.isfinite(found.summary["test_energy"])
    assert repr(PICTURES).startswith("Dataset('pictures'") and PICTURES.take(8).size == 8


@pytest.mark.parametrize("part", ["validation", "test"])
def test_labels_are_checked_in_every_part(part):
    network = fx.models.mlp(4, 3, width=5, depth=2, key=jax.random.key(0))
    good = {"input": np.ones((6, 4), np.float32), "output": np.arange(6) % 3}
    parts = {"train": good, "validation": good, "test": good}
    bad = {**parts, part: {**good, "output": good["output"] - 1}}
    with pytest.raises(ValueError, match=rf"in the {part} part of 'd', target labels run from -1"):
        fx.fit(network, fx.data.Dataset("d", **bad), fx.Backprop(), epochs=1, batch_size=3)


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (lambda network, batch: jnp.zeros(6), TypeError, "scores must return a dictionary"),
        (
            lambda network, batch: {"wide": batch["input"]},
            ValueError,
            r"the score 'wide' has shape \(6, 4\) for 6 examples",
        ),
    ],
)
def test_scores_are_numbers_by_name(scores, error, message):
    network = fx.models.mlp(4, 3, width=5, depth=2, key=jax.random.key(0))
    arrays = {"input": np.ones((6, 4), np.float32)}
    with pytest.raises(error, match=message):
        answered(scoring_batches(network, [arrays], scores, unweighted))
