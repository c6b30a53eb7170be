"""Stable-Baselines3's PPO, A2C and DQN learn in the environments as they are.

Their value networks are made constant, and every step is worth 1, so that what they write into their buffers is known
in advance: episodes end by themselves in their second step or are cut off in their third.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecMonitor

from cfworld import World
from cfworld.agents import SB3VecEnv
from cfworld.envs import WorldEnv, WorldVectorEnv
from tests.envs.episodes import first_row_ends_in_step, one_a_step
from tests.toy import toy_world

VALUE, GAMMA = 5.0, 0.5
CUT = 1 + GAMMA * VALUE
"""What the last step of an episode that was cut off is worth to a learner: the future that it did not see counts."""


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


def arguments(obs: str) -> dict[str, Any]:
    """Row 0 dies in step 2; the horizon is 3 steps; each step is worth 1."""
    return {
        "obs": obs,
        "horizon": 3,
        "reward_fn": one_a_step,
        "termination_fn": first_row_ends_in_step(2),
    }


def with_constant_value(agent: OnPolicyAlgorithm) -> OnPolicyAlgorithm:
    with torch.no_grad():
        agent.policy.value_net.weight.zero_()
        agent.policy.value_net.bias.fill_(VALUE)
    return agent


def learnt(agent: BaseAlgorithm, steps: int) -> bool:
    """Learn; whether any weight of the policy has changed by it, and all are finite."""
    before = [weights.clone() for weights in agent.policy.parameters()]
    agent.learn(steps)
    after = list(agent.policy.parameters())
    assert all(weights.isfinite().all() for weights in after)
    return any(not weights.equal(old) for weights, old in zip(after, before, strict=True))


def episodes(agent: BaseAlgorithm) -> list[tuple[float, int]]:
    """Return and length of every episode that the agent was told of."""
    assert agent.ep_info_buffer is not None
    return [(episode["r"], episode["l"]) for episode in agent.ep_info_buffer]


@pytest.mark.parametrize(
    ("algorithm", "policy", "obs", "settings"),
    [
        (PPO, "MlpPolicy", "latent", {"batch_size": 10, "n_epochs": 2}),
        (PPO, "CnnPolicy", "frame", {"batch_size": 10, "n_epochs": 1}),
        (A2C, "MlpPolicy", "latent", {}),
    ],
)
def test_ppo_and_a2c_learn_in_many_rows_and_count_the_future_only_of_what_was_cut_off(
    world: World, algorithm: Any, policy: str, obs: str, settings: dict[str, Any]
) -> None:
    envs = VecMonitor(SB3VecEnv(WorldVectorEnv(2, world, **arguments(obs))))
    agent = with_constant_value(algorithm(policy, envs, n_steps=5, gamma=GAMMA, seed=0, device="cpu", **settings))
    assert learnt(agent, 10)
    assert agent.num_timesteps == 10
    assert agent.rollout_buffer.rewards.T.tolist() == [[1, 1, 1, 1, CUT], [1, 1, CUT, 1, 1]]
    assert agent.rollout_buffer.episode_starts.T.tolist() == [[1, 0, 1, 0, 0], [1, 0, 0, 1, 0]]
    assert episodes(agent) == [(2, 2), (3, 3), (3, 3)]


def test_the_future_of_an_episode_that_was_cut_off_is_told_by_what_it_saw_last(world: World) -> None:
    envs = SB3VecEnv(WorldVectorEnv(1, world, obs="latent", horizon=2, reward_fn=lambda step: [0.0], ends="never"))
    agent = PPO("MlpPolicy", envs, n_steps=2, batch_size=2, n_epochs=1, gamma=GAMMA, seed=0, device="cpu")
    values: dict[bytes, float] = {}
    predict = agent.policy.predict_values

    def listening(obs: Any) -> torch.Tensor:
        value = predict(obs)
        values[obs.numpy().tobytes()] = float(value)
        return value

    agent.policy.predict_values = listening
    agent.learn(2)
    buffer = agent.rollout_buffer
    alike = WorldEnv(world, obs="latent", horizon=9, ends="never")
    alike.reset(seed=0)  # the seed that SB3 gives to row 0
    for action in buffer.actions.flatten():
        last = alike.step(int(action))[0]
    assert buffer.rewards[1, 0] == pytest.approx(GAMMA * values[last.tobytes()])
    assert buffer.rewards[1, 0] != 0


@pytest.mark.parametrize("rows", [1, 2])
def test_dqn_learns_alone_and_in_many_rows_and_remembers_how_episodes_ended(world: World, rows: int) -> None:
    settings = arguments("latent")
    env = Monitor(WorldEnv(world, **settings))
    envs = VecMonitor(SB3VecEnv(WorldVectorEnv(2, world, **settings)))
    agent = DQN(
        "MlpPolicy",
        env if rows == 1 else envs,
        learning_starts=4,
        train_freq=1,
        batch_size=4,
        buffer_size=20,
        seed=0,
        device="cpu",
    )
    assert learnt(agent, 5 * rows)
    assert agent.num_timesteps == 5 * rows
    assert episodes(agent) == [[(2, 2), (3, 3)], [(2, 2), (3, 3), (3, 3)]][rows - 1]
    buffer = agent.replay_buffer
    assert buffer is not None
    assert buffer.rewards[:5].T.tolist() == [[1] * 5] * rows
    assert buffer.dones[:5].T.tolist() == [[0, 1, 0, 0, 1], [0, 0, 1, 0, 0]][:rows]
    assert buffer.timeouts[:5].T.tolist() == [[0, 0, 0, 0, 1], [0, 0, 1, 0, 0]][:rows]
    goes_on = [(buffer.next_observations[step] == buffer.observations[step + 1]).all(axis=1) for step in range(4)]
    assert np.array(goes_on).T.tolist() == [[True, False, True, True], [True, True, False, True]][:rows]


def test_an_agent_is_made_of_an_id_and_learns_from_frames(world: World) -> None:
    env = gym.make("cfworld/World-v0", world=world, horizon=3, ends="never")
    agent = PPO("CnnPolicy", env, n_steps=4, batch_size=4, n_epochs=1, seed=0, device="cpu")
    assert learnt(agent, 8)
    assert agent.num_timesteps == 8
    assert [length for _, length in episodes(agent)] == [3, 3]
