"""One battery that every solver must pass."""

import functools
from dataclasses import dataclass

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx

# Networks.


class Linear(eqx.Module):
    """`W (sum of parents)`."""

    weight: jax.Array

    def __call__(self, *parents):
        return self.weight @ sum(parents[1:], start=parents[0])


def plain(key):
    return fx.models.mlp(5, 3, width=6, depth=4, activation="tanh", key=key)


def residual(key):
    return fx.models.residual_mlp(
        5,
        3,
        width=8,
        depth=6,
        activation="gelu",
        parameterization=fx.MuPC(),
        key=key,
        output=fx.Categorical(),
    )


def graph(key):
    a, b, c = (
        jax.random.normal(k, s) / 2
        for k, s in zip(jax.random.split(key, 3), ((6, 5), (6, 6), (3, 6)), strict=True)
    )
    return fx.Network(
        [
            fx.Node("a", Linear(a), energy=fx.Gaussian(2.0)),
            fx.Node("b", Linear(b)),
            fx.Node("out", Linear(c), parents=("a", "b")),
        ],
        (5,),
    )


NETWORKS = {"tanh": plain, "categorical": residual, "graph": graph}


def make(name, batch=4, seed=0, precision=0.8):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(batch, 5)), rng.integers(3, size=batch)
    return fx.Problem(NETWORKS[name](jax.random.key(1)), x, np.eye(3)[labels], precision)


# Solvers: a new one is a line here.


@dataclass(frozen=True)
class Entry:
    """A solver with the steps one would use, and run long enough to converge in float64.

    Every solver passes every test on `network`; on the others it is run by `make test-slow`.
    """

    network: str
    brief: fx.Solver
    long: fx.Solver
    linear_only: bool = False
    # Adaptive steps decide by comparing with a tolerance, and in float32 rounding may decide
    # otherwise: then results differ by as much as the tolerance allows, at any batch size.
    adaptive: bool = False


class Settling(fx.Schedule):
    """Weak at first, 1 from the twelfth step after the signal's arrival: the minimum stays."""

    def weights(self, arrivals, step):
        return jnp.where(step - arrivals < 12, 0.3, 1.0)


def clipped(rate):
    return optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(rate))


SOLVERS = {
    "StateDescent sgd": Entry(
        "categorical",
        fx.StateDescent(optax.sgd(0.1), steps=20),
        fx.StateDescent(optax.sgd(0.2), steps=4000),
    ),
    "StateDescent adam": Entry(
        "graph",
        fx.StateDescent(optax.adam(0.02), steps=20),
        fx.StateDescent(optax.adam(optax.cosine_decay_schedule(0.05, 2000)), steps=2000),
    ),
    "StateDescent scheduled": Entry(
        "graph",
        fx.StateDescent(optax.sgd(0.1), steps=20, schedule=Settling()),
        fx.StateDescent(optax.sgd(0.2), steps=4000, schedule=Settling()),
    ),
    "ErrorDescent sgd": Entry(
        "tanh", fx.ErrorDescent(optax.sgd(0.1), steps=8), fx.ErrorDescent(optax.sgd(0.1), steps=400)
    ),
    "ErrorDescent scheduled": Entry(
        "tanh",
        fx.ErrorDescent(optax.sgd(0.1), steps=16, schedule=Settling()),
        fx.ErrorDescent(optax.sgd(0.1), steps=400, schedule=Settling()),
    ),
    "ErrorDescent clipped": Entry(
        "categorical",
        fx.ErrorDescent(clipped(0.1), steps=8),
        fx.ErrorDescent(clipped(0.1), steps=400),
    ),
    "GaussNewton": Entry(
        "tanh",
        fx.GaussNewton(iterations=2, cg_iterations=2),
        fx.GaussNewton(iterations=40, cg_iterations=4),
    ),
    "Newton": Entry("graph", fx.Newton(tolerance=1e-4), fx.Newton(tolerance=1e-9)),
    "QuasiNewton": Entry("categorical", fx.QuasiNewton(1e-3), fx.QuasiNewton(1e-9), adaptive=True),
    "GradientFlow": Entry(
        "graph",
        fx.GradientFlow(solver=diffrax.Heun(), segments=2),
        fx.GradientFlow(tolerance=1e-7, controller=diffrax.PIDController(rtol=1e-8, atol=1e-10)),
        adaptive=True,
    ),
    # Without steps of the multipliers they lower the energy.
    "AugmentedLagrangian": Entry(
        "graph",
        fx.AugmentedLagrangian(0.1, 20, dual_rate=0.0),
        fx.AugmentedLagrangian(0.2, 2000, inner_steps=2, dual_rate=0.0),
    ),
    "AugmentedGaussNewton": Entry(
        "tanh",
        fx.AugmentedGaussNewton(fx.GaussNewton(1, 2), 2, dual_rate=0.0),
        fx.AugmentedGaussNewton(fx.GaussNewton(2, 4), 20, dual_rate=0.0),
    ),
    "Exact": Entry("graph", fx.Exact(), fx.Exact(), linear_only=True),
}
CASES = [
    pytest.param(name, network, marks=[pytest.mark.slow] if network != entry.network else [])
    for name, entry in SOLVERS.items()
    for network in NETWORKS
    if network == "graph" or not entry.linear_only
]
# One network per solver, where a property of the driver is tested.
ONCE = [(name, entry.network) for name, entry in SOLVERS.items()]

infer = eqx.filter_jit(fx.infer)


def hidden_close(problem, a, b, tolerance):
    for name in problem.network.hidden:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance, err_msg=name)


def per_example(problem, activities):
    """Energy of every example, by calling every node on one example at a time."""
    network, shapes = problem.network, problem.network.shapes
    energies = []
    for i in range(problem.batch):
        known, total = {"input": problem.input[i]}, 0.0
        for node in network.entries[1:]:
            parents = [known[p] for p in network.parents[node.name]]
            if isinstance(node, fx.Stack):
                before = parents[0]
                for layer in range(shapes[node.name][0]):
                    block = jax.tree.map(
                        lambda a, layer=layer: a[layer] if eqx.is_array(a) else a, node.block
                    )
                    now = activities[node.name][layer, i]
                    total += 0.5 * node.energy.precision * ((now - block(before)) ** 2).sum()
                    before = now
                known[node.name] = before
            elif node is network.output:
                mu = node.function(*parents)
                y = problem.target[i]
                if isinstance(node.energy, fx.Gaussian):
                    unit = 0.5 * ((y - mu) ** 2).sum()
                else:
                    unit = jax.nn.logsumexp(mu) - (y * mu).sum()
                total += problem.output_precision * unit
            else:
                now = activities[node.name][i]
                error = now - node.function(*parents)
                total += 0.5 * node.energy.precision * (error**2).sum()
                known[node.name] = now
        energies.append(float(total))
    return np.array(energies)


# The minimum, and what is reported about it.

references = {}


def reference(network):
    """Activities at equilibrium: in closed form for the graph, by Newton to 1e-12 otherwise."""
    if network not in references:
        solver = fx.Exact() if network == "graph" else fx.Newton(tolerance=1e-11)
        problem = make(network)
        relaxed = infer(problem, solver)
        assert float(relaxed.unsettled.max()) < 1e-10
        references[network] = problem, relaxed, per_example(problem, relaxed.activities)
    return references[network]


@pytest.mark.parametrize(("name", "network"), CASES)
def test_every_solver_finds_the_same_minimum(float64, name, network):
    problem, expected, energies = reference(network)
    relaxed = infer(problem, SOLVERS[name].long)
    np.testing.assert_allclose(relaxed.energy, expected.energy, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(relaxed.energy.sum(), energies.mean(), rtol=1e-8)
    hidden_close(problem, relaxed.activities, expected.activities, 1e-5)
    assert float(relaxed.unsettled.max()) < 1e-4


def report(problem, solver):
    """Everything of one solver in one program."""

    @functools.partial(eqx.filter_grad, has_aux=True)
    def through(network):
        there = eqx.tree_at(lambda p: p.network, problem, network)
        relaxed = fx.infer(there, solver)
        return fx.energy(there, relaxed.activities).sum(), relaxed

    derivative, relaxed = through(problem.network)
    traced, energies = fx.trace(problem, solver)
    return {
        "relaxed": relaxed,
        "traced": traced,
        "energies": energies,
        "energy": fx.energy(problem, relaxed.activities),
        "errors": problem.errors_of(relaxed.activities),
        "through": derivative,
        "gradient": fx.weight_gradient(problem, relaxed.activities),
        "certificate": certificate(problem, relaxed.errors),
    }


def certificate(problem, errors):
    """`||dF/de|| / ||dF/de at 0||` from the definition, by one `jax.grad` of the energy."""
    network = problem.network
    errors = {name: errors[name] for name in network.hidden}

    def total(errors):
        activities = network.unroll(errors, problem.input)
        mu = activities.pop(network.output.name)
        del activities
        hidden = sum(
            0.5 * node.energy.precision * (errors[node.name] ** 2).sum()
            for node in network.entries[1:-1]
        )
        if isinstance(network.output.energy, fx.Gaussian):
            unit = 0.5 * ((problem.target - mu) ** 2).sum()
        else:
            unit = (jax.nn.logsumexp(mu, axis=-1) - (problem.target * mu).sum(-1)).sum()
        return hidden + problem.output_precision * unit

    def norm(errors):
        gradient = jax.grad(total)(errors)
        squares = 0.0
        for g in gradient.values():
            batch_axis = 1 if g.ndim == 3 else 0
            squares += (g**2).sum(axis=tuple(i for i in range(g.ndim) if i != batch_axis))
        return jnp.sqrt(squares)

    return norm(errors) / norm(jax.tree.map(jnp.zeros_like, errors))


@pytest.mark.parametrize(("name", "network"), CASES)
def test_what_is_reported_is_consistent(float64, name, network):
    problem = make(network)
    found = eqx.filter_jit(report)(problem, SOLVERS[name].brief)
    relaxed, traced = found["relaxed"], found["traced"]

    # Energies, errors and the certificate are those of the activities returned.
    np.testing.assert_allclose(relaxed.energy, found["energy"], rtol=1e-9, atol=1e-14)
    hidden_close(problem, relaxed.errors, found["errors"], 1e-12)
    np.testing.assert_allclose(relaxed.unsettled, found["certificate"], rtol=1e-8, atol=1e-12)
    np.testing.assert_array_equal(relaxed.activities[problem.network.output.name], problem.target)

    # A trace is the same relaxation, with one row before and one after every step.
    for a, b in zip(jax.tree.leaves(relaxed), jax.tree.leaves(traced), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    energies = np.asarray(found["energies"])
    forward = problem.network.unroll(None, problem.input)
    np.testing.assert_allclose(
        energies[0].mean(1), fx.energy(problem, forward), rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(energies[-1].mean(1), relaxed.energy, rtol=1e-9, atol=1e-14)
    assert len(energies) >= int(relaxed.steps.max()) + 1

    # Inference is constant under differentiation: learning is local.
    through, gradient = (jax.tree.leaves(found[k]) for k in ("through", "gradient"))
    for a, b in zip(through, gradient, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


# Examples do not interact.


def rows(problem, entries, index):
    """Entries of some examples."""
    axis = dict(problem.network.space.batch_axes)
    return {k: np.take(np.asarray(v), index, axis[k]) for k, v in entries.items() if k in axis}


def some(problem, index):
    return fx.Problem(
        problem.network, problem.input[index], problem.target[index], problem.output_precision
    )


@pytest.mark.parametrize(("name", "network"), ONCE)
def test_an_example_relaxes_alike_in_any_batch(name, network, request):
    if SOLVERS[name].adaptive:
        request.getfixturevalue("float64")
    batch = 256 if name in ("GaussNewton", "StateDescent sgd") else 64
    problem = make(network, batch=batch)
    solver = SOLVERS[name].brief
    whole = infer(problem, solver)
    order = np.random.default_rng(2).permutation(batch)
    permuted = infer(some(problem, order), solver)
    hidden_close(
        problem, permuted.activities, rows(problem, whole.activities, order), tolerance=1e-6
    )
    for i in (0, 17, batch - 1):
        index = np.array([i])
        alone = infer(some(problem, index), solver)
        hidden_close(
            problem, alone.activities, rows(problem, whole.activities, index), tolerance=1e-6
        )


# Transformations.


@pytest.mark.parametrize(("name", "network"), ONCE)
def test_ensembles_and_precisions_vectorize(name, network, request):
    if SOLVERS[name].adaptive:
        request.getfixturevalue("float64")
    one = make(network, batch=1)
    x, y = one.input, one.target
    keys, precisions = jax.random.split(jax.random.key(5), 2), jnp.array([0.5, 1.5])
    solver = SOLVERS[name].brief

    def relax(network, precision):
        return fx.infer(fx.Problem(network, x, y, precision), solver)

    ensemble = eqx.filter_vmap(NETWORKS[network])(keys)

    @eqx.filter_jit
    def all_of_them(ensemble):
        over_precision = eqx.filter_vmap(relax, in_axes=(None, 0))
        return eqx.filter_vmap(over_precision, in_axes=(eqx.if_array(0), None))(
            ensemble, precisions
        )

    together = all_of_them(ensemble)
    for i in range(2):
        member = NETWORKS[network](keys[i])
        for j in range(2):
            alone = infer(fx.Problem(member, x, y, precisions[j]), solver)
            found = jax.tree.map(lambda a, i=i, j=j: a[i, j], together.activities)
            hidden_close(one, found, alone.activities, 1e-6)
            np.testing.assert_allclose(together.energy[i, j], alone.energy, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "network"), ONCE)
def test_nothing_to_relax_gives_no_nan(name, network, request):
    """Targets equal to the prediction, and inputs and targets of exact zeros."""
    if SOLVERS[name].adaptive:
        request.getfixturevalue("float64")
    problem = make(network, batch=1)
    solver = SOLVERS[name].brief
    prediction = fx.predict(problem.network, problem.input)
    expected = problem.network.output.energy.expected
    still = fx.Problem(problem.network, problem.input, expected(prediction), 0.8)
    zero = fx.Problem(problem.network, 0 * problem.input, expected(0 * prediction), 0.8)
    for p in (still, zero):
        relaxed = infer(p, solver)
        for leaf in jax.tree.leaves(relaxed):
            assert np.isfinite(leaf).all()
        if isinstance(p.network.output.energy, fx.Gaussian):
            hidden_close(p, relaxed.activities, p.network.unroll(None, p.input), 1e-5)


def test_relaxations_and_problems_are_pytrees():
    problem = make("tanh")
    relaxed = infer(problem, fx.GaussNewton())
    again = eqx.filter_jit(lambda *given: given)(problem, relaxed)
    assert eqx.tree_equal(again, (problem, relaxed))
    leaves, structure = jax.tree.flatten((problem, relaxed))
    assert eqx.tree_equal(jax.tree.unflatten(structure, leaves), (problem, relaxed))
    assert again[1].describe() == relaxed.describe()


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_are_values(name):
    """Equal, hashable where static, and printed with their options."""
    solver = SOLVERS[name].brief
    assert type(solver).__name__ in repr(solver)
    assert jax.tree.unflatten(*reversed(jax.tree.flatten(solver))) == solver


def test_a_trace_needs_a_step():
    network = fx.models.mlp(3, 2, width=4, depth=3, key=jax.random.key(0))
    problem = fx.Problem(network, jnp.ones((1, 3)), jnp.ones((1, 2)))
    with pytest.raises(ValueError, match="steps"):
        fx.trace(problem, fx.GaussNewton(), steps=0)
