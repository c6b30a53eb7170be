"""The agent that ships with a world of the zoo."""

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from cfworld import World
from cfworld.agents import Agent, dream_scores, make_player
from cfworld.agents.evaluate import play_twin
from cfworld.agents.players import agent_policy
from cfworld.agents.sight import Seen
from cfworld.data.policy_files import agent_folder
from cfworld.envs.twins import make_twin
from cfworld.errors import CheckpointError, ConfigError
from tests.toy import toy_world

NAME = "agent:doom_take_cover"


@pytest.fixture(scope="module")
def world() -> World:
    return World.from_pretrained("doom_take_cover")


def test_it_was_trained_in_the_dream_alone_and_plays_there(world: World) -> None:
    agent = make_player(NAME, world)
    assert isinstance(agent, Agent)
    assert agent.card.env == "dream"
    assert not agent.card.blind
    assert (dream_scores(world, agent, [0, 1], max_ticks=16).returns > 0).all()


def test_it_keeps_its_way_and_turns_round(world: World) -> None:
    """It goes both ways, and mostly on as it did before."""
    agent = Agent.load(NAME, world)
    state, _ = world.initial(range(8), decode=False)
    agent.begin(range(8))
    acts = []
    for _ in range(40):
        acts.append(agent.act(Seen(latents=state.latents)))
        state, _ = world.step(state, acts[-1], decode=False)
    ways = np.stack(acts)
    assert {1, 2} <= set(np.unique(ways))
    assert (ways[1:] == ways[:-1]).mean() > 0.7


def test_it_collects_as_it_plays(world: World) -> None:
    twin = make_twin(world.config.source, 48)
    player = make_player(NAME, world)
    steps = [frames for frames, _, _ in play_twin(twin, player, 5)]
    policy = agent_policy("doom_take_cover", np.random.default_rng(0), twin.action_space)
    first, _ = twin.reset(seed=5)
    seen, shown = first[None], []
    while len(shown) < len(steps):
        seen = twin.step_ticks(policy(seen, 4)).frames
        shown.append(seen)
    assert np.array_equal(np.concatenate(shown), np.concatenate(steps))
    twin.close()


def test_who_does_not_exist_or_acts_otherwise_does_not_collect() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="there is no agent 'nobody'; expected agent:<folder>"):
        agent_policy("nobody", rng, spaces.Discrete(3))
    with pytest.raises(ConfigError, match=r"acts in Discrete\(3\); expected Discrete\(5\)"):
        agent_policy("doom_take_cover", rng, spaces.Discrete(5))


def test_nobody_ships_with_a_world_that_there_is_not(tmp_path: Path) -> None:
    assert agent_folder("agent:nowhere") is None
    assert agent_folder(tmp_path) is None
    with pytest.raises(ConfigError, match="agent:nowhere"):
        make_player("agent:nowhere", toy_world())
    with pytest.raises(CheckpointError, match="holds no agent"):
        Agent.load("agent:nowhere", toy_world())


def test_it_is_refused_in_a_world_with_other_latents() -> None:
    with pytest.raises(ConfigError, match="sees the latents of tokenizer"):
        Agent.load(NAME, toy_world())
