"""Networks of one moment in time, whose state the next one reads: for `fx.follow`."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import Count, CountOrZero, Positive, gate
from fathomx.graph.energy import Energy, Gaussian
from fathomx.graph.entries import Entry, Node, Root
from fathomx.graph.network import INPUT, Network
from fathomx.layers.activations import Activation, activation_function
from fathomx.layers.joins import add
from fathomx.layers.parameterization import Parameterization, Role, Standard
from fathomx.layers.scaled import Affine, Linear
from fathomx.models.mlp import Dense, Maker


class Transition(eqx.Module):
    """`A phi(z_before) + B u`: the state that is expected, from the one before and a control."""

    dense: Dense
    control: Callable[[Array], Array] | None

    def __call__(self, before: Array, *controls: Array) -> Array:
        if self.control is None:
            return self.dense(before)
        return add(self.dense(before), self.control(*controls))


class Gated(eqx.Module):
    """A gated recurrent cell: `z = (1 - u) n + u z_before` with gates from input and state.

        u = sigmoid(.), r = sigmoid(.), n = tanh(W x + r (V z_before + c))

    **Fields**: `cell`, Equinox's.

    Source: Cho et al. (2014), arXiv 1406.1078.
    """

    cell: eqx.nn.GRUCell

    def __call__(self, before: Array, input: Array) -> Array:
        state: Array = self.cell(input, before)
        return state


@gate
def state_space(
    states: Count,
    out_size: Count,
    *,
    controls: CountOrZero = 0,
    width: Count = 128,
    depth: Count = 1,
    activation: Activation = "linear",
    bias: bool = False,
    precision: Positive = 1.0,
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
    output: Energy | None = None,
) -> Network:
    """A state that moves by itself and by controls, and what is observed of it: one moment.

        F_t = (pi / 2) ||z_t - A phi(z_{t-1}) - B u_t||^2 + lambda E(x_t, mu(z_t))

    The entries are the roots `before` (the state one moment ago, with the prior N(0, I) for the
    first) and `control` (if there are any), the nodes `state` and `output`, and between them the
    hidden layers of `depth` above 1, as in `fx.models.mlp`. `fx.follow` relaxes moment by moment
    with `{"before": "state"}` carried over, `fx.Learner.follow` learns at the same time.

    **Arguments**

    * `states`, `out_size`, `controls`: sizes; no controls unless given.
    * `width`, `depth`: of the network from state to observation; a linear map, `C phi(z)`, unless
      given.
    * `activation`: of the transition and of all other layers, linear unless given.
    * `bias`, `parameterization` (`Standard()` unless given), `key`: as for `fx.models.mlp`.
    * `precision`: of the state, `pi`: the inverse variance of what moves it unforeseen.
    * `output`: energy of what is observed, `Gaussian()` unless given.

    ```python
    network = fx.models.state_space(3, 2, controls=1, precision=10.0, key=jax.random.key(0))
    found = fx.follow(network, {"output": x, "control": u}, {"before": "state"}, fx.Exact())
    ```

    Source: Millidge et al. (2024), doi 10.1371/journal.pcbi.1011183. On linear networks it is the
    Kalman filter with its prior covariance held at `1 / pi`.
    """
    keys = jax.random.split(key, 3)
    parameterization = Standard() if parameterization is None else parameterization
    function = activation_function(activation)

    def mapped(role: Role, sizes: tuple[int, int], key: PRNGKeyArray) -> Linear | Affine:
        found = parameterization.linear(role, sizes, states, depth + 1, key)
        return parameterization.affine(found, sizes[1], states, depth + 1) if bias else found

    by_itself = Dense(mapped(Role.HIDDEN, (states, states), keys[0]), function)
    by_control = None
    roots: list[Entry] = [Root("before", (states,))]
    if controls:
        roots.append(Root("control", (controls,), energy=None))
        by_control = parameterization.linear(
            Role.INPUT, (controls, states), states, depth + 1, keys[1]
        )
    names = tuple(root.name for root in roots)
    state = Node("state", Transition(by_itself, by_control), names, Gaussian(precision))
    if depth == 1:
        seen = Dense(mapped(Role.OUTPUT, (states, out_size), keys[2]), function)
        return Network([*roots, state, Node("output", seen, energy=output)])
    make = Maker((states, out_size), width, depth, activation, bias, parameterization)
    return Network([*roots, state, *make.plain(output, keys[2])])


@gate
def recurrent(
    in_size: Count,
    out_size: Count,
    *,
    states: Count = 128,
    activation: Activation = "linear",
    bias: bool = True,
    precision: Positive = 1.0,
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
    output: Energy | None = None,
) -> Network:
    """One moment of a gated recurrent network: a state, an input, and what is predicted from them.

        z_t = GRU(z_{t-1}, x_t) + e_t,    output: a W phi(z_t) + b

    The entries are the roots `before` (the prior of the first is N(0, I), its mean the state 0) and
    `input`, and the nodes `state` and `output`. Used with `fx.follow` and `fx.Learner.follow` as
    `state_space` is; `fx.predict` with `{"before": z, "input": x}` is one step.

    **Arguments**: sizes of input, output and state; `activation` before the readout, linear unless
    given; `bias`, of the readout; `precision` of the state; `parameterization` of the readout
    (`Standard()` unless given); `key`; `output`, the output's energy, `Gaussian()` unless given.

    ```python
    network = fx.models.recurrent(65, 65, output=fx.Categorical(), key=jax.random.key(0))
    found = fx.follow(network, {"input": x, "output": y}, {"before": "state"}, fx.GaussNewton())
    ```

    Source: Millidge et al. (2024), doi 10.1371/journal.pcbi.1011183; the cell Cho et al. (2014).
    """
    cell_key, key = jax.random.split(key)
    parameterization = Standard() if parameterization is None else parameterization
    readout: Linear | Affine = parameterization.linear(
        Role.OUTPUT, (states, out_size), states, 2, key
    )
    if bias:
        readout = parameterization.affine(readout, out_size, states, 2)
    cell = Gated(eqx.nn.GRUCell(in_size, states, key=cell_key))
    return Network(
        [
            Root("before", (states,)),
            Root(INPUT, (in_size,), energy=None),
            Node("state", cell, ("before", INPUT), Gaussian(precision)),
            Node("output", Dense(readout, activation_function(activation)), "state", output),
        ]
    )
