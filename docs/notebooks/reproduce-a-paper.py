# %% [markdown]
# # Reproduce a paper
#
# Innocenti, Achour, Singh and Buckley ([2024](https://arxiv.org/abs/2408.11979)) claim that
# saddles which trap backprop are easy to leave for predictive coding: "non-strict" in the loss,
# "strict" in the energy at equilibrium. Take the claim apart as one would with any paper: what
# would have to be true, the smallest case, the real experiment, and what was *not* shown.

# %%
import csv
import subprocess
import sys
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

import fathomx as fx

plt.rc("figure", dpi=120, figsize=(7, 3.2))
plt.rc("axes.spines", top=False, right=False)

# %% [markdown]
# ## 1. What would have to be true?
#
# At the origin, where all weights are zero, the smallest eigenvalue of the Hessian should be zero
# for the loss with three layers or more, and $-\lambda_{\max}(\mathrm{mean}\, y y^T)$ for the
# energy at equilibrium. Depth is the interesting variable: with two layers the two should agree.

# %%
with jax.enable_x64(True):
    x = jax.random.normal(jax.random.key(0), (32, 5))
    y = jax.random.normal(jax.random.key(1), (32, 2))
    expected = -np.linalg.eigvalsh(np.asarray(y.T @ y) / 32).max()
    print("layers   loss                          energy at equilibrium")
    for depth in (2, 3, 4, 6):
        chain = fx.models.mlp(5, 2, width=4, depth=depth, activation="tanh", key=jax.random.key(2))
        origin = fx.theory.origin(chain)
        seen = [
            fx.theory.spectrum(kind(x, y), origin)
            for kind in (fx.theory.Loss, fx.theory.EquilibratedEnergy)
        ]
        print(
            f"{depth:6d}   " + "   ".join(f"{s.verdict:10s} {s.smallest:+9.5f}      " for s in seen)
        )
print(f"the paper's value for the energy: {expected:+.5f}")

# %% [markdown]
# It holds to the digits shown, in tanh networks, too. And at two layers both are strict, with
# another eigenvalue, as the theory says: a first sign that "backprop gets stuck" needs its
# condition, *more than two layers*.
#
# ## 2. Does it matter for learning?
#
# An eigenvalue is not yet a training run. Digits, four tanh layers, weights of standard deviation
# 0.03, plain gradient descent, and nothing but the rule different: same start, same batches, same
# rate. And two rates, since a single one proves little.

# %%
data = fx.data.load("digits")
network = fx.models.mlp(64, 10, width=32, depth=4, activation="tanh", key=jax.random.key(0))
start = fx.theory.nearby(fx.theory.origin(network), 0.03, jax.random.key(1))

epochs = 20
inputs = data.train.inputs[:1216].reshape(19, 64, 64)
labels = np.eye(10)[data.train.labels[:1216]].reshape(19, 64, 10).astype("float32")
batches = tuple(np.tile(array, (epochs, 1, 1)) for array in (inputs, labels))
keys = jax.random.split(jax.random.key(2), len(batches[0]))

rules = {
    "predictive coding": fx.Equilibrium(fx.GaussNewton(1, 4), output_precision=1.0),
    "backprop": fx.Backprop(),
}
figure, axes = plt.subplots(1, 2, sharey=True)
for axis, rate in zip(axes, (0.3, 1.0), strict=True):
    for name, rule in rules.items():
        learner = fx.Learner(rule, optax.sgd(rate))
        reports = learner.updates(start, learner.begin(start), batches, keys)[2]
        losses = np.asarray(reports.loss).reshape(epochs, -1).mean(-1)
        axis.plot(range(1, epochs + 1), losses, label=name)
    axis.set(xlabel="epoch", title=f"rate {rate}", ylim=(0, None))
axes[0].set(ylabel="training loss")
axes[0].legend()
figure.tight_layout()

# %% [markdown]
# Predictive coding leaves first, at both rates. But look on: at the higher rate backprop, once it
# is out, ends *lower*. Leaving a saddle sooner is not learning better, and one start and two
# rates are no statistics. With muPC and weights of ordinary size neither has a plateau to begin
# with.
#
# ## 3. The experiment itself
#
# The repository has it on larger networks and several seeds, with what was expected beside what
# was found. A part of one takes seconds and leaves a table:

# %%
out = Path("strict-saddles")
command = [sys.executable, "-m", "fathomx", "reproduce", "strict-saddles"]
command += ["--network", "tanh, 4 layers, toy", "--seed", "0", "--out", str(out)]
done = subprocess.run(command, capture_output=True, text=True, check=True)
print(done.stdout[-1500:])

# %%
with open(out / "results.csv", newline="") as file:
    rows = list(csv.DictReader(file))
for name in list(rows[0])[:8]:
    print(f"{name:28s}", *(f"{row[name][:12]:>14s}" for row in rows[:4]))

# %% [markdown]
# Killed halfway, the same command continues. All seeds, all networks: `fathomx reproduce
# strict-saddles`.
#
# ## 4. What was not shown
#
# * That predictive coding trains *better*. From ordinary starts it does not need fewer updates;
#   see [`strength`](../../experiments/strength/README.md), where it is ahead and where it is not.
# * That an iteration costs the same. It costs more: see [performance](../performance.md).
# * That it holds at every saddle. With only two layers at zero the loss is strict, too: the
#   counter-example is in [theory](../theory.md#saddles).
#
# ## Your paper
#
# Most claims come down to one of four questions, and each has a function: where does the energy
# sit (`fx.diagnose`, `fx.energy_balance`), had inference arrived (`relaxed.describe()`), where
# does the update point (`fx.alignment`, `fx.target_alignment`), and what is the landscape like
# (`fx.theory`). [All experiments](../results.md) were made with these.
