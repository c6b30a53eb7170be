"""On a CPU a row's episode is the same alone, in a batch and in every place of it, bit for bit."""

from typing import Any

import numpy as np
import pytest

from cfworld import World
from cfworld.envs import WorldEnv, WorldVectorEnv
from cfworld.model import TransformerConfig
from tests.toy import toy_config, toy_world


@pytest.fixture(scope="module")
def worlds() -> dict[str, World]:
    """A toy with as many tokens a latent as a shipped world, and the shipped one at the greater precision."""
    transformer = toy_config().transformer
    fine = TransformerConfig(
        in_channels=transformer.in_channels,
        latent_size=transformer.latent_size,
        patch_size=[2, 2],
        dim=24,
        depth=2,
        num_heads=2,
        ffn_dim=48,
        freq_dim=16,
        prompt_dim=16,
    )
    return {
        "toy": toy_world(transformer=fine),
        "doom": World.from_pretrained("doom_take_cover", precision="fp32"),
        "doom bf16": World.from_pretrained("doom_take_cover", precision="bf16"),
    }


def alone(world: World, seed: int, num_steps: int) -> list[tuple[Any, ...]]:
    env = WorldEnv(world, obs="frames", horizon=3)
    env.reset(seed=seed)
    found: list[tuple[Any, ...]] = []
    for step in range(num_steps):
        observation, reward, terminated, truncated, info = env.step(step % 2)
        found.append((observation, reward, terminated, truncated, info["hazard"], info["reward_frames"]))
        if terminated or truncated:
            env.reset()
    return found


@pytest.mark.parametrize(("name", "num_steps"), [("toy", 7), ("doom", 2), ("doom bf16", 2)])
@pytest.mark.parametrize("seeds", [[5, 0, 1, 2, 3, 4, 6, 7], [6, 1, 5]])
def test_an_episode_is_the_same_alone_in_a_batch_and_in_every_place(
    worlds: dict[str, World], name: str, num_steps: int, seeds: list[int]
) -> None:
    envs = WorldVectorEnv(len(seeds), worlds[name], obs="frames", horizon=3)
    envs.reset(seed=seeds)
    row = seeds.index(5)
    expected = alone(worlds[name], 5, num_steps)
    for step in range(num_steps):
        observation, reward, terminated, truncated, infos = envs.step([step % 2] * len(seeds))
        if terminated[row] or truncated[row]:
            observation[row] = infos["final_obs"][row]
            infos = infos["final_info"]
        found = (observation, reward, terminated, truncated, infos["hazard"], infos["reward_frames"])
        for values, value in zip(found, expected[step], strict=True):
            assert np.array_equal(values[row], value)
