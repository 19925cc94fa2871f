"""Env steps per second of `gymnasium.make_vec`, compared with the library's own rollout of the same environment.

Both take the same random actions. The own rollout is one compiled scan; a vector environment is a call of a compiled
program in each step, which copies all that a client sees to the host.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kilolayer.bench.timing import seconds_of
from kilolayer.envs import Environment, EnvironmentState, make
from kilolayer.errors import ConfigurationError
from kilolayer.settings import check_count

ENVS = ("point_u_maze", "reacher", "ant")


@dataclasses.dataclass(frozen=True)
class VectorSpeed:
    """One line of the table."""

    env: str
    num_envs: int
    own_steps_per_second: float
    """Env steps per second of the library's own rollout; median over the rounds."""
    gym_steps_per_second: float
    """Env steps per second of the vector environment; median over the rounds."""
    ratio: float
    """Speed of the vector environment divided by that of the own rollout in the same round; median over the rounds."""
    rounds: int


def bench_gym(
    envs: Sequence[str] = ENVS,
    *,
    num_envs: int = 256,
    num_steps: int = 200,
    rounds: int = 5,
    log: Callable[[str], object] = id,
) -> Iterator[VectorSpeed]:
    """Time both ways to step an environment. They take turns, round by round, so that noise affects both alike.

    Args:
        envs: names of environments.
        num_envs: robots side by side.
        num_steps: steps of each robot in a round.
        rounds: to take the median of.
        log: called with a line before each measurement.

    Returns:
        An iterator that measures as it is read, one line for each environment.

    Raises:
        ConfigurationError: at the call, if Gymnasium is not installed, an environment is unknown, or a size is below 1.
    """
    for name, value in (("num_envs", num_envs), ("num_steps", num_steps), ("rounds", rounds)):
        check_count(name, value)
    try:
        import gymnasium  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "bench gym needs Gymnasium, which is not installed; pip install 'kilolayer[gym]'"
        ) from None
    made = {name: make(name) for name in envs}
    return _measure(made, num_envs, num_steps, rounds, log)


def _measure(
    environments: Mapping[str, Environment], num_envs: int, num_steps: int, rounds: int, log: Callable[[str], object]
) -> Iterator[VectorSpeed]:
    from kilolayer.envs.gym.vector_env import VectorGoalEnv

    for name, environment in environments.items():
        log(f"{name}: compiling")
        vector = VectorGoalEnv(environment, num_envs)
        vector.action_space.seed(0)
        actions = [vector.action_space.sample() for _ in range(num_steps)]
        own = _rollout(environment, num_envs, jnp.stack([jnp.asarray(vector.functions.action(one)) for one in actions]))
        sides = (own, functools.partial(_step_through, vector, actions))
        for run in sides:
            run()
        times: list[list[float]] = []
        for number in range(rounds):
            log(f"{name}: round {number + 1} of {rounds}")
            times.append([seconds_of(run) for run in sides])
        speeds = [
            statistics.median(num_envs * num_steps / seconds for seconds in side) for side in zip(*times, strict=True)
        ]
        yield VectorSpeed(
            env=name,
            num_envs=num_envs,
            own_steps_per_second=speeds[0],
            gym_steps_per_second=speeds[1],
            ratio=statistics.median(of_own / of_vector for of_own, of_vector in times),
            rounds=rounds,
        )


def _rollout(
    environment: Environment, num_envs: int, actions: Float[Array, "steps num_envs action"]
) -> Callable[[], object]:
    """Return the library's own rollout, which begins in the same states each time."""

    @jax.jit
    def steps(state: EnvironmentState, actions: Array) -> EnvironmentState:
        return jax.lax.scan(lambda state, action: (environment.step(state, action)[0], None), state, actions)[0]

    begun = jax.jit(lambda key: environment.reset(key, num_envs))(jax.random.key(0))
    return lambda: jax.block_until_ready(steps(begun, actions))


def _step_through(vector: Any, actions: Sequence[Any]) -> None:
    """Step a vector environment of Gymnasium from new starts."""
    vector.reset(seed=0)
    for action in actions:
        vector.step(action)
