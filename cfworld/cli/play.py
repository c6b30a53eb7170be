"""`cfworld play`: a person acts in a world, or in its simulator, by the keyboard."""

import json
import math
import os
import signal
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Discrete

from cfworld.cli import common
from cfworld.cli.browser import BrowserWindow
from cfworld.cli.scale import check_scale
from cfworld.envs.keyboard import action_of, key_map
from cfworld.envs.overlay import Caption, annotate, annotated_size
from cfworld.envs.rendering import Window
from cfworld.envs.twins import Twin
from cfworld.envs.world_env import EnvState, WorldEnv
from cfworld.errors import ConfigError
from cfworld.export.video import VideoWriter, open_video
from cfworld.files import write_text
from cfworld.interruption import on_signals
from cfworld.world import World, WorldConfig

__all__ = ["PlayConfig", "main", "play"]

SUMMARY = (
    "Play a world by the keyboard: arrows or WASD where the actions' names speak of ways, digits for any action. "
    "Space pauses, R begins a new episode, F5 keeps the moment and F9 goes back to it, Escape leaves. With port= it "
    "does so on a web page, also where there is no screen. What was played is kept as a video and, episode by episode, "
    "as scripts for policy=scripted:FILE."
)
EXAMPLE = "world=panorama keys.space='turn left' port=8000"
_LEAST_SCALE = 4
_CONTROLS = {"space": "pause", "r": "new episode", "f5": "keep the moment", "f9": "go back to it", "escape": "leave"}
"""What keys do that stand for no action."""


@dataclass(kw_only=True, slots=True)
class PlayConfig:
    """What `cfworld play` takes.

    Attributes:
        world: A world of the zoo, or a checkpoint folder.
        variant: student or teacher; null for the student where there is one.
        twin: Play the simulator that the world was learned from instead.
        seed: Of the first episode; the next ones follow from it.
        keys: Keys of your own, by pygame's names, with the actions' names or numbers: keys.q="move left".
        port: Play in a browser, on a page at http://HOST:PORT, in place of a window; 0 takes a free port. On another
            machine, `ssh -L 8000:127.0.0.1:8000 MACHINE` brings port=8000 here.
        host: The address that the page is served at, null for 127.0.0.1, which this machine alone can reach; 0.0.0.0
            for all who can reach this machine, who may then all play.
        scale: Window pixels per pixel.
        speed: Share of the game's own speed; the world is slower where the machine is.
        max_steps: Leave after so many steps; 0 sets no limit.
        device: Where to compute: cpu, cuda, cuda:1 ...
        out: Folder for video and scripts; null for outputs/play/<time>.
    """

    world: str
    variant: str | None = None
    twin: bool = False
    seed: int = 0
    keys: dict[str, Any] = field(default_factory=dict)
    port: int | None = None
    host: str | None = None
    scale: int = 8
    speed: float = 1.0
    max_steps: int = 0
    device: str = "cpu"
    out: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no window can show and no episode begin from."""
        if self.scale < _LEAST_SCALE:
            raise ConfigError(f"got scale={self.scale}; expected at least {_LEAST_SCALE}, for the panel to be readable")
        if self.port is not None and not 0 <= self.port < 2**16:
            raise ConfigError(f"got port={self.port}; expected 0 to {2**16 - 1}, where 0 takes a free one")
        if self.host is not None and self.port is None:
            raise ConfigError(f"got host={self.host} without port; expected a port too, for a page to be served at")
        if not 0 < self.speed < math.inf:
            raise ConfigError(f"got speed={self.speed}; expected a finite number above 0, such as 1.0")
        if self.max_steps < 0:
            raise ConfigError(f"got max_steps={self.max_steps}; expected 0 or more, where 0 sets no limit")
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"got seed={self.seed}; expected 0 or more, below 2^64")


class _Game:
    """One sitting: the environment, its window, and what is kept of it."""

    def __init__(
        self,
        config: PlayConfig,
        env: Any,
        names: Sequence[str],
        mapped: Mapping[str, int],
        folder: Path,
        window: Window | BrowserWindow,
        video: VideoWriter,
    ):
        self.config, self.folder, self.window, self.video = config, folder, window, video
        self.env, self.names, self.mapped = env, names, mapped
        self.controls = _controls(config, mapped)
        self.steps = 0
        self.episode = 0
        self.score = 0.0
        self.script: list[list[int]] = []
        self.kept: tuple[EnvState, float, list[list[int]]] | None = None
        self.figures: list[dict[str, Any]] = []

    def run(self) -> list[dict[str, Any]]:
        """Play until the player leaves, by Ctrl-C or SIGTERM too; return the figures of the episodes."""
        with suppress(KeyboardInterrupt), on_signals(signal.default_int_handler, signal.SIGTERM):
            self._play()
        self._end("left")
        return self.figures

    def _play(self) -> None:
        self.env.reset(seed=self.config.seed)
        self._show(self.env.frames()[-1:], "", None)
        paused = False
        while not self.config.max_steps or self.steps < self.config.max_steps:
            keys = self.window.keys()
            asked = set(keys.pressed) & self.controls.keys()
            if keys.closed or "escape" in asked:
                break
            paused ^= "space" in asked
            if "f5" in asked:
                self.kept = (self.env.get_state(), self.score, list(self.script))
            if "f9" in asked and self.kept:
                self.env.set_state(self.kept[0])
                self.score, self.script = self.kept[1], list(self.kept[2])
            if "r" in asked:
                self._begin_again("left")
            if paused:
                self._show(self.env.frames()[-1:], "paused", None, record=False)
            else:
                self._step(action_of(keys, self.mapped))

    def _step(self, action: int) -> None:
        _, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        self.score += float(reward)
        frames = self.env.frames()
        self.script.append([action, len(frames)])
        name = self.names[action] if self.names else str(action)
        self._show(frames[: info["end_frame"] + 1], name, info)
        if terminated or truncated:
            self._show(frames[-1:], name, info, banner="END" if terminated else "TIME")
            self._begin_again("ended" if terminated else "truncated")

    def _show(self, frames: Any, name: str, info: Any, *, banner: str = "", record: bool = True) -> None:
        hazard = 0.0 if info is None or "hazard" not in info else float(max(info["hazard"]))
        caption = Caption(action=name, reward=self.score, hazard=hazard, note=f"episode {self.episode}", banner=banner)
        for frame in frames:
            picture = annotate(frame, caption, self.config.scale)
            self.window.show(picture)
            if record:
                self.video.add(picture)

    def _begin_again(self, how: str) -> None:
        self._end(how)
        self.env.reset()

    def _end(self, how: str) -> None:
        """Keep the script of an episode, and its figures."""
        if not self.script:
            return
        path = self.folder / f"episode_{self.episode:03d}.json"
        write_text(path, json.dumps(self.script) + "\n")
        self.figures.append({"script": path.name, "steps": len(self.script), "score": self.score, "how": how})
        self.episode, self.score, self.script, self.kept = self.episode + 1, 0.0, [], None


def play(config: PlayConfig) -> dict[str, Any]:
    """Open the window, or serve the page, and let the player play; return the figures of the episodes.

    Raises:
        ConfigError: if the world's actions are not Discrete, a key stands for an action that does not exist, frames of
            this scale cannot be kept as a video, there is no screen for a window, or no page can be served.
        MissingDependencyError: without pygame, where a window is to open.
    """
    world = World.from_pretrained(config.world, variant=config.variant, device=config.device)
    settings = world.config
    check_scale(config.scale, settings.resolution, least=_LEAST_SCALE)
    actions = settings.actions
    mapped = key_map(actions.names, actions.num_actions, config.keys)
    with ExitStack() as stack:
        env = _environment(config, world)
        stack.callback(env.close)
        folder = common.open_output("play", config.out, config)
        window = _window(config, settings, mapped)
        stack.callback(window.close)
        video = stack.enter_context(open_video(folder / "play.mp4", settings.fps))
        episodes = _Game(config, env, actions.names, mapped, folder, window, video).run()
    figures = {"world": settings.name, "twin": config.twin, "seed": config.seed, "episodes": episodes}
    common.write_figures(folder, "play", figures)
    print(f"{len(episodes)} episodes in {folder}")
    return figures


def _window(config: PlayConfig, settings: WorldConfig, mapped: Mapping[str, int]) -> Window | BrowserWindow:
    """Where it is shown, and who reads the keys."""
    title, fps = f"cfworld: {settings.name}", settings.fps * config.speed
    if config.port is None:
        window = Window(title, annotated_size(settings.resolution, config.scale), fps, scale=1)
        if not window.is_seen and "SDL_VIDEODRIVER" not in os.environ:
            window.close()
            raise ConfigError("found no screen to open a window on; give port=8000 to play in a browser")
        _check_keys(config.keys, window, "pygame's name of a key, such as q, space or left shift")
        return window
    names = settings.actions.names or [str(number) for number in range(settings.actions.num_actions)]
    controls = _controls(config, mapped)
    labels = {key: names[number] for key, number in mapped.items()} | controls
    buttons = {key: label for key, label in labels.items() if key.isdecimal() or key in controls}
    told = "Keys: " + ", ".join(f"{key} ({label})" for key, label in labels.items())
    host = config.host or "127.0.0.1"
    page = BrowserWindow(title, fps, buttons=buttons, known=mapped, told=told, host=host, port=config.port)
    _check_keys(config.keys, page, "pygame's name of a key that a page can read, such as q, space or left shift")
    print(f"Open {page.address} in a browser; the game waits until it is open, and Ctrl-C ends it.", flush=True)
    return page


def _check_keys(keys: Collection[str], window: Window | BrowserWindow, expected: str) -> None:
    """Closes the window, and says what was expected, where it cannot read one of the player's keys."""
    if unknown := [key for key in keys if not window.has_key(key)]:
        window.close()
        raise ConfigError(f"got keys.{unknown[0]}; expected {expected}")


def _controls(config: PlayConfig, mapped: Mapping[str, int]) -> dict[str, str]:
    """The keys that stand for no action, with what they do: those that no action has taken, and that work here."""
    moments = ("f5", "f9") if config.twin else ()  # a simulator cannot be forked
    return {key: does for key, does in _CONTROLS.items() if key not in mapped and key not in moments}


def _environment(config: PlayConfig, world: World) -> Any:
    """The world's environment, or that of its simulator."""
    if not config.twin:
        env: Any = WorldEnv(world)
    else:
        if not world.config.source.startswith("cfworld/"):
            raise ConfigError(
                f"got twin=true for a world learned from {world.config.source!r}; it has no simulator here"
            )
        env = gym.make(world.config.source, disable_env_checker=True).unwrapped
        assert isinstance(env, Twin)
    if not isinstance(env.action_space, Discrete):
        raise ConfigError(f"got a world with actions {env.action_space}; expected Discrete ones, one key each")
    return env


def main() -> None:
    """Run `cfworld play`."""
    common.run_command("play", PlayConfig, play, SUMMARY, example=EXAMPLE)
