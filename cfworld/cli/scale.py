"""Whether frames can be drawn at a scale and kept as a video."""

from cfworld.envs.overlay import MIN_WIDTH, annotated_size, tiled_size
from cfworld.errors import ConfigError
from cfworld.export.video import MAX_SIDE, can_be_encoded

__all__ = ["check_scale"]


def check_scale(scale: int, resolution: tuple[int, int], num_pictures: int = 1, least: int = 1) -> None:
    """Refuse a scale at which there would be no video.

    Args:
        scale: pixels of the video per pixel of a frame.
        resolution: height and width of a frame.
        num_pictures: frames side by side.
        least: no smaller scale is offered.

    Raises:
        ConfigError: if the panel below a frame has no room, or the pictures are too large for a video.
    """
    if _fits(scale, resolution, num_pictures):
        return
    fits = [one for one in range(least, MAX_SIDE + 1) if _fits(one, resolution, num_pictures)]
    height, width = tiled_size(annotated_size(resolution, scale), num_pictures)
    kind = "a scale" if any(one % 2 for one in fits) else "an even scale"
    expected = f"{kind} from {fits[0]} to {fits[-1]}" if fits else "fewer frames side by side: no scale fits so many"
    raise ConfigError(
        f"got scale={scale} for {num_pictures} frame(s) of {resolution[0]} x {resolution[1]} pixels side by side, a "
        f"video of {height} x {width}; expected {expected}"
    )


def _fits(scale: int, resolution: tuple[int, int], num_pictures: int) -> bool:
    size = annotated_size(resolution, scale)
    return size[1] >= MIN_WIDTH and can_be_encoded(*tiled_size(size, num_pictures))
