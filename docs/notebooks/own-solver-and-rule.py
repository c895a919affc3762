# %% [markdown]
# # Your own solver and rule
#
# You have an idea how activities should relax, or what weights should learn from. Here you write
# both, each in a few lines, and hold them against what is there: the same problem, the same
# certificate, the same count of evaluations.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import fathomx as fx
from fathomx.inference import beginning
from fathomx.problem.evaluation import Evaluation, evaluate

plt.rc("figure", dpi=120, figsize=(7, 3.2))
plt.rc("axes.spines", top=False, right=False)

data = fx.data.load("digits")
network = fx.models.residual_mlp(
    64,
    10,
    width=32,
    depth=16,
    activation="tanh",
    parameterization=fx.MuPC(),
    key=jax.random.key(0),
)
problem = fx.Problem(network, data.train.inputs[:16], data.train.labels[:16])

# %% [markdown]
# ## A solver is four methods
#
# Our idea: descend in the errors, but look back at the last step. If the slope changed much over
# a short way, the valley is narrow, and the next step should be short (Barzilai and Borwein,
# 1988). The inverse of the curvature just seen is the rate.
#
# | method | returns |
# |---|---|
# | `max_steps` | when to stop at the latest |
# | `init` | the first state |
# | `step` | the state one step later |
# | `evaluation` | where it stands |
#
# Two rules keep examples apart: take inner products with `problem.network.space`, which gives
# *one number per example*, and do not move examples that are finished.


# %%
class State(fx.SolverState):
    here: Evaluation
    rate: jax.Array


class BarzilaiBorwein(fx.Solver):
    steps: int = eqx.field(static=True, default=20)

    @property
    def max_steps(self):
        return self.steps

    def init(self, problem, start, here):
        return State(**beginning(here), here=here, rate=jnp.full_like(here.energy, 0.1))

    def step(self, problem, state):
        space = problem.network.space
        there = evaluate(problem, space.add(state.here.errors, -state.rate, state.here.gradient))
        minus = -jnp.ones_like(state.rate)
        change = space.add(there.gradient, minus, state.here.gradient)
        way = space.add(there.errors, minus, state.here.errors)
        curvature = space.dot(way, change)
        rate = space.dot(way, way) / jnp.where(curvature > 0, curvature, jnp.inf)
        return State(
            previous_energy=state.here.energy,
            steps=state.steps + 1,
            evaluations=state.evaluations + 1,
            here=there,
            rate=jnp.where(curvature > 0, rate, state.rate),
        )

    def evaluation(self, problem, state):
        return state.here


print(fx.infer(problem, BarzilaiBorwein()).describe())

# %% [markdown]
# That is all. Certificate, trace, training, the figures of a run: nothing else needs to know it.
#
# ## A race
#
# `fx.trace` records the slope after every step, and a relaxation counts its evaluations.


# %%
def slope(problem, here):
    return problem.network.space.norm(here.gradient)


figure, axis = plt.subplots()
racers = {
    "Barzilai-Borwein (ours)": (BarzilaiBorwein(40), "-"),
    "error descent, rate 0.2": (fx.ErrorDescent(0.2, steps=40), "--"),
    "error descent, rate 0.5": (fx.ErrorDescent(0.5, steps=40), "-."),
    "state descent, rate 0.4": (fx.StateDescent(0.4, steps=40), ":"),
}
for name, (solver, style) in racers.items():
    slopes = np.asarray(fx.trace(problem, solver, slope)[1])
    axis.semilogy((slopes / slopes[0]).max(-1), style, label=name)
axis.set(xlabel="evaluations", ylabel="slope left, worst of 16 images")
axis.legend(fontsize=8)
figure.tight_layout()

# %% [markdown]
# Ours has no rate to tune, and that is its point. It does not go down at every step, which is in
# its nature: it looks one step back, not ahead.
#
# ## A rule is one method
#
# A rule turns a problem into a direction for the weights. `fx.PredictiveCoding` is the base of
# all that infer; `gradient` returns the direction and a report. Our idea here: learn from errors
# *halfway* between the feedforward pass and equilibrium.

# %%
from fathomx.learning.predictive_coding import per_precision, report


class Halfway(fx.PredictiveCoding):
    def gradient(self, problem, key):
        problem, start, strength = self.prepare(problem, key)
        relaxed = fx.infer(problem, self.solver, start=start)
        errors = {name: 0.5 * relaxed.errors[name] for name in problem.free}
        explained, activities = problem.explain(errors)
        gradient = fx.weight_gradient(
            problem, problem.complete(activities), problem.joined_errors(errors, explained)
        )
        return per_precision(problem, gradient), report(problem, start, relaxed, strength)


# %% [markdown]
# Before it trains, ask where it points. `fx.alignment` compares a rule's update with backprop's
# on the same batch, node by node.

# %%
strong = fx.HoldStrength(1.0)
rules = {
    "equilibrium": fx.Equilibrium(output_precision=strong),
    "halfway": Halfway(output_precision=strong),
    "forward update": fx.ForwardUpdate(output_precision=strong),
}
figure, axis = plt.subplots(figsize=(7, 2.8))
for (name, rule), style in zip(rules.items(), ("-", "--", ":"), strict=True):
    found = fx.alignment(problem, rule, jax.random.key(2))
    axis.plot(range(1, 17), found.cosine, style, marker=".", label=name)
axis.set(xlabel="node", ylabel="cosine to backprop")
axis.legend()
figure.tight_layout()

# %% [markdown]
# ## Does it learn?
#
# Ours with our solver, beside the usual one and backprop: one seed and three epochs, enough to
# see that it works and far too little to say which is better.

# %%
optimizer = fx.scale_learning_rates(optax.adam(0.5, eps=1e-12))
for name, rule in {
    "halfway, Barzilai-Borwein": Halfway(BarzilaiBorwein(6)),
    "equilibrium, Gauss-Newton": fx.Equilibrium(),
    "backprop": fx.Backprop(),
}.items():
    result = fx.fit(network, data, rule, optimizer=optimizer, epochs=3)
    last = result.history[-1]
    print(f"{name}: {last['validation_accuracy']:.3f} in validation", end=", ")
    print(f"cosine to backprop {last['cosine_to_backprop']:.3f}")

# %% [markdown]
# ## Where next
#
# * The contract in full: [add your own solver](../add-a-solver.md), [add your own
#   rule](../add-a-rule.md).
# * Which are there already: [inference algorithms](../inference-algorithms.md), [learning
#   rules](../learning-rules.md).
# * To bring yours into the library, add it to the lists of the battery in `tests/battery`, which
#   checks what every solver and every rule promises.
