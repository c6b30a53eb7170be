"""Episodes of a world generated side by side, given in the order of their numbers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from cfworld.data import Episode
from cfworld.data.action_space import nested
from cfworld.data.choices import neutral_action
from cfworld.data.policies import Policy, PolicyFactory, draw_policy, make_policy
from cfworld.envs.vector_env import WorldVectorEnv
from cfworld.export.config import ExportConfig
from cfworld.world import World

__all__ = ["check_rows", "generated_episodes", "told_variables"]


@dataclass(kw_only=True, slots=True)
class _Row:
    """An episode under way."""

    index: int
    seed: int
    start: int | str
    name: str
    """The policy's."""
    policy: Policy
    seen: np.ndarray
    """The frames of the last step, uint8 [F, H, W, 3]."""
    frames: list[np.ndarray]
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[np.ndarray] = field(default_factory=list)
    variables: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, actions: np.ndarray, infos: Mapping[str, Any], row: int) -> None:
        """Take in a step, up to the frame at which the episode ended."""
        kept = slice(min(int(infos["end_frame"][row]) + 1, len(actions)))
        self.seen = infos["frames"][row]
        self.frames.append(self.seen[kept])
        self.actions.append(actions[kept])
        self.rewards.append(infos["reward_frames"][row, kept])
        for name, values in self.variables.items():
            values.append(np.broadcast_to(infos[name][row], len(actions))[kept])

    def finished(self, source: str, terminated: bool) -> Episode:
        """The episode."""
        return Episode(
            frames=np.concatenate(self.frames),
            actions=np.concatenate(self.actions),
            rewards=np.concatenate(self.rewards),
            terminated=terminated,
            truncated=not terminated,
            seed=self.seed,
            source=source,
            policy=self.name,
            variables={name: np.concatenate(values) for name, values in self.variables.items()},
            options={"start": self.start},
        )


def check_rows(world: World, config: ExportConfig, factories: Mapping[str, PolicyFactory]) -> None:
    """Refuse what `generated_episodes` could not generate.

    Args:
        world: The world, as it was loaded.
        config: The export.
        factories: More kinds of policies, by name.

    Raises:
        ConfigError: There is no such policy, or the world does not take the settings.
        StartError: There is no such start.
    """
    space = _env(world, config, 1).single_action_space
    for name in config.policies:
        make_policy(name, np.random.default_rng(0), space, factories)


def generated_episodes(
    world: World,
    config: ExportConfig,
    source: str,
    indices: Iterable[int],
    factories: Mapping[str, PolicyFactory],
) -> Iterator[Episode]:
    """Generate episodes, `config.rows` at a time.

    As soon as an episode has ended the next one takes its row. Those that end before an earlier one wait for it, which
    takes memory for at most as many frames as all rows generate during the longest episode.

    Args:
        world: The world, as it was loaded.
        config: The export.
        source: What the episodes say they come from.
        indices: Their numbers, rising.
        factories: More kinds of policies, by name.

    Yields:
        The episodes, in the order of `indices`. Beside their frames they hold the world's hazard at every frame and,
        where it has a score, the novelty of every frame's step, both 0 at the reset frame.

    Raises:
        ConfigError: There is no such policy, or the world does not take the settings.
        StartError: There is no such start.
    """
    waiting = iter(order := list(indices))
    if not order:
        return
    # A GPU's last digits depend on the size of the batch, which is therefore the same for every run.
    num_rows = config.rows if world.device.type != "cpu" else min(config.rows, len(order))
    env = _env(world, config, num_rows)
    space = env.single_action_space
    idle = np.broadcast_to(neutral_action(space), (env.num_frames, *neutral_action(space).shape))
    rows: list[_Row | None] = [None] * num_rows
    done: dict[int, Episode] = {}
    fresh = np.ones(num_rows, np.bool_)
    for index in order:
        while index not in done:
            if fresh.any():
                _begin(env, config, rows, fresh, waiting, factories)
            actions = np.stack([idle if row is None else row.policy(row.seen, env.num_frames) for row in rows])
            _, _, terminated, truncated, infos = env.step(nested(space, actions))
            fresh = terminated | truncated
            for place, row in enumerate(rows):
                if row is not None:
                    row.add(actions[place], infos, place)
                    if fresh[place]:
                        done[row.index] = row.finished(source, bool(terminated[place]))
        yield done.pop(index)


def _env(world: World, config: ExportConfig, num_rows: int) -> WorldVectorEnv:
    return WorldVectorEnv(
        num_rows,
        world,
        horizon=config.max_steps,
        ends=config.ends,
        truncate_above=config.truncate_above,
        starts=None if config.starts is None else [_start(start) for start in config.starts],
        info_frames=True,
        autoreset_mode=AutoresetMode.DISABLED,
    )


def _begin(
    env: WorldVectorEnv,
    config: ExportConfig,
    rows: list[_Row | None],
    fresh: np.ndarray,
    waiting: Iterator[int],
    factories: Mapping[str, PolicyFactory],
) -> None:
    """Give the rows of a mask the next episodes; where there is none, a row idles in any."""
    places = np.flatnonzero(fresh).tolist()
    chosen = {place: next(waiting, None) for place in places}
    seeds = [config.seed + (chosen.get(place) or 0) if fresh[place] else None for place in range(len(rows))]
    _, infos = env.reset(seed=seeds, options={"reset_mask": fresh})
    for place, index in chosen.items():
        rows[place] = None
        if index is not None:
            name, policy = _policy(config, index, env, factories)
            first = infos["frames"][place]
            start = infos["start"][place]
            rows[place] = _Row(
                index=index,
                seed=config.seed + index,
                start=start if isinstance(start, str) else int(start),
                name=name,
                policy=policy,
                seen=first,
                frames=[first[-1:]],
                variables={known: [np.zeros(1, np.float32)] for known in told_variables(env.world)},
            )


def _policy(
    config: ExportConfig, index: int, env: WorldVectorEnv, factories: Mapping[str, PolicyFactory]
) -> tuple[str, Policy]:
    """Who acts in an episode, by its number."""
    rng = np.random.default_rng(np.random.SeedSequence((config.seed, index)))
    name = draw_policy(config.policies, rng)
    return name, make_policy(name, rng, env.single_action_space, factories)


def told_variables(world: World) -> list[str]:
    """What a world says of its own frames."""
    return ["hazard"] if world.novelty is None else ["hazard", "novelty"]


def _start(start: str) -> int | str:
    return int(start) if start.isdecimal() else start
