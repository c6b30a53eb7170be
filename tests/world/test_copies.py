"""A copy of a world takes no room: Gymnasium copies the arguments of an environment whenever it is asked for them."""

import copy
from dataclasses import replace

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

import cfworld.envs
from cfworld import World
from cfworld.envs import WorldEnv
from cfworld.memory import MemoryConfig
from cfworld.world import Ends
from tests.toy import toy_world


def addresses(world: World) -> list[int]:
    """Where the tensors of a world lie."""
    modules: list[nn.Module] = [world.tokenizer, world.generator]
    tensors: list[Tensor] = [tensor for module in modules for tensor in module.state_dict().values()]
    return [tensor.data_ptr() for tensor in (*tensors, world.starts.latents, world.starts.actions)]


def of_spec(env: gym.Env) -> World:
    """The world among the arguments that an environment was made with."""
    assert env.spec is not None
    return env.spec.kwargs["world"]


def test_a_copy_lies_where_its_world_lies():
    world = toy_world()
    twin = copy.deepcopy({"world": world})["world"]
    assert twin is not world
    assert addresses(twin) == addresses(world)
    assert twin.fingerprint == world.fingerprint


def test_the_spec_of_an_environment_takes_no_room_of_its_own():
    world = toy_world()
    assert cfworld.envs is not None
    env = gym.make("cfworld/World-v0", world=world)
    envs = gym.make_vec("cfworld/World-v0", num_envs=2, world=world)
    assert env.spec is not None
    again = gym.make(env.spec)
    assert isinstance(again.unwrapped, WorldEnv)
    spec = copy.deepcopy(envs.spec)
    assert spec is not None
    for found in (of_spec(env), spec.kwargs["world"], again.unwrapped.world):
        assert addresses(found) == addresses(world)


def test_an_environment_made_again_from_its_spec_is_the_same():
    env = gym.make("cfworld/World-v0", world=toy_world(ends=Ends.NEVER), obs="latent", horizon=2)
    assert env.spec is not None
    again = gym.make(env.spec)
    seen = []
    for one in (env, again):
        assert one.observation_space == env.observation_space
        one.reset(seed=3)
        seen.append([one.step(action) for action in (1, 2)])
    for (before, *_), (after, *_) in zip(*seen, strict=True):
        assert np.array_equal(before, after)
    assert seen[0][1][3] is seen[1][1][3] is True


def test_a_copy_steps_as_its_world_does_and_takes_its_states():
    world = toy_world()
    twin = copy.deepcopy(world)
    state, frames = world.initial([0, 1])
    _, same = twin.initial([0, 1])
    assert torch.equal(frames, same)
    assert torch.equal(world.step(state, [1, 2])[1].latents, twin.step(state, [1, 2])[1].latents)


def test_what_is_set_on_a_copy_leaves_its_world_alone():
    world = toy_world()
    before, twin = world.fingerprint, copy.deepcopy(world)
    twin.config = replace(twin.config, memory=MemoryConfig(num_sink=0, num_slow=0, num_fast=3))
    twin.start_memories.max_bytes = 0
    assert twin.fingerprint != before
    assert world.fingerprint == before
    assert world.config.memory != twin.config.memory
    assert world.start_memories.max_bytes > 0
    assert copy.deepcopy(twin).start_memories.max_bytes == 0, "a copy keeps what was set"


def test_a_network_that_is_copied_by_itself_has_weights_of_its_own():
    world = toy_world()
    generator = copy.deepcopy(world.generator)
    with torch.no_grad():
        generator.transformer.head.head.weight.zero_()
    assert world.generator.transformer.head.head.weight.any()
