# %% [markdown]
# # Deep networks, and why they used to fail
#
# Predictive coding networks of more than a handful of layers had a bad name: they learned worse the deeper they were. Two
# things were wrong, and neither was the idea. Inference had not arrived ([inference laid bare](inference-laid-bare.md)), and the weights had the
# wrong size. Here we look at the second.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import fathomx as fx

plt.rc("figure", dpi=120, figsize=(7, 3.2))
plt.rc("axes.spines", top=False, right=False)
data = fx.data.load("digits")
x = data.train.inputs[:64]


def deep(depth, parameterization, width=32):
    return fx.models.residual_mlp(
        64,
        10,
        width=width,
        depth=depth,
        activation="gelu",
        parameterization=parameterization,
        key=jax.random.key(0),
    )


# %% [markdown]
# ## What depth does to a signal
#
# A residual block adds something to what it gets. Add fifty things of size one, and the sum has size seven or, if they pull together,
# fifty. The standard parameterization (SP) does not know how many blocks there are; muPC divides each by the square root
# of their number.

# %%
figure, axis = plt.subplots()
for name, parameterization in {"standard": fx.Standard(), "muPC": fx.MuPC()}.items():
    for depth, style in ((16, "--"), (128, "-")):
        network = deep(depth, parameterization)
        problem = fx.Problem(network, x, data.train.labels[:64])
        seen = fx.infer(problem, fx.GaussNewton(0)).activities["hidden"]
        size = jnp.sqrt((seen**2).mean((1, 2)))
        color = "C0" if name == "muPC" else "C1"
        axis.semilogy(size, style, color=color, label=f"{name}, {depth} nodes")
axis.set(xlabel="node", ylabel="size of its activity")
axis.legend()
figure.tight_layout()

# %% [markdown]
# ## One rate for every depth
#
# A parameterization is written into a network once, when it is built: multipliers, sizes of the weights and the scale of their
# learning rates. `fx.scale_learning_rates` hands the latter to any optimizer. So one rate, chosen at eight nodes, should do at any depth. Two epochs on digits, the
# same rate everywhere, chosen for each of the two at 8 nodes:

# %%
rates = {"standard": (fx.Standard(), 0.003), "muPC": (fx.MuPC(), 0.5)}
depths = (4, 16, 64)
accuracy, trained = {}, {}
for name, (parameterization, rate) in rates.items():
    optimizer = fx.scale_learning_rates(optax.adam(rate, eps=1e-12))
    for depth in depths:
        try:
            result = fx.fit(
                deep(depth, parameterization), data, optimizer=optimizer, epochs=2, seed=0
            )
        except fx.DivergenceError as error:
            print(name, depth, error)
            accuracy[name, depth] = 0.1
            continue
        accuracy[name, depth] = result.history[-1]["validation_accuracy"]
        trained[name, depth] = result
        print(f"{name}, {depth} nodes: {accuracy[name, depth]:.3f} in validation")

# %%
figure, axis = plt.subplots(figsize=(5, 3))
for name, mark in (("muPC", "o-"), ("standard", "s--")):
    axis.plot(depths, [100 * accuracy[name, depth] for depth in depths], mark, label=name)
axis.axhline(10, color="gray", linestyle=":", label="chance")
axis.set(xscale="log", xticks=depths, xticklabels=depths, ylim=(0, 100))
axis.minorticks_off()
axis.set(xlabel="nodes", ylabel="validation accuracy, %")
axis.legend()
figure.tight_layout()

# %% [markdown]
# ## The audit
#
# A deep network can score well although most of its layers stand still: the first and the last do the work, and the others pass
# things on. So look at how far every node's weights have moved, relative to their size:

# %%
result = trained["muPC", 64]
moved = np.asarray(result.history[-1]["weight_change_per_node"])
figure, axis = plt.subplots(figsize=(7, 2.6))
axis.bar(range(1, 65), moved)
axis.set(xlabel="node", ylabel="relative change of its weights")
figure.tight_layout()
print("node that moved least, relative to the median:", moved.min() / np.median(moved))

# %% [markdown]
# ## Is it still predictive coding?
#
# A fair question in deep networks, where predictive coding may become backprop unnoticed. The **strength** says how much inference can move a prediction,
# $\lambda\, \mathrm{tr}(J J^T) / d_y$. At a strength of zero the update is backprop's. `fx.HoldStrength` chooses the output precision of every batch so that the
# strength stays where you want it. Here is the cosine between the two updates, node by node, at three strengths:

# %%
network = deep(64, fx.MuPC())
problem = fx.Problem(network, x, data.train.labels[:64])
figure, axis = plt.subplots(figsize=(7, 2.8))
for strength in (0.1, 1.0, 10.0):
    rule = fx.Equilibrium(fx.GaussNewton(3, 6), output_precision=fx.HoldStrength(strength))
    found = fx.alignment(problem, rule, jax.random.key(1))
    axis.plot(range(1, 65), found.cosine, label=f"strength {strength:g}")
axis.set(xlabel="node", ylabel="cosine to backprop", ylim=(None, 1.01))
axis.legend()
figure.tight_layout()

# %% [markdown]
# ## Depth costs no compile time
#
# A stack of like blocks is one array with a depth axis, and one small program that runs over it. A hundred nodes compile as fast as ten, which is why
# trying a depth is cheap.
#
# ## Where next
#
# * 8 to 1,024 nodes on MNIST, every number: [experiment `mupc`](../../experiments/mupc/README.md).
# * Does the best rate stay put over width, too? Not quite: [experiment `transfer`](../../experiments/transfer/README.md).
# * A table of power laws of your own, `fx.ABC`: [any width, any depth](../any-depth.md).
