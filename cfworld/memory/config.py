"""What the memory keeps and when it promotes."""

import math
from dataclasses import dataclass

from cfworld.errors import ConfigError
from cfworld.settings import Choice, check_counts

__all__ = ["MemoryConfig", "Positions", "PromotionRule"]


class PromotionRule(Choice):
    """How a chunk comes to be flagged for slow memory when its turn to be checked has come."""

    SURPRISAL = "surprisal"
    """Eq. 7: its keys differ from those of the previous check."""
    UNIFORM = "uniform"
    """Always."""


class Positions(Choice):
    """What a slot's temporal position is."""

    BOUNDED = "bounded"
    """Eq. 8: its rank among the valid slots, never more than num_sink + num_slow + num_fast - 1."""
    ABSOLUTE = "absolute"
    """The index of its latent since the beginning of the episode (an ablation)."""


@dataclass(kw_only=True, slots=True)
class MemoryConfig:
    """Sizes, cadence and promotion rule of the slow-fast memory, counted in latents.

    Attributes:
        num_sink: Latents kept from the beginning of the episode (N_s).
        num_slow: Promoted latents, oldest dropped first (N_c).
        num_fast: Most recent latents (N_l), the current chunk among them.
        latents_per_chunk: Latents generated together.
        consolidate_every: Chunks from one promotion check to the next.
        rule: How a check decides.
        threshold: Similarity tau below which a chunk is flagged.
        centred: Subtract the network's mean key over typical data before comparing, since raw token means have a
            large common part and their cosine saturates near one.
        target_rate: Share of checks that should promote; tau then follows it. 0 keeps tau fixed, as in the paper.
        adaptation: Step by which an adaptive tau moves after each check.
        positions: Bounded by rank (the method) or absolute (an ablation).
        recache: When a row's prompt changes, read its slots' latents anew under the new prompt: for worlds whose
            prompts are descriptions that hold for long, as Wan's are, and not one action after the other. Rollouts do
            so, in training too; stages that learn from real clips do not.
    """

    num_sink: int = 2
    num_slow: int = 8
    num_fast: int = 7
    latents_per_chunk: int = 1
    consolidate_every: int = 24
    rule: PromotionRule = PromotionRule.SURPRISAL
    threshold: float = 0.95
    centred: bool = False
    target_rate: float = 0.0
    adaptation: float = 0.02
    positions: Positions = Positions.BOUNDED
    recache: bool = False

    def __post_init__(self) -> None:
        self.rule, self.positions = PromotionRule(self.rule), Positions(self.positions)
        check_counts(self, "num_sink", "num_slow", least=0)
        check_counts(self, "num_fast", "latents_per_chunk", "consolidate_every")
        if self.num_fast <= self.latents_per_chunk:
            raise ConfigError(
                f"num_fast counts the current chunk and must exceed latents_per_chunk {self.latents_per_chunk}; "
                f"got {self.num_fast}. Without a past there is nothing to continue."
            )
        if not 0 <= self.target_rate <= 1:
            raise ConfigError(f"target_rate is a share of the checks, 0 to 1; got {self.target_rate}.")
        if not math.isfinite(self.threshold):
            raise ConfigError(
                f"got threshold={self.threshold}; expected a cosine: at -1 nothing is promoted, beyond 1 everything."
            )
        if not 0 <= self.adaptation < math.inf:
            raise ConfigError(f"got adaptation={self.adaptation}; expected the step of an adaptive tau, 0 or more.")

    @property
    def num_stored_fast(self) -> int:
        """Fast slots that hold the past while a chunk is generated: the chunk itself takes the others."""
        return self.num_fast - self.latents_per_chunk

    @property
    def num_slots(self) -> int:
        """Stored slots S: sink, slow and the past part of fast."""
        return self.num_sink + self.num_slow + self.num_stored_fast

    @property
    def summary(self) -> str:
        """Sizes, cadence and rule in one line."""
        sizes = f"sink {self.num_sink}, slow {self.num_slow}, fast {self.num_fast}"
        slow = f", {self.rule.value} every {self.consolidate_every} chunks" if self.num_slow else ""
        return f"{sizes}{slow}, {self.positions.value} positions"

    def nominal_span(self, promotion_rate: float = 1.0) -> float:
        """Latents from the oldest slow slot to now: N_s + N_l + N_c x interval / promotion rate."""
        interval = self.consolidate_every * self.latents_per_chunk
        return self.num_sink + self.num_fast + self.num_slow * interval / max(promotion_rate, 1e-9)
