"""An agent's card: all that must be known to use its weights, as JSON beside them."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cfworld.agents.config import AgentTrainConfig, Algorithm, Obs
from cfworld.data.policies import AGENT_CARD
from cfworld.errors import CheckpointError, ConfigError
from cfworld.files import write_json
from cfworld.settings import check_counts
from cfworld.tokenizer import Tokenizer
from cfworld.world import World

__all__ = ["AgentCard", "card_of", "read_card", "tokenizer_digest"]

SCHEMA_VERSION = 3
_WIDTH_BEFORE_VERSION_3 = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentCard:
    """What an agent needs, and where it comes from."""

    world: str
    """The world that it was made for, as it was named: of the zoo, or a checkpoint folder."""
    world_fingerprint: str
    """That world's weights, as `World.fingerprint` names them."""
    tokenizer: str
    """Digest of the tokenizer whose latents it sees; empty if it sees none."""
    env: str
    """Where it was trained: "dream" or "twin"."""
    algorithm: str
    """"ppo" or "recurrent_ppo"."""
    obs: str
    """"frame", "frames" or "latent"."""
    stack: int
    """How many steps it sees at once."""
    own_actions: bool
    """Whether it also sees what it did last."""
    blind: bool
    """Whether it sees zeros only."""
    deterministic: bool
    """Whether it takes its likeliest action, rather than drawing one."""
    width: int
    """Sizes of its network; see `AgentTrainConfig`."""
    features: int
    hidden: int
    lstm: int
    steps: int
    """Steps that it was trained for."""
    real_score: float | None
    """Its mean return in the simulator when it was saved; None if it was not measured."""
    seed: int
    weights: str
    """SHA-256 of the file with its weights."""

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        for choice, value in ((Algorithm, self.algorithm), (Obs, self.obs)):
            choice(value)
        check_counts(self, "stack", "width", "features", "hidden", "lstm")

    def write(self, folder: Path) -> None:
        """Write the card into the agent's folder."""
        write_json(folder / AGENT_CARD, {"schema_version": SCHEMA_VERSION, **asdict(self)})


def card_of(config: AgentTrainConfig, world: World, steps: int, real_score: float | None) -> AgentCard:
    """The card of an agent that is being trained; of its weights it says nothing yet.

    Args:
        config: how it is trained.
        world: where.
        steps: for how long so far.
        real_score: its mean return in the simulator; None if it was not measured.
    """
    return AgentCard(
        world=config.world,
        world_fingerprint=world.fingerprint,
        tokenizer=tokenizer_digest(world.tokenizer) if config.obs == "latent" and not config.blind else "",
        env=config.env.value,
        algorithm=config.algorithm.value,
        obs=config.obs.value,
        stack=config.stack,
        own_actions=config.own_actions,
        blind=config.blind,
        deterministic=config.deterministic,
        features=config.features,
        hidden=config.hidden,
        width=config.width,
        lstm=config.lstm,
        steps=steps,
        real_score=real_score,
        seed=config.seed,
        weights="",
    )


def read_card(folder: Path) -> AgentCard:
    """Read the card of the agent in a folder.

    Raises:
        CheckpointError: if there is none, or it is not one that this version of cfworld understands.
    """
    path = folder / AGENT_CARD
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = values.pop("schema_version")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{str(folder)!r} holds no agent ({error}); expected a folder with {AGENT_CARD}, as cfworld agent-train "
            "writes it"
        ) from error
    if version not in (2, SCHEMA_VERSION):
        raise CheckpointError(f"{path} has schema_version {version}; this cfworld reads 2 and {SCHEMA_VERSION}")
    if version == 2:
        values["width"] = _WIDTH_BEFORE_VERSION_3
    try:
        return AgentCard(**values)
    except (TypeError, ConfigError) as error:
        raise CheckpointError(
            f"{path} is not as cfworld agent-train writes it ({error}); write the agent anew"
        ) from error


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """The first 16 digits of the SHA-256 of what latents depend on, the same for a world in bf16 and in fp32."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tokenizer.encoding_state().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().bfloat16().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
