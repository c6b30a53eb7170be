"""A world of random weights beside its roofline."""

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from jaxtyping import config as jaxtyping_config
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cfworld.errors import ConfigError, MissingDependencyError
from cfworld.metrics.speed import scale_speed
from cfworld.metrics.speed.rates import measured_rates
from cfworld.metrics.speed.roofline import Rates
from cfworld.metrics.speed.scale_speed import check_fits, measure_scale, run_through
from cfworld.metrics.speed.scales import Decoder, Scale, check_scale, memory_of, random_world, sizes_of
from cfworld.metrics.speed.step_parts import STEP_PARTS
from cfworld.model.fp8 import use_fp8
from cfworld.world import World, WorldState

CPU = torch.device("cpu")
RATES = Rates(flops_per_s=1e9, bytes_per_s=1e9)


@pytest.mark.parametrize("decoder", [Decoder.BLOCK, Decoder.TINY])
def test_figures_of_a_scale_agree_with_one_another(decoder: Decoder):
    ticks: list[int] = []
    world = random_world(Scale.TOY, 6, 2, CPU, torch.float32, decoder)
    assert world.tokenizer.streams is (decoder is Decoder.TINY)
    speed = measure_scale(world, 5, 2, steps=2, warmup=1, rates=RATES, tick=lambda: ticks.append(1))
    assert len(ticks) == 2
    assert tuple(speed.parts) == STEP_PARTS
    assert speed.frames_per_s == pytest.approx(2 * 12 / speed.step_ms_p50 * 1000)
    assert speed.parts["denoise"].tflops == pytest.approx(2 * speed.parts["clean_pass"].tflops)
    assert speed.share == pytest.approx(sum(part.roofline_ms for part in speed.parts.values()) / speed.step_ms_p50)
    assert speed.ahead_ms > 0
    assert all(part.ms > 0 and part.roofline_ms > 0 for part in speed.parts.values())


@pytest.mark.parametrize(("kv_latents", "sizes"), [(21, (3, 12, 6)), (12, (3, 0, 9)), (6, (2, 0, 4)), (4, (0, 0, 4))])
def test_a_memory_of_so_many_latents_has_a_chunk_among_them(kv_latents: int, sizes: tuple[int, int, int]):
    memory = memory_of(kv_latents, 3)
    assert (memory.num_sink, memory.num_slow, memory.num_fast) == sizes
    assert memory.num_slots + 3 == kv_latents


@dataclass
class Cost:
    """What a step did: calls of each operator, and bytes that it made new."""

    calls: Counter[str]
    bytes: int


class Counted(TorchDispatchMode):
    """Counts operators, and bytes of what they give that is no view."""

    def __init__(self) -> None:
        super().__init__()
        self.cost = Cost(Counter(), 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.cost.calls[str(func)] += 1
        if not func.is_view:
            self.cost.bytes += sum(one.nbytes for one in tree_leaves(made) if isinstance(one, Tensor))
        return made


def cost_of_next_step(world: World, state: WorldState) -> Cost:
    with Counted() as counted:
        world.step(state, [0] * state.num_rows)
    return counted.cost


@pytest.fixture
def unchecked():
    """Nothing checks the types of arguments: that takes longer than a small step."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_chunk_1000_does_and_takes_what_chunk_30_does():
    world = random_world(Scale.TOY, 21, 1, CPU, torch.float32)
    state, _ = world.initial([0], decode=False)
    costs, shapes = {}, {}
    for step in range(1001):
        if step in (30, 1000):
            assert state.memory.valid.all()
            costs[step] = cost_of_next_step(world, state)
            shapes[step] = {name: (value.shape, value.nbytes) for name, value in state.tensors().items()}
        state, _ = world.step(state, [step % 4], decode=False, donate=True)
    assert costs[30] == costs[1000]
    assert shapes[30] == shapes[1000]
    held = sum(size for _, size in shapes[30].values())
    assert costs[30].bytes > held, "a new state, at the least"


def test_four_rows_do_as_much_as_two_and_make_more():
    """The few tokens of a single row are filled up besides, on a CPU."""
    world = random_world(Scale.TOY, 6, 1, CPU, torch.float32)
    two, four = (cost_of_next_step(world, world.initial(range(rows), decode=False)[0]) for rows in (2, 4))
    assert two.calls == four.calls
    assert two.bytes < four.bytes < 2 * two.bytes


def test_a_scale_that_does_not_fit_is_refused_with_the_estimate():
    with pytest.raises(ConfigError, match=r"wan_1_3b with 21 latents.* 4000 rows.* needs about \d+\.\d GiB; cpu has"):
        check_fits(Scale.WAN_1_3B, 21, 4000, torch.bfloat16, CPU)


@pytest.mark.parametrize(
    ("scale", "latents", "decoder", "named"),
    [
        ("huge", [6], None, "huge"),
        ("toy", [3], None, "from 4"),
        ("toy", [], None, "from 4"),
        ("nano", [6], "wan", "expected block at scale=nano"),
    ],
)
def test_an_unknown_scale_or_decoder_and_a_memory_without_a_past_are_refused(
    scale: str, latents: list[int], decoder: str | None, named: str
):
    with pytest.raises(ConfigError, match=named):
        check_scale(scale, latents, decoder)


def test_steps_that_are_run_through_fall_between_two_looks_at_the_clock_and_none_is_kept(
    monkeypatch: pytest.MonkeyPatch,
):
    clock = [0.0]
    monkeypatch.setattr(scale_speed, "perf_counter", lambda: clock[0])

    class Step:
        """Something that can be seen to be alive."""

    made: list[weakref.ref[Step]] = []
    alive: list[int] = []

    def steps() -> Iterator[Step]:
        for _ in range(5):
            clock[0] += 2
            step = Step()
            made.append(weakref.ref(step))
            alive.append(sum(one() is not None for one in made))
            yield step

    assert run_through(steps(), CPU) == 10
    assert max(alive) <= 2, "the one that is made, and the one before it"


def test_wan_is_measured_with_its_own_latents():
    sizes = sizes_of(Scale.WAN_1_3B)
    latent = (sizes.transformer.in_channels, *sizes.transformer.latent_size)
    assert [(name.value, coder.latent_shape) for name, coder in sizes.decoders.items()] == [
        ("wan", latent),
        ("tiny", latent),
    ]


def test_a_device_has_rates():
    rates = measured_rates(CPU, torch.float32)
    assert rates.flops_per_s > 1e8
    assert rates.bytes_per_s > 1e7


def test_8_bit_layers_are_refused_where_the_device_has_none():
    world = random_world(Scale.TOY, 6, 1, CPU, torch.float32)
    with pytest.raises((ConfigError, MissingDependencyError), match=r"compute capability 8\.9"):
        use_fp8(world.generator.transformer)
