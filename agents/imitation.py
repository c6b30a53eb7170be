"""How an agent begins: by doing as a policy without eyes does, with its own eyes open."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import unwrap_vec_wrapper
from torch import Tensor

from cfworld.agents.vec_envs import VecNoise, VecOwnActions
from cfworld.data.policies import Policy, make_policy

__all__ = ["Imitated", "imitate", "returns_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Imitated:
    """What was seen while a policy acted: T steps of B episodes side by side."""

    observations: Tensor
    """[T, B, ...]."""
    actions: Tensor
    """[T, B, ...]."""
    rewards: Float[Tensor, "T B"]
    """As the learner is given them."""
    dones: Bool[Tensor, "T B"]
    cut: Bool[Tensor, "T B"]
    """Whether a step was its episode's last only because it was cut off there."""
    cut_seen: Tensor
    """What was seen after those steps, [n, ...], in the order of `cut.nonzero()`."""
    last: Tensor
    """What is seen after the last step, [B, ...]."""


def imitate(
    learner: OnPolicyAlgorithm,
    name: str,
    ticks_per_step: int,
    num_steps: int,
    epochs: int,
    seed: int,
    tell: Callable[[int], object] = lambda _: None,
) -> float:
    """Let a learner watch a policy act in its own environment, and fit its policy and its value to that.

    What would have come after an episode that was cut off counts by the learner's own value of it, as what comes after
    the last step does. It watches without the noise under which it learns, and is given new noise whenever it learns
    from a step again: what was drawn once it could learn by heart.

    Args:
        learner: without a memory of its own.
        name: of a policy of data collection, or `sweep:<ticks>`.
        ticks_per_step: ticks of the policy in one step, of which it keeps the first one's action.
        num_steps: steps to watch, over all episodes; rounded up to whole rounds.
        epochs: how often each is learned from.
        seed: of the policy's episodes.
        tell: told of the steps that were taken.

    Returns:
        The share of the steps, after the last epoch, in which the learner's likeliest action is the policy's.

    Raises:
        ConfigError: if there is no such policy, or it cannot act there.
    """
    assert learner.env is not None
    noise = unwrap_vec_wrapper(learner.env, VecNoise)
    with noise.silent() if noise else nullcontext():
        watched = _watch(learner, name, ticks_per_step, num_steps, seed, tell)
    spread = torch.full(watched.last.shape[1:], noise.std if noise else 0.0)
    if own := unwrap_vec_wrapper(learner.env, VecOwnActions):
        spread[-own.num_actions :] = 0  # what it did last, it knows
    flat = [part.flatten(0, 1) for part in (watched.observations, watched.actions)]
    policy, vf_coef = learner.policy, learner.vf_coef
    shuffle = torch.Generator().manual_seed(seed)
    batch_size = int(getattr(learner, "batch_size", len(flat[0])))
    optimizer = torch.optim.Adam(policy.parameters(), _LEARNING_RATE)
    for _ in range(epochs):
        with torch.no_grad():
            seen = torch.cat([watched.last, watched.cut_seen]).to(policy.device)
            values = policy.predict_values(seen).flatten().cpu()  # pyright: ignore[reportCallIssue]
        ahead, beyond = values[: len(watched.last)], values[len(watched.last) :]
        rewards = watched.rewards.clone()
        rewards[watched.cut] += learner.gamma * beyond
        returns = returns_of(rewards, watched.dones, ahead, learner.gamma).flatten()
        for rows in torch.randperm(len(returns), generator=shuffle).split(batch_size):
            seen, acted = (part[rows].to(policy.device) for part in flat)
            if noise:
                seen = seen + (spread * torch.randn(seen.shape, generator=shuffle)).to(policy.device)
            values, log_prob, _ = policy.evaluate_actions(seen, acted)  # pyright: ignore[reportCallIssue]
            loss = vf_coef * F.mse_loss(values.flatten(), returns[rows].to(policy.device)) - log_prob.mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), learner.max_grad_norm)
            optimizer.step()
    return _agreement(learner, *flat)


def returns_of(
    rewards: Float[Tensor, "T B"], dones: Bool[Tensor, "T B"], ahead: Float[Tensor, " B"], gamma: float
) -> Float[Tensor, "T B"]:
    """Discounted sums of what comes, up to the end of each episode.

    Args:
        rewards: of T steps.
        dones: whether a step was its episode's last.
        ahead: what comes after the last of the T steps, where the episode goes on.
        gamma: discount of a step.
    """
    sums = []
    for reward, done in zip(rewards.flip(0), dones.flip(0), strict=True):
        ahead = reward + gamma * ahead * ~done
        sums.append(ahead)
    return torch.stack(sums[::-1])


def _watch(
    learner: OnPolicyAlgorithm,
    name: str,
    ticks_per_step: int,
    num_steps: int,
    seed: int,
    tell: Callable[[int], object],
) -> Imitated:
    env = learner.env
    assert env is not None
    rows, episodes = env.num_envs, 0

    def new_policy() -> Policy:
        nonlocal episodes
        episodes += 1
        sequence = np.random.SeedSequence((seed, _STREAM, episodes))
        rng = np.random.default_rng(int(sequence.generate_state(1)[0]))
        return make_policy(name, rng, env.action_space)

    policies = [new_policy() for _ in range(rows)]
    seen = env.reset()
    observations, actions, rewards, dones, cut, cut_seen = [], [], [], [], [], []
    for _ in range(-(-num_steps // rows)):
        assert isinstance(seen, np.ndarray)
        acted = np.stack([policy(_NOTHING, ticks_per_step)[0] for policy in policies])
        observations.append(seen)
        actions.append(acted)
        seen, reward, done, infos = env.step(acted)
        rewards.append(reward)
        dones.append(done)
        cut.append([bool(info.get("TimeLimit.truncated")) for info in infos])
        cut_seen += [info["terminal_observation"] for info in infos if info.get("TimeLimit.truncated")]
        policies = [new_policy() if over else policy for policy, over in zip(policies, done, strict=True)]
        tell(rows)
    tensors = [torch.as_tensor(np.stack(part)) for part in (observations, actions, rewards, dones)]
    last = torch.as_tensor(np.asarray(seen))
    return Imitated(
        observations=tensors[0],
        actions=tensors[1],
        rewards=tensors[2].float(),
        dones=tensors[3].bool(),
        cut=torch.as_tensor(np.array(cut)),
        cut_seen=torch.as_tensor(np.stack(cut_seen)) if cut_seen else last[:0],
        last=last,
    )


@torch.no_grad()
def _agreement(learner: OnPolicyAlgorithm, observations: Tensor, actions: Tensor) -> float:
    policy = learner.policy
    same = []
    for seen, acted in zip(observations.split(1024), actions.split(1024), strict=True):
        likeliest = policy.get_distribution(seen.to(policy.device)).mode()  # pyright: ignore[reportCallIssue]
        same.append((likeliest.cpu() == acted).reshape(len(acted), -1).all(1))
    return float(torch.cat(same).float().mean())


_NOTHING = np.zeros((0, 0, 0, 3), np.uint8)
_STREAM = 13
_LEARNING_RATE = 1e-3
