"""A student's rollout on its own output, and the slots that both scores share along it.

Self-Forcing (arXiv 2506.08009), Algorithm 1, over the slow-fast memory of Context Forcing: context chunks are
denoised to the end without a gradient (the clean-context policy); a target chunk stops at an exit pass, the only one
that carries a gradient; and what is remembered is written by clean passes outside autograd. The gradient is thus
greedy: none reaches the keys and values of the context, nor the chunks before.

Student, teacher and critic each keep keys of their own, computed beside a latent's true neighbours, and all follow
the student's decisions on what to promote: the same latents sit in the slots of all three. Where the memory asks for
it (`recache`), all three are read anew at a prompt switch, as `World.step` does it.

Shapes: B rows, N latents a chunk, R chunks scored together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int64, Num
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cfworld.diffusion import counter_noise, denoised, renoise, sigmas
from cfworld.memory import MemoryConfig, MemoryState
from cfworld.memory.state import row_axis
from cfworld.model import Generator
from cfworld.recache import recache, switched_rows
from cfworld.rollout import Context, SamplerConfig, blank_memory, clean_pass, context_from_memory, read
from cfworld.train.processes.team import ALONE, Team

__all__ = ["Rollout", "SelfRollout", "Target", "recording"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """Where the rows of a rollout are: a value, as the memories in it are.

    Attributes:
        student: The student's memory, which decides on promotions.
        real: The teacher's.
        fake: The critic's.
        seeds: Seed of each row's noise, [B] int64.
        step: Chunks generated since the prefix, [B] int64.
    """

    student: MemoryState
    real: MemoryState
    fake: MemoryState
    seeds: Tensor
    step: Tensor

    def replace(self, rows: Tensor, other: "Rollout") -> "Rollout":
        """A copy in which `rows` are taken from `other`, whose row i becomes rows[i]."""
        memories = {name: getattr(self, name).replace(rows, getattr(other, name)) for name in _MEMORIES}
        return Rollout(
            **memories,
            seeds=self.seeds.index_copy(0, rows, other.seeds),
            step=self.step.index_copy(0, rows, other.step),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor by name."""
        memories = {f"{name}.{key}": v for name in _MEMORIES for key, v in getattr(self, name).tensors().items()}
        return {**memories, "seeds": self.seeds, "step": self.step}

    @staticmethod
    def row_axis(name: str) -> int:
        """Which axis of an entry of `state_dict` counts the rows."""
        return row_axis(name.rpartition(".")[2])

    @staticmethod
    def from_state_dict(state: dict[str, Tensor], device: torch.device) -> "Rollout":
        """What `state_dict` described."""
        placed = {name: value.to(device) for name, value in state.items()}
        memories = {
            name: MemoryState(**{field.name: placed[f"{name}.{field.name}"] for field in fields(MemoryState)})
            for name in _MEMORIES
        }
        return Rollout(**memories, seeds=placed["seeds"], step=placed["step"])


_MEMORIES = ("student", "real", "fake")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a student made and what the scores see beside it.

    Attributes:
        latents: [B, R N, C, h, w] float32; they carry the student's gradient if it was asked for.
        actions: [B, R N, f] or [B, R N, f, A].
        real: The teacher's view of the slots that the memory showed before the target.
        fake: The critic's view of the same slots.
        num_targets: How many targets stand in it, one after the other, each with all rows.
    """

    latents: Tensor
    actions: Tensor
    real: Context
    fake: Context
    num_targets: int = 1

    @staticmethod
    def cat(targets: "list[Target]") -> "Target":
        """The rows of all targets, so that the scores read them at once."""
        if len(targets) == 1:
            return targets[0]
        return Target(
            latents=torch.cat([target.latents for target in targets]),
            actions=torch.cat([target.actions for target in targets]),
            real=_cat_contexts([target.real for target in targets]),
            fake=_cat_contexts([target.fake for target in targets]),
            num_targets=sum(target.num_targets for target in targets),
        )


class SelfRollout:
    """Rolls a student out and keeps the scores' keys beside it.

    Args:
        student: Generates, and decides on promotions.
        real: The teacher.
        fake: The critic.
        student_memory: What the student keeps.
        score_memory: What the scores see; it may be smaller (a short teacher).
        sampler: The student's few-step sampler.
        score_window: Chunks R that the scores see together, attending to each other.
        checkpointed: Compute the pass that carries a gradient again in the backward pass instead of keeping its
            activations. What it read is a value, so nothing has moved meanwhile.
    """

    def __init__(
        self,
        student: Generator,
        real: Generator,
        fake: Generator,
        *,
        student_memory: MemoryConfig,
        score_memory: MemoryConfig,
        sampler: SamplerConfig,
        score_window: int = 1,
        checkpointed: bool = False,
    ) -> None:
        self.student, self.real, self.fake = student, real, fake
        self.student_memory, self.score_memory = student_memory, score_memory
        self.sampler, self.score_window, self.checkpointed = sampler, score_window, checkpointed
        self.chunk = student_memory.latents_per_chunk
        self.team: Team = ALONE

    @torch.no_grad()
    def begin(
        self,
        latents: Float[Tensor, "B L C h w"],
        actions: Num[Tensor, "B L f *action"],
        seeds: Int64[Tensor, " B"],
    ) -> Rollout:
        """Read a real prefix of whole chunks, with all three networks."""
        first = latents[:, : self.chunk], actions[:, : self.chunk]
        rollout = Rollout(
            student=blank_memory(self.student, self.student_memory, *first),
            real=blank_memory(self.real, self.score_memory, *first),
            fake=blank_memory(self.fake, self.score_memory, *first),
            seeds=seeds,
            step=torch.zeros_like(seeds),
        )
        for start in range(0, latents.shape[1], self.chunk):
            piece = slice(start, start + self.chunk)
            rollout = self._committed(rollout, self._view(rollout), latents[:, piece], actions[:, piece])
        return replace(rollout, step=torch.zeros_like(seeds))

    @torch.no_grad()
    def advance(
        self, rollout: Rollout, actions: Num[Tensor, "B N f *action"]
    ) -> tuple[Rollout, Float[Tensor, "B N C h w"]]:
        """Generate a context chunk: every pass, no gradient, then the clean passes."""
        rollout = self._recached(rollout, actions)
        context = self._view(rollout)
        _, final = self._generate(rollout, context, actions, self.sampler.num_steps - 1, grad=False, finish=True)
        return self._committed(rollout, context, final, actions), final

    def target(
        self, rollout: Rollout, actions: Num[Tensor, "B R_N f *action"], exit_step: int, *, grad: bool, finish: bool
    ) -> tuple[Rollout, Target]:
        """Generate the chunks of one target; the scores' slots are those before it, read under its first prompt.

        Args:
            rollout: Where the rows are.
            actions: One action per frame of `score_window` chunks.
            exit_step: The pass whose prediction is the target, 0 to num_steps - 1.
            grad: Whether that pass carries a gradient.
            finish: Denoise on after the exit and remember the clean chunk, as a rollout that goes on must;
                otherwise what left at the exit is remembered, as in Self-Forcing.

        Returns:
            The rollout after the target, and the target.
        """
        num_current = self.chunk * self.score_window
        rollout = self._recached(rollout, actions)
        with torch.no_grad():
            real = context_from_memory(self.real, self.score_memory, rollout.real, num_current)
            fake = context_from_memory(self.fake, self.score_memory, rollout.fake, num_current)
        made = []
        for piece in actions.split(self.chunk, dim=1):
            rollout = self._recached(rollout, piece)
            context = self._view(rollout)
            left, final = self._generate(rollout, context, piece, exit_step, grad=grad, finish=finish)
            rollout = self._committed(rollout, context, final, piece)
            made.append(left)
        return rollout, Target(latents=torch.cat(made, dim=1), actions=actions, real=real, fake=fake)

    @torch.no_grad()
    def _view(self, rollout: Rollout) -> Context:
        return context_from_memory(self.student, self.student_memory, rollout.student)

    def _generate(
        self, rollout: Rollout, context: Context, actions: Tensor, exit_step: int, *, grad: bool, finish: bool
    ) -> tuple[Tensor, Tensor]:
        """One chunk: the prediction at the exit pass, and what is to be remembered (without a gradient)."""
        last = self.sampler.num_steps - 1 if finish else exit_step
        grid = sigmas(self.sampler.num_steps, self.sampler.shift, context.positions.device)
        shape = (self.chunk, *rollout.student.latents.shape[2:])

        def noise(index: int) -> Tensor:
            return counter_noise(rollout.seeds, rollout.step, index, shape)

        x = noise(0)
        left = x
        for index in range(last + 1):
            sigma = grid[index].expand(x.shape[:2])
            with recording(grad and index == exit_step):
                x = denoised(x, self._velocity(x, sigma, actions, context), sigma)
            if index == exit_step:
                left, x = x, x.detach()
            if index < last:
                x = renoise(x, noise(index + 1), grid[index + 1].expand(x.shape[:2]))
        return left, x

    def _velocity(self, x: Tensor, sigma: Tensor, actions: Tensor, context: Context) -> Tensor:
        def velocity(x: Tensor, sigma: Tensor, actions: Tensor) -> Tensor:
            return read(self.student, x, sigma, self.student.prompts(actions), context).velocity

        if not (self.checkpointed and torch.is_grad_enabled()):
            return velocity(x, sigma, actions)
        again = checkpoint(velocity, x, sigma, actions, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(again, Tensor)
        return again

    @torch.no_grad()
    def _recached(self, rollout: Rollout, actions: Num[Tensor, "B N f *action"]) -> Rollout:
        """The memories, read anew in those rows whose prompt changes with a chunk, if the student's asks for that."""
        if not self.student_memory.recache:
            return rollout
        rows = switched_rows(rollout.student, actions[:, 0])
        if not self.team.any(len(rows) > 0):
            return rollout
        # Networks that are shared out must run everywhere at once: on a row that comes to nothing if need be.
        read_anew = rows if len(rows) else rows.new_zeros(1)

        def memory(network: Generator, config: MemoryConfig, before: MemoryState) -> MemoryState:
            again = recache(network, config, before.select(read_anew), actions[read_anew, 0])
            return before.replace(rows, again) if len(rows) else before

        return replace(
            rollout,
            student=memory(self.student, self.student_memory, rollout.student),
            real=memory(self.real, self.score_memory, rollout.real),
            fake=memory(self.fake, self.score_memory, rollout.fake),
        )

    @torch.no_grad()
    def _committed(self, rollout: Rollout, context: Context, latents: Tensor, actions: Tensor) -> Rollout:
        """Clean passes of all networks over a chunk: the student decides, the scores follow."""
        before = rollout.student.promotions
        student = clean_pass(self.student, self.student_memory, rollout.student, context, latents, actions).memory
        flag = student.promotions > before
        return Rollout(
            student=student,
            real=self._followed(self.real, rollout.real, latents, actions, flag),
            fake=self._followed(self.fake, rollout.fake, latents, actions, flag),
            seeds=rollout.seeds,
            step=rollout.step + 1,
        )

    def _followed(
        self, network: Generator, memory: MemoryState, latents: Tensor, actions: Tensor, flag: Bool[Tensor, " B"]
    ) -> MemoryState:
        context = context_from_memory(network, self.score_memory, memory)
        return clean_pass(network, self.score_memory, memory, context, latents, actions, flag).memory


@contextmanager
def recording(enabled: bool) -> Iterator[None]:
    """Record a graph if asked to.

    Autocast keeps the narrow copies that it makes of weights; PyTorch's versions differ in whether it then hands out
    those made without a graph, which would cut the gradient off from the weights. So they are forgotten first.
    """
    if enabled:
        torch.clear_autocast_cache()
    with torch.set_grad_enabled(enabled):
        yield


def _cat_contexts(contexts: list[Context]) -> Context:
    masks = [context.mask for context in contexts if isinstance(context.mask, Tensor)]
    assert len(masks) == len(contexts), "networks that train attend by backends that take a mask"
    return Context(
        keys=torch.cat([context.keys for context in contexts], dim=1),
        values=torch.cat([context.values for context in contexts], dim=1),
        positions=torch.cat([context.positions for context in contexts]),
        mask=torch.cat(masks),
    )
