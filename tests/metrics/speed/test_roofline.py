"""What a step cannot do without, against sums done by hand and operations counted while it runs."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cfworld.metrics.speed.roofline import (
    Rates,
    Work,
    needed_bytes,
    pass_work,
    prompt_work,
    rows_bytes,
    weights,
    work_of_memory,
)
from cfworld.metrics.speed.scales import Scale, memory_of, random_world, sizes_of
from cfworld.model import Generator
from cfworld.prompts import ActionConfig
from cfworld.rollout import conditions, context_from_memory, read

WAN = sizes_of(Scale.WAN_1_3B).transformer
CPU = torch.device("cpu")


@pytest.mark.parametrize(("kv_latents", "tflop"), [(6, 20.2), (12, 28.3), (21, 40.4)])
def test_a_pass_of_wan_over_three_latents_takes_the_known_arithmetic(kv_latents: int, tflop: float):
    work = pass_work(WAN, memory_of(kv_latents, 3), 1, 512, 2)
    assert work.flops / 1e12 == pytest.approx(tflop, abs=0.05)


def test_a_latent_of_wan_is_287_megabytes_of_keys_and_values():
    assert rows_bytes(WAN, memory_of(21, 3), 1, 2) == 18 * 287_539_200


def test_projecting_the_prompts_of_a_chunk_is_half_a_hundredth_of_a_step_at_most():
    prompts = prompt_work(WAN, 3, 512, 2).flops
    assert prompts == 2 * 3 * 512 * (4096 * 1536 + 2 * 30 * 1536**2)
    for kv_latents in (6, 12, 21):
        assert prompts < 0.005 * 5 * pass_work(WAN, memory_of(kv_latents, 3), 1, 512, 2).flops


def test_a_chunk_of_wan_writes_three_latents_whatever_the_memory_holds():
    works = [work_of_memory(WAN, memory_of(kv_latents, 3), 2, 2) for kv_latents in (6, 21)]
    assert works == [Work(0, 2 * 3 * 287_539_200)] * 2


def test_a_pass_of_wan_reads_its_weights_and_its_keys_and_values_once():
    keys_and_values = 21 * 287_539_200 + 2 * 2 * 3 * 512 * 1536 * 30
    matrices = 2 * (30 * (6 * 1536**2 + 2 * 1536 * 8960) + 2 * 64 * 1536)
    assert pass_work(WAN, memory_of(21, 3), 1, 512, 2).bytes == keys_and_values + matrices


@pytest.mark.parametrize("rows", [1, 3])
def test_work_grows_with_the_rows(rows: int):
    memory = memory_of(21, 3)
    assert pass_work(WAN, memory, rows, 512, 2).flops == rows * pass_work(WAN, memory, 1, 512, 2).flops


@pytest.mark.parametrize("scale", list(Scale))
def test_weights_are_counted_to_within_a_hundredth(scale: Scale):
    config = sizes_of(scale).transformer
    with torch.device("meta"):
        transformer = Generator(ActionConfig(num_actions=2), config).transformer
    counted = sum(p.numel() for p in transformer.parameters() if p.ndim == 2 and p.shape[0] > 6)
    assert weights(config) == counted
    if scale is Scale.WAN_1_3B:
        assert weights(config) == pytest.approx(sum(p.numel() for p in transformer.parameters()), rel=0.01)


@torch.no_grad()
def test_the_arithmetic_of_a_pass_is_what_is_counted_while_it_runs():
    world = random_world(Scale.TOY, 6, 1, CPU, torch.float32)
    state, _ = world.initial([0, 1], decode=False)
    model, memory = world.generator.transformer.config, world.config.memory
    actions = torch.zeros(2, 3, 4, dtype=torch.int64)
    context = context_from_memory(world.generator, memory, state.memory)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as prompts:
        given = conditions(world.generator, world.sampler, context, actions)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        read(world.generator, torch.zeros(2, 3, 4, 4, 6), given.levels[0], given.prompts, context, given.rope)
    assert counter.get_total_flops() == pass_work(model, memory, 2, 5, 4).flops
    assert prompts.get_total_flops() > prompt_work(model, 2 * 3, 5, 4).flops  # noise levels are embedded there too


def test_arithmetic_and_traffic_hide_behind_one_another():
    rates = Rates(flops_per_s=10.0, bytes_per_s=2.0)
    assert rates.seconds(Work(100, 4)) == 10
    assert rates.seconds(Work(100, 40)) == 20
    assert rates.seconds(Work(1, 1).times(3) + Work(97, 1)) == 10


def test_four_rows_of_wan_need_four_times_the_keys_and_values_but_the_weights_once():
    memory = memory_of(21, 3)
    one, four = (needed_bytes(WAN, memory, rows, 2) for rows in (1, 4))
    assert four - one == 3 * (one - 2 * weights(WAN))
    assert 60 < four / 2**30 < 75
