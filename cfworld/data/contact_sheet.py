"""A picture of a dataset: a row for each of a few episodes, frames at even distances."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cfworld.data.store import EpisodeStore
from cfworld.files import write_aside

__all__ = ["contact_sheet"]

LABEL_HEIGHT = 12
GAP = 2


def contact_sheet(store: EpisodeStore, path: Path, rows: int = 12, columns: int = 10) -> None:
    """Draws episodes from all over the dataset, labelled with index, policy, length and end.

    Args:
        store: The dataset.
        path: The PNG to write.
        rows: How many episodes at most.
        columns: How many frames of each.
    """
    indices = np.unique(np.linspace(0, len(store) - 1, rows).round().astype(int))
    height, width = store.frames(0, 0, 1).shape[1:3]
    sheet = Image.new("RGB", (columns * (width + GAP), len(indices) * (height + LABEL_HEIGHT)))
    draw = ImageDraw.Draw(sheet)
    for row, index in enumerate(indices.tolist()):
        top = row * (height + LABEL_HEIGHT)
        draw.text((2, top), _label(store, index), fill="white")
        for column, tick in enumerate(np.linspace(0, store.lengths[index], columns).astype(int).tolist()):
            frame = store.frames(index, tick, tick + 1)[0]
            sheet.paste(Image.fromarray(frame), (column * (width + GAP), top + LABEL_HEIGHT))
    with write_aside(path) as aside:
        sheet.save(aside, format="PNG")


def _label(store: EpisodeStore, index: int) -> str:
    last = store.episode(index, int(store.lengths[index]) - 1)
    end = "terminated" if last.terminated else "truncated" if last.truncated else "open"
    options = "".join(f", {name}={value}" for name, value in last.options.items())
    return f"episode {index}, seed {last.seed}, {last.policy}{options}, {store.lengths[index]} ticks, {end}"
