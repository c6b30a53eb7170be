"""Every kind of broken scenario is refused with file, line and field, before anything is generated."""

import re
from pathlib import Path

import pytest

from cfworld import World
from cfworld.cli.live import policies
from cfworld.envs import Scenario
from cfworld.errors import CheckpointError, ConfigError, ScenarioError
from tests.toy import DISCRETE, KINDS, toy_world

GOOD = """\
name: good
world: toy
seed: 1
start: 2
seconds: 2
timeline:
  - action: move left
    for: 1
  - policy: random
branches:
  - name: one
  - name: two
    fork: 0.8
    noise: own
    timeline:
      - actions: [stay, 1]
      - when: hazard > 0.9
        action: stay
        for: 0.5
assertions:
  - alive: 0.1
  - check: sum reward of one > -1000
    from: 0.5
outputs: [json]
"""

BROKEN = {
    "no YAML": ("seed: 1", "seed: [1", 4, "", "got no YAML"),
    "a tab": ("seed: 1", "\tseed: 1", 3, "", "got no YAML"),
    "an unknown key": ("seed: 1", "sead: 1", 3, "sead", 'Did you mean "seed"?'),
    "an unknown key of a cue": ("    for: 1", "    fro: 1", 8, "timeline[0].fro", 'Did you mean "for"?'),
    "an unknown key of a branch": ("    noise: own", "    noises: own", 14, "branches[1].noises", 'mean "noise"?'),
    "an unknown key of an assertion": ("alive: 0.1", "alife: 0.1", 21, "assertions[0].alife", 'mean "alive"?'),
    "a key twice": ("seed: 1", "seed: 1\nseed: 2", 4, "seed", "a second time, after line 3"),
    "no world": ("world: toy\n", "", 1, "world", "got nothing; expected a world"),
    "no seconds": ("seconds: 2\n", "", 1, "seconds", "got nothing; expected how long"),
    "no time": ("seconds: 2", "seconds: 0", 5, "seconds", "got 0; expected seconds, more than 0"),
    "endless time": ("seconds: 2", "seconds: .inf", 5, "seconds", "got .inf; expected seconds"),
    "time beyond all numbers": ("seconds: 2", "seconds: 1" + "0" * 400, 5, "seconds", "got 1" + "0" * 400),
    "a time in words": ("seconds: 2", "seconds: two", 5, "seconds", 'got "two"; expected seconds'),
    "a seed that is none": ("seed: 1", "seed: -1", 3, "seed", "got -1; expected a whole number from 0"),
    "a variant that is none": ("seed: 1", "variant: studnet", 3, "variant", 'Did you mean "student"?'),
    "a memory that is none": ("seed: 1", "memory: longlife", 3, "memory", 'Did you mean "longlive"?'),
    "memories": ("seed: 1", "memory: [longlive]", 3, "memory", "got a list; expected one of"),
    "ends that are none": ("seed: 1", "ends: always", 3, "ends", "expected one of sampled, greedy, never"),
    "a name that is a switch": ("name: one", "name: on", 11, "branches[0].name", "in quotes: bare it is no text"),
    "a name with an operator": ("name: one", "name: a>b", 11, "branches[0].name", "expected letters, digits"),
    "a start that is none": ("start: 2", "start: 1.5", 4, "start", "got 1.5; expected the index"),
    "a start without its seed": ("start: 2", "start: {}", 4, "start.seed", "got nothing; expected the seed"),
    "a timeline that is no list": (
        "timeline:\n  - action: move left\n    for: 1\n  - policy: random\n",
        "timeline: random\n",
        6,
        "timeline",
        'got "random"; expected a list',
    ),
    "no timeline": (
        "timeline:\n  - action: move left\n    for: 1\n  - policy: random\n",
        "",
        1,
        "timeline",
        "got nothing; expected at least one cue",
    ),
    "an empty list": ("outputs: [json]", "outputs: []", 24, "outputs", "got an empty list"),
    "an unknown output": ("[json]", "[jsno]", 24, "outputs[0]", 'got "jsno"; expected one of video, strip'),
    "a cue that does nothing": ("  - policy: random", "  - at: 1", 9, "timeline[1].action", "got nothing"),
    "a cue that does two things": (
        "  - policy: random",
        "  - policy: random\n    action: stay",
        9,
        "timeline[1].policy",
        "got it beside action",
    ),
    "a cue after an endless one": ("    for: 1\n", "", 8, "timeline[1].at", "does not say when it ends"),
    "a cue that begins too late": (
        "    for: 1\n",
        "    for: 3\n",
        9,
        "timeline[1]",
        "begins at 3 s; expected one before",
    ),
    "a cue before its fork": (
        "      - actions: [stay, 1]",
        "      - at: 0.5\n        actions: [stay, 1]",
        16,
        "branches[1].timeline[0].at",
        "got 0.5; expected seconds, at least 0.8",
    ),
    "a cue of no length": ("    for: 1\n", "    for: 0\n", 8, "timeline[0].for", "more than 0"),
    "once without a condition": ("    for: 1\n", "    once: true\n", 8, "timeline[0].once", "without a condition"),
    "a condition that is none": (
        "hazard > 0.9",
        "hazard is high",
        17,
        "branches[1].timeline[1].when",
        'expected a condition such as "hazard > 0.1"',
    ),
    "a condition on what no world tells": (
        "hazard > 0.9",
        "hasard > 0.9",
        17,
        "branches[1].timeline[1].when",
        'Did you mean "hazard"?',
    ),
    "a bound that is no number": (
        "hazard > 0.9",
        "hazard > high",
        17,
        "branches[1].timeline[1].when",
        'got "high" as the bound',
    ),
    "a branch without a name": ("  - name: one", "  - fork: 0.4", 11, "branches[0].name", "got nothing"),
    "two branches of one name": ("name: two", "name: one", 12, "branches[1].name", "a second time"),
    "a fork after the end": ("fork: 0.8", "fork: 3", 13, "branches[1].fork", "got 3; expected seconds"),
    "a noise that is none": (
        "noise: own",
        "noise: loud",
        14,
        "branches[1].noise",
        'expected "shared", "own", or',
    ),
    "an assertion about nothing": ("  - alive: 0.1", "  - from: 0.1", 21, "assertions[0].check", "got nothing"),
    "an assertion of two things": (
        "  - alive: 0.1",
        "  - alive: 0.1\n    ended: 1",
        22,
        "assertions[0].ended",
        "got it beside alive",
    ),
    "an assertion beyond the end": (
        "alive: 0.1",
        "alive: 20",
        21,
        "assertions[0].alive",
        "at most 2, the scenario's",
    ),
    "a window of no check": ("alive: 0.1", "alive: 0.1\n    from: 1", 22, "assertions[0].from", "beside check only"),
    "a window that is empty": ("    from: 0.5", "    from: 1\n    until: 1", 24, "assertions[1].until", "more than 1"),
    "a check that is none": ("sum reward of one > -1000", "reward", 22, "assertions[1].check", "two quantities"),
    "a check of numbers": ("sum reward of one > -1000", "1 > 0", 22, "assertions[1].check", "something to measure"),
    "a check of an unknown statistic": (
        "sum reward of one",
        "median reward",
        22,
        "assertions[1].check",
        'got "median reward"; expected a number, "seconds", or one of mean, sum',
    ),
    "a check of an unknown branch": (
        "sum reward of one",
        "sum reward of tow",
        22,
        "assertions[1].check",
        'Did you mean "two"?',
    ),
    "an assertion about an unknown branch": (
        "alive: 0.1",
        "alive: 0.1\n    branches: [one, three]",
        22,
        "assertions[0].branches[1]",
        'got "three"; expected one of one, two',
    ),
    "branches beside a check that names them": (
        "    from: 0.5",
        "    branches: one",
        23,
        "assertions[1].branches",
        "names its branches",
    ),
}
"""What is replaced in `GOOD`, by what, and the line, the field and some of the words of the refusal."""

UNFIT = {
    "an unknown action": (
        "action: move left",
        "action: jump",
        7,
        "timeline[0].action",
        "expected one of 'stay'",
    ),
    "an action out of range": ("action: move left", "action: 7", 7, "timeline[0].action", "integers from 0 to 2"),
    "a sequence as an action": ("action: move left", "action: [0, 1]", 7, "timeline[0].action", "under actions"),
    "a switch as an action": ("action: move left", "action: yes", 7, "timeline[0].action", "got boolean actions"),
    "an unknown action among others": (
        "[stay, 1]",
        "[stay, 4]",
        16,
        "branches[1].timeline[0].actions",
        "got action 4",
    ),
    "a text where there is none": (
        "action: move left",
        "text: go",
        7,
        "timeline[0].text",
        "actions are discrete",
    ),
    "an unknown policy": ("policy: random", "policy: randm", 9, "timeline[1].policy", "policy 'randm' is unknown"),
    "a script that is not there": (
        "policy: random",
        "policy: scripted:nowhere.json",
        9,
        "timeline[1].policy",
        "'nowhere.json' cannot be read",
    ),
    "an agent that is not there": (
        "policy: random",
        "policy: no.zip",
        9,
        "timeline[1].policy",
        "there is no file",
    ),
    "a start that does not exist": ("start: 2", "start: 5", 4, "start", "5"),
    "an address of nothing": ("start: 2", "start: no.png", 4, "start", "there is no such file"),
    "less than a frame": ("seconds: 2", "seconds: 0.01", 5, "seconds", "at least one frame, 0.100 s"),
    "a fork in the last step": (
        "fork: 0.8",
        "fork: 1.7",
        13,
        "branches[1].fork",
        "at most 1.6, when the last step",
    ),
    "novelty that was never measured": (
        "hazard > 0.9",
        "novelty > 0.9",
        17,
        "branches[1].timeline[1].when",
        "has no score as teacher",
    ),
    "a check of novelty that was never measured": (
        "sum reward of one",
        "max novelty",
        22,
        "assertions[1].check",
        "has no score as teacher",
    ),
}
"""The same of what only the world can tell."""


def broken(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    if "fork: 1.7" in text or "seconds: 0.01" in text:  # what else would be beyond the end
        text = re.sub(r"(?s)assertions:.*?outputs", "outputs", text)
    if "seconds: 0.01" in text:
        text = re.sub(r"(?s)timeline:.*", "timeline:\n  - action: stay\n", text)
    return text


def refusal(line: int, field: str, said: str) -> str:
    place = re.escape(f"scenarios/broken.yaml:{line}: {field + ': ' if field else ''}")
    return f"^{place}.*{re.escape(said)}"


@pytest.fixture(scope="module")
def toy() -> World:
    return toy_world(actions=DISCRETE)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_by_line_and_field(kind: str) -> None:
    old, new, line, field, said = BROKEN[kind]
    with pytest.raises(ScenarioError, match=refusal(line, field, said)):
        Scenario.parse(broken(old, new), "scenarios/broken.yaml")


@pytest.mark.parametrize("kind", UNFIT)
def test_what_does_not_fit_the_world_is_refused_before_anything_is_generated(kind: str, toy: World) -> None:
    old, new, line, field, said = UNFIT[kind]
    scenario = Scenario.parse(broken(old, new), "scenarios/broken.yaml")
    steps: list[int] = []
    with pytest.raises(ScenarioError, match=refusal(line, field, said)):
        scenario.run(toy, policies=policies, on_step=steps.append)
    assert not steps


@pytest.mark.parametrize("seed", [-1, 2**64, True])
def test_a_seed_that_is_none_is_refused_before_anything_is_generated(seed: int, toy: World) -> None:
    with pytest.raises(ConfigError, match=f"got seed={seed}; expected an integer from 0, below 2"):
        Scenario.parse(GOOD).run(toy, seed=seed)


def test_the_file_that_is_broken_above_is_whole(toy: World) -> None:
    assert Scenario.parse(GOOD).run(toy).passed


@pytest.mark.parametrize("seconds", ["1.0e+20", "1.0e+308"])
def test_more_seconds_than_frames_can_be_counted_are_refused_by_line(toy: World, seconds: str) -> None:
    with pytest.raises(ScenarioError, match=r"^scenario.yaml:5: seconds: got 1e\+\d+; expected less than 2\^63 frames"):
        Scenario.parse(broken("seconds: 2", f"seconds: {seconds}")).run(toy)


def test_an_empty_file_and_a_list_are_no_scenarios() -> None:
    for text, said in (
        ("# nothing\n", "got an empty file"),
        ("- 1\n", "got a list; expected a mapping"),
        ("[" * 5000, "got lists or mappings nested too deeply"),
    ):
        with pytest.raises(ScenarioError, match=rf"^scenario.yaml:1: {said}"):
            Scenario.parse(text)


def test_a_value_that_is_no_plain_one_is_refused() -> None:
    for value in ("!!python/name:os.system", "2026-13-45", "&loop [*loop]", '!!int ""', "!!bool x", "!!timestamp x"):
        with pytest.raises(ScenarioError, match=r":7: timeline\[0\].action: got what is no plain value"):
            Scenario.parse(broken("action: move left", f"action: {value}"))


def test_a_scenario_that_is_not_there_is_told_with_those_that_ship() -> None:
    with pytest.raises(ScenarioError, match=r"'dogde'.*one that ships: beacon, dodge, luck"):
        Scenario.load("dogde")


def test_a_world_and_a_variant_that_are_not_there_are_told_by_line(toy: World, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"^scenario.yaml:2: world: there is no world 'tyo'"):
        Scenario.parse(broken("world: toy", "world: tyo")).run()
    toy.save_pretrained(tmp_path / "toy")
    file = tmp_path / "scenario.yaml"
    file.write_text(broken("seed: 1", "variant: student"))
    with pytest.raises(ScenarioError, match=r"scenario.yaml:3: variant: got 'student'; expected one of teacher"):
        Scenario.load(file).run()
    for given in ({"variant": ""}, {"variant": "teacher", "memory": ""}):
        with pytest.raises((CheckpointError, ConfigError), match=r"has no variant ''|got memory=''"):
            Scenario.load(file).load_world(**given)


@pytest.mark.parametrize(("kind", "action"), [("multi", "[1, 0, 9]"), ("box", "[0.5, 9]"), ("dict", "{mouse: [0, 0]}")])
def test_actions_of_every_kind_are_checked(kind: str, action: str) -> None:
    text = f"world: toy\nseconds: 1\ntimeline:\n  - action: {action}\n"
    with pytest.raises(ScenarioError, match=r"^scenario.yaml:4: timeline\[0\].action: "):
        Scenario.parse(text).run(toy_world(actions=KINDS[kind]))
