"""What is measured: networks, methods, and who competes with whom.

Standard library only, since the workers of every library read it in their own environments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

FATHOMX, FABRICPC, PCX, JPC, JAX = "fathomx", "fabricpc", "pcx", "jpc", "jax"
LIBRARIES = (FATHOMX, FABRICPC, PCX, JPC, JAX)

STATE, ERROR = "state descent", "error descent"
GAUSS_NEWTON, NEWTON, QUASI_NEWTON = "Gauss-Newton", "Newton", "quasi-Newton"
# Solvers that know when they are done.
UNTIL_DONE = (NEWTON, QUASI_NEWTON)
BACKPROP = "backprop"
UNROLLED, SCANNED = "backprop, unrolled", "backprop, scanned"
FORWARD_UPDATE, PROPAGATION = "forward update", "equilibrium propagation"

# How matrix products and convolutions are computed, with the relative difference of outputs up to
# which two networks are the same: float32 throughout; operands rounded to 10 bits of mantissa, what
# JAX does on NVIDIA's cards unless told otherwise; activities and products in bfloat16.
FLOAT32, TENSORFLOAT32, BFLOAT16 = "float32", "tensorfloat32", "bfloat16"
TOLERANCES = {FLOAT32: 1e-4, TENSORFLOAT32: 3e-2, BFLOAT16: 1e-1}


def of_float32(precision: str) -> str:
    """JAX's setting for the products of float32 that there are, also beside bfloat16."""
    return TENSORFLOAT32 if precision == BFLOAT16 else precision


@dataclasses.dataclass(frozen=True)
class Task:
    """A network and the data it learns, the same in every library.

    `residual-mlp` is `mu_1 = a_1 W_1 x`, `mu_l = z_{l-1} + a_l W_l phi(z_{l-1})` and
    `mu_L = a_L W_L phi(z_{L-1})` on MNIST. `decoder` generates its images: a latent with the prior
    N(0, I), `mu_1 = W_1 z_0` and `mu_l = W_l phi(z_{l-1})`, the last clamped to the image, all
    others inferred from zero on. On CIFAR-10, with `width` times the usual channels and
    each node `a W phi(z)` (the first without `phi`): `vgg-5` is four 3x3 convolutions with 2x2 max
    pooling and a linear layer, `vgg-10` nine in four stages with pooling at the end of each, and
    `resnet-18` the network of eight two-layer blocks whose skips are edges. Gaussian energies of
    precision 1, no biases, Adam on the weights.
    """

    model: str
    depth: int
    width: float
    activation: str
    batch: int = 64
    learning_rate: float = 1e-3
    precision: str = FLOAT32


@dataclasses.dataclass(frozen=True)
class Method:
    """An algorithm with its inference rate and steps, or the tolerance at which it is done."""

    name: str
    rate: float = 0.0
    steps: int = 0
    optimizer: str = "sgd"
    tolerance: float = 0.0

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
    tolerance: float


def skipped(case: Case) -> dict[str, str]:
    """Libraries that are left out of a case, with the reason."""
    if case in ACCELERATOR_CASES:
        return {}
    if case.task.model == "decoder":
        return {
            FABRICPC: "left out: this benchmark writes its networks for classifiers alone",
            JAX: "left out: nothing to propagate back from without inference",
        }
    if case.task.model != "residual-mlp":
        return {
            PCX: "not compared on convolutions: compiling takes minutes",
            JPC: "not compared on convolutions: its updates take lists of dense layers",
        }
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
    chosen.append(Contestant(JPC, state))
    if (depth, width) in _PCX_SIZES:
        chosen.append(Contestant(PCX, state))
    task = Task("residual-mlp", depth, width, "relu")
    return Case(f"residual-{depth}-width-{width}", task, tuple(chosen))


def _vgg() -> Case:
    methods = (Method(ERROR, 0.2, 5), Method(BACKPROP))
    chosen = [Contestant(library, method) for method in methods for library in (FATHOMX, FABRICPC)]
    return Case("vgg-5-quarter", Task("vgg-5", 5, 0.25, "gelu"), tuple(chosen))


def _decoder() -> Case:
    method = Method(STATE, 0.1, 20)
    chosen = tuple(Contestant(library, method) for library in (FATHOMX, PCX, JPC))
    return Case("decoder-4-width-256", Task("decoder", 4, 256, "tanh"), chosen)


CASES = (
    *(_residual(depth, 128) for depth in (8, 32, 128)),
    _residual(32, 512),
    _vgg(),
    _decoder(),
)


def _on_accelerator(
    name: str, task: Task, peers: Sequence[tuple[str, Sequence[Method]]]
) -> Iterator[Case]:
    """A task for an accelerator: as JAX computes by default, exactly, and in bfloat16.

    Where the precision is not the default, only what differs by it is run again.
    """
    again = {FATHOMX: (GAUSS_NEWTON, BACKPROP), JAX: (BACKPROP, UNROLLED, SCANNED)}
    for precision in (TENSORFLOAT32, BFLOAT16, FLOAT32):
        usual = precision == TENSORFLOAT32
        chosen = tuple(
            Contestant(library, method)
            for library, methods in peers
            for method in methods
            if usual or method.name in again.get(library, ())
        )
        label = name if usual else f"{name}-{precision}"
        yield Case(label, dataclasses.replace(task, precision=precision), chosen)


def _chains() -> Iterator[Case]:
    state, error, backprop = Method(STATE, 0.1, 128), Method(ERROR, 0.2, 5), Method(BACKPROP)
    newton = Method(GAUSS_NEWTON, steps=1)
    for width, batch in ((128, 64), (1024, 512)):
        task = Task("residual-mlp", 128, width, "relu", batch=batch)
        peers = (
            (FATHOMX, (state, error, newton, backprop)),
            (FABRICPC, (state, error, backprop)),
            (JAX, (Method(UNROLLED), Method(SCANNED))),
        )
        yield from _on_accelerator(f"card-residual-128-width-{width}", task, peers)


def _images() -> Iterator[Case]:
    for model, depth in (("resnet-18", 18), ("vgg-10", 10)):
        # Three steps more than nodes, as `fathomx reproduce deeper-pcns` takes.
        state, error = Method(STATE, 0.1, depth + 3), Method(ERROR, 0.2, 5)
        backprop = Method(BACKPROP)
        own = (
            Method(GAUSS_NEWTON, steps=1),
            backprop,
            error,
            Method(FORWARD_UPDATE, 0.5, depth + 3),
            Method(PROPAGATION),
            state,
        )
        peers = ((FATHOMX, own), (FABRICPC, (backprop, error, state)), (JAX, (backprop,)))
        task = Task(model, depth, 1.0, "gelu", batch=128)
        yield from _on_accelerator(f"card-{model}", task, peers)


# What `python benchmarks/peers --accelerator` measures.
ACCELERATOR_CASES = (*_chains(), *_images())

_ERROR_RATES = (0.05, 0.1, 0.2, 0.5, 1.0)
_STATE_RATES = (0.1, 0.2, 0.4)
_ADAM_RATE = 1e-2
_TOLERANCE = 1e-3


def _race(depth: int, limit: float) -> Race:
    done = [Contestant(FATHOMX, Method(name, tolerance=_TOLERANCE)) for name in UNTIL_DONE]
    chosen = [*done, Contestant(FATHOMX, Method(GAUSS_NEWTON))]
    for library in (FATHOMX, FABRICPC):
        chosen += [Contestant(library, Method(ERROR, rate)) for rate in _ERROR_RATES]
        chosen += [Contestant(library, Method(STATE, rate)) for rate in _STATE_RATES]
    chosen.append(Contestant(FATHOMX, Method(ERROR, _ADAM_RATE, optimizer="adam")))
    task = Task("residual-mlp", depth, 128, "tanh")
    return Race(f"equilibrium-{depth}", task, limit, tuple(chosen), _TOLERANCE)


RACES = (_race(32, 300), _race(128, 20))

# All that can be measured, by name, in the order of the tables.
BY_NAME: dict[str, Case | Race] = {each.name: each for each in (*CASES, *ACCELERATOR_CASES, *RACES)}

# Who is measured against whom in a case: Fathomx's method, the other library, its method.
COMPARISONS = (
    (STATE, FABRICPC, STATE),
    (STATE, PCX, STATE),
    (STATE, JPC, STATE),
    (ERROR, FABRICPC, ERROR),
    (BACKPROP, FABRICPC, BACKPROP),
    (BACKPROP, JAX, BACKPROP),
    (GAUSS_NEWTON, FABRICPC, ERROR),
    (GAUSS_NEWTON, FABRICPC, BACKPROP),
    (GAUSS_NEWTON, FATHOMX, BACKPROP),
    (GAUSS_NEWTON, JAX, BACKPROP),
)
