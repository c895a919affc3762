"""Weights that several entries have in common."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fathomx as fx


class Map(eqx.Module):
    weight: jax.Array

    def __call__(self, z):
        return self.weight @ jnp.tanh(z)


def build(tied):
    cell = Map(jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)) / 2))
    last = Map(jnp.asarray(np.random.default_rng(1).normal(size=(2, 3))))
    copies = [Map(jnp.array(cell.weight)) for _ in range(2)]
    return fx.Network(
        [
            fx.Node("one", cell),
            fx.Node("two", cell if tied else copies[0]),
            fx.Node("three", cell if tied else copies[1]),
            fx.Node("out", last),
        ],
        (3,),
        share={"two": "one", "three": "one"} if tied else None,
    )


def test_tied_weights_learn_from_all_entries(float64):
    x, y = np.random.default_rng(2).normal(size=(2, 6, 3))
    tied, apart = build(True), build(False)
    solver = fx.GaussNewton(3, 5)
    a, b = (fx.Problem(n, x, y[:, :2]) for n in (tied, apart))
    one, other = (fx.infer(p, solver) for p in (a, b))
    np.testing.assert_allclose(one.energy, other.energy, rtol=1e-12)
    mine, theirs = (
        fx.weight_gradient(p, r.activities, r.errors) for p, r in ((a, one), (b, other))
    )
    assert len(jax.tree.leaves(mine)) == 2
    summed = sum(theirs.entry(name).function.weight for name in ("one", "two", "three"))
    np.testing.assert_allclose(mine.entry("one").function.weight, summed, rtol=1e-10)
    rule, optimizer = fx.Equilibrium(), optax.sgd(0.1)
    state = rule.init_optimizer(optimizer, tied)
    learned, _, _ = rule.update(a, optimizer, state, jax.random.key(0))
    assert np.isfinite(fx.predict(learned, x)).all()
    assert len(jax.tree.leaves(fx.weights(learned))) == 2
    with pytest.raises(ValueError, match="shares weights between 'two' and 'one'"):
        fx.Incremental().init_optimizer(optimizer, tied)


def test_one_module_in_two_entries_is_refused():
    cell = Map(jnp.ones((3, 3)))
    with pytest.raises(ValueError, match=r"share=\{'b': 'a'\}") as caught:
        fx.Network([fx.Node("a", cell), fx.Node("b", cell)], (3,))
    assert "\n" not in str(caught.value)
    # Functions without weights may stand anywhere.
    fx.Network([fx.Node("a", jnp.tanh), fx.Node("b", jnp.tanh)], (3,))
    for share in ({"b": "c"}, {"b": "b"}, {"b": "a", "c": "b"}):
        with pytest.raises(ValueError, match="share="):
            fx.Network([fx.Node("a", cell), fx.Node("b", cell)], (3,), share=share)
