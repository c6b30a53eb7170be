"""Episodes and rollouts in the formats of others."""

from cfworld.export.config import ExportConfig
from cfworld.export.dataset import export_dataset
from cfworld.export.film_strip import film_strip, write_film_strip
from cfworld.export.video import VideoWriter, open_video, write_video

__all__ = [
    "ExportConfig",
    "VideoWriter",
    "export_dataset",
    "film_strip",
    "open_video",
    "write_film_strip",
    "write_video",
]
