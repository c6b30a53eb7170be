"""What is drawn aside changes nothing outside, on the CPU and on the device in question."""

import pytest
import torch

from cfworld.agents.randomness import random_aside

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("seed", [None, 3])
def test_what_is_drawn_outside_goes_on_as_if_nothing_had_been_drawn_inside(name: str, seed: int | None) -> None:
    device = torch.device(name)

    def drawn(inside: bool) -> list[float]:
        torch.manual_seed(0)
        if inside:
            with random_aside(device, seed):
                torch.rand(1)
                torch.rand(1, device=device)
        return [torch.rand(1).item(), torch.rand(1, device=device).item()]

    assert drawn(inside=True) == drawn(inside=False)


@pytest.mark.parametrize("name", DEVICES)
def test_a_seed_says_what_is_drawn_inside_and_without_one_it_is_what_would_come(name: str) -> None:
    device = torch.device(name)

    def drawn(seed: int | None) -> float:
        with random_aside(device, seed):
            return torch.rand(1, device=device).item()

    torch.manual_seed(0)
    unseeded, seeded = drawn(None), drawn(3)
    assert torch.rand(1, device=device).item() == unseeded
    assert drawn(3) == seeded != unseeded
