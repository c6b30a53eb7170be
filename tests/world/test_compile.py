"""The step as one graph, which reads nothing back to the host."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cfworld.model import ActionConfig
from cfworld.model.attention_backends import KeyLengths
from cfworld.prompts import TextConfig
from cfworld.rollout import SamplerConfig
from cfworld.world.generation import compiled
from tests.toy import toy_world

SCRIPT = """
import torch
from torch._dynamo.utils import counters
from cfworld.metrics.speed.scales import Scale, random_world

world = random_world(Scale.TOY, 9, 1, torch.device("cpu"), torch.float32)
torch.nn.init.normal_(world.generator.transformer.head.head.weight, std=0.2)
plain, _ = world.initial([0, 1], decode=False)
compiled, _ = world.initial([0, 1], decode=False)
filling = not plain.memory.valid.all()
moments = [plain]
for step in range(4):
    plain, expected = world.step(plain, [step, 1])
    moments.append(plain)
world.compile(backend="eager")
for step in range(4):
    compiled, got = world.step(compiled, [step, 1])
    torch.testing.assert_close(got.latents, moments[step + 1].latents)
    torch.testing.assert_close(compiled.memory.keys, moments[step + 1].memory.keys)
assert filling and compiled.memory.valid.all(), "the memory must fill up meanwhile"
assert torch.equal(got.frames, expected.frames)
print("graphs", counters["stats"]["unique_graphs"], "breaks", sum(counters["graph_break"].values()))
"""


@pytest.mark.slow
def test_a_step_is_one_graph_without_breaks_for_a_memory_that_fills():
    """In a process of its own, where nothing checks the types of arguments."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["graphs", "1", "breaks", "0"]


def into_the_same_buffers(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
    """CUDA graphs need a GPU: this too writes every call's outputs where those of the call before lie."""
    buffers: list[Tensor] = []

    def call(*arguments: Any) -> Any:
        made = function(*arguments)
        if not buffers:
            buffers.extend(tensors_of(made))
        for buffer, new in zip(buffers, tensors_of(made), strict=True):
            buffer.copy_(new)
        return holding(made, iter(buffers))

    return call


def tensors_of(made: Any) -> list[Tensor]:
    if isinstance(made, Tensor):
        return [made]
    return [one for field in fields(made) for one in tensors_of(getattr(made, field.name))]


def holding(made: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(made, Tensor):
        return next(tensors)
    return replace(made, **{field.name: holding(getattr(made, field.name), tensors) for field in fields(made)})


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said before each replay, without PyTorch's compiler, which takes seconds to import."""
    said: list[str] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: said.append("begin"))
    return said


def test_what_a_replayed_graph_gives_stays_as_it_is_at_the_next_replay(
    monkeypatch: pytest.MonkeyPatch, marks: list[str]
):
    world = toy_world()
    state, _ = world.initial([0, 1])
    expected = [world.step(state, actions)[1].latents for actions in ([1, 2], [2, 0])]
    assert not torch.equal(*expected)
    monkeypatch.setattr(torch, "compile", into_the_same_buffers)
    world.compile(mode="reduce-overhead")
    got = [world.step(state, actions)[1].latents for actions in ([1, 2], [2, 0])]
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))
    assert marks == ["begin", "begin"]


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_so_do_parts_that_are_compiled_one_by_one(monkeypatch: pytest.MonkeyPatch, marks: list[str], mode: str):
    """Records, tuples and lists of tensors; what is no tensor passes."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    buffer = torch.zeros(2)
    part = compiled(lambda value: (buffer.add_(value), [KeyLengths(buffer.int()), None]), mode=mode)
    first, (lengths, nothing) = part(1)
    part(1)
    assert first.tolist() == [1, 1]
    assert buffer.tolist() == [2, 2]
    assert isinstance(lengths, KeyLengths)
    assert nothing is None
    assert marks == ["begin", "begin"]


_READS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.item, torch.ops.aten.nonzero)


class Reads(TorchDispatchMode):
    """Counts what would wait for a GPU: numbers that are read out of tensors, and shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in _READS:
            self.seen["nonzero" if func.overloadpacket is torch.ops.aten.nonzero else "number"] += 1
        return func(*args, **(kwargs or {}))


def test_a_step_reads_no_more_back_than_the_check_of_its_actions():
    world = toy_world()
    state, _ = world.initial([0, 1])
    with Reads() as check:
        world.generator.prompts.check([1, 2], 2, world.config.frames_per_step)
    with Reads() as step:
        world.step(state, [1, 2])
    assert step.seen == check.seen
    assert check.seen, "actions from the host are looked at there"


def test_texts_are_looked_up_before_the_graph():
    text = TextConfig(max_length=20, tokens=3, width=16, learned=False)
    world = toy_world(actions=ActionConfig(text=text), sampler=SamplerConfig(num_steps=2, guidance=3.0))
    world.generator.prompts.use_encoder(lambda texts: torch.ones(len(texts), 3, 16))
    state, _ = world.initial([0, 1])
    order: list[str] = []
    generated = world._generate
    world.generator.prompts.register_forward_hook(lambda *_: order.append("texts"))
    world._generate = lambda *arguments: (order.append("graph"), generated(*arguments))[1]
    world.step(state, ["a red door", "the sky"])
    assert order == ["texts", "texts", "graph"], "the prompt and the null prompt"
