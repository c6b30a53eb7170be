"""A bank of random latents, for tests of what learns from latents."""

import torch

from cfworld.train.banks.latent_bank import LatentBank


def toy_bank(*lengths: int, god: tuple[int, ...] = (), seed: int = 0) -> LatentBank:
    """Episodes of so many latents [4, 8, 8]; every mortal one ends at its last frame but one."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.tensor([0, *lengths]).cumsum(0)
    total = int(first[-1])
    ends, valid = torch.zeros(total, 4), torch.ones(total, 4, dtype=torch.bool)
    mortal = torch.ones(total, 4, dtype=torch.bool)
    for episode, last in enumerate(first[1:] - 1):
        if episode in god:
            mortal[first[episode] : last + 1] = False
        else:
            ends[last, 2] = 1
            valid[last, 3] = mortal[last, 3] = False
    return LatentBank(
        latents=torch.randn(total, 4, 8, 8, generator=generator).half(),
        actions=torch.randint(0, 3, (total, 4), generator=generator),
        rewards=torch.rand(total, 4, generator=generator),
        ends=ends,
        valid=valid,
        mortal=mortal,
        first=first,
        seeds=torch.arange(len(lengths)) + 100,
    )
