"""Scenarios: an episode of a world written down, with its branches and with what shall hold of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from cfworld.envs.arguments import is_integer
from cfworld.envs.core import EnvCore, make_core
from cfworld.envs.env_state import EnvState
from cfworld.envs.scenarios.acts import Casting, NewPolicy, beside, built_in_policies
from cfworld.envs.scenarios.player import CastCue, Player
from cfworld.envs.scenarios.reader import read_plan
from cfworld.envs.scenarios.result import ScenarioResult, judge
from cfworld.envs.scenarios.run import Role, play
from cfworld.envs.scenarios.schema import Branch, Plan
from cfworld.envs.seeding import episode_seed
from cfworld.envs.starts import moved_address
from cfworld.errors import ConfigError, ScenarioError, StartError, UnknownWorldError
from cfworld.world import World, find_world
from cfworld.world.pretrained import variants_of

__all__ = ["Scenario", "scenario_names"]


def scenario_names() -> list[str]:
    """Scenarios that ship with the package."""
    folder = resources.files("cfworld.envs.scenarios")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario: what `docs/scenarios.md` says it is.

        result = Scenario.load("dodge").run()
        result.passed, result["still"].seconds, result["still"].frames

    Attributes:
        plan: All that its file says.
        file: What messages call the file.
        text: The file as it stands.
    """

    plan: Plan
    file: str
    text: str

    @classmethod
    def load(cls, name_or_path: str | Path) -> "Scenario":
        """Read a scenario and check all but what only its world can tell.

        Args:
            name_or_path: the name of one that ships with the package, or a file.

        Raises:
            ScenarioError: if there is no such scenario, or its file is wrong.
        """
        path = Path(name_or_path)
        if str(name_or_path) in scenario_names():
            path = Path(str(resources.files("cfworld.envs.scenarios") / f"{name_or_path}.yaml"))
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ScenarioError(
                f"got {str(name_or_path)!r} as a scenario, which cannot be read ({error}); expected a file of YAML, or "
                f"one that ships: {', '.join(scenario_names())}"
            ) from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, file: str = "scenario.yaml") -> "Scenario":
        """The same from a text.

        Args:
            text: YAML.
            file: what messages call it; paths in it are looked for beside it first.

        Raises:
            ScenarioError: if it is wrong.
        """
        return cls(read_plan(text, file), file, text)

    def run(
        self,
        world: World | None = None,
        *,
        seed: int | None = None,
        policies: Callable[[str, World], NewPolicy] = built_in_policies,
        on_step: Callable[[int], Any] | None = None,
        **settings: Any,
    ) -> ScenarioResult:
        """Check it against its world, play all its branches, and judge its assertions.

        Args:
            world: takes the place of the world that the file names, with its variant and memory.
            seed: takes the place of the file's.
            policies: from the name of a policy and the world to new ones; in the place of the built-in ones.
            on_step: is told after every step how many rows it had.
            settings: see `load_world`.

        Returns:
            What came of it. A failed assertion is no error.

        Raises:
            ScenarioError: if the scenario does not fit the world. Nothing has been generated then.
            ConfigError: if the seed is none; the same holds.
        """
        found = self.load_world(**settings) if world is None else world
        plan = self.plan
        _check_signals(plan, found)
        core, num_frames = _core(plan, found)
        seed = plan.seed if seed is None else _checked_seed(seed)
        casting = Casting(found, policies)
        trunk = [CastCue(cue, casting.new_actor(cue)) for cue in plan.timeline]
        roles = [_role(branch, number, core, num_frames, casting, seed) for number, branch in enumerate(plan.branches)]
        state = _begin(plan, core, seed)

        def new_player(cues: list[CastCue] = trunk, first_frame: int = 0) -> Player:
            return Player(cues, found.config.fps, seed, first_frame, casting.neutral)

        branches = play(core, state, roles, new_player, num_frames, on_step)
        return ScenarioResult(
            name=plan.name,
            world=found.fingerprint,
            source=found.config.source,
            seed=seed,
            start=state.starts[0],
            fps=found.config.fps,
            seconds=num_frames / found.config.fps,
            branches=tuple(branches),
            checks=judge(plan.assertions, {branch.name: branch for branch in branches}),
        )

    def num_steps(self, world: World) -> int:
        """The most steps that a branch can take in a world.

        Raises:
            ScenarioError: if the scenario is shorter than a frame, or longer than can be counted.
        """
        return _core(self.plan, world)[0].horizon

    def load_world(
        self,
        world: str | Path | None = None,
        *,
        variant: str | None = None,
        memory: str | None = None,
        **settings: Any,
    ) -> World:
        """Load its world.

        Args:
            world: takes the place of the file's, as do `variant` and `memory`.
            variant: see `World.from_pretrained` for this and all that follow.
            memory: the name of a preset.
            settings: `device`, `num_steps`, `precision`, `text_encoder`.

        Raises:
            ScenarioError: if the file names a world or a variant that does not exist.
            CfworldError: if one is given that does not.
        """
        plan = self.plan
        name = world
        if name is None:
            name = beside(self.file, plan.world)
            try:
                find_world(name)
            except UnknownWorldError as error:
                raise plan.places["world"].error(str(error)) from error
        if variant is None and plan.variant is not None:
            known = variants_of(name)
            if plan.variant not in known:
                raise plan.places["variant"].error(f"got {plan.variant!r}; expected one of {', '.join(known)}")
        return World.from_pretrained(
            name,
            variant=plan.variant if variant is None else variant,
            memory=plan.memory if memory is None else memory,
            **settings,
        )


def _checked_seed(seed: int) -> int:
    if not is_integer(seed) or not 0 <= seed < 2**64:
        raise ConfigError(f"got seed={seed!r}; expected an integer from 0, below 2^64, or None for the file's")
    return int(seed)


def _core(plan: Plan, world: World) -> tuple[EnvCore, int]:
    """How its episodes go on, and its frames."""
    if plan.seconds * world.config.fps >= 2**63:
        raise plan.places["seconds"].error(f"got {plan.seconds:g}; expected less than 2^63 frames")
    num_frames = round(plan.seconds * world.config.fps)
    if num_frames < 1:
        raise plan.places["seconds"].error(
            f"got {plan.seconds:g}; expected at least one frame, {1 / world.config.fps:.3f} s in this world"
        )
    horizon = -(-num_frames // world.config.frames_per_step)
    return make_core(world, horizon=horizon, ends=plan.ends), num_frames


def _check_signals(plan: Plan, world: World) -> None:
    """Refuse a scenario that asks a world for a novelty that it does not have."""
    if world.novelty is not None:
        return
    cues = [cue for timeline in (plan.timeline, *(b.timeline or () for b in plan.branches)) for cue in timeline]
    places = [cue.when.place for cue in cues if cue.when is not None and cue.when.signal == "novelty"]
    places += [one.place for one in plan.assertions if one.check is not None and "novelty" in one.check.signals]
    if places:
        raise places[0].error(
            f"got novelty, of which {world.config.name!r} has no score as {world.variant}; measure it with `cfworld "
            "calibrate`, or look at reward or hazard"
        )


def _role(branch: Branch, number: int, core: EnvCore, num_frames: int, casting: Casting, seed: int) -> Role:
    """A branch in its world: it forks at the first step from its second on."""
    fps, length = core.world.config.fps, core.world.config.frames_per_step
    fork_frame = -(-round(branch.fork * fps) // length) * length
    if fork_frame >= num_frames:
        raise branch.place.error(
            f"got {branch.fork:g}; expected at most {(core.horizon - 1) * length / fps:g}, when the last step begins"
        )
    noise = {"shared": seed, "own": episode_seed(seed, number + 1)}.get(str(branch.noise), branch.noise)
    cues = None if branch.timeline is None else [CastCue(cue, casting.new_actor(cue)) for cue in branch.timeline]
    return Role(name=branch.name, fork_frame=fork_frame, noise=int(noise), cues=cues)


def _begin(plan: Plan, core: EnvCore, seed: int) -> EnvState:
    start = plan.start
    given = start.given
    if isinstance(given, str):
        given = moved_address(given, partial(beside, start.place.file))
    try:
        if start.seed is not None:
            given = core.world.start_of(start.seed)
        return core.begin([seed], [0], [given])
    except StartError as error:
        raise start.place.error(str(error)) from error
