"""`cfworld collect`: records episodes of a simulator as a dataset."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from cfworld.advice import advise
from cfworld.agents.players import FACTORIES
from cfworld.cli import checks, common
from cfworld.cli.presets import preset, preset_of_others
from cfworld.data.collect import collect
from cfworld.data.collection import CollectConfig
from cfworld.data.policies import full_name, who_acts
from cfworld.errors import ConfigError
from cfworld.metrics.recordings import FIRST_SEED

__all__ = ["POLICIES_HELP", "CollectCommand", "main", "policy_weights"]

SUMMARY = (
    "Record episodes of a simulator as a Minari dataset, those of a shipped world in datasets/<world>/<split>, those "
    "of your own environment (env=, out=, and episodes= or ticks=) where you say. The same command resumes a "
    "collection that was interrupted; the data do not depend on the number of workers."
)
EXAMPLE = "world=panorama episodes=20 out=datasets/mine policies=[turn@0.7,scripted:moves.json@0.3]"
POLICIES_HELP = (
    "Policies with weights after an @ (1 where there is none), of which every episode draws one; some shells want "
    f"quotes: 'policies=[turn@0.7,scripted:moves.json@0.3]'. They are {who_acts()}."
)


@dataclass(kw_only=True, slots=True)
class CollectCommand:
    """What `cfworld collect` takes.

    Attributes:
        world: The world whose preset gives what is left out: doom_take_cover, doom_rooms or panorama; null for
            doom_take_cover, and for none of them with `env`, which then needs `out`, and `episodes` or `ticks`.
        split: train, or eval for seeds that no training sees.
        env: Gymnasium id, also in the form `module:id`. A twin is stepped tick by tick; in any other
            environment a step is a tick, and observations, or else `render()`, are the frames.
        out: The dataset's folder; null for datasets/<world>/<split> of a shipped world. What was interrupted there
            is resumed.
        ticks: Stop at the end of the shard in which so many ticks are reached; 0 means no such limit.
        episodes: Stop after so many episodes; 0 means no such limit.
        policies: Policies with weights, of which every episode draws one: see `who_acts`.
        hold_share: The share of episodes in which actions change only every `hold_ticks` ticks, as those of an agent do
            that acts once a step; in the others they change wherever their policy says. Ways out and back, as those of
            look_back, then differ by up to two holds.
        hold_ticks: How long actions are held there: the first of so many ticks decides.
        god_share: The share of episodes whose reset gets the option god.
        max_ticks: Truncate an episode after so many ticks.
        god_max_ticks: The same for episodes with god; 0 means max_ticks.
        seed: Episode e is reset with seed + e. Training data stay below 1000000, held-out ones do not; either is warned
            of otherwise.
        shard_episodes: Episodes in a file; an interruption loses at most this many for each worker.
        workers: Processes. The data do not depend on it.
        env_kwargs: Keyword arguments of the environment.
    """

    world: str | None = None
    split: str = "train"
    env: str | None = None
    out: str | None = None
    ticks: int | None = None
    episodes: int | None = None
    policies: list[str] | None = field(default=None, metadata={"help": POLICIES_HELP})
    hold_share: float = 0.0
    hold_ticks: int = 4
    god_share: float | None = None
    max_ticks: int | None = None
    god_max_ticks: int | None = None
    seed: int | None = None
    shard_episodes: int = 8
    workers: int = 2
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    def resolved(self) -> "CollectCommand":
        """The command with everything that was left out as the preset has it.

        Raises:
            ConfigError: There is no such world or split, or `out` is missing.
        """
        given = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        if self.env and self.world is None:
            if self.out is None:
                raise ConfigError(f"got env={self.env!r} without out=; expected the folder that its dataset goes to")
            known = {"world": None, **preset_of_others(self.split)}
        else:
            world = self.world or "doom_take_cover"
            known = {"world": world, **preset(world, self.split), "out": f"datasets/{world}/{self.split}"}
        return CollectCommand(**{name: known[name] if value is None else value for name, value in given.items()})

    def config(self) -> CollectConfig:
        """The collection alone; importing cfworld.envs registers the shipped simulators in every worker."""
        full = self.resolved()
        values: dict[str, Any] = {entry.name: getattr(full, entry.name) for entry in fields(CollectConfig)}
        values["policies"] = policy_weights(values["policies"])
        if values["env"].startswith("cfworld/"):
            values["env"] = f"cfworld.envs:{values['env']}"
        return CollectConfig(**values)


def policy_weights(policies: list[str]) -> dict[str, float]:
    """Read policies such as `turn@0.7` or `scripted:moves.json`, which weighs 1, under their full names.

    Raises:
        ConfigError: A weight is no number from 0, or a policy stands there twice.
    """
    weights: dict[str, float] = {}
    for entry in policies:
        name, _, weight = entry.rpartition("@") if "@" in entry else (entry, "", "1")
        name = full_name(name)
        if name in weights:
            raise ConfigError(f"got {name!r} twice in policies={policies}; name every policy once")
        try:
            weights[name] = float(weight)
        except ValueError:
            weights[name] = math.nan
        if not (name and math.isfinite(weights[name]) and weights[name] >= 0):
            raise ConfigError(
                f"got {entry!r} in policies; expected a policy, @ and a weight from 0, as in turn@0.7 or "
                "scripted:moves.json@0.3"
            )
    return weights


def run(command: CollectCommand) -> dict[str, Any]:
    """Collect, and return the figures."""
    command, config = command.resolved(), command.config()
    checks.check_folder(config.out)
    _advise_on_seeds(command.split, config)
    figures = collect(config, factories=FACTORIES)
    common.open_output("collect", config.out, command)
    print(f"{figures['episodes']} episodes, {figures['ticks']} ticks in {config.out}")
    return figures


def _advise_on_seeds(split: str, config: CollectConfig) -> None:
    """Warns where training would see the seeds that evaluations draw from, or held-out data were seen in training."""
    last = config.seed + max(config.episodes, 1) - 1
    got = f"got seed={config.seed} with split={split}"
    if split == "train" and last >= FIRST_SEED:
        advise(
            f"{got}, so that episodes are reset with seeds up to {last} or beyond; evaluations draw theirs from "
            f"{FIRST_SEED} on: stay below, or a world is judged on what it was trained on"
        )
    if split == "eval" and config.seed < FIRST_SEED:
        advise(f"{got}; training draws its seeds below {FIRST_SEED}: begin there or above to hold the data out")


def main() -> None:
    """Run `cfworld collect`."""
    common.run_command("collect", CollectCommand, run, SUMMARY, example=EXAMPLE, shown=CollectCommand.resolved)
