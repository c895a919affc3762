"""Predictive coding in plain JAX, readable in one sitting; `python examples/essence.py` trains it.

A network has activities z_1 .. z_L. Each layer predicts the next, mu_l = W_l phi(z_{l-1}), and
errs by e_l = z_l - mu_l. The energy is the sum of squared errors, with input and output clamped:

    F(z, W) = 1/2 sum_l ||z_l - W_l phi(z_{l-1})||^2,    z_0 = x,  z_L = y

Inference lets the hidden activities descend F until they are at rest. Learning then lets the
weights descend the same F; what weight l sees is its own layer's error and the activity before it.
A test holds this file against the library, number by number.
"""

import jax
import jax.numpy as jnp


def init(key, sizes):
    """One matrix per layer, with rows as outputs."""
    keys = jax.random.split(key, len(sizes) - 1)
    shapes = zip(sizes[1:], sizes[:-1], strict=True)
    return [jax.random.normal(k, s) / jnp.sqrt(s[1]) for k, s in zip(keys, shapes, strict=True)]


def predict(weights, activities):
    """mu_l = W_l phi(z_{l-1}) for all layers at once; the input itself is not squashed."""
    seen = [activities[0], *map(jnp.tanh, activities[1:-1])]
    return [z @ w.T for w, z in zip(weights, seen, strict=True)]


def feedforward(weights, x):
    """Activities without any error: every layer is what the one before predicts."""
    activities = [x]
    for w in weights:
        before = activities[-1] if len(activities) == 1 else jnp.tanh(activities[-1])
        activities.append(before @ w.T)
    return activities


def energy(weights, activities):
    """F of every example, summed over the batch, so that examples never interact."""
    predictions = predict(weights, activities)
    pairs = zip(activities[1:], predictions, strict=True)
    return sum(0.5 * jnp.sum((z - mu) ** 2) for z, mu in pairs)


def infer(weights, x, y, steps=100, rate=0.1):
    """Hidden activities descend the energy; input and output are clamped."""
    x, *hidden, _ = feedforward(weights, x)
    slope = jax.grad(lambda hidden: energy(weights, [x, *hidden, y]))

    def step(_, hidden):
        return [z - rate * g for z, g in zip(hidden, slope(hidden), strict=True)]

    return [x, *jax.lax.fori_loop(0, steps, step, hidden), y]


def weight_gradient(weights, activities):
    """dF/dW at rest, mean over the batch: for each layer -(own error) x (activity before)."""
    return jax.tree.map(lambda g: g / len(activities[0]), jax.grad(energy)(weights, activities))


@jax.jit
def learn(weights, x, y, rate=0.3):
    """One batch: let the activities come to rest, then move the weights."""
    gradient = weight_gradient(weights, infer(weights, x, y))
    return [w - rate * g for w, g in zip(weights, gradient, strict=True)]


if __name__ == "__main__":
    x = jax.random.normal(jax.random.key(0), (256, 8))
    y = jnp.tanh(x @ jax.random.normal(jax.random.key(1), (8, 2)))
    weights = init(jax.random.key(2), [8, 32, 32, 2])
    for epoch in range(201):
        if epoch % 50 == 0:
            loss = jnp.mean((feedforward(weights, x)[-1] - y) ** 2)
            print(f"epoch {epoch:3d}  squared error {loss:.4f}")
        weights = learn(weights, x, y)
