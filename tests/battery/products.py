"""How many multiplications of matrix products a function really does, loops and branches run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.extend import core
from jax.interpreters import partial_eval

_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def products(function: Callable[..., Any], *arguments: Any) -> int:
    """Multiplications in the products of `function(*arguments)`, of what its result needs.

    The program is run operation by operation: a loop counts as often as it turns, a conditional
    with the branch that is taken. What nothing depends on is left out, as the compiler does.
    """
    arrays, rest = eqx.partition(arguments, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    def on_arrays(*leaves: Any) -> Any:
        given = eqx.combine(jax.tree.unflatten(structure, leaves), rest)
        return jax.tree.leaves(eqx.filter(function(*given), eqx.is_array))

    closed = jax.make_jaxpr(on_arrays)(*leaves)
    return _run(closed.jaxpr, closed.consts, leaves)[1]


def _run(jaxpr: Any, consts: Any, given: Any) -> tuple[list[Any], int]:
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)
    values = dict(zip([*needed.constvars, *needed.invars], [*consts, *given], strict=True))
    count = 0

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in needed.eqns:
        found, more = _one(equation, [read(atom) for atom in equation.invars])
        count += more
        values.update(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in needed.outvars], count


def _one(equation: Any, given: list[Any]) -> tuple[list[Any], int]:
    name, params = equation.primitive.name, equation.params
    if name == "scan":
        return _scan(params, given)
    if name == "while":
        return _while(params, given)
    if name == "cond":
        branch = params["branches"][int(given[0])]
        return _run(branch.jaxpr, branch.consts, given[1:])
    inner = next((params[key] for key in _CALLS if key in params), None)
    if inner is not None:
        jaxpr, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, [])
        return _run(jaxpr, consts, given)
    found = equation.primitive.bind(*given, **params)
    found = found if equation.primitive.multiple_results else [found]
    return found, _of_product(equation) if name == "dot_general" else 0


def _of_product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    result = equation.outvars[0].aval.shape
    return math.prod(result) * math.prod(shape[axis] for axis in contracted)


def _scan(params: Any, given: list[Any]) -> tuple[list[Any], int]:
    consts = given[: params["num_consts"]]
    carry = given[params["num_consts"] : params["num_consts"] + params["num_carry"]]
    rows, body = given[params["num_consts"] + params["num_carry"] :], params["jaxpr"]
    order = range(params["length"])
    kept: list[Any] = [None] * params["length"]
    count = 0
    for index in reversed(order) if params["reverse"] else order:
        step = [*consts, *carry, *[row[index] for row in rows]]
        found, more = _run(body.jaxpr, body.consts, step)
        carry, kept[index] = found[: len(carry)], found[len(carry) :]
        count += more
    stacked = [jax.numpy.stack(column) for column in zip(*kept, strict=True)]
    return [*carry, *stacked], count


def _while(params: Any, given: list[Any]) -> tuple[list[Any], int]:
    of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
    cond, body = params["cond_jaxpr"], params["body_jaxpr"]
    state = given[of_cond + of_body :]
    count = 0
    while bool(_run(cond.jaxpr, cond.consts, [*given[:of_cond], *state])[0][0]):
        step = [*given[of_cond : of_cond + of_body], *state]
        state, more = _run(body.jaxpr, body.consts, step)
        count += more
    return state, count
