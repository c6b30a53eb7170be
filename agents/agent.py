"""A trained agent: its card, its network, and how it acts."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load, save
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy

from cfworld.agents.card import AgentCard, read_card, tokenizer_digest
from cfworld.agents.drawing import draw
from cfworld.agents.policy import build_policy, num_own
from cfworld.agents.sight import Eyes, Seen
from cfworld.data.policy_files import agent_folder
from cfworld.errors import CheckpointError, ConfigError
from cfworld.files import write_aside
from cfworld.world import World

__all__ = ["Agent", "write_agent"]

_FORMER_FILE = "policy.safetensors"
"""Where all agents had their weights before files were named by what is in them."""


class Agent:
    """A trained agent, a `Player`; `Agent.load` reads one.

    Args:
        card: what it is.
        policy: its network.
        world: the world whose actions it takes, and whose tokenizer makes latents of a simulator's frames.
    """

    def __init__(self, card: AgentCard, policy: ActorCriticPolicy, world: World):
        self.card = card
        self.policy = policy.eval().requires_grad_(False)
        self.eyes = Eyes(card.obs, card.stack, card.blind, world, num_own(card, world))
        self._state: Any = None
        self._starts: np.ndarray = np.zeros(0, bool)
        self._rngs: list[np.random.Generator] = []

    @classmethod
    def load(cls, folder: str | Path, world: World | None = None) -> "Agent":
        """Read an agent that `cfworld agent-train` wrote.

        Args:
            folder: where it lies, or `agent:<world>` for the agent that ships with a world of the zoo; see
                `cfworld.data.policy_files.agent_folder`.
            world: where it shall act; None loads the world that its card names.

        Raises:
            CheckpointError: if there is no agent, or its weights are not those that its card names.
            ConfigError: if it does not fit the world.
        """
        folder = agent_folder(folder) or Path(folder)
        card, weights = _read(folder)
        world = World.from_pretrained(card.world) if world is None else world
        if card.tokenizer and card.tokenizer != tokenizer_digest(world.tokenizer):
            raise ConfigError(
                f"the agent {str(folder)!r} sees the latents of tokenizer {card.tokenizer}; world "
                f"{world.config.name!r} has {tokenizer_digest(world.tokenizer)}: train it in that world"
            )
        policy = build_policy(card, world)
        _put(weights, policy, folder)
        return cls(card, policy, world)

    @property
    def looks(self) -> bool:
        """Whether it looks at frames in a generated world."""
        return self.card.obs != "latent" and not self.card.blind

    def begin(self, seeds: Sequence[int]) -> None:
        """Begin an episode per seed."""
        self.eyes.begin()
        self._state = None
        self._starts = np.ones(len(seeds), bool)
        self._rngs = [np.random.default_rng(np.random.SeedSequence((seed, _ACTION_STREAM))) for seed in seeds]

    def act(self, seen: Seen) -> np.ndarray:
        """One action for each running episode; drawn ones follow from the episode's seed."""
        observation = self.eyes.look(seen)
        if self.card.deterministic:
            actions, self._state = self.policy.predict(observation, self._state, self._starts, deterministic=True)
        else:
            actions = self._drawn(observation)
        self._starts = np.zeros_like(self._starts)
        self.eyes.acted(actions)
        return actions

    @torch.no_grad()
    def _drawn(self, observation: np.ndarray) -> np.ndarray:
        """What `predict` would draw, but from the generators of the episodes."""
        policy = self.policy
        shown: Any = policy.obs_to_tensor(observation)[0]
        if isinstance(policy, RecurrentActorCriticPolicy):
            layers, _, width = policy.lstm_hidden_state_shape
            nothing = np.zeros((layers, len(observation), width), np.float32)
            state = [torch.as_tensor(part, device=policy.device) for part in self._state or (nothing, nothing)]
            starts = torch.as_tensor(self._starts, dtype=torch.float32, device=policy.device)
            likely, state = policy.get_distribution(shown, (state[0], state[1]), starts)
            self._state = tuple(part.cpu().numpy() for part in state)
        else:
            likely = policy.get_distribution(shown)
        shares: Any = likely.distribution
        actions = draw(shares, self._rngs)
        space = policy.action_space
        return actions.clip(space.low, space.high) if isinstance(space, spaces.Box) else actions

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these episodes."""
        self.eyes.keep(rows)
        self._starts = self._starts[rows]
        self._rngs = [self._rngs[row] for row in rows]
        if self._state is not None:
            self._state = tuple(part[:, rows] for part in self._state)


_ACTION_STREAM = 7


def write_agent(policy: ActorCriticPolicy, card: AgentCard, folder: Path) -> None:
    """Write an agent into its folder, in which there is at every moment either this agent or the one before.

    Args:
        policy: its network.
        card: what it is; its `weights` are those that are written.
        folder: where. Weights that the card no longer names are removed.
    """
    content = save({name: value.detach().cpu().contiguous() for name, value in policy.named_parameters()})
    checksum = hashlib.sha256(content).hexdigest()
    path = _weights_path(folder, checksum)
    with write_aside(path) as aside:
        aside.write_bytes(content)
    replace(card, weights=checksum).write(folder)
    for former in folder.glob("policy*.safetensors"):
        if former != path:
            former.unlink()


def _weights_path(folder: Path, checksum: str) -> Path:
    """Named by what is in it, so that no weights take the place of others before the card names them."""
    return folder / f"policy-{checksum[:12]}.safetensors"


def _read(folder: Path) -> tuple[AgentCard, bytes]:
    """A card and the weights that it names, also where a training puts the next agent there meanwhile."""
    card = read_card(folder)
    try:
        return card, _read_weights(folder, card.weights)
    except CheckpointError:
        if (following := read_card(folder)).weights == card.weights:
            raise
        return following, _read_weights(folder, following.weights)


def _read_weights(folder: Path, checksum: str) -> bytes:
    path, former = _weights_path(folder, checksum), folder / _FORMER_FILE
    if former.exists() and not path.exists():
        path = former
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); copy the agent's whole folder") from error
    if hashlib.sha256(content).hexdigest() != checksum:
        raise CheckpointError(f"{path} is damaged, or not the file that the agent's card names; copy the folder anew")
    return content


def _put(weights: bytes, policy: ActorCriticPolicy, folder: Path) -> None:
    """Give a policy the weights that were read from a folder."""
    try:
        tensors = load(weights)
    except SafetensorError as error:
        raise CheckpointError(f"{folder} holds no weights ({error}); copy the folder anew") from error
    own = dict(policy.named_parameters())  # networks that policy and value share come once
    got, expected = ({name: list(value.shape) for name, value in named.items()} for named in (tensors, own))
    if got != expected:
        odd = sorted(name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name))
        raise ConfigError(
            f"the weights in {folder} do not fit the world: {odd[0]} is {got.get(odd[0])}; "
            f"expected {expected.get(odd[0])}"
        )
    for name, parameter in own.items():
        parameter.data.copy_(tensors[name])
