"""What to export: from which world, under which policies, in which format."""

import math
from dataclasses import dataclass, field

from cfworld.errors import ConfigError
from cfworld.settings import Choice, check_counts

__all__ = ["ExportConfig", "Format"]


class Format(Choice):
    """The formats of datasets."""

    MINARI = "minari"
    LEROBOT = "lerobot"


@dataclass(kw_only=True, slots=True)
class ExportConfig:
    """What to export. Episode e is a function of these settings and e alone.

    Attributes:
        world: a world of the zoo, or a checkpoint folder.
        out: the dataset's folder. The same settings resume what was interrupted there.
        format: minari or lerobot.
        variant: student or teacher; None for the best there is.
        episodes: how many.
        policies: weights of the policies, of which every episode draws one, as `cfworld.data.policies.who_acts` spells
            them.
        seed: episode e is the one that `reset(seed=seed + e)` begins.
        starts: where episodes begin, as `WorldEnv` takes them (an index in digits too); None for all of the world's.
        max_steps: truncate an episode after so many steps; None for the world's own horizon.
        ends: sampled, greedy or never; None for the world's own rule.
        truncate_above: truncate an episode after a step whose novelty is higher; None never does.
        num_steps: denoising steps; None for the world's own.
        memory: a preset in place of the world's own memory.
        device: where to generate. On a CPU the data do not depend on `rows`, on a GPU their last digits may.
        rows: episodes generated side by side.
        shard_episodes: episodes in a file; an interruption loses at most this many, and those under way.
        use_videos: of lerobot: MP4 files, which lose a little; False keeps every pixel, as PNG within the tables.
        crf: of lerobot: what the videos may lose, from 0 (very little) to 51.
        task: of lerobot: what the episodes are about; None names the world.
    """

    world: str
    out: str
    format: str = Format.MINARI.value
    variant: str | None = None
    episodes: int = 1000
    policies: dict[str, float] = field(default_factory=lambda: {"sticky": 1.0})
    seed: int = 0
    starts: list[str] | None = None
    max_steps: int | None = None
    ends: str | None = None
    truncate_above: float | None = None
    num_steps: int | None = None
    memory: str | None = None
    device: str = "cpu"
    rows: int = 16
    shard_episodes: int = 32
    use_videos: bool = True
    crf: int = 18
    task: str | None = None

    def __post_init__(self) -> None:
        if self.format not in (known := [one.value for one in Format]):
            raise ConfigError(f"got format={self.format!r}; expected one of {', '.join(known)}")
        check_counts(self, "episodes", "rows", "shard_episodes")
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(
                f"got max_steps={self.max_steps}; expected at least 1, or null for the world's own horizon"
            )
        if not 0 <= self.seed < 2**62:
            raise ConfigError(f"got seed={self.seed}; expected 0 or more, below 2^62")
        if not self.policies or min(self.policies.values()) < 0 or not 0 < sum(self.policies.values()) < math.inf:
            raise ConfigError(f"got policies={self.policies}; expected finite weights >= 0, at least one above 0")
        if not 0 <= self.crf <= 51:
            raise ConfigError(f"got crf={self.crf}; expected 0 to 51")
