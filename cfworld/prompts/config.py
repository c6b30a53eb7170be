"""The actions of a world: what kinds there are, and which encoder takes them."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cfworld.errors import ConfigError
from cfworld.prompts.base import PromptEncoder
from cfworld.prompts.continuous import ContinuousPromptConfig, ContinuousPrompts, check_box
from cfworld.prompts.dictionary import DictPrompts
from cfworld.prompts.discrete import (
    DiscretePromptConfig,
    DiscretePrompts,
    MultiDiscretePromptConfig,
    MultiDiscretePrompts,
)
from cfworld.prompts.encoded_text import EncodedTextPrompts, TextTablePrompts
from cfworld.prompts.names import check_names
from cfworld.prompts.text import HASHED_WORDS, TextPromptConfig, TextPrompts
from cfworld.settings import Choice

__all__ = ["ActionConfig", "ActionKind", "ActionPart", "TextConfig"]


class ActionKind(Choice):
    """What a world's actions are."""

    DISCRETE = "discrete"
    MULTI_DISCRETE = "multi_discrete"
    BOX = "box"
    TEXT = "text"
    DICT = "dict"


@dataclass(kw_only=True, slots=True)
class TextConfig:
    """Texts as actions.

    Attributes:
        max_length: Characters of the longest text; 0 where actions are no texts.
        tokens: Tokens that the encoder makes of a text.
        width: Components of each token.
        encoder: Its name. "hashed_words" ships with cfworld; any other is given to `use_encoder` of the world's
            prompts, or as `text_encoder` to `World.from_pretrained`.
        learned: Whether the world learns to project tokens and adds learned places to them. Otherwise the transformer
            takes the encoder's tokens as they are, one text for each latent: Wan's way.
    """

    max_length: int = 0
    tokens: int = 16
    width: int = 64
    encoder: str = HASHED_WORDS
    learned: bool = True


@dataclass(kw_only=True, slots=True)
class ActionPart:
    """Actions of one kind: exactly one of `num_actions`, `multi`, `low` and `high`, and `text.max_length` is set.

    Two are equal if their spaces are; `settings` tells what weights depend on.

    Attributes:
        num_actions: Size of a Discrete space.
        names: What the discrete actions are called, one name each: world and environments take these words too.
        texts: What each of the discrete actions says to a world whose prompts are texts, one each; their tokens and
            width stand in `text`. The world keeps them encoded.
        multi: Sizes of a MultiDiscrete space.
        low: Lower bounds of a Box.
        high: Upper bounds of a Box.
        mean: Mean of a Box's components in the training data, by which they are normalised; it is measured when the
            teacher is trained. Without statistics, bounds are scaled to -1 and 1.
        std: Their standard deviation.
        text: Texts.
    """

    num_actions: int = 0
    names: list[str] = field(default_factory=list, compare=False)
    texts: list[str] = field(default_factory=list, compare=False)
    multi: list[int] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list, compare=False)
    std: list[float] = field(default_factory=list, compare=False)
    text: TextConfig = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        """Refuse none or several kinds at once, what belongs to another kind, and bounds that are none."""
        if len(self._kinds()) != 1:
            raise ConfigError(
                "actions are either num_actions > 0, or sizes multi, or bounds low and high, or texts of up to "
                f"text.max_length characters; got num_actions={self.num_actions}, multi={self.multi}, low={self.low}, "
                f"high={self.high}, text.max_length={self.text.max_length}."
            )
        check_names(self.names, self.num_actions)
        if self.low:
            check_box(self.low, self.high, self.mean, self.std)
        else:
            self._refuse_settings_of_boxes(self.kind)
        if self.texts and len(self.texts) != self.num_actions:
            raise ConfigError(f"got {len(self.texts)} texts for num_actions={self.num_actions}; expected one for each")

    def _refuse_settings_of_boxes(self, kind: ActionKind) -> None:
        if stray := [name for name in ("high", "mean", "std") if getattr(self, name)]:
            raise ConfigError(f"got {', '.join(stray)} beside actions of kind {kind}; expected them beside low alone")

    def _kinds(self) -> list[ActionKind]:
        given = {
            ActionKind.DISCRETE: self.num_actions > 0,
            ActionKind.MULTI_DISCRETE: bool(self.multi),
            ActionKind.BOX: bool(self.low),
            ActionKind.TEXT: self.text.max_length > 0,
        }
        return [kind for kind, is_given in given.items() if is_given]

    @property
    def kind(self) -> ActionKind:
        """Of which kind they are."""
        return self._kinds()[0]

    @property
    def num_columns(self) -> int:
        """Numbers that a dataset holds of one action; of a text it is one, which of its texts."""
        return len(self.multi) or len(self.low) or 1

    def prompts(self, dim: int, frames: int) -> PromptEncoder:
        """The prompt encoder for these actions, with tokens of width `dim` for `frames` frames a latent."""
        match self.kind:
            case ActionKind.DISCRETE if self.texts:
                return TextTablePrompts(self._text_config(dim, frames), self.texts, self.names)
            case ActionKind.TEXT if not self.text.learned:
                return EncodedTextPrompts(self._text_config(dim, frames))
            case ActionKind.DISCRETE:
                return DiscretePrompts(
                    DiscretePromptConfig(num_actions=self.num_actions, dim=dim, frames=frames, names=self.names)
                )
            case ActionKind.MULTI_DISCRETE:
                return MultiDiscretePrompts(MultiDiscretePromptConfig(sizes=self.multi, dim=dim, frames=frames))
            case ActionKind.BOX:
                bounds = {name: getattr(self, name) for name in ("low", "high", "mean", "std")}
                return ContinuousPrompts(ContinuousPromptConfig(**bounds, dim=dim, frames=frames))
            case _:
                return TextPrompts(self._text_config(dim, frames))

    def _text_config(self, dim: int, frames: int) -> TextPromptConfig:
        settings: dict[str, Any] = {name: value for name, value in asdict(self.text).items() if name != "learned"}
        if self.texts:
            settings["max_length"] = max(1, *map(len, self.texts))
        return TextPromptConfig(**settings, dim=dim, frames=frames)

    def settings(self) -> dict[str, Any]:
        """What weights depend on, as plain values: what is set, without names.

        `num_actions`, `low` and `high` always stand there, as they have since there were no others: so what was written
        down before is still the same.
        """
        old = {"num_actions": self.num_actions, "low": list(self.low), "high": list(self.high)}
        new: dict[str, list[Any]] = {"multi": list(self.multi), "mean": list(self.mean), "std": list(self.std)}
        text = asdict(self.text) if self.text.max_length or self.texts else {}
        if text.get("learned"):
            del text["learned"]  # so it has been since there was nothing else
        new["texts"] = self.texts
        return old | {name: value for name, value in (new | {"text": text}).items() if value}

    def with_statistics_of(self, other: "ActionPart") -> "ActionPart":
        """These actions, with another's statistics where they have none and the bounds are the same."""
        return replace(self, **_statistics(self, other))


@dataclass(kw_only=True, slots=True)
class ActionConfig(ActionPart):
    """The actions of a world: of one kind, or several `parts` at once.

    Attributes:
        parts: Several actions taken together, each with a name of its own: a Dict space.
    """

    parts: dict[str, ActionPart] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse none or several kinds at once; see `ActionPart`."""
        if any(part.texts or not part.text.learned for part in self.parts.values()):
            raise ConfigError(
                "got texts that are taken as they are among parts; expected them to be all of the actions"
            )
        if not self.parts:
            ActionPart.__post_init__(self)
        elif self._kinds() or self.names:
            beside = [str(kind) for kind in self._kinds()] or "names"
            raise ConfigError(
                f"got actions with parts {sorted(self.parts)} beside {beside}; "
                "expected parts alone: set num_actions to 0, and leave the rest of what stands beside them out"
            )
        else:
            self._refuse_settings_of_boxes(self.kind)

    @property
    def kind(self) -> ActionKind:
        """Of which kind they are."""
        return ActionKind.DICT if self.parts else self._kinds()[0]

    def items(self) -> list[tuple[str, ActionPart]]:
        """The parts with their names, in the order in which their columns lie; of no Dict only itself, without one."""
        return sorted(self.parts.items()) if self.parts else [("", self)]

    def prompts(self, dim: int, frames: int) -> PromptEncoder:
        """The prompt encoder for these actions; see `ActionPart.prompts`."""
        if not self.parts:
            return ActionPart.prompts(self, dim, frames)
        return DictPrompts({name: part.prompts(dim, frames) for name, part in self.parts.items()})

    def settings(self) -> dict[str, Any]:
        """What weights depend on, as plain values; see `ActionPart.settings`."""
        parts = {name: part.settings() for name, part in self.items() if name}
        return ActionPart.settings(self) | ({"parts": parts} if parts else {})

    def with_statistics_of(self, other: ActionPart) -> "ActionConfig":
        """These actions with another's statistics; see `ActionPart.with_statistics_of`."""
        known = other.parts if isinstance(other, ActionConfig) else {}
        parts = {name: part.with_statistics_of(known.get(name, part)) for name, part in self.parts.items()}
        return replace(self, parts=parts, **_statistics(self, other))


def _statistics(part: ActionPart, other: ActionPart) -> dict[str, list[float]]:
    given = part if part.std or (part.low, part.high) != (other.low, other.high) else other
    return {"mean": list(given.mean), "std": list(given.std)}
