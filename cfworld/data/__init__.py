"""Experience: episodes, their datasets, their collection, and the clips that training draws from them."""

from cfworld.data.clips import Clip, ClipSampler
from cfworld.data.collect import collect
from cfworld.data.collection import CollectConfig
from cfworld.data.episode import Blocks, Episode, to_blocks
from cfworld.data.shards import StoreWriter
from cfworld.data.store import EpisodeStore

__all__ = [
    "Blocks",
    "Clip",
    "ClipSampler",
    "CollectConfig",
    "Episode",
    "EpisodeStore",
    "StoreWriter",
    "collect",
    "to_blocks",
]
