# %% [markdown]
# # A first network
#
# A predictive coding network answers with its *activities*. Every layer predicts the one after
# it, and what the prediction misses is an *error*. Show the network an image together with its
# label, and the layers between have to find activities that make all errors small: that is
# **inference**. Then every weight changes a little, so that its own error becomes smaller still:
# that is **learning**, and no weight needs to know more than its two neighbors.
#
# In ten minutes you will have seen both on real digits: what the network infers, how you know
# that it has finished, and that it learns as well as backprop does.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import fathomx as fx

plt.rc("figure", dpi=120, figsize=(7, 3))
plt.rc("axes.spines", top=False, right=False)

# %% [markdown]
# ## The data
#
# 1,797 handwritten digits of 8 by 8 pixels come with scikit-learn, so nothing is downloaded. The
# parts for training, validation and test are fixed.

# %%
data = fx.data.load("digits")
print(data)

figure, axes = plt.subplots(1, 10, figsize=(7, 1))
for digit, axis in enumerate(axes):
    example = data.train.inputs[data.train.labels == digit][0]
    axis.imshow(example.reshape(8, 8), cmap="gray_r")
    axis.axis("off")

# %% [markdown]
# ## The network
#
# Sixteen *nodes*, each a layer of weights with an activity of its own. `fx.MuPC()` scales the
# weights so that one learning rate fits every width and depth. Printed, a network is a line for
# every entry: what it reads, its shape, its energy, its number of weights.

# %%
network = fx.models.residual_mlp(
    64,
    10,
    width=64,
    depth=16,
    activation="gelu",
    parameterization=fx.MuPC(),
    key=jax.random.key(0),
)
print(network)

# %% [markdown]
# ## Inference: relax until nothing moves
#
# A *problem* says what is known. Here it is the image, at the input, and the label, at the
# output: both are **clamped**. Everything between is free to move, and moves downhill on the
# energy, which is the sum of all squared errors. `fx.trace` is inference that keeps a record of
# every step.

# %%
x, y = data.train.inputs[:32], data.train.labels[:32]
problem = fx.Problem(network, input=x, target=y)
relaxed, energies = fx.trace(problem, fx.ErrorDescent(steps=30))
print("steps and start, nodes, images:", energies.shape)

# %%
per_node = energies.mean(-1)  # over the 32 images
figure, (left, right) = plt.subplots(1, 2)
left.plot(per_node.sum(-1))
left.set(xlabel="inference step", ylabel="energy", title="the sum falls")
for step in (0, 1, 3, 30):
    right.semilogy(range(1, 17), per_node[step] + 1e-9, ".-", label=f"step {step}")
right.set(xlabel="node", title="and is shared out", ylim=(1e-6, None))
right.legend(loc="lower left", fontsize=8)
figure.tight_layout()

# %% [markdown]
# At the start only the output, node 16, is in error: the others follow from the input, so their
# errors are zero. Inference hands a part of the output's error down to every node, and the sum of
# all becomes smaller.
#
# Is it finished? Ask. The **certificate** compares the slope of the energy that is left with the
# slope at the start, for every image. Zero would be the bottom of the valley.

# %%
print(relaxed.describe())

# %% [markdown]
# Newton's method goes all the way, whatever the network:

# %%
print(fx.infer(problem, fx.Newton(tolerance=1e-3)).describe())

# %% [markdown]
# ## Learning
#
# A *rule* turns what was inferred into a change of weights. `fx.Equilibrium` is predictive coding
# as everybody means it: relax, then let each weight reduce its own error. It uses one iteration
# of Gauss-Newton, which is nearly at the bottom, and costs about two to three times what backprop
# does. In a notebook `fx.fit` shows a live bar; `ProgressBar` prints a line for every epoch, here
# and in a terminal.

# %%
import optax
from rich.console import Console

from fathomx.training import ProgressBar

optimizer = fx.scale_learning_rates(optax.adam(0.5, eps=1e-12))
bar = ProgressBar(Console(width=100))
result = fx.fit(network, data, fx.Equilibrium(), optimizer=optimizer, epochs=6, observers=[bar])

# %% [markdown]
# The test part is scored once, at the end:

# %%
print(f"test accuracy {result.summary['test_accuracy']:.1%}")

# %% [markdown]
# ## The same by backprop
#
# The same network, the same batches, the same optimizer; only the rule is another.

# %%
baseline = fx.fit(network, data, fx.Backprop(), optimizer=optimizer, epochs=6)
print(f"test accuracy {baseline.summary['test_accuracy']:.1%}")

# %%
epochs = range(1, 7)
figure, (left, right) = plt.subplots(1, 2)
for name, run in {"predictive coding": result, "backprop": baseline}.items():
    left.plot(epochs, [e["validation_accuracy"] for e in run.history], ".-", label=name)
left.set(xlabel="epoch", title="validation accuracy")
left.legend()
right.plot(epochs, [e["cosine_to_backprop"] for e in result.history], ".-")
right.set(xlabel="epoch", title="cosine between the two updates", ylim=(0.9, 1.005))
figure.tight_layout()

# %% [markdown]
# The right panel is the honest part. At a cosine of 1 predictive coding would be backprop in
# disguise; here it points the same way without being the same. How far it goes beyond backprop is
# a choice, the **strength**, which `fx.Equilibrium` holds at 0.1 unless you say otherwise.
#
# ## What does it get wrong?

# %%
logits = fx.predict(result.network, data.validation.inputs)
guess = np.asarray(logits).argmax(-1)
wrong = np.flatnonzero(guess != data.validation.labels)[:6]
figure, axes = plt.subplots(1, len(wrong), figsize=(7, 1.6), squeeze=False)
for axis, index in zip(axes[0], wrong, strict=True):
    axis.axis("off")
    axis.imshow(data.validation.inputs[index].reshape(8, 8), cmap="gray_r")
    axis.set_title(f"{data.validation.labels[index]}, not {guess[index]}", fontsize=8)

# %% [markdown]
# ## Where next
#
# * Change `depth=16` to 64 and run again: nothing else needs to change. [Deep
#   networks](deep-networks.md) says why.
# * What exactly moved in inference: [inference laid bare](inference-laid-bare.md).
# * A network that nobody has drawn before: [your own network](own-network.md).
# * The same from a terminal, with a page to open: `fathomx compare`.
