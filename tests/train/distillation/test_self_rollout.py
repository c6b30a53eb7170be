"""Self-rollout: training equals inference, slots are shared, and no gradient reaches what is remembered."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cfworld import World
from cfworld.diffusion import counter_noise, expand_sigma, interpolate
from cfworld.memory import MemoryConfig
from cfworld.recache import recache
from cfworld.rollout import Solver, blank_memory, clean_pass, context_from_memory, read
from cfworld.train.distillation.scores import fake_score_loss, score_velocity, student_loss
from cfworld.train.distillation.self_rollout import Rollout, SelfRollout, Target
from cfworld.train.dmd import score_sigma
from tests.toy import toy_config, toy_generator, toy_world

MEMORY = toy_config().memory
PREFIX = 2
LAST = 1


def machine(memory: MemoryConfig = MEMORY, **changes) -> SelfRollout:
    """Student, teacher and critic with different random weights, and a sampler of two steps."""
    config = toy_config(memory=memory)
    student, real, fake = (toy_generator(config, seed) for seed in range(3))
    sampler = replace(config.sampler, solver=Solver.FEW_STEP)
    settings = {"student_memory": memory, "score_memory": memory, "sampler": sampler}
    return SelfRollout(student, real, fake, **(settings | changes))


def start(made: SelfRollout, rows: int = 2, num_chunks: int = 0) -> tuple[Rollout, Tensor]:
    """A rollout of so many chunks after a prefix, and actions for what follows."""
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(rows, PREFIX, 4, 8, 8, generator=draw)
    actions = torch.randint(0, 3, (rows, PREFIX + num_chunks + 8, 4), generator=draw)
    rollout = made.begin(latents, actions[:, :PREFIX], torch.arange(rows) + 7)
    for chunk in range(PREFIX, PREFIX + num_chunks):
        rollout, _ = made.advance(rollout, actions[:, chunk : chunk + 1])
    return rollout, actions[:, PREFIX + num_chunks :]


@pytest.mark.parametrize("recache", [False, True])
def test_the_rollout_is_the_worlds_own_for_the_same_noise(recache: bool):
    """Context chunks, and targets that leave at the last pass, are what `World.step` generates.

    So they are where it reads the memory anew: one row's prompt changes at every chunk, the other's at some.
    """
    toy = toy_world(memory=replace(MEMORY, recache=recache))
    sampler = replace(toy.config.sampler, solver=Solver.FEW_STEP)
    world = World(replace(toy.config, sampler=sampler), toy.tokenizer, toy.generator, toy.starts)
    networks = [world.generator] * 3
    memory = world.config.memory
    made = SelfRollout(*networks, student_memory=memory, score_memory=memory, sampler=sampler)
    state, _ = world.initial(seeds=[3, 4], starts=[0, 1])
    rollout = made.begin(world.starts.latents[:2], world.starts.actions[:2], torch.tensor([3, 4]))
    actions = torch.randint(0, 3, (2, 9, 4))
    actions[1] = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])[:, None]
    for chunk in range(9):
        piece = actions[:, chunk : chunk + 1]
        state, out = world.step(state, piece.flatten(1), decode=False)
        if chunk < 6:
            rollout, latents = made.advance(rollout, piece)
        else:
            rollout, target = made.target(rollout, piece, LAST, grad=False, finish=chunk == 6)
            latents = target.latents
        assert torch.equal(latents, out.latents)
    for name, value in state.memory.tensors().items():
        assert torch.equal(getattr(rollout.student, name), value), name
    for follower in (rollout.real, rollout.fake):
        assert torch.equal(follower.keys, state.memory.keys)
        assert torch.equal(follower.values, state.memory.values)


def test_at_a_prompt_switch_the_scores_read_their_slots_anew_before_they_are_shown_them():
    memory = replace(MEMORY, recache=True)
    made, plain = machine(memory, score_window=2), machine(MEMORY, score_window=2)
    rollout, _ = start(made, num_chunks=8)
    now = (rollout.student.actions[:, -1:] + torch.tensor([[1], [2]])) % 3
    _, target = made.target(rollout, now, LAST, grad=False, finish=False)
    _, before = plain.target(rollout, now, LAST, grad=False, finish=False)
    for network, config, held, seen, unread in (
        (made.real, made.score_memory, rollout.real, target.real, before.real),
        (made.fake, made.score_memory, rollout.fake, target.fake, before.fake),
    ):
        with torch.no_grad():
            expected = context_from_memory(network, config, recache(network, config, held, now[:, 0]))
        torch.testing.assert_close(seen.keys, expected.keys)
        assert not torch.allclose(seen.keys, unread.keys, atol=1e-2)


def test_at_a_prompt_switch_within_a_target_the_student_reads_its_slots_anew_too():
    """A target of two chunks is what two context chunks would have been."""
    made = machine(replace(MEMORY, recache=True), score_window=2)
    rollout, _ = start(made, num_chunks=8)
    now = (rollout.student.actions[:, -1:] + torch.tensor([[0], [1]])) % 3
    _, target = made.target(rollout, now, LAST, grad=False, finish=True)
    chunks = []
    for piece in now.split(1, dim=1):
        rollout, latents = made.advance(rollout, piece)
        chunks.append(latents)
    assert torch.equal(target.latents, torch.cat(chunks, dim=1))


def test_all_networks_hold_the_same_latents_and_keys_of_their_own():
    made = machine(replace(MEMORY, threshold=0.2))
    rollout, _ = start(made, rows=4, num_chunks=14)
    rate = rollout.student.promotions / rollout.student.checks
    assert 0 < rate.mean() < 1, "some chunks must have been promoted and some not"
    for other in (rollout.real, rollout.fake):
        for name in ("source", "valid", "flagged", "count", "latents"):
            assert torch.equal(getattr(other, name), getattr(rollout.student, name)), name
        assert not torch.allclose(other.keys, rollout.student.keys)


def test_the_scores_velocity_is_what_its_own_rollout_over_the_same_slots_would_give():
    """The teacher reads the prefix and what the student made, chunk by chunk, told which chunks were promoted."""
    made = machine(replace(MEMORY, threshold=0.2))
    rollout, actions = start(made)
    draw = torch.Generator().manual_seed(0)
    latents = [torch.randn(2, PREFIX, 4, 8, 8, generator=draw)]
    history = torch.cat([torch.randint(0, 3, (2, PREFIX + 8, 4), generator=draw)[:, :PREFIX], actions], dim=1)
    flags = [torch.zeros(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)]  # the first check always promotes
    for chunk in range(6):
        before = rollout.student.promotions
        rollout, new = made.advance(rollout, actions[:, chunk : chunk + 1])
        latents.append(new)
        flags.append(rollout.student.promotions > before)
    _, target = made.target(rollout, actions[:, 6:7], LAST, grad=False, finish=False)
    noisy, sigma = torch.randn(2, 1, 4, 8, 8, generator=draw), torch.tensor([0.3, 0.8])
    with torch.no_grad():
        got = score_velocity(made.real, noisy, sigma, target.actions, target.real)
        memory = blank_memory(made.real, MEMORY, latents[0][:, :1], history[:, :1])
        for index, piece in enumerate(torch.cat(latents, dim=1).split(1, dim=1)):
            context = context_from_memory(made.real, MEMORY, memory)
            now = history[:, index : index + 1]
            memory = clean_pass(made.real, MEMORY, memory, context, piece, now, flags[index]).memory
        context = context_from_memory(made.real, MEMORY, memory)
        prompts = made.real.prompts(target.actions)
        expected = read(made.real, noisy, sigma[:, None], prompts, context).velocity
    assert memory.promotions.min() > 0
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("guidance", [0.5, 2.0])
def test_the_students_gradient_is_eq_6_and_the_critics_loss_is_its_own_under_the_keys_of_each(guidance: float):
    """(x0_fake - x0_real) / mean |x - x0_real|, the teacher's guided; and |v_fake - (noise - x)|^2."""
    made = machine()
    rollout, actions = start(made, num_chunks=8)
    _, target = made.target(rollout, actions[:, :1], LAST, grad=True, finish=False)
    draw = torch.Generator().manual_seed(3)
    loss, metrics = student_loss(made.real, made.fake, target, draw, shift=1.0, guidance=guidance)
    (gradient,) = torch.autograd.grad(loss, target.latents)
    critic = fake_score_loss(made.fake, target, torch.Generator().manual_seed(3), shift=1.0)

    x, draw = target.latents.detach(), torch.Generator().manual_seed(3)
    sigma = score_sigma(2, 1.0, draw)
    noise = torch.randn(x.shape, generator=draw)
    noisy, level = interpolate(x, noise, sigma), expand_sigma(sigma, x)
    dropped = torch.ones(2, 1, dtype=torch.bool)
    with torch.no_grad():
        prompted = score_velocity(made.real, noisy, sigma, target.actions, target.real)
        null = score_velocity(made.real, noisy, sigma, target.actions, target.real, dropped)
        fake = score_velocity(made.fake, noisy, sigma, target.actions, target.fake)
    x0_real, x0_fake = noisy - level * (null + guidance * (prompted - null)), noisy - level * fake
    away = (x - x0_real).abs().mean(dim=(1, 2, 3, 4), keepdim=True)
    direction = (x0_fake - x0_real) / away
    torch.testing.assert_close(gradient, direction / x.numel(), rtol=1e-4, atol=1e-7)
    assert metrics["direction"].item() == pytest.approx(direction.square().mean().sqrt().item(), rel=1e-4)
    assert metrics["score_gap"].item() == pytest.approx((x0_fake - x0_real).abs().mean().item(), rel=1e-4)
    torch.testing.assert_close(critic, (fake - (noise - x)).square().mean())


@pytest.mark.parametrize("finish", [True, False])
def test_no_gradient_reaches_what_is_remembered(finish: bool):
    """Not even where keys and values ask for it; nor a chunk from the chunk after it."""
    made = machine(score_window=2)
    rollout, actions = start(made, num_chunks=6)
    parts = {}
    for name in ("student", "real", "fake"):
        memory = getattr(rollout, name)
        parts[name] = replace(memory, keys=memory.keys.requires_grad_(), values=memory.values.requires_grad_())
    rollout = replace(rollout, **parts)
    following, target = made.target(rollout, actions[:, :2], 0, grad=True, finish=finish)
    loss, _ = student_loss(made.real, made.fake, target, torch.Generator().manual_seed(0), shift=1.0)
    (loss + fake_score_loss(made.fake, target, torch.Generator().manual_seed(0), shift=1.0)).backward()
    for memory in parts.values():
        assert memory.keys.grad is None
        assert memory.values.grad is None
    for memory in (following.student, following.real, following.fake):
        assert not any(value.requires_grad for value in memory.tensors().values())
    assert all(parameter.grad is None for parameter in made.real.parameters())
    assert any(parameter.grad is not None for parameter in made.student.transformer.parameters())


def test_only_the_exit_pass_carries_a_gradient_and_context_chunks_none():
    made = machine()
    rollout, actions = start(made, num_chunks=3)
    recorded = []
    made.student.transformer.register_forward_hook(lambda *args: recorded.append(args[2].velocity.requires_grad))
    made.target(rollout, actions[:, :1], 0, grad=True, finish=True)
    assert recorded == [True, False, False], "exit, the pass after it, the clean pass"
    recorded.clear()
    made.target(rollout, actions[:, :1], 1, grad=True, finish=False)
    assert recorded == [False, True, False]
    recorded.clear()
    made.advance(rollout, actions[:, :1])
    made.target(rollout, actions[:, :1], 0, grad=False, finish=False)
    assert recorded == [False] * 5


def gradients(made: SelfRollout, precision: torch.dtype = torch.float32) -> list[Tensor | None]:
    """Gradients of a step of three targets over a memory that is full and evicts."""
    rollout, actions = start(made, num_chunks=10)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        targets = []
        for piece in actions[:, :3].split(1, dim=1):
            rollout, target = made.target(rollout, piece, 1, grad=True, finish=False)
            targets.append(target)
        draw = torch.Generator().manual_seed(0)
        loss, _ = student_loss(made.real, made.fake, Target.cat(targets), draw, shift=1.0)
    loss.backward()
    return [parameter.grad for parameter in made.student.parameters()]


def test_a_checkpointed_step_equals_the_plain_one():
    """The memory has evicted and promoted between the passes and their repetition."""
    for plain, again in zip(gradients(machine()), gradients(machine(checkpointed=True)), strict=True):
        assert (plain is None) == (again is None)
        assert plain is None or again is None or torch.equal(plain, again)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("checkpointed", [False, True])
def test_under_autocast_the_passes_without_a_gradient_do_not_cut_off_the_weights(checkpointed: bool):
    narrow = gradients(machine(checkpointed=checkpointed), torch.bfloat16)
    for wide, found in zip(gradients(machine()), narrow, strict=True):
        assert (wide is None) == (found is None)
        if wide is not None and found is not None and wide.norm() > 1e-4:
            assert torch.nn.functional.cosine_similarity(wide.flatten(), found.flatten(), dim=0) > 0.8


def test_chunks_that_are_scored_together_see_each_other_under_the_slots_before_them():
    made = machine(score_window=2)
    rollout, actions = start(made, num_chunks=8)
    _, target = made.target(rollout, actions[:, :2], LAST, grad=False, finish=True)
    assert target.real.positions[0].tolist() == [MEMORY.num_slots, MEMORY.num_slots + 1]
    sigma = torch.tensor([0.5, 0.5])
    plain = score_velocity(made.real, target.latents, sigma, target.actions, target.real)
    changed = target.latents.clone()
    changed[:, 1] += 1
    moved = score_velocity(made.real, changed, sigma, target.actions, target.real) - plain
    assert moved[:, 0].abs().max() > 1e-4
    single = machine()
    one = single.target(start(single, num_chunks=8)[0], actions[:, :1], LAST, grad=False, finish=True)[1]
    assert Target.cat([Target.cat([one, one]), one]).num_targets == 3
    alone = score_velocity(made.real, one.latents, sigma, one.actions, one.real)
    assert torch.equal(one.latents, target.latents[:, :1]), "the student itself goes chunk by chunk"
    assert (alone - plain[:, :1]).abs().max() > 1e-4


def test_a_score_that_is_shown_a_window_holds_the_newest_latents_alone():
    window = replace(MEMORY, num_sink=0, num_slow=0)
    made = machine(score_memory=window)
    rollout, _ = start(made, num_chunks=9)
    assert rollout.real.source[0].tolist() == [8, 9, 10]
    assert torch.equal(rollout.fake.source, rollout.student.source[:, -3:])


def test_rows_may_begin_anew_and_a_rollout_survives_being_saved():
    made = machine()
    old, _ = start(made, rows=3, num_chunks=5)
    new, _ = start(made, rows=1)
    mixed = old.replace(torch.tensor([1]), new)
    assert mixed.step.tolist() == [5, 0, 5]
    assert torch.equal(mixed.real.keys[:, 1], new.real.keys[:, 0])
    assert torch.equal(mixed.student.keys[:, 2], old.student.keys[:, 2])
    assert mixed.seeds.tolist() == [7, 7, 9]
    again = Rollout.from_state_dict(mixed.state_dict(), torch.device("cpu"))
    for name, value in mixed.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_the_noise_is_the_worlds():
    """A student that predicts no velocity leaves the noise of pass 0 as it is."""
    made = machine()
    torch.nn.init.zeros_(made.student.transformer.head.head.weight)
    rollout, actions = start(made)
    _, target = made.target(rollout, actions[:, :1], 0, grad=False, finish=False)
    assert torch.equal(target.latents, counter_noise(rollout.seeds, rollout.step, 0, (1, 4, 8, 8)))


def test_a_chunk_may_be_longer_than_what_is_remembered():
    memory = MemoryConfig(num_sink=0, num_slow=0, num_fast=3, latents_per_chunk=2)
    assert memory.num_slots < memory.latents_per_chunk
    made = machine(memory)
    rollout, actions = start(made)
    rollout, _ = made.advance(rollout, actions[:, :2])
    _, target = made.target(rollout, actions[:, 2:4], LAST, grad=False, finish=True)
    assert target.latents.shape == (2, 2, 4, 8, 8)
