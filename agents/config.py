"""How an agent is trained, and what of it must be known to use it."""

import math
from dataclasses import dataclass, field, fields

from cfworld.errors import ConfigError
from cfworld.settings import Choice, check_counts

__all__ = ["AgentTrainConfig", "Algorithm", "ForesightConfig", "Obs", "Place"]


class Algorithm(Choice):
    """How an agent learns. Members are written as they are typed on the command line."""

    ppo = "ppo"
    recurrent_ppo = "recurrent_ppo"


class Place(Choice):
    """Where an agent learns."""

    dream = "dream"
    """In the generated world."""
    twin = "twin"
    """In the simulator itself."""


class Obs(Choice):
    """What an agent sees of a step."""

    frame = "frame"
    """The last frame."""
    frames = "frames"
    """All frames."""
    latent = "latent"
    """The latents, which a tokenizer makes of a simulator's frames."""


@dataclass(kw_only=True, slots=True)
class ForesightConfig:
    """How an agent learns from short futures of the dream what actions cost.

    Attributes:
        steps: Steps of the dream that are watched, over all episodes, rounded up to whole batches of `num_envs`
            futures; 0 for none.
        horizon: Ticks of a future, and how far ahead the agent reckons.
        explore: Probability, at every step but the first, of an action drawn evenly instead of going on with the last.
            At the first it is one half.
        updates: Gradient steps on what was watched, and as many that teach the agent.
        at_start: Share of what is learned from that is drawn from first moments of futures, which were recorded and not
            dreamed; the rest is drawn from all moments.
        margin: How much less, in probability of dying within the horizon, another action must cost to be taken instead
            of the last one. Action 0, which in Doom is to do nothing, gets no margin.
    """

    steps: int = 0
    horizon: int = 40
    explore: float = 0.05
    updates: int = 4000
    at_start: float = 0.7
    margin: float = 0.06

    def __post_init__(self) -> None:
        check_counts(self, "horizon", "updates", prefix="foresight.")
        check_counts(self, "steps", least=0, prefix="foresight.")
        if not 0 <= self.margin < math.inf:
            raise ConfigError(f"got foresight.margin={self.margin}; expected 0 or more")
        if not 0 <= self.explore < 1:
            raise ConfigError(f"got foresight.explore={self.explore}; expected at least 0 and less than 1")
        if not 0 <= self.at_start <= 1:
            raise ConfigError(f"got foresight.at_start={self.at_start}; expected 0 to 1")

    def num_steps(self, frames_per_step: int) -> int:
        """Steps of a future, of so many ticks each."""
        return -(-self.horizon // frames_per_step)

    def ignored(self) -> list[str]:
        """What was set and does nothing, as `name=value`: all that is not as usual, where nothing is watched."""
        if self.steps:
            return []
        given = {entry.name: (getattr(self, entry.name), entry.default) for entry in fields(self)}
        return [f"foresight.{name}={value}" for name, (value, usual) in given.items() if value != usual]


@dataclass(kw_only=True, slots=True)
class AgentTrainConfig:
    """What `cfworld agent-train` takes.

    Attributes:
        world: A world of the zoo, or a checkpoint folder.
        variant: student or teacher; null for the best there is.
        precision: bf16 or fp32, in which the world computes; null for what the device does at full speed.
        num_steps: Denoising steps; null for the world's own. Fewer are faster and show less.
        env: Where the agent learns: in the generated world (dream), or in its simulator (twin).
        obs: What it sees: the last frame of a step (frame), all of them (frames), or latents (latent), which the
            world's tokenizer makes of the simulator's frames.
        stack: How many steps it sees at once. One latent, or the frames of one step, already show how things move.
        own_actions: It also sees what it did last, a number for each action; with obs=latent and discrete actions.
        obs_noise: Standard deviation of the noise on latents in training; they themselves have about 1. It hides what
            the dream's latents show and a simulator's do not.
        blind: It sees nothing but zeros: what is left is what can be had without eyes.
        algorithm: ppo, or recurrent_ppo, which remembers.
        num_envs: Episodes side by side.
        processes: Run every simulator in a process of its own: faster where there are cores enough.
        total_steps: Steps of training, over all episodes.
        max_minutes: Minutes of training at most, evaluations included; null for no limit. Given again with more
            minutes, the command goes on from where it stopped.
        horizon: Ticks until an episode of the training is truncated; null for the world's own horizon.
        starts: Begin the episodes of the dream at moments of this dataset, Minari or LeRobot; null for the world's
            own starts, which lie at the beginning of episodes.
        num_starts: How many moments of it.
        imitate: Begin by doing as this policy does, sticky or sweep:110, say; null begins with random weights.
        imitate_steps: Steps for which it is watched; they count among total_steps.
        imitate_epochs: How often each of them is learned from.
        foresight: Begin by learning from short futures of the dream what actions cost; with starts, own_actions=true
            and ppo, which goes on from there. The steps that are watched count among total_steps.
        truncate_above: In the dream, truncate episodes that look odder than this to the world; null never does.
        seed: Seed of weights, episodes and actions.
        n_steps: Steps of every episode between two updates.
        batch_size: Steps in one gradient step.
        n_epochs: How often each step is learned from.
        learning_rate: At the beginning; it falls to zero with the last step.
        gamma: Discount of a step.
        gae_lambda: Of generalised advantage estimation.
        clip_range: How far an update may move the policy.
        ent_coef: Weight of the entropy.
        vf_coef: Weight of the value's loss.
        width: Channels of the layers that see.
        features: Numbers that the network makes of what is seen.
        hidden: Width of the layer behind them, for the policy and for the value.
        lstm: Width of the memory of recurrent_ppo.
        eval_every: Steps between two evaluations in the simulator; 0 for none.
        eval_episodes: Episodes of an evaluation.
        eval_seed: Seed of its first episode.
        eval_horizon: Ticks until it is truncated; null for the world's own horizon.
        deterministic: In evaluations take the likeliest action instead of drawing one.
        patience: Stop after so many evaluations in a row without a better score in the simulator; null never does.
        max_ratio: Stop when the score in training is more than this many times the score in the simulator in `patience`
            evaluations in a row (in 3, if that is null); null never does.
        save_every: Steps between two checkpoints.
        device: Where world and agent compute: cpu, cuda, cuda:1 ...
        out: Folder to write to; null for outputs/agent-train/<time>. What was interrupted there is resumed.
    """

    world: str
    variant: str | None = None
    precision: str | None = None
    num_steps: int | None = None
    env: Place = Place.dream
    obs: Obs = Obs.latent
    stack: int = 1
    own_actions: bool = False
    obs_noise: float = 0.0
    blind: bool = False
    algorithm: Algorithm = Algorithm.ppo
    num_envs: int = 16
    processes: bool = False
    total_steps: int = 500_000
    max_minutes: float | None = None
    horizon: int | None = None
    starts: str | None = None
    num_starts: int = 256
    imitate: str | None = None
    imitate_steps: int = 16_000
    imitate_epochs: int = 50
    foresight: ForesightConfig = field(default_factory=ForesightConfig)
    truncate_above: float | None = None
    seed: int = 0
    n_steps: int = 128
    batch_size: int = 256
    n_epochs: int = 4
    learning_rate: float = 5e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    width: int = 32
    features: int = 128
    hidden: int = 64
    lstm: int = 128
    eval_every: int = 25_000
    eval_episodes: int = 20
    eval_seed: int = 4_000_000
    eval_horizon: int | None = None
    deterministic: bool = False
    patience: int | None = None
    max_ratio: float | None = None
    save_every: int = 10_000
    device: str = "cpu"
    out: str | None = None

    def __post_init__(self) -> None:
        self.env, self.algorithm, self.obs = Place(self.env), Algorithm(self.algorithm), Obs(self.obs)
        ones = "stack num_envs total_steps n_steps batch_size n_epochs width features hidden lstm eval_episodes"
        check_counts(self, *ones.split(), "save_every", "num_starts", "imitate_steps", "imitate_epochs")
        check_counts(self, "seed", "eval_every", "eval_seed", least=0)
        limits = ("horizon", "eval_horizon", "patience", "num_steps")
        check_counts(self, *(name for name in limits if getattr(self, name) is not None))
        for name in ("max_minutes", "max_ratio"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ConfigError(f"got {name}={getattr(self, name)}; expected more than 0, or null for no limit")
        for name in ("learning_rate", "clip_range"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"got {name}={getattr(self, name)}; expected more than 0")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"got {name}={getattr(self, name)}; expected 0 to 1")
        for name in ("ent_coef", "vf_coef"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"got {name}={getattr(self, name)}; expected 0 or more")
        if self.batch_size < 2:
            raise ConfigError("got batch_size=1; expected at least 2: what a gradient step learns from is normalised")
        if self.n_steps * self.num_envs < 2:
            raise ConfigError("got n_steps=1 and num_envs=1; expected at least two steps between updates")
        if self.own_actions and self.obs is not Obs.latent:
            raise ConfigError(f"got own_actions=true with obs={self.obs}; expected obs=latent")
        if not 0 <= self.obs_noise < math.inf or (self.obs_noise and (self.blind or self.obs is not Obs.latent)):
            raise ConfigError(
                f"got obs_noise={self.obs_noise} with obs={self.obs} and blind={self.blind}; expected 0, or more than "
                "0 with obs=latent and blind=false"
            )
        if self.starts is not None and self.env is not Place.dream:
            raise ConfigError(f"got starts={self.starts} with env={self.env}; expected none, or env=dream")
        if self.truncate_above is not None and self.env is not Place.dream:
            raise ConfigError(
                f"got truncate_above={self.truncate_above} with env={self.env}; expected none, or env=dream"
            )
        if self.processes and self.env is not Place.twin:
            raise ConfigError(f"got processes=true with env={self.env}; expected false, or env=twin")
        if self.imitate is not None and self.algorithm is not Algorithm.ppo:
            raise ConfigError(f"got imitate={self.imitate} with algorithm={self.algorithm}; expected none, or ppo")
        if self.imitate is not None and self.imitate_steps >= self.total_steps:
            raise ConfigError(
                f"got imitate_steps={self.imitate_steps} of total_steps={self.total_steps}; expected fewer, or "
                "imitate=null"
            )
        if self.foresight.steps:
            self._check_foresight()
        if not self.eval_every and (self.patience is not None or self.max_ratio is not None):
            raise ConfigError("got patience or max_ratio without evaluations; expected eval_every above 0")

    def _check_foresight(self) -> None:
        given = f"got foresight.steps={self.foresight.steps} with "
        if self.starts is None or not self.own_actions or self.blind or self.algorithm is not Algorithm.ppo:
            raise ConfigError(
                f"{given}starts={self.starts}, own_actions={self.own_actions}, blind={self.blind} and "
                f"algorithm={self.algorithm}; expected starts=DATASET, own_actions=true, blind=false and ppo"
            )
        if self.stack > 1 or self.imitate is not None:
            raise ConfigError(
                f"{given}stack={self.stack} and imitate={self.imitate}; expected stack=1 and imitate=null"
            )
        if self.foresight.steps > self.total_steps:
            raise ConfigError(f"{given}total_steps={self.total_steps}; expected no more than these")
