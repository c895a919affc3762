# %% [markdown]
# # Inference laid bare
#
# Inference is a ball that rolls to the bottom of a valley. With two hidden units the valley can be drawn, and all
# algorithms on it. Then we ask the question that is easily forgotten: *had the ball arrived?*

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import fathomx as fx

plt.rc("figure", dpi=120, figsize=(7, 3.4))
plt.rc("axes.spines", top=False, right=False)

# %% [markdown]
# ## A valley
#
# Three nodes of one unit each. Input $x$ and target $y$ are clamped, $z_1$ and $z_2$ are free:
#
# $$F(z_1, z_2) = \tfrac12 (z_1 - w_1 x)^2 + \tfrac12 (z_2 - w_2 \tanh z_1)^2 + \tfrac\lambda2 (y - w_3 \tanh z_2)^2$$


# %%
class Unit(eqx.Module):
    weight: jax.Array

    def __call__(self, z):
        return self.weight * jnp.tanh(z)


network = fx.Network(
    [
        fx.Node("first", Unit(jnp.array([0.6]))),
        fx.Node("second", Unit(jnp.array([2.5]))),
        fx.Node("output", Unit(jnp.array([2.0]))),
    ],
    input_shape=(1,),
)
problem = fx.Problem(
    network, input=jnp.array([[1.0]]), target=jnp.array([[-1.5]]), output_precision=3.0
)

# %% [markdown]
# `fx.energy` gives the energy at any activities, so the landscape is a grid of them.

# %%
first, second = np.linspace(-1.6, 1.2, 90), np.linspace(-1.8, 1.8, 90)
grid = np.stack(np.meshgrid(first, second), -1).reshape(-1, 2)
many = fx.Problem(
    network,
    input=jnp.ones((len(grid), 1)),
    target=jnp.full((len(grid), 1), -1.5),
    output_precision=3.0,
)
activities = {"first": jnp.asarray(grid[:, :1]), "second": jnp.asarray(grid[:, 1:])}
heights = jax.vmap(
    lambda z1, z2: 0.5 * (z1 - 0.6 * jnp.tanh(1.0)) ** 2
    + 0.5 * (z2 - 2.5 * jnp.tanh(z1)) ** 2
    + 1.5 * (-1.5 - 2.0 * jnp.tanh(z2)) ** 2
)(*grid.T)
print(heights.shape)
