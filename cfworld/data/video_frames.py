"""Frames out of a video file, through FFmpeg."""

import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8

from cfworld.errors import DatasetError

__all__ = ["video_frames"]


def video_frames(
    path: Path, first_second: float, count: int, fps: float, resolution: tuple[int, int]
) -> UInt8[np.ndarray, "T H W 3"]:
    """Decode consecutive frames.

    Args:
        path: The video.
        first_second: When the first of them is shown.
        count: How many.
        fps: Frames per second.
        resolution: Their height and width.

    Returns:
        uint8 [count, H, W, 3].

    Raises:
        DatasetError: The video is missing or damaged, or holds fewer frames or others.
    """
    begin = max(first_second - 0.5 / fps, 0.0)  # half a frame before, so that no rounding skips the first one
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-threads", "1", "-ss", f"{begin:.6f}", "-i", str(path)]
    command += ["-an", "-frames:v", str(count), "-fps_mode", "passthrough"]
    command += ["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]  # each frame behind a header with its size
    decoded = subprocess.run(command, capture_output=True, check=False)
    height, width = resolution
    header = f"P6\n{width} {height}\n255\n".encode()
    found = re.match(rb"P6\n(\d+) (\d+)\n", decoded.stdout)
    if found and not decoded.stdout.startswith(header):
        raise DatasetError(
            f"{str(path)!r} has frames of {int(found[2])}x{int(found[1])}; expected {height}x{width}, the shape that "
            "its info.json names, height first: correct that"
        )
    size = len(header) + height * width * 3
    if len(decoded.stdout) != count * size:
        reason = decoded.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it ended early"]
        raise DatasetError(
            f"{str(path)!r} gave {len(decoded.stdout) // size} of {count} frames from second {first_second:.3f} "
            f"({reason[0]}): copy the dataset again"
        )
    frames = np.frombuffer(decoded.stdout, np.uint8).reshape(count, size)[:, len(header) :]
    return frames.reshape(count, height, width, 3)
