"""What may name a start in `options={"start": ...}` or `starts=[...]`, and how it becomes one."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfworld.envs.env_state import EnvState
from cfworld.errors import CheckpointError, DatasetError, StartError
from cfworld.files import is_file
from cfworld.world import Opening, Start, World, WorldState
from cfworld.world.start import content_digest

__all__ = ["ChosenStart", "find_start", "moved_address"]

DATASET = re.compile(r"minari:(?P<path>.+)#(?P<episode>\d+)(@((?P<first>\d+)\.\.)?(?P<tick>\d+))?")

PROMPT = "prompt:"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenStart:
    """A start that fits its world, and its name."""

    start: int | Start | WorldState | Opening
    """What `World.initial` takes."""
    name: int | str
    """What `info["start"]` says: the index of a shipped start, the path or address that was given, or a digest."""


def find_start(given: Any, world: World) -> ChosenStart:
    """The start that something from outside names.

    Args:
        given: One of

            - an index into the world's starts;
            - a `Start`: see `Start.from_image`, `Start.from_clip` and `Start.from_episode`;
            - a `WorldState` of one row, or what `get_state()` gave: a new episode from that moment, under its own seed
              and with all steps of the horizon before it (`set_state` goes on with the old one);
            - the path of a state of one row that `WorldState.save` or `EnvState.save` wrote, `*.safetensors`;
            - "minari:DATASET#EPISODE@TICK": the moment of a recorded episode at which TICK ticks have passed, after
              a prefix as long as the world's own; "@FIRST..TICK" sets its first tick too, and without either it is
              the earliest moment there is;
            - an `Opening`, or "prompt:ACTION": the first chunk is generated from nothing, under a text or a named
              action;
            - the path of a picture, held still for as long as the world's own starts.
        world: The world.

    Returns:
        The start. Files are read at every call: resolve a start that is used often once, by `starts=[...]` or as a
        `Start` or `WorldState` of your own.

    Raises:
        StartError: If there is no such start, or it does not fit the world.
        DonatedStateError: If it is a state that has been donated.
    """
    if isinstance(given, str | Path):
        found = _from_address(str(given), world)
    else:
        found = _running(given, world) if isinstance(given, EnvState) else given
    world.check_start(found)
    if isinstance(found, np.integer):
        found = int(found)
    return ChosenStart(start=found, name=str(given) if isinstance(given, str | Path) else _name(found))


def moved_address(address: str, move: Callable[[str], str]) -> str:
    """The same address with another path in it, if it has one."""
    if address.startswith(PROMPT):
        return address
    if match := DATASET.fullmatch(address):
        return address[: match.start("path")] + move(match["path"]) + address[match.end("path") :]
    return move(address)


def _from_address(address: str, world: World) -> Start | WorldState | Opening:
    config = world.config
    if address.startswith(PROMPT):
        return Opening(action=address.removeprefix(PROMPT))
    if address.startswith("minari:"):
        return _from_dataset(address, config.prefix_latents, config.frames_per_latent)
    if not is_file(address):
        raise StartError(
            f"got {address!r} as a start, and there is no such file; expected an index, a Start, a WorldState, the "
            'path of a picture or of a saved state (*.safetensors), "minari:DATASET#EPISODE@TICK" or "prompt:ACTION"'
        )
    if address.endswith(".safetensors"):
        return _from_state(address, world)
    return Start.from_image(address, num_frames=config.prefix_latents * config.frames_per_latent)


def _from_dataset(address: str, num_latents: int, frames_per_latent: int) -> Start:
    match = DATASET.fullmatch(address)
    if match is None:
        raise StartError(f'got {address!r} as a start; expected "minari:DATASET#EPISODE@TICK"')
    tick = None if match["tick"] is None else int(match["tick"])
    if tick is not None and match["first"] is not None:
        num_latents, rest = divmod(tick - int(match["first"]), frames_per_latent)
        if rest or num_latents < 1:
            raise StartError(
                f"got {address!r} as a start; expected a prefix of whole latents of {frames_per_latent} ticks"
            )
    try:
        return Start.from_episode(
            match["path"], int(match["episode"]), tick, num_latents=num_latents, frames_per_latent=frames_per_latent
        )
    except DatasetError as error:
        raise StartError(f"got {address!r} as a start: {error}") from error


def _from_state(address: str, world: World) -> WorldState:
    try:
        return WorldState.load(address, device=world.device)
    except CheckpointError:
        try:
            return _running(EnvState.load(address, device=world.device), world)
        except CheckpointError as error:
            raise StartError(
                f"got {address!r} as a start; it holds no state that WorldState.save or EnvState.save wrote"
            ) from error


def _running(snapshot: EnvState, world: World) -> WorldState:
    """The world's state, unless the episode has ended, by a user's function or by itself."""
    world.check_start(snapshot.world)
    if bool((snapshot.end_frame < world.config.frames_per_step).any()):
        raise StartError("got a snapshot whose episode has ended as a start; expected one from before its end")
    return snapshot.world


def _name(start: int | Start | WorldState | Opening) -> int | str:
    if isinstance(start, WorldState):
        memory = start.memory
        held = (memory.latents, memory.actions, memory.source, start.seeds, start.step)
        return f"state:sha256:{content_digest([tensor.cpu().numpy() for tensor in held])}"
    return start.name if isinstance(start, Start | Opening) else start
