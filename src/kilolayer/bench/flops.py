"""Count the operations of a gradient step in its program. The count is the same on every device."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr

from kilolayer.errors import ConfigurationError
from kilolayer.nn.kernels import FUSED, fused_operations
from kilolayer.training import Setup, state_shape


def gradient_step_flops(setup: Setup) -> float:
    """Return the operations in the matrix products of one gradient step of any agent.

    A multiplication with an addition counts as two. Activations that are recomputed in the backward pass count again.
    Norms, activation functions and the optimiser do not count. Nothing is computed or compiled.

    Args:
        setup: holds the agent, at its current depth.

    Raises:
        ConfigurationError: if the step has matrix products in a loop of unknown length.
    """
    return matrix_products(_gradient_step(setup))


def products_in_a_chain(setup: Setup) -> int:
    """Return how many matrix products of one gradient step are in its loops, where each waits for the one before.

    A product of several networks with stacked parameters is one. Of the branches of a condition, the longest counts.

    Args:
        setup: holds the agent, at its current depth.
    """
    return _in_loops(_gradient_step(setup), inside=False)


def _gradient_step(setup: Setup) -> Any:
    """Return the program of a gradient step, without what it computes and does not use."""
    state = state_shape(setup)
    data = jax.eval_shape(setup.agent.prepare, state.agent, state.buffer)
    program = jax.make_jaxpr(setup.agent.update)(state.agent, data, state.key).jaxpr
    return dce_jaxpr(program, [True] * len(program.outvars))[0]


def _in_loops(jaxpr: Any, *, inside: bool) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        counts = [_in_loops(each, inside=inside or name == "scan") for each in _programs(equation.params)]
        if name == "dot_general":
            total += inside
        elif name == "cond":
            total += max(counts)
        else:
            total += sum(counts) * (equation.params["length"] if name == "scan" else 1)
    return total


def matrix_products(jaxpr: Any) -> float:
    """Return the operations in the matrix products of a program.

    The products of a scan count once for each of its steps, which XLA's own cost analysis does not do. Of the branches
    of a condition, the most expensive one counts.

    Args:
        jaxpr: the program, as `jax.make_jaxpr` returns it.

    Raises:
        ConfigurationError: if a loop of unknown length has matrix products.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.params.get("name") == FUSED:
            total += fused_operations(*(each.aval.shape for each in equation.invars[:2]))
            continue
        inner = [matrix_products(each) for each in _programs(equation.params)]
        match equation.primitive.name:
            case "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                summed = [equation.invars[0].aval.shape[axis] for axis in contracted]
                total += 2.0 * np.prod(summed) * np.prod(equation.outvars[0].aval.shape)
            case "cond":
                total += max(inner)
            case "while" if sum(inner):
                raise ConfigurationError("matrix products in a `while` loop cannot be counted; write it as a scan")
            case "scan":
                total += equation.params["length"] * sum(inner)
            case _:
                total += sum(inner)
    return float(total)


def _programs(params: dict[str, Any]) -> Iterator[Any]:
    """Yield the programs inside an equation."""
    for value in itertools.chain.from_iterable(p if isinstance(p, tuple) else (p,) for p in params.values()):
        program = getattr(value, "jaxpr", value)
        if hasattr(program, "eqns"):
            yield program
