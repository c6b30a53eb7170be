"""`cfworld calibrate`: measures how odd real continuations look to a world, and keeps it with the world."""

from dataclasses import dataclass, field, fields
from typing import Any

from cfworld.cli import common
from cfworld.configs.schema import WorldSettings
from cfworld.settings import check_counts
from cfworld.train.banks.dataset import open_dataset, read_latents
from cfworld.train.novelty import NoveltyFitConfig, measure_novelty
from cfworld.world import World, WorldConfig, find_world
from cfworld.world.checkpoint import read_manifest
from cfworld.world.novelty_file import add_novelty

__all__ = ["CalibrateConfig", "calibrate", "main"]

SUMMARY = (
    "Measure the novelty score of a world on real episodes, and write it into the world's folder: a novelty of 1 is "
    "then as odd as the oddest hundredth of held-out real continuations. Do it again whenever its weights have changed."
)
EXAMPLE = "world=panorama eval_data=datasets/panorama/eval"


@dataclass(kw_only=True, slots=True)
class CalibrateConfig:
    """What `cfworld calibrate` takes.

    Attributes:
        world: A world of the zoo, or a checkpoint folder; it is written to.
        variant: student or teacher; null for both where there are both.
        train_data: Episodes to which the score is fitted; null for datasets/<world>/train.
        eval_data: Held-out episodes, which give its scale; null for datasets/<world>/eval.
        image_key: The frames' key, for datasets that hold several kinds of observations.
        novelty: On how much it is measured.
        device: Where to compute: cpu, cuda, cuda:1 ...
        out: Folder for the figures; null for outputs/calibrate/<time>.
    """

    world: str
    variant: str | None = None
    train_data: str | None = None
    eval_data: str | None = None
    image_key: str | None = None
    novelty: NoveltyFitConfig = field(default_factory=NoveltyFitConfig)
    device: str = "cpu"
    out: str | None = None

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        check_counts(self.novelty, "clips", prefix="novelty.")


def calibrate(config: CalibrateConfig) -> dict[str, Any]:
    """Measure, write the score into the world, and return the figures by variant."""
    path = find_world(config.world)
    variants = [config.variant] if config.variant else sorted(read_manifest(path)["variants"])
    figures: dict[str, Any] = {}
    for variant in variants:
        world = World.from_pretrained(path, variant=variant, device=config.device)
        settings = _settings(world.config, config)
        fitted, held_out = (
            read_latents(settings, data, open_dataset(settings, data), world.tokenizer, config.device)
            for data in (settings.train_data, settings.eval_data)
        )
        novelty, figures[variant] = measure_novelty(world, fitted, held_out, config.novelty)
        add_novelty(path, variant, novelty)
        print(
            f"{world.config.name}/{variant}: a distance of {novelty.typical:.3f} is typical, {novelty.limit:.3f} is "
            f"the oddest hundredth of {figures[variant]['held_out_chunks']} real chunks"
        )
    folder = common.open_output("calibrate", config.out, config)
    common.write_figures(folder, "calibrate", figures)
    return figures


def _settings(world: WorldConfig, config: CalibrateConfig) -> WorldSettings:
    """The world's settings with the datasets."""
    given: dict[str, Any] = {entry.name: getattr(world, entry.name) for entry in fields(WorldConfig)}
    return WorldSettings(
        **given,
        train_data=config.train_data or f"datasets/{world.name}/train",
        eval_data=config.eval_data or f"datasets/{world.name}/eval",
        image_key=config.image_key,
    )


def main() -> None:
    """Run `cfworld calibrate`."""
    common.run_command("calibrate", CalibrateConfig, calibrate, SUMMARY, example=EXAMPLE)
