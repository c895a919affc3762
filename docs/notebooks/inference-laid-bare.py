# %% [markdown]
# # Inference laid bare
#
# Inference is a ball that rolls to the bottom of a valley. With two hidden units the valley can
# be drawn, and all algorithms on it. Then we ask the question that is easily forgotten: *had the
# ball arrived?*

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import fathomx as fx
from fathomx.problem import node_energies

plt.rc("figure", dpi=120, figsize=(7, 3.4))
plt.rc("axes.spines", top=False, right=False)

# %% [markdown]
# ## A valley
#
# Three nodes of one unit each. Input $x$ and target $y$ are clamped, $z_1$ and $z_2$ are free:
#
# $$F(z_1, z_2) = \tfrac12 (z_1 - w_1 \tanh x)^2 + \tfrac12 (z_2 - w_2 \tanh z_1)^2
# + \tfrac\lambda2 (y - w_3 \tanh z_2)^2$$


# %%
class Unit(eqx.Module):
    weight: jax.Array

    def __call__(self, z):
        return self.weight * jnp.tanh(z)


network = fx.Network(
    [
        fx.Node("first", Unit(jnp.array([1.5]))),
        fx.Node("second", Unit(jnp.array([1.5]))),
        fx.Node("output", Unit(jnp.array([1.2]))),
    ],
    input_shape=(1,),
)


def posed(count):
    """The same problem for many examples at once."""
    x, y = jnp.full((count, 1), 0.8), jnp.full((count, 1), -0.1)
    return fx.Problem(network, input=x, target=y, output_precision=3.0)


# %% [markdown]
# The energy can be asked for at any activities. A grid of them, each an example of its own, is
# the landscape.

# %%
first, second = np.linspace(-0.8, 1.6, 81), np.linspace(-0.9, 1.4, 81)
grid = np.stack(np.meshgrid(first, second), -1).reshape(-1, 2)
places = {"first": jnp.asarray(grid[:, :1]), "second": jnp.asarray(grid[:, 1:])}
heights = node_energies(posed(len(grid)), places).sum(0).reshape(81, 81)

# %% [markdown]
# And here come the balls. `fx.trace` records whatever we ask for at every step: here, where
# inference stands.

# %%
solvers = {
    "state descent": fx.StateDescent(0.1, steps=200),
    "error descent": fx.ErrorDescent(0.05, steps=200),
    "Gauss-Newton": fx.GaussNewton(8, 4),
    "Newton": fx.Newton(tolerance=1e-4),
}


def standing(problem, here):
    return jnp.concatenate([here.activities["first"], here.activities["second"]], -1)[0]


paths = {
    name: np.asarray(fx.trace(posed(1), solver, standing)[1]) for name, solver in solvers.items()
}

# %%
figure, axis = plt.subplots(figsize=(7, 4.2))
levels = np.geomspace(1.02 * heights.min(), heights.max(), 18)
axis.contour(first, second, heights, levels=levels, colors="gray", linewidths=0.6)
marks = {"state descent": "o-", "error descent": "s-", "Gauss-Newton": "^-", "Newton": "D--"}
for name, path in paths.items():
    axis.plot(*path.T, marks[name], markersize=3.5, linewidth=1.3, label=name)
axis.plot(*paths["Newton"][0], "k*", markersize=13, label="feedforward pass")
axis.set(xlabel="activity $z_1$", ylabel="activity $z_2$")
axis.legend(loc="upper left")
figure.tight_layout()

# %% [markdown]
# All of them start at the star, where the network stands when it only looks at its input. There
# the hidden errors are zero and the whole energy is the output's. The descents follow the slope
# in small steps; Gauss-Newton and Newton know how the valley bends and need only a few, bold
# enough to jump over the bottom and come back.

# %%
for name, solver in solvers.items():
    relaxed = fx.infer(posed(1), solver)
    count = int(relaxed.evaluations[0])
    print(f"{name:14s} {count:4d} evaluations, energy {relaxed.energy.sum():.5f}")

# %% [markdown]
# ## Two ways to describe a place
#
# The activities $z$ and the errors $e = z - \mu$ describe the same place: from either follows the
# other. The minima are the same, too. But the *valley* is not: in errors it is round in all
# directions but a few, in activities it becomes a canyon, and the longer the deeper the network.
# Its condition number says how much longer than wide it is, which is about the number of steps
# that a descent needs.

# %%
with jax.enable_x64(True):
    print("nodes   condition in activities   in errors")
    for depth in (4, 8, 16, 32):
        deep = fx.models.residual_mlp(
            16,
            4,
            width=16,
            depth=depth,
            activation="linear",
            parameterization=fx.MuPC(),
            key=jax.random.key(0),
        )
        x = jax.random.normal(jax.random.key(1), (1, 16))
        state, error = (
            kind(fx.Problem(deep, x, jnp.eye(4)[:1])).extremes().condition_number
            for kind in (fx.theory.StateHessian, fx.theory.ErrorHessian)
        )
        print(f"{depth:5d} {float(state):22.0f} {float(error):14.1f}")

# %% [markdown]
# ## Had it arrived?
#
# Now a network of 32 nodes. The certificate of a relaxation, `unsettled`, is the length of the
# slope that is left, relative to the slope at the star. We let every algorithm work, and read it
# off for the worst of 16 images.

# %%
data = fx.data.load("digits")
deep = fx.models.residual_mlp(
    64,
    10,
    width=64,
    depth=32,
    activation="tanh",
    parameterization=fx.MuPC(),
    key=jax.random.key(0),
)
problem = fx.Problem(deep, data.train.inputs[:16], data.train.labels[:16])


def slope(problem, here):
    return problem.network.space.norm(here.gradient)


runs = {
    "state descent": (fx.StateDescent(0.4, steps=300), 1),
    "error descent": (fx.ErrorDescent(0.2, steps=100), 1),
    "Gauss-Newton, 8 products each": (fx.GaussNewton(8, 8), 9),
    "Newton": (fx.Newton(tolerance=1e-5), None),
}
figure, axis = plt.subplots()
for name, (solver, cost) in runs.items():
    relaxed, slopes = fx.trace(problem, solver, slope)
    left = np.asarray(slopes / slopes[0]).max(-1)
    if cost is None:  # Its steps cost as much as the valley asks for.
        axis.plot(relaxed.evaluations.max(), relaxed.unsettled.max(), "k*", ms=12, label=name)
    else:
        axis.plot(1 + cost * np.arange(len(left)), left, label=name)
axis.set(
    xscale="log",
    yscale="log",
    xlabel="evaluations (gradients and products)",
    ylabel="slope left, worst image",
)
axis.legend()
figure.tight_layout()

# %% [markdown]
# Newton is done before state descent, the textbook's algorithm, has begun. Error descent at a
# good rate arrives, too. Gauss-Newton goes most of its way at once and then slows down: it leaves
# out the curvature of the network itself, which on the worst image counts. The error of the
# output climbs down one node per step, so that 32 steps pass before the first node has heard of
# it at all. If you learned from such activities and called it predictive coding, who would
# notice? You would, because every relaxation says so:

# %%
print("20 steps of state descent:", fx.infer(problem, fx.StateDescent(0.4, steps=20)).describe())
print("one step of Gauss-Newton: ", fx.infer(problem, fx.GaussNewton()).describe())

# %% [markdown]
# ## Where the energy sits
#
# The same as pictures over the nodes: how much of the energy each node holds after 20 steps of
# state descent, and at the bottom.

# %%
figure, axis = plt.subplots(figsize=(7, 2.8))
for name, solver in {
    "20 steps of state descent": fx.StateDescent(0.4, steps=20),
    "Newton": fx.Newton(tolerance=1e-3),
}.items():
    energy = fx.infer(problem, solver).energy
    axis.semilogy(range(1, 33), np.maximum(energy, 1e-12), ".-", label=name)
axis.set(xlabel="node, from input to output", ylabel="energy", ylim=(1e-8, 3))
axis.legend()
figure.tight_layout()

# %% [markdown]
# ## Where next
#
# * Which solver for what: [inference algorithms](../inference-algorithms.md).
# * Write one: [your own solver and rule](own-solver-and-rule.md).
# * Why the valley is round in errors, and the proofs: [theory](../theory.md).
