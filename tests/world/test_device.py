"""Wherever a device comes in from outside, one that cannot compute is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import cfworld
from cfworld.envs import EnvState, WorldEnv, WorldVectorEnv
from cfworld.errors import ConfigError
from cfworld.world.device import usable_device
from tests.toy import toy_world


@pytest.mark.parametrize("name", ["cpu", torch.device("cpu")])
def test_a_device_that_computes_is_given_back(name: Any):
    assert usable_device(name) == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cuda:99", "cpu:", "vulkan", 1.5, ["cpu"]])
def test_what_cannot_compute_is_named_with_what_can(name: Any):
    with pytest.raises(ConfigError) as refused:
        usable_device(name)
    assert f"got device={name!r}, on which PyTorch cannot compute here (" in str(refused.value)
    assert "); choose among cpu" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_refused_where_there_is_none():
    with pytest.raises(ConfigError, match=r"got device='cuda'.*choose among cpu$"):
        usable_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_without_a_number_is_the_current_one():
    assert usable_device("cuda") == torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world, and two states of it."""
    path = tmp_path_factory.mktemp("device")
    toy_world().save_pretrained(path / "world")
    env = WorldEnv(path / "world")
    env.reset(seed=0)
    env.get_state().save(path / "env.safetensors")
    env.get_state().world.save(path / "world.safetensors")
    return path


ENTRANCES: dict[str, Callable[[Path, str], Any]] = {
    "a world": lambda _, device: toy_world(device=device),
    "a world that is read": lambda path, device: cfworld.World.from_pretrained(path / "world", device=device),
    "an environment": lambda path, device: WorldEnv(path / "world", device=device),
    "a vector environment": lambda path, device: WorldVectorEnv(2, path / "world", device=device),
    "a world's state": lambda path, device: cfworld.WorldState.load(path / "world.safetensors", device),
    "an environment's state": lambda path, device: EnvState.load(path / "env.safetensors", device),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("device", ["gpu", "", "meta", "cuda:99"])
def test_every_entrance_refuses_it(folder: Path, entrance: str, device: str):
    with pytest.raises(ConfigError, match=f"got device='{device}', on which PyTorch cannot compute here"):
        ENTRANCES[entrance](folder, device)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_entrance_takes_the_one_there_always_is(folder: Path, entrance: str):
    ENTRANCES[entrance](folder, "cpu")
