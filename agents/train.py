"""Training of an agent in a generated world or its simulator, judged in the simulator while it goes on."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cfworld.advice import advise
from cfworld.agents.config import AgentTrainConfig, Place
from cfworld.agents.course import Course, simulator_of
from cfworld.agents.learner import (
    CHECKPOINT_FILE,
    check_same,
    load_checkpoint,
    make_learner,
    restore,
)
from cfworld.agents.policy import acting_space
from cfworld.agents.progress import TrainProgress
from cfworld.errors import TrainingError
from cfworld.files import locked_folder
from cfworld.interruption import on_signals
from cfworld.world import World

__all__ = ["train_agent"]


def train_agent(
    config: AgentTrainConfig,
    world: World,
    folder: Path,
    show: Callable[[TrainProgress], object] = lambda _: None,
    begun: Callable[[], object] = lambda: None,
) -> TrainProgress:
    """Train an agent, or go on with what was interrupted in the folder.

    The folder gets `checkpoint.pt`, `tensorboard/`, the agent as it is last, `last/`, and as it was when it scored best
    in the simulator, `best/`.

    Args:
        config: how.
        world: where.
        folder: what it is written to.
        show: called with the progress after every evaluation and at the end.
        begun: called when nobody else writes to the folder, and what was interrupted there may go on.

    Returns:
        How far it came.

    Raises:
        ConfigError: if the world has no simulator to learn or to be judged in, no agent can act in it, or another
            training was begun in the folder.
        CheckpointError: if what lies there is damaged.
        TrainingError: if another process trains there, or rewards or the agent are not made of finite numbers.
        KeyboardInterrupt: after Ctrl-C, or SIGTERM (then `Terminated`), while PPO learns, once the agent is saved; a
            second Ctrl-C does not wait for that.

    Warns:
        UserWarning: if there are settings of foresight, and nothing is watched.
    """
    if ignored := config.foresight.ignored():
        advise(f"foresight.steps=0 watches nothing, so {', '.join(ignored)} does nothing")
    acting_space(world)
    if config.eval_every or config.env is Place.twin:
        simulator_of(config, world).close()  # refuses a world without one before anything is learned
    with locked_folder(folder, TrainingError):
        progress, checkpoint = TrainProgress(), None
        if (folder / CHECKPOINT_FILE).exists():
            checkpoint = load_checkpoint(folder / CHECKPOINT_FILE)
            check_same(config, world, checkpoint["settings"], folder)
            progress = TrainProgress.from_dict(checkpoint["progress"])
            progress.stopped = progress.reason_to_stop(config)
        begun()
        _train(config, world, folder, progress, checkpoint, show)
    return progress


def _train(
    config: AgentTrainConfig,
    world: World,
    folder: Path,
    progress: TrainProgress,
    checkpoint: dict[str, Any] | None,
    show: Callable[[TrainProgress], object],
) -> None:
    def schedule(left: int | float) -> float:
        if config.max_minutes is not None:
            left = min(left, 1 - progress.minutes / config.max_minutes)
        return config.learning_rate * max(left, 0.0)

    left = config.total_steps - progress.steps
    if left <= 0 or progress.stopped:
        show(progress)
        return
    learner = make_learner(config, world, folder, progress.steps, schedule)
    course = Course(config, world, folder, progress, show)
    try:
        with _divergence_named(course):
            if checkpoint is not None:
                restore(learner, checkpoint)
            elif config.imitate is not None:
                left -= course.imitate(learner)
            elif config.foresight.steps:
                left -= course.foresee(learner)
            if left > 0 and not progress.stopped:
                with on_signals(course.request, signal.SIGTERM, signal.SIGINT):
                    learner.learn(left, course, reset_num_timesteps=False)
    finally:
        assert learner.env is not None
        learner.env.close()


@contextmanager
def _divergence_named(course: Course) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "invalid values" not in str(error):  # as PyTorch speaks of probabilities that are no numbers
            raise
        raise course.diverged() from None
