"""What had another name in version 0.1 works for one version, and says the new name."""

import importlib
import sys

import jax
import numpy as np
import optax
import pytest

import fathomx as fx
from fathomx.former import MODULES


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("energy", "strength")])
def test_modules_are_found_under_their_former_names(name):
    sys.modules.pop(f"fathomx.{name}", None)
    with pytest.warns(DeprecationWarning, match=f"fathomx.{name} is now fathomx."):
        module = importlib.import_module(f"fathomx.{name}")
    room = importlib.import_module(f"fathomx.{MODULES[name][0]}")
    own = {k: v for k, v in vars(room).items() if getattr(v, "__module__", "") == room.__name__}
    assert own and all(getattr(module, k) is v for k, v in own.items())


def test_former_names_of_classes_and_options():
    with pytest.warns(DeprecationWarning, match="Schedule"):
        assert fx.Precision is fx.Schedule
    with pytest.warns(DeprecationWarning, match="schedule="):
        solver = fx.StateDescent(optax.sgd(0.1), 3, precision=fx.Decaying())
    assert solver == fx.StateDescent(optax.sgd(0.1), 3, fx.Decaying()) or isinstance(
        solver.schedule, fx.Decaying
    )
    network = fx.models.mlp(3, 2, width=4, depth=3, key=jax.random.key(0))
    with pytest.warns(DeprecationWarning, match="entries"):
        assert [entry.name for entry in network.nodes] == ["first", "hidden", "output"]
    problem = fx.Problem(network, np.ones((2, 3)), np.ones((2, 2)))
    with pytest.warns(DeprecationWarning, match="explain"):
        prediction, activities = problem.predict(problem.zeros())
    np.testing.assert_array_equal(prediction, problem.feedforward()["output"])
    with pytest.warns(DeprecationWarning, match="select"):
        assert problem.hidden(activities).keys() == {"first", "hidden"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fx.nothing  # noqa: B018
