"""Schemas that several commands share."""

from dataclasses import dataclass, fields
from typing import Any

from cfworld.world import WorldConfig

__all__ = ["WorldSettings"]


@dataclass(kw_only=True, slots=True)
class WorldSettings(WorldConfig):
    """Of what a world is made and what it learns from; one file in configs/world each.

    Attributes:
        train_data: Dataset to learn from.
        eval_data: Dataset of held-out seeds.
        image_key: Which entry of a Dict observation holds the frames; needed when several could.
        trained_tokenizer: Folder of the tokenizer that `stage=tokenizer` exported, or the name of a world in the zoo
            whose tokenizer to take; "" is runs/<world>/tokenizer/export. A decoder may be exchanged between runs, since
            latents do not depend on it.
    """

    train_data: str = ""
    eval_data: str = ""
    image_key: str | None = None
    trained_tokenizer: str = ""

    def world_config(self) -> WorldConfig:
        """The world alone, as its checkpoint knows it."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(WorldConfig)}
        return WorldConfig(**values)
