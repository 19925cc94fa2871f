"""A policy that is compiled ahead of time, to act with little delay on a robot's CPU."""

import dataclasses
import functools
import time
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from kilolayer.errors import ConfigurationError
from kilolayer.nn import Torso
from kilolayer.objectives import tanh_gaussian
from kilolayer.policies.action_queue import ActionQueue

ActingPrecision = Literal["float32", "int8"]
"""Numbers that hold the weights of the blocks of a compiled policy."""


@dataclasses.dataclass(frozen=True)
class ActionError:
    """Difference between a compiled policy's actions and those of the same network in float32."""

    largest: float
    """Largest absolute difference over all numbers of all actions; actions are in [-1, 1]."""
    mean: float
    """Mean absolute difference."""


class CompiledPolicy:
    """Returns deterministic actions on the CPU, for a fixed number of observations per call.

        >>> fast = policy.compile(batch=1, precision="int8")
        >>> action = fast(observation, desired_goal)

    As of the policy itself, calls return the actions of a chunk one after another, and `reset` begins an episode.

    It is compiled and run once before the first call. A call uses all cores that the process may use; to use one, bind
    the process to it (`taskset -c 3 python ...`) before JAX starts. The float32 network is kept, to measure errors.

    Attributes:
        batch: observations in a call.
        precision: numbers that hold the weights of the blocks.
        weight_bytes: bytes of parameters that a call reads.
        compile_seconds: seconds of rounding, compiling and the first run.
    """

    def __init__(
        self,
        actor: Torso,
        *,
        observation_size: int,
        goal_size: int,
        action_size: int,
        action_chunk: int = 1,
        batch: int = 1,
        precision: ActingPrecision = "float32",
    ):
        """Round and compile a network.

        Args:
            actor: a network as `Agent.actor` returns it: its first outputs are the action before the tanh.
            observation_size: numbers of an observation, without the goal.
            goal_size: numbers of a desired goal.
            action_size: numbers of an action.
            action_chunk: actions that are chosen at once, and executed one after another.
            batch: observations in a call.
            precision: numbers that hold the weights of the blocks. With `int8` the layers before and after the blocks,
                a small part of a deep network, and all normalisations stay float32.

        Raises:
            ConfigurationError: if the batch is below one, the precision is unknown, this kind of network has no int8
                form, or JAX may not use the CPU.
        """
        if batch < 1:
            raise ConfigurationError(f"batch={batch} must be at least 1")
        check_acting_precision(precision)
        began = time.perf_counter()
        self.batch, self.precision = batch, precision
        self.observation_size, self.goal_size, self.action_size = observation_size, goal_size, action_size
        self._queue = ActionQueue(action_chunk)
        self._cpu = cpu_device()
        self._actor = jax.device_put(actor, self._cpu)
        self._network = _quantized(self._actor) if precision == "int8" else self._actor
        inputs = jax.ShapeDtypeStruct((batch, observation_size + goal_size), jnp.float32)
        self._act = _act.lower(self._network, inputs, self._chunk_size).compile()
        # The first run of a program sets up its kernels.
        jax.block_until_ready(self._act(self._network, np.zeros(inputs.shape, np.float32)))
        self.weight_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self._network))
        self.compile_seconds = time.perf_counter() - began

    def __call__(self, observation: ArrayLike, desired_goal: ArrayLike) -> Float[np.ndarray, "*batch action"]:
        """Return the deterministic action to execute next, in [-1, 1].

        Args:
            observation: `(batch, observation_size)`, without the goal; with batch 1 also `(observation_size,)`.
            desired_goal: `(batch, goal_size)`; with batch 1 also `(goal_size,)`.

        Raises:
            ConfigurationError: if a size is wrong.
        """
        inputs, shape = self._join(observation, desired_goal)
        if shape != (self.batch,) and (shape or self.batch > 1):
            raise ConfigurationError(
                f"observation has shape {(*shape, self.observation_size)}; "
                f"compiled with batch={self.batch}, it must be {(self.batch, self.observation_size)}"
            )
        return self._queue.next(
            shape, lambda: np.array(self._act(self._network, inputs)).reshape(*shape, self._chunk_size)
        )

    def reset(self, ended: ArrayLike | None = None) -> None:
        """Forget the actions that are left of a chunk; see `Policy.reset`."""
        self._queue.reset(ended)

    @property
    def _chunk_size(self) -> int:
        """Numbers that are chosen at once."""
        return self._queue.action_chunk * self.action_size

    def error(self, observations: ArrayLike, desired_goals: ArrayLike) -> ActionError:
        """Compare the actions with those of the float32 network.

        Args:
            observations: `(any, observation_size)`, without the goal.
            desired_goals: `(any, goal_size)`.

        Raises:
            ConfigurationError: if a size is wrong or there is no observation.
        """
        inputs, _ = self._join(observations, desired_goals)
        if not len(inputs):
            raise ConfigurationError("observations are empty; give at least one to measure the error")
        exact = np.asarray(_act(self._actor, inputs, self._chunk_size))
        rows = np.resize(inputs, (-(-len(inputs) // self.batch) * self.batch, inputs.shape[1]))
        calls = [self._act(self._network, part) for part in rows.reshape(-1, self.batch, inputs.shape[1])]
        difference = np.abs(np.concatenate(calls)[: len(inputs)] - exact)
        return ActionError(float(difference.max()), float(difference.mean()))

    def _join(self, observation: ArrayLike, desired_goal: ArrayLike) -> tuple[np.ndarray, tuple[int, ...]]:
        """Return the network's inputs as rows, and the leading axes of the arguments."""
        pair = check_sizes(observation, desired_goal, self.observation_size, self.goal_size)
        inputs = np.concatenate(pair, axis=-1)
        return inputs.reshape(-1, inputs.shape[-1]), inputs.shape[:-1]


def cpu_device() -> jax.Device:
    """Return JAX's CPU device."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        raise ConfigurationError(
            "a compiled policy runs on the CPU, but JAX may not use it; add cpu to JAX_PLATFORMS, as in cuda,cpu"
        ) from None


def _quantized(actor: Torso) -> Torso:
    """Return the int8 form of a network."""
    try:
        return jax.jit(lambda actor: actor.quantize())(actor)
    except ConfigurationError as error:
        raise ConfigurationError(str(error)) from None  # without the notes that JAX adds


@functools.partial(jax.jit, static_argnums=2)
def _act(network: Torso, inputs: Float[jax.Array, "batch in"], chunk_size: int) -> Float[jax.Array, "batch chunk"]:
    return tanh_gaussian.mode(network.infer(inputs)[:, :chunk_size])


def check_acting_precision(precision: str) -> None:
    """Check the name of a precision.

    Raises:
        ConfigurationError: if it is unknown; the line names the known ones.
    """
    if precision not in get_args(ActingPrecision):
        raise ConfigurationError(
            f"precision={precision!r} is unknown; choose one of {', '.join(get_args(ActingPrecision))}"
        )


def check_sizes(
    observation: ArrayLike, desired_goal: ArrayLike, observation_size: int, goal_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return observations and goals as float32 arrays.

    Raises:
        ConfigurationError: if a last axis has another size, or the leading axes differ.
    """
    arrays = np.asarray(observation, np.float32), np.asarray(desired_goal, np.float32)
    sizes = {"observation": observation_size, "desired_goal": goal_size}
    for (name, size), array in zip(sizes.items(), arrays, strict=True):
        if array.ndim < 1 or array.shape[-1] != size:
            raise ConfigurationError(f"{name} has shape {array.shape}; its last axis must be {size}")
    if arrays[0].shape[:-1] != arrays[1].shape[:-1]:
        raise ConfigurationError(
            f"observation {arrays[0].shape} and desired_goal {arrays[1].shape} must agree in their leading axes"
        )
    return arrays
