"""Does temporal predictive coding filter like Kalman, and predict frames like a recurrent network?

Millidge et al. (2024), doi 10.1371/journal.pcbi.1011183: relaxing a state between what it predicts
and what is predicted of it is a Kalman filter without its covariance, nearly as good, and its
matrices can be learned online from local errors.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx.drawing.gallery import draw_gallery
from fathomx.drawing.style import COLORS, new_figure, save
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Group
from fathomx.experiments.imaging import pixels
from fathomx.graph.freezing import freeze
from fathomx.graph.network import Network
from fathomx.graph.statistics import parameter_count
from fathomx.inference import GaussNewton, Langevin, follow
from fathomx.learning import Equilibrium, Learner
from fathomx.learning.learner import cosine_adam
from fathomx.models import state_space
from fathomx.problem.strength import HoldStrength
from fathomx.records.pictures import PictureRow, as_bytes, from_bytes

TRACKING, FRAMES = "tracking", "moving digits"
KALMAN, KNOWN, PLAIN = "Kalman filter", "PC, known", "PC, known, one precision"
LEARNED, SAMPLED, MODE = "PC, A and B learned", "PC, all learned from samples", "PC, all learned"
PREDICTING, RECURRENT, PREVIOUS = "PC, learned online", "GRU, BPTT", "previous frame"
METHODS = {
    TRACKING: (KALMAN, KNOWN, PLAIN, LEARNED, SAMPLED, MODE),
    FRAMES: (PREDICTING, RECURRENT, PREVIOUS),
}
_PRECISIONS = (10.0, 20.0, 50.0, 100.0, 200.0)
# Moments of which the first are not judged: the filters begin without knowing where they are.
_BEGINNING = 50
_FIRST_JUDGED = 3
_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is, and what was chosen on validation sequences.

    **Fields**: `seeds`; of tracking `moments`, how many sequences side by side (`objects`), passes
    through new sequences (`passes`) and rates; of frames the `side` of an image and of its `digit`,
    how many frames and sequences, `epochs`, `batch`, `states`, `width`, rates, and the `strength`
    of learning; `units` of the recurrent network.
    """

    name: str
    seeds: tuple[int, ...] = (0, 1, 2)
    moments: int = 4000
    objects: int = 20
    passes: int = 15
    rate: float = 1e-2
    sampled_rate: float = 3e-3
    side: int = 24
    digit: int = 14
    frames: int = 16
    sequences: int = 10_000
    judged: int = 1000
    epochs: int = 3
    batch: int = 50
    states: int = 320
    width: int = 256
    frame_rate: float = 2e-3
    strength: float = 0.1
    units: int = 256
    recurrent_rate: float = 2e-3


SCALES = {"laptop": Scale("laptop")}

COLUMNS = (
    Column("error", "mean squared error", ".5f"),
    Column("relative", "of the Kalman filter's, or the previous frame's", ".3f"),
    Column("weights", "weights", ".0f"),
    Column("seconds", "learning, s", ".0f"),
)


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """One sequence followed by one method."""
    return (tracked if cell.network == TRACKING else framed)(cell, scale)


@dataclasses.dataclass(frozen=True, eq=False)
class Plant:
    """A mass on a spring that is pushed: position, velocity and acceleration, seen through `C`.

    s_t = A s_{t-1} + B u_t + q xi,    x_t = C s_t + r xi
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    q: np.ndarray
    r: float

    @classmethod
    def usual(cls) -> Plant:
        """That of the experiment; time goes in steps of a tenth."""
        step = 0.1
        A = np.array([[1, step, step**2 / 2], [0, 1, step], [-1, -0.3, 0.5]])
        C = np.random.default_rng(5).normal(size=(3, 3))
        C = C / np.linalg.norm(C, axis=1, keepdims=True)
        return cls(A, np.array([[0.0], [0.0], [1.0]]), C, np.array([0.02, 0.05, 0.2]), 0.3)

    def simulated(self, moments: int, objects: int, seed: int) -> tuple[np.ndarray, ...]:
        """What is seen without noise, what is seen, and the controls; frames come first."""
        rng = np.random.default_rng(seed)
        state, push = np.zeros((objects, 3)), np.zeros((objects, 1))
        rows: list[tuple[np.ndarray, ...]] = []
        for _ in range(moments):
            push = 0.9 * push + 0.2 * rng.normal(size=push.shape)
            state = state @ self.A.T + push @ self.B.T + self.q * rng.normal(size=state.shape)
            clean = state @ self.C.T
            rows.append((clean, clean + self.r * rng.normal(size=clean.shape), push))
        return tuple(np.stack(column) for column in zip(*rows, strict=True))

    def kalman(self, seen: np.ndarray, controls: np.ndarray) -> np.ndarray:
        """The Kalman filter's estimate of what is seen, with the true matrices."""
        Q, R = np.diag(self.q**2), self.r**2 * np.eye(len(self.C))
        z, P, found = np.zeros((seen.shape[1], 3)), np.eye(3), []
        for x, u in zip(seen, controls, strict=True):
            ahead = z @ self.A.T + u @ self.B.T
            P = self.A @ P @ self.A.T + Q
            K = P @ self.C.T @ np.linalg.inv(self.C @ P @ self.C.T + R)
            z = ahead + (x - ahead @ self.C.T) @ K.T
            P = P - K @ self.C @ P
            found.append(z @ self.C.T)
        return np.stack(found)

    def prior(self) -> np.ndarray:
        """The covariance of what the Kalman filter expects in the long run."""
        Q, R, P = np.diag(self.q**2), self.r**2 * np.eye(len(self.C)), np.eye(3)
        for _ in range(10_000):
            K = P @ self.C.T @ np.linalg.inv(self.C @ P @ self.C.T + R)
            P = self.A @ (P - K @ self.C @ P) @ self.A.T + Q
        return P

    def network(self, precision: float, root: np.ndarray) -> Network:
        """The state-space network with the true matrices, for states `s = root z`."""
        inverse = np.linalg.inv(root)
        network = state_space(3, 3, controls=1, precision=precision, key=jax.random.key(0))
        matrices = (inverse @ self.A @ root, inverse @ self.B, self.C @ root)
        return eqx.tree_at(_matrices, network, tuple(jnp.asarray(m, jnp.float32) for m in matrices))


def _matrices(network: Network) -> Any:
    state: Any = network.entry("state")
    output: Any = network.entry("output")
    return (
        state.function.dense.linear.weight,
        state.function.control.weight,
        output.function.linear.weight,
    )


def tracked(cell: Cell, scale: Scale) -> dict[str, Any]:
    """How well what is seen is told from its noise."""
    plant = Plant.usual()
    clean, seen, controls = plant.simulated(1000, scale.objects, 100 + cell.seed)
    kalman = plant.kalman(seen, controls)
    begun = time.perf_counter()
    found, network = kalman, None
    if cell.method != KALMAN:
        network = _tracker(cell, scale, plant)
        found = _filtered(network, plant, seen, controls)
    seconds = time.perf_counter() - begun

    def error(found: np.ndarray) -> float:
        return float(((found - clean)[_BEGINNING:] ** 2).mean())

    shown = slice(100, 200)
    return {
        "error": error(found),
        "relative": error(found) / error(kalman),
        "weights": None if network is None else parameter_count(network),
        "seconds": seconds,
        "shown": {
            "clean": clean[shown, 0, 0],
            "seen": seen[shown, 0, 0],
            "found": found[shown, 0, 0],
        },
    }


def _tracker(cell: Cell, scale: Scale, plant: Plant) -> Network:
    """The network of a method, with the true matrices or learned ones."""
    # In these coordinates what the Kalman filter expects has the covariance 1.
    whitened = plant.network(1.0, np.linalg.cholesky(plant.prior()))
    if cell.method == KNOWN:
        return whitened
    if cell.method == PLAIN:
        clean, seen, controls = plant.simulated(1000, scale.objects, 900 + cell.seed)

        def error(precision: float) -> float:
            found = _filtered(plant.network(precision, np.eye(3)), plant, seen, controls)
            return float(((found - clean)[_BEGINNING:] ** 2).mean())

        return plant.network(min(_PRECISIONS, key=error), np.eye(3))
    network = state_space(3, 3, controls=1, key=jax.random.key(cell.seed))
    start, sensor = eqx.filter_jit(_matrices)(network), _matrices(whitened)[2]
    # Learning starts from a state that stays where it is.
    network = eqx.tree_at(lambda n: _matrices(n)[0], network, jnp.eye(3))
    solver: Any = GaussNewton(1, 4)
    rate = scale.rate
    if cell.method == LEARNED:
        network = freeze(eqx.tree_at(lambda n: _matrices(n)[2], network, sensor), ["output"])
    else:
        rate = scale.sampled_rate
        small = 0.3 * start[2]
        network = eqx.tree_at(lambda n: _matrices(n)[2], network, small)
        if cell.method == SAMPLED:
            solver = Langevin(0.05, 60, 20)
    learner = Learner(
        Equilibrium(solver, output_precision=1 / plant.r**2),
        cosine_adam(rate, scale.passes * scale.moments),
    )
    state = learner.begin(network)
    learn = eqx.filter_jit(
        lambda network, state, clamps, key: learner.follow(
            network, state, clamps, {"before": "state"}, key, solver=GaussNewton(1, 4)
        )[:2]
    )
    for part in range(scale.passes):
        seed = 1000 * (1 + cell.seed) + part
        _, seen, controls = plant.simulated(scale.moments, scale.objects, seed)
        clamps = {"output": seen.astype(np.float32), "control": controls.astype(np.float32)}
        network, state = learn(network, state, clamps, jax.random.key(seed))
    return network


def _filtered(network: Network, plant: Plant, seen: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """What the relaxed states say of what is seen."""
    found = follow(
        network,
        {"output": seen.astype(np.float32), "control": controls.astype(np.float32)},
        {"before": "state"},
        GaussNewton(1, 4),
        initial={"before": np.zeros((seen.shape[1], 3), np.float32)},
        output_precision=1 / plant.r**2,
    )
    states = np.asarray(found.activities["state"], np.float64)
    return states @ np.asarray(_matrices(network)[2], np.float64).T


def moving(images: np.ndarray, scale: Scale, seed: int) -> np.ndarray:
    """Digits of half the size that move and bounce: `(frames, sequences, pixels)`."""
    rng, count = np.random.default_rng(seed), len(images)
    half = images.reshape(count, scale.digit, 2, scale.digit, 2).mean(axis=(2, 4))
    room = scale.side - scale.digit
    place = rng.uniform(0, room, (count, 2))
    speed = rng.uniform(1, 2.5, (count, 2)) * rng.choice([-1, 1], (count, 2))
    frames = np.zeros((scale.frames, count, scale.side, scale.side), np.float32)
    for frame in frames:
        corner = np.rint(place).astype(int)
        for one, digit, (row, column) in zip(frame, half, corner, strict=True):
            one[row : row + scale.digit, column : column + scale.digit] = digit
        place = place + speed
        low, high = place < 0, place > room
        speed = np.where(low | high, -speed, speed)
        place = np.where(low, -place, np.where(high, 2 * room - place, place))
    return frames.reshape(scale.frames, count, -1)


def _pairs(frames: np.ndarray) -> np.ndarray:
    """Every frame but the last with the one before it, the first with itself."""
    before = np.concatenate([frames[:1], frames[:-2]])
    return np.concatenate([frames[:-1], before], axis=-1)


def framed(cell: Cell, scale: Scale) -> dict[str, Any]:
    """How well the next frame is predicted."""
    parts = pixels("mnist")
    train = moving(parts["train"].images[: scale.sequences], scale, 10 + cell.seed)
    test = moving(parts["test"].images[: scale.judged], scale, 20 + cell.seed)
    begun = time.perf_counter()
    predicted, weights = {
        PREDICTING: _online,
        RECURRENT: _recurrent,
        PREVIOUS: lambda seed, scale, train: (lambda frames: frames[:-1], 0),
    }[cell.method](cell.seed, scale, train)
    found = predicted(test)
    seconds = time.perf_counter() - begun

    def error(found: np.ndarray) -> float:
        return float(((found - test[1:])[_FIRST_JUDGED - 1 :] ** 2).mean())

    shown = slice(2, 2 + _SHOWN)
    return {
        "error": error(found),
        "relative": error(found) / error(test[:-1]),
        "weights": weights,
        "seconds": seconds,
        "shown": {"frames": as_bytes(test[1:][shown, 0]), "found": as_bytes(found[shown, 0])},
    }


Predicting = tuple[Callable[[np.ndarray], np.ndarray], int]


def _online(seed: int, scale: Scale, train: np.ndarray) -> Predicting:
    """A state-space network that learns from frame to frame, its control the last two frames."""
    pixels_of = train.shape[-1]
    network = state_space(
        scale.states,
        pixels_of,
        controls=2 * pixels_of,
        width=scale.width,
        depth=3,
        activation="gelu",
        bias=True,
        key=jax.random.key(seed),
    )
    count = train.shape[1] // scale.batch
    rule = Equilibrium(GaussNewton(1, 3), output_precision=HoldStrength(scale.strength))
    updates = count * scale.epochs * (scale.frames - 1)
    learner = Learner(rule, cosine_adam(scale.frame_rate, updates))
    state = learner.begin(network)
    learn = eqx.filter_jit(
        lambda network, state, clamps, key: learner.follow(
            network, state, clamps, {"before": "state"}, key
        )[:2]
    )
    rng = np.random.default_rng(seed)
    for epoch in range(scale.epochs):
        for rows in rng.permutation(train.shape[1]).reshape(-1, scale.batch):
            frames = train[:, rows]
            clamps = {"control": _pairs(frames), "output": frames[1:]}
            network, state = learn(network, state, clamps, jax.random.key(epoch))

    @eqx.filter_jit
    def run(network: Network, controls: Array) -> Array:
        def one(before: Array, control: Array) -> tuple[Array, Array]:
            there = network.unroll(None, {"before": before, "control": control})
            return there["state"], there["output"]

        start = jnp.zeros((controls.shape[1], scale.states))
        found: Array = jax.lax.scan(one, start, controls)[1]
        return found

    return (
        lambda frames: np.asarray(run(network, jnp.asarray(_pairs(frames)))),
        parameter_count(network),
    )


class Unrolled(eqx.Module):
    """A gated recurrent cell and a readout, unrolled over the frames of a sequence."""

    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear

    def __call__(self, frames: Array) -> Array:
        def one(state: Array, frame: Array) -> tuple[Array, Array]:
            state = jax.vmap(self.cell)(frame, state)
            return state, jax.vmap(self.readout)(state)

        start = jnp.zeros((frames.shape[1], self.cell.hidden_size))
        found: Array = jax.lax.scan(one, start, frames)[1]
        return found


def _recurrent(seed: int, scale: Scale, train: np.ndarray) -> Predicting:
    """A gated recurrent network by backprop through time, on one frame after another."""
    pixels_of = train.shape[-1]
    one, other = jax.random.split(jax.random.key(seed))
    model = Unrolled(
        eqx.nn.GRUCell(pixels_of, scale.units, key=one),
        eqx.nn.Linear(scale.units, pixels_of, key=other),
    )
    # An update sees a whole sequence, where online every frame is one: more epochs are as many.
    epochs = 2 * scale.epochs
    optimizer = cosine_adam(scale.recurrent_rate, train.shape[1] // scale.batch * epochs)
    state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model: Unrolled, state: Any, frames: Array) -> tuple[Unrolled, Any]:
        def loss(model: Unrolled) -> Array:
            return 0.5 * jnp.sum((model(frames[:-1]) - frames[1:]) ** 2) / frames[0, :, 0].size

        updates, state = optimizer.update(eqx.filter_grad(loss)(model), state)
        return eqx.apply_updates(model, updates), state

    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        for rows in rng.permutation(train.shape[1]).reshape(-1, scale.batch):
            model, state = step(model, state, jnp.asarray(train[:, rows]))
    weights = sum(a.size for a in jax.tree.leaves(eqx.filter(model, eqx.is_array)))
    run = eqx.filter_jit(lambda model, frames: model(frames))
    return lambda frames: np.asarray(run(model, jnp.asarray(frames[:-1]))), weights


def draw_frames(groups: list[Group], path: Path) -> None:
    """Frames as they come and as they are predicted."""
    frames = [g for g in groups if g.network == FRAMES and g.method != PREVIOUS]
    if not frames:
        return
    first = frames[0].rows[0]["shown"]["frames"]
    shape = (math.isqrt(len(first[0])),) * 2
    rows = [PictureRow("next frame", from_bytes(first, shape))]
    rows += [
        PictureRow(g.method.replace(", ", "\n"), from_bytes(g.rows[0]["shown"]["found"], shape))
        for g in frames
    ]
    draw_gallery(rows, path)


def draw_tracking(found: list[Group], path: Path) -> None:
    """What the filters find, and how far they are from the Kalman filter."""
    groups = [group for group in found if group.network == TRACKING]
    if not groups:
        return
    figure, (above, below) = new_figure(5.6, rows=2, height_ratios=(2, 1.3))
    first = groups[0].rows[0]["shown"]
    moments = np.arange(len(first["clean"]))
    above.plot(moments, first["seen"], ".", color="#bbbbbb", markersize=4, label="seen")
    above.plot(moments, first["clean"], color="black", linewidth=1.8, label="without noise")
    for index, group in enumerate(g for g in groups if g.method in (KALMAN, KNOWN, LEARNED)):
        above.plot(
            moments, group.rows[0]["shown"]["found"], color=COLORS[index], linewidth=1,
            linestyle="--" if index else "-", label=group.method,
        )  # fmt: skip
    above.legend(fontsize=7, frameon=False, ncols=3)
    above.set_xlabel("moment")
    above.set_ylabel("first sensor")
    for row, group in enumerate(groups):
        values = group.values("relative")
        below.plot(values, [row] * len(values), "o", color=COLORS[0], markersize=4)
    below.set_yticks(range(len(groups)), [g.method for g in groups], fontsize=7)
    below.invert_yaxis()
    below.set_xscale("log")
    below.set_xticks([1, 1.2, 1.5, 2, 3, 4, 6], ["1", "1.2", "1.5", "2", "3", "4", "6"])
    below.minorticks_off()
    below.set_xlabel("mean squared error, of the Kalman filter's")
    save(figure, path)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: dict.fromkeys(METHODS, scale.seeds),
    methods=tuple(method for own in METHODS.values() for method in own),
    applies=lambda cell: cell.method in METHODS[cell.network],
    run=run,
    outcome=said("error {error:.5f}, relative {relative:.3f}"),
    columns=COLUMNS,
    figures={"tracking.png": draw_tracking, "frames.png": draw_frames},
)

reproduce = EXPERIMENT.reproduce
