"""From a scenario's file to its plan: every field checked for itself and against the others."""

import re
from pathlib import Path

from cfworld.envs.scenarios.conditions import read_comparison, read_condition
from cfworld.envs.scenarios.schema import Act, Assertion, Branch, Cue, Output, Plan, Start
from cfworld.envs.scenarios.source import Field, suggestion
from cfworld.memory import PRESETS
from cfworld.world import Ends

__all__ = ["ASSERTION_KEYS", "BRANCH_KEYS", "CUE_KEYS", "SCENARIO_KEYS", "read_plan"]

SCENARIO_KEYS = (
    "name",
    "about",
    "world",
    "variant",
    "memory",
    "ends",
    "seed",
    "start",
    "seconds",
    "timeline",
    "branches",
    "assertions",
    "outputs",
)
CUE_KEYS = (*(act.value for act in Act), "at", "when", "for", "once")
BRANCH_KEYS = ("name", "fork", "timeline", "noise")
ASSERTION_KEYS = ("alive", "ended", "check", "branches", "from", "until")
_NAME = re.compile(r"[^\W_][\w -]*")
_WHOLE = "main"
"""Name of the branch of a scenario without branches."""


def read_plan(text: str, file: str) -> Plan:
    """Read and check a scenario, all but what only its world can tell.

    Args:
        text: YAML.
        file: what messages call it.

    Raises:
        ScenarioError: if anything is wrong; it names file, line and field.
    """
    whole = Field.parse(text, file)
    given = whole.entries(SCENARIO_KEYS)
    if "world" not in given:
        whole.missing("world", "a world of the zoo, or a folder")
    if "seconds" not in given:
        whole.missing("seconds", "how long the episode may last")
    seconds = given["seconds"].seconds(above=True)
    timeline = _timeline(given["timeline"], 0.0, seconds) if "timeline" in given else ()
    branches = _branches(given["branches"], seconds) if "branches" in given else (_whole_branch(whole),)
    if not timeline and any(branch.timeline is None or branch.fork > 0 for branch in branches):
        whole.missing("timeline", "at least one cue: there is a moment for which no branch has a timeline of its own")
    names = [branch.name for branch in branches]
    return Plan(
        name=_name(given["name"]) if "name" in given else Path(file).stem,
        about=given["about"].text() if "about" in given else "",
        world=given["world"].text("a world of the zoo, or a folder"),
        variant=given["variant"].choice(("student", "teacher")) if "variant" in given else None,
        memory=given["memory"].choice(PRESETS) if "memory" in given else None,
        ends=given["ends"].choice([ends.value for ends in Ends]) if "ends" in given else None,
        seed=given["seed"].integer() if "seed" in given else 0,
        start=_start(given.get("start"), whole),
        seconds=seconds,
        timeline=timeline,
        branches=branches,
        assertions=_assertions(given["assertions"], names, seconds) if "assertions" in given else (),
        outputs=_outputs(given["outputs"]) if "outputs" in given else (Output.VIDEO, Output.STRIP, Output.JSON),
        places={name: field.place for name, field in given.items()},
    )


def _name(field: Field) -> str:
    name = field.text("a name")
    if not _NAME.fullmatch(name):
        field.fail(f'got "{name}"; expected letters, digits, spaces, - and _, a letter or digit first')
    return name


def _start(field: Field | None, whole: Field) -> Start:
    if field is None:
        return Start(given=None, seed=None, place=whole.place)
    if field.is_mapping:
        entries = field.entries(("seed",))
        if "seed" not in entries:
            field.missing("seed", "the seed that draws the start")
        return Start(given=None, seed=entries["seed"].integer(), place=entries["seed"].place)
    expected = "the index of a start, an address, or {seed: ...}"
    given = field.text(expected) if isinstance(field.value(), str) else field.integer(expected)
    return Start(given=given, seed=None, place=field.place)


def _whole_branch(whole: Field) -> Branch:
    return Branch(name=_WHOLE, fork=0.0, timeline=None, noise="shared", place=whole.place)


def _branches(field: Field, seconds: float) -> tuple[Branch, ...]:
    found: dict[str, Branch] = {}
    for item in field.items():
        given = item.entries(BRANCH_KEYS)
        if "name" not in given:
            item.missing("name", "what the branch is called")
        name = _name(given["name"])
        if name in found:
            given["name"].fail(f'got "{name}" a second time; expected a name of its own for every branch')
        fork = 0.0
        if "fork" in given:
            fork = given["fork"].seconds(most=seconds, why="the scenario's own")
            if fork == seconds:
                given["fork"].fail(f"got {fork:g}, when the scenario ends; expected an earlier second")
        found[name] = Branch(
            name=name,
            fork=fork,
            timeline=_timeline(given["timeline"], fork, seconds) if "timeline" in given else None,
            noise=_noise(given["noise"]) if "noise" in given else "shared",
            place=given.get("fork", item).place,
        )
    return tuple(found.values())


def _noise(field: Field) -> str | int:
    value = field.value()
    return value if value in ("shared", "own") else field.integer('"shared", "own", or a seed')


def _timeline(field: Field, begin: float, seconds: float) -> tuple[Cue, ...]:
    """The cues; each that says nothing else begins where the one before it ends."""
    cues: list[Cue] = []
    following: float | None = begin
    for item in field.items():
        cue = _cue(item, begin, following, seconds, follows=bool(cues))
        cues.append(cue)
        following = None if cue.when or cue.seconds is None else cue.at + cue.seconds
    return tuple(cues)


def _cue(item: Field, begin: float, following: float | None, seconds: float, *, follows: bool) -> Cue:
    given = item.entries(CUE_KEYS)
    acts = [act for act in Act if act.value in given]
    if not acts:
        item.missing("action", f"who acts: one of {', '.join(act.value for act in Act)}")
    if len(acts) > 1:
        given[acts[1]].fail(f"got it beside {acts[0]}; expected one of the two: a cue for each")
    when = read_condition(given["when"]) if "when" in given else None
    if "once" in given and when is None:
        given["once"].fail("got it without a condition; expected when beside it, or leave it out")
    if "at" in given:
        at = given["at"].seconds(least=begin, most=seconds, why="when this timeline begins and the scenario ends")
    elif when is not None:
        at = begin
    elif following is None:
        item.missing("at", "a second: the cue before this one does not say when it ends")
    else:
        at = following
    if at >= seconds:
        place = given.get("at", item)
        place.fail(f"got a cue that begins at {at:g} s; expected one before {seconds:g} s, when the scenario ends")
    field = given[acts[0]]
    return Cue(
        act=acts[0],
        given=_given(field, acts[0]),
        at=at,
        follows=follows and when is None and "at" not in given,
        when=when,
        seconds=given["for"].seconds(above=True) if "for" in given else None,
        once=given["once"].switch() if "once" in given else False,
        place=field.place,
    )


def _given(field: Field, act: Act) -> object:
    match act:
        case Act.ACTIONS:
            return [item.value() for item in field.items()]
        case Act.TEXT:
            return field.text()
        case Act.POLICY:
            return field.text("the name of a policy")
        case Act.ACTION:
            value = field.value()
            if value is None:
                field.fail("got nothing; expected an action")
            return value


def _assertions(field: Field, names: list[str], seconds: float) -> tuple[Assertion, ...]:
    return tuple(_assertion(item, names, seconds) for item in field.items())


def _assertion(item: Field, names: list[str], seconds: float) -> Assertion:
    given = item.entries(ASSERTION_KEYS)
    kinds = [kind for kind in ("alive", "ended", "check") if kind in given]
    if not kinds:
        item.missing("check", "what shall hold: one of alive, ended, check")
    if len(kinds) > 1:
        given[kinds[1]].fail(f"got it beside {kinds[0]}; expected one of the two: an assertion for each")
    for window in ("from", "until"):
        if window in given and kinds != ["check"]:
            given[window].fail(f"got it beside {kinds[0]}; expected it beside check only")
    why = "the scenario's own"
    first = given["from"].seconds(most=seconds, why=why) if "from" in given else 0.0
    last = seconds
    if "until" in given:
        last = given["until"].seconds(least=first, most=seconds, above=True, why="after from, within the scenario")
    check = read_comparison(given["check"], names) if "check" in given else None
    if check is not None and check.names_all and "branches" in given:
        given["branches"].fail("got it beside a check that names its branches; leave one of the two out")
    return Assertion(
        alive=given["alive"].seconds(most=seconds, above=True, why=why) if "alive" in given else None,
        ended=given["ended"].seconds(most=seconds, above=True, why=why) if "ended" in given else None,
        check=check,
        branches=_chosen(given["branches"], names) if "branches" in given else tuple(names),
        first=first,
        last=last,
        whole=first == 0 and last == seconds,
        place=given[kinds[0]].place,
    )


def _chosen(field: Field, names: list[str]) -> tuple[str, ...]:
    chosen: list[str] = []
    for item in field.items() if field.is_list else [field]:
        name = item.text("the name of a branch")
        if name not in names:
            item.fail(f'got "{name}"; expected one of {", ".join(names)}{suggestion(name, names)}')
        chosen.append(name)
    return tuple(dict.fromkeys(chosen))


def _outputs(field: Field) -> tuple[Output, ...]:
    known = [output.value for output in Output]
    return tuple(dict.fromkeys(Output(item.choice(known)) for item in field.items()))
