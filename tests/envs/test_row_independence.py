"""On a CPU a row's episode is the same alone, in a batch and in every place of it, bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch

from cfworld import World, WorldState
from cfworld.envs import WorldEnv, WorldVectorEnv
from cfworld.model import TransformerConfig
from cfworld.train.novelty import NoveltyFitConfig, measure_novelty
from tests.toy import toy_config, toy_world
from tests.train.toy_bank import toy_bank

OF_INFOS = ("hazard", "reward_frames", "end_frame", "start", "novelty", "truncated_by_novelty")
SEEN = ("observation", "reward", "terminated", "truncated", *OF_INFOS)
PLACES = [[5, 0, 1, 2, 3, 4, 6, 7], [0, 1, 2, 3, 4, 6, 5, 7], [6, 1, 5]]
"""Seeds of the rows. The episode is that of seed 5: first or later among eight, or last of three."""


@pytest.fixture(scope="module")
def worlds() -> dict[str, World]:
    """A toy with as many tokens a latent as Doom, and shipped worlds: Panorama's have half as many."""
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
    toy = toy_world(transformer=fine)
    small = NoveltyFitConfig(clips=8, clip_latents=8, batch=8)
    toy.novelty, _ = measure_novelty(toy, toy_bank(*[9] * 8), toy_bank(*[9] * 8, seed=1), small)
    return {
        "toy": toy,
        "doom": World.from_pretrained("doom_take_cover", precision="fp32"),
        "doom bf16": World.from_pretrained("doom_take_cover", precision="bf16"),
        "panorama": World.from_pretrained("panorama", precision="fp32"),
        "panorama bf16": World.from_pretrained("panorama", precision="bf16"),
    }


def action(seed: int, step: int) -> int:
    """What a row does: neighbours do other things."""
    return (seed + step) % 3


def alone(world: World, seed: int, num_steps: int, **arguments: Any) -> list[tuple[Any, ...]]:
    env = WorldEnv(world, obs="frames", **arguments)
    env.reset(seed=seed)
    found: list[tuple[Any, ...]] = []
    for step in range(num_steps):
        observation, reward, terminated, truncated, info = env.step(action(seed, step))
        found.append((observation, reward, terminated, truncated, *of_infos(info)))
        if terminated or truncated:
            env.reset()
    return found


def of_infos(infos: dict[str, Any]) -> list[Any]:
    return [infos[name] for name in OF_INFOS]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("name", "num_steps"), [("toy", 7), ("doom", 2), ("doom bf16", 2), ("panorama", 2), ("panorama bf16", 2)]
)
@pytest.mark.parametrize("seeds", PLACES)
def test_an_episode_is_the_same_alone_in_a_batch_and_in_every_place(
    worlds: dict[str, World], name: str, num_steps: int, seeds: list[int]
) -> None:
    follow(worlds[name], seeds, [5], num_steps, horizon=3)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("name", "num_steps"), [("toy", 60), ("doom", 30)])
def test_a_long_episode_whose_memory_is_full_is_the_same_in_a_batch(
    worlds: dict[str, World], name: str, num_steps: int
) -> None:
    steps = follow(worlds[name], PLACES[2], [5], num_steps, horizon=100, ends="never")
    assert len(steps) > worlds[name].config.memory.consolidate_every + worlds[name].config.memory.num_fast - 2


@pytest.mark.usefixtures("as_users_run_it")
def test_rows_are_cut_off_by_their_own_novelty_alone(worlds: dict[str, World]) -> None:
    world = worlds["toy"]
    envs = WorldVectorEnv(8, world)
    envs.reset(seed=0)
    threshold = float(np.median(envs.step([0] * 8)[4]["novelty"]))
    found = follow(world, PLACES[1], PLACES[1], 5, horizon=3, truncate_above=threshold)
    cut_off = np.array([step[-1] for step in found])
    assert 0 < cut_off[0].sum() < 8, "rows begin anew while their neighbours go on"


def follow(world: World, seeds: list[int], watched: list[int], num_steps: int, **arguments: Any) -> list[list[Any]]:
    """Step a batch; what the watched rows see is what they see alone."""
    envs = WorldVectorEnv(len(seeds), world, obs="frames", **arguments)
    envs.reset(seed=seeds)
    expected = {seed: alone(world, seed, num_steps, **arguments) for seed in watched}
    steps: list[list[Any]] = []
    for step in range(num_steps):
        observation, reward, terminated, truncated, infos = envs.step([action(seed, step) for seed in seeds])
        found = [observation, reward, terminated, truncated, *of_infos(infos_of_all(infos))]
        for row in np.flatnonzero(terminated | truncated):
            observation[row] = infos["final_obs"][row]
        for seed in watched:
            for what, values, value in zip(SEEN, found, expected[seed][step], strict=True):
                assert np.array_equal(values[seeds.index(seed)], value), f"{what} of seed {seed} in step {step}"
        steps.append(found)
    return steps


def infos_of_all(infos: dict[str, Any]) -> dict[str, Any]:
    """The infos of the step that was taken, also of the rows that began anew with it."""
    merged = {name: values for name, values in infos.items() if not name.startswith("_")}
    for name, values in infos.get("final_info", {}).items():
        if not name.startswith("_"):
            rows = infos["_final_info"]
            merged[name] = np.array(merged.get(name, values))
            merged[name][rows] = values[rows]
    return merged


def test_resetting_a_row_leaves_the_bits_of_the_others_alone_in_all_of_their_state(worlds: dict[str, World]) -> None:
    envs = WorldVectorEnv(8, worlds["toy"], ends="never")
    envs.reset(seed=0)
    for step in range(10):
        envs.step([action(seed, step) for seed in range(8)])
    before = envs.get_state()
    kept = before.world.clone()
    mask = np.array([False, True, False, False, True, True, False, False])
    envs.reset(options={"reset_mask": mask})
    after = envs.get_state().world
    assert all(equal_bits(after.select(~mask), kept.select(~mask)).values())
    assert all(equal_bits(before.world, kept).values()), "the snapshot is a value"
    assert not equal_bits(after.select(mask), kept.select(mask))["latents"]


def equal_bits(one: WorldState, other: WorldState) -> dict[str, bool]:
    """Whether each tensor is the same, by name."""
    theirs = other.tensors()
    return {name: torch.equal(value, theirs[name]) for name, value in one.tensors().items()}
