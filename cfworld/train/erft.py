"""Error-Recycling Fine-Tuning: the context that a teacher learns from carries the errors that it makes itself.

Context Forcing, section 3.3: X~_{1:k} = X_{1:k} + I e_drift, with e_drift from a bank of past residuals and I a
Bernoulli draw; the target stays that of the clean continuation.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cfworld.diffusion import expand_sigma
from cfworld.errors import ConfigError
from cfworld.settings import check_counts
from cfworld.train.processes.team import ALONE, Team

__all__ = ["ErftConfig", "ErrorBank"]


@dataclass(kw_only=True, slots=True)
class ErftConfig:
    """How errors are banked and put into the context.

    Attributes:
        probability: Share of context latents that get an error, in clips that get any.
        clean_share: Share of clips whose context stays clean.
        start_step: Step at which injection begins: the first residuals are those of an untrained network.
        num_levels: Grid of noise levels, each with a bank of its own.
        capacity: Residuals kept per level.
        max_sigma: Residuals of noisier predictions are not used: they are blur rather than drift. A bank whose middle
            lies above it is one of noisier predictions.
        per_step: Residuals that one training step adds.
        noise: Largest standard deviation of white noise added to context latents besides.
    """

    probability: float = 0.5
    clean_share: float = 0.3
    start_step: int = 300
    num_levels: int = 10
    capacity: int = 256
    max_sigma: float = 0.8
    per_step: int = 32
    noise: float = 0.05

    def __post_init__(self) -> None:
        for name in ("probability", "clean_share", "max_sigma"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"got erft.{name}={getattr(self, name)}; expected 0 to 1.")
        check_counts(self, "num_levels", "capacity", "per_step", prefix="erft.")
        check_counts(self, "start_step", least=0, prefix="erft.")
        if not self.noise >= 0:
            raise ConfigError(f"got erft.noise={self.noise}; expected 0 or more.")

    @property
    def injects(self) -> bool:
        """Whether anything is ever put into a context."""
        return self.probability > 0 or self.noise > 0

    @property
    def usable(self) -> Bool[Tensor, " num_levels"]:
        """Levels whose residuals may be injected: those whose middle `max_sigma` reaches."""
        return (torch.arange(self.num_levels) + 0.5) / self.num_levels <= self.max_sigma

    def level(self, sigma: Float[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """The bank's level for each noise level, on the CPU."""
        return (sigma * self.num_levels).long().clamp(max=self.num_levels - 1).cpu()

    def check_reach(self, sigma: Float[Tensor, " levels"]) -> None:
        """Make sure that some of the noise levels at which errors are made may give any.

        Raises:
            ConfigError: If errors are asked for and `max_sigma` excludes them all.
        """
        if self.probability and not self.usable[self.level(sigma)].any():
            raise ConfigError(
                f"got erft.max_sigma={self.max_sigma} where predictions are made at the noise levels "
                f"{[round(level, 3) for level in sigma.tolist()]}; expected it to reach the lowest, or no error would "
                "ever be injected. Ask for more levels (num_levels) or a lower sigma_shift, raise erft.max_sigma, or "
                "do without errors by erft.probability=0."
            )


class ErrorBank:
    """Residuals x0_hat - x0 by noise level; the oldest of a level makes room.

    It takes no space before the first one, and none at all where nothing is ever injected.
    """

    def __init__(self, config: ErftConfig, latent_shape: tuple[int, ...], device: torch.device) -> None:
        self.config, self.latent_shape = config, latent_shape
        self.errors = torch.zeros(0, dtype=torch.bfloat16, device=device)
        self.added = torch.zeros(config.num_levels, dtype=torch.int64)

    def add(
        self,
        residuals: Float[Tensor, "M C h w"],
        sigma: Float[Tensor, " M"],
        generator: torch.Generator,
        team: Team = ALONE,
    ) -> None:
        """Bank a random few of the residuals of a step: of a team's, who all bank the same."""
        if not self.config.injects:
            return
        self._make_room()
        number = team.total(len(residuals))
        chosen = torch.randperm(number, generator=generator, device=sigma.device)[: self.config.per_step]
        levels = self.config.level(team.take(sigma, chosen)).tolist()
        for residual, level in zip(team.take(residuals, chosen), levels, strict=True):
            self.errors[level, int(self.added[level]) % self.config.capacity] = residual.to(self.errors.dtype)
            self.added[level] += 1

    def inject(
        self, clean: Float[Tensor, "B T C h w"], step: int, generator: torch.Generator, team: Team = ALONE
    ) -> Float[Tensor, "B T C h w"]:
        """Put errors into context latents: white noise, and what is banked at levels up to `max_sigma`, if anything."""
        config = self.config
        lead, device = (clean.shape[0] * team.size, clean.shape[1]), clean.device
        usable = self._usable()
        if step < config.start_step or not (len(usable) or config.noise):
            return clean
        drifts = torch.rand(lead[0], 1, generator=generator, device=device) >= config.clean_share
        injected = clean
        if len(usable):
            hit = drifts & (torch.rand(lead, generator=generator, device=device) < config.probability)
            pick = torch.randint(len(usable), lead, generator=generator, device=device)
            errors = self.errors.flatten(0, 1)[usable[team.own(pick)]].to(clean.dtype)
            injected = injected + expand_sigma(team.own(hit).to(clean.dtype), clean) * errors
        level = config.noise * torch.rand(lead, generator=generator, device=device) * drifts
        white = team.own(torch.randn(*lead, *clean.shape[2:], generator=generator, device=device))
        return injected + expand_sigma(team.own(level), clean) * white

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that resuming needs."""
        return {"errors": self.errors, "added": self.added}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        if self.config.injects and state["added"].any():
            self._make_room()
            self.errors.copy_(state["errors"])
            self.added.copy_(state["added"])

    def _make_room(self) -> None:
        if not len(self.errors):
            shape = (self.config.num_levels, self.config.capacity, *self.latent_shape)
            self.errors = self.errors.new_zeros(shape)

    def _usable(self) -> Tensor:
        """Flat indices of the residuals that may be injected."""
        filled = torch.arange(self.config.capacity) < self.added[:, None]
        return (filled & self.config.usable[:, None]).flatten().nonzero()[:, 0].to(self.errors.device)
