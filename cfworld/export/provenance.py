"""Where generated episodes come from, in words that a dataset can carry."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import cfworld
from cfworld.data.policy_files import policy_digests
from cfworld.export.config import ExportConfig, Format
from cfworld.world import World, config_to_dict, find_world
from cfworld.world.checkpoint import read_manifest

__all__ = ["ExportPlan", "provenance"]


def provenance(config: ExportConfig, world: World) -> dict[str, Any]:
    """All that tells where the episodes of an export come from, but for the seed and policy of each.

    Args:
        config: The export.
        world: Its world, as it was loaded.

    Returns:
        Plain JSON values. `weights` holds the SHA-256 of every file of weights that the world was read from, and
        `policy_files` what `policy_digests` says of every script and agent.
    """
    manifest = read_manifest(find_world(config.world))
    return {
        "generated": True,
        "cfworld": cfworld.__version__,
        "world": world.config.name,
        "variant": world.variant,
        "fingerprint": world.fingerprint,
        "weights": {**manifest["variants"][world.variant]["files"], **manifest["tokenizer"]},
        "memory": config_to_dict(world.config.memory) | {"preset": config.memory},
        "sampler": config_to_dict(world.config.sampler),
        "learned_from": world.config.source,
        "policy_files": policy_digests(config.policies),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportPlan:
    """An export and where its episodes come from: what `cfworld.data.collection.Collection` asks for."""

    config: ExportConfig
    provenance: dict[str, Any]

    @property
    def source(self) -> str:
        """Named so that nobody takes it for an environment."""
        return f"generated:{self.provenance['world']}/{self.provenance['variant']}"

    @property
    def episodes(self) -> int:
        """How many episodes."""
        return self.config.episodes

    @property
    def ticks(self) -> int:
        """No limit but that of episodes."""
        return 0

    def recorded(self) -> dict[str, Any]:
        """The settings that the data are a function of. How many, and how many at once, may change between runs."""
        settings = asdict(self.config)
        free = {"out", "episodes", "world", "variant", "memory"}  # the last three are told by the provenance
        if self.config.device == "cpu":
            free.add("rows")
        if self.config.format == Format.MINARI:
            free |= {"use_videos", "crf", "task"}
        kept = {name: value for name, value in settings.items() if name not in free}
        return json.loads(json.dumps({**kept, **self.provenance}, sort_keys=True))

    def episodes_of(self, shard: int) -> range:
        """The indices of the episodes of a shard; none when the export ends before it."""
        size = self.config.shard_episodes
        return range(shard * size, min((shard + 1) * size, self.config.episodes))
