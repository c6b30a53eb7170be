"""What a simulator shows as the latents of a world, and that agents on latents can act there by its id."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from cfworld import World
from cfworld.envs import LatentObservation, PanoramaTwin, VectorLatentObservation, WorldEnv
from cfworld.envs.latents import encoded, flat_latents
from cfworld.envs.spaces import LATENT_BOUND, stack_channels, unstack_channels
from cfworld.errors import ConfigError, UnknownWorldError
from tests.toy import toy_world

TWIN = "cfworld/PanoramaReal-v0"


def by_hand(world: World, frames: np.ndarray) -> np.ndarray:
    """The latents of the frames of one step, laid out flat."""
    with torch.inference_mode():
        return world.tokenizer.encode(torch.from_numpy(frames)[None]).float().numpy().ravel()


def vector_of_twins(world: World, num_envs: int, mode: AutoresetMode, **arguments: Any) -> VectorLatentObservation:
    """Twins side by side behind the world's tokenizer."""
    envs = gym.make_vec(TWIN, num_envs=num_envs, vector_kwargs={"autoreset_mode": mode}, obs="frames", **arguments)
    return VectorLatentObservation(envs, world)


def test_latents_are_laid_out_one_after_the_other_within_their_bound() -> None:
    latents = torch.tensor([1.0, -2.0, 3e5, -3e5]).reshape(1, 2, 2, 1, 1).half()
    assert flat_latents(latents).tolist() == [[1.0, -2.0, LATENT_BOUND, -LATENT_BOUND]]
    assert flat_latents(latents).dtype == torch.float32


def test_stacked_frames_come_apart_again() -> None:
    frames = np.arange(2 * 4 * 3 * 5 * 3).astype(np.uint8).reshape(2, 4, 3, 5, 3)
    assert np.array_equal(unstack_channels(np.stack([stack_channels(row) for row in frames])), frames)


def test_a_twin_shows_what_the_tokenizer_makes_of_its_frames(world: World) -> None:
    twin = PanoramaTwin(obs="frames")
    seen = LatentObservation(twin, world)
    for action in (None, 1, [1, 1, 2, 0]):
        observation = seen.reset(seed=3)[0] if action is None else seen.step(action)[0]
        assert seen.observation_space.contains(observation)
        np.testing.assert_allclose(observation, by_hand(world, twin.frames()), atol=1e-5)


def test_its_space_is_that_of_the_world(world: World) -> None:
    seen = LatentObservation(gym.make(TWIN, obs="frames"), world)
    dreamt = WorldEnv(world, obs="latent")
    assert seen.observation_space == dreamt.observation_space
    assert seen.action_space == dreamt.action_space


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_it_keeps_the_contract_of_gymnasium(world: World) -> None:
    check_env(LatentObservation(PanoramaTwin(obs="frames"), world), skip_render_check=True)


def test_only_what_is_seen_changes(world: World) -> None:
    plain, seen = PanoramaTwin(obs="frames"), LatentObservation(PanoramaTwin(obs="frames"), world)
    plain.reset(seed=3)
    seen.reset(seed=3)
    for action in (1, 2, 0):
        assert plain.step(action)[1:] == seen.step(action)[1:]


def test_a_policy_on_latents_acts_in_a_world_and_in_its_twin(world: World) -> None:
    weights = np.random.default_rng(0).normal(size=(3, 256))
    for env in (
        gym.make("cfworld/World-v0", world=world, obs="latent", horizon=3),
        LatentObservation(gym.make(TWIN, obs="frames", horizon=3), world),
    ):
        observation, _ = env.reset(seed=0)
        steps, over = 0, False
        while not over:
            observation, _, terminated, truncated, _ = env.step(int((weights @ observation).argmax()))
            steps, over = steps + 1, terminated or truncated
        assert 1 <= steps <= 3


@pytest.mark.parametrize("mode", AutoresetMode)
def test_many_twins_show_what_each_of_them_shows(world: World, mode: AutoresetMode) -> None:
    many = vector_of_twins(world, 2, mode)
    assert many.observation_space.shape == (2, 256)
    alone = [LatentObservation(PanoramaTwin(obs="frames"), world) for _ in range(2)]
    seen, _ = many.reset(seed=[4, 5])
    expected = [one.reset(seed=seed)[0] for one, seed in zip(alone, (4, 5), strict=True)]
    for actions in ([0, 1], [2, 1], [1, 1]):
        np.testing.assert_allclose(seen, expected, atol=1e-5)
        assert seen.dtype == np.float32
        seen = many.step(np.array(actions))[0]
        expected = [one.step(action)[0] for one, action in zip(alone, actions, strict=True)]


def test_what_a_row_saw_last_is_encoded_too(world: World) -> None:
    many, frames = (
        vector_of_twins(world, 2, AutoresetMode.SAME_STEP, horizon=2),
        gym.make_vec(
            TWIN, num_envs=2, vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}, obs="frames", horizon=2
        ),
    )
    many.reset(seed=4)
    frames.reset(seed=4)
    assert "final_obs" not in many.step(np.array([1, 2]))[4]
    frames.step(np.array([1, 2]))
    observation, _, _, truncated, infos = many.step(np.array([1, 2]))
    plain, *_, whole = frames.step(np.array([1, 2]))
    assert truncated.all()
    assert many.observation_space.contains(observation)
    np.testing.assert_allclose(observation, encoded(world, unstack_channels(plain)), atol=1e-5)
    for latents, last in zip(infos["final_obs"], whole["final_obs"], strict=True):
        np.testing.assert_allclose(latents, by_hand(world, unstack_channels(last[None])[0]), atol=1e-5)
    assert infos["_final_obs"].tolist() == [True, True]


def test_rows_that_did_not_end_have_no_last_observation(world: World) -> None:
    envs = VectorLatentObservation(
        gym.make_vec("cfworld/World-v0", num_envs=2, world=world, obs="frames", termination_fn=first_row_ends), world
    )
    envs.reset(seed=0)
    infos = envs.step([0, 1])[4]
    assert infos["final_obs"][0].shape == (256,)
    assert infos["final_obs"][1] is None


def first_row_ends(_: Any) -> list[bool]:
    return [True, False]


def test_tensors_are_refused_by_name(world: World) -> None:
    arguments = {"num_envs": 2, "world": world, "obs": "frames", "tensors": True}
    envs = VectorLatentObservation(gym.make_vec("cfworld/World-v0", **arguments), world)
    with pytest.raises(ConfigError, match=r"torch\.Tensor'>; expected arrays: leave out tensors=True"):
        envs.reset(seed=0)


def test_the_world_may_be_named(tmp_path: Path) -> None:
    toy_world().save_pretrained(tmp_path)
    loaded = World.from_pretrained(tmp_path)
    named, given = (LatentObservation(PanoramaTwin(obs="frames"), one) for one in (tmp_path, loaded))
    assert np.array_equal(named.reset(seed=0)[0], given.reset(seed=0)[0])
    with pytest.raises(UnknownWorldError, match="no-such-world"):
        LatentObservation(PanoramaTwin(obs="frames"), "no-such-world")


def test_it_can_be_made_again_from_its_spec_around_the_same_weights(world: World) -> None:
    seen = LatentObservation(gym.make(TWIN, obs="frames"), world)
    assert seen.spec is not None
    again = gym.make(seen.spec)
    assert isinstance(again, LatentObservation)
    assert np.array_equal(seen.reset(seed=1)[0], again.reset(seed=1)[0])
    assert again.spec is not None
    (wrapper,) = again.spec.additional_wrappers
    assert wrapper.kwargs is not None
    assert wrapper.kwargs["world"].tokenizer is world.tokenizer


@pytest.mark.parametrize("obs", ["frame", "latent"])
def test_what_shows_no_frames_of_the_world_is_refused(world: World, obs: str) -> None:
    expected = r'got an environment that shows Box.*expected Box.*PanoramaReal-v0., with obs="frames"'
    with pytest.raises(ConfigError, match=expected):
        LatentObservation(gym.make("cfworld/World-v0", world=world, obs=obs), world)
    with pytest.raises(ConfigError, match=expected):
        VectorLatentObservation(gym.make_vec("cfworld/World-v0", num_envs=2, world=world, obs=obs), world)
