"""Make a dataset out of a world, and look into it: python examples/make_dataset.py WORLD FOLDER EPISODES."""

import sys

from cfworld.data import EpisodeStore
from cfworld.export import ExportConfig, export_dataset


def main(world: str = "doom_take_cover", folder: str = "datasets/generated/doom", episodes: str = "100") -> None:
    """Export a world's episodes for Minari and for LeRobot, and read both back."""
    for kind in ("minari", "lerobot"):
        out = f"{folder}_{kind}"
        policies = {"sweep": 0.5, "sticky": 0.5}  # every episode draws one
        export_dataset(ExportConfig(world=world, out=out, format=kind, episodes=int(episodes), policies=policies))
        store = EpisodeStore.open(out)  # the same for both formats, and for datasets of others
        episode = store.episode(0)
        print(f"{out}: {len(store)} episodes, generated: {store.metadata['generated']}")
        print(f"  episode 0: seed {episode.seed}, {episode.policy}, frames {episode.frames.shape}")
        print(f"  {len(episode)} ticks, return {episode.rewards.sum():.2f}, terminated: {episode.terminated}")


if __name__ == "__main__":
    main(*sys.argv[1:])
