"""Starts: short real prefixes from which episodes begin."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from cfworld.data.pictures import rgb_pixels
from cfworld.errors import StartError

if TYPE_CHECKING:
    from cfworld.data import Episode, EpisodeStore

__all__ = ["EncodedStarts", "Start", "content_digest"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Start:
    """A prefix of frames, and the actions that made them.

    Frames of another resolution than the world's are averaged down if height and width are integer multiples of it,
    as the twins do with their screens; a start of any other size is refused when an episode is to begin from it.

    Attributes:
        frames: uint8 [L * frames_per_latent, H, W, 3], L latents that make whole steps.
        actions: One action per frame, [L * frames_per_latent, ...], texts or names as strings; for a Dict space a
            mapping from names to such arrays. None stands for the neutral action at every frame: 0, the point of the
            box nearest to zero, the empty text.
        origin: What brings the same start back when it is given as an environment's `options={"start": ...}`; empty
            if nothing does.
    """

    frames: np.ndarray
    actions: Any = None
    origin: str = ""

    def __post_init__(self) -> None:
        frames = _array(self.frames, "frames")
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise StartError(f"a start's frames are uint8 [T, H, W, 3]; got {frames.dtype} {list(frames.shape)}.")
        if 0 in frames.shape:
            raise StartError(f"a start's frames are {list(frames.shape)}; expected at least one step of them.")
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "actions", _each(self.actions, lambda part: _array(part, "actions")))
        for part in _parts(self.actions):
            if part.shape[:1] != frames.shape[:1]:
                raise StartError(
                    f"a start has one action per frame; got actions {list(part.shape)} for {len(frames)} frames."
                )

    def __eq__(self, other: object) -> bool:
        """Whether another start has the same frames and actions."""
        return isinstance(other, Start) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @classmethod
    def from_image(cls, image: Any, actions: Any = None, *, num_frames: int = 16) -> "Start":
        """A picture held still.

        The world takes it for a moment at which nothing moved, so what flies or turns in the picture begins from rest,
        and what a prefix would have told beside the picture (health, what lies behind) is left open. A picture that
        looks like the world's training data is carried on like any other start. Any other is an experiment: the
        tokenizer can only draw it with the means it has, of which a warning tells once, and a world drifts from there
        to what it knows. `docs/starts.md` shows what the shipped worlds do.

        Args:
            image: uint8 [H, W, 3], a `PIL.Image`, or the path of a picture.
            actions: One action per frame; None means the neutral one throughout.
            num_frames: Frames for which it is held: whole steps of the world, best as many as its own starts have.

        Raises:
            StartError: If there is no such picture, or it is no picture.
        """
        pixels = _pixels(image)
        if num_frames < 1:
            raise StartError(f"got num_frames={num_frames}; expected whole steps of the world: 16, say.")
        return cls(frames=np.repeat(pixels[None], num_frames, axis=0), actions=actions)

    @classmethod
    def from_clip(cls, frames: Any, actions: Any = None, *, frames_per_step: int = 4) -> "Start":
        """The whole steps at the end of a clip; the frames before them are left out, with their actions.

        Args:
            frames: uint8 [T, H, W, 3], of any length from one step; the longer, the more the world remembers.
            actions: One action per frame, what made it; None means the neutral one throughout.
            frames_per_step: The world's `config.frames_per_step`.

        Raises:
            StartError: If the clip holds no step, or frames or actions are none.
        """
        if frames_per_step < 1:
            raise StartError(f"got frames_per_step={frames_per_step}; expected the world's config.frames_per_step.")
        whole = cls(frames=_array(frames, "frames"), actions=actions)
        length = len(whole.frames)
        if length < frames_per_step:
            raise StartError(f"got a clip of {length} frames; expected at least one step of {frames_per_step}.")
        first = length % frames_per_step
        return cls(frames=whole.frames[first:], actions=_each(whole.actions, lambda part: part[first:]))

    @classmethod
    def from_episode(
        cls,
        source: "Episode | EpisodeStore | str | Path",
        episode: int = 0,
        tick: int | None = None,
        *,
        num_latents: int = 4,
        frames_per_latent: int = 4,
    ) -> "Start":
        """The moment of a recorded episode at which `tick` ticks have passed.

        The world takes over there: what it makes of `actions[tick:]` may be laid beside the recorded
        `frames[tick + 1:]`.

        Args:
            source: An `Episode` or an `EpisodeStore` of `cfworld.data`, or what `EpisodeStore.open` opens.
            episode: Which episode of the store.
            tick: Ticks before the world takes over; None means the earliest possible.
            num_latents: Latents of the prefix, best the world's `config.prefix_latents`.
            frames_per_latent: The world's own.

        Raises:
            StartError: If there is no such episode, too little has passed at that tick, or the episode ends with it.
            DatasetError: If there is no such dataset, or it is damaged.
        """
        from cfworld.data import Episode, EpisodeStore
        from cfworld.data.action_space import nested

        if num_latents < 1 or frames_per_latent < 1:
            raise StartError(f"got {num_latents} latents of {frames_per_latent} frames; expected at least 1 of each.")
        length = num_latents * frames_per_latent
        tick = length if tick is None else tick
        if isinstance(source, Episode):
            _check_moment("this episode", tick, length, len(source), source.terminated)
            moment = slice(tick - length, tick)
            return cls(frames=source.frames[1:][moment], actions=source.actions[moment])
        store = source if isinstance(source, EpisodeStore) else EpisodeStore.open(source)
        if not 0 <= episode < len(store):
            raise StartError(f"got episode {episode}; {str(store.folder)!r} holds episodes 0 to {len(store) - 1}.")
        ticks, name = int(store.lengths[episode]), f"episode {episode} of {str(store.folder)!r}"
        _check_moment(name, tick, length, ticks, ended=False)
        piece = store.episode(episode, tick - length, tick)
        _check_moment(name, tick, length, ticks, piece.terminated)
        origin = f"minari:{store.folder}#{store.stored_number(episode)}@{tick - length}..{tick}"
        actions = nested(store.action_space, piece.actions, store.texts)
        return cls(frames=piece.frames[1:], actions=actions, origin=origin)

    @property
    def digest(self) -> str:
        """SHA-256 of frames and actions, shortened."""
        return content_digest([self.frames, *_parts(self.actions)])

    @property
    def name(self) -> str:
        """What to write into a log: the origin, or a digest of the contents."""
        return self.origin or f"sha256:{self.digest}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedStarts:
    """The starts that a world ships, as latents.

    Attributes:
        latents: [K, L, C, h, w].
        actions: [K, L, f, ...]; see `PromptEncoder`.
        seeds: Seed of the twin's episode that each was cut from, [K] int64.
    """

    latents: Tensor
    actions: Tensor
    seeds: Tensor

    def __len__(self) -> int:
        return self.latents.shape[0]

    def pick(self, index: int) -> tuple[Tensor, Tensor]:
        """Latents [L, C, h, w] and actions [L, f, ...] of one start.

        Raises:
            StartError: If there is no such start.
        """
        if not len(self):
            raise StartError(
                f"there is no start {index}: this world ships none. Leave the start out, or give an Opening or a Start."
            )
        if not 0 <= index < len(self):
            raise StartError(f"there is no start {index}; this world ships starts 0 to {len(self) - 1}.")
        return self.latents[index], self.actions[index]


def content_digest(arrays: Sequence[np.ndarray]) -> str:
    """The first 16 digits of the SHA-256 of arrays with their types and shapes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _array(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise StartError(f"the {what} of a start form no array ({error}); expected equal shapes.") from error


def _each(actions: Any, change: Callable[[Any], np.ndarray]) -> Any:
    """Actions with something done to their array, or to each part of a mapping."""
    if isinstance(actions, Mapping):
        return {name: change(part) for name, part in actions.items()}
    return None if actions is None else change(actions)


def _parts(actions: Any) -> list[np.ndarray]:
    """The arrays of actions, those of a mapping in the order of their names."""
    if isinstance(actions, Mapping):
        return [part for _, part in sorted(actions.items())]
    return [] if actions is None else [actions]


def _pixels(image: Any) -> np.ndarray:
    """Pixels [H, W, 3] of what `from_image` takes."""
    if isinstance(image, str | Path):
        try:
            with Image.open(image) as picture:
                return _rgb(picture)
        except (OSError, Image.DecompressionBombError) as error:
            raise StartError(f"{str(image)!r} cannot be read as a picture ({error}); give a PNG or JPEG.") from error
    pixels = _rgb(image) if isinstance(image, Image.Image) else _array(image, "pixels")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise StartError(f"an image is uint8 [H, W, 3]; got {pixels.dtype} {list(pixels.shape)}.")
    return pixels


def _rgb(picture: Image.Image) -> np.ndarray:
    try:
        return rgb_pixels(picture)
    except ValueError as error:
        raise StartError(f"{error}.") from error


def _check_moment(name: str, tick: int, length: int, ticks: int, ended: bool) -> None:
    if not length <= tick <= ticks:
        raise StartError(
            f"got tick {tick} of {name}, which has {ticks}; expected one from {length}, the frames of the prefix, to "
            f"{ticks}."
        )
    if ended and tick == ticks:
        raise StartError(f"{name} ends with tick {tick}, so that nothing follows; give an earlier one.")
