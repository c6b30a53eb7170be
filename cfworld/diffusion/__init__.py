"""The mathematics of diffusion: pure functions of tensors."""

from cfworld.diffusion.flow import denoised, expand_sigma, interpolate, noise_from, renoise, velocity
from cfworld.diffusion.guidance import guided
from cfworld.diffusion.noise import counter_noise, counter_uniform
from cfworld.diffusion.schedule import sample_sigma, shift, sigmas, stratified_sigma
from cfworld.diffusion.solver import Solver, euler, few_step, heun, integrate, levels_of_passes

__all__ = [
    "Solver",
    "counter_noise",
    "counter_uniform",
    "denoised",
    "euler",
    "expand_sigma",
    "few_step",
    "guided",
    "heun",
    "integrate",
    "interpolate",
    "levels_of_passes",
    "noise_from",
    "renoise",
    "sample_sigma",
    "shift",
    "sigmas",
    "stratified_sigma",
    "velocity",
]
