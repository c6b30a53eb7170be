"""Pixels of pictures from elsewhere."""

import numpy as np
from PIL import Image

__all__ = ["rgb_pixels"]


def rgb_pixels(picture: Image.Image) -> np.ndarray:
    """The pixels of a picture, uint8 [H, W, 3].

    Raises:
        ValueError: if its values have more than 8 bits, which Pillow would cut off at 255 without a word.
    """
    if picture.mode == "F" or picture.mode.startswith("I"):
        raise ValueError(f"got a picture of mode {picture.mode}; expected 8 bits a value: scale it to 0 to 255 first")
    return np.asarray(picture.convert("RGB"))
