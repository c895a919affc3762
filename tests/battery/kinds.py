"""Kinds of problem: what can be clamped, predicted and fed back, linear or not."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import fathomx as fx


def identity(x):
    return x


class Sum(eqx.Module):
    """`sum_i W_i phi(z_i)`, one matrix for every parent."""

    weights: list[jax.Array]
    phi: object = eqx.field(static=True)

    def __call__(self, *parents):
        return sum(w @ self.phi(z) for w, z in zip(self.weights, parents, strict=True))


class Maker:
    """Draws matrices and values of one problem, the same every time."""

    def __init__(self, phi, seed=0):
        self.phi, self.rng = phi, np.random.default_rng(seed)

    def values(self, *shape):
        return self.rng.normal(size=shape)

    def matrix(self, *shape):
        return jnp.asarray(self.rng.normal(size=shape) / np.sqrt(shape[-1]))

    def sum(self, size, *parents):
        return Sum([self.matrix(size, parent) for parent in parents], self.phi)

    def blocks(self, depth, size):
        return Sum([0.7 * self.matrix(depth, size, size)], self.phi)


def latent_root(phi=identity, batch=4):
    make = Maker(phi)
    network = fx.Network(
        [
            fx.Root("cause", (3,), mean=jnp.array([0.5, -1.0, 0.2]), energy=fx.Gaussian(0.6)),
            fx.Node("h", make.sum(4, 3), energy=fx.Gaussian(2.0)),
            fx.Stack("s", make.blocks(4, 4), energy=fx.Gaussian(1.5)),
            fx.Node("image", make.sum(5, 4), energy=fx.Gaussian(0.8)),
        ]
    )
    return fx.Problem(network, {"image": make.values(batch, 5)}, output_precision=1.3)


def label_on_top(phi=identity, batch=4, classify=False):
    make = Maker(phi, 1)
    network = fx.Network(
        [
            fx.Root("label", (3,), energy=fx.Gaussian(0.9)),
            fx.Root("style", (2,), mean=0.3),
            fx.Node("h", make.sum(4, 3, 2), parents=("label", "style")),
            fx.Stack("s", make.blocks(3, 4)),
            fx.Node("image", make.sum(6, 4)),
        ]
    )
    image, label = make.values(batch, 6), make.rng.integers(3, size=batch)
    clamps = {"image": image} if classify else {"image": image, "label": label}
    return fx.Problem(network, clamps)


def masked_output(phi=identity, batch=4):
    make = Maker(phi, 2)
    network = fx.Network(
        [
            fx.Root("cause", (2,), mean=0.4),
            fx.Stack("s", make.blocks(5, 2), energy=fx.Gaussian(0.5)),
            fx.Node("image", make.sum(6, 2), energy=fx.Gaussian(2.0)),
        ]
    )
    mask = make.rng.random((batch, 6)) < 0.6
    mask[:, 0] = True
    image = np.where(mask, make.values(batch, 6), np.nan)
    return fx.Problem(network, {"image": fx.Clamp.observed(image)}, output_precision=0.7)


def two_outputs(phi=identity, batch=4):
    make = Maker(phi, 3)
    network = fx.Network(
        [
            fx.Root("x", (3,), energy=None),
            fx.Node("h", make.sum(4, 3)),
            fx.Stack("s", make.blocks(4, 4)),
            fx.Node("first", make.sum(2, 4), parents=("s",), energy=fx.Gaussian(3.0)),
            fx.Node("second", make.sum(3, 4, 4), parents=("s", "h"), energy=fx.Gaussian(0.5)),
        ]
    )
    clamps = {"x": make.values(batch, 3), "first": make.values(batch, 2)}
    return fx.Problem(network, {**clamps, "second": make.values(batch, 3)}, output_precision=0.8)


def feedback_on_a_chain(phi=identity, batch=4):
    make = Maker(phi, 4)
    network = fx.Network(
        [
            fx.Node("a", make.sum(4, 3)),
            fx.Node("b", make.sum(4, 4), energy=fx.Gaussian(0.7)),
            fx.Node("c", make.sum(3, 4)),
            fx.Node("out", make.sum(2, 3)),
        ],
        (3,),
        feedbacks=[
            fx.Feedback("a from c and out", "a", make.sum(4, 3, 2), ("c", "out"), fx.Gaussian(0.4)),
            fx.Feedback("b from b", "b", make.sum(4, 4), ("b",), fx.Gaussian(0.3)),
        ],
    )
    return fx.Problem(network, make.values(batch, 3), make.values(batch, 2))


def feedback_on_a_stack(phi=identity, batch=4, depth=6):
    make = Maker(phi, 5)
    network = fx.Network(
        [
            fx.Root("image", (4,), energy=fx.Gaussian(0.01)),
            fx.Stack("s", make.blocks(depth, 4), energy=fx.Gaussian(0.8)),
            fx.Node("label", make.sum(3, 4)),
        ],
        feedbacks=[
            fx.Feedback("back", "s", make.blocks(depth, 4), energy=fx.Gaussian(0.6)),
            fx.Feedback("top", "s", make.sum(4, 3), parents=("label",), energy=fx.Gaussian(0.9)),
        ],
    )
    clamps = {"image": make.values(batch, 4), "label": make.values(batch, 3)}
    return fx.Problem(network, clamps)


def learned_precision(phi=identity, batch=4):
    make = Maker(phi, 6)
    positive = lambda *shape: jnp.asarray(0.5 + make.rng.random(shape))  # noqa: E731
    network = fx.Network(
        [
            fx.Root("cause", (3,), mean=jnp.zeros(3), energy=fx.Gaussian(positive(3))),
            fx.Stack("s", make.blocks(4, 3), energy=fx.Gaussian(positive(4))),
            fx.Node("image", make.sum(5, 3), energy=fx.Gaussian(positive(5))),
        ],
        feedbacks=[fx.Feedback("f", "cause", make.sum(3, 5), ("image",), fx.Gaussian(positive()))],
    )
    return fx.Problem(network, {"image": make.values(batch, 5)}, output_precision=1.4)


def everything(phi=identity, batch=4):
    """A free root, a clamped root, half-clamped hidden and output entries, two outputs, a cycle."""
    make = Maker(phi, 7)
    network = fx.Network(
        [
            fx.Root("cause", (2,), energy=fx.Gaussian(1.2)),
            fx.Root("control", (2,)),
            fx.Node("h", make.sum(4, 2, 2), ("cause", "control"), fx.Gaussian(0.9)),
            fx.Stack("s", make.blocks(3, 4), ("h",), fx.Gaussian(1.1)),
            fx.Node("first", make.sum(3, 4), ("s",), fx.Gaussian(0.6)),
            fx.Node("second", make.sum(3, 4, 2), ("h", "cause"), fx.Gaussian(1.7)),
        ],
        feedbacks=[
            fx.Feedback("h from second", "h", make.sum(4, 3), ("second",), fx.Gaussian(0.5)),
            fx.Feedback("cause from s", "cause", make.sum(2, 4), ("s",), fx.Gaussian(0.8)),
            fx.Feedback("blocks", "s", make.blocks(3, 4), energy=fx.Gaussian(0.3)),
        ],
    )
    half = np.array([True, False, True, False])
    clamps = {
        "control": make.values(batch, 2),
        "h": fx.Clamp(make.values(batch, 4), half),
        "first": make.values(batch, 3),
        "second": fx.Clamp(make.values(batch, 3), make.rng.random((batch, 3)) < 0.5),
    }
    return fx.Problem(network, clamps, output_precision=0.9)


def clamped_in_a_stack(phi=identity, batch=4):
    """Some units of some blocks are known, and a whole stack further up is."""
    make = Maker(phi, 8)
    network = fx.Network(
        [
            fx.Root("cause", (3,)),
            fx.Stack("s", make.blocks(4, 3)),
            fx.Stack("t", make.blocks(2, 3), energy=fx.Gaussian(0.7)),
            fx.Node("out", make.sum(2, 3)),
        ]
    )
    mask = make.rng.random((4, batch, 3)) < 0.4
    clamps = {"s": fx.Clamp(make.values(4, batch, 3), mask), "t": make.values(2, batch, 3)}
    return fx.Problem(network, {**clamps, "out": make.values(batch, 2)})


def classify(phi=identity, batch=4):
    return label_on_top(phi, batch, classify=True)


KINDS = {
    "latent root": latent_root,
    "label on top": label_on_top,
    "label inferred": classify,
    "masked output": masked_output,
    "two outputs": two_outputs,
    "feedback on a chain": feedback_on_a_chain,
    "feedback on a stack": feedback_on_a_stack,
    "learned precision": learned_precision,
    "everything": everything,
    "clamped in a stack": clamped_in_a_stack,
}


# The energy by its definition, one example and one node at a time.


def node_energies(problem, clamps, activities):
    """One number per node of one example, from what is clamped and its whole activities.

    Written from the definition: no method of the package but the functions of the nodes.
    """
    network, weight = problem.network, problem.output_precision
    read = {p for parents in network.parents.values() for p in parents}
    read |= {feedback.of for feedback in network.feedbacks}

    def known_of(name, like):
        if name not in clamps:
            return jnp.zeros(like.shape, bool)
        mask = clamps[name].mask
        return jnp.ones(like.shape, bool) if mask is None else mask

    def cost(name, learned, pi, z, mu, observed, known):
        pi = pi if learned is None else jnp.exp(learned)
        scale = jnp.where(known, observed, 1.0)
        error = 0.5 * pi * (z - mu) ** 2
        if learned is not None:
            error = error - 0.5 * jnp.where(known | (name in read), learned * jnp.ones(z.shape), 0)
        return jnp.sum(scale * error)

    def end(name):
        return activities[name][-1] if network.entry(name).batch_axis else activities[name]

    rows = []
    for entry in network.entries:
        parents = [end(p) for p in network.parents[entry.name]]
        z, energy = activities[entry.name], entry.energy
        known, learned = known_of(entry.name, z), energy.log_precision
        if isinstance(entry, fx.Root):
            mean = entry.mean
            mean = entry.constant_mean if mean is None else mean
            if entry.has_prior:
                rows.append(cost(entry.name, learned, energy.precision, z, mean, 0.0, known))
        elif isinstance(entry, fx.Stack):
            before = parents[0]
            for i in range(z.shape[0]):
                mu, own = block(entry.block, i)(before), None if learned is None else learned[i]
                rows.append(cost(entry.name, own, energy.precision, z[i], mu, weight, known[i]))
                before = z[i]
        else:
            mu = entry.function(*parents)
            rows.append(cost(entry.name, learned, energy.precision, z, mu, weight, known))
    for feedback in network.feedbacks:
        of, energy, none = feedback.of, feedback.energy, jnp.zeros((), bool)
        learned, pi = energy.log_precision, energy.precision
        if feedback.batch_axis:
            seen = [end(network.parents[of][0]), *activities[of][:-1]]
            for i, target in enumerate(seen):
                mu = block(feedback.function, i)(activities[of][i])
                rows.append(cost(of, learned, pi, target, mu, 0.0, none))
        else:
            mu = feedback.function(*(end(p) for p in network.parents[feedback.name]))
            rows.append(cost(of, learned, pi, end(of), mu, 0.0, none))
    return jnp.stack(rows)


def block(blocks, index):
    return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, blocks)


class Dense:
    """The free activities of every example as one vector; units that are known stay fixed."""

    def __init__(self, problem):
        self.problem = problem
        self.axes = dict(problem.network.space.batch_axes)
        self.shapes = {n: z[0].shape for n, z in self.first(problem.zeros()).items()}
        self.cuts = np.cumsum([int(np.prod(s)) for s in self.shapes.values()])[:-1]

    def first(self, entries):
        """Entries with the axis of the batch in front."""
        return {name: jnp.moveaxis(z, self.axes[name], 0) for name, z in entries.items()}

    def flat(self, entries):
        """`(batch, units)` of the free entries."""
        moved = self.first({name: entries[name] for name in self.problem.free})
        return jnp.concatenate([z.reshape(z.shape[0], -1) for z in moved.values()], axis=1)

    def entries(self, vector):
        """The free entries of one example."""
        parts = jnp.split(vector, self.cuts)
        return {n: p.reshape(s) for (n, s), p in zip(self.shapes.items(), parts, strict=True)}

    def known(self, clamps):
        """Which units of one example are known."""
        masks = [
            clamps[n].mask if n in clamps else jnp.zeros(s, bool) for n, s in self.shapes.items()
        ]
        return jnp.concatenate([mask.ravel() for mask in masks])

    def whole(self, clamps, vector):
        """The activities of all entries of one example."""
        free = self.entries(vector)
        found = {n: c.value for n, c in clamps.items() if c.mask is None}
        for name, z in free.items():
            found[name] = (
                jnp.where(clamps[name].mask, clamps[name].value, z) if name in clamps else z
            )
        return found

    def total(self, clamps, vector):
        """The energy of one example."""
        return node_energies(self.problem, clamps, self.whole(clamps, vector)).sum()

    def each(self, function):
        """A function of one example's clamps and vector, for all examples at once."""
        vectorized = jax.vmap(function, in_axes=(self.problem.clamp_axes, 0))
        return lambda vectors: vectorized(self.problem.clamps, vectors)

    def newton_step(self, clamps, vector):
        """To the minimum of the energy's quadratic model."""
        known = self.known(clamps)
        total = lambda v: self.total(clamps, v)  # noqa: E731
        hessian = jax.hessian(total)(vector) + jnp.diag(known.astype(vector.dtype))
        return vector - jnp.linalg.solve(hessian, jax.grad(total)(vector))

    def explained(self, clamps, errors):
        """What is explained of one example, as one vector."""
        alone = self.problem.alone(clamps)
        found = alone.explain(alone_entries(self, errors))[0]
        return jnp.concatenate([found[name].ravel() for name in self.problem.explained])

    def activities(self, clamps, errors):
        """The free activities of one example, unrolled from errors."""
        alone = self.problem.alone(clamps)
        found = alone.explain(alone_entries(self, errors))[1]
        return jnp.concatenate([found[name].ravel() for name in self.shapes])


def alone_entries(dense, vector):
    """The entries of one example with an axis for the batch."""
    return {n: jnp.expand_dims(z, dense.axes[n]) for n, z in dense.entries(vector).items()}


def precisions(problem, clamps, of_feedbacks=1.0):
    """Precisions of the free errors and of what is explained, of one example, written out.

    Those of what is observed are multiplied by the output precision, those of feedbacks by
    `of_feedbacks`.
    """
    network = problem.network
    parts = {part.name: part for part in network.predictors()}

    def precision(name):
        part, shape = parts[name], network.shapes[name]
        learned = part.energy.log_precision
        pi = jnp.asarray(part.energy.precision) if learned is None else jnp.exp(learned)
        pi = pi.reshape(-1, *[1] * (len(shape) - 1)) if part.batch_axis and pi.ndim else pi
        return jnp.broadcast_to(pi, shape)

    def explained(name):
        if name not in problem.observed:
            return of_feedbacks * precision(name)
        mask = True if clamps[name].mask is None else clamps[name].mask
        return problem.output_precision * jnp.where(mask, precision(name), 0)

    free = [precision(name).ravel() for name in problem.free]
    observed = [explained(name).ravel() for name in problem.explained]
    return jnp.concatenate(free), jnp.concatenate(observed)
