# %% [markdown]
# # Deep networks, and why they used to fail
#
# Predictive coding networks of more than a handful of layers had a bad name: they learned worse
# the deeper they were. Two things were wrong, and neither was the idea. Inference had not arrived
# ([inference laid bare](inference-laid-bare.md)), and the weights had the wrong size. Here we
# look at the second.

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
# A residual block adds to what it gets, and the more it gets, the more it adds. So the signal
# grows by a factor at every block. The standard parameterization does not know how many blocks
# there are; muPC divides what each adds by the square root of their number.

# %%
figure, axis = plt.subplots()
for name, parameterization in {"muPC": fx.MuPC(), "standard": fx.Standard()}.items():
    problem = fx.Problem(deep(128, parameterization), x, data.train.labels[:64])
    seen = fx.infer(problem, fx.GaussNewton(0)).activities["hidden"]  # the feedforward pass
    axis.semilogy(jnp.sqrt((seen**2).mean((1, 2))), "--" if name == "standard" else "-", label=name)
axis.set(xlabel="node", ylabel="size of its activity")
axis.legend()
figure.tight_layout()

# %% [markdown]
# ## One rate for every depth
#
# A parameterization is written into a network once, when it is built: multipliers, sizes of the
# weights and the scale of their learning rates. `fx.scale_learning_rates` hands the latter to any
# optimizer. So one rate should do at any depth. Each parameterization gets the best of three
# rates at 4 nodes, by validation, and has to keep it.


# %%
def trained(depth, parameterization, rate):
    optimizer = fx.scale_learning_rates(optax.adam(rate, eps=1e-12))
    return fx.fit(deep(depth, parameterization), data, optimizer=optimizer, epochs=2)


def accuracy(result):
    return result.history[-1]["validation_accuracy"]


depths = (4, 16, 64)
results = {}
for name, parameterization, rates in (
    ("standard", fx.Standard(), (0.003, 0.01, 0.03)),
    ("muPC", fx.MuPC(), (0.2, 0.5, 1.0)),
):
    shallow = {rate: trained(4, parameterization, rate) for rate in rates}
    best = max(shallow, key=lambda rate: accuracy(shallow[rate]))
    results[name, 4] = shallow[best]
    for depth in depths[1:]:
        results[name, depth] = trained(depth, parameterization, best)
    shown = ", ".join(f"{accuracy(results[name, depth]):.3f}" for depth in depths)
    print(f"{name} at rate {best}: {shown} in validation with 4, 16, 64 nodes")

# %%
figure, axis = plt.subplots(figsize=(5, 3))
for name, mark in (("muPC", "o-"), ("standard", "s--")):
    axis.plot(depths, [100 * accuracy(results[name, depth]) for depth in depths], mark, label=name)
axis.axhline(10, color="gray", linestyle=":", label="chance")
axis.set(xscale="log", xticks=depths, xticklabels=depths, ylim=(0, 100))
axis.minorticks_off()
axis.set(xlabel="nodes", ylabel="validation accuracy, %")
axis.legend()
figure.tight_layout()

# %% [markdown]
# ## The audit
#
# A deep network can score well although most of its layers stand still: the first and the last do
# the work, and the others pass things on. So look at how far every node's weights have moved,
# relative to their size:

# %%
result = results["muPC", 64]
moved = np.asarray(result.history[-1]["weight_change_per_node"])
figure, axis = plt.subplots(figsize=(7, 2.6))
axis.bar(range(1, 65), moved)
axis.set(xlabel="node", ylabel="relative change of its weights")
figure.tight_layout()
print("node that moved least, relative to the median:", moved.min() / np.median(moved))

# %% [markdown]
# ## Is it still predictive coding?
#
# A fair question in deep networks, where predictive coding may become backprop unnoticed. The
# **strength** says how much inference can move a prediction, $\lambda\, \mathrm{tr}(J J^T) /
# d_y$. At a strength of zero the update is backprop's. `fx.HoldStrength` chooses the output
# precision of every batch so that the strength stays where you want it. Here is the cosine
# between the two updates, node by node, at three strengths:

# %%
network = deep(64, fx.MuPC())
problem = fx.Problem(network, x, data.train.labels[:64])
figure, axis = plt.subplots(figsize=(7, 2.8))
for strength in (0.1, 1.0, 10.0):
    rule = fx.Equilibrium(fx.GaussNewton(3, 6), output_precision=fx.HoldStrength(strength))
    found = fx.alignment(problem, rule, jax.random.key(1))
    axis.plot(range(1, 65), found.cosine, label=f"strength {strength:g}")
axis.set(xlabel="node", ylabel="cosine to backprop", ylim=(None, 1.01))
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
figure.tight_layout()

# %% [markdown]
# ## Depth costs no compile time
#
# A stack of like blocks is one array with a depth axis, and one small program that runs over it.
# A hundred nodes compile as fast as ten, which is why trying a depth is cheap.
#
# ## Where next
#
# * 8 to 1,024 nodes on MNIST, every number: [experiment
#   `mupc`](../../experiments/mupc/README.md).
# * Does the best rate stay put over width, too? Not quite: [experiment
#   `transfer`](../../experiments/transfer/README.md).
# * A table of power laws of your own, `fx.ABC`: [any width, any depth](../any-depth.md).
