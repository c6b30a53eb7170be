"""A scenario's file as fields that know where they stand, so that every refusal names file, line and field."""

import difflib
import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from cfworld.errors import ScenarioError

__all__ = ["Field", "Place", "suggestion"]

_KINDS = {"map": "a mapping", "seq": "a list", "null": "nothing"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a scenario's file."""

    file: str
    line: int
    """From 1."""
    path: str
    """Such as `branches[1].timeline[0].action`; empty for the file as a whole."""

    def error(self, message: str) -> ScenarioError:
        """An error that names this place."""
        return ScenarioError(f"{self.file}:{self.line}: {self.path + ': ' if self.path else ''}{message}")


class Field:
    """A value of a scenario's file, to be read as what it should be.

    Args:
        place: where it stands.
        node: what stands there.
    """

    def __init__(self, place: Place, node: yaml.Node):
        self.place = place
        self._node = node

    @classmethod
    def parse(cls, text: str, file: str) -> "Field":
        """The whole of a file.

        Raises:
            ScenarioError: if it is no YAML, or empty.
        """
        try:
            node: yaml.Node | None = yaml.SafeLoader(text).get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise Place(file, line, "").error(f"got no YAML ({error.problem}); mend this line") from error
        except yaml.YAMLError as error:
            raise Place(file, 1, "").error(f"got no YAML ({error}); expected a scenario as text") from error
        except RecursionError as error:
            raise Place(file, 1, "").error("got lists or mappings nested too deeply; expected a scenario") from error
        if node is None:
            raise Place(file, 1, "").error("got an empty file; expected a scenario: world, seconds, timeline ...")
        return cls(Place(file, node.start_mark.line + 1, ""), node)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self._node, yaml.SequenceNode)

    @property
    def is_mapping(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self._node, yaml.MappingNode)

    def fail(self, message: str) -> NoReturn:
        """Refuse the value.

        Raises:
            ScenarioError: in any case.
        """
        raise self.place.error(message)

    def entries(self, known: Collection[str]) -> dict[str, "Field"]:
        """The entries of a mapping by their keys.

        Args:
            known: the keys that it may have.

        Raises:
            ScenarioError: if it is no mapping, or has a key twice or one that is not known.
        """
        if not isinstance(self._node, yaml.MappingNode):
            self.fail(f"got {self._shown()}; expected a mapping with {', '.join(known)}")
        found: dict[str, Field] = {}
        for key, value in self._node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            line = int(key.start_mark.line) + 1
            place = Place(self.place.file, line, f"{self.place.path}.{name}".lstrip("."))
            if name not in known:
                raise place.error(f"got an unknown key; expected one of {', '.join(known)}{suggestion(name, known)}")
            if name in found:
                raise place.error(f"got it a second time, after line {found[name].place.line}; keep one of the two")
            found[name] = Field(place, value)
        return found

    def missing(self, key: str, expected: str) -> NoReturn:
        """Refuse a mapping for the lack of a key.

        Raises:
            ScenarioError: in any case, at the line at which the mapping begins.
        """
        path = f"{self.place.path}.{key}".lstrip(".")
        raise Place(self.place.file, self.place.line, path).error(f"got nothing; expected {expected}")

    def items(self) -> list["Field"]:
        """The items of a list, at least one.

        Raises:
            ScenarioError: if it is no list, or an empty one.
        """
        if not isinstance(self._node, yaml.SequenceNode):
            self.fail(f"got {self._shown()}; expected a list")
        if not self._node.value:
            self.fail("got an empty list; expected at least one item, or leave the key out")
        return [
            Field(Place(self.place.file, item.start_mark.line + 1, f"{self.place.path}[{index}]"), item)
            for index, item in enumerate(self._node.value)
        ]

    def text(self, expected: str = "a text") -> str:
        """A text that is not empty.

        Raises:
            ScenarioError: if it is something else.
        """
        value = self.value()
        if not isinstance(value, str) or not value.strip():
            plain = isinstance(value, bool | int | float)
            self.fail(f"got {self._shown()}; expected {expected}{', in quotes: bare it is no text in YAML' * plain}")
        return value

    def choice(self, options: Collection[str]) -> str:
        """One of several words.

        Raises:
            ScenarioError: if it is none of them.
        """
        value = self.value()
        if not isinstance(value, str) or value not in options:
            self.fail(f"got {self._shown()}; expected one of {', '.join(options)}{suggestion(str(value), options)}")
        return value

    def switch(self) -> bool:
        """True or false.

        Raises:
            ScenarioError: if it is neither.
        """
        value = self.value()
        if not isinstance(value, bool):
            self.fail(f"got {self._shown()}; expected true or false")
        return value

    def integer(self, expected: str = "a whole number from 0, below 2^63") -> int:
        """A whole number in [0, 2^63).

        Raises:
            ScenarioError: if it is something else.
        """
        value = self.value()
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            self.fail(f"got {self._shown()}; expected {expected}")
        return value

    def seconds(self, *, least: float = 0.0, most: float = math.inf, above: bool = False, why: str = "") -> float:
        """A time.

        Args:
            least: the least that it may be.
            most: the most that it may be.
            above: whether it has to be more than the least.
            why: what the bounds are.

        Raises:
            ScenarioError: if it is no number within the bounds.
        """
        value = self.value()
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
        if not number or not least <= value <= most or (above and value == least):
            low = f"more than {least:g}" if above else f"at least {least:g}"
            high = "" if most == math.inf else f" and at most {most:g}"
            self.fail(f"got {self._shown()}; expected seconds, {low}{high}{', ' if why else ''}{why}")
        return float(value)

    def value(self) -> Any:
        """Whatever it is, as plain Python values.

        Raises:
            ScenarioError: if YAML has no plain value for it.
        """
        try:
            return yaml.SafeLoader("").construct_object(self._node, deep=True)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
            problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            self.fail(f"got what is no plain value ({problem}); expected numbers, texts, lists or mappings")

    def _shown(self) -> str:
        if isinstance(self._node, yaml.ScalarNode) and not self._node.tag.endswith(":null"):
            return f'"{self._node.value}"' if self._node.tag.endswith(":str") else str(self._node.value)
        return _KINDS.get(str(self._node.tag).rpartition(":")[2], "something else")


def suggestion(word: str, known: Collection[str] | Mapping[str, Any]) -> str:
    """A hint at the known word that is nearest to this one, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f'. Did you mean "{near[0]}"?' if near else ""
