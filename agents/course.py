"""The course of an agent's training: between two updates it is counted, judged, saved and perhaps stopped."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from tqdm import tqdm

from cfworld.agents.agent import Agent, write_agent
from cfworld.agents.card import AgentCard, card_of, read_card
from cfworld.agents.config import AgentTrainConfig
from cfworld.agents.evaluate import twin_scores
from cfworld.agents.foresight import foresee
from cfworld.agents.imitation import imitate
from cfworld.agents.learner import save_checkpoint
from cfworld.agents.policy import build_policy
from cfworld.agents.progress import Point, TrainProgress
from cfworld.data.policy_files import agent_folder
from cfworld.envs.twins import Twin, make_twin
from cfworld.errors import TrainingError
from cfworld.interruption import EndRequest
from cfworld.world import World

__all__ = ["Course", "simulator_of"]


def simulator_of(config: AgentTrainConfig, world: World) -> Twin:
    """Where agents are judged.

    Raises:
        ConfigError: if the world has no simulator.
    """
    return make_twin(world.config.source, config.eval_horizon or world.config.horizon_frames)


class Course(BaseCallback):
    """Counts, judges, saves and stops; between two updates, when the weights rest."""

    def __init__(
        self,
        config: AgentTrainConfig,
        world: World,
        folder: Path,
        progress: TrainProgress,
        show: Callable[[TrainProgress], object],
    ):
        super().__init__()
        self._config = config
        self._world = world
        self._folder = folder
        self._progress = progress
        self._show = show
        self._before = progress.minutes
        self._began = perf_counter()
        self._first = self._saved = progress.steps
        self.request = EndRequest("ends at the next step, when the agent is saved; Ctrl-C again ends at once")
        self._bar = tqdm(
            total=config.total_steps, initial=progress.steps, unit="step", desc=f"{world.config.name}: {config.env}"
        )

    def imitate(self, learner: OnPolicyAlgorithm) -> int:
        """Before all else, judged and saved; gives the steps that it took."""
        config = self._config
        assert config.imitate is not None
        per_step = self._world.config.frames_per_step
        steps = 0

        def tell(taken: int) -> None:
            nonlocal steps
            steps += taken  # a bar that is not shown counts nothing
            self._bar.update(taken)

        agreement = imitate(
            learner,
            config.imitate,
            per_step,
            config.imitate_steps,
            config.imitate_epochs,
            config.seed,
            tell,
        )
        tqdm.write(f"imitated {config.imitate}: the likeliest action is the same in {agreement:.0%} of {steps} steps")
        return self._begun(learner, steps)

    def foresee(self, learner: OnPolicyAlgorithm) -> int:
        """Before all else, judged and saved; gives the steps that it took."""
        found = foresee(self._config, self._world, learner.policy, self._folder / "futures", self._bar.update)
        tqdm.write(
            f"watched {found.steps} steps, in each of which one dies with a probability of {found.danger:.2%}; at the "
            f"end of the lesson the likeliest action is the best in {found.agreement:.0%}"
        )
        return self._begun(learner, found.steps)

    def diverged(self) -> TrainingError:
        """What to say of an agent that consists of numbers no longer."""
        steps = max(self.num_timesteps, self._bar.n)  # the bar also counts those that came before PPO's own
        return TrainingError(
            f"got an agent whose weights or probabilities are not finite after {steps} steps; expected "
            f"finite numbers. Nothing since was saved in {self._folder}. Train in another folder with a lower "
            "learning_rate."
        )

    def _check_finite(self) -> None:
        if not all(bool(weights.isfinite().all()) for weights in self.model.policy.parameters()):
            raise self.diverged()

    def _begun(self, learner: OnPolicyAlgorithm, steps: int) -> int:
        """Count, judge, save and show what was learned in steps before PPO's own; gives the steps."""
        config, progress = self._config, self._progress
        self.init_callback(learner)
        self.num_timesteps = learner.num_timesteps = steps
        self._check_finite()
        self._count()
        if config.eval_every:
            self._judge()
        else:
            self._save()
        progress.stopped = progress.reason_to_stop(config)
        self._show(progress)
        if progress.stopped or steps >= config.total_steps:
            self._bar.close()
        return steps

    def _on_rollout_start(self) -> None:
        self._check_finite()
        self._count()
        config, progress = self._config, self._progress
        judged = progress.curve[-1].steps if progress.curve else 0
        if config.eval_every and progress.steps - judged >= config.eval_every:
            self._judge()
        if progress.steps > self._first:
            progress.stopped = progress.reason_to_stop(config)
        if progress.steps - self._saved >= config.save_every:
            self._save()

    def _on_step(self) -> bool:
        if self._progress.stopped:
            return False
        if self.request.made:
            self._leave()
        self._bar.update(min(self.training_env.num_envs, self._config.total_steps - self._bar.n))
        return True

    def _on_training_end(self) -> None:
        self._check_finite()
        self._count()
        judged = self._progress.curve[-1].steps if self._progress.curve else -1
        if self._config.eval_every and judged != self._progress.steps:
            self._judge()
        else:
            self._save()
        self._show(self._progress)
        self._bar.close()

    def _leave(self) -> None:
        """End in the midst of a rollout, of which nothing has been learned yet; what was learned before is saved."""
        self._check_finite()
        self._count()
        self._save()
        self._bar.close()
        raise self.request.ending(f"step {self._progress.steps} is saved in {self._folder}, and can be gone on from")

    def _count(self) -> None:
        if not self._progress.stopped:  # what was begun after that is no part of the training
            self._progress.steps = self.num_timesteps
        self._progress.minutes = self._before + (perf_counter() - self._began) / 60
        self._bar.set_postfix(score=_shown(self._training_score()), refresh=False)

    def _judge(self) -> None:
        """Score the agent in the simulator; keep it if it has never been better, and the curve that says so."""
        config, progress = self._config, self._progress
        agent = self._agent()
        twin = simulator_of(config, self._world)
        try:
            returns = twin_scores(twin, agent, range(config.eval_seed, config.eval_seed + config.eval_episodes)).returns
        finally:
            twin.close()
        error = float(returns.std(ddof=1) / np.sqrt(len(returns))) if len(returns) > 1 else 0.0
        self._count()
        point = Point(
            steps=progress.steps,
            minutes=progress.minutes,
            training=self._training_score(),
            real=float(returns.mean()),
            error=error,
        )
        better = point.real > self._best_score()
        progress.curve.append(point)
        if better:
            self._write("best", point.real)
        self._save()
        self.logger.record("eval/real_score", point.real)
        tqdm.write(
            f"step {point.steps}: {_shown(point.training)} in training, {point.real:.1f} +- {error:.1f} in the "
            f"simulator{', the best so far' if better else ''}"
        )
        self._show(progress)

    def _best_score(self) -> float:
        """The best so far, be it that what was interrupted had written it and not yet the curve."""
        scores = [point.real for point in self._progress.curve]
        best = agent_folder(self._folder / "best") if self._first else None
        if best is not None and (score := read_card(best).real_score) is not None:
            scores.append(score)
        return max(scores, default=-np.inf)

    def _save(self) -> None:
        last = self._progress.curve[-1] if self._progress.curve else None
        current = last is not None and last.steps == self._progress.steps
        self._write("last", last.real if last is not None and current else None)
        learner: Any = self.model
        save_checkpoint(learner, self._config, self._world, self._progress, self._folder)
        self._saved = self._progress.steps

    def _training_score(self) -> float | None:
        episodes = self.model.ep_info_buffer or []
        return float(np.mean([episode["r"] for episode in episodes])) if episodes else None

    def _agent(self) -> Agent:
        policy = build_policy(self._config, self._world)
        policy.load_state_dict(self.model.policy.state_dict())
        return Agent(self._card(None), policy, self._world)

    def _write(self, name: str, real_score: float | None) -> None:
        policy: Any = self.model.policy
        write_agent(policy, self._card(real_score), self._folder / name)

    def _card(self, real_score: float | None) -> AgentCard:
        return card_of(self._config, self._world, self._progress.steps, real_score)


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.1f}"
