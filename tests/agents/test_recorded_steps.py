"""CRL takes the gradient steps that it took before agents, torsos and optimisers became exchangeable.

The record is of commit 2b9ea3a. On the machine that wrote it, all numbers and all parameters are equal to the last bit;
processors and compilers round in other ways, and 100 steps of the actor enlarge that.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from random_data import ACTION, GOAL, OBSERVATION, random_buffer, random_trajectory

from kilolayer.agents import CRL

RECORD = json.loads((Path(__file__).parent / "crl_100_steps.json").read_text())["depths"]
TOLERANCE = {"critic_loss": 1e-5, "actor_loss": 2e-2, "alpha": 1e-4}


@pytest.mark.parametrize("depth", RECORD)
def test_the_first_hundred_gradient_steps(depth):
    buffer = random_buffer(random_trajectory(64, 8))
    agent = CRL(OBSERVATION, GOAL, ACTION, batch_size=64, depth=int(depth), width=32)

    @jax.jit
    def learn(state, keys):
        return jax.lax.scan(lambda state, key: agent.update(state, agent.prepare(state, buffer), key), state, keys)

    _, metrics = learn(agent.init(jax.random.key(0)), jax.random.split(jax.random.key(1), 100))
    for name, recorded in RECORD[depth].items():
        np.testing.assert_allclose(metrics[name], recorded, rtol=TOLERANCE[name], err_msg=name)
    np.testing.assert_allclose(metrics["actor_loss"][:10], RECORD[depth]["actor_loss"][:10], rtol=5e-3)
