"""What every solver has in common: one driver, one certificate."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from fathomx import checks
from fathomx.checks import Count, OfTwo, Truth, example, gate, shown
from fathomx.graph.vector_space import Entries
from fathomx.inference.relaxation import Progress, Relaxation, certificate, relaxation
from fathomx.problem.energies import evaluated_energies
from fathomx.problem.evaluation import Evaluation, Linearization, with_gradient
from fathomx.problem.problem import Problem
from fathomx.problem.starts import amortized_start, check_start


@gate
class SolverState(eqx.Module):
    """What every solver's state holds; solvers add their own fields.

    **Fields**

    * `previous_energy`: `(batch,)`, before the last step that moved the example.
    * `steps`, `evaluations`: `(batch,)`, taken so far.
    """

    previous_energy: Float[Array, " batch"]
    steps: Int[Array, " batch"]
    evaluations: Int[Array, " batch"]


State = TypeVar("State", bound=SolverState)


@example("fx.GaussNewton()")
@gate
class Solver(eqx.Module, Generic[State]):
    """An inference algorithm: it moves the free activities of a `Problem` to lower energy.

    A solver says how to start (`init`), how to take one step (`step`), when an example is done
    (`finished`) and where it stands (`evaluation`). Every scalar inside its state is one per
    example, so examples never interact. `docs/add-a-solver.md` walks through an example.
    """

    @property
    def needs_key(self) -> bool:
        """Whether it draws random numbers, so that `infer` needs a key."""
        return False

    def with_key(self, key: PRNGKeyArray) -> Solver[State]:
        """The solver with a key to draw from; itself where none is needed."""
        return self

    @property
    @abc.abstractmethod
    def max_steps(self) -> int:
        """Steps after which inference ends in any case, those of `init` included."""

    @property
    def steps_in_init(self) -> int:
        """Steps that `init` already takes (0 or 1), where it can use the start's linearization."""
        return 0

    @property
    def reads_gradient(self) -> bool:
        """Whether `init` looks at the gradient where inference starts; true unless it says no."""
        return True

    @property
    def kept(self) -> int:
        """How many of the last states stand for the result: 1, the last, unless it samples."""
        return 1

    @abc.abstractmethod
    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> State:
        """The first state; `start` and `here` are both taken where inference starts.

        That is the feedforward pass, `e = 0`, where `start.origin` is `None`; otherwise
        `start.origin` is the evaluation there, which the certificate compares with.
        """

    @abc.abstractmethod
    def step(self, problem: Problem, state: State) -> State:
        """The state one step later. Examples that are finished must stay as they are."""

    def finished(self, problem: Problem, state: State) -> Bool[Array, " batch"]:
        """Which examples are done. By default none, until `max_steps` are taken."""
        return jnp.zeros(problem.batch, bool)

    @abc.abstractmethod
    def evaluation(self, problem: Problem, state: State) -> Evaluation:
        """The point where the state stands, with energy and gradient in error coordinates."""

    def point(self, problem: Problem, state: State) -> Evaluation:
        """`evaluation` for those who do not look at the gradient, which may be missing."""
        return self.evaluation(problem, state)

    def activities(self, problem: Problem, state: State) -> Entries:
        """The activities of the free entries where the state stands."""
        return self.point(problem, state).activities

    def arrivals(self, problem: Problem) -> tuple[int, ...]:
        """The step in which an error reaches each node; 0 unless a solver is local."""
        return (0,) * len(problem.network.labels)

    def resumed(self, problem: Problem, state: State, activities: Entries) -> State:
        """The state at activities from which weights have learned, in a problem with the new ones.

        `activities` are those where the state stands. Incremental learning needs it. Raises
        `TypeError` where a solver does not offer it.
        """
        if type(self).with_weights_changed is not Solver.with_weights_changed:
            checks.warn(
                f"{type(self).__name__}.with_weights_changed is now resumed(problem, state, "
                "activities).",
                DeprecationWarning,
            )
        return self.with_weights_changed(problem, state)

    def with_weights_changed(self, problem: Problem, state: State) -> State:
        """The former name of `resumed`, which a `Solver` may still define in its place."""
        if type(self).resumed is not Solver.resumed:
            return self.resumed(problem, state, self.activities(problem, state))
        raise TypeError(
            f"{type(self).__name__} cannot go on after a change of weights; incremental learning "
            "works with StateDescent, ErrorDescent and GaussNewton."
        )


@gate
def infer(
    problem: Problem,
    solver: Solver,
    *,
    start: Linearization | None = None,
    at: Mapping[str, Any] | None = None,
    key: PRNGKeyArray | None = None,
    certify: Truth = True,
) -> Relaxation:
    """Relaxes the free activities of a problem and certifies how settled they are.

    Starts from the feedforward pass, `e = 0`, or from the activities `at`, and runs the solver
    until all examples are finished or its steps are used up. Numerical failure is a result, not an
    exception: look at `relaxation.unsettled`.

    The result is constant under differentiation: learning is local, no derivative passes through
    inference. By the envelope theorem the derivative of the energy at fixed activities is that of
    the equilibrated energy.

    Compiled once per shape and solver.

    **Arguments**

    * `problem`, `solver`.
    * `start`: a `Linearization` at `e = 0` of the same network and clamps, which saves computing it
      again inside a larger compiled function.
    * `at`: activities to start from, by name, as in `relaxation.activities`; entries that are not
      named start at their prediction. For amortized and warm starts. The certificate goes on to
      compare with `e = 0`.
    * `key`: for solvers that draw random numbers.
    * `certify`: whether the certificate is computed, a reverse pass; `relaxation.unsettled` is NaN
      where not. May be traced. True unless given.

    Raises `ValueError` for `at` of an entry that is clamped, unknown or of another shape, and for a
    solver that needs a key without one.

    ```python
    relaxed = fx.infer(problem, fx.Newton(tolerance=1e-6))
    print(relaxed.describe())
    relaxed = fx.infer(problem, fx.Newton(), at={"cause": before.activities["cause"]})
    ```
    """
    begin = _checked_start(problem, at)
    return _run(problem, _keyed(solver, key), start, begin, _ToTheEnd(), certify)[0]


@gate
def trace(
    problem: Problem,
    solver: Solver,
    observe: OfTwo = evaluated_energies,
    steps: Count | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    key: PRNGKeyArray | None = None,
) -> tuple[Relaxation, Any]:
    """`infer`, with an observation before the first and after every step.

    `observe(problem, evaluation)` is any function of the problem and of the point where inference
    stands (its errors, activities, prediction, energy and gradient); by default the energies of the
    nodes, `(nodes, batch)`. `steps` is how many steps to take, by default all of
    `solver.max_steps`; examples that are finished earlier repeat their last value. `at` and `key`
    are those of `infer`.

    Returns the relaxation and the observations stacked along a leading axis of `steps + 1`.
    """
    steps = solver.max_steps if steps is None else min(steps, solver.max_steps)
    begin = _checked_start(problem, at)
    return _run(problem, _keyed(solver, key), None, begin, _Recorded(observe, steps), True)


@gate
def average(
    problem: Problem,
    solver: Solver,
    observe: OfTwo,
    *,
    start: Linearization | None = None,
    at: Mapping[str, Any] | None = None,
    key: PRNGKeyArray | None = None,
    certify: Truth = True,
) -> tuple[Relaxation, Any]:
    """`infer`, with the mean of an observation over the states that stand for the result.

        1/n sum_t observe(problem, state_t)        over the last n = solver.kept states

    Of a solver that samples (`fx.Langevin`) these are the samples after its burn-in, and the mean
    is that over the posterior; of every other it is the last state alone. `observe(problem,
    evaluation)` is as for `trace` and returns arrays; all other arguments are those of `infer`.

    Returns the relaxation, at the last state, and the mean.

    ```python
    mean = lambda problem, here: here.activities["cause"]
    relaxed, cause = fx.average(problem, fx.Langevin(1e-2, 1000, 200), mean, key=key)
    ```
    """
    solver, begin = _keyed(solver, key), _checked_start(problem, at)
    return _run(problem, solver, start, begin, _Averaged(observe), certify)


def _keyed(solver: Any, key: PRNGKeyArray | None) -> Solver:
    if not isinstance(solver, Solver):
        raise TypeError(
            f"solver must be a solver such as fx.GaussNewton(), not {solver!r}; a class needs its "
            "parentheses."
        )
    if key is not None:
        return solver.with_key(key)
    if solver.needs_key:
        raise ValueError(
            f"{type(solver).__name__} draws random numbers; give a key, as in "
            "fx.infer(problem, solver, key=jax.random.key(0))."
        )
    return solver


def _checked_start(problem: Any, at: Mapping[str, Any] | None) -> Entries | None:
    """The activities to start from, those of amortized predictions unless given."""
    if not isinstance(problem, Problem):
        raise TypeError(
            f"what is relaxed must be an fx.Problem, not {type(problem).__name__}; pose one, as in "
            "fx.Problem(network, {name: value})."
        )
    if at is not None:
        return check_start(problem, at)
    return amortized_start(problem) if problem.network.amortized else None


def _check_begun(solver: Solver, state: Any) -> None:
    """Raises `TypeError` or `ValueError` for a solver that does not start as it must."""
    name = type(solver).__name__
    checks.count(f"max_steps of {name}", solver.max_steps, least=0)
    if not isinstance(state, SolverState):
        raise TypeError(
            f"{name}.init must return its first state, a SolverState, not {shown(state)}."
        )


def _all_finished(problem: Problem, solver: Solver, state: SolverState) -> Array:
    done = solver.finished(problem, state)
    if getattr(done, "dtype", None) != jnp.bool_ or done.shape != (problem.batch,):
        raise ValueError(
            f"{type(solver).__name__}.finished must return one truth value for each of "
            f"{problem.batch} examples, not {shown(done)}."
        )
    return jnp.all(done)


@contextlib.contextmanager
def _telling(problem: Problem, solver: Solver, state: SolverState) -> Iterator[None]:
    """Says it where steps cannot be repeated because they change the form of the state."""
    try:
        yield
    except TypeError:
        after = eqx.filter_eval_shape(solver.step, problem, state)
        if _form(after) == _form(state):
            raise
        raise ValueError(
            f"{type(solver).__name__}.step must return a state of the same arrays as the one "
            f"before, in shapes and types; it returns {shown(after)} of others."
        ) from None


def _form(state: Any) -> Any:
    leaves = jax.tree.leaves(eqx.filter(state, lambda x: hasattr(x, "dtype")))
    return type(state), [(leaf.shape, leaf.dtype) for leaf in leaves]


class _ToTheEnd(eqx.Module):
    """Steps until all examples are finished or no steps are left."""

    def __call__(
        self, problem: Problem, solver: Solver, state: Any, here: Evaluation
    ) -> tuple[Any, Any]:
        remaining = solver.max_steps - solver.steps_in_init
        return advanced(problem, solver, state, remaining), None


class _Recorded(eqx.Module):
    """So many steps, with an observation before the first and after every one."""

    observe: Callable[[Problem, Evaluation], Any]
    steps: int = eqx.field(static=True)

    def __call__(
        self, problem: Problem, solver: Solver, state: Any, here: Evaluation
    ) -> tuple[Any, Any]:
        def observed(state: Any) -> Any:
            return _observation(self.observe(problem, solver.evaluation(problem, state)))

        def watched(state: Any, _: None) -> tuple[Any, Any]:
            idle = _all_finished(problem, solver, state)
            state = jax.lax.cond(idle, lambda s: s, lambda s: solver.step(problem, s), state)
            return state, observed(state)

        rows = [_observation(self.observe(problem, here))]
        rows += [observed(state)] * solver.steps_in_init
        first = jax.tree.map(lambda *a: jnp.stack(a), *rows)
        remaining = self.steps - solver.steps_in_init
        with _telling(problem, solver, state):
            state, later = jax.lax.scan(watched, state, None, length=max(remaining, 0))
        return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, later)


class _Averaged(eqx.Module):
    """Steps to the end, with the mean of an observation over the states that are kept."""

    observe: Callable[[Problem, Evaluation], Any]

    def __call__(
        self, problem: Problem, solver: Solver, state: Any, here: Evaluation
    ) -> tuple[Any, Any]:
        def observed(state: Any) -> Any:
            return _observation(self.observe(problem, solver.evaluation(problem, state)))

        more = min(solver.kept, solver.max_steps - solver.steps_in_init + 1) - 1
        state = advanced(problem, solver, state, solver.max_steps - solver.steps_in_init - more)

        def add(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
            state, total = carry
            state = solver.step(problem, state)
            return (state, jax.tree.map(jnp.add, total, observed(state))), None

        with _telling(problem, solver, state):
            begun = (state, observed(state))
            (state, total), _ = jax.lax.scan(add, begun, None, length=max(more, 0))
        return state, jax.tree.map(lambda a: a / (max(more, 0) + 1), total)


def advanced(problem: Problem, solver: Solver, state: Any, remaining: int) -> Any:
    """The state after so many steps, or fewer if all examples are finished."""
    if remaining <= 0:
        return state

    def going(carry: tuple[Any, Array]) -> Array:
        state, count = carry
        return (count < remaining) & ~_all_finished(problem, solver, state)

    def advance(carry: tuple[Any, Array]) -> tuple[Any, Array]:
        state, count = carry
        return solver.step(problem, state), count + 1

    with _telling(problem, solver, state):
        state, _ = jax.lax.while_loop(going, advance, (state, jnp.asarray(0)))
    return state


Run = Callable[[Problem, Solver, Any, Evaluation], tuple[Any, Any]]


def _run(
    problem: Problem,
    solver: Solver,
    start: Linearization | None,
    at: Entries | None,
    run: Run,
    certify: bool | Array,
) -> tuple[Relaxation, Any]:
    # With a start it is a part of what is being compiled.
    drive = _compiled if start is None else _drive
    found: tuple[Relaxation, Any] = drive(problem, solver, start, at, run, certify)
    return found


def _drive(
    problem: Problem,
    solver: Solver,
    start: Linearization | None,
    at: Entries | None,
    run: Run,
    certify: bool | Array,
) -> tuple[Relaxation, Any]:
    arrays, rest = eqx.partition(problem, eqx.is_array)
    problem = eqx.combine(jax.lax.stop_gradient(arrays), rest)
    if start is None:
        start = Linearization.at_start(problem)
    first = start
    origin = here = start.evaluation(problem)
    if at is not None:
        start = Linearization(problem, problem.errors_from_start(at), origin)
        here = start.evaluation(problem)
    state = solver.init(problem, start, here)
    _check_begun(solver, state)
    state, observations = run(problem, solver, state, here)
    always = certify is True
    there = solver.evaluation(problem, state) if always else solver.point(problem, state)

    def certified() -> Array:
        if always:
            return certificate(problem, there, origin)
        # What nobody else needs is computed here, so that it is not where it is not wanted.
        begun = origin if solver.reads_gradient else first.evaluation(problem)
        return certificate(problem, with_gradient(problem, there), begun)

    gained, last = here.energy - there.energy, state.previous_energy - there.energy
    fell = (gained > 0) & (last >= 0)
    progress = Progress(
        decrease=jnp.where(fell, last / jnp.where(fell, gained, 1), 1),
        steps=state.steps,
        evaluations=state.evaluations,
    )
    unsettled = where_wanted(certify, certified)
    return relaxation(problem, there, unsettled, progress), observations


_compiled = eqx.filter_jit(_drive)


def where_wanted(wanted: bool | Array, compute: Callable[[], Array]) -> Array:
    """What is computed, only where it is wanted, which may be traced; NaN elsewhere."""
    if wanted is True:
        return compute()
    shape = jax.eval_shape(compute)

    def nothing() -> Array:
        return jnp.full(shape.shape, jnp.nan, shape.dtype)

    found: Array = nothing() if wanted is False else jax.lax.cond(wanted, compute, nothing)
    return found


def beginning(here: Evaluation, evaluations: int = 1) -> dict[str, Any]:
    """The common fields of a state at its start, after so many gradients."""
    count = jnp.zeros(here.energy.shape, int)
    return {
        "previous_energy": here.energy,
        "steps": count,
        "evaluations": count + evaluations,
    }


def _observation(seen: Any) -> Any:
    """What `observe` returned, as arrays."""
    return jax.tree.map(lambda leaf: checks.array("what observe returns", leaf), seen)
