"""The states of the seeds that a trainer moves together, and the two ways to move them: by threads or by `vmap`."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from kilolayer.runs.run_directory import cpu_cores
from kilolayer.training.evaluation import Episodes, run_episodes
from kilolayer.training.faults import CollectFaults, LearnFaults
from kilolayer.training.setup import Setup
from kilolayer.training.step import TrainState, compile_steps

Result = TypeVar("Result")

SeedsMode = Literal["threads", "vmap"]
"""threads: each seed by the program that trains it alone, to the same bits, as many at once as there are cores.
vmap: one program for all, which computes the same up to rounding."""


class Outcome(NamedTuple):
    """What a training step of one seed led to, on the host."""

    collected: CollectFaults
    learnt: tuple[dict[str, Any], LearnFaults] | None
    """The agent's metrics, and where they were not finite; None if there was too little to learn from."""


class Population(Protocol):
    """The states of one or several seeds, all at the same training step. Seeds are known by their place."""

    @property
    def env_steps(self) -> int:
        """Steps that each seed has taken in all its environments together."""
        ...

    @property
    def gradient_steps(self) -> int:
        """Gradient steps that each seed has taken."""
        ...

    def state(self, place: int) -> TrainState:
        """Return one seed's state, until the next training step consumes it."""
        ...

    def advance(self, *, learn: bool) -> list[Outcome]:
        """Take a training step with every seed: collect, and then learn if told to."""
        ...

    def evaluate(self, keys: Sequence[PRNGKeyArray], num_episodes: int) -> list[Episodes]:
        """Run whole episodes in the evaluation environment with every seed's policy, each seed with its key."""
        ...

    def close(self) -> None:
        """End what runs beside the caller."""
        ...


def populate(mode: SeedsMode, setup: Setup, states: Sequence[TrainState]) -> Population:
    """Return the population that consumes `states`; the setup's own seed plays no part."""
    return Stacked(setup, states) if mode == "vmap" else Threads(setup, states)


class Threads:
    """Each seed by the same program, that of a run alone, on as many threads as there are cores.

    A program for small networks keeps one core busy at most; several of them keep all. A lone run takes no thread.
    """

    def __init__(self, setup: Setup, states: Sequence[TrainState]):
        """Take over the states."""
        self._setup, self._states = setup, list(states)
        self._steps = compile_steps(setup)
        workers = min(len(self._states), cpu_cores())
        self._pool = ThreadPoolExecutor(workers, "seed") if workers > 1 else None
        self._host_physics = threading.Lock() if self._pool and setup.environment.runs_on_host else None
        self._compiled: set[str] = set()

    @property
    def env_steps(self) -> int:
        """Steps that each seed has taken in all its environments together."""
        return self._states[0].env_steps

    @property
    def gradient_steps(self) -> int:
        """Gradient steps that each seed has taken."""
        return int(self._states[0].gradient_steps)

    def state(self, place: int) -> TrainState:
        """Return one seed's state, until the next training step consumes it."""
        return self._states[place]

    def advance(self, *, learn: bool) -> list[Outcome]:
        """Take a training step with every seed: collect, and then learn if told to."""

        def step(place: int) -> Outcome:
            state, collected = self._in_turn(lambda: self._steps.collect(self._states[place]))
            learnt = None
            if learn:
                state, learnt = self._steps.learn(state)
            self._states[place] = state
            return Outcome(*jax.device_get((collected, learnt)))

        return self._each("learn" if learn else "collect", step)

    def evaluate(self, keys: Sequence[PRNGKeyArray], num_episodes: int) -> list[Episodes]:
        """Run whole episodes in the evaluation environment with every seed's policy, each seed with its key."""
        setup = self._setup

        def run(place: int) -> Episodes:
            agent = self._states[place].agent
            episodes = self._in_turn(
                lambda: run_episodes(setup.agent, agent, setup.eval_environment, keys[place], num_episodes=num_episodes)
            )
            return jax.device_get(episodes)

        return self._each("evaluate", run)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _each(self, kind: str, job: Callable[[int], Result]) -> list[Result]:
        """Do a job for every seed: the first time in turn, so that the first compiles for all, then side by side."""
        places = range(len(self._states))
        if self._pool is None or kind not in self._compiled:
            self._compiled.add(kind)
            return [job(place) for place in places]
        return list(self._pool.map(job, places))

    def _in_turn(self, program: Callable[[], Result]) -> Result:
        """Run a program that moves robots. One seed at a time, if an engine on the host does that: it takes all cores,
        and its programs hold a thread of JAX's own few while they wait for each other.
        """
        if self._host_physics is None:
            return program()
        with self._host_physics:
            return jax.block_until_ready(program())


class Stacked:
    """All seeds by one program: their states stacked on a leading axis, and the program of one mapped over it."""

    def __init__(self, setup: Setup, states: Sequence[TrainState]):
        """Copy the states."""
        self._setup, self._size = setup, len(states)
        self._state: TrainState = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        self._steps = compile_steps(setup, stacked=True)
        self._pick = jax.jit(lambda state, place: jax.tree.map(lambda leaf: leaf[place], state))
        self._episodes = jax.jit(self._run_episodes, static_argnums=2)

    @property
    def env_steps(self) -> int:
        """Steps that each seed has taken in all its environments together."""
        return int(self._state.buffer.num_steps[0]) * self._setup.config.num_envs

    @property
    def gradient_steps(self) -> int:
        """Gradient steps that each seed has taken."""
        return int(self._state.gradient_steps[0])

    def state(self, place: int) -> TrainState:
        """Return a copy of one seed's state."""
        return self._pick(self._state, place)

    def advance(self, *, learn: bool) -> list[Outcome]:
        """Take a training step with every seed: collect, and then learn if told to."""
        self._state, collected = self._steps.collect(self._state)
        learnt = None
        if learn:
            self._state, learnt = self._steps.learn(self._state)
        return [Outcome(*each) for each in self._split((collected, learnt))]

    def evaluate(self, keys: Sequence[PRNGKeyArray], num_episodes: int) -> list[Episodes]:
        """Run whole episodes in the evaluation environment with every seed's policy, each seed with its key."""
        return self._split(self._episodes(self._state.agent, jnp.stack(keys), num_episodes))

    def close(self) -> None:
        """Nothing runs beside the caller."""

    def _run_episodes(self, agents: Any, keys: PRNGKeyArray, num_episodes: int) -> Episodes:
        def run(agent: Any, key: PRNGKeyArray) -> Episodes:
            setup = self._setup
            return run_episodes(setup.agent, agent, setup.eval_environment, key, num_episodes=num_episodes)

        return jax.vmap(run)(agents, keys)

    def _split(self, stacked: Result) -> list[Result]:
        """Return what belongs to each seed, on the host."""
        fetched = jax.device_get(stacked)
        return [jax.tree.map(lambda leaf, place=place: leaf[place], fetched) for place in range(self._size)]
