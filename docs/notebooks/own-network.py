# %% [markdown]
# # Your own network
#
# You hear a cricket, and you think you see it. Where is it? Ears and eyes both err, and the best
# guess weighs each by how much it can be trusted. That is predictive coding at its smallest: a
# hidden **cause** that predicts what the senses report, and inference that makes the predictions
# fit.
#
# We build it from two lines, check it against a formula, let it learn its own ears, and then
# replace every part.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import fathomx as fx

plt.rc("figure", dpi=120, figsize=(7, 3))
plt.rc("axes.spines", top=False, right=False)

# %% [markdown]
# ## A cause and two senses
#
# A `fx.Root` predicts itself: it expects to be near zero, and its precision (one over the
# variance) says how strongly. A `fx.Node` is predicted from its parents by any function of *one*
# example. The eye's precision is 4, the ear's 1: we trust what we see twice as far.


# %%
def same(place):
    return place


network = fx.Network(
    [
        fx.Root("place", (1,), energy=fx.Gaussian(0.5)),
        fx.Node("seen", same, "place", energy=fx.Gaussian(4.0)),
        fx.Node("heard", same, "place", energy=fx.Gaussian(1.0)),
    ]
)
print(network)

# %% [markdown]
# Nothing in a network says what is input and what is output. A **problem** does: it clamps
# entries by name, and the rest is inferred.

# %%
senses = {"seen": jnp.array([[1.0]]), "heard": jnp.array([[3.0]])}
relaxed = fx.infer(fx.Problem(network, senses, output_precision=1.0), fx.Newton())
place = relaxed.activities["place"][0, 0]
by_hand = (4.0 * 1.0 + 1.0 * 3.0) / (0.5 + 4.0 + 1.0)
print(f"inferred {place:.6f}, the formula says {by_hand:.6f}")

# %%
where = np.linspace(-2, 5, 300)
figure, axis = plt.subplots()
beliefs = {"prior": (0, 0.5), "seen": (1, 4.0), "heard": (3, 1.0), "inferred": (by_hand, 5.5)}
for name, (mean, precision) in beliefs.items():
    density = np.sqrt(precision / (2 * np.pi)) * np.exp(-precision / 2 * (where - mean) ** 2)
    axis.plot(where, density, label=name, linewidth=3 if name == "inferred" else 1.5)
axis.axvline(float(place), color="black", linestyle=":", label="fx.infer")
axis.set(xlabel="place", ylabel="density")
axis.legend()
figure.tight_layout()

# %% [markdown]
# In the dark there is nothing to see, so we clamp the ear alone. No other line changes, and
# inference falls back on the ear and the prior.

# %%
dark = fx.infer(
    fx.Problem(network, {"heard": jnp.array([[3.0]])}, output_precision=1.0), fx.Newton()
)
place, seen = dark.activities["place"][0, 0], dark.activities["seen"][0, 0]
print(f"in the dark it seems to be at {place:.2f}, and we expect to see it at {seen:.2f}")

# %% [markdown]
# ## Modules of your own
#
# Real ears are populations of cells. Let each of twelve cells answer the more the farther to the
# right the cricket sits, from a threshold of its own and with a slope of its own, which it has to
# **learn**. Any Equinox module will do, and its arrays are the weights.


# %%
class Cells(eqx.Module):
    slopes: jax.Array
    thresholds: jax.Array

    def __init__(self, count, key):
        one, other = jax.random.split(key)
        self.slopes = jax.random.uniform(one, (count,), minval=0.3, maxval=2)
        self.thresholds = jax.random.uniform(other, (count,), minval=-2, maxval=2)

    def __call__(self, place):
        return jnp.tanh(self.slopes * (place - self.thresholds))


def sensing(key):
    eye, ear = jax.random.split(key)
    return fx.Network(
        [
            fx.Root("place", (1,), energy=fx.Gaussian(1.0)),
            fx.Node("seen", Cells(12, eye), "place", energy=fx.Gaussian(40.0)),
            fx.Node("heard", Cells(12, ear), "place", energy=fx.Gaussian(10.0)),
        ]
    )


# %% [markdown]
# The world has such eyes and ears, with other slopes and thresholds than those our network starts
# with. `fx.sample` draws from a network, so the world is a network, too.

# %%
world = sensing(jax.random.key(0))
drawn = fx.sample(world, jax.random.key(1), batch=2000)
observed = {name: np.asarray(drawn[name]) for name in ("seen", "heard")}
parts = [
    {name: array[begin:end] for name, array in observed.items()}
    for begin, end in ((0, 1600), (1600, 1800), (1800, 2000))
]
data = fx.data.Dataset("crickets", *parts)
print(data)

# %%
student = sensing(jax.random.key(7))
rule = fx.Equilibrium(fx.GaussNewton(3, 4), output_precision=1.0)
result = fx.fit(student, data, rule, optimizer=5e-2, epochs=10)
losses = [epoch["validation_loss"] for epoch in result.history]
print(f"loss in validation: {losses[0]:.1f} after the first epoch, {losses[-1]:.1f} after the last")

# %% [markdown]
# Nobody told it where a cricket was, no label, only what was seen and heard. Did it find places?
# Infer them from the test part and compare with the truth, which it never saw.

# %%
problem = fx.Problem(result.network, dict(parts[2]), output_precision=1.0)
found = fx.infer(problem, fx.Newton(tolerance=1e-2))
truth = np.asarray(drawn["place"][1800:, 0])
guess = np.asarray(found.activities["place"][:, 0])
figure, axis = plt.subplots(figsize=(3.4, 3.2))
axis.plot(truth, guess, ".", alpha=0.6)
axis.set(xlabel="true place", ylabel="inferred place")
figure.tight_layout()
ranks = [values.argsort().argsort() for values in (truth, guess)]
print(f"correlation of the ranks: {np.corrcoef(*ranks)[0, 1]:.3f}")

# %% [markdown]
# The order is there, and that is all that can be there: a map of places that is stretched, or
# turned around, explains the senses just as well, with other slopes and thresholds.
#
# ## Holes in the data
#
# Half of the ear's cells are out of order. `fx.Clamp` takes a mask of what is known,
# `fx.Clamp.observed` finds it from NaN. The rest is **completed**.

# %%
broken = np.array(parts[2]["heard"])
broken[:, 6:] = np.nan
half = {"seen": parts[2]["seen"], "heard": fx.Clamp.observed(broken)}
filled = fx.infer(fx.Problem(result.network, half, output_precision=1.0), fx.Newton(tolerance=1e-2))
error = np.asarray(filled.activities["heard"])[:, 6:] - parts[2]["heard"][:, 6:]
print(f"error of the completed cells: {np.sqrt((error**2).mean()):.2f}")
print(
    f"their noise alone: {np.sqrt(1 / 10):.2f}, their spread: {parts[2]['heard'][:, 6:].std():.2f}"
)

# %% [markdown]
# ## An energy of your own
#
# A subclass of `fx.Energy` says how target and prediction are compared. This one forgives what is
# far off, so that one wild cell does not drag the guess away.


# %%
class Forgiving(fx.Energy):
    def unit(self, target, prediction):
        return jnp.sum(jnp.log1p((target - prediction) ** 2 / 2))


def located(energy, heard):
    network = fx.Network(
        [
            fx.Root("place", (1,), energy=fx.Gaussian(0.1)),
            fx.Node("heard", lambda place: jnp.repeat(place, 5), "place", energy=energy),
        ]
    )
    problem = fx.Problem(network, {"heard": heard}, output_precision=1.0)
    return float(fx.infer(problem, fx.Newton(tolerance=1e-4)).activities["place"][0, 0])


heard = jnp.array([[1.0, 1.2, 0.9, 1.1, 9.0]])  # the last one is wild
print(f"Gaussian:  {located(fx.Gaussian(1.0), heard):.2f}")
print(f"forgiving: {located(Forgiving(), heard):.2f}")

# %% [markdown]
# ## A network that you have already
#
# `fx.wrap` makes nodes of an Equinox model and checks that it still predicts the same; like
# hidden layers become one `fx.Stack`, which compiles once for any depth.

# %%
model = eqx.nn.MLP(4, 3, width_size=16, depth=6, key=jax.random.key(15))
print(fx.wrap(model, (4,), output=fx.Categorical()))

# %% [markdown]
# ## Where next
#
# * Everything that a network can hold, one block each: [your own network, the
#   page](../your-own-network.md).
# * Pictures instead of crickets: [generate, complete, remember](generate-complete-remember.md).
# * Your own training loop: [the page](../your-own-loop.md).
