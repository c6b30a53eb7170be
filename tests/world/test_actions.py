"""A world takes every kind of action: per step and per frame, as numbers, names, texts and mappings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cfworld
from cfworld.errors import ActionError, ConfigError, StartError
from cfworld.prompts import ActionConfig, TextConfig
from cfworld.world import WorldConfig, config_from_dict, config_to_dict, zoo_names
from tests.toy import ACTIONS, DICT, KINDS, TEXT, per_frame, toy_config, toy_world

FINGERPRINTS = {
    "doom_rooms/teacher": "9d521f14e317",
    "doom_rooms/student": "9d2ebea2b0e0",
    "doom_take_cover/teacher": "9483dd76f94d",
    "doom_take_cover/student": "4339869b4b91",
    "panorama/teacher": "5c8df5c2bb42",
    "panorama/student": "2d77e0b0dd2b",
}
"""Of the shipped weights. Code may not change them, or saved states no longer load; new weights do change theirs.

The Doom world's are from before actions had names and other kinds."""

WORLDS = {kind: toy_world(actions=actions) for kind, actions in KINDS.items()}


def batched(kind: str, actions: list[Any]) -> Any:
    if kind != "dict":
        return actions
    return {name: [action[name] for action in actions] for name in actions[0]}


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_for_the_step_is_that_action_for_every_frame(kind: str):
    world, action = WORLDS[kind], ACTIONS[kind]
    state, _ = world.initial(seeds=[0, 1])
    once = world.step(state, batched(kind, [action, action]), decode=False)[1]
    each = world.step(state, batched(kind, [per_frame(kind, 4)] * 2), decode=False)[1]
    assert torch.equal(once.latents, each.latents)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_see_one_anothers_actions(kind: str):
    world, action, other = WORLDS[kind], ACTIONS[kind], other_action(kind)
    state, _ = world.initial(seeds=[3, 3], starts=[0, 0])
    same = world.step(state, batched(kind, [action, action]), decode=False)[1].latents
    mixed = world.step(state, batched(kind, [action, other]), decode=False)[1].latents
    torch.testing.assert_close(same[0], same[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mixed[0], same[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(mixed[1], same[1], rtol=1e-2, atol=1e-2), "an action has an effect"


def other_action(kind: str) -> Any:
    others = {"discrete": 0, "multi": [0, 1, 0], "box": [-0.5, 0.0], "text": "stay"}
    return others[kind] if kind != "dict" else ACTIONS["dict"] | {"say": "stay"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_world_takes_the_same_actions(kind: str, tmp_path: Path):
    world = WORLDS[kind]
    world.save_pretrained(tmp_path)
    again = cfworld.World.from_pretrained(tmp_path, precision="fp32")
    assert again.config == world.config
    assert again.config.actions.settings() == world.config.actions.settings()
    state, _ = again.initial(seeds=[0])
    again.step(state, batched(kind, [ACTIONS[kind]]), decode=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_brings_actions_of_the_same_kind(kind: str):
    world, length = WORLDS[kind], 8
    frames = np.random.default_rng(0).integers(0, 255, (length, 64, 64, 3), np.uint8)
    start = cfworld.Start(frames=frames, actions=per_frame(kind, length))
    state, _ = world.initial(seeds=[0], starts=[start])
    expected = world.generator.prompts.check(ACTIONS[kind], None, 4)[0]
    assert torch.equal(state.memory.actions[0, state.memory.valid[0]][-1], expected)
    shipped = world.start(0)
    assert torch.equal(
        world.initial(seeds=[0], starts=[shipped])[0].memory.actions,
        world.initial(seeds=[0], starts=[0])[0].memory.actions,
    )


def test_a_part_of_a_start_that_is_too_short_is_refused():
    actions = per_frame("dict", 8)
    with pytest.raises(StartError, match=r"one action per frame; got actions \[7, 2\] for 8 frames"):
        cfworld.Start(frames=np.zeros((8, 64, 64, 3), np.uint8), actions=actions | {"mouse": actions["mouse"][1:]})


def test_names_and_numbers_are_the_same_actions():
    world = WORLDS["discrete"]
    state, _ = world.initial(seeds=[0, 1])
    named = world.step(state, ["move left", "stay"], decode=False)[1].latents
    assert torch.equal(named, world.step(state, [1, 0], decode=False)[1].latents)
    with pytest.raises(ActionError, match="expected one of 'stay', 'move left', 'move right'"):
        world.step(state, ["move left", "jump"])


def test_a_text_may_change_in_the_middle_of_an_episode_and_of_a_step():
    world = WORLDS["text"]
    state, _ = world.initial(seeds=[0])
    state, _ = world.step(state, ["a quiet room"], decode=False)
    before = state.memory.actions
    switched, out = world.step(state, ["the door opens"], decode=False)
    _, kept = world.step(state, ["a quiet room"], decode=False)
    _, half = world.step(state, [["a quiet room"] * 2 + ["the door opens"] * 2], decode=False)
    assert len({tuple(o.latents.flatten().tolist()) for o in (out, kept, half)}) == 3
    assert torch.equal(state.memory.actions, before), "the state that was switched from stays as it was"
    held = switched.memory.actions[0][switched.memory.valid[0]]
    new, old = (world.generator.prompts.check(text, None, 1)[0, 0] for text in ("the door opens", "a quiet room"))
    assert torch.equal(held[-1, 0], new)
    assert torch.equal(held[-2, 0], old), "what happened under the old text is remembered under it"


def test_a_state_goes_on_in_a_world_that_never_saw_its_text(tmp_path: Path):
    world = WORLDS["text"]
    world.save_pretrained(tmp_path / "world")
    one, two = (cfworld.World.from_pretrained(tmp_path / "world", precision="fp32") for _ in range(2))
    state, _ = one.step(one.initial(seeds=[0])[0], ["a quiet room"], decode=False)
    state.save(tmp_path / "state.safetensors")
    loaded = cfworld.WorldState.load(tmp_path / "state.safetensors")
    assert torch.equal(
        one.step(state, ["go"], decode=False)[1].latents, two.step(loaded, ["go"], decode=False)[1].latents
    )


def test_a_world_of_ones_own_encoder_is_loaded_with_it(tmp_path: Path):
    actions = ActionConfig(text=TextConfig(max_length=40, tokens=2, width=3, encoder="letters"))
    toy_world(actions=actions).save_pretrained(tmp_path)
    without = cfworld.World.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="'letters' does not ship with cfworld"):
        without.step(without.initial(seeds=[0])[0], ["go"])

    def letters(texts: list[str]) -> list[list[int]]:
        return [[len(text)] * 3 for text in texts]

    world = cfworld.World.from_pretrained(tmp_path, text_encoder=letters)
    state, _ = world.step(world.initial(seeds=[0])[0], ["go"], decode=False)
    assert state.memory.actions[0][state.memory.valid[0]][-1, 0].tolist() == [2, 2, 2, 0, 0, 0]
    with pytest.raises(ConfigError, match="hold none"):
        cfworld.World.from_pretrained("panorama", text_encoder=letters)


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_names_leave_the_fingerprints_of_the_shipped_worlds_alone(name: str):
    folder, variant = name.split("/")
    world = cfworld.World.from_pretrained(folder, variant=variant, precision="bf16")
    assert world.config.actions.names[0] == "stay"
    assert world.fingerprint == f"{name}/{FINGERPRINTS[name]}"


def test_statistics_are_part_of_the_fingerprint():
    world = toy_world(actions=ActionConfig(low=[0.0], high=[1.0]))
    before = world.fingerprint
    world.config = replace(world.config, actions=ActionConfig(low=[0.0], high=[1.0], mean=[0.5], std=[0.1]))
    assert world.fingerprint != before


@pytest.mark.parametrize("actions", [TEXT, DICT])
def test_configurations_of_texts_and_mappings_survive_json(actions: ActionConfig):
    config = toy_config(actions=actions)
    again = config_from_dict(WorldConfig, json.loads(json.dumps(config_to_dict(config))))
    assert again == config
    assert config_to_dict(again) == config_to_dict(config)


def test_every_shipped_world_is_tested_above():
    assert {name.split("/")[0] for name in FINGERPRINTS} == set(zoo_names())
