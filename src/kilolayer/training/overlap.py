"""Collecting beside learning: the host collects the data of a round while the device learns.

A round that collects beside learning learns from the data of the rounds before it; its own data are inserted when both
are done. So data are learned from one round later than in a run that does one after the other, by networks that have
learned for one round more. Nothing is pending between two rounds: a run stops and resumes at the end of any of them.

The first round that learns collects first, as without overlap, because there may be no data yet.
"""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from kilolayer.agents import AgentState
from kilolayer.training.ahead import Ahead, Lower, shapes
from kilolayer.training.collector import Collected, CollectorState
from kilolayer.training.faults import CollectFaults
from kilolayer.training.setup import Setup, host_device
from kilolayer.training.step import Steps, TrainState, store


class Parts(NamedTuple):
    """The collecting half of the training step in three programs, of which the second runs beside learning."""

    split: jax.stages.Wrapped
    """Returns the next key of a state, and the key to collect with."""
    collect: jax.stages.Wrapped
    """Takes the states of agent and collector and a key; it returns what was collected, and consumes nothing."""
    store: jax.stages.Wrapped
    """Returns a state with what was collected; it consumes the state."""


def compile_parts(setup: Setup, *, stacked: bool = False) -> Parts:
    """Return the programs of a setup; `stacked` as for `compile_steps`."""
    lift: Callable[[Callable], Callable] = jax.vmap if stacked else lambda step: step
    return Parts(
        jax.jit(lift(lambda key: tuple(jax.random.split(key)))),
        jax.jit(lift(setup.collector.collect)),
        jax.jit(lift(store), donate_argnums=0),
    )


class Overlap:
    """Takes training steps that collect on the host and learn on the device at the same time.

    The policy acts on the host, too: programs of one device run one after another. On a machine without an accelerator
    both share its cores.
    """

    def __init__(self, setup: Setup, steps: Steps, *, stacked: bool = False):
        """Prepare the programs.

        Args:
            setup: the parts of the run.
            steps: of the setup; only `learn` is used.
            stacked: as for `compile_steps`.
        """
        self._parts, self._learn = compile_parts(setup, stacked=stacked), steps.learn
        self._device, self._host = jax.devices()[0], host_device()
        self._pool = ThreadPoolExecutor(1, "collect")

    def place(self, state: TrainState) -> TrainState:
        """Return a state as `advance` takes it, bound to the device that learns."""
        return jax.device_put(state, self._device)

    def programs(self, state: TrainState) -> dict[str, Lower]:
        """Return the programs of collecting for the shapes of a state, by name; learning is not among them."""
        copies = shapes((state.agent, state.collector, state.key), self._host)

        def collect() -> jax.stages.Lowered:
            with jax.default_device(self._host):
                return self._parts.collect.lower(*copies)

        def store() -> jax.stages.Lowered:
            with jax.default_device(self._host):
                collected = jax.eval_shape(self._parts.collect, *copies)
            return self._parts.store.lower(state, shapes(collected, self._device))

        return {"collect": collect, "store": store}

    @staticmethod
    def wait(ahead: Ahead, *, learn: bool) -> None:
        """Wait until the programs of a training step are compiled."""
        for name in ("collect", "store", *(["learn"] if learn else [])):
            ahead.wait(name)

    def advance(self, state: TrainState, *, learn: bool) -> tuple[TrainState, CollectFaults, Any]:
        """Take a training step; the state is consumed.

        Args:
            state: to start from.
            learn: take the gradient steps of the round.

        Returns:
            The next state; where what was collected is not finite; and what `learn_step` returns beside the state, None
            if `learn` is False.
        """
        key, collect_key = self._parts.split(state.key)
        beside = learn and bool(np.all(np.asarray(state.gradient_steps) > 0))
        # Learning consumes the state, so what collects has copies.
        copies = jax.device_put((state.agent, state.collector, collect_key), self._host, may_alias=False)
        collecting = self._pool.submit(self._collect, *copies)
        state, learnt = dataclasses.replace(state, key=key), None
        if beside:
            state, learnt = self._learn(state)
        collected = jax.device_put(collecting.result(), self._device)
        state = self._parts.store(state, collected)
        if learn and not beside:
            state, learnt = self._learn(state)
        return state, collected.faults, learnt

    def shutdown(self) -> None:
        """Wait for the thread that collects, and end it."""
        self._pool.shutdown()

    def _collect(self, agent: AgentState, collector: CollectorState, key: PRNGKeyArray) -> Collected:
        with jax.default_device(self._host):
            return jax.block_until_ready(self._parts.collect(agent, collector, key))
