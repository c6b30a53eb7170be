"""The small language of conditions (`hazard > 0.1`) and checks (`sum reward of left > sum reward of stay`)."""

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from cfworld.envs.scenarios.source import Field, Place, suggestion

__all__ = ["SIGNALS", "STATISTICS", "Comparison", "Condition", "Quantity", "read_comparison", "read_condition"]

SIGNALS = ("reward", "hazard", "novelty")
"""What a world tells of its frames."""
WATCHED = (*SIGNALS, "return")
"""What a condition may watch: the last step's reward, highest hazard and novelty, and the sum of all rewards so far."""
STATISTICS = ("mean", "sum", "min", "max", "last")
"""How a check may sum the frames up."""
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_PARTS = re.compile(r"([^<>=]+?)\s*(<=|>=|<|>)\s*([^<>=]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A bound on what the last step told."""

    signal: str
    sign: str
    bound: float
    place: Place

    def holds(self, signals: Mapping[str, float]) -> bool:
        """Whether a step meets it.

        Args:
            signals: the step's reward, hazard and novelty, and the return so far.
        """
        return _OPERATORS[self.sign](signals[self.signal], self.bound)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """One side of a check: a number, the seconds that an episode lasted, or a statistic of a signal."""

    number: float | None = None
    statistic: str = ""
    signal: str = ""
    """Empty for the seconds."""
    branch: str | None = None
    """None for the branch that is being checked."""

    @property
    def signals(self) -> set[str]:
        """The signals that it looks at."""
        return {self.signal} - {""}


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two quantities, and how they shall compare."""

    text: str
    left: Quantity
    sign: str
    right: Quantity

    @property
    def names_all(self) -> bool:
        """Whether it names the branch of every quantity, and so has to be checked once only."""
        return all(side.branch is not None or side.number is not None for side in (self.left, self.right))

    @property
    def signals(self) -> set[str]:
        """The signals that it looks at."""
        return self.left.signals | self.right.signals

    def holds(self, left: float, right: float) -> bool:
        """Whether these values of the two sides compare so."""
        return _OPERATORS[self.sign](left, right)


def read_condition(field: Field) -> Condition:
    """A condition such as `hazard > 0.1`.

    Raises:
        ScenarioError: if it is none.
    """
    text = field.text('a condition such as "hazard > 0.1"')
    match = _PARTS.fullmatch(text.strip())
    if match is None:
        field.fail(f'got "{text}"; expected a condition such as "hazard > 0.1"')
    if match[1] not in WATCHED:
        field.fail(f'got "{match[1]}"; expected one of {", ".join(WATCHED)}{suggestion(match[1], WATCHED)}')
    bound = _number(match[3])
    if bound is None:
        field.fail(f'got "{match[3]}" as the bound; expected a number')
    return Condition(signal=match[1], sign=match[2], bound=bound, place=field.place)


def read_comparison(field: Field, branches: Collection[str]) -> Comparison:
    """A check such as `mean reward of left > 0.5`.

    Args:
        field: where it stands.
        branches: the names that there are.

    Raises:
        ScenarioError: if it is none, or there is no such branch.
    """
    text = " ".join(field.text('a check such as "mean reward > 0.5"').split())
    match = _PARTS.fullmatch(text)
    if match is None:
        field.fail(f'got "{text}"; expected two quantities and one of <, <=, >, >= between them: "mean reward > 0.5"')
    left, right = (_quantity(field, side, branches) for side in (match[1], match[3]))
    if left.number is not None and right.number is not None:
        field.fail(f'got "{text}"; expected something to measure: "mean reward", "max novelty", "seconds" ...')
    return Comparison(text=text, left=left, sign=match[2], right=right)


def _quantity(field: Field, text: str, branches: Collection[str]) -> Quantity:
    number = _number(text)
    if number is not None:
        return Quantity(number=number)
    what, _, branch = text.partition(" of ")
    if branch and branch not in branches:
        field.fail(f'got branch "{branch}"; expected one of {", ".join(branches)}{suggestion(branch, branches)}')
    words = what.split()
    if words == ["seconds"]:
        return Quantity(branch=branch or None)
    if len(words) != 2 or words[0] not in STATISTICS or words[1] not in SIGNALS:
        wrong = [word for word, known in zip(words, (STATISTICS, SIGNALS), strict=False) if word not in known]
        hint = suggestion(wrong[0], (*STATISTICS, *SIGNALS, "seconds")) if wrong else ""
        field.fail(
            f'got "{what}"; expected a number, "seconds", or one of {", ".join(STATISTICS)} and one of '
            f'{", ".join(SIGNALS)}: "mean reward"{hint}'
        )
    return Quantity(statistic=words[0], signal=words[1], branch=branch or None)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text.strip()) else None
