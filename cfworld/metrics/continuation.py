"""Continuation (the paper's Fig. 6): how well does a teacher go on from what a student made, however old that is?

The student rolls out from real starts. At several ages of its rollout the teacher takes over: its memory holds the
student's latents, read by its own clean passes beside their true neighbours. Unlike the teacher in distillation, whose
memory follows the student's promotions, it decides on its own. What it then makes stands beside the twin at equal
elapsed time: colour, sharpness and motion, and, where the context still shows the twin's episode, the true future
itself. Errors of the student that the teacher does not know how to take are what
error-recycling fine-tuning is for: judge a teacher with it beside one without.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from cfworld.envs.twins import Twin
from cfworld.errors import ConfigError
from cfworld.export.film_strip import write_film_strip
from cfworld.metrics import images
from cfworld.metrics.bootstrap import Interval, mean_interval, ratio_interval
from cfworld.metrics.drift import COLOUR_BAR, STATISTICS, statistics
from cfworld.metrics.fidelity import ENERGY_BAR
from cfworld.metrics.judgement import Bars, Judgement, Picture, Table
from cfworld.metrics.plots import memory_plots
from cfworld.metrics.progress import Bar, silent_bar, watched
from cfworld.metrics.recordings import Recording, held_out
from cfworld.metrics.rollouts import WorldLike, begin
from cfworld.prefix import take_in
from cfworld.world import World, WorldState

__all__ = ["ContinuationConfig", "judge_continuations", "run_continuation", "taken_in"]

STUDENT = "student itself"
"""The student's own rollout, for comparison."""
_ENERGIES = ("sharpness", "motion")


@dataclass(kw_only=True, slots=True)
class ContinuationConfig:
    """How continuations are judged.

    Attributes:
        student: Zoo name or folder of the world whose student makes the context; empty to leave this metric out.
        ages: How long the student has rolled out when the teacher takes over, in seconds of game time.
        seconds: How long the teacher goes on.
        starts: Number of rollouts.
        faithful: PSNR of the context's last frame to the twin's, in dB, from which on it still shows the twin's
            episode; only then is the continuation compared with the twin's own future.
    """

    student: str = ""
    ages: list[float] = field(default_factory=lambda: [0.0, 10.0, 30.0, 60.0])
    seconds: float = 4.0
    starts: int = 16
    faithful: float = 20.0

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        possible = 0 < self.seconds < math.inf and all(0 <= age < math.inf for age in self.ages)
        if not self.ages or not possible or self.starts < 2:
            raise ConfigError(
                f"continuation has ages={self.ages}, seconds={self.seconds}, starts={self.starts}; expected finite "
                "ages of 0 or more, a finite time above 0, and at least 2 starts, whose spread is the yardstick"
            )
        self.ages = sorted(self.ages)


@torch.inference_mode()
def taken_in(world: World, state: WorldState, latents: Tensor, actions: np.ndarray) -> WorldState:
    """The state of a world after a chunk that another one made: read by a clean pass and committed.

    Args:
        world: whose keys and values are computed.
        state: where its rows are.
        latents: the other one's chunk, [B, N, C, h, w].
        actions: one per frame, [B, F, ...].
    """
    per_latent = world.actions_per_latent(actions, state.num_rows)
    memory = take_in(world.generator, world.config.memory, state.memory, latents, per_latent).memory
    return replace(state, memory=memory, step=state.step + 1, latents=latents)


def judge_continuations(
    made: Mapping[str, UInt8[np.ndarray, "B A F H W 3"]],
    truth: UInt8[np.ndarray, "B A F H W 3"],
    context: Float64[np.ndarray, "B A"],
    ages: Sequence[float],
    faithful: float,
) -> Judgement:
    """Judge what was made after contexts of A ages.

    Args:
        made: F frames of each continuation, by who made them.
        truth: the twin's at equal elapsed time.
        context: PSNR of the last frame of each context to the twin's, in dB.
        ages: of the contexts, in seconds, rising.
        faithful: PSNR from which on a context still shows the twin's episode.
    """
    theirs = statistics(truth)
    spread = np.maximum(theirs.std(axis=0).mean(axis=0), 1e-9)
    shows = context >= faithful
    figures = {name: _figures(statistics(frames), theirs, spread) for name, frames in made.items()}
    for name, frames in made.items():
        psnr = np.where(shows, images.psnr(frames, truth).mean(axis=-1), np.nan)
        figures[name]["psnr"] = [mean_interval(psnr[:, i]) for i in range(len(ages))]
    share = [mean_interval(shows[:, i]) for i in range(len(ages))]
    return Judgement(
        metric="continuation",
        figures={"ages": list(ages), "faithful_share": share, "continuations": figures},
        bars={name: _bars(found, ages[-1]) for name, found in figures.items() if name != STUDENT},
        tables=[_table(figures, share, ages, faithful)],
        pictures=[
            Picture(
                name="continuation.png",
                caption="Continuations by the age of the context that the student made",
                write=partial(memory_plots.continuation, figures=figures, ages=ages),
            ),
            Picture(
                name="continuation_0.png",
                caption="Start 0, the end of each continuation by the age of its context: the twin above",
                write=partial(
                    write_film_strip,
                    rows={name: frames[0, :, -1] for name, frames in {"twin": truth, **made}.items()},
                    labels=[f"{age:g} s" for age in ages],
                ),
            ),
        ],
    )


def run_continuation(
    worlds: Mapping[str, WorldLike],
    student: World,
    twin: Twin,
    config: ContinuationConfig,
    prefix_ticks: int,
    first_seed: int,
    bar: Bar = silent_bar,
) -> Judgement:
    """Let worlds continue a student's rollouts.

    Args:
        worlds: the teachers that continue; controls, which take nothing in, are passed over.
        student: makes the contexts; it should not end its episodes.
        twin: the simulator.
        config: ages and lengths.
        prefix_ticks: frames before a start.
        first_seed: the first evaluation seed.
        bar: shows how far it is.

    Raises:
        ConfigError: if a world's latents are not the student's.
    """
    per_step, fps = student.config.frames_per_step, student.config.fps
    ages = sorted({round(age * fps / per_step) for age in config.ages})
    length = max(1, round(config.seconds * fps / per_step))
    num_ticks = (ages[-1] + length) * per_step
    episodes = held_out(twin, config.starts, num_ticks, prefix_ticks, first_seed=first_seed, god=True)
    recordings = list(watched(episodes, bar, "continuation: twin", config.starts, "episode"))
    teachers = {name: world for name, world in worlds.items() if isinstance(world, World)}
    for name, world in teachers.items():
        _check_tokenizer(name, world, student, recordings)
    windows = [range(age, age + length) for age in ages]
    latents, frames = _student_rollout(student, recordings, ages[-1] + length, windows, bar)
    made = {
        name: _continued(world, recordings, latents, ages, length, bar, f"continuation: {name}")
        for name, world in teachers.items()
    }
    made[STUDENT] = np.stack([np.concatenate([frames[s] for s in window], axis=1) for window in windows], axis=1)
    shown = np.stack([recording.frames for recording in recordings])
    truth = np.stack([shown[:, age * per_step : (age + length) * per_step] for age in ages], axis=1)
    before = [
        images.psnr(frames[age - 1][:, -1], shown[:, age * per_step - 1])
        if age
        else np.full(len(recordings), images.MAX_PSNR)
        for age in ages
    ]
    seconds = [age * per_step / fps for age in ages]
    return judge_continuations(made, truth, np.stack(before, axis=1).astype(np.float64), seconds, config.faithful)


def _student_rollout(
    student: World, recordings: Sequence[Recording], num_steps: int, windows: Sequence[range], bar: Bar
) -> tuple[list[Tensor], dict[int, np.ndarray]]:
    """The latents of every step, and the frames of the windows and of the step before each."""
    per_step = student.config.frames_per_step
    wanted = {step for window in windows for step in (window[0] - 1, *window)}
    actions = np.stack([recording.actions for recording in recordings])
    state, latents, frames = begin(student, recordings), [], {}
    with bar("continuation: student", len(recordings) * num_steps, "row-step") as progress:
        for step in range(num_steps):
            chosen = actions[:, step * per_step : (step + 1) * per_step]
            state, output = student.step(state, chosen, decode=step in wanted)
            latents.append(output.latents)
            if output.frames is not None:
                frames[step] = output.frames.cpu().numpy()
            progress(len(recordings))
    return latents, frames


def _continued(
    world: World,
    recordings: Sequence[Recording],
    latents: Sequence[Tensor],
    ages: Sequence[int],
    length: int,
    bar: Bar,
    title: str,
) -> UInt8[np.ndarray, "B A F H W 3"]:
    """What a world makes of the student's latents at each age."""
    per_step = world.config.frames_per_step
    actions = np.stack([recording.actions for recording in recordings])
    state, found = begin(world, recordings), []
    with bar(title, len(recordings) * (ages[-1] + len(ages) * length), "row-step") as progress:
        for step in range(ages[-1] + 1):
            if step in ages:
                fork, shown = state, []
                for ahead in range(step, step + length):
                    chosen = actions[:, ahead * per_step : (ahead + 1) * per_step]
                    fork, output = world.step(fork, chosen)
                    assert output.frames is not None
                    shown.append(output.frames.cpu().numpy())
                    progress(len(recordings))
                found.append(np.concatenate(shown, axis=1))
            if step < ages[-1]:
                chosen = actions[:, step * per_step : (step + 1) * per_step]
                state = taken_in(world, state, latents[step].to(world.device), chosen)
                progress(len(recordings))
    return np.stack(found, axis=1)


def _check_tokenizer(name: str, world: World, student: World, recordings: Sequence[Recording]) -> None:
    look = torch.from_numpy(recordings[0].prefix[None, : world.config.frames_per_latent])
    with torch.no_grad():
        ours, theirs = (w.tokenizer.encode(look.to(w.device)).float().cpu() for w in (world, student))
    if ours.shape != theirs.shape or not torch.allclose(ours, theirs, atol=0.05):
        raise ConfigError(
            f"{name} and the student of continuation.student have different tokenizers; expected the same one, since "
            "the latents of the one become the memory of the other"
        )


def _figures(
    values: Float64[np.ndarray, "B A S"], theirs: Float64[np.ndarray, "B A S"], spread: Float64[np.ndarray, " S"]
) -> dict[str, list[Interval]]:
    """Distance in the twin's standard deviations, averaged over the statistics, and energies, by age."""
    distance = (np.abs(values - theirs) / spread).mean(axis=-1)
    figures = {"distance": [mean_interval(distance[:, i]) for i in range(values.shape[1])]}
    for name in _ENERGIES:
        one = STATISTICS.index(name)
        ratios = [ratio_interval(values[:, i, one], theirs[:, i, one]) for i in range(values.shape[1])]
        figures[name] = ratios
    return figures


def _bars(found: Mapping[str, Sequence[Interval]], oldest: float) -> Bars:
    after = f"after a context of {oldest:g} s"
    bars: dict[str, bool | None] = {f"close to the twin {after}": found["distance"][-1].mean <= COLOUR_BAR}
    for name in _ENERGIES:
        ratio = found[name][-1]
        bars[f"{name} as the twin's {after}"] = None if np.isnan(ratio.mean) else ratio.within(*ENERGY_BAR)
    return bars


def _table(
    figures: Mapping[str, Mapping[str, Sequence[Interval]]],
    share: Sequence[Interval],
    ages: Sequence[float],
    faithful: float,
) -> Table:
    rows = [
        [f"{name}, {age:g} s", *(found[key][i] for key in ("distance", *_ENERGIES, "psnr")), share[i]]
        for name, found in figures.items()
        for i, age in enumerate(ages)
    ]
    return Table(
        title="Continuations of the student's rollouts, by the age of the context",
        columns=["", "distance (SD)", "sharpness ratio", "motion ratio", "PSNR (dB)", "faithful contexts"],
        rows=rows,
        note=(
            "Distance: mean over colour, saturation, sharpness and motion of the difference from the twin at equal "
            "elapsed time, in the twin's standard deviations. PSNR: to the twin's own future, over contexts whose "
            f"last frame reaches {faithful:g} dB of the twin's."
        ),
    )
