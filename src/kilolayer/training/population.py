"""The states of the seeds that a trainer moves together, and the two ways to move them: by threads or by `vmap`."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, get_args

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from kilolayer.errors import ConfigurationError
from kilolayer.hosts import readable
from kilolayer.machine import cpu_cores
from kilolayer.runs.clock import Clocks
from kilolayer.runs.seed_group import SeedsMode
from kilolayer.shards import by_rows, each_on_its_device
from kilolayer.training.ahead import Ahead, Lower, shapes
from kilolayer.training.evaluation import Episodes, lower_episodes, run_episodes
from kilolayer.training.faults import CollectFaults, LearnFaults
from kilolayer.training.overlap import Overlap
from kilolayer.training.setup import Setup
from kilolayer.training.step import Steps, TrainState, compile_steps

Result = TypeVar("Result")

SeedsModeChoice = Literal["auto", "threads", "vmap"]


def choose_mode(mode: SeedsModeChoice = "auto", *, overlap: bool = False, devices: int = 1) -> SeedsMode:
    """Return how to move several seeds; `auto` is what is faster here: threads on a CPU, vmap elsewhere.

    Args:
        mode: what is asked for.
        overlap: the setting of this name, which goes with vmap alone.
        devices: on which the seeds are; several go with vmap alone.

    Raises:
        ConfigurationError: for an unknown mode, or one that does not go with `overlap`.
    """
    if mode not in get_args(SeedsModeChoice):
        raise ConfigurationError(f"mode={mode!r} is unknown; choose one of {', '.join(get_args(SeedsModeChoice))}")
    if overlap and mode == "threads":
        raise ConfigurationError(
            "overlap=True has no effect on seeds by mode='threads', where one collects while others learn; "
            "leave overlap out, or take mode='vmap'"
        )
    if devices > 1 and mode == "threads":
        raise ConfigurationError(
            f"devices={devices} have no effect on seeds by mode='threads', which all use one device; leave devices "
            "out, or take mode='vmap'"
        )
    if mode != "auto":
        return mode
    if devices > 1:
        return "vmap"
    return "threads" if not overlap and jax.default_backend() == "cpu" else "vmap"


class Outcome(NamedTuple):
    """What a training step of one seed led to, on the host."""

    collected: CollectFaults | None
    """Where the collected numbers were not finite; None if nothing is collected."""
    learnt: tuple[dict[str, Any], LearnFaults] | None
    """The agent's metrics, and where they were not finite; None if no gradient steps were taken."""


class Population(Protocol):
    """The states of one or several seeds, all at the same training step. A place is an index into the seeds."""

    @property
    def clocks(self) -> Clocks:
        """How far each seed is."""
        ...

    def state(self, place: int) -> TrainState:
        """Return the state of one seed. The next training step consumes it."""
        ...

    def compile_ahead(self, num_episodes: int) -> int:
        """Begin to compile the programs of training and evaluation side by side, in threads.

        Args:
            num_episodes: of an evaluation.

        Returns:
            How many programs there are.
        """
        ...

    def advance(self, *, learn: bool) -> list[Outcome]:
        """Take a training step with every seed: collect, and then learn if `learn` is set."""
        ...

    def evaluate(self, keys: Sequence[PRNGKeyArray], num_episodes: int) -> list[Episodes]:
        """Run whole episodes in the evaluation environment with the policy of every seed, each with its own key."""
        ...

    def close(self) -> None:
        """Stop all threads."""
        ...


def populate(mode: SeedsMode, setup: Setup, states: Sequence[TrainState], mesh: Mesh | None = None) -> Population:
    """Return a population that takes over `states`; `mesh` as for `Stacked`."""
    return Stacked(setup, states, mesh) if mode == "vmap" else Threads(setup, states)


class Threads:
    """Every seed runs the program that trains it alone, on as many threads as there are cores.

    A program for small networks uses one core at most; several of them use all. A single seed needs no thread.
    """

    def __init__(self, setup: Setup, states: Sequence[TrainState]):
        """Take over the states."""
        self._setup, self._states = setup, list(states)
        self._steps, self._collects = compile_steps(setup), setup.collector.env_steps_per_round > 0
        self._overlap = Overlap(setup, self._steps) if setup.overlap else None
        if self._overlap is not None:
            self._states = [self._overlap.place(state) for state in self._states]
        workers = min(len(self._states), cpu_cores())
        self._pool = ThreadPoolExecutor(workers, "seed") if workers > 1 else None
        self._host_lock = threading.Lock() if self._pool and _uses_host(setup) else None
        self._compiled: set[str] = set()
        self._ahead = Ahead()

    @property
    def clocks(self) -> Clocks:
        """How far each seed is."""
        return self._states[0].clocks

    def state(self, place: int) -> TrainState:
        """Return the state of one seed. The next training step consumes it."""
        return self._states[place]

    def compile_ahead(self, num_episodes: int) -> int:
        """Begin to compile the programs of training and evaluation; see `Population`."""
        setup, state, key = self._setup, shapes(self._states[0]), shapes(jax.random.key(0))

        def evaluate() -> jax.stages.Lowered:
            return lower_episodes(setup.agent, state.agent, setup.eval_environment, key, num_episodes=num_episodes)

        programs = {"evaluate": evaluate} | _training_programs(self._setup, self._steps, self._overlap, state)
        self._ahead.start(programs)
        return len(programs)

    def advance(self, *, learn: bool) -> list[Outcome]:
        """Take a training step with every seed: collect, and then learn if `learn` is set."""

        def step(place: int) -> Outcome:
            collected = learnt = None
            state = self._states[place]
            if self._overlap is not None:
                self._overlap.wait(self._ahead, learn=learn)
                state, collected, learnt = self._overlap.advance(state, learn=learn)
            else:
                if self._collects:
                    self._ahead.wait("collect")
                    state, collected = self._one_at_a_time(lambda: self._steps.collect(self._states[place]))
                if learn:
                    self._ahead.wait("learn")
                    state, learnt = self._steps.learn(state)
            self._states[place] = state
            return Outcome(*jax.device_get(readable((collected, learnt))))

        return self._each("learn" if learn else "collect", step)

    def evaluate(self, keys: Sequence[PRNGKeyArray], num_episodes: int) -> list[Episodes]:
        """Run whole episodes in the evaluation environment with the policy of every seed, each with its own key."""
        setup = self._setup
        self._ahead.wait("evaluate")

        def run(place: int) -> Episodes:
            agent = self._states[place].agent
            episodes = self._one_at_a_time(
                lambda: run_episodes(setup.agent, agent, setup.eval_environment, keys[place], num_episodes=num_episodes)
            )
            return jax.device_get(readable(episodes))

        return self._each("evaluate", run)

    def close(self) -> None:
        """Stop all threads."""
        for threads in (self._pool, self._overlap, self._ahead):
            if threads is not None:
                threads.shutdown()

    def _each(self, kind: str, job: Callable[[int], Result]) -> list[Result]:
        """Run a job for every seed: the first time in turn, so that one seed compiles for all, and then in parallel."""
        places = range(len(self._states))
        if self._pool is None or kind not in self._compiled:
            self._compiled.add(kind)
            return [job(place) for place in places]
        return list(self._pool.map(job, places))

    def _one_at_a_time(self, program: Callable[[], Result]) -> Result:
        """Run a program that steps environments; one seed at a time if they run on the host.

        An engine on the host uses all cores, and its programs occupy threads of JAX's small pool while they wait for
        each other.
        """
        if self._host_lock is None:
            return program()
        with self._host_lock:
            return jax.block_until_ready(program())


class Stacked:
    """One program trains all seeds: their states are stacked on a leading axis, and the step is mapped over it.

    On several devices, each has the states of its own seeds, and none waits for another in a step.
    """

    def __init__(self, setup: Setup, states: Sequence[TrainState], mesh: Mesh | None = None):
        """Copy the states.

        Args:
            setup: the parts of the run.
            states: of all seeds; see `home_of`.
            mesh: devices, whose number divides that of the seeds; None takes one device.
        """
        self._setup, self._size, self._mesh = setup, len(states), mesh
        self._state: TrainState = _stacked(states, mesh)
        self._steps = compile_steps(setup, stacked=True, **({} if mesh is None else {"mesh": mesh}))
        self._overlap = Overlap(setup, self._steps, stacked=True) if setup.overlap else None
        if self._overlap is not None:
            self._state = self._overlap.place(self._state)
        self._collects = setup.collector.env_steps_per_round > 0
        self._ahead = Ahead()
        self._pick = jax.jit(lambda state, place: jax.tree.map(lambda leaf: leaf[place], state))
        self._each = self._size if mesh is None else self._size // mesh.size
        self._episodes = jax.jit(self._run_episodes, static_argnums=2)

    @property
    def clocks(self) -> Clocks:
        """How far each seed is."""
        env_steps = int(self._state.collected_steps[0]) * self._setup.collector.num_envs
        return Clocks(env_steps, int(self._state.gradient_steps[0]))

    def state(self, place: int) -> TrainState:
        """Return a copy of the state of one seed."""
        device, place = divmod(place, self._each)
        return self._pick(_part(self._state, device) if self._mesh is not None else self._state, place)

    def compile_ahead(self, num_episodes: int) -> int:
        """Begin to compile the programs of training and evaluation; see `Population`."""
        state, keys = shapes(self._state), shapes(self._keys([jax.random.key(0)] * self._size))

        def evaluate() -> jax.stages.Lowered:
            return self._episodes.lower(state.agent, keys, num_episodes)

        programs = {"evaluate": evaluate} | _training_programs(self._setup, self._steps, self._overlap, state)
        self._ahead.start(programs)
        return len(programs)

    def advance(self, *, learn: bool) -> list[Outcome]:
        """Take a training step with every seed: collect, and then learn if `learn` is set."""
        collected = learnt = None
        if self._overlap is not None:
            self._overlap.wait(self._ahead, learn=learn)
            self._state, collected, learnt = self._overlap.advance(self._state, learn=learn)
        else:
            if self._collects:
                self._ahead.wait("collect")
                self._state, collected = self._steps.collect(self._state)
            if learn:
                self._ahead.wait("learn")
                self._state, learnt = self._steps.learn(self._state)
        return [Outcome(*each) for each in self._split((collected, learnt))]

    def evaluate(self, keys: Sequence[PRNGKeyArray], num_episodes: int) -> list[Episodes]:
        """Run whole episodes in the evaluation environment with the policy of every seed, each with its own key."""
        self._ahead.wait("evaluate")
        return self._split(self._episodes(self._state.agent, self._keys(keys), num_episodes))

    def close(self) -> None:
        """Stop all threads."""
        if self._overlap is not None:
            self._overlap.shutdown()
        self._ahead.shutdown()

    def _run_episodes(self, agents: Any, keys: PRNGKeyArray, num_episodes: int) -> Episodes:
        def run(agent: Any, key: PRNGKeyArray) -> Episodes:
            setup = self._setup
            return run_episodes(setup.agent, agent, setup.eval_environment, key, num_episodes=num_episodes)

        return each_on_its_device(jax.vmap(run), self._mesh)(agents, keys)

    def _keys(self, keys: Sequence[PRNGKeyArray]) -> PRNGKeyArray:
        """Return one key for each seed, on the device of the seed."""
        stacked = jnp.stack(keys)
        return stacked if self._mesh is None else jax.device_put(stacked, by_rows(self._mesh))

    def _split(self, stacked: Result) -> list[Result]:
        """Return what belongs to each seed, on the host."""
        fetched = jax.device_get(stacked)
        return [jax.tree.map(lambda leaf, place=place: leaf[place], fetched) for place in range(self._size)]


def home_of(place: int, seeds: int, mesh: Mesh) -> jax.Device:
    """Return the device that has the state of one of several seeds, given its place among them."""
    return mesh.devices.flat[place // (seeds // mesh.size)]


def _stacked(states: Sequence[TrainState], mesh: Mesh | None) -> TrainState:
    """Return the states on a leading axis, which is spread over the devices that they are on already."""

    def stack(*leaves: Any) -> Any:
        return jnp.stack(leaves)

    if mesh is None:
        return jax.tree.map(stack, *states)
    each = len(states) // mesh.size
    parts = [jax.tree.map(stack, *states[start : start + each]) for start in range(0, len(states), each)]
    return jax.tree.map(
        lambda *leaves: jax.make_array_from_single_device_arrays(
            (len(states), *leaves[0].shape[1:]), by_rows(mesh), list(leaves)
        ),
        *parts,
    )


def _part(state: TrainState, device: int) -> TrainState:
    """Return the part of stacked states that a device has, given its place among the devices."""

    def own(leaf: Any) -> Any:
        return sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)[device].data

    return jax.tree.map(own, state)


def _training_programs(setup: Setup, steps: Steps, overlap: Overlap | None, state: TrainState) -> dict[str, Lower]:
    """Return the programs of a training step for the shapes of a state, in the order in which they are needed."""
    learn = {"learn": lambda: steps.learn.lower(state)}
    if overlap is not None:
        return overlap.programs(state) | learn
    return ({"collect": lambda: steps.collect.lower(state)} if setup.collector.env_steps_per_round else {}) | learn


def _uses_host(setup: Setup) -> bool:
    """Return whether collecting or evaluating uses the cores of the host."""
    return setup.collector.runs_on_host or setup.eval_environment.runs_on_host
