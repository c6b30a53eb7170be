"""A PPO in the manner of CleanRL, written for any vector environment of Gymnasium that resets rows in the same step."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import Tensor, nn
from torch.distributions import Categorical

import cfworld.envs
from tests.toy import toy_world

assert cfworld.envs.__name__ == "cfworld.envs"  # the import registers the ids
NUM_ENVS, NUM_STEPS, HORIZON = 3, 8, 5
GAMMA, LAMBDA, CLIP, EPOCHS, VALUE = 0.5, 0.95, 0.2, 2, 4.0


class Agent(nn.Module):
    """Policy and value of a flat observation. The value begins as a constant, so that the first targets are known."""

    def __init__(self, envs: Any):
        super().__init__()
        (size,) = envs.single_observation_space.shape
        self.actor = nn.Linear(size, envs.single_action_space.n)
        self.critic = nn.Linear(size, 1)
        nn.init.zeros_(self.critic.weight)
        nn.init.constant_(self.critic.bias, VALUE)

    def value(self, obs: Tensor) -> Tensor:
        return self.critic(obs)[:, 0]

    def policy(self, obs: Tensor) -> Categorical:
        return Categorical(logits=self.actor(obs))


def collect(envs: Any, agent: Agent, obs: np.ndarray) -> tuple[dict[str, Tensor], np.ndarray, list[dict[str, Any]]]:
    """Step NUM_STEPS times. The value of what a row that was cut off saw last is added to its reward."""
    kept: dict[str, list[Tensor]] = {name: [] for name in ("obs", "action", "logprob", "value", "reward", "done")}
    infos: list[dict[str, Any]] = []
    for _ in range(NUM_STEPS):
        seen = torch.as_tensor(obs)
        with torch.no_grad():
            policy, value = agent.policy(seen), agent.value(seen)
            action = policy.sample()
        obs, reward, terminations, truncations, info = envs.step(action.numpy())
        if truncations.any():
            last = torch.as_tensor(np.stack(info["final_obs"][truncations]))
            with torch.no_grad():
                reward[truncations] += GAMMA * agent.value(last).numpy()
        row = (seen, action, policy.log_prob(action), value, torch.as_tensor(reward), terminations | truncations)
        for values, new in zip(kept.values(), row, strict=True):
            values.append(torch.as_tensor(new))
        infos.append(info)
    return {name: torch.stack(values) for name, values in kept.items()}, obs, infos


def advantages(batch: dict[str, Tensor], last_value: Tensor) -> Tensor:
    """Generalised advantages; nothing flows over the end of an episode."""
    result = torch.zeros_like(batch["reward"])
    carried = torch.zeros(NUM_ENVS)
    values = torch.cat([batch["value"], last_value[None]])
    for step in reversed(range(NUM_STEPS)):
        running = 1.0 - batch["done"][step].float()
        delta = batch["reward"][step] + GAMMA * values[step + 1] * running - values[step]
        carried = delta + GAMMA * LAMBDA * running * carried
        result[step] = carried
    return result


def update(agent: Agent, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], gains: Tensor) -> None:
    flat = {name: values.flatten(0, 1) for name, values in batch.items()}
    gain, returns = gains.flatten().float(), (gains + batch["value"]).flatten().float()
    for _ in range(EPOCHS):
        policy = agent.policy(flat["obs"])
        ratio = (policy.log_prob(flat["action"]) - flat["logprob"]).exp()
        clipped = torch.min(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain)
        loss = -clipped.mean() + (agent.value(flat["obs"]) - returns).square().mean() - 0.01 * policy.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture
def envs() -> RecordEpisodeStatistics:
    """Every step is worth 1; row 0 dies in step 4."""
    calls: list[int] = []
    made = gym.make_vec(
        "cfworld/World-v0",
        num_envs=NUM_ENVS,
        vectorization_mode="vector_entry_point",
        world=toy_world(),
        obs="latent",
        horizon=HORIZON,
        reward_fn=lambda step: [1.0] * NUM_ENVS,
        termination_fn=lambda step: calls.append(1) or [len(calls) == 4, False, False],
    )
    return RecordEpisodeStatistics(made)


def test_a_loop_of_cleanrl_learns_and_its_targets_are_right(envs: RecordEpisodeStatistics) -> None:
    torch.manual_seed(0)
    agent = Agent(envs)
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3)
    before = [weights.clone() for weights in agent.parameters()]
    obs, _ = envs.reset(seed=1)
    batch, obs, infos = collect(envs, agent, obs)

    cut = 1 + GAMMA * VALUE
    assert batch["reward"].T.tolist() == [[1] * 8, [1, 1, 1, 1, cut, 1, 1, 1], [1, 1, 1, 1, cut, 1, 1, 1]]
    assert batch["done"].T.nonzero().tolist() == [[0, 3], [1, 4], [2, 4]]
    told = [(step, info["episode"]["r"].tolist()) for step, info in enumerate(infos) if "episode" in info]
    assert told == [(3, [4, 0, 0]), (4, [0, 5, 5])]
    assert list(envs.length_queue) == [4, 5, 5]

    with torch.no_grad():
        gains = advantages(batch, agent.value(torch.as_tensor(obs)))
    # V = 4 everywhere: an ending step gains 1 - 4, one that was cut off or goes on 1 + 4 / 2 - 4
    assert [gains[3, 0], gains[4, 1], gains[7, 2]] == [-3, -1, -1]
    assert gains[2, 0] == pytest.approx(-1 + GAMMA * LAMBDA * -3)
    update(agent, optimizer, batch, gains)
    assert any(not weights.equal(old) for weights, old in zip(agent.parameters(), before, strict=True))
    for weights in agent.parameters():
        assert weights.isfinite().all()


def test_the_last_observation_of_a_row_is_not_the_first_of_its_next_episode(envs: RecordEpisodeStatistics) -> None:
    alike = gym.make_vec("cfworld/World-v0", num_envs=NUM_ENVS, world=toy_world(), obs="latent", ends="never")
    torch.manual_seed(0)
    agent = Agent(envs)
    obs, _ = envs.reset(seed=1)
    batch, _, infos = collect(envs, agent, obs)
    alike.reset(seed=1)
    untold = [alike.step(action.numpy())[0] for action in batch["action"]]
    assert np.array_equal(infos[3]["final_obs"][0], untold[3][0])
    assert all(np.array_equal(infos[4]["final_obs"][row], untold[4][row]) for row in (1, 2))
    assert not np.array_equal(batch["obs"][4][0], untold[3][0])
