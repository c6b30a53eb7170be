"""The step as one graph, which reads nothing back to the host."""

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.toy import toy_world

SCRIPT = """
import torch
from torch._dynamo.utils import counters
from cfworld.metrics.scales import Scale, random_world

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
