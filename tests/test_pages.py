"""The Python blocks of pages run as they stand, one after the other, in a toy world; their tables tell the truth."""

import re
from pathlib import Path

import pytest
import torch

from cfworld import World, errors
from cfworld.envs import WorldEnv, WorldVectorEnv
from cfworld.envs.scenarios.conditions import SIGNALS, STATISTICS
from cfworld.envs.scenarios.reader import ASSERTION_KEYS, BRANCH_KEYS, CUE_KEYS, SCENARIO_KEYS
from cfworld.world import Novelty
from tests.toy import DISCRETE, toy_world
from tests.wan_toy import pipeline_folder

REPOSITORY = Path(__file__).parents[1]
CHANGES: dict[str, dict[str, str]] = {
    "README.md": {
        '"cfworld/DoomTakeCover-v0", render_mode': '"cfworld/World-v0", world="toy", render_mode',
        'from_pretrained("doom_take_cover")': 'from_pretrained("toy")',
        "range(100)": "range(3)",
    },
    "docs/starts.md": {'from_pretrained("panorama")': 'from_pretrained("toy")'},
    "docs/scenarios.md": {'from_pretrained("doom_take_cover")': 'from_pretrained("toy")'},
    "docs/agents.md": {
        'from_pretrained("doom_take_cover")': 'from_pretrained("toy")',
        'world="doom_take_cover", total_steps=100_000': (
            'world="toy", total_steps=8, num_envs=2, n_steps=4, batch_size=4, n_epochs=1, eval_episodes=2, horizon=8'
        ),
        "range(100)": "range(2)",
        "max_ticks=2100": "max_ticks=8",
        "max_ticks=350": "max_ticks=8",
    },
    "docs/datasets.md": {
        '"world": "doom_take_cover", "episodes": 100': '"world": "toy", "max_steps": 1, "episodes": 2',
    },
    "docs/wan.md": {
        '"self_forcing_dmd.pt"': "SOURCE",
        '"Wan2.1-T2V-1.3B-Diffusers"': "SOURCE",
        '"Wan2.1-T2V-1.3B"': "SOURCE",
        '"taew2_1.pth"': "SOURCE",
        "    text_encoder=": "    resolution=[16, 16], text_encoder=",
        "num_steps=48": "num_steps=2",
    },
    "docs/environment.md": {
        'from_pretrained("doom_take_cover")': 'from_pretrained("toy")',
        "num_envs=64": "num_envs=2",
        "n_steps=128, batch_size=512, n_epochs=4": "n_steps=2, batch_size=4, n_epochs=1",
        "total_timesteps=100_000": "total_timesteps=4",
        "range(1000)": "range(2)",
    },
}
"""The pages, and what is changed in each so that it takes seconds."""

pytestmark = pytest.mark.sources


@pytest.fixture(scope="module")
def world() -> World:
    """A toy that has what the pages ask for: starts enough, names of actions, a novelty score."""
    world = toy_world(num_starts=20, actions=DISCRETE)
    eye = torch.eye(48)
    world.novelty = Novelty(layers=(0, 1), offset=torch.zeros(48), before=eye, after=eye)
    return world


@pytest.fixture
def folder(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the toy in it."""
    monkeypatch.chdir(tmp_path)
    world.save_pretrained(tmp_path / "toy")
    return tmp_path


def read(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def script(page: str) -> str:
    """All Python blocks of a page, each on the lines where it stands."""
    text = read(page)
    for old, new in CHANGES[page].items():
        assert old in text, f"{page} no longer says {old!r}"
        text = text.replace(old, new)
    lines = [""] * (text.count("\n") + 1)
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S):
        first = text.count("\n", 0, block.start(1))
        lines[first : first + block[1].count("\n")] = block[1].splitlines()
    return "\n".join(lines)


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table of a section, its head left out."""
    (section,) = (part for part in re.split(r"^## ", read(page), flags=re.M) if part.startswith(f"{heading}\n"))
    return [re.split(r" *\| *", line.strip("| ")) for line in re.findall(r"^\|.+\|$", section, re.M)][2:]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", CHANGES)
def test_the_blocks_of_a_page_run_in_their_order(page: str, tmp_path: Path) -> None:
    code = script(page)
    assert code.strip()
    names = {"__name__": "page", "SOURCE": pipeline_folder(tmp_path / "source") if "SOURCE" in code else None}
    exec(compile(code, str(REPOSITORY / page), "exec"), names)


def test_the_page_lists_what_infos_hold(world: World) -> None:
    found: dict[str, set[str]] = {"reset": set(), "step": set()}
    single, many = WorldEnv(world, info_frames=True), WorldVectorEnv(1, world, horizon=1)
    for env, action in ((single, 0), (many, [0])):
        found["reset"] |= set(env.reset(seed=0)[1])
        found["step"] |= set(env.step(action)[4])
    table = rows("docs/environment.md", "What infos hold")
    listed = {name: quoted(calls) for names, _, calls in table for name in quoted(names)}
    for call, keys in found.items():
        assert {name for name, calls in listed.items() if call in calls} == {key for key in keys if key[0] != "_"}


def test_the_page_says_what_errors_are() -> None:
    table = rows("docs/environment.md", "Errors")
    assert len(table) > 10
    for name, _, others in table:
        kinds = {kind.__name__ for kind in getattr(errors, *quoted(name)).__mro__}
        assert kinds >= set(quoted(others)) != set()


def test_the_page_shows_a_scenario_as_it_ships() -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", read("docs/scenarios.md"), re.M | re.S)
    shipped = (REPOSITORY / "envs" / "scenarios" / "dodge.yaml").read_text(encoding="utf-8")
    assert shipped.endswith(shown)


def test_the_page_explains_every_key_of_a_scenario() -> None:
    (section,) = (part for part in read("docs/scenarios.md").split("\n## ") if part.startswith("What a file says"))
    explained = set(re.findall(r"`(\w+)", section))
    assert {*SCENARIO_KEYS, *CUE_KEYS, *BRANCH_KEYS, *ASSERTION_KEYS, *SIGNALS, *STATISTICS} <= explained


def anchors(text: str) -> set[str]:
    """What the headings of a page are called in links."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", prose, re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pages_under(top: str) -> list[Path]:
    """The pages of the repository's own folder, or of another with all that lies in it."""
    folder = REPOSITORY / top
    return sorted(folder.glob("*.md") if top == "." else folder.rglob("*.md"))


def test_links_between_pages_lead_somewhere() -> None:
    found, broken = 0, []
    for page in (path for top in (".", "docs", "cfworld/zoo", "benchmarks") for path in pages_under(top)):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"\w+:", link):
                continue
            found += 1
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
                broken.append(f"{page.relative_to(REPOSITORY)}: {link}")
    assert found > 100
    assert broken == []
