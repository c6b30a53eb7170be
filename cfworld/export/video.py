"""MP4 video through FFmpeg."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8

from cfworld import files
from cfworld.errors import ShapeError

__all__ = ["MAX_SIDE", "VideoWriter", "can_be_encoded", "open_video", "write_video"]

_CRF = 10  # of 51, 0 the best: small text and single pixels stay readable
MAX_SIDE = 16_384
"""Greatest height and width that the encoder takes."""
_EDGE, _MAX_AREA = 128, 2**28
"""FFmpeg refuses pictures whose area, with so much more on each axis, is not below this."""


def can_be_encoded(height: int, width: int) -> bool:
    """Whether frames of this size can become a video: H.264 halves the colour planes, and has a greatest size."""
    even = height % 2 == width % 2 == 0
    return even and max(height, width) <= MAX_SIDE and (height + _EDGE) * (width + _EDGE) < _MAX_AREA


class VideoWriter:
    """Appends frames to a video; `open_video` makes one.

    Args:
        path: the file to write, ending in `.mp4`.
        fps: frames per second of the video.
        crf: how much may be lost, from 0 to 51.
        gop: frames from one that stands for itself to the next, which are what a reader must decode to see any one of
            them; None leaves it to the encoder. With it a video is the same whatever machine encodes it.
    """

    def __init__(self, path: Path, fps: int | float, crf: int = _CRF, gop: int | None = None):
        self._path = path
        self._fps = fps
        self._options = ["-preset", "veryfast", "-crf", str(crf), "-movflags", "+faststart"]
        if gop is not None:
            self._options += ["-g", str(gop), "-bf", "0", "-threads", "1"]
        self._shape: tuple[int, ...] | None = None
        self._encoder = None
        self.num_frames = 0
        """Frames appended so far."""

    def add(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """Append one frame.

        Args:
            frame: uint8 [H, W, 3], the same size for every frame; see `can_be_encoded`.

        Raises:
            ShapeError: if H or W is odd, too large, or differs from that of the first frame.
        """
        if self._encoder is None:
            self._start(frame.shape)
        if frame.shape != self._shape:
            raise ShapeError(f"got a frame of shape {frame.shape}; expected {self._shape} like the first one")
        assert self._encoder is not None
        self._encoder.send(np.ascontiguousarray(frame))
        self.num_frames += 1

    def close(self) -> None:
        """Flush the encoder."""
        if self._encoder is not None:
            self._encoder.close()

    def _start(self, shape: tuple[int, ...]) -> None:
        height, width = shape[:2]
        if not can_be_encoded(height, width):
            raise ShapeError(
                f"got frames of {height} x {width} pixels; expected an even height and width of at most {MAX_SIDE}: "
                "pad or shrink them"
            )
        self._shape = shape
        self._encoder = imageio_ffmpeg.write_frames(
            str(self._path),
            (width, height),
            fps=self._fps,  # pyright: ignore[reportArgumentType]  # a float works too
            codec="libx264",
            pix_fmt_out="yuv420p",
            quality=None,  # pyright: ignore[reportArgumentType]  # no flag of its own beside -crf
            macro_block_size=2,
            output_params=self._options,
        )
        self._encoder.send(None)


@contextmanager
def open_video(path: str | Path, fps: int | float) -> Iterator[VideoWriter]:
    """Write a video (H.264, yuv420p) frame by frame; the file appears once the block has ended well.

    Args:
        path: the file, ending in `.mp4`.
        fps: frames per second.

    Yields:
        The writer.
    """
    with files.write_aside(path) as aside:
        writer = VideoWriter(aside, fps)
        try:
            yield writer
        finally:
            writer.close()


def write_video(path: str | Path, frames: Iterable[UInt8[np.ndarray, "H W 3"]], fps: int | float) -> None:
    """Write frames, uint8 [H, W, 3] each, as a video."""
    with open_video(path, fps) as video:
        for frame in frames:
            video.add(frame)
