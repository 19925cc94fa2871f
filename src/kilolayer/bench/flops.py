"""The operations of a gradient step, counted in its program: the same on every device, at every depth."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from kilolayer.errors import ConfigurationError
from kilolayer.training import Setup, state_shape


def gradient_step_flops(setup: Setup) -> float:
    """Return the operations in the matrix products of a gradient step; a multiplication with an addition counts two.

    Those of activations computed again for the backward pass are among them; what is not a matrix product (norms,
    activations, the optimiser) is not. Nothing is computed or compiled.

    Args:
        setup: whose agent learns, at the depth that it has there.
    """
    state = state_shape(setup)
    data = jax.eval_shape(setup.agent.prepare, state.agent, state.buffer)
    return matrix_products(jax.make_jaxpr(setup.agent.update)(state.agent, data, state.key).jaxpr)


def matrix_products(jaxpr: Any) -> float:
    """Return the operations in the matrix products of a program.

    Those in a scan count as often as it turns, which XLA's own cost analysis leaves out; of branches, the one with
    most counts.

    Args:
        jaxpr: of the program, as `jax.make_jaxpr` has it.

    Raises:
        ConfigurationError: if a loop that holds matrix products turns nobody knows how often.
    """
    total = 0.0
    for equation in jaxpr.eqns:
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
    """Return the programs that an operation holds."""
    for value in itertools.chain.from_iterable(p if isinstance(p, tuple) else (p,) for p in params.values()):
        program = getattr(value, "jaxpr", value)
        if hasattr(program, "eqns"):
            yield program
