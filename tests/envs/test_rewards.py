"""Rewards and ends by goals and classifiers, on frames whose distances are known."""

import numpy as np
import pytest
import torch

from cfworld import StepOutput, World
from cfworld.envs import WorldEnv
from cfworld.envs.rewards import Classifier, GoalImage, GoalLatent, with_functions
from cfworld.errors import ConfigError, ShapeError


def output(frames: torch.Tensor | None = None, latents: torch.Tensor | None = None) -> StepOutput:
    """A step of two rows of four frames that does not end."""
    return StepOutput(
        frames=frames,
        latents=torch.zeros(2, 1, 4, 8, 8) if latents is None else latents,
        reward=torch.full((2,), 4.0),
        reward_frames=torch.ones(2, 4),
        hazard=torch.zeros(2, 4),
        terminated=torch.zeros(2, dtype=torch.bool),
        end_frame=torch.full((2,), 4),
        novelty=torch.zeros(2),
    )


def grey_frames(*levels: int) -> torch.Tensor:
    """Two rows of four frames, each of one level; both rows are alike."""
    return torch.tensor(levels, dtype=torch.uint8)[None, :, None, None, None].expand(2, 4, 8, 8, 3).contiguous()


def test_without_functions_nothing_changes() -> None:
    out = output()
    assert with_functions(out) is out


def test_an_end_comes_before_the_reward_sees_the_frames() -> None:
    seen: list[torch.Tensor] = []

    def reward(step: StepOutput) -> list[float]:
        assert step.frames is not None
        seen.append(step.frames[:, :, 0, 0, 0])
        return [5.0, 7.0]

    out = with_functions(output(grey_frames(1, 2, 3, 4)), reward, lambda step: [[0, 1, 0, 0], [0, 0, 0, 0]])
    assert seen[0].tolist() == [[1, 2, 2, 2], [1, 2, 3, 4]]
    assert out.reward.tolist() == [5, 7]
    assert out.reward_frames.tolist() == [[0, 5, 0, 0], [0, 0, 0, 7]]
    assert out.end_frame.tolist() == [1, 4]
    assert out.terminated.tolist() == [True, False]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([1.0, float("nan")], "reward of nan from reward_fn for frame 3 of row 1"),
        ([float("inf"), 1.0], "reward of inf from reward_fn for frame 3 of row 0"),
        ([[0.0, -float("inf"), 0.0, 0.0]] * 2, "reward of -inf from reward_fn for frame 1 of row 0"),
    ],
)
def test_a_reward_that_is_no_finite_number_is_refused(given: list[object], told: str) -> None:
    with pytest.raises(ConfigError, match=f"{told}; expected finite numbers"):
        with_functions(output(), lambda step: given)


def test_finite_rewards_whose_sum_is_not_are_refused() -> None:
    rewards = [[0.0] * 4, [3e38, 3e38, 0.0, 0.0]]  # float32 ends at 3.4e38
    with pytest.raises(ConfigError, match="for row 1 whose sum over the step is inf; expected finite numbers"):
        with_functions(output(), lambda step: rewards)


def test_after_an_end_a_reward_may_be_anything() -> None:
    rewards = [[1.0, 2.0, float("nan"), float("inf")]] * 2
    out = with_functions(output(), lambda step: rewards, lambda step: [[0, 1, 0, 0]] * 2)
    assert out.reward.tolist() == [3, 3]


def test_a_goal_image_rewards_by_distance_and_ends_where_it_is_reached() -> None:
    goal = GoalImage(np.full((8, 8, 3), 102, np.uint8), psnr=20.0)
    frames = grey_frames(0, 51, 77, 102)  # off by 0.4, 0.2, 25 / 255 = 0.098 (20.2 dB) and nothing
    assert goal.reward(output(frames))[0].tolist() == pytest.approx([-0.4, -0.2, -25 / 255, 0], abs=1e-6)
    out = with_functions(output(frames), goal.reward, goal.reached)
    assert out.end_frame.tolist() == [2, 2]
    assert out.reward.tolist() == pytest.approx([-0.6 - 25 / 255] * 2, abs=1e-6)


def test_a_goal_latent_is_reached_by_showing_its_picture(world: World) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    goal = GoalLatent(world, picture, distance=0.1)
    still = torch.from_numpy(picture).expand(1, 4, 64, 64, 3).contiguous()
    with torch.no_grad():
        there = world.tokenizer.encode(still).float()
    out = output(latents=torch.cat([there, there + 0.5]))
    assert goal.reward(out).tolist() == pytest.approx([0, -0.5], abs=1e-4)
    assert goal.reached(out).tolist() == [True, False]


def test_a_classifier_rewards_by_its_probability_and_ends_when_it_is_sure() -> None:
    class Brightness(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            assert pictures.shape[1:] == (3, 8, 8)
            return pictures.mean(dim=(1, 2, 3))[:, None]

    classifier = Classifier(Brightness(), threshold=0.7)
    out = with_functions(output(grey_frames(0, 51, 204, 255)), classifier.reward, classifier.reached)
    assert out.reward_frames[0].tolist() == pytest.approx([0, 0.2, 0.8, 0], abs=1e-6)
    assert out.end_frame.tolist() == [2, 2]


def test_goals_work_in_an_environment(world: World) -> None:
    first = WorldEnv(world)
    first.reset(seed=0)
    first.step(1)
    goal = GoalImage(first.frames()[2], psnr=60.0)
    env = WorldEnv(world, reward_fn=goal.reward, termination_fn=goal.reached)
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(1)
    assert (terminated, info["end_frame"]) == (True, 2)
    assert info["reward_frames"][2:].tolist() == [0, 0]
    assert reward < 0


@pytest.mark.usefixtures("as_users_run_it")
def test_wrong_goals_and_answers_are_explained(world: World) -> None:
    with pytest.raises(ConfigError, match="expected a frame, uint8"):
        GoalImage(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(ConfigError, match=r"a goal of \[8, 8\] pixels; expected \(64, 64\)"):
        GoalLatent(world, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"a goal of \[8, 8\] pixels; expected \[16, 16\]"):
        GoalImage(np.zeros((8, 8, 3), np.uint8)).reward(output(torch.zeros(2, 4, 16, 16, 3, dtype=torch.uint8)))
    with pytest.raises(ConfigError, match="decode=True"):
        GoalImage(np.zeros((8, 8, 3), np.uint8)).reward(output())
    with pytest.raises(ShapeError, match="for 8 pictures"):
        Classifier(lambda pictures: pictures).reward(output(grey_frames(0, 0, 0, 0)))
    with pytest.raises(ShapeError, match=r"shape \(2, 3\) from termination_fn; .* \(2,\), or one per frame, \(2, 4\)"):
        with_functions(output(), None, lambda step: np.zeros((2, 3)))


@pytest.mark.parametrize("wrong", [None, "far", [None]])
def test_what_is_no_array_is_refused_by_name(world: World, wrong: object) -> None:
    env = WorldEnv(world, reward_fn=lambda step: wrong)
    env.reset(seed=0)
    with pytest.raises(ShapeError, match="from reward_fn"):
        env.step(1)


def test_probabilities_are_no_ends(world: World) -> None:
    env = WorldEnv(world, termination_fn=lambda step: step.hazard)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="threshold"):
        env.step(1)


def test_rewards_after_an_end_do_not_count_whatever_they_are() -> None:
    ends = torch.tensor([[False, True, False, False], [False, False, False, False]])
    rewards = torch.tensor([[1.0, 2.0, torch.nan, torch.inf], [1.0, 2.0, 3.0, 4.0]])
    out = with_functions(output(), lambda _: rewards, lambda _: ends)
    assert out.reward.tolist() == [3.0, 10.0]
    assert out.reward_frames.tolist() == [[1.0, 2.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]]


def test_a_reward_of_the_heads_own_is_that_up_to_a_users_end() -> None:
    ends = torch.tensor([[False, True, False, False], [False, False, False, False]])
    seen: list[torch.Tensor] = []

    def doubled(step: StepOutput) -> torch.Tensor:
        seen.append(step.reward_frames)
        return 2 * step.reward

    out = with_functions(output(), doubled, lambda _: ends)
    assert seen[0].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert out.reward.tolist() == [4, 8]
    assert out.reward_frames.tolist() == [[0, 4, 0, 0], [0, 0, 0, 8]]


def test_a_reversed_array_is_taken_as_it_reads() -> None:
    out = with_functions(output(), lambda _: np.array([[1, 2, 3, 4], [5, 6, 7, 8]])[:, ::-1])
    assert out.reward_frames.tolist() == [[4, 3, 2, 1], [8, 7, 6, 5]]


def test_rows_may_be_reversed_where_there_is_but_one(world: World) -> None:
    env = WorldEnv(world, reward_fn=lambda out: np.arange(3.0, 3.0 + len(out.terminated))[::-1])
    env.reset(seed=0)
    assert env.step(0)[1] == 3


def test_a_network_on_latents_may_judge(world: World) -> None:
    network = torch.nn.LazyLinear(1)
    env = WorldEnv(world, reward_fn=lambda out: network(out.latents.flatten(1))[:, 0])
    env.reset(seed=0)
    state = env.get_state()
    reward = env.step(1)[1]
    with torch.no_grad():
        expected = network(world.step(state.world, [1])[1].latents.flatten(1))
    assert reward == pytest.approx(float(expected))


def test_numbers_of_a_network_that_are_no_tensor_together_are_refused_by_name(world: World) -> None:
    weight = torch.ones((), requires_grad=True)
    env = WorldEnv(world, reward_fn=lambda _: [weight])
    env.reset(seed=0)
    with pytest.raises(ShapeError, match="from reward_fn; expected an array of one value per row"):
        env.step(1)
