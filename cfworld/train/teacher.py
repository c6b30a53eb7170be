"""The stage that trains the Context Teacher: flow matching on every latent of long real clips."""

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cfworld.diffusion import denoised, interpolate, stratified_sigma, velocity
from cfworld.errors import ConfigError, DatasetError
from cfworld.model import Generator
from cfworld.prompts import TextEncoder
from cfworld.settings import check_counts
from cfworld.tokenizer import Tokenizer
from cfworld.train.banks.latent_bank import LatentBank
from cfworld.train.clip_stage import WorldStage
from cfworld.train.deepening import deepened_generator
from cfworld.train.erft import ErftConfig, ErrorBank
from cfworld.train.forcing.clip_losses import ClipStep, check_head_weights, head_losses, masked_mean, random_promotions
from cfworld.train.forcing.gathered import gathered_forward, slot_schedule
from cfworld.train.forcing.resampling import ResamplingConfig, resampled
from cfworld.train.forcing.spatial_balance import SpatialBalance
from cfworld.train.key_centre import centre_clips, measure_centre
from cfworld.train.loop_config import LoopConfig
from cfworld.train.widening import widened_generator
from cfworld.world import EncodedStarts, World, WorldConfig
from cfworld.world.pretrained import variants_of

__all__ = ["TeacherStage", "TeacherStageConfig", "teacher_weights"]


@dataclass(kw_only=True, slots=True)
class TeacherStageConfig:
    """How the teacher is trained.

    Attributes:
        name: The stage's name; its runs lie in runs/<world>/<name>.
        loop: Length, rates and cadence.
        init_from: Folder of an exported world, or its name in the zoo, whose teacher to begin with, or its student
            where it has no teacher; "" begins with the weights of world.imported, or with random ones. It may have
            fewer channels or blocks, or no input_skip (see `widened_generator` and `deepened_generator`).
        clip_latents: Latents of a clip.
        min_latents: Shortest episode that is used; shorter clips are padded.
        num_copies: Noise levels at which every latent is a target in one pass; the context is shared between them.
        sigma_shift: Shift of the training noise levels.
        prompt_dropout: Share of target chunks whose prompts are dropped, for guidance.
        promotion_cadence: Chunks from one check for promotion to the next during training. 1 fills slow memory within
            short clips; clips that are long enough do better with the memory's own `consolidate_every`.
        promotion_interval: Longest mean distance, in checks, between latents promoted during training. Each clip
            draws its own between 1 and this, and then what becomes of the chunk at every check: the paper's random
            draw from the past, kept by the rollout's own bookkeeping.
        erft: Errors in the context.
        resampling: Contexts that the network makes itself, with the world's sampler but for its guidance.
        spatial_balance: How far every position of a latent gets the same share of the flow loss, whatever its error: 0
            not at all, 1 wholly; see `SpatialBalance`.
        reward_weight: Weight of the squared error of the rewards.
        hazard_weight: Weight of the likelihood of the ends.
        num_starts: Starts that the exported world ships.
        sheet_rows: Episodes on a contact sheet.
        sheet_latents: Length of its rollouts.
    """

    name: str = "teacher"
    loop: LoopConfig = field(default_factory=LoopConfig)
    init_from: str = ""
    clip_latents: int = 40
    min_latents: int = 12
    num_copies: int = 1
    sigma_shift: float = 3.0
    prompt_dropout: float = 0.05
    promotion_cadence: int = 1
    promotion_interval: int = 12
    erft: ErftConfig = field(default_factory=ErftConfig)
    resampling: ResamplingConfig = field(default_factory=ResamplingConfig)
    spatial_balance: float = 0.0
    reward_weight: float = 0.1
    hazard_weight: float = 1.0
    num_starts: int = 256
    sheet_rows: int = 4
    sheet_latents: int = 40

    def __post_init__(self) -> None:
        if not 1 <= self.min_latents <= self.clip_latents:
            raise ConfigError(
                f"min_latents must lie between 1 and clip_latents {self.clip_latents}; got {self.min_latents}."
            )
        check_counts(self, "num_copies", "promotion_cadence", "promotion_interval", "num_starts")
        check_counts(self, "sheet_rows", "sheet_latents")
        if not self.sigma_shift > 0 or not 0 <= self.prompt_dropout <= 1:
            raise ConfigError(
                f"got sigma_shift={self.sigma_shift}, prompt_dropout={self.prompt_dropout}; expected a positive shift "
                "and a share in 0 to 1."
            )
        check_head_weights(self.reward_weight, self.hazard_weight)
        SpatialBalance.check(self.spatial_balance)


class TeacherStage(WorldStage):
    """Trains a `Generator` by gathered teacher forcing.

    Where a clip's prompt changes, slots keep the keys of their own time, also in a world whose rollouts read them anew
    (`MemoryConfig.recache`); so it is in the other stages that learn from real clips.

    Args:
        config: How it is trained.
        world: What it is trained for.
        tokenizer: Decodes sheets, and goes into the exported world.
        train: Latents to learn from.
        held_out: Latents of other episodes, for the sheets.
        device: Where it trains.
        text_encoder: Encodes texts where the world looks them up; it goes into the exported world.
    """

    def __init__(
        self,
        config: TeacherStageConfig,
        world: WorldConfig,
        tokenizer: Tokenizer,
        train: LatentBank,
        held_out: LatentBank,
        device: torch.device | str = "cpu",
        text_encoder: TextEncoder | None = None,
    ) -> None:
        self.config, self.world = config, world
        self.tokenizer = tokenizer
        if config.clip_latents % world.latents_per_chunk:
            raise ConfigError(
                f"clip_latents {config.clip_latents} must be a multiple of latents_per_chunk {world.latents_per_chunk}."
            )
        super().__init__(config, config.clip_latents, train, held_out, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            generator = Generator(world.actions, world.transformer)
        if config.init_from:
            generator.load_state_dict(teacher_weights(config.init_from, world))
        if text_encoder is not None:
            generator.prompts.use_encoder(text_encoder)
        self.module: nn.Module = generator
        self.starts = self._starts()
        self.errors = ErrorBank(config.erft, tokenizer.latent_shape, self.device)
        self.balance = SpatialBalance(config.spatial_balance, tokenizer.latent_shape[1:], self.device)

    def loss(self, batch: ClipStep, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Balanced flow matching on every latent, squared error of the rewards, likelihood of the ends."""
        assert isinstance(self.module, Generator)
        config, clips, team = self.config, batch.clips, self.team
        length = clips.latents.shape[1]
        copies = (len(clips.latents) * team.size, config.num_copies, length)
        num_chunks = length // self.world.latents_per_chunk
        promotions = random_promotions(
            copies[0], num_chunks, config.promotion_cadence, config.promotion_interval, generator
        )
        schedule = slot_schedule(self.world.memory, team.own(promotions))
        sigma = team.own(self._sigma(copies, generator))
        latents = clips.latents[:, None].expand(-1, config.num_copies, -1, -1, -1, -1)
        noise = team.own(torch.randn(*copies, *latents.shape[3:], generator=generator, device=self.device))
        noisy = interpolate(latents, noise, sigma)
        injected = self.errors.inject(clips.latents, batch.step, generator, team)
        dropped = team.own(self._dropped(copies, generator))
        seen = resampled(config.resampling, self.world.sampler, self.module, schedule, clips, injected, generator, team)
        output = gathered_forward(self.module, schedule, seen.context, noisy, sigma, clips.actions, dropped)

        error = output.velocity - velocity(latents, noise)
        squared = error.square().mean(dim=3)
        present = clips.present[:, None].expand(sigma.shape)
        asked = present[..., None, None] & seen.asked[:, None]
        known = present & seen.true[:, None]
        flow = masked_mean(squared, asked, team)
        balanced = masked_mean(self.balance.weights() * squared, asked, team) if self.balance.exponent else flow
        self.balance.add(error, known, team)
        reward, hazard = head_losses(output, clips, team, seen.true)
        estimate = denoised(noisy, output.velocity.detach(), sigma)
        residual = (estimate - latents)[known]
        self.errors.add(residual, sigma[known], generator, team)
        metrics = {"flow": flow, "reward": reward, "hazard": hazard, "residual": team.mean_of_all(residual.square())}
        if config.resampling.share:
            metrics["asked"] = seen.asked_of_made(clips.present, team)
        return balanced + config.reward_weight * reward + config.hazard_weight * hazard, metrics

    def state_dict(self) -> dict[str, Any]:
        """The error bank, and the running errors of the positions."""
        return {**self.errors.state_dict(), "balance": self.balance.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.errors.load_state_dict(state)
        if "balance" in state:
            self.balance.load_state_dict(state["balance"])

    def world_of(self, module: nn.Module) -> World:
        """A world of variant "teacher" with a copy of this generator."""
        assert isinstance(module, Generator)
        world = World(self.world, copy.deepcopy(self.tokenizer), copy.deepcopy(module), self.starts, device=self.device)
        measure_centre(world, centre_clips(self.train, self.world.latents_per_chunk, self.loop.seed, self.device))
        return world

    def _starts(self) -> EncodedStarts:
        """Beginnings of episodes in which the agent was mortal and which go on after them, from the training data."""
        length = self.world.prefix_latents
        episodes = self.train.mortal_episodes(length + 1)[: self.config.num_starts]
        if not episodes:
            raise DatasetError(
                f"got no episode without god mode of more than prefix_latents={length} latents; expected at least one, "
                "to start from. Collect longer episodes, or some without god mode."
            )
        index = self.train.first[episodes][:, None] + torch.arange(length)
        return EncodedStarts(
            latents=self.train.latents[index],
            actions=self.train.actions_at(index),
            seeds=self.train.seeds[episodes],
        )

    def _sigma(self, copies: tuple[int, int, int], generator: torch.Generator) -> Float[Tensor, "B M T"]:
        """One noise level per chunk and copy; the copies of a chunk share the range out between them."""
        chunk = self.world.latents_per_chunk
        lead = (copies[0], copies[1], copies[2] // chunk)
        sigma = stratified_sigma(lead, self.config.sigma_shift, generator)
        return sigma.repeat_interleave(chunk, dim=2)

    def _dropped(self, copies: tuple[int, int, int], generator: torch.Generator) -> Bool[Tensor, "B M T"]:
        """Which prompts are dropped: those of whole chunks, as guidance does it."""
        chunk = self.world.latents_per_chunk
        lead = (copies[0], copies[1], copies[2] // chunk)
        dropped = torch.rand(lead, generator=generator, device=self.device) < self.config.prompt_dropout
        return dropped.repeat_interleave(chunk, dim=2)


def teacher_weights(name_or_path: str, world: WorldConfig) -> dict[str, Tensor]:
    """Weights of another world's teacher, or of its student where it has no teacher, grown to this world's sizes.

    Raises:
        ConfigError: If its actions differ, or its sizes in more than what can grow.
    """
    variant = "teacher" if "teacher" in variants_of(name_or_path) else "student"
    other = World.from_pretrained(name_or_path, variant=variant, precision="fp32")
    found, expected = (config.actions.settings() for config in (other.config, world))
    if found != expected:
        raise ConfigError(f"The {variant} in {name_or_path} takes {found}; the world asks for {expected}.")
    before, depth = other.config.transformer, world.transformer.depth
    try:
        weights = deepened_generator(other.generator.state_dict(), before.depth, depth)
        return widened_generator(weights, replace(before, depth=depth), world.transformer)
    except ConfigError as error:
        raise ConfigError(f"The {variant} in {name_or_path}: {error}") from error
