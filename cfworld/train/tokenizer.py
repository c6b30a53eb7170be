"""The stage that trains the block VAE: reconstruction weighted towards what moves and what is rare."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor, nn

from cfworld import files
from cfworld.errors import ConfigError
from cfworld.tokenizer.block_vae import BlockVAE, BlockVAEConfig, to_pixels
from cfworld.tokenizer.block_vae_files import read_block_vae, write_block_vae
from cfworld.train.banks.block_draw import BlockDraw
from cfworld.train.banks.frame_bank import FrameBank
from cfworld.train.loop_config import LoopConfig
from cfworld.train.optim import Role
from cfworld.train.processes.team import ALONE, Team
from cfworld.train.reconstruction.adversary import AdversarialPair
from cfworld.train.reconstruction.detail_critic import DetailCritic
from cfworld.train.reconstruction.frame_errors import (
    contact_sheet,
    mean_error,
    pixel_weights,
    reconstruction_figures,
    weighted_error,
)
from cfworld.train.widening import widened_vae
from cfworld.world.pretrained import is_world, load_tokenizer

__all__ = ["TokenizerStage", "TokenizerStageConfig"]

EVAL_BATCH = 32
CRITIC_BETAS = (0.5, 0.95)
NUM_WIDENING_BLOCKS = 2048


@dataclass(kw_only=True, slots=True)
class TokenizerStageConfig:
    """How the tokenizer is trained.

    Attributes:
        name: The stage's name; its runs lie in runs/<world>/<name>.
        loop: Length, rates and cadence.
        rare_weight: Extra weight of a pixel per unit of its distance from the dataset's median frame.
        motion_weight: Extra weight of a pixel per unit of its change since the frame before.
        weight_clip: Distances and changes count up to this much (pixels span 0 to 1).
        absolute_weight: Weight of the absolute error.
        squared_weight: Weight of the squared error.
        edge_weight: Weight of the error of the spatial differences, which keeps textures sharp.
        mean_weight: Weight of the absolute and the squared error of 5x5 means. In the place of the three before, it
            leaves the grain to the critic.
        kl_weight: Weight of the Kullback-Leibler divergence, a mean over latent elements.
        adversarial_weight: Weight of the adversarial term, in units that make its gradient at the decoder's last
            layer as large as the reconstruction's; 0 leaves it and its critic out.
        feature_weight: Weight, in such units, of the distance between the critic's features of real and of
            reconstructed blocks; it needs an adversarial_weight.
        adversarial_start: Step at which both begin; the critic learns from the first step.
        critic_lr_ratio: The critic's learning rate as a multiple of the loop's.
        init_from: Folder of an exported tokenizer to begin with, or a world, or its name in the zoo; "" begins with
            random weights. What it begins with may have fewer channels and no shortcuts (see `widened_vae`).
        freeze_encoder: Train the decoder alone: the latents, and what was trained on them, stay valid.
        detail_share: Share of the blocks that are drawn in proportion to their grain; the others are drawn evenly.
        latent_noise: Each row's latents get noise of up to so many standard deviations before decoding.
        max_gigabytes: Frames held in memory of each of the two datasets; of a larger one only a part is used.
        num_statistics_blocks: Blocks over which the latents' mean and scale are taken at the export.
        num_eval_blocks: Held-out blocks over which the figures are taken.
    """

    name: str = "tokenizer"
    loop: LoopConfig = field(default_factory=LoopConfig)
    rare_weight: float = 8.0
    motion_weight: float = 8.0
    weight_clip: float = 0.5
    absolute_weight: float = 1.0
    squared_weight: float = 1.0
    edge_weight: float = 0.5
    mean_weight: float = 0.0
    kl_weight: float = 1e-4
    adversarial_weight: float = 0.0
    feature_weight: float = 0.0
    adversarial_start: int = 0
    critic_lr_ratio: float = 5.0
    init_from: str = ""
    freeze_encoder: bool = False
    detail_share: float = 0.0
    latent_noise: float = 0.1
    max_gigabytes: float = 6.0
    num_statistics_blocks: int = 2048
    num_eval_blocks: int = 256

    def __post_init__(self) -> None:
        for name in (
            "rare_weight",
            "motion_weight",
            "weight_clip",
            "absolute_weight",
            "squared_weight",
            "edge_weight",
            "mean_weight",
            "kl_weight",
            "adversarial_weight",
            "feature_weight",
            "adversarial_start",
            "critic_lr_ratio",
            "detail_share",
            "latent_noise",
            "max_gigabytes",
        ):
            if not getattr(self, name) >= 0.0:
                raise ConfigError(f"got {name}={getattr(self, name)}; expected 0 or more.")
        if self.detail_share > 1.0:
            raise ConfigError(f"got detail_share={self.detail_share}; expected 0 to 1.")
        if self.feature_weight > 0.0 and self.adversarial_weight == 0.0:
            raise ConfigError(
                f"got feature_weight={self.feature_weight} without adversarial_weight; expected one, since the "
                "features are those of its critic."
            )
        if min(self.num_statistics_blocks, self.num_eval_blocks) < 2:
            raise ConfigError(
                f"got num_statistics_blocks={self.num_statistics_blocks}, "
                f"num_eval_blocks={self.num_eval_blocks}; expected at least 2 of each."
            )
        if self.freeze_encoder and not self.init_from:
            raise ConfigError("got freeze_encoder without init_from; a random encoder is not worth keeping.")


class Batch(NamedTuple):
    """Blocks to reconstruct.

    Attributes:
        pixels: Frames and colours on the channel axis [B, P, H, W], -1 to 1.
        weights: Weight of each pixel and frame [B, P, H, W].
        step: The step that they are for.
    """

    pixels: Tensor
    weights: Tensor
    step: int


class TokenizerStage:
    """Trains a `BlockVAE` on blocks drawn from all alignments of all episodes.

    Args:
        config: Weights of the loss and the loop.
        tokenizer: Sizes of the tokenizer.
        train: Blocks to learn from.
        held_out: Blocks of other episodes, for figures and sheets.
        device: Where batches go.
    """

    def __init__(
        self,
        config: TokenizerStageConfig,
        tokenizer: BlockVAEConfig,
        train: FrameBank,
        held_out: FrameBank,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.train = train
        self.device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            self.vae = _initial(config, tokenizer, train)
            self.module: nn.Module = self.vae
            if config.adversarial_weight > 0.0:
                self.module = AdversarialPair(
                    self.vae, DetailCritic(3 * tokenizer.frames_per_latent, tokenizer.latent_channels)
                )
        self.latent_shape = self.vae.latent_shape
        seed = config.loop.seed
        self.median = torch.from_numpy(train.median(np.random.default_rng((seed, 1)))).to(self.device)
        self.eval_blocks = torch.from_numpy(held_out.draw(np.random.default_rng((seed, 2)), config.num_eval_blocks))
        self.draw = BlockDraw(train, config.detail_share)
        self.team: Team = ALONE

    def join(self, team: Team) -> None:
        """Share the blocks out."""
        self.team = team

    @property
    def product(self) -> str:
        """The tokenizer, without its critic."""
        return "vae" if isinstance(self.module, AdversarialPair) else ""

    def roles(self) -> Mapping[str, Role]:
        """The tokenizer, and its critic at a pace of its own."""
        if not isinstance(self.module, AdversarialPair):
            return {"": Role(module=self.module)}
        critic = Role(module=self.module.critic, lr_ratio=self.config.critic_lr_ratio, betas=CRITIC_BETAS)
        return {"vae": Role(module=self.vae), "critic": critic}

    def batch(self, step: int) -> Batch:
        """Draw the blocks of a step."""
        loop = self.config.loop
        numbers = self.draw.numbers(np.random.default_rng((loop.seed, 0, step)), loop.batch_size)
        frames = torch.from_numpy(self.train.at(self.team.own(numbers))).to(self.device)
        return Batch(to_pixels(frames[:, 1:]), self._weights(frames), step)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruct a batch and compare."""
        config, team = self.config, self.team
        rows = batch.pixels.shape[0] * team.size
        shape = (rows, *self.latent_shape)
        noise = team.own(torch.randn(shape, generator=generator, device=self.device))
        level = torch.rand((rows, 1, 1, 1), generator=generator, device=self.device) * config.latent_noise
        jitter = team.own(level * torch.randn(shape, generator=generator, device=self.device))
        pixels, mean, logvar = self.vae(batch.pixels, noise, jitter, team.channel_std)
        absolute, squared, edges = weighted_error(pixels.float(), batch.pixels, batch.weights)
        kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        loss = config.absolute_weight * absolute + config.squared_weight * squared + config.edge_weight * edges
        if config.mean_weight > 0.0:
            loss = loss + config.mean_weight * mean_error(pixels.float(), batch.pixels, batch.weights)
        loss = loss + config.kl_weight * kl
        metrics = {"absolute": absolute, "squared": squared, "edges": edges, "kl": kl}
        if not isinstance(self.module, AdversarialPair):
            return loss, metrics
        known = self.vae.normalised(mean.detach())
        criticism = self.module.criticise(batch.pixels, pixels.float(), known, team)
        metrics["critic"] = criticism.loss
        if batch.step >= config.adversarial_start:
            weights = {"adversarial": config.adversarial_weight, "features": config.feature_weight}
            terms = self.module.fooled(pixels.float(), known, criticism, team, match=config.feature_weight > 0.0)
            metrics |= dict(zip(weights, terms, strict=False))
            steps = batch.step - config.adversarial_start
            balanced = self.module.balanced(loss, terms, self.vae.last_weight, steps, team)
            for weight, term in zip(weights.values(), balanced, strict=False):
                loss = loss + weight * term
        return loss + criticism.loss, metrics

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the module is all there is."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing."""

    def sample(self, ema_module: nn.Module, step: int, folder: Path) -> Mapping[str, float]:
        """Write real blocks above their reconstructions, and return figures over held-out blocks."""
        assert isinstance(ema_module, BlockVAE)
        decoded = torch.cat([self._reconstruct(ema_module, part) for part in self.eval_blocks.split(EVAL_BATCH)])
        scores = self._weights(self.eval_blocks.to(self.device)).mean(dim=(1, 2, 3)).cpu()
        image = contact_sheet(self.eval_blocks[:, 1:], decoded, scores)
        with files.write_aside(folder / f"step_{step:08d}.png") as aside:
            Image.fromarray(image.numpy()).save(aside)
        return reconstruction_figures(self.eval_blocks, decoded)

    def export(self, ema_module: nn.Module, folder: Path) -> Mapping[str, Any]:
        """Write the tokenizer with the statistics of its latents; return figures of the held-out blocks."""
        assert isinstance(ema_module, BlockVAE)
        tokenizer = copy.deepcopy(ema_module)
        if not self.config.freeze_encoder:
            tokenizer.set_statistics(*self._statistics(tokenizer))
        write_block_vae(tokenizer, folder)
        figures = {
            **self.sample(tokenizer, self.config.loop.steps, folder),
            "parameters": sum(parameter.numel() for parameter in tokenizer.parameters()),
            "latent_mean": tokenizer.latent_mean.cpu(),
            "latent_std": tokenizer.latent_std.cpu(),
        }
        files.write_json(folder / "figures.json", figures)
        return figures

    def _weights(self, frames: UInt8[Tensor, "B G H W 3"]) -> Float32[Tensor, "B P H W"]:
        config = self.config
        return pixel_weights(
            frames,
            self.median,
            rare=config.rare_weight,
            motion=config.motion_weight,
            clip=config.weight_clip,
        )

    @torch.no_grad()
    def _reconstruct(self, tokenizer: BlockVAE, blocks: Tensor) -> Tensor:
        frames = blocks[:, 1:].to(self.device)
        return tokenizer.decode(tokenizer.encode(frames)).cpu()

    def _statistic_batches(self) -> Iterator[Tensor]:
        rng = np.random.default_rng((self.config.loop.seed, 3))
        for start in range(0, self.config.num_statistics_blocks, EVAL_BATCH):
            count = min(EVAL_BATCH, self.config.num_statistics_blocks - start)
            yield torch.from_numpy(self.train.draw(rng, count)[:, 1:]).to(self.device)

    @torch.no_grad()
    def _statistics(self, tokenizer: BlockVAE) -> tuple[Tensor, Tensor]:
        means = [tokenizer.posterior(to_pixels(frames))[0] for frames in self._statistic_batches()]
        values = rearrange(torch.cat(means), "B C h w -> C (B h w)")
        return values.mean(dim=1), values.std(dim=1)


def _initial(config: TokenizerStageConfig, sizes: BlockVAEConfig, train: FrameBank) -> BlockVAE:
    """The tokenizer before its first step.

    Raises:
        ConfigError: If the tokenizer in `init_from` has other sizes, and cannot be widened to these.
    """
    if not config.init_from:
        return BlockVAE(sizes)
    vae = load_tokenizer(config.init_from) if is_world(config.init_from) else read_block_vae(Path(config.init_from))
    if not isinstance(vae, BlockVAE):
        raise ConfigError(
            f"The tokenizer of init_from={config.init_from} is a {type(vae).__name__}; expected a BlockVAE. Give a "
            "world with one, or the export of stage=tokenizer."
        )
    if vae.config != sizes:
        blocks = train.draw(np.random.default_rng((config.loop.seed, 4)), NUM_WIDENING_BLOCKS)
        try:
            vae = widened_vae(vae, sizes, to_pixels(torch.from_numpy(blocks[:, 1:])))
        except ConfigError as error:
            raise ConfigError(f"{config.init_from}: {error}") from error
    encoding = vae.encoding_state()
    for name, parameter in vae.named_parameters():
        parameter.requires_grad_(not (config.freeze_encoder and name in encoding))
    return vae.train()
