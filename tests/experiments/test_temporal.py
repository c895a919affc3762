"""`fathomx reproduce temporal`: the plant, its filter, the frames, and a small run."""

import csv

import numpy as np
import pytest
import scipy.linalg

from fathomx.experiments import temporal
from fathomx.experiments.grid import Selection
from fathomx.experiments.imaging import pixels
from fathomx.experiments.temporal import FRAMES, KALMAN, KNOWN, TRACKING, Plant, Scale

TINY = Scale(
    "tiny",
    seeds=(0,),
    moments=60,
    objects=4,
    passes=2,
    sequences=40,
    judged=20,
    epochs=1,
    batch=20,
    states=12,
    width=12,
    units=12,
)


def test_the_filter_expects_what_riccatis_equation_says():
    plant = Plant.usual()
    exact = scipy.linalg.solve_discrete_are(
        plant.A.T, plant.C.T, np.diag(plant.q**2), plant.r**2 * np.eye(3)
    )
    np.testing.assert_allclose(plant.prior(), exact, rtol=1e-8)


def test_the_kalman_filter_is_the_posterior_mean():
    """Of three moments, by conditioning one large Gaussian."""
    plant = Plant.usual()
    _, seen, controls = plant.simulated(3, 2, 0)
    found = plant.kalman(seen, controls)
    Q = np.diag(plant.q**2)
    for i in range(2):
        # The state before the first moment is N(0, I); later ones are linear in it and the noise.
        mean, states, maps = np.zeros(3), [], [np.eye(3)]
        for u in controls[:, i]:
            mean = plant.A @ mean + plant.B @ u
            maps = [plant.A @ m for m in maps] + [np.eye(3)]
            states.append((mean, [*maps]))
        noises = [np.eye(3), Q, Q, Q]
        blocks = [
            [
                sum(a @ n @ b.T for a, b, n in zip(one[1], other[1], noises, strict=False))
                for other in states
            ]
            for one in states
        ]
        whole = np.block(blocks)
        C = np.kron(np.eye(3), plant.C)
        S = C @ whole @ C.T + plant.r**2 * np.eye(9)
        missed = (seen[:, i] - np.stack([m for m, _ in states]) @ plant.C.T).ravel()
        last = states[-1][0] + (whole[6:] @ C.T) @ np.linalg.solve(S, missed)
        np.testing.assert_allclose(found[-1, i], plant.C @ last, rtol=1e-8)


def test_in_the_right_coordinates_predictive_coding_is_the_kalman_filter():
    plant = Plant.usual()
    _, seen, controls = plant.simulated(300, 3, 1)
    network = plant.network(1.0, np.linalg.cholesky(plant.prior()))
    found = temporal._filtered(network, plant, seen, controls)
    kalman = plant.kalman(seen, controls)
    np.testing.assert_allclose(found[200:], kalman[200:], atol=1e-4)
    assert np.abs(kalman[200:]).max() > 0.5


def test_digits_move_whole_and_bounce():
    images = pixels("mnist")["test"].images[:6]
    frames = temporal.moving(images, Scale("laptop"), 3)
    assert frames.shape == (16, 6, 576)
    mass = frames.sum(axis=2)
    np.testing.assert_allclose(mass, np.broadcast_to(mass[0], mass.shape), rtol=1e-4)
    at = frames.reshape(16, 6, 24, 24)
    rows = (at.sum(axis=3) * np.arange(24)).sum(axis=2) / mass
    moved = np.abs(np.diff(rows, axis=0))
    assert moved.max() <= 3 + 1e-3 and moved.mean() > 0.5
    pairs = temporal._pairs(frames)
    np.testing.assert_array_equal(pairs[5], np.concatenate([frames[5], frames[4]], axis=-1))
    np.testing.assert_array_equal(pairs[0], np.concatenate([frames[0], frames[0]], axis=-1))


@pytest.mark.parametrize("network", [TRACKING, FRAMES])
def test_a_small_run_compares_all_methods(tmp_path, monkeypatch, network):
    monkeypatch.setitem(temporal.SCALES, "tiny", TINY)
    chosen = Selection(networks=(network,))
    temporal.reproduce("tiny", tmp_path / "found", chosen, lambda text: None)
    with (tmp_path / "found" / "results.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(temporal.METHODS[network])
    assert all(float(row["error"]) > 0 for row in rows.values())
    if network == TRACKING:
        assert float(rows[KALMAN]["relative"]) == 1
        assert abs(float(rows[KNOWN]["relative"]) - 1) < 0.01
    picture = "tracking" if network == TRACKING else "frames"
    assert (tmp_path / "found" / f"{picture}.png").stat().st_size > 5000
