# %% [markdown]
# # Theory on a real network
#
# Backprop descends the loss. Predictive coding first lets the activities relax, and what its
# weights descend is the energy *that is left*, $F^*(\theta) = \min_z F(z, \theta)$. That is
# another landscape over the same weights, and `fx.theory` computes it: in closed form where there
# is one, by relaxation with a certificate where there is none. We check the closed form, stand on
# a saddle in both landscapes, and see who gets away.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import fathomx as fx

jax.config.update("jax_enable_x64", True)  # nine digits, not seven
plt.rc("figure", dpi=120, figsize=(7, 3.2))
plt.rc("axes.spines", top=False, right=False)

x = jax.random.normal(jax.random.key(0), (32, 6))
y = jax.random.normal(jax.random.key(1), (32, 3))


def chain(depth, activation="linear", seed=2):
    return fx.models.mlp(
        6, 3, width=4, depth=depth, activation=activation, key=jax.random.key(seed)
    )


# %% [markdown]
# ## The energy at equilibrium, in closed form
#
# If a network is linear in its activities, errors $e$ move its output by $J e$, and the minimum
# over $e$ can be written down:
#
# $$F^*(\theta) = \tfrac12\, \mathrm{mean}_i\; r_i^T S^{-1} r_i, \qquad
# S = \tfrac1\lambda I + J \Pi^{-1} J^T$$
#
# with $r$ what the output misses. It is the loss, *rescaled* by how far the network's own
# activities can give way. Newton's method knows nothing of $S$; it only relaxes.

# %%
network = chain(5)
closed = fx.theory.equilibrated_energy(network, x, y)
relaxed = fx.infer(fx.Problem(network, x, y), fx.Newton(tolerance=1e-12))
print("closed form:", float(closed.energy))
print("relaxed:    ", float(relaxed.energy.sum()))
print(closed.describe())

# %% [markdown]
# And the weights' local update is the gradient of $F^*$: at the bottom of the valley the
# activities' own slope is zero, so moving the weights changes the energy only directly. Two ways to
# the same vector:

# %%
gradient = fx.theory.gradient(fx.theory.EquilibratedEnergy(x, y), network)
local = fx.weight_gradient(fx.Problem(network, x, y), relaxed.activities, relaxed.errors)
flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(local)])
print("largest difference:", float(jnp.abs(flat - gradient).max()))

# %% [markdown]
# ## A saddle, seen from both landscapes
#
# Set all weights to zero. Nothing passes through, and the slope vanishes: a critical point of
# both landscapes. But what does the ground look like around it? The eigenvalues of the Hessian
# say: a negative one is a way down.

# %%
origin = fx.theory.origin(chain(4))
landscapes = {
    "loss (backprop)": fx.theory.Loss(x, y),
    "energy at equilibrium (predictive coding)": fx.theory.EquilibratedEnergy(x, y),
}
for name, landscape in landscapes.items():
    found = fx.theory.spectrum(landscape, origin)
    print(f"{name}: {found.verdict}, smallest eigenvalue {found.smallest:.4f}")
largest = float(jnp.linalg.eigvalsh(y.T @ y / len(y)).max())
print(f"the theory says {-largest:.4f} for the second")

# %% [markdown]
# For the loss the origin is flat to second order in *every* direction: with four layers all of
# them are multiplied, and one changed weight changes nothing. At equilibrium there is a way down,
# because the last layer alone already lets the activities give way. Along that way, and across:

# %%
values, vectors = np.linalg.eigh(
    fx.theory.hessian(landscapes["energy at equilibrium (predictive coding)"], origin)
)
random = np.random.default_rng(0).normal(size=len(values))
directions = (jnp.asarray(vectors[:, 0]), jnp.asarray(random / np.linalg.norm(random)))
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4))
for axis, (name, landscape) in zip(axes, landscapes.items(), strict=True):
    seen = fx.theory.plane(landscape, origin, directions, radius=1.5, points=25)
    drop = seen.values - seen.values[12, 12]
    image = axis.contourf(
        seen.first,
        seen.second,
        drop,
        levels=np.arange(-0.85, 0.9, 0.1),
        cmap="RdBu_r",
        extend="both",
    )
    axis.plot(0, 0, "k+", markersize=9)
    axis.set(title=name.split(" (")[0], xlabel="along the way down")
axes[0].set(ylabel="along a random direction")
figure.colorbar(image, ax=axes, label="higher or lower than the saddle")
plt.show()

# %% [markdown]
# ## Who gets away?
#
# Start a little off the saddle and descend both landscapes at the same rate.

# %%
import equinox as eqx


@eqx.filter_jit
def descend(landscape, network, steps, rate):
    """The loss along gradient descent on a landscape."""
    weights, rest = fx.split(network)
    loss = fx.theory.Loss(x, y)

    def step(weights, _):
        slope = jax.grad(lambda weights: landscape(eqx.combine(weights, rest)))(weights)
        moved = jax.tree.map(lambda w, g: w - rate * g, weights, slope)
        return moved, loss(eqx.combine(weights, rest))

    return jax.lax.scan(step, weights, None, steps)[1]


figure, axis = plt.subplots()
for color, (name, landscape) in zip(("C1", "C0"), landscapes.items(), strict=True):
    for seed in range(3):
        start = fx.theory.nearby(origin, 0.05, jax.random.key(seed))
        losses = descend(landscape, start, 3000, 0.1)
        label = name.split(" (")[1].rstrip(")") if seed == 0 else None
        axis.plot(losses, color=color, label=label, alpha=0.9)
axis.set(xlabel="step of gradient descent", ylabel="loss", xscale="log")
axis.legend()
figure.tight_layout()

# %% [markdown]
# Three seeds each. Both lines show the *loss*, although only one of the two descends it. Whether
# the way out is always so much shorter on larger networks, and where it is not, is measured in
# [experiment `saddle-escape`](../../experiments/saddle_escape/README.md).
#
# ## How far from backprop?
#
# Around the feedforward pass inference takes a *trust-region step*: backprop's direction where
# the hidden precisions outweigh the output's, a second-order step where they do not.
# `fx.theory.trust_region` predicts the step and compares it with what inference found:

# %%
curved = fx.models.mlp(6, 3, width=8, depth=5, activation="tanh", key=jax.random.key(4))
precisions = np.geomspace(0.01, 3, 9)
found = [
    fx.theory.trust_region(fx.Problem(curved, x, y, output_precision=precision))
    for precision in precisions
]
figure, (left, right) = plt.subplots(1, 2)
left.loglog(precisions, [float(f.overall_difference) for f in found], "o-")
left.loglog(precisions, 5 * precisions**2, ":", color="gray", label="slope 2")
left.set(xlabel="output precision", title="prediction and equilibrium differ by", ylim=(1e-4, 10))
left.legend()
right.semilogx(precisions, [float(f.cosine_to_backprop) for f in found], "o-")
right.set(xlabel="output precision", title="cosine to backprop's step", ylim=(None, 1.005))
figure.tight_layout()

# %% [markdown]
# ## Where next
#
# * Every equation with its function and its test: [theory](../theory.md).
# * The published claims, on larger networks and several seeds:
#   [`strict-saddles`](../../experiments/strict_saddles/README.md),
#   [`matrix-completion`](../../experiments/matrix_completion/README.md),
#   [`trust-region`](../../experiments/trust_region/README.md).
