"""The actions of a dataset against those of a world: whether they fit, how boxes are normalised, what texts become."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from gymnasium import spaces
from jaxtyping import Num
from torch import Tensor

from cfworld.data.action_space import sizes
from cfworld.errors import ConfigError
from cfworld.prompts import ActionConfig, ActionKind, ActionPart, TextEncoder, TextPrompts

__all__ = ["TextTable", "check_bounds", "fits", "measured", "text_table"]

LEAST_STD = 0.05
"""Least standard deviation, in units of half the range: actions lie within 40 of it, even if they hardly vary."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTable:
    """What stands in a world for the numbered texts of a dataset.

    Attributes:
        tables: For each column of the actions that holds texts, their encodings [V, P E], or their characters [V, S]
            where the world looks texts up; -1 if they are texts alone.
    """

    tables: Mapping[int, Tensor]

    def __call__(self, actions: Num[Tensor, "*numbered"]) -> Num[Tensor, "*encoded"]:
        """Put encodings in the place of numbers: [*, f] becomes [*, f, P E], and columns become wider ones."""
        if -1 in self.tables:
            return self.tables[-1][actions]
        columns = [
            self.tables[place][values.long()] if place in self.tables else values[..., None]
            for place, values in enumerate(actions.unbind(-1))
        ]
        return torch.cat(columns, dim=-1)


def fits(space: spaces.Space, actions: ActionPart, *, at_most: bool = False) -> bool:
    """Whether a dataset's actions are a world's.

    Args:
        space: The dataset's.
        actions: The world's.
        at_most: Whether the world may have more values of each discrete component.
    """
    match actions.kind:
        case ActionKind.DISCRETE:
            return isinstance(space, spaces.Discrete) and _same(sizes(space), [actions.num_actions], at_most)
        case ActionKind.MULTI_DISCRETE:
            return not isinstance(space, spaces.Discrete) and _same(sizes(space), actions.multi, at_most)
        case ActionKind.BOX:
            return isinstance(space, spaces.Box) and space.shape == (len(actions.low),)
        case ActionKind.TEXT:
            return isinstance(space, spaces.Text)
        case ActionKind.DICT:
            assert isinstance(actions, ActionConfig)
            parts = space.spaces if isinstance(space, spaces.Dict) else {}
            return set(parts) == set(actions.parts) and all(
                fits(parts[name], part, at_most=at_most) for name, part in actions.parts.items()
            )


def check_bounds(actions: ActionConfig, recorded: Num[Tensor, "M f *action"], data: str) -> None:
    """Refuse boxes that a dataset's actions exceed.

    Args:
        actions: The world's.
        recorded: The dataset's, as `cfworld.data.action_space` lays them out.
        data: Name of the dataset.

    Raises:
        ConfigError: If some lie beyond the bounds.
    """
    for name, part, values in _boxes(actions, recorded):
        lowest, highest = values.flatten(0, 1).aminmax(dim=0)
        if bool((lowest < torch.tensor(part.low)).any() or (highest > torch.tensor(part.high)).any()):
            where = f"actions.parts.{name}" if name else "actions"
            raise ConfigError(
                f"The actions of {data!r} reach from {lowest.tolist()} to {highest.tolist()}; expected them within "
                f"{where}.low={part.low} and {where}.high={part.high}. Widen these bounds."
            )


def measured(actions: ActionConfig, recorded: Num[Tensor, "M f *action"]) -> ActionConfig:
    """Actions with the mean and the standard deviation of each component of their boxes in a dataset.

    Statistics that are given stay. Six digits are kept, so that they do not depend on the machine that adds them up.

    Args:
        actions: The world's.
        recorded: The dataset's, as `cfworld.data.action_space` lays them out.
    """
    found: dict[str, ActionPart] = {}
    for name, part, values in _boxes(actions, recorded):
        half_range = (torch.tensor(part.high) - torch.tensor(part.low)) / 2
        std, mean = torch.std_mean(values.flatten(0, 1).double(), dim=0, correction=0)
        std = std.maximum(LEAST_STD * half_range)
        given = part if part.std else replace(part, mean=_rounded(mean), std=_rounded(std))
        found[name] = given
    if not actions.parts:
        return actions.with_statistics_of(found.get("", actions))
    return replace(actions, parts={**actions.parts, **found})


def text_table(actions: ActionConfig, texts: Sequence[str], encoder: TextEncoder | None = None) -> TextTable | None:
    """Encode the texts of a dataset once.

    Args:
        actions: The world's.
        texts: The dataset's, in the order of their numbers.
        encoder: Encodes them; None for the one that ships with cfworld.

    Returns:
        What stands for them; None if no part of the actions is text.

    Raises:
        ActionError: If a text is too long.
        ConfigError: If the world was made for another encoder than the one that ships.
    """
    tables: dict[int, Tensor] = {}
    first = 0
    for name, part in actions.items():
        if part.kind is ActionKind.TEXT:
            tables[first if name else -1] = _table(part, list(texts), encoder)
        first += part.num_columns
    return TextTable(tables=tables) if tables else None


def _table(part: ActionPart, texts: list[str], encoder: TextEncoder | None) -> Tensor:
    """What stands for texts inside the world: their tokens, or the texts themselves where tokens are looked up."""
    prompts = part.prompts(dim=part.text.width, frames=1)
    if prompts.looks_up:
        return prompts.check(texts, len(texts), 1)[:, 0]
    assert isinstance(prompts, TextPrompts)
    if encoder is not None:
        prompts.use_encoder(encoder)
    return prompts.encode(texts)


def _boxes(actions: ActionConfig, recorded: Tensor) -> Iterator[tuple[str, ActionPart, Tensor]]:
    """The boxes among the actions: name, bounds and values [M, f, A]."""
    first = 0
    for name, part in actions.items():
        if part.kind is ActionKind.BOX:
            yield name, part, recorded[..., first : first + part.num_columns]
        first += part.num_columns


def _same(found: list[int], expected: list[int], at_most: bool) -> bool:
    if not at_most:
        return found == expected
    return len(found) == len(expected) and all(n <= most for n, most in zip(found, expected, strict=True))


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]
