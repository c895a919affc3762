"""`fathomx reproduce generative`: the measures, the baselines, and a whole small run."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fathomx as fx
from fathomx.experiments import generative, imaging
from fathomx.experiments.generative import METHODS, Scale, Variational
from fathomx.experiments.grid import Cell, Selection
from fathomx.experiments.imaging import Moments, frechet, nearest, pixels

TINY = Scale(
    "tiny", {"digits": (0,)}, epochs=8, batch=32, latents=3, width=32, judged=40, drawn=200, long=20
)


def test_pixels_are_those_that_were_standardized():
    parts = pixels("digits")
    assert parts["train"].images.min() == 0 and parts["train"].images.max() == 1
    given, data = parts["test"], fx.data.load("digits")
    # A straight line from what the data set holds.
    slope, offset = np.polyfit(data.test.inputs.ravel(), given.images.ravel(), 1)
    np.testing.assert_allclose(data.test.inputs * slope + offset, given.images, atol=1e-5)
    assert given.shape == (8, 8) and (given.labels == data.test.labels).all()


def test_frechet_distance_of_gaussians_that_commute_and_of_some_that_do_not():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 2, (2, 5))
    m, n = rng.normal(size=(2, 5))
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    one, other = (Moments(mean, turn @ np.diag(v) @ turn.T) for mean, v in ((m, a), (n, b)))
    expected = np.sum((m - n) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    np.testing.assert_allclose(frechet(one, other), expected, rtol=1e-10)
    # Of others by the eigenvalues of the product, which is not symmetric.
    c, d = (x @ x.T for x in rng.normal(size=(2, 5, 5)))
    root = np.sqrt(np.linalg.eigvals(c @ d).real).sum()
    found = frechet(Moments(m, c), Moments(m, d))
    np.testing.assert_allclose(found, np.trace(c + d) - 2 * root, rtol=1e-8)


def test_the_nearest_image_is_found():
    rng = np.random.default_rng(0)
    some, train = rng.normal(size=(7, 4)), rng.normal(size=(30, 4))
    apart = ((some[:, None] - train) ** 2).mean(axis=2)
    places, distance = nearest(some, train)
    np.testing.assert_array_equal(places, apart.argmin(axis=1))
    np.testing.assert_allclose(distance, apart.min(axis=1), rtol=1e-10)


def test_the_upper_half_of_an_image():
    half = pixels("digits")["test"].upper_half.reshape(8, 8)
    assert half[:4].all() and not half[4:].any()


def test_the_variational_bound_is_that_of_gaussians(float64):
    """Of a linear decoder the expected error has a closed form; by many draws."""
    model = Variational(
        fx.models.mlp(4, 4, width=[5], bias=True, key=jax.random.key(0)),
        fx.models.decoder(2, 4, width=5, depth=2, activation="linear", key=jax.random.key(1)),
    )
    x = jax.random.normal(jax.random.key(2), (1, 4))
    mean, logarithm = (np.asarray(a)[0] for a in model.code(x))
    at = fx.predict(model.decoder, {"latent": mean[None]})[0]
    W = jax.jacobian(lambda z: fx.predict(model.decoder, {"latent": z[None]})[0])(jnp.asarray(mean))
    spread = np.exp(2 * logarithm)
    missed = np.sum((at - x[0]) ** 2) + np.sum(np.asarray(W) ** 2 * spread)
    apart = np.sum(mean**2 + spread - 2 * logarithm - 1)
    expected = 0.5 * (3.0 * missed + apart)
    bounds = jax.vmap(lambda key: model.bound(x, 3.0, key))(
        jax.random.split(jax.random.key(3), 20_000)
    )
    error = bounds.std() / np.sqrt(20_000)
    assert abs(bounds.mean() - expected) < 4 * error


def test_a_small_run_leaves_rows_tables_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setitem(generative.SCALES, "tiny", TINY)
    said = []
    table = generative.reproduce("tiny", tmp_path / "found", Selection(), said.append)
    assert len(said) == len(METHODS) and "reconstruction" in said[0]
    with (tmp_path / "found" / "results.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(METHODS)
    parts = pixels("digits")
    test = parts["test"].images[:40]
    mean = imaging.squared_error(0 * test + parts["train"].images.mean(axis=0), test).mean()
    for row in rows.values():
        # More than the mean image was learned by all.
        assert 0 < float(row["reconstruction"]) < mean
        assert 0 < float(row["completion"]) < 1 and float(row["frechet_prior"]) > 0
    assert rows["autoencoder"]["completion_averaged"] == ""
    for name in ("reconstructions", "completions", "samples"):
        assert (tmp_path / "found" / f"{name}-digits.png").stat().st_size > 5000
    assert table.name == "results.md"


def test_every_method_is_judged_on_the_same_images(tmp_path):
    """What explains the images is the same decoder: an autoencoder of the code alone."""
    scale = dataclasses.replace(TINY, epochs=1)
    train = pixels("digits")["train"]
    cell = Cell("digits", "autoencoder", 0)
    found = generative.learned(cell, scale, train)
    x = jnp.asarray(train.images[:5])
    code = found.encode(x)
    assert code.shape == (5, 3)
    whole = imaging.squared_error(found.decode(code), x).mean()
    half = imaging.squared_error(found.complete(x), x, ~train.upper_half).mean()
    assert whole < half
    with pytest.raises(ValueError, match="scale"):
        generative.reproduce("huge", tmp_path, Selection(), print)
