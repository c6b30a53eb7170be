"""Schemas that several commands share."""

from dataclasses import dataclass, fields
from typing import Any

from cfworld.errors import ConfigError
from cfworld.world import WorldConfig

__all__ = ["WorldSettings"]


@dataclass(kw_only=True, slots=True)
class WorldSettings(WorldConfig):
    """Of what a world is made and what it learns from; one file in configs/world each.

    Attributes:
        train_data: Dataset to learn from: a folder or the id of a Minari dataset, or lerobot:<folder>.
        eval_data: Dataset of held-out seeds; "" holds episodes of train_data out instead.
        held_out: The share of train_data's episodes that is held out if there is no eval_data: one episode in every
            1 / held_out of them, and at least one.
        image_key: Which entry of a Dict observation, or which camera, holds the frames; needed when several could.
        trained_tokenizer: Folder of the tokenizer that `stage=tokenizer` exported, or the name of a world in the zoo
            whose tokenizer to take, or any world's folder; "" is `imported`, or runs/<world>/tokenizer/export. A
            decoder may be exchanged between runs, since latents do not depend on it.
        imported: Folder of a world, such as `cfworld import-wan` writes, that says what this one is: its rate, actions,
            opening, tokenizer and transformer; "" takes what is set here. A teacher begins with its weights.
    """

    train_data: str = ""
    eval_data: str = ""
    held_out: float = 0.1
    image_key: str | None = None
    trained_tokenizer: str = ""
    imported: str = ""

    def __post_init__(self) -> None:
        WorldConfig.__post_init__(self)
        if not 0 < self.held_out < 1:
            raise ConfigError(f"got held_out={self.held_out}; expected a share between 0 and 1")

    def world_config(self) -> WorldConfig:
        """The world alone, as its checkpoint knows it."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(WorldConfig)}
        return WorldConfig(**values)
