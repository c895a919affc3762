"""What is measured: networks, methods, and who competes with whom.

Standard library only, since the workers of every library read it in their own environments.
"""

from __future__ import annotations

import dataclasses

FATHOMX, FABRICPC, PCX, JAX = "fathomx", "fabricpc", "pcx", "jax"
LIBRARIES = (FATHOMX, FABRICPC, PCX, JAX)

STATE, ERROR = "state descent", "error descent"
GAUSS_NEWTON, NEWTON = "Gauss-Newton", "Newton"
BACKPROP = "backprop"
UNROLLED, SCANNED = "backprop, unrolled", "backprop, scanned"


@dataclasses.dataclass(frozen=True)
class Task:
    """A network and the data it learns, the same in every library.

    `residual-mlp` is `mu_1 = a_1 W_1 x`, `mu_l = z_{l-1} + a_l W_l phi(z_{l-1})` and
    `mu_L = a_L W_L phi(z_{L-1})` on MNIST; `vgg-5` is four 3x3 convolutions with 2x2 max pooling
    and a linear layer on CIFAR-10, each `a W phi(z)` (the first without `phi`), with `width` times
    the usual channels. Gaussian energies of precision 1, no biases, Adam on the weights.
    """

    model: str
    depth: int
    width: float
    activation: str
    batch: int = 64
    learning_rate: float = 1e-3


@dataclasses.dataclass(frozen=True)
class Method:
    """An algorithm with its inference rate and steps, where it has them."""

    name: str
    rate: float = 0.0
    steps: int = 0
    optimizer: str = "sgd"

    @property
    def label(self) -> str:
        """The method in a few words."""
        words = [self.name]
        if self.name == GAUSS_NEWTON:
            words.append(f"{self.steps} x 2" if self.steps else "2 CG steps each")
        elif self.steps:
            words.append(f"T = {self.steps}")
        elif self.rate:
            words.append(f"{'Adam, ' if self.optimizer == 'adam' else ''}rate {self.rate:g}")
        return ", ".join(words)


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A library with one of its methods; each runs in a process of its own."""

    library: str
    method: Method

    @property
    def label(self) -> str:
        """Library and method, unique within a case."""
        return f"{self.library}: {self.method.label}"


@dataclasses.dataclass(frozen=True)
class Case:
    """A task and everyone whose training steps are timed on it, interleaved."""

    name: str
    task: Task
    contestants: tuple[Contestant, ...]


@dataclasses.dataclass(frozen=True)
class Race:
    """A task on which solvers relax the activities of one batch until the slowest example settles.

    `limit` is how many times the reference's time (that of Fathomx's Newton) each other solver is
    given. First-order solvers run once for every rate, and the best counts.
    """

    name: str
    task: Task
    limit: float
    contestants: tuple[Contestant, ...]
    tolerance: float = 1e-3


def skipped(case: Case) -> dict[str, str]:
    """Libraries that are left out of a case, with the reason."""
    if case.task.model != "residual-mlp":
        return {PCX: "not compared on convolutions: compiling takes minutes"}
    if (case.task.depth, case.task.width) not in _PCX_SIZES:
        return {PCX: "left out: its training step takes minutes to compile at this size"}
    return {}


_PCX_SIZES = ((8, 128), (32, 128))


def _residual(depth: int, width: int) -> Case:
    state, error, backprop = Method(STATE, 0.1, depth), Method(ERROR, 0.2, 5), Method(BACKPROP)
    chosen = [Contestant(lib, method) for method in (state, error) for lib in (FATHOMX, FABRICPC)]
    chosen.append(Contestant(FATHOMX, Method(GAUSS_NEWTON, steps=1)))
    chosen += [Contestant(library, backprop) for library in (FATHOMX, FABRICPC)]
    chosen += [Contestant(JAX, Method(name)) for name in (UNROLLED, SCANNED)]
    if (depth, width) in _PCX_SIZES:
        chosen.append(Contestant(PCX, state))
    task = Task("residual-mlp", depth, width, "relu")
    return Case(f"residual-{depth}-width-{width}", task, tuple(chosen))


def _vgg() -> Case:
    methods = (Method(ERROR, 0.2, 5), Method(BACKPROP))
    chosen = [Contestant(library, method) for method in methods for library in (FATHOMX, FABRICPC)]
    return Case("vgg-5-quarter", Task("vgg-5", 5, 0.25, "gelu"), tuple(chosen))


CASES = (*(_residual(depth, 128) for depth in (8, 32, 128)), _residual(32, 512), _vgg())

_ERROR_RATES = (0.05, 0.1, 0.2, 0.5, 1.0)
_STATE_RATES = (0.1, 0.2, 0.4)
_ADAM_RATE = 1e-2


def _race(depth: int, limit: float) -> Race:
    chosen = [Contestant(FATHOMX, Method(NEWTON)), Contestant(FATHOMX, Method(GAUSS_NEWTON))]
    for library in (FATHOMX, FABRICPC):
        chosen += [Contestant(library, Method(ERROR, rate)) for rate in _ERROR_RATES]
        chosen += [Contestant(library, Method(STATE, rate)) for rate in _STATE_RATES]
    chosen.append(Contestant(FATHOMX, Method(ERROR, _ADAM_RATE, optimizer="adam")))
    task = Task("residual-mlp", depth, 128, "tanh")
    return Race(f"equilibrium-{depth}", task, limit, tuple(chosen))


RACES = (_race(32, 300), _race(128, 20))

# Who is measured against whom in a case: Fathomx's method, the other library, its method.
COMPARISONS = (
    (STATE, FABRICPC, STATE),
    (STATE, PCX, STATE),
    (ERROR, FABRICPC, ERROR),
    (BACKPROP, FABRICPC, BACKPROP),
    (BACKPROP, JAX, BACKPROP),
    (GAUSS_NEWTON, FABRICPC, ERROR),
    (GAUSS_NEWTON, FABRICPC, BACKPROP),
    (GAUSS_NEWTON, FATHOMX, BACKPROP),
    (GAUSS_NEWTON, JAX, BACKPROP),
)
