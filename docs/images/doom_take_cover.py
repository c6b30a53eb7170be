"""Draw the picture of the README: a second of what `make demo` generates, in which a fireball hits."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from cfworld import World, files
from cfworld.cli.live import LiveRows, policies
from cfworld.cli.recording import record
from cfworld.envs.overlay import annotate

FRAMES = range(250, 286, 7)
COLUMNS = 3
SCALE = 5


def draw(path: Path) -> None:
    """Generate the episode of seed 0 up to the last frame that is shown, and write the picture."""
    world = World.from_pretrained("doom_take_cover")
    live = LiveRows(world, [0], policies("sticky", world))
    with tempfile.TemporaryDirectory() as folder:
        recording = record(live, FRAMES[-1] + 1, Path(folder))
    fps = world.config.fps
    shown = np.stack([annotate(recording.frames[at, 0], recording.captions(at, fps)[0], SCALE) for at in FRAMES])
    rows = [np.concatenate(list(row), axis=1) for row in np.split(shown, len(FRAMES) // COLUMNS)]
    with files.write_aside(path) as aside:
        Image.fromarray(np.concatenate(rows)).save(aside, format="PNG")


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".png"))
