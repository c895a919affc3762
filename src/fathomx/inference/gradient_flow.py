"""Gradient flow: inference as an ordinary differential equation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fathomx.checks import Count, Positive, gate
from fathomx.checks.kinds import instance
from fathomx.graph.clamp import Clamp
from fathomx.graph.vector_space import Entries
from fathomx.inference.base import Solver, SolverState, beginning
from fathomx.problem.energies import node_energies
from fathomx.problem.evaluation import Evaluation, Linearization, evaluate
from fathomx.problem.problem import Problem

# diffrax takes a sixth of the time that the package takes to be imported: only who makes a
# `GradientFlow` imports it.
if TYPE_CHECKING:
    from diffrax import AbstractSolver, AbstractStepSizeController
else:

    def _of_diffrax(kind: str, example: str) -> Any:
        """What the gate asks of an object of diffrax's."""

        def check(name: str, value: Any) -> Any:
            import diffrax

            return instance(name, value, getattr(diffrax, kind), example)

        return Annotated[Any, check]

    AbstractSolver = _of_diffrax("AbstractSolver", "diffrax.Tsit5()")
    AbstractStepSizeController = _of_diffrax(
        "AbstractStepSizeController", "diffrax.PIDController(rtol=1e-5, atol=1e-8)"
    )

_FIRST_SEGMENT = 1.0
_MOST_ODE_STEPS = 10_000


class GradientFlowState(SolverState):
    """Activities, time and norm of the flow where the integration stands."""

    coordinates: Entries
    time: Float[Array, ""]
    norm: Float[Array, " batch"]
    reference: Float[Array, " batch"]


@gate
class GradientFlow(Solver[GradientFlowState]):
    """Integrates `dz/dt = -dF/dz` from the feedforward pass with a diffrax solver.

    Every example is its own differential equation with its own adaptive steps. The integration
    runs in segments of doubling length (these are the inference steps that are reported) and ends
    for an example when its flow has slowed to `||dF/dz|| <= tolerance * ||dF/dz at the start||`,
    never by looking at the activities.

    **Arguments**

    * `solver`: a diffrax solver; `diffrax.Tsit5()` unless given. The flow of deep networks is
      stiff; in exchange implicit solvers pay for a linear solve in all activities per step.
    * `tolerance`: relative norm of the flow, positive; 1e-3 unless given.
    * `segments`: at least 1; the flow is followed up to time `2^segments - 1`; 16 unless given.
    * `controller`: diffrax step size controller; `PIDController(rtol=r, atol=1e-3 * r)` with
      `r = 0.01 * tolerance`, at most 1e-3, unless given. Near its end a flow is held up by
      stability alone and hovers at about the controller's accuracy, below which it cannot settle.

    Adaptive steps are decided by comparisons, which rounding can turn: in float32 an example
    differs between batch sizes by about the controller's accuracy, in float64 by rounding alone.

    Source: Innocenti et al. (2024), arXiv 2412.03676, who integrate the whole batch as one
    equation.
    """

    solver: AbstractSolver
    tolerance: float = eqx.field(static=True)
    segments: int = eqx.field(static=True)
    controller: AbstractStepSizeController

    def __init__(
        self,
        solver: AbstractSolver | None = None,
        tolerance: Positive = 1e-3,
        segments: Count = 16,
        controller: AbstractStepSizeController | None = None,
    ) -> None:
        import diffrax

        self.solver = diffrax.Tsit5() if solver is None else solver
        self.tolerance = tolerance
        self.segments = segments
        accuracy = min(1e-3, 0.01 * self.tolerance)
        self.controller = (
            diffrax.PIDController(rtol=accuracy, atol=1e-3 * accuracy)
            if controller is None
            else controller
        )

    @property
    def max_steps(self) -> int:
        return self.segments

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> GradientFlowState:
        norm = problem.network.space.norm(_flow(problem, here.activities))
        reference = norm
        if start.origin is not None:
            reference = problem.network.space.norm(_flow(problem, start.origin.activities))
        return GradientFlowState(
            **beginning(here),
            coordinates=here.activities,
            time=jnp.zeros((), here.energy.dtype),
            norm=norm,
            reference=reference,
        )

    def finished(self, problem: Problem, state: GradientFlowState) -> Bool[Array, " batch"]:
        # The event stops on the threshold's other side only up to the last step's accuracy.
        slow = state.norm <= 1.001 * self.tolerance * state.reference
        return slow | ~jnp.isfinite(state.norm)

    def step(self, problem: Problem, state: GradientFlowState) -> GradientFlowState:
        import diffrax

        space = problem.network.space
        idle = self.finished(problem, state)
        length = _FIRST_SEGMENT + state.time

        def one(
            clamps: dict[str, Clamp], z: Entries, reference: Array
        ) -> tuple[Entries, Array, Array]:
            alone = problem.alone(clamps)

            def field(t: Any, z: Entries, args: Any) -> Entries:
                return space.only(_flow(alone, space.one(z)))

            def slow(t: Any, z: Entries, args: Any, **unused: Any) -> Array:
                return space.norm(_flow(alone, space.one(z)))[0] <= self.tolerance * reference

            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(field),
                self.solver,
                t0=0,
                t1=length,
                dt0=None,
                y0=z,
                saveat=diffrax.SaveAt(t1=True),
                stepsize_controller=self.controller,
                event=diffrax.Event(slow),
                max_steps=_MOST_ODE_STEPS,
                throw=False,
            )
            assert solution.ys is not None
            end = jax.tree.map(lambda saved: saved[0], solution.ys)
            return end, solution.stats["num_steps"], space.norm(_flow(alone, space.one(end)))[0]

        axes = space.axes(state.coordinates)
        in_axes = (problem.clamp_axes, axes, 0)
        moved, taken, norm = jax.vmap(one, in_axes=in_axes, out_axes=(axes, 0, 0))(
            problem.clamps, state.coordinates, state.reference
        )
        coordinates = space.where(idle, state.coordinates, moved)
        stages = _stages(self.solver)
        before = node_energies(problem, state.coordinates).sum(axis=0)
        return GradientFlowState(
            previous_energy=jnp.where(idle, state.previous_energy, before),
            steps=state.steps + ~idle,
            evaluations=state.evaluations + jnp.where(idle, 0, taken * stages),
            coordinates=coordinates,
            time=state.time + length,
            norm=jnp.where(idle, state.norm, norm),
            reference=state.reference,
        )

    def evaluation(self, problem: Problem, state: GradientFlowState) -> Evaluation:
        return evaluate(problem, problem.errors_of(state.coordinates))


def _flow(problem: Problem, activities: Entries) -> Entries:
    gradient = jax.grad(lambda z: node_energies(problem, z).sum())(activities)
    return jax.tree.map(jnp.negative, gradient)


def _stages(solver: AbstractSolver) -> int:
    """Evaluations of the flow in a step of an explicit solver; 1 where it cannot be told."""
    tableau = getattr(solver, "tableau", None)
    return int(getattr(tableau, "num_stages", 1))
