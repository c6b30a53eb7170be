"""A dataset out of a world: what is missing of it is generated, file by file."""

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from cfworld.agents.players import factories_in
from cfworld.data import Episode, EpisodeStore
from cfworld.data.collection import Collection
from cfworld.data.contact_sheet import contact_sheet
from cfworld.data.policies import PolicyFactory
from cfworld.data.shards import ShardWriter
from cfworld.errors import MissingDependencyError
from cfworld.export.config import ExportConfig, Format
from cfworld.export.minari import minari_writer
from cfworld.export.provenance import ExportPlan, provenance
from cfworld.export.rows import check_rows, generated_episodes, told_variables
from cfworld.files import write_json
from cfworld.world import World

__all__ = ["export_dataset"]

FIGURES_FILE_NAME = "figures.json"
PUBLISH_EVERY = 10.0
"""Seconds between two versions of a growing dataset's metadata."""


def export_dataset(
    config: ExportConfig, *, factories: Mapping[str, PolicyFactory] | None = None, progress: bool = True
) -> dict[str, Any]:
    """Generate a dataset, or what is missing of it.

    Args:
        config: What to export.
        factories: More kinds of policies, by name, than agents and the planner.
        progress: Whether to show a progress bar.

    Returns:
        The figures, which are also written to `figures.json` beside the data.

    Raises:
        UnknownWorldError: There is no such world.
        ConfigError: The settings do not fit the world, or the folder holds data of other settings.
        DatasetError: The folder holds something else, or another process is writing to it.
        MissingDependencyError: The format needs a package that is not installed.
    """
    world = World.from_pretrained(
        config.world, variant=config.variant, device=config.device, num_steps=config.num_steps, memory=config.memory
    )
    kinds = {**factories_in(world), **(factories or {})}
    check_rows(world, config, kinds)  # before anything is written: a folder that was refused is as it was
    plan = ExportPlan(config=config, provenance=provenance(config, world))
    writer = _writer(plan, world)
    with writer.locked():
        collection = Collection(plan, writer)
        writer.discard_leftovers()
        started, before = time.perf_counter(), collection.num_ticks
        _generate_missing(plan, world, collection, writer, kinds, progress)
        figures = collection.figures() | {"format": config.format, "generated": True}
        if collection.num_ticks > before:
            ticks, seconds = collection.num_ticks - before, time.perf_counter() - started
            figures["run"] = {"ticks": ticks, "seconds": seconds, "ticks_per_second": ticks / seconds}
        write_json(writer.folder / FIGURES_FILE_NAME, figures)
        contact_sheet(EpisodeStore.open(writer.folder), writer.folder / "contact_sheet.png")
    return figures


def _generate_missing(
    plan: ExportPlan,
    world: World,
    collection: Collection,
    writer: ShardWriter,
    factories: Mapping[str, PolicyFactory],
    progress: bool,
) -> None:
    missing = list(collection.missing())
    indices = itertools.chain.from_iterable(map(plan.episodes_of, missing))
    published = -PUBLISH_EVERY
    if collection.dataset:  # a shard that was finished just before an interruption is not in the metadata yet
        writer.publish(collection.dataset)
    with _counted(
        generated_episodes(world, plan.config, plan.source, indices, factories), plan, collection, progress
    ) as episodes:
        for shard in missing:
            wanted = plan.episodes_of(shard)
            mine = itertools.islice(episodes, len(wanted))
            collection.add(shard, writer.write_shard(shard, wanted.start, mine))
            if time.perf_counter() - published > PUBLISH_EVERY:
                writer.publish(collection.dataset)
                published = time.perf_counter()
    writer.publish(collection.dataset)


def _writer(plan: ExportPlan, world: World) -> ShardWriter:
    if plan.config.format == Format.MINARI:
        return minari_writer(plan, world.config)
    try:
        from cfworld.export.lerobot import LeRobotWriter
    except ModuleNotFoundError as error:
        raise MissingDependencyError.with_hint("format=lerobot", str(error.name), "lerobot") from error
    return LeRobotWriter(plan, world.config, told_variables(world))


@contextmanager
def _counted(
    episodes: Iterator[Episode], plan: ExportPlan, collection: Collection, visible: bool
) -> Iterator[Iterator[Episode]]:
    """The same episodes, counted by a progress bar."""
    with tqdm(
        desc=f"export {plan.source}",
        total=plan.episodes,
        initial=collection.num_episodes,
        unit="episode",
        disable=not visible,
    ) as bar:

        def counted() -> Iterator[Episode]:
            started, ticks = time.perf_counter(), 0
            for episode in episodes:
                ticks += len(episode)
                bar.set_postfix_str(f"{ticks / (time.perf_counter() - started):.0f} ticks/s", refresh=False)
                bar.update()  # before it is given away: after the last one nobody asks again
                yield episode

        yield counted()
