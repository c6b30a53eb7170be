"""What reading prefixes leaves: a memory, and the mean of the keys that it holds."""

import pytest
import torch

from cfworld import prefix
from cfworld.errors import ConfigError
from cfworld.prefix import mean_keys, prime
from tests.toy import memory_config, toy_config, toy_generator


def test_a_prefix_of_broken_chunks_is_refused():
    config = toy_config(memory=memory_config(2))
    with pytest.raises(ConfigError, match="whole chunks of 2"):
        prime(toy_generator(config), config.memory, torch.randn(1, 3, 4, 8, 8), torch.zeros(1, 3, 4, dtype=torch.long))


@pytest.mark.parametrize("room", [1, 2**31])
def test_the_centre_of_the_keys_is_their_mean_over_what_a_memory_holds(room: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prefix, "PRIMED_BYTES", room)
    config = toy_config(memory=memory_config(1))
    generator = toy_generator(config).eval()
    latents, actions = torch.randn(2, 2, 4, 8, 8), torch.zeros(2, 2, 4, dtype=torch.long)
    with torch.no_grad():
        memory = prime(generator, config.memory, latents, actions)
        centre = mean_keys(generator, config.memory, latents, actions)
        generator.key_centre.copy_(centre)
        again = prime(generator, config.memory, latents, actions)
    held = memory.keys[:, :, [0, 3]]
    torch.testing.assert_close(centre, held.mean(dim=(1, 2, 3)).flatten(1))
    torch.testing.assert_close(again.centre[:, 0], centre)
