"""What a network and a problem print."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import fathomx as fx


def linear(seed, inputs, outputs):
    return eqx.nn.Linear(inputs, outputs, key=jax.random.key(seed))


NETWORK = fx.Network(
    [
        fx.Root("cause", (2,), energy=fx.Gaussian(0.5)),
        fx.Noise("noise"),
        fx.Node("hidden", lambda z, key: jnp.tanh(z), ("cause", "noise")),
        fx.Stack(
            "blocks",
            eqx.filter_vmap(lambda key: eqx.nn.Linear(2, 2, key=key))(
                jax.random.split(jax.random.key(3), 4)
            ),
            "hidden",
        ),
        fx.Node("label", linear(1, 2, 3), energy=fx.Categorical()),
    ],
    feedbacks=[fx.Feedback("top", "hidden", linear(2, 3, 2), ("label",))],
)


def test_a_network_prints_a_line_for_every_entry():
    assert str(NETWORK).splitlines() == [
        # 4 * (2 * 2 + 2), 2 * 3 + 3 and 3 * 2 + 2
        "Network of 7 nodes with 41 weights",
        "        kind      from          shape   energy                   weights",
        "cause   Root                    (2,)    Gaussian(precision=0.5)  0",
        "noise   Noise                   (2,)    none: given              0",
        "hidden  Node      cause, noise  (2,)    Gaussian()               0",
        "blocks  Stack     hidden        (4, 2)  Gaussian()               24",
        "label   Node      blocks        (3,)    Categorical()            9",
        "top     Feedback  label         (2,)    Gaussian()               8",
    ]


def test_shared_weights_are_named():
    cell = linear(0, 3, 3)
    network = fx.Network(
        [fx.Node("a", cell), fx.Node("b", cell), fx.Node("o", linear(1, 3, 2))],
        input_shape=(3,),
        share={"b": "a"},
    )
    first, *_, line, _ = str(network).splitlines()
    assert first == "Network of 3 nodes with 20 weights"
    assert line == "b      Node  a      (3,)   Gaussian()   those of a"


def test_a_problem_prints_what_is_clamped():
    half = fx.Clamp(np.ones((5, 2)), np.array([True, False]))
    problem = fx.Problem(NETWORK, {"hidden": half, "label": np.arange(5) % 3})
    assert str(problem) == (
        "Problem of 5 examples; clamped: label; clamped in part: hidden; "
        "free: cause, hidden, blocks"
    )
