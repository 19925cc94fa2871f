"""A client of Gymnasium as they are written elsewhere: DDPG with hindsight goals. It knows nothing of this library.

Lillicrap et al. 2015, Andrychowicz et al. 2017.
"""

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax

DISCOUNT, POLYAK, NOISE, RANDOM, FUTURE = 0.95, 0.05, 0.2, 0.2, 0.8
"""Discount; part of the new networks in the slow ones; noise of actions; share of random actions; of future goals."""


class Networks(eqx.Module):
    actor: eqx.nn.MLP
    critic: eqx.nn.MLP

    def __init__(self, seen: int, action: int, key):
        one, two = jax.random.split(key)
        self.actor = eqx.nn.MLP(seen, action, 64, 2, final_activation=jnp.tanh, key=one)
        self.critic = eqx.nn.MLP(seen + action, 1, 64, 2, key=two)

    def act(self, seen):
        return jax.vmap(self.actor)(seen)

    def value(self, seen, action):
        return jax.vmap(self.critic)(jnp.concatenate([seen, action], axis=1))[:, 0]


def learn_step(optimizer, networks, slow, state, batch):
    seen, action, reward, after, ended = batch
    target = reward + DISCOUNT * (1.0 - ended) * slow.value(after, slow.act(after))
    target = jnp.clip(target, -1.0 / (1.0 - DISCOUNT), 0.0)

    def critic_loss(critic):
        return jnp.mean((eqx.tree_at(lambda n: n.critic, networks, critic).value(seen, action) - target) ** 2)

    def actor_loss(actor):
        chosen = eqx.tree_at(lambda n: n.actor, networks, actor).act(seen)
        return -jnp.mean(networks.value(seen, chosen)) + 0.1 * jnp.mean(chosen**2)

    gradient = eqx.tree_at(
        lambda n: (n.actor, n.critic),
        networks,
        (eqx.filter_grad(actor_loss)(networks.actor), eqx.filter_grad(critic_loss)(networks.critic)),
    )
    arrays = eqx.filter(networks, eqx.is_array)
    update, state = optimizer.update(eqx.filter(gradient, eqx.is_array), state, arrays)
    networks = eqx.apply_updates(networks, update)
    slow = jax.tree.map(
        lambda a, b: a + POLYAK * (b - a) if eqx.is_array(a) else a, slow, networks, is_leaf=eqx.is_array
    )
    return networks, slow, state


class Episodes:
    """Whole episodes of equal length, from which transitions are drawn with goals of their future."""

    def __init__(self, env, length: int):
        self.env, self.length, self.parts = env, length, []

    def draw(self, rng, size: int):
        part = [self.parts[i] for i in rng.integers(len(self.parts), size=size)]
        robot = rng.integers(self.env.num_envs, size=size)
        step = rng.integers(self.length, size=size)
        later = step + 1 + (rng.random(size) * (self.length - step)).astype(int)
        rows = range(size)
        take = lambda name, when: np.stack([part[i][name][when[i], robot[i]] for i in rows])  # noqa: E731
        goal = np.where(rng.random((size, 1)) < FUTURE, take("achieved_goal", later), take("desired_goal", step))
        reward = self.env.unwrapped.compute_reward(take("achieved_goal", step + 1), goal, [{}] * size)
        seen = np.concatenate([take("observation", step), goal], axis=1)
        after = np.concatenate([take("observation", step + 1), goal], axis=1)
        ended = take("terminated", step)
        return [np.asarray(x, np.float32) for x in (seen, take("action", step), reward, after, ended)]


def train(env: gymnasium.vector.VectorEnv, *, length: int, rounds: int, updates: int, seed: int = 0) -> list[float]:
    """Train, and return the share of robots that are at their goal at the end of each round's episode.

    Actions have noise while the client learns, and none in the last five rounds, which it does not learn from.
    """
    rng = np.random.default_rng(seed)
    space = env.single_observation_space
    size = space["observation"].shape[0] + space["desired_goal"].shape[0]
    networks = Networks(size, env.single_action_space.shape[0], jax.random.key(seed))
    slow = networks
    optimizer = optax.adam(1e-3)
    state = optimizer.init(eqx.filter(networks, eqx.is_array))
    act = eqx.filter_jit(lambda networks, seen: networks.act(seen))
    step = eqx.filter_jit(lambda *given: learn_step(optimizer, *given))
    episodes, successes = Episodes(env, length), []
    seen, _ = env.reset(seed=seed)
    for number in range(rounds):
        exploring = number < rounds - 5
        steps = {name: [] for name in ("observation", "achieved_goal", "desired_goal", "action", "terminated")}
        for _ in range(length):
            action = np.array(act(networks, np.concatenate([seen["observation"], seen["desired_goal"]], axis=1)))
            if exploring:
                action = np.clip(action + NOISE * rng.standard_normal(action.shape), -1.0, 1.0)
                anything = rng.random((len(action), 1)) < RANDOM
                action = np.where(anything, rng.uniform(-1.0, 1.0, action.shape), action)
            for name, values in seen.items():
                steps[name].append(values)
            seen, _, terminated, truncated, info = env.step(action.astype(np.float32))
            steps["action"].append(action)
            steps["terminated"].append(terminated)
        assert truncated.all()
        last = {name: np.stack([one[name] for one in info["final_obs"]]) for name in seen}
        for name, values in last.items():
            steps[name].append(values)
        successes.append(float(info["final_info"]["is_success"].mean()))
        if exploring:
            episodes.parts.append({name: np.stack(values) for name, values in steps.items()})
            for _ in range(updates):
                networks, slow, state = step(networks, slow, state, episodes.draw(rng, 256))
    return successes
