"""Scenarios: who acts when, branches that are exact copies, and what is found to hold."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C

from cfworld import World
from cfworld.cli.live import policies
from cfworld.data import EpisodeStore
from cfworld.envs import Scenario, ScenarioResult
from cfworld.envs.scenario import scenario_names
from cfworld.envs.scenarios.acts import NewPolicy
from cfworld.envs.scenarios.conditions import Quantity
from cfworld.envs.spaces import world_action_space
from cfworld.envs.world_env import WorldEnv
from cfworld.errors import ConfigError, ScenarioError
from cfworld.export.scenario import write_scenario_dataset
from cfworld.world import Ends, find_world
from tests.toy import ACTIONS, DISCRETE, KINDS, toy_world

LEFT, RIGHT, STAY = "move left", "move right", "stay"


@pytest.fixture(scope="module")
def toy() -> World:
    """Frames of 0.1 s, four to a step; no episode ends."""
    return toy_world(actions=DISCRETE, ends=Ends.NEVER)


def run(world: World, text: str, seconds: float = 1.2, **arguments) -> ScenarioResult:
    return Scenario.parse(f"world: toy\nseconds: {seconds}\nseed: 7\n{text}").run(world, **arguments)


def played(world: World, timeline: str, seconds: float = 1.2) -> list[str]:
    """What is done at each frame."""
    return list(run(world, f"timeline:\n{timeline}", seconds)["main"].labels)


def test_cues_follow_one_another_frame_by_frame(toy: World) -> None:
    timeline = "  - {action: move left, for: 0.3}\n  - {action: 2, for: 0.6}\n  - action: stay\n"
    assert played(toy, timeline) == [LEFT] * 3 + [RIGHT] * 6 + [STAY] * 3


def test_between_cues_that_follow_one_another_no_frame_is_lost_and_rounding_does_not_add_up(toy: World) -> None:
    timeline = "  - {action: move left, for: 0.25}\n" * 2 + "  - {action: 2, for: 0.25}\n" * 2 + "  - action: stay\n"
    assert played(toy, timeline) == [LEFT] * 5 + [RIGHT] * 5 + [STAY] * 2


def test_a_cue_keeps_its_length_where_it_begins_between_two_frames(toy: World) -> None:
    timeline = "  - {at: 0.25, action: move left, for: 0.3}\n  - {at: 0.75, action: 2, for: 0.3}\n"
    assert played(toy, timeline) == [STAY] * 3 + [LEFT] * 3 + [STAY] * 2 + [RIGHT] * 3 + [STAY]


def test_a_cue_acts_at_one_frame_at_least(toy: World) -> None:
    timeline = "  - {action: move left, for: 0.01}\n  - {action: 2, for: 0.01}\n  - action: stay\n"
    assert played(toy, timeline, 0.4) == [LEFT, RIGHT, STAY, STAY]


def test_cues_of_a_branch_follow_one_another_from_the_step_at_which_it_begins(toy: World) -> None:
    timeline = "[{action: move left, for: 0.3}, {action: 2, for: 0.2}, {at: 1, action: stay}]"
    branches = f"branches:\n  - {{name: two, fork: 0.1, timeline: {timeline}}}\n"
    labels = run(toy, f"timeline:\n  - action: stay\n{branches}")["two"].labels
    assert list(labels) == [STAY] * 4 + [LEFT] * 3 + [RIGHT] * 2 + [STAY] * 3


def test_of_the_cues_that_run_the_one_that_began_last_acts(toy: World) -> None:
    timeline = "  - action: 2\n  - {at: 0.2, action: move left, for: 0.3}\n  - {at: 0.3, action: stay, for: 0.1}\n"
    assert played(toy, timeline, 0.8) == [RIGHT, RIGHT, LEFT, STAY, LEFT, RIGHT, RIGHT, RIGHT]


def test_a_sequence_goes_frame_by_frame_over_and_over(toy: World) -> None:
    each = [LEFT, RIGHT, STAY]
    assert played(toy, "  - actions: [move left, 2, stay]\n", 0.8) == each + each + each[:2]


def test_where_no_cue_runs_the_neutral_action_is_done(toy: World) -> None:
    assert played(toy, "  - {at: 0.2, action: move left, for: 0.1}\n", 0.4) == [STAY, STAY, LEFT, STAY]


def test_a_condition_is_looked_at_after_every_step(toy: World) -> None:
    timeline = "  - action: stay\n  - {when: hazard > -1, action: move left, for: 0.2}\n"
    assert played(toy, timeline) == [STAY] * 4 + [LEFT, LEFT, STAY, STAY] * 2
    assert played(toy, timeline.replace("> -1", "> 2")) == [STAY] * 12


def test_a_condition_may_count_once_and_from_a_second_on(toy: World) -> None:
    once = "  - action: stay\n  - {when: hazard > -1, action: move left, for: 0.2, once: true}\n"
    assert played(toy, once) == [STAY] * 4 + [LEFT, LEFT] + [STAY] * 6
    late = "  - action: stay\n  - {when: hazard > -1, at: 0.5, action: move left}\n"
    assert played(toy, late) == [STAY] * 8 + [LEFT] * 4


@pytest.mark.parametrize("signal", ["reward", "return", "hazard"])
def test_a_condition_sees_what_the_last_step_told(signal: str, toy: World) -> None:
    still = run(toy, "timeline:\n  - action: stay\n", 0.4)["main"]
    value = float(still.hazard.max() if signal == "hazard" else still.reward.sum())
    for bound, acts in ((value - 0.01, LEFT), (value + 0.01, STAY)):
        timeline = f"  - action: stay\n  - {{when: {signal} > {bound}, action: move left}}\n"
        assert played(toy, timeline, 0.8)[4] == acts


def test_frames_rewards_and_hazards_are_those_of_the_environment(toy: World) -> None:
    branch = run(toy, "start: 3\ntimeline:\n  - action: move left\n")["main"]
    env = WorldEnv(toy)
    env.reset(seed=7, options={"start": 3})
    assert np.array_equal(branch.frames[0], env.frames()[-1])
    for step in range(3):
        *_, info = env.step(LEFT)
        here = slice(4 * step, 4 * step + 4)
        assert np.abs(branch.frames[1:][here].astype(int) - env.frames()).max() <= 1
        assert np.allclose(branch.hazard[here], info["hazard"], atol=1e-5)
        assert np.allclose(branch.reward[here], info["reward_frames"], atol=1e-5)


def test_the_file_or_dataset_of_a_start_is_looked_for_beside_the_scenario(toy: World, tmp_path: Path) -> None:
    toy.initial(seeds=[1], starts=[2])[0].save(tmp_path / "moment.safetensors")
    (tmp_path / "noise").mkdir()
    file = tmp_path / "scenario.yaml"
    text = "world: toy\nseconds: 0.4\nstart: {}\ntimeline:\n  - action: stay\n"
    file.write_text(text.format("moment.safetensors"))
    assert Scenario.load(file).run(toy).start == str(tmp_path / "moment.safetensors")
    file.write_text(text.format("minari:noise#0@8"))
    with pytest.raises(ScenarioError, match=f"there is no dataset '{tmp_path / 'noise'}'"):
        Scenario.load(file).run(toy)


def test_a_start_may_be_drawn_by_a_seed_of_its_own(toy: World) -> None:
    result = run(toy, "start: {seed: 4}\ntimeline:\n  - action: stay\n", 0.4)
    assert (result.start, result.seed) == (toy.start_of(4), 7)
    assert run(toy, "timeline:\n  - action: stay\n", 0.4, seed=4).start == toy.start_of(4)


BRANCHES = """\
timeline:
  - policy: random
branches:
  - name: from the start
  - name: goes on
    fork: 0.8
  - name: left
    fork: 0.7
    timeline:
      - action: move left
  - name: other noise
    fork: 0.4
    noise: own
  - name: given noise
    fork: 0.4
    noise: 5
"""


@pytest.mark.usefixtures("one_thread")
def test_branches_go_on_from_the_same_moment_exactly(toy: World) -> None:
    result = run(toy, BRANCHES, 1.6)
    alone = run(toy, "timeline:\n  - policy: random\n", 1.6)["main"]
    for name in ("from the start", "goes on"):
        for part in ("frames", "actions", "reward", "hazard"):
            assert np.array_equal(getattr(result[name], part), getattr(alone, part)), (name, part)
    left = result["left"]
    assert left.fork == 0.8  # the first step from the second that was asked for on
    assert np.array_equal(left.frames[:9], alone.frames[:9])
    assert left.labels[8:] == (LEFT,) * 8
    for name in ("other noise", "given noise"):
        assert result[name].labels == alone.labels
        assert np.array_equal(result[name].frames[:5], alone.frames[:5])
        assert not np.array_equal(result[name].frames[5:], alone.frames[5:])
    assert result["given noise"].noise == 5
    assert not np.array_equal(result["given noise"].frames, result["other noise"].frames)


@pytest.mark.usefixtures("one_thread")
def test_a_branch_is_what_follows_from_a_snapshot(toy: World) -> None:
    text = "start: 1\ntimeline:\n  - action: stay\nbranches:\n  - {name: a, fork: 0.4}\n"
    branch = run(toy, text + "  - {name: b, fork: 0.4, timeline: [{action: move right}]}\n", 0.8)["b"]
    env = WorldEnv(toy)
    env.reset(seed=7, options={"start": 1})
    env.step(STAY)
    fork = env.fork(2)
    fork.step([STAY, RIGHT])
    assert np.array_equal(branch.frames[5:], fork.frames()[1])


def test_an_episode_that_ends_is_cut_off_there_in_every_branch() -> None:
    deadly = toy_world(actions=DISCRETE)
    with torch.no_grad():
        deadly.generator.heads.hazard.out.bias.fill_(100.0)
    text = "timeline:\n  - action: stay\nbranches:\n  - name: soon\n  - {name: late, fork: 0.8}\nassertions:\n"
    result = run(
        deadly,
        text + "  - alive: 0.1\n  - ended: 0.1\n  - check: seconds <= 0.1\n  - {check: mean reward > -9, from: 0.5}\n",
    )
    assert [(b.seconds, b.terminated, len(b.frames)) for b in result.branches] == [(0.1, True, 2)] * 2
    assert [check.holds for check in result.checks] == [False, False, True, True, True, True, False, False]
    assert (result.checks[0].got, result.checks[-1].got) == ("ended at 0.1 s", "no frame")
    assert not result.passed


def test_ends_may_be_left_out(toy: World) -> None:
    deadly = toy_world(actions=DISCRETE)
    with torch.no_grad():
        deadly.generator.heads.hazard.out.bias.fill_(100.0)
    assert run(deadly, "ends: never\ntimeline:\n  - action: stay\n")["main"].seconds == 1.2


def test_checks_measure_frames_steps_and_branches(toy: World) -> None:
    text = "timeline:\n  - action: stay\nbranches:\n  - name: a\n  - {name: b, noise: own}\n"
    first = run(toy, text)
    a, b = (first[name].reward.astype(float) for name in "ab")
    checks = [
        (f"mean reward of a > {a.mean() - 1e-3}", True),
        (f"sum reward of b >= {b.sum() + 1e-3}", False),
        (f"last reward of a < {a[-1] + 1e-3}", True),
        (f"{a.max() + 1e-3} > max reward of a", True),
        ("sum reward of a > sum reward of b", a.sum() > b.sum()),
        ("seconds of a >= seconds of b", True),
    ]
    lines = "".join(f"  - check: {check}\n" for check, _ in checks)
    window = f"  - check: min reward < {a[4:8].min() + 1e-3}\n    branches: a\n    from: 0.4\n    until: 0.8\n"
    result = run(toy, f"{text}assertions:\n{lines}{window}")
    assert [check.holds for check in result.checks] == [holds for _, holds in checks] + [True]
    assert [check.branch for check in result.checks] == [""] * 6 + ["a"]
    assert result.checks[-1].text.endswith(", 0.4 to 0.8 s")
    assert result.checks[0].line == 10


def test_a_window_of_one_frame_holds_one_wherever_it_begins(toy: World) -> None:
    branch = run(toy, "timeline:\n  - action: stay\n")["main"]
    total = Quantity(statistic="sum", signal="reward")
    measured = [branch.measure(total, first / 100, (first + 10) / 100) for first in (5, 15, 25, 35)]
    assert measured == branch.reward[1:5].tolist()


@pytest.mark.parametrize("kind", ACTIONS)
def test_every_kind_of_action_can_be_written_down(kind: str) -> None:
    world = toy_world(actions=KINDS[kind])
    text = f"timeline:\n  - action: {ACTIONS[kind]}\n    for: 0.2\n  - actions: [{ACTIONS[kind]}]\n"
    branch = run(world, text, 0.4)["main"]
    assert torch.equal(torch.from_numpy(branch.actions)[None], world.generator.prompts.check(ACTIONS[kind], None, 4))


def test_texts_are_prompts_of_worlds_that_take_them() -> None:
    world = toy_world(actions=KINDS["text"], ends=Ends.NEVER)
    text = "timeline:\n  - {text: open the red door, for: 0.2}\n  - text: a storm comes up\n"
    result = run(world, text, 0.4)
    assert result["main"].labels == ("open the red door",) * 2 + ("a storm comes up",) * 2
    with pytest.raises(ConfigError, match="actions hold texts"):
        write_scenario_dataset("nowhere", result, world_action_space(world.config.actions))


def test_a_policy_is_anything_that_sees_frames_and_acts(toy: World, tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def mine(name: str, world: World) -> NewPolicy:
        def policy(frames: np.ndarray, num_ticks: int) -> np.ndarray:
            seen.append(frames)
            return np.full(num_ticks, 2)

        return lambda seed: policy if name == "mine" else policies(name, world)(seed)

    (tmp_path / "moves.json").write_text("[[1, 3], [0, 1]]")
    text = (
        "world: toy\nseconds: 1.2\nseed: 7\ntimeline:\n  - {policy: mine, for: 0.6}\n  - policy: scripted:moves.json\n"
    )
    branch = Scenario.parse(text, str(tmp_path / "scenario.yaml")).run(toy, policies=mine)["main"]
    assert branch.actions.tolist() == [2] * 6 + [1, 1, 1, 0, 1, 1]
    assert np.array_equal(seen[1], branch.frames[1:5])


def test_an_agent_of_sb3_may_act(toy: World, tmp_path: Path) -> None:
    agent = A2C("MlpPolicy", WorldEnv(toy), device="cpu", n_steps=2)
    agent.save(tmp_path / "agent.zip")
    text = "world: toy\nseconds: 0.4\ntimeline:\n  - policy: agent.zip\n"
    branch = Scenario.parse(text, str(tmp_path / "scenario.yaml")).run(toy, policies=policies)["main"]
    assert set(branch.actions) == {int(agent.predict(branch.frames[0], deterministic=True)[0])}


def test_branches_become_a_dataset_that_says_it_was_generated(toy: World, tmp_path: Path) -> None:
    result = run(toy, BRANCHES, 1.6)
    write_scenario_dataset(tmp_path / "dataset", result, world_action_space(toy.config.actions))
    store = EpisodeStore.open(tmp_path / "dataset")
    assert store.metadata["generated"] is True
    assert store.source == toy.fingerprint
    assert [policy.rpartition("/")[2] for policy in store.policies] == [branch.name for branch in result.branches]
    episode = store.episode(2)
    assert np.array_equal(episode.frames, result["left"].frames)
    assert np.array_equal(episode.actions, result["left"].actions)
    assert np.array_equal(episode.rewards, result["left"].reward)
    assert (episode.terminated, episode.truncated, episode.options["fork"]) == (False, True, 0.8)
    assert np.array_equal(episode.variables["hazard"][1:], result["left"].hazard)


@pytest.mark.parametrize("name", scenario_names())
def test_a_scenario_that_ships_fits_its_world(name: str) -> None:
    plan = Scenario.load(name).plan
    assert find_world(plan.world).is_dir()
    assert plan.about
    assert plan.assertions
