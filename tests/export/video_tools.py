"""Looking at a video with FFmpeg itself."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np


def read(path: Path, height: int, width: int) -> tuple[str, np.ndarray]:
    """What FFmpeg says about a video, and its frames."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stderr.decode(), np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
