# %% [markdown]
# # Generate, complete, remember
#
# Turn a network around. A hidden **cause** predicts, layer by layer, a picture. Clamp the
# picture, and inference finds what causes it; clamp half of it, and the other half is completed;
# clamp nothing, and it dreams. One network, one algorithm, and only the clamps differ.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import fathomx as fx

plt.rc("figure", dpi=120, figsize=(7, 2.6))
data = fx.data.load("digits")
x = jnp.asarray(data.train.inputs)
new = jnp.asarray(data.validation.inputs[:10])


def show(rows):
    """Pictures in rows; `rows` has a title for each."""
    figure, axes = plt.subplots(len(rows), 10, figsize=(7, 0.78 * len(rows)))
    for line, (title, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            shown = jnp.reshape(picture, (8, 8))
            axis.imshow(shown, cmap="gray_r", vmin=float(x.min()), vmax=float(x.max()))
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    figure.tight_layout(pad=0.3)


# %% [markdown]
# ## A decoder
#
# Sixteen numbers that cause a picture of 64. `precision=1000.0` leaves the hidden layer hardly an
# error of its own, so that the sixteen are a code of the whole picture. An encoder tells
# inference where to start; it adds no energy, so that it can only help.

# %%
key, other = jax.random.split(jax.random.key(0))
network = fx.models.decoder(16, 64, width=64, precision=1000.0, key=key)
network = fx.models.with_encoder(network, width=64, key=other)
print(network)

# %% [markdown]
# It learns from pictures alone. `fx.Learner` is a rule with an optimizer, and many updates in one
# program; `pose` says what of a batch is clamped.

# %%
learner = fx.Learner(
    fx.Equilibrium(fx.GaussNewton(2, 6), output_precision=1.0),
    optax.adamw(optax.cosine_decay_schedule(3e-3, 400), weight_decay=2.0),
    pose=lambda network, pictures: fx.Problem(network, {"output": pictures}),
)
batches = jnp.tile(x[: 20 * 60].reshape(20, 60, 64), (20, 1, 1))
keys = jax.random.split(jax.random.key(1), 400)
network, state, reports = learner.updates(network, learner.begin(network), batches, keys)

# %% [markdown]
# ## See
#
# Pictures that it has not seen. What is inferred is the cause; what the cause predicts is the
# reconstruction.

# %%
relaxed = fx.infer(fx.Problem(network, {"output": new}), fx.GaussNewton(10, 10))
again = fx.predict(network, {"latent": relaxed.activities["latent"]})
show({"picture": new, "seen as": again})
left = ((again - new) ** 2).mean() / ((x.mean(0) - new) ** 2).mean()
print(f"error {left:.2f} of that of the mean picture; inference: {relaxed.describe()}")

# %% [markdown]
# ## Complete
#
# Now the lower half is hidden, and no line but the clamp changes.

# %%
upper = jnp.arange(64) < 32
half = fx.Problem(network, {"output": fx.Clamp(new, mask=upper)})
completed = fx.infer(half, fx.GaussNewton(10, 10)).activities["output"]
show({"picture": new, "shown": jnp.where(upper, new, x.min()), "completed": completed})
error = ((completed - new) ** 2)[:, 32:].mean()
mean = ((x.mean(0) - new) ** 2)[:, 32:].mean()
print(f"error of the hidden half: {error / mean:.2f} of that of the mean picture")

# %% [markdown]
# ## Dream
#
# Draw causes from the prior, or walk from the cause of one picture to that of another.

# %%
dreamed = fx.predict(network, {"latent": jax.random.normal(key, (10, 16))})
one, two = relaxed.activities["latent"][0], relaxed.activities["latent"][5]
share = jnp.linspace(0, 1, 10)[:, None]
walk = fx.predict(network, {"latent": (1 - share) * one + share * two})
show({"dreamed": dreamed, "a walk": walk})

# %% [markdown]
# The dreams are rougher than the walk. Learned at the most probable cause, causes need not have
# the size that the prior expects; why, and how learning from *samples* (`fx.Langevin`) mends it,
# is in [generative networks](../generative.md).
#
# ## Both ways at once
#
# A **bidirectional** network predicts the label from the picture and the picture from the label.
# With the picture clamped it classifies; with the label clamped it imagines.

# %%
both = fx.models.bidirectional(64, 10, width=64, precisions=(1.0, 1e-2), key=jax.random.key(0))
learner = fx.Learner(fx.Equilibrium(fx.GaussNewton(1, 4), output_precision=0.1), 3e-3)
labels = jax.nn.one_hot(data.train.labels, 10)
batches = {"input": x[:1200].reshape(20, 60, 64), "output": labels[:1200].reshape(20, 60, 10)}
batches = jax.tree.map(lambda array: jnp.tile(array, (10, 1, 1)), batches)
keys = jax.random.split(jax.random.key(1), 200)
both, state, reports = learner.updates(both, learner.begin(both), batches, keys)

seen = fx.infer(
    fx.Problem(both, {"input": jnp.asarray(data.validation.inputs)}), fx.GaussNewton(4, 8)
)
right = seen.activities["output"].argmax(-1) == jnp.asarray(data.validation.labels)
print(f"classifies {right.mean():.1%} in validation")

imagining = fx.models.with_precisions(both, (1e-2, 1.0))
problem = fx.Problem(imagining, {"output": jnp.eye(10)})
imagined = fx.infer(problem, fx.GaussNewton(10, 20), at=fx.top_down(problem))
average = jnp.stack([x[data.train.labels == digit].mean(0) for digit in range(10)])
show({"imagined": imagined.activities["input"], "mean": average})

# %% [markdown]
# ## Remember
#
# A network that has learned twenty pictures to almost no energy is a memory of them. Clamp what
# you still know, relax, and read the rest.

# %%
from fathomx.layers import Affine, Bias, Linear

pictures = x[:20]
weight = 0.05 * jax.random.normal(jax.random.key(0), (64, 24))
memory = fx.Network(
    [
        fx.Root("latent", (24,)),
        fx.Node(
            "output", Affine(Linear(weight), Bias(pictures.mean(0))), energy=fx.Gaussian(1000.0)
        ),
    ]
)
learner = fx.Learner(
    fx.Equilibrium(fx.GaussNewton(1, 12), output_precision=1.0),
    1e-2,
    pose=lambda network, batch: fx.Problem(network, {"output": batch}),
)
batches = jnp.broadcast_to(pictures, (300, *pictures.shape))
keys = jax.random.split(jax.random.key(1), 300)
memory, state, reports = learner.updates(memory, learner.begin(memory), batches, keys)

known = jnp.arange(64) < 40
cue = fx.Problem(memory, {"output": fx.Clamp(pictures, mask=known)})
recalled = fx.infer(cue, fx.GaussNewton(10, 20)).activities["output"]
show(
    {
        "stored": pictures[:10],
        "cue": jnp.where(known, pictures, x.min())[:10],
        "recalled": recalled[:10],
    }
)
missed = ((recalled - pictures) ** 2)[:, 40:].mean() / ((pictures.mean(0) - pictures) ** 2)[
    :, 40:
].mean()
print(f"error of what was hidden: {missed:.3f} of that of the mean picture")

# %% [markdown]
# How many pictures it holds before it breaks, beside other memories: [experiment
# `memory`](../../experiments/memory/README.md).
#
# ## Where next
#
# * From the command line, with a page: `fathomx train --model decoder --data mnist --epochs 5
#   --out runs/decoder`, then `fathomx generate runs/decoder` and `fathomx complete runs/decoder
#   --mask left --fraction 0.4`.
# * Networks in time: [the page](../temporal.md). All families at a glance:
#   [families](../families.md).
