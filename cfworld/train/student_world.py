"""A world of variant "student", which a stage exports."""

import copy
from dataclasses import replace

from cfworld.model import Generator
from cfworld.rollout import SamplerConfig, Solver
from cfworld.train.banks.latent_bank import ClipBatch
from cfworld.train.key_centre import measure_centre
from cfworld.world import World

__all__ = ["few_step_sampler", "student_world"]


def student_world(like: World, student: Generator, sampler: SamplerConfig, clips: ClipBatch) -> World:
    """A world of variant "student" with the tokenizer and the starts of another.

    Args:
        like: The world that the student was distilled from.
        student: Its generator; it is copied.
        sampler: How it is sampled.
        clips: Real clips without padding, over which the student's mean key is measured.
    """
    world = World(
        replace(like.config, sampler=sampler),
        like.tokenizer,
        copy.deepcopy(student),
        like.starts,
        variant="student",
        device=like.device,
    )
    measure_centre(world, clips)
    return world


def few_step_sampler(num_steps: int, shift: float) -> SamplerConfig:
    """How a distilled student is sampled."""
    return SamplerConfig(solver=Solver.FEW_STEP, num_steps=num_steps, shift=shift)
